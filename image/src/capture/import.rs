//! Importing a tree on the image server itself.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::name::ImageName;

use super::entry::ScannedEntry;
use super::message::CAPTURE_PROTOCOL;
use super::pack::{Packer, with_packer};
use super::scan::{ScanError, ScanReport, ScanScope, ScanSink, scan};
use super::version::{PackReport, VersionBuilder};
use crate::store::{Store, StoreError, StoredVersion};

/// How an import is done.
#[derive(Debug, Clone)]
pub struct Import {
    /// The image that gets a new version.
    pub image: ImageName,
    /// Facts about the source, for the manifest.
    pub source: BTreeMap<String, String>,
    /// When, in seconds since 1970.
    pub created: i64,
    /// zstd level.
    pub level: i32,
    /// Threads that compress.
    pub threads: usize,
}

/// What a capture did; kept beside the version.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CaptureReport {
    /// Of the tree.
    pub scan: ScanReport,
    /// Of the store.
    pub pack: PackReport,
}

/// A capture failed; there is no new version.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The tree cannot be read.
    #[error("cannot capture the tree")]
    Scan(#[from] ScanError),
    /// The connection to the golden client is broken.
    #[error("the connection to the golden client broke; what arrived is kept for the next attempt")]
    Connection(#[source] std::io::Error),
    /// The agent is of another version.
    #[error(
        "the agent on the golden client speaks capture protocol {0}, this server {CAPTURE_PROTOCOL}: install the same version on both"
    )]
    Protocol(u32),
    /// The agent reports a failure, or breaks the rules.
    #[error("the agent on the golden client failed: {0}")]
    Agent(String),
    /// The store cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Makes the tree below `root` the next version of an image.
///
/// # Errors
/// [`CaptureError`]; what was packed before the error is kept for the next attempt, no version is made.
pub fn import_tree(
    store: &Store,
    root: OwnedFd,
    scope: &ScanScope<'_>,
    import: Import,
) -> Result<(StoredVersion, CaptureReport), CaptureError> {
    let builder = VersionBuilder::begin(store, &import.image)?;
    let sink = Lift(builder.trusted());
    let fed = with_packer(&sink, import.level, import.threads, |packer| {
        let mut tree = Tree {
            builder: &builder,
            packer,
            packed: HashSet::new(),
            entries: Vec::new(),
        };
        let report = scan(root, scope, &mut tree)?;
        Ok((report, tree.entries))
    });
    drop(sink);
    match fed {
        Ok((scan, entries)) => {
            let (version, pack) = builder.publish(entries, import.source, import.created)?;
            Ok((version, CaptureReport { scan, pack }))
        }
        Err(error) => {
            abandon(builder);
            Err(error)
        }
    }
}

/// Keeps what arrived before an error. That this fails too, as on a full disk, must not hide the first error.
pub(crate) fn abandon(builder: VersionBuilder<'_>) {
    if let Err(error) = builder.abandon() {
        tracing::info!(
            error = crate::chain(&error),
            "what arrived cannot be kept for the next capture"
        );
    }
}

/// Hands parts to the packer and keeps the entries.
struct Tree<'a, 's> {
    builder: &'a VersionBuilder<'s>,
    packer: &'a mut Packer,
    packed: HashSet<PartId>,
    entries: Vec<ScannedEntry>,
}

impl ScanSink for Tree<'_, '_> {
    type Error = CaptureError;

    fn lacks(&mut self, part: &PartId, _offset: u64) -> bool {
        !self.builder.has(part) && self.packed.insert(*part)
    }

    fn part(&mut self, id: PartId, bytes: &[u8]) -> Result<(), CaptureError> {
        // When the packer has stopped, its sink's error is what the caller gets.
        if self.packer.add(id, bytes) {
            Ok(())
        } else {
            Err(StoreError::WrongPart.into())
        }
    }

    fn entry(&mut self, entry: ScannedEntry) -> Result<(), CaptureError> {
        self.entries.push(entry);
        Ok(())
    }
}

/// A sink of the store whose errors are a capture's.
struct Lift<S>(S);

impl<S: super::pack::PackSink<Error = StoreError>> super::pack::PackSink for Lift<S> {
    type Error = CaptureError;

    fn take(&self, packed: super::pack::Packed) -> Result<(), CaptureError> {
        Ok(self.0.take(packed)?)
    }
}
