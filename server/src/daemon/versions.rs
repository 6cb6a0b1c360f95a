//! Versions that nodes are asking for. Each is read and checked once, and cannot be removed while it is being sent or
//! was asked for a moment ago.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use simulcast_image::chunk::ChunkHandle;
use simulcast_image::pack::{Pack, PackLease, SignedPack};
use simulcast_image::store::{Store, StoreError, StoredVersion, VersionLease};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};
use simulcast_protocol::name::{ImageName, ImageRef, Version};

use super::Daemon;
use crate::order::MACHINE;

/// How long a version is protected after it was asked for: longer than a node waits between two tries.
const KEPT: Duration = Duration::from_secs(120);

/// The versions that are being asked for.
#[derive(Debug, Default)]
pub(super) struct Versions {
    served: Mutex<BTreeMap<ManifestId, Arc<ServedVersion>>>,
    /// Held while one is read: a thousand nodes that ask at once cost one reading.
    reading: tokio::sync::Mutex<()>,
}

/// A version that is being asked for.
#[derive(Debug)]
pub(super) struct ServedVersion {
    pub(super) image: ImageName,
    pub(super) version: Version,
    pub(super) id: ManifestId,
    /// The signed manifest; open, so that it is read even if the image gets another name.
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    /// What was recorded of the golden client, as JSON.
    pub(super) machine: Option<String>,
    inode: (u64, u64),
    /// `None` for a version without chunks, as of a tree without content.
    pub(super) table: Option<Arc<ChunkTable>>,
    /// Indexes of the chunks in the order of their names.
    by_name: Vec<u32>,
    asked: Mutex<Instant>,
    #[expect(dead_code, reason = "the leases live as long as the version is served")]
    leases: (VersionLease, Option<PackLease>),
}

impl Daemon {
    /// The version that a reference means; read from the store when it is not served yet.
    pub(super) async fn version(
        self: &Arc<Self>,
        reference: ImageRef,
    ) -> Result<Arc<ServedVersion>, StoreError> {
        let look = {
            let (daemon, reference) = (Arc::clone(self), reference.clone());
            move || daemon.versions.look(&daemon.store, &reference)
        };
        if let Some(served) = blocking(look.clone()).await? {
            return Ok(served);
        }
        let _reading = self.versions.reading.lock().await;
        if let Some(served) = blocking(look).await? {
            return Ok(served);
        }
        let daemon = Arc::clone(self);
        blocking(move || {
            let stored = daemon.store.load(&reference)?;
            daemon.versions.take(&daemon.store, stored)
        })
        .await
    }

    /// The version, or the update pack, with an identity, if there is one.
    pub(super) async fn version_by_id(
        self: &Arc<Self>,
        id: ManifestId,
    ) -> Result<Option<Arc<ServedVersion>>, StoreError> {
        if let Some(served) = self.versions.by_id(&id) {
            return Ok(Some(served));
        }
        let _reading = self.versions.reading.lock().await;
        if let Some(served) = self.versions.by_id(&id) {
            return Ok(Some(served));
        }
        let daemon = Arc::clone(self);
        blocking(move || match daemon.store.find(&id)? {
            Some(stored) => daemon.versions.take(&daemon.store, stored).map(Some),
            // After a restart nodes ask for the sessions of packs that they know already.
            None => match daemon.store.find_pack(&id)? {
                Some(way) => daemon.kept(way),
                None => Ok(None),
            },
        })
        .await
    }
}

impl Versions {
    /// Notes that a chunk was asked for: the versions that hold it stay.
    pub(super) fn chunk_asked(&self, chunk: &ChunkId) {
        for served in self.lock().values() {
            if served.holds(chunk) {
                served.touch();
            }
        }
    }

    /// Lets go of versions that nobody asked for of late and no session sends.
    pub(super) fn expire(&self, now: Instant) {
        self.lock().retain(|_, served| {
            let idle = now.saturating_duration_since(*served.asked.lock().expect("no holder panics"));
            let stays = idle < KEPT || Arc::strong_count(served) > 1;
            if !stays {
                tracing::debug!(image = %served.reference(), "nobody asks for it any more");
            }
            stays
        });
    }

    /// Serves an update pack; `None` when it was removed meanwhile.
    pub(super) fn take_pack(
        &self,
        store: &Store,
        pack: &SignedPack,
        to: &StoredVersion,
    ) -> Result<Option<Arc<ServedVersion>>, StoreError> {
        let Some(served) = ServedVersion::of_pack(store, pack, to)?.map(Arc::new) else {
            return Ok(None);
        };
        tracing::info!(image = %served.reference(), pack = %served.id.short(), "serving an update pack");
        self.lock().insert(served.id, Arc::clone(&served));
        Ok(Some(served))
    }

