//! A capture between an agent and a server, over a pair of sockets.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::manifest::Manifest;
use crate::store::{ChunkStore, Store, StoreError, collect, fsck};
use crate::testing::import;

fn request(tree: &Path) -> CaptureRequest {
    CaptureRequest {
        image: "golden".parse().unwrap(),
        root: tree.as_os_str().as_bytes().to_vec(),
        exclusions: vec![(b"- *.excluded\n".to_vec(), "test".to_owned())],
        level: 1,
        reread: false,
        created: 0,
    }
}

/// Captures `tree`; the agent's stream to the server breaks after `break_after` bytes.
fn capture(
    store: &Store,
    tree: &Path,
    break_after: u64,
) -> Result<(Manifest, CaptureReport, Moved), CaptureError> {
    let (server, agent) = UnixStream::pair().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let facts = BTreeMap::from([("host".to_owned(), "golden".to_owned())]);
            let to = Breaking {
                stream: agent.try_clone().unwrap(),
                left: break_after,
            };
            let options = AgentOptions {
                threads: 2,
                memory: Some(store.root().join("memory")),
            };
            drop(serve_capture(agent, to, facts, |_| HashSet::new(), &options));
        });
        let (version, report, moved) =
            receive_capture(store, server.try_clone().unwrap(), server, request(tree))?;
        Ok((version.signed.manifest, report, moved))
    })
}

/// A connection that breaks, as when the golden client loses power.
struct Breaking {
    stream: UnixStream,
    left: u64,
}

impl Write for Breaking {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.left == 0 {
            self.stream.shutdown(std::net::Shutdown::Both)?;
            return Err(std::io::ErrorKind::BrokenPipe.into());
        }
        let len = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= len as u64;
        self.stream.write(&bytes[..len])
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

fn noise(len: u32, seed: u32) -> Vec<u8> {
    (0..len / 4)
        .flat_map(|i| {
            (i ^ seed)
                .wrapping_mul(2_654_435_761)
                .rotate_left(i % 31)
                .to_le_bytes()
        })
        .collect()
}

fn golden() -> (TempDir, TempDir, Store) {
    let (state, tree) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    for number in 0..400u32 {
        fs::write(
            tree.path().join(format!("file{number}")),
            noise(number * 40, number),
        )
        .unwrap();
    }
    fs::write(tree.path().join("no.excluded"), "secret").unwrap();
    fs::write(tree.path().join("big"), noise(30_000_000, 7)).unwrap();
    (state, tree, store)
}

#[test]
fn what_is_captured_is_what_an_import_gives() {
    let (_state, tree, store) = golden();
    let (manifest, report, moved) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert_eq!(report.scan.excluded, 1);
    assert_eq!(report.scan.files, 401);
    assert_eq!(manifest.info.source["host"], "golden");
    assert!(moved.received > 30_000_000);
    fs::remove_file(tree.path().join("no.excluded")).unwrap();
    let imported = import(&store, "other", tree.path()).0;
    let mut entries = manifest.entries.clone();
    // Removing the excluded file changed the time of the root.
    entries[0].meta.mtime = imported.signed.manifest.entries[0].meta.mtime;
    assert_eq!(entries, imported.signed.manifest.entries);
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
}

#[test]
fn the_second_capture_moves_only_what_changed() {
    let (_state, tree, store) = golden();
    capture(&store, tree.path(), u64::MAX).unwrap();
    let (_, report, moved) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert_eq!(report.pack.chunks_new, 0);
    assert!(moved.received < 40_000, "{moved:?}");
    // A byte goes in at the front of the big file: all its parts are new, but a delta is small.
    let mut shifted = fs::read(tree.path().join("big")).unwrap();
    shifted.insert(0, b'x');
    fs::write(tree.path().join("big"), shifted).unwrap();
    fs::write(tree.path().join("file9"), "new").unwrap();
    let (manifest, report, moved) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert!(report.pack.bytes_new > 30_000_000);
    assert!(moved.deltas > 0);
    assert!(moved.received + moved.sent < 300_000, "{moved:?}");
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
    assert_eq!(manifest.content_bytes(), total(tree.path()));
}

/// Bytes of all captured files below a flat directory.
fn total(tree: &Path) -> u64 {
    let files = fs::read_dir(tree).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|file| file.file_name() != "no.excluded")
        .map(|file| file.metadata().unwrap().len())
        .sum()
}

#[test]
fn a_golden_client_that_dies_leaves_no_version_and_what_arrived_is_reused() {
    let (_state, tree, store) = golden();
    let error = capture(&store, tree.path(), 20_000_000).unwrap_err();
    assert!(matches!(error, CaptureError::Connection(_)), "{error:?}");
    assert!(store.images().unwrap().is_empty());
    assert_eq!(collect(&store, false).unwrap().unneeded, []);
    let (_, _, moved) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert!(moved.received < 20_000_000, "{moved:?}");
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
}

#[test]
fn an_agent_that_lies_is_refused() {
    let (_state, tree, store) = golden();
    let (server, mut agent) = UnixStream::pair().unwrap();
    let hello = message::FromAgent::Hello {
        protocol: CAPTURE_PROTOCOL,
        facts: BTreeMap::new(),
    };
    let lie = message::FromAgent::Chunk(Packed {
        encoding: crate::chunk::Encoding::Raw,
        segments: vec![(simulcast_protocol::id::PartId::of(b"truth"), 3)],
        payload: b"lie".to_vec(),
    });
    message::write_message(&mut agent, &hello).unwrap();
    message::write_message(&mut agent, &lie).unwrap();
    let error =
        receive_capture(&store, server.try_clone().unwrap(), server, request(tree.path())).unwrap_err();
    assert!(
        matches!(error, CaptureError::Store(StoreError::WrongPart)),
        "{error:?}"
    );
    let mut rest = Vec::new();
    agent.read_to_end(&mut rest).unwrap();
    assert!(store.images().unwrap().is_empty());
}

#[test]
fn a_file_that_grows_while_it_is_captured_is_taken_consistently() {
    let (_state, tree, store) = golden();
    let log = fs::File::create(tree.path().join("log")).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let (manifest, report, _) = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut at = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                log.write_all_at(&[b'l'; 5000], at).unwrap();
                at += 5000;
            }
        });
        let captured = capture(&store, tree.path(), u64::MAX);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        captured.unwrap()
    });
    assert_eq!(report.scan.unsettled, ["/log"]);
    assert!(manifest.find(b"log").is_some());
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
    assert!(
        store
            .chunks()
            .len(&manifest.chunks[0].handle.id)
            .unwrap()
            .is_some()
    );
}

#[test]
fn unchanged_files_are_not_read_again() {
    let (_state, tree, store) = golden();
    // What was changed within the last seconds is not remembered, and a ctime cannot be set: so it is waited for.
    std::thread::sleep(std::time::Duration::from_millis(4200));
    capture(&store, tree.path(), u64::MAX).unwrap();
    let (first, report, _) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert_eq!(report.scan.bytes_read, 0);
    // Same length and time, other bytes: the ctime tells.
    let file = fs::File::options()
        .write(true)
        .open(tree.path().join("file9"))
        .unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(b"other", 0).unwrap();
    file.set_modified(before).unwrap();
    let (second, report, _) = capture(&store, tree.path(), u64::MAX).unwrap();
    assert_eq!(report.scan.bytes_read, 360);
    assert_ne!(first.parts, second.parts);
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
}
