//! Why the store could not do what it was asked.

use std::io;
use std::path::{Path, PathBuf};

use simulcast_protocol::id::ChunkId;
use simulcast_protocol::name::{ImageName, ImageRef, Version};

use crate::chunk::OpenChunkError;
use crate::manifest::{SignatureError, Unsound};
use crate::pack::PackError;

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Something in the store cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something in the store cannot be written.
    #[error("cannot {what} {path}")]
    Write {
        /// What was tried.
        what: WriteWhat,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The directory holds something else.
    #[error(
        "{path} says {found:?}: this is no store that this program knows; choose another --state directory"
    )]
    Format {
        /// The file that says so.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// There is no such image.
    #[error("there is no image {0}; si-lsimage lists those that there are")]
    NoImage(ImageName),
    /// There is such an image, but not that version of it.
    #[error("image {image} has no version {version}; it has {available}")]
    NoVersion {
        /// The image.
        image: ImageName,
        /// The version that was asked for.
        version: Version,
        /// The versions that exist, for people.
        available: String,
    },
    /// An image of that name exists already.
    #[error("there is an image {0} already; remove it with si-rmimage or choose another name")]
    Exists(ImageName),
    /// Somebody else captures the same image.
    #[error("another capture of image {0} is running; wait until it has ended, nothing was changed")]
    ImageBusy(ImageName),
    /// The store is being collected.
    #[error("the store {0} is being collected by si-gc; try again when it has ended, nothing was changed")]
    Collecting(PathBuf),
    /// Somebody writes to the store, so it cannot be collected.
    #[error(
        "a capture or import is writing to the store {0}; run si-gc when it has ended, nothing was changed"
    )]
    Writing(PathBuf),
    /// The version is being sent to nodes.
    #[error("{0} is being sent to nodes; wait until they have it, nothing was changed")]
    InUse(ImageRef),
    /// A manifest in the store is not what was written there.
    #[error("the manifest of {version} ({path}) cannot be used")]
    Manifest {
        /// Which version.
        version: ImageRef,
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: SignatureError,
    },
    /// An update pack in the store is not what was written there.
    #[error("the update pack {path} cannot be used; remove it, and it is made again")]
    Pack {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: PackError,
    },
    /// A chunk is missing.
    #[error("chunk {0} is missing from the store; si-fsck says which versions need it")]
    ChunkMissing(ChunkId),
    /// A chunk is damaged.
    #[error("a chunk cannot be used; si-fsck says which versions need it")]
    Chunk(#[from] OpenChunkError),
    /// A capture described a tree that cannot be.
    #[error("the capture describes an impossible tree; no version was made")]
    Unsound(#[from] Unsound),
    /// A capture sent bytes that are not what it said they are.
    #[error("the capture sent a part whose bytes do not match its hash; nothing of it was kept")]
    WrongPart,
    /// A capture ended without having sent everything.
    #[error("the capture did not send all parts that its files need ({0} are missing); run it again")]
    Incomplete(u64),
}

/// What was tried when a write failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteWhat {
    /// Writing, creating, syncing or renaming.
    Write,
    /// Removing.
    Remove,
    /// Taking a lock.
    Lock,
}

impl std::fmt::Display for WriteWhat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write => "write",
            Self::Remove => "remove",
            Self::Lock => "lock",
        })
    }
}

impl StoreError {
    pub(crate) fn read(path: &Path, source: io::Error) -> Self {
        Self::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn write(path: &Path, source: io::Error) -> Self {
        Self::Write {
            what: WriteWhat::Write,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn remove(path: &Path, source: io::Error) -> Self {
        Self::Write {
            what: WriteWhat::Remove,
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn lock(path: &Path, source: io::Error) -> Self {
        Self::Write {
            what: WriteWhat::Lock,
            path: path.to_owned(),
            source,
        }
    }
}
