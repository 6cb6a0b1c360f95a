//! What an update did, for people and for programs.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use simulcast_cli::{Console, Exit};
use simulcast_image::manifest::SignedManifest;
use simulcast_image::update::{Plan, Summary, UpdateReport};
use simulcast_node::Transferred;
use simulcast_protocol::name::{ImageRef, Version};
use simulcast_protocol::units::Bytes;

/// Limitations that are shown one by one.
const SHOWN: usize = 10;

/// What came from the server.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Chunks, by transport.
    pub(super) chunks: Transferred,
    /// Bytes of deltas and of the signatures for them.
    pub(super) delta_bytes: u64,
}

/// The last line with `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    event: &'static str,
    image: String,
    manifest: String,
    dry_run: bool,
    #[serde(flatten)]
    summary: Summary,
    bytes_manifest: usize,
    bytes_multicast: u64,
    bytes_bittorrent: u64,
    bytes_http: u64,
    bytes_delta: u64,
    bytes_local: u64,
    seconds: f64,
    #[serde(skip)]
    came: String,
    limitations: Vec<String>,
}

impl Report {
    pub(super) fn new(image: &ImageRef, version: Version, signed: &SignedManifest, plan: &Plan<'_>) -> Self {
        Self {
            event: "done",
            image: super::reached(image, version).to_string(),
            manifest: signed.id.to_string(),
            dry_run: false,
            summary: plan.summary(),
            bytes_manifest: signed.bytes().len(),
            bytes_multicast: 0,
            bytes_bittorrent: 0,
            bytes_http: 0,
            bytes_delta: 0,
            bytes_local: 0,
            seconds: 0.0,
            came: String::new(),
            limitations: Vec::new(),
        }
    }

    pub(super) fn dry_run(&mut self) {
        self.event = "plan";
        self.dry_run = true;
    }

    pub(super) fn moved(&mut self, moved: &Moved) {
        self.bytes_multicast = moved.chunks.multicast.bytes;
        self.bytes_bittorrent = moved.chunks.bittorrent.bytes;
        self.bytes_http = moved.chunks.http.bytes;
        self.bytes_delta = moved.delta_bytes;
        self.came = super::came(moved);
    }

    pub(super) fn done(&mut self, done: &UpdateReport) {
        self.bytes_local = done.local_bytes;
        self.limitations = done
            .limited
            .iter()
            .map(|limited| format!("{}: {}", limited.path, limited.limitation))
            .collect();
    }

    pub(super) fn print(mut self, console: &Console, elapsed: Duration) -> Result<Exit> {
        self.seconds =
            Duration::from_millis(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)).as_secs_f64();
        if console.json() {
            console.print_json(&self)?;
            return Ok(Exit::Done);
        }
        let Summary {
            written,
            written_bytes,
            metadata,
            deleted,
            protected,
            kept,
            ..
        } = self.summary;
        let verb = if self.dry_run {
            "would take the tree"
        } else {
            "the tree is brought"
        };
        console.say(format_args!(
            "{verb} to {}: {written} paths written ({}), {metadata} with new metadata, {deleted} deleted, {protected} \
             protected, {kept} kept",
            self.image,
            Bytes(written_bytes)
        ));
        if !self.dry_run {
            console.say(format_args!(
                "{}; {} from the tree itself; {:.1} s",
                self.came,
                Bytes(self.bytes_local),
                self.seconds
            ));
        }
        for limitation in self.limitations.iter().take(SHOWN) {
            console.warn(limitation);
        }
        if self.limitations.len() > SHOWN {
            console.warn(format_args!(
                "and {} more like these",
                self.limitations.len() - SHOWN
            ));
        }
        Ok(Exit::Done)
    }
}
