//! What was received, and what held it up.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use simulcast_cli::Console;
use simulcast_image::apply::InstallReport;
use simulcast_image::manifest::SignedManifest;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::name::{ImageRef, Version};
use simulcast_protocol::units::Bytes;

use simulcast_node::Transferred;

/// Limitations that are shown one by one.
const SHOWN: usize = 10;

/// What the transfer waited for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Limit {
    /// Workers waited for chunks.
    Network,
    /// Transports waited for workers: the target's disk, or the processor.
    Target,
    /// Nothing was transferred.
    Nothing,
}

/// The last line with `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    event: &'static str,
    image: String,
    manifest: ManifestId,
    chunks_total: usize,
    chunks_reused: usize,
    chunks_multicast: u64,
    chunks_bittorrent: u64,
    chunks_http: u64,
    bytes_multicast: u64,
    bytes_bittorrent: u64,
    bytes_http: u64,
    content_bytes: u64,
    seconds: f64,
    transfer_seconds: f64,
    limited_by: Limit,
    limitations: usize,
}

impl Summary {
    pub(super) fn new(
        asked: &ImageRef,
        signed: &SignedManifest,
        version: Version,
        reused: usize,
        transferred: &Transferred,
        installed: &InstallReport,
        elapsed: Duration,
    ) -> Self {
        let image = ImageRef {
            name: asked.name.clone(),
            version: Some(version),
        };
        Self {
            event: "done",
            image: image.to_string(),
            manifest: signed.id,
            chunks_total: signed.manifest.chunks.len(),
            chunks_reused: reused,
            chunks_multicast: transferred.multicast.chunks,
            chunks_bittorrent: transferred.bittorrent.chunks,
            chunks_http: transferred.http.chunks,
            bytes_multicast: transferred.multicast.bytes,
            bytes_bittorrent: transferred.bittorrent.bytes,
            bytes_http: transferred.http.bytes,
            content_bytes: signed.manifest.content_bytes(),
            seconds: seconds(elapsed),
            transfer_seconds: seconds(transferred.elapsed),
            limited_by: limit(transferred),
            limitations: installed.limited.len(),
        }
    }
}

/// Prints what was received: a line of JSON, or lines for people.
pub(super) fn print(summary: &Summary, installed: &InstallReport, console: &Console) -> Result<()> {
    for limited in installed.limited.iter().take(SHOWN) {
        console.warn(format_args!("{}: {}", limited.path, limited.limitation));
    }
    if installed.limited.len() > SHOWN {
        console.warn(format_args!(
            "and {} more like these",
            installed.limited.len() - SHOWN
        ));
    }
    if console.json() {
        return console.print_json(summary);
    }
    let by = |chunks: u64, bytes: u64, how: &str| match chunks {
        0 => String::new(),
        _ => format!("; {chunks} chunks ({}) by {how}", Bytes(bytes)),
    };
    console.say(format_args!(
        "{} is complete: {} of content in {:.1} s{}{}{}; {} of {} chunks were there",
        summary.image,
        Bytes(summary.content_bytes),
        summary.seconds,
        by(summary.chunks_multicast, summary.bytes_multicast, "multicast"),
        by(summary.chunks_bittorrent, summary.bytes_bittorrent, "BitTorrent"),
        by(summary.chunks_http, summary.bytes_http, "HTTP"),
        summary.chunks_reused,
        summary.chunks_total,
    ));
    match summary.limited_by {
        Limit::Network => console.say("the network was the limit: the disk waited for it"),
        Limit::Target => {
            console.say("this machine's disk or processor was the limit: the network waited for it")
        }
        Limit::Nothing => {}
    }
    Ok(())
}

fn limit(transferred: &Transferred) -> Limit {
    let waits = transferred.waits;
    if transferred.elapsed.is_zero() {
        Limit::Nothing
    } else if waits.for_workers > waits.for_network {
        Limit::Target
    } else {
        Limit::Network
    }
}

/// Milliseconds are enough for people and programs.
fn seconds(time: Duration) -> f64 {
    // Divided rather than added up, so that it prints as three digits.
    f64::from(u32::try_from(time.as_millis()).unwrap_or(u32::MAX)) / 1000.0
}

#[cfg(test)]
mod tests {
    use simulcast_transport::fetch::Waits;

    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (millis, text) in [(12_774, "12.774"), (1, "0.001"), (0, "0")] {
            assert_eq!(seconds(Duration::from_millis(millis)).to_string(), text);
        }
    }

    #[test]
    fn whoever_waits_is_not_the_limit() {
        let transferred = |network, workers| Transferred {
            waits: Waits {
                for_network: Duration::from_secs(network),
                for_workers: Duration::from_secs(workers),
            },
            elapsed: Duration::from_secs(9),
            ..Transferred::default()
        };
        assert_eq!(limit(&transferred(5, 1)), Limit::Network);
        assert_eq!(limit(&transferred(1, 5)), Limit::Target);
        assert_eq!(limit(&Transferred::default()), Limit::Nothing);
    }
}
