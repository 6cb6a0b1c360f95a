//! Where chunks lie. One small trait, so that a site can keep them elsewhere: names are hashes, content never changes.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::CHUNK_STORED_BYTES;

use super::StoreError;

/// Numbers of files in `incoming/`: one process may have a store open several times, and its id is in their names.
static WRITTEN: AtomicU64 = AtomicU64::new(0);

/// Keeps chunks by name.
pub trait ChunkStore: Send + Sync {
    /// The bytes of a chunk, unchecked: whoever uses them checks them against the name.
    ///
    /// # Errors
    /// [`StoreError::ChunkMissing`] when there is none, [`StoreError::Read`] when it cannot be read.
    fn read(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError>;

    /// Length of a chunk in bytes, `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Read`] when that cannot be found out.
    fn len(&self, id: &ChunkId) -> Result<Option<u64>, StoreError>;

    /// Writes a chunk; it is kept for good only after [`ChunkStore::commit`].
    ///
    /// # Errors
    /// [`StoreError::Write`].
    fn write(&self, id: &ChunkId, bytes: &[u8]) -> Result<(), StoreError>;

    /// Makes all chunks written so far durable, then visible.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    fn commit(&self) -> Result<(), StoreError>;
}

/// Chunks as files below a directory.
#[derive(Debug)]
pub struct DirectoryChunks {
    root: PathBuf,
    /// Chunks in `incoming/`, with the file that holds each.
    pending: Mutex<Vec<(ChunkId, PathBuf)>>,
}

impl DirectoryChunks {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            pending: Mutex::default(),
        }
    }

    /// The file of a chunk.
    pub fn path(&self, id: &ChunkId) -> PathBuf {
        let name = id.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// The directory of chunks that are being written.
    pub(super) fn incoming(&self) -> PathBuf {
        self.root.join("incoming")
    }

    /// All chunks with their lengths, in the order of their names; files that are no chunks are left out.
    pub(super) fn list(&self) -> Result<Vec<(ChunkId, u64)>, StoreError> {
        let mut found = Vec::new();
        for directory in read_dir(&self.root)? {
            if directory.file_name().is_some_and(|name| name.len() == 2) {
                for file in read_dir(&directory)? {
                    let id = file
                        .file_name()
                        .and_then(|name| name.to_str())
                        .and_then(|name| name.parse().ok());
                    if let Some(id) = id {
                        let length = fs::metadata(&file)
                            .map_err(|error| StoreError::read(&file, error))?
                            .len();
                        found.push((id, length));
                    }
                }
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl ChunkStore for DirectoryChunks {
    fn read(&self, id: &ChunkId) -> Result<Vec<u8>, StoreError> {
        let path = self.path(id);
        let failed = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => StoreError::ChunkMissing(*id),
            _ => StoreError::read(&path, error),
        };
        let length = fs::metadata(&path).map_err(failed)?.len();
        if length > CHUNK_STORED_BYTES as u64 {
            let error = std::io::Error::new(ErrorKind::InvalidData, "it is longer than a chunk can be");
            return Err(StoreError::read(&path, error));
        }
        fs::read(&path).map_err(failed)
    }

    fn len(&self, id: &ChunkId) -> Result<Option<u64>, StoreError> {
        let path = self.path(id);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::read(&path, error)),
        }
    }

    fn write(&self, id: &ChunkId, bytes: &[u8]) -> Result<(), StoreError> {
        if self.len(id)? == Some(bytes.len() as u64) {
            return Ok(());
        }
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let path = self.incoming().join(format!("{}.{number}", std::process::id()));
        File::create(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|error| StoreError::write(&path, error))?;
        self.pending.lock().expect("no holder panics").push((*id, path));
        Ok(())
    }

    fn commit(&self) -> Result<(), StoreError> {
        let pending = std::mem::take(&mut *self.pending.lock().expect("no holder panics"));
        if pending.is_empty() {
            return Ok(());
        }
        let sync = || {
            let root = File::open(&self.root).map_err(|error| StoreError::write(&self.root, error))?;
            rustix::fs::syncfs(&root).map_err(|errno| StoreError::write(&self.root, errno.into()))
        };
        sync()?;
        let mut made = BTreeSet::new();
        for (id, incoming) in pending {
            let path = self.path(&id);
            let directory = path.parent().expect("a chunk has a directory").to_owned();
            if made.insert(directory.clone()) {
                fs::create_dir_all(&directory).map_err(|error| StoreError::write(&directory, error))?;
            }
            fs::rename(&incoming, &path).map_err(|error| StoreError::write(&path, error))?;
        }
        sync()
    }
}

fn read_dir(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let failed = |error| StoreError::read(directory, error);
    let entries = fs::read_dir(directory).map_err(failed)?;
    entries
        .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
        .collect()
}
