//! Collecting: chunks that no version and no update pack needs are removed, and packs whose versions are gone. Planned first, then done.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::name::ImageRef;

use super::lock::try_lock;
use super::{Store, StoreError};
use crate::capture::Arrived;

/// What a collection removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collection {
    /// Chunks that no version and no interrupted capture needs, with their lengths in bytes.
    pub unneeded: Vec<(ChunkId, u64)>,
    /// Files that writers left behind when they died.
    pub leftovers: Vec<PathBuf>,
    /// Update packs whose versions are gone, and what else lies beside the packs.
    pub packs: Vec<PathBuf>,
    /// How many chunks stay.
    pub kept: usize,
}

impl Collection {
    /// Bytes that removing the chunks frees.
    pub fn bytes(&self) -> u64 {
        self.unneeded.iter().map(|(_, length)| length).sum()
    }
}

/// Finds what nothing needs and, unless `dry_run`, removes it. A version whose manifest cannot be read stops the
/// collection, because nobody knows what it needs.
///
/// # Errors
/// [`StoreError::Writing`] while a capture runs, [`StoreError::Manifest`], [`StoreError::Read`], [`StoreError::Write`].
pub fn collect(store: &Store, dry_run: bool) -> Result<Collection, StoreError> {
    let _lock = store.lock_for_collecting()?;
    let plan = plan(store)?;
    if !dry_run {
        // The lists first: a pack whose chunks are gone would be offered and could not be had.
        for path in plan.packs.iter().chain(&plan.leftovers) {
            fs::remove_file(path).map_err(|error| StoreError::remove(path, error))?;
        }
        for (id, _) in &plan.unneeded {
            let path = store.chunks().path(id);
            fs::remove_file(&path).map_err(|error| StoreError::remove(&path, error))?;
        }
    }
    Ok(plan)
}

fn plan(store: &Store) -> Result<Collection, StoreError> {
    let (mut needed, mut versions) = (BTreeSet::new(), BTreeSet::new());
    for image in store.images()? {
        for version in image.versions {
            let stored = store.load(&ImageRef {
                name: image.name.clone(),
                version: Some(version),
            })?;
            versions.insert(stored.signed.id);
            needed.extend(stored.signed.manifest.chunks.iter().map(|chunk| chunk.handle.id));
        }
    }
    for image in Arrived::images(store)? {
        needed.extend(
            Arrived::load(store, &image)?
                .chunks()
                .iter()
                .map(|chunk| chunk.handle.id),
        );
    }
    let packs = unneeded_packs(store, &versions, &mut needed)?;
    let all = store.chunks().list()?;
    let total = all.len();
    let unneeded: Vec<_> = all.into_iter().filter(|(id, _)| !needed.contains(id)).collect();
    let incoming = store.chunks().incoming();
    let failed = |error| StoreError::read(&incoming, error);
    let mut leftovers = Vec::new();
    for entry in fs::read_dir(&incoming).map_err(failed)? {
        leftovers.push(entry.map_err(failed)?.path());
    }
    Ok(Collection {
        kept: total - unneeded.len(),
        unneeded,
        leftovers,
        packs,
    })
}

/// Packs that lead from or to a version that is gone, or are damaged, and are not being sent; the chunks of the others are
/// needed.
fn unneeded_packs(
    store: &Store,
    versions: &BTreeSet<ManifestId>,
    needed: &mut BTreeSet<ChunkId>,
) -> Result<Vec<PathBuf>, StoreError> {
    let mut unneeded = Vec::new();
    for path in store.pack_files()? {
        let pack = store.read_pack(&path)?;
        let stands = pack.as_ref().is_some_and(|pack| {
            pack.from
                .iter()
                .chain([&pack.to])
                .all(|version| versions.contains(version))
        });
        let sent = !stands && try_lock(&path, FlockOperation::NonBlockingLockExclusive)?.is_none();
        match pack {
            Some(pack) if stands || sent => {
                needed.extend(pack.chunks.iter().map(|chunk| chunk.handle.id));
            }
            _ => unneeded.push(path),
        }
    }
    Ok(unneeded)
}