    pub(super) fn by_id(&self, id: &ManifestId) -> Option<Arc<ServedVersion>> {
        let served = self.lock().get(id).map(Arc::clone)?;
        served.touch();
        Some(served)
    }

    /// The version, if it is served already. The file tells: after a renaming, another version can have its name.
    fn look(&self, store: &Store, reference: &ImageRef) -> Result<Option<Arc<ServedVersion>>, StoreError> {
        let version = store.resolve(reference)?;
        let Ok(metadata) = fs::metadata(store.version_path(&reference.name, version)) else {
            return Ok(None);
        };
        let inode = (metadata.dev(), metadata.ino());
        let found = self
            .lock()
            .values()
            .find(|served| served.inode == inode)
            .map(Arc::clone);
        Ok(found
            .filter(|served| (&served.image, served.version) == (&reference.name, version))
            .inspect(|served| served.touch()))
    }

    fn take(&self, store: &Store, stored: StoredVersion) -> Result<Arc<ServedVersion>, StoreError> {
        let served = Arc::new(ServedVersion::new(store, stored)?);
        tracing::info!(image = %served.reference(), manifest = %served.id.short(), "serving");
        self.lock().insert(served.id, Arc::clone(&served));
        Ok(served)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ManifestId, Arc<ServedVersion>>> {
        self.served.lock().expect("no holder panics")
    }
}

impl ServedVersion {
    fn new(store: &Store, stored: StoredVersion) -> Result<Self, StoreError> {
        let lease = store.lease(&stored.image, stored.version)?;
        let path = store.version_path(&stored.image, stored.version);
        let read = || File::open(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = read().map_err(|source| StoreError::Read {
            path: path.clone(),
            source,
        })?;
        let chunks = stored.signed.manifest.chunks.iter().map(|chunk| &chunk.handle);
        let (table, by_name) = table(stored.signed.id, chunks);
        Ok(Self {
            machine: stored.signed.manifest.info.source.get(MACHINE).cloned(),
            image: stored.image,
            version: stored.version,
            id: stored.signed.id,
            file: Arc::new(file),
            len: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            table,
            by_name,
            asked: Mutex::new(Instant::now()),
            leases: (lease, None),
        })
    }

    /// An update pack that leads to `to`, to be sent as versions are. `None` when it was removed meanwhile.
    fn of_pack(store: &Store, pack: &SignedPack, to: &StoredVersion) -> Result<Option<Self>, StoreError> {
        let lease = store.lease(&to.image, to.version)?;
        let from = Pack::source_id(&pack.pack.from);
        let Some(pack_lease) = store.lease_pack(&from, &to.signed.id)? else {
            return Ok(None);
        };
        let path = store.pack_path(&from, &to.signed.id);
        let read = || File::open(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = read().map_err(|source| StoreError::Read { path, source })?;
        let (table, by_name) = table(pack.id, pack.pack.handles(&to.signed.manifest));
        Ok(Some(Self {
            machine: None,
            image: to.image.clone(),
            version: to.version,
            id: pack.id,
            file: Arc::new(file),
            len: metadata.len(),
            inode: (metadata.dev(), metadata.ino()),
            table,
            by_name,
            asked: Mutex::new(Instant::now()),
            leases: (lease, Some(pack_lease)),
        }))
    }

    /// `NAME@V`.
    pub(super) fn reference(&self) -> ImageRef {
        ImageRef {
            name: self.image.clone(),
            version: Some(self.version),
        }
    }

    /// Whether a chunk is one of its own.
    pub(super) fn holds(&self, chunk: &ChunkId) -> bool {
        let Some(table) = &self.table else { return false };
        let name = |index: &u32| table.get(*index).map(|info| info.id);
        self.by_name.binary_search_by_key(&Some(*chunk), name).is_ok()
    }

    fn touch(&self) {
        *self.asked.lock().expect("no holder panics") = Instant::now();
    }
}

/// The chunks as a session numbers them, and their numbers in the order of their names.
fn table<'a>(
    id: ManifestId,
    handles: impl Iterator<Item = &'a ChunkHandle>,
) -> (Option<Arc<ChunkTable>>, Vec<u32>) {
    let chunks = handles.map(|handle| ChunkInfo {
        id: handle.id,
        len: handle.stored_len,
    });
    // A manifest is within the bounds of a table, except that a table is never empty.
    let table = ChunkTable::new(id, chunks.collect()).ok();
    let mut by_name: Vec<u32> = (0..table.as_ref().map_or(0, ChunkTable::count)).collect();
    if let Some(table) = &table {
        by_name.sort_unstable_by_key(|&index| table.get(index).map(|info| info.id));
    }
    (table.map(Arc::new), by_name)
}

/// Runs what reads files on a thread that may wait for the disk.
pub(super) async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(value) => value,
        Err(failed) => std::panic::resume_unwind(failed.into_panic()),
    }
}
