//! Comparing a tree with a version, for whoever has just written it.

use std::os::fd::OwnedFd;

use simulcast_protocol::limits::PART_BYTES;

use super::compare::{Visitor, compare, join};
use super::install::MARKER;
use super::{ApplyError, check_content};
use crate::filter::Side;
use crate::fs::{self, Device, DirStack, Kind as FsKind, Shown, Stat};
use crate::manifest::{Kind, Manifest};

/// Differences that are collected; a disk that is broken may have a million.
const DIFFERENCES: usize = 1000;

/// Reads everything below `root` and says what is not as `manifest` has it: paths that are missing or of another kind,
/// contents, modes and owners. What the tree has beside it does not matter, nor what its file systems cannot hold.
///
/// # Errors
/// [`ApplyError`] when something cannot be read.
pub fn verify(manifest: &Manifest, root: OwnedFd) -> Result<Vec<String>, ApplyError> {
    let mut check = Check {
        manifest,
        buffer: vec![0; PART_BYTES],
        root_device: fs::stat_fd(&root)?.dev,
        found: Vec::new(),
    };
    compare(manifest, root, &mut check)?;
    Ok(check.found)
}

struct Check<'m> {
    manifest: &'m Manifest,
    buffer: Vec<u8>,
    root_device: Device,
    found: Vec<String>,
}

impl Check<'_> {
    fn note(&mut self, index: u32, what: &str) {
        if self.found.len() < DIFFERENCES {
            let path = self.manifest.path(index);
            self.found.push(format!("/{} {what}", Shown(&path)));
        }
    }
}

impl Visitor for Check<'_> {
    type Error = ApplyError;

    fn skips(&mut self, _side: Side, path: &[u8], _directory: bool) -> bool {
        path == MARKER
    }

    fn entry(&mut self, dir: &DirStack, index: u32, found: Option<&Stat>) -> Result<(), ApplyError> {
        let manifest = self.manifest;
        let entry = &manifest.entries[index as usize];
        let Some(found) = found else {
            self.note(index, "is missing");
            return Ok(());
        };
        let (_, inode) = manifest.inode(index);
        if found.kind != inode.kind.fs_kind() {
            self.note(index, "is something else");
            return Ok(());
        }
        // Another file system below the root may be one that has no owners and modes, as FAT.
        let comparable = found.dev == self.root_device && found.kind != FsKind::Symlink;
        if comparable
            && (found.meta.mode, found.meta.uid, found.meta.gid)
                != (inode.meta.mode, inode.meta.uid, inode.meta.gid)
        {
            self.note(index, "has another owner or mode");
        }
        if let Kind::File(content) = &entry.kind {
            let (file, stat) =
                fs::open_read(dir.current(), &entry.name).map_err(|error| error.under(dir.path()))?;
            let check = check_content(&file, &stat, content, manifest, &mut self.buffer)
                .map_err(|error| error.under(&join(dir.path(), &entry.name)))?;
            if !check.same {
                self.note(index, "has another content");
            }
        }
        Ok(())
    }

    fn extra(&mut self, _dir: &DirStack, _name: &[u8], _found: &Stat) -> Result<(), ApplyError> {
        Ok(())
    }
}
