//! What was installed in a tree last: a hint that spares hashing files which nobody has touched since.
//!
//! It lies in the state directory of whoever installs or updates, not in the tree, and is named after the tree's root directory. A
//! record that is missing costs time; one that is wrong is noticed, because it counts only for files whose length and
//! time are still those of the version, as rsync too would believe them.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use simulcast_image::manifest::{Manifest, SignedManifest};
use simulcast_protocol::exclusion::NodeLists;
use simulcast_protocol::id::ManifestId;

/// The record of one tree.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
}

impl Record {
    /// The record of the tree at `root`, which is a full path.
    pub fn of(state: &Path, root: &Path) -> Self {
        let name = simulcast_protocol::id::ContentId::of(root.as_os_str().as_bytes()).short();
        Self {
            path: state.join("installed").join(name),
        }
    }

    /// The version that was installed last, with its identity; `None` when nobody knows.
    pub fn identified(&self) -> Option<(ManifestId, Manifest)> {
        match fs::read(&self.path) {
            Ok(bytes) => match Manifest::decode(SignedManifest::unsigned(&bytes)?) {
                Ok(manifest) => Some((ManifestId::of(SignedManifest::unsigned(&bytes)?), manifest)),
                Err(error) => {
                    tracing::warn!(record = %self.path.display(), %error, "the record of what was installed is of no use");
                    None
                }
            },
            Err(error) => {
                if error.kind() != ErrorKind::NotFound {
                    tracing::warn!(record = %self.path.display(), %error, "cannot read what was installed");
                }
                None
            }
        }
    }

    /// The bytes of the record; `None` when there is none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        fs::read(&self.path).ok()
    }

    /// Records a version.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub fn save(&self, version: &SignedManifest) -> anyhow::Result<()> {
        self.write(&self.path, version.bytes())
    }

    /// Makes the record what it was once; without bytes, nothing is known any more.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub fn restore(&self, bytes: Option<&[u8]>) -> anyhow::Result<()> {
        match bytes {
            Some(bytes) => self.write(&self.path, bytes),
            None => match fs::remove_file(&self.path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
                }
                _ => Ok(()),
            },
        }
    }

    /// Records the lists that the server had for this machine, so that they hold where it cannot be asked.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub fn save_lists(&self, lists: &NodeLists) -> anyhow::Result<()> {
        let json = serde_json::to_vec(lists).context("cannot write down exclusion lists")?;
        self.write(&self.path.with_extension("lists"), &json)
    }

    /// The lists that the server had at the last update; none when there was no update.
    pub fn lists(&self) -> NodeLists {
        let read = fs::read(self.path.with_extension("lists")).ok();
        let known = read.and_then(|json| serde_json::from_slice(&json).ok());
        known.unwrap_or(NodeLists {
            node: None,
            lists: Vec::new(),
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
        let attempt = || format!("cannot record what was installed in {}", path.display());
        let directory = path.parent().context("a record lies in a directory")?;
        fs::create_dir_all(directory).with_context(attempt)?;
        let new = path.with_extension("new");
        let mut file = fs::File::create(&new).with_context(attempt)?;
        file.write_all(bytes)
            .and_then(|()| file.sync_all())
            .with_context(attempt)?;
        fs::rename(&new, path).with_context(attempt)
    }
}
