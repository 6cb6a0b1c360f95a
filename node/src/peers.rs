//! What a machine does for its peers: how much it keeps for them and where, and helping when it is done.
//!
//! The rule, which docs/bittorrent.md tells users: memory, when a quarter of what is available holds what is missing; else
//! a file without a name where the version goes to, when there is room for both; else that quarter of the memory, and
//! what goes beyond it is written and not given to others. A file without a name is gone with the process.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use simulcast_cli::Console;
use simulcast_image::manifest::SignedManifest;
use simulcast_protocol::bittorrent::InfoHash;
use simulcast_protocol::limits::PEERS;
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_transport::bittorrent::Keep;
use simulcast_transport::fetch::{Helper, SwarmOptions, SwarmOrder, SwarmPart};

/// The share of the available memory that is used for peers: the installed system's own buffers want the rest.
const MEMORY_SHARE: u64 = 4;

/// Memory that is counted on where the system does not tell how much is available.
const MEMORY_UNKNOWN: u64 = 256 << 20;

/// Peers that are connected to, unless told otherwise.
const CONNECTED: usize = 32;

/// Peers that are sent to at a time, unless told otherwise.
const UPLOADS: usize = 4;

/// How to take part in a swarm of peers.
#[derive(Debug, Clone, Copy, clap::Args)]
#[command(next_help_heading = "Peers")]
pub struct PeerArgs {
    /// Bring the version to this machine's site: others of its network prefix get it from here alone
    #[arg(long)]
    relay: bool,

    /// Rate at which peers are sent to at most [default: what the network carries]
    #[arg(long, value_name = "RATE")]
    peer_rate: Option<Rate>,

    /// Peers that are connected to at a time
    #[arg(long, value_name = "N", default_value_t = CONNECTED, value_parser = up_to_peers)]
    peers: usize,

    /// Peers that are sent to at a time
    #[arg(long, value_name = "N", default_value_t = UPLOADS, value_parser = up_to_peers)]
    uploads: usize,
}

fn up_to_peers(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| (1..=PEERS).contains(number));
    number.ok_or_else(|| format!("give a number from 1 to {PEERS}"))
}

impl Default for PeerArgs {
    fn default() -> Self {
        Self {
            relay: false,
            peer_rate: None,
            peers: CONNECTED,
            uploads: UPLOADS,
        }
    }
}

impl PeerArgs {
    /// As usual, but for bringing the version to the site.
    pub(super) fn relaying(relay: bool) -> Self {
        Self {
            relay,
            ..Self::default()
        }
    }

    /// What is needed to fetch the chunks of a version that are `missing` from peers; `fits` checks a torrent's signature.
    pub(super) fn order<'a>(
        &self,
        signed: &SignedManifest,
        missing: &[bool],
        scratch: Option<&Path>,
        fits: &'a (dyn Fn(&InfoHash, &[u8]) -> bool + Sync),
    ) -> SwarmOrder<'a> {
        let chunks = signed
            .manifest
            .chunks
            .iter()
            .zip(missing)
            .filter(|(_, missing)| **missing);
        let bytes = chunks.map(|(chunk, _)| u64::from(chunk.handle.stored_len)).sum();
        let memory = available_memory() / MEMORY_SHARE;
        SwarmOrder {
            options: SwarmOptions {
                rate: self.peer_rate,
                peers: self.peers,
                uploads: self.uploads,
                relay: self.relay,
            },
            keep: keep(bytes, signed.manifest.content_bytes(), memory, scratch),
            fits,
        }
    }
}

/// Where `stored` bytes are kept while `content` bytes are written below `scratch`.
fn keep(stored: u64, content: u64, memory: u64, scratch: Option<&Path>) -> Keep {
    if stored > memory
        && let Some(file) = scratch.and_then(|directory| nameless(directory, stored.saturating_add(content)))
    {
        let file = Some(file);
        return Keep { bytes: stored, file };
    }
    Keep {
        bytes: stored.min(memory),
        file: None,
    }
}

/// A file without a name in a directory whose file system has `room` bytes left.
fn nameless(directory: &Path, room: u64) -> Option<File> {
    let left = rustix::fs::statvfs(directory).ok()?;
    if left.f_bavail.saturating_mul(left.f_frsize) < room {
        return None;
    }
    let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).ok()?;
    let opened = File::options()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(flags)
        .open(directory);
    opened
        .inspect_err(|error| tracing::info!(%error, "no file is kept for peers"))
        .ok()
}

/// Bytes of memory that can be had without taking others' away.
fn available_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&text).unwrap_or(MEMORY_UNKNOWN)
}

/// The same out of the text of `/proc/meminfo`.
fn available(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Giving to others what has come, after everything has.
#[derive(Debug, Default)]
pub struct Helping(Mutex<Option<Helper>>);

impl Helping {
    pub(super) fn begin(&self, part: Arc<SwarmPart>) {
        *self.0.lock().expect("no holder panics") = Some(Helper::start(part));
    }

    /// Goes on while others lack something, at most for `limit`, and ends it.
    pub fn linger(&self, limit: Duration, console: &Console) {
        let helper = self.0.lock().expect("no holder panics").take();
        if let Some(helper) = helper {
            let sent = helper.linger(limit);
            if sent > 0 {
                console.say(format_args!("peers were sent {} from here", Bytes(sent)));
            }
        }
    }

    /// Ends it, as before the file system is unmounted that it keeps a file on.
    pub fn end(&self) {
        drop(self.0.lock().expect("no holder panics").take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_first_and_then_the_disk_if_it_has_room() {
        let directory = tempfile::tempdir().unwrap();
        let scratch = Some(directory.path());
        let of = |stored, content, scratch| {
            let keep = keep(stored, content, 1000, scratch);
            (keep.bytes, keep.file.is_some())
        };
        assert_eq!(of(1000, 5000, scratch), (1000, false));
        assert_eq!(of(1001, 5000, scratch), (1001, true));
        assert_eq!(
            of(1001, u64::MAX, scratch),
            (1000, false),
            "no disk has that much room"
        );
        assert_eq!(of(1001, 5000, None), (1000, false));
        assert_eq!(
            std::fs::read_dir(directory.path()).unwrap().count(),
            0,
            "it has no name"
        );
    }

    #[test]
    fn available_memory_is_what_the_kernel_says() {
        let text = "MemTotal:       24683212 kB\nMemFree:         7319388 kB\nMemAvailable:   22021912 kB\n";
        assert_eq!(available(text), Some(22_021_912 * 1024));
        assert_eq!(available("MemAvailable: x kB"), None);
        assert!(available_memory() > 1 << 20);
    }
}
