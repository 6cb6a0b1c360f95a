//! What was installed in a tree last: a hint that spares hashing files which nobody has touched since.
//!
//! It lies in the state directory of whoever installs or updates, not in the tree, and is named after the tree's root directory. A
//! record that is missing costs time; one that is wrong is noticed, because it counts only for files whose length and
//! time are still those of the version, as rsync too would believe them.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use simulcast_image::manifest::{Manifest, SignedManifest};
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

    /// The version that was installed last; `None` when nobody knows.
    pub fn load(&self) -> Option<Manifest> {
        self.load_named().map(|(_, manifest)| manifest)
    }

    /// The same, with its identity.
    pub fn load_named(&self) -> Option<(ManifestId, Manifest)> {
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

    /// Records a version.
    ///
    /// # Errors
    /// When the state directory cannot be written to.
    pub fn save(&self, version: &SignedManifest) -> anyhow::Result<()> {
        let attempt = || format!("cannot record what was installed in {}", self.path.display());
        let directory = self.path.parent().context("a record lies in a directory")?;
        fs::create_dir_all(directory).with_context(attempt)?;
        let new = self.path.with_extension("new");
        fs::write(&new, version.bytes()).with_context(attempt)?;
        fs::rename(&new, &self.path).with_context(attempt)
    }
}
