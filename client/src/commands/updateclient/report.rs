//! What an update did, for people and for programs.

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use simulcast_cli::{Console, Exit};
use simulcast_image::fs;
use simulcast_image::update::{Action, BootFiles, BytesBySource, Plan, Summary, UpdateReport};
use simulcast_node::Transferred;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use super::Aim;
use super::concerned::Service;

/// Limitations that are shown one by one.
const SHOWN: usize = 10;

/// What came from the server.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Bytes of an update pack's list.
    pub(super) pack_list: u64,
    /// Chunks of the pack, by transport.
    pub(super) pack: Transferred,
    /// Chunks of the version, by transport.
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
    /// Of the version and of an update pack.
    bytes_multicast: u64,
    bytes_bittorrent: u64,
    bytes_http: u64,
    /// Of these, those of the update pack.
    bytes_pack: u64,
    /// Its list.
    bytes_pack_list: u64,
    bytes_delta: u64,
    bytes_local: u64,
    seconds: f64,
    #[serde(skip)]
    came: String,
    limitations: Vec<String>,
    /// Where the bytes come from, as far as the plan knows.
    sources: BytesBySource,
    /// What of the machine's booting is concerned.
    boot: BootFiles,
    /// What runs files that are replaced.
    services: Vec<Service>,
}

/// One path of a plan.
#[derive(Debug, Serialize)]
struct Step {
    action: &'static str,
    path: String,
}

/// A plan as JSON: the numbers, and every path.
#[derive(Debug, Serialize)]
struct FullPlan<'a> {
    #[serde(flatten)]
    report: &'a Report,
    paths: Vec<Step>,
}

impl Report {
    pub(super) fn new(aim: &Aim<'_>, plan: &Plan<'_>, services: Vec<Service>) -> Self {
        let reached = ImageRef {
            name: aim.image.name.clone(),
            version: Some(aim.version),
        };
        Self {
            event: "done",
            image: reached.to_string(),
            manifest: aim.signed.id.to_string(),
            dry_run: false,
            summary: plan.summary(),
            bytes_manifest: aim.signed.bytes().len(),
            bytes_multicast: 0,
            bytes_bittorrent: 0,
            bytes_http: 0,
            bytes_pack: 0,
            bytes_pack_list: 0,
            bytes_delta: 0,
            bytes_local: 0,
            seconds: 0.0,
            came: String::new(),
            limitations: Vec::new(),
            sources: plan.bytes_by_source(),
            boot: plan.boot_files(),
            services,
        }
    }

    /// Prints what would be done.
    pub(super) fn print_plan(
        mut self,
        plan: &Plan<'_>,
        console: &Console,
        elapsed: Duration,
    ) -> Result<Exit> {
        self.event = "plan";
        self.dry_run = true;
        self.seconds = elapsed.as_secs_f64();
        let paths = steps(plan);
        if console.json() {
            let report = &self;
            console.print_json(&FullPlan { report, paths })?;
            return Ok(Exit::Done);
        }
        console.data(|out| {
            paths
                .iter()
                .try_for_each(|step| writeln!(out, "{:8} {}", step.action, step.path))
        })?;
        self.print(console, elapsed)
    }

    pub(super) fn moved(&mut self, moved: &Moved) {
        let (chunks, pack) = (&moved.chunks, &moved.pack);
        self.bytes_multicast = chunks.multicast.bytes + pack.multicast.bytes;
        self.bytes_bittorrent = chunks.bittorrent.bytes;
        self.bytes_http = chunks.http.bytes + pack.http.bytes;
        self.bytes_pack = pack.multicast.bytes + pack.http.bytes;
        self.bytes_pack_list = moved.pack_list;
        self.bytes_delta = moved.delta_bytes;
        self.came = came(moved);
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
        let sources = self.sources;
        if self.dry_run {
            console.say(format_args!(
                "{} from the tree itself, at most {} in {} chunks from the server ({} of it may come as rolling deltas)",
                Bytes(sources.local),
                Bytes(sources.chunks),
                sources.chunk_count,
                Bytes(sources.rolling)
            ));
        } else {
            console.say(format_args!(
                "{}; {} from the tree itself; {:.1} s",
                self.came,
                Bytes(self.bytes_local),
                self.seconds
            ));
        }
        self.say_concerned(console);
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

    /// What people have to do something about.
    fn say_concerned(&self, console: &Console) {
        if self.boot.concern_initramfs() || self.boot.concern_loader() {
            console.say("files that this machine boots with are concerned");
        }
        if !self.services.is_empty() {
            let names: Vec<_> = self
                .services
                .iter()
                .take(SHOWN)
                .map(|service| service.name.as_str())
                .collect();
            let more = if self.services.len() > SHOWN { ", …" } else { "" };
            console.say(format_args!(
                "these run files that are replaced, and go on with the old ones until they are restarted: {}{more}",
                names.join(", ")
            ));
        }
    }
}

/// Every path of a plan that is not left as it is.
fn steps(plan: &Plan<'_>) -> Vec<Step> {
    let step = |action, path: &[u8]| Step {
        action,
        path: format!("/{}", fs::Shown(path)),
    };
    let changed = plan.actions().filter_map(|(index, action)| {
        let what = match action {
            Action::Write => "write",
            Action::Meta => "metadata",
            Action::Keep | Action::Protect => return None,
        };
        Some(step(what, &plan.manifest().path(index)))
    });
    let gone = plan.deleted().map(|path| step("delete", path));
    changed.chain(gone).collect()
}

/// For people: how many bytes came how.
fn came(moved: &Moved) -> String {
    format!(
        "{} by multicast, {} from peers, {} by HTTP, {} of it of an update pack; {} as deltas",
        Bytes(moved.chunks.multicast.bytes + moved.pack.multicast.bytes),
        Bytes(moved.chunks.bittorrent.bytes),
        Bytes(moved.chunks.http.bytes + moved.pack.http.bytes),
        Bytes(moved.pack.multicast.bytes + moved.pack.http.bytes),
        Bytes(moved.delta_bytes)
    )
}
