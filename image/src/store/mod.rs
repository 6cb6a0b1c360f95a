//! The store of an image server: chunks, versions, keys.
//!
//! ```text
//! STATE/format                     which store format this is
//!       lock                       shared by who writes, exclusive while the store is collected
//!       keys/                      chunk.secret, signing.key, signing.pub
//!       chunks/ab/<hash>           immutable
//!       chunks/incoming/           being written
//!       images/<name>/lock         held by the one capture of an image
//!       images/<name>/versions/<n> signed manifests, immutable
//!       images/<name>/reports/<n>  what the capture reported, JSON
//!       images/<name>/last         highest version number ever given
//!       images/<name>/arrived      chunks of a capture that did not end
//! ```
//!
//! Everything becomes visible by a rename after it was synced, so a crash at any instant leaves the old state or the
//! new one; what is left over in `incoming/` is removed by the next collection.

mod chunks;
mod collect;
mod content;
mod error;
mod fsck;
mod images;
mod keys;
mod lock;
mod write;

pub(crate) use write::replace as replace_file;

use std::path::{Path, PathBuf};

pub use chunks::{ChunkStore, DirectoryChunks};
pub use collect::{Collection, collect};
pub use content::{ContentReader, PartIndex, PartReader};
pub use error::{StoreError, WriteWhat};
pub use fsck::{Finding, FsckReport, fsck};
pub use images::{ImageSummary, StoredVersion, VersionLease};
pub use lock::{ImageLock, WriterLock};

use crate::chunk::ChunkSecret;
use crate::manifest::{SigningKey, VerifyingKey};

/// What the file `format` says.
const FORMAT: &str = "simulcast store 1\n";

/// An open store.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    chunks: DirectoryChunks,
    secret: ChunkSecret,
    signing: SigningKey,
}

impl Store {
    /// Opens the store below the directory `state`, making it with fresh keys where there is none.
    ///
    /// # Errors
    /// [`StoreError`] when the directory cannot be made or read, or holds a store of another format.
    pub fn open(state: &Path) -> Result<Self, StoreError> {
        for below in ["keys", "chunks/incoming", "images"] {
            let directory = state.join(below);
            std::fs::create_dir_all(&directory).map_err(|error| StoreError::write(&directory, error))?;
        }
        let format = state.join("format");
        match std::fs::read_to_string(&format) {
            Ok(text) if text == FORMAT => {}
            Ok(text) => {
                return Err(StoreError::Format {
                    path: format,
                    found: text.chars().take(80).collect(),
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                write::replace(&format, FORMAT.as_bytes())?;
            }
            Err(error) => return Err(StoreError::read(&format, error)),
        }
        let keys = state.join("keys");
        let secret = ChunkSecret(keys::secret(&keys.join("chunk.secret"))?);
        let signing = SigningKey::from_bytes(&keys::secret(&keys.join("signing.key"))?);
        let public = keys.join("signing.pub");
        if !public.exists() {
            write::replace(&public, format!("{}\n", signing.verifying_key()).as_bytes())?;
        }
        let chunks = DirectoryChunks::new(state.join("chunks"));
        Ok(Self {
            root: state.to_owned(),
            chunks,
            secret,
            signing,
        })
    }

    /// Where the store lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The chunks.
    pub fn chunks(&self) -> &DirectoryChunks {
        &self.chunks
    }

    /// The secret from which chunk keys are derived.
    pub fn secret(&self) -> &ChunkSecret {
        &self.secret
    }

    /// The key that receivers check manifests with.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.signing.verifying_key()
    }

    /// The key that manifests and orders are signed with. It never leaves this machine.
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing
    }
}

#[cfg(test)]
mod tests;
