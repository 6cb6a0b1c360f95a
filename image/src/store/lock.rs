//! Who may do what at the same time: `flock` on files of the store, released by the kernel when a process dies.

use std::fs::{File, OpenOptions};
use std::path::Path;

use rustix::fs::FlockOperation;
use simulcast_protocol::name::ImageName;

use super::{Store, StoreError};

/// Held while chunks and versions are written; many may hold it. The store is not collected meanwhile.
#[derive(Debug)]
pub struct WriterLock(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

/// Held by the one capture or change of an image, which writes to the store as well.
#[derive(Debug)]
pub struct ImageLock {
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    image: File,
    #[expect(dead_code, reason = "held for as long")]
    writer: WriterLock,
}

/// Held while the store is collected: nobody writes.
#[derive(Debug)]
pub(super) struct CollectorLock(
    #[expect(dead_code, reason = "the lock lives as long as the open file")] File,
);

impl Store {
    /// Announces that chunks or versions will be written.
    ///
    /// # Errors
    /// [`StoreError::Collecting`] while the store is collected.
    pub fn lock_for_writing(&self) -> Result<WriterLock, StoreError> {
        let path = self.root().join("lock");
        match try_lock(&path, FlockOperation::NonBlockingLockShared)? {
            Some(file) => Ok(WriterLock(file)),
            None => Err(StoreError::Collecting(self.root().to_owned())),
        }
    }

    /// Reserves `image` for one capture or change; its directory is made where it does not exist.
    ///
    /// # Errors
    /// [`StoreError::ImageBusy`] while somebody else has it, [`StoreError::Collecting`] while the store is collected.
    pub fn lock_image(&self, image: &ImageName) -> Result<ImageLock, StoreError> {
        let writer = self.lock_for_writing()?;
        let directory = self.image_directory(image);
        std::fs::create_dir_all(directory.join("versions"))
            .map_err(|error| StoreError::write(&directory, error))?;
        match try_lock(&directory.join("lock"), FlockOperation::NonBlockingLockExclusive)? {
            Some(image) => Ok(ImageLock { image, writer }),
            None => Err(StoreError::ImageBusy(image.clone())),
        }
    }

    pub(super) fn lock_for_collecting(&self) -> Result<CollectorLock, StoreError> {
        let path = self.root().join("lock");
        match try_lock(&path, FlockOperation::NonBlockingLockExclusive)? {
            Some(file) => Ok(CollectorLock(file)),
            None => Err(StoreError::Writing(self.root().to_owned())),
        }
    }
}

/// Locks the file at `path`, which is made where it does not exist; `None` when somebody else holds it.
pub(crate) fn try_lock(path: &Path, operation: FlockOperation) -> Result<Option<File>, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .read(true)
        .open(path)
        .map_err(|error| StoreError::lock(path, error))?;
    match rustix::fs::flock(&file, operation) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(StoreError::lock(path, errno.into())),
    }
}
