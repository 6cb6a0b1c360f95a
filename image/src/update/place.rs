//! Putting one staged thing in its place, in one step as far as the file system can.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::{STAGE, UpdateError};
use crate::apply::{ApplyError, Writer, staged_name};
use crate::fs::{self, Dir, DirCache, FsError, Kind as FsKind};
use crate::manifest::{Entry, Kind, Manifest};

/// Puts in place what stands in a staging directory.
pub(super) struct Placing<'a, 'm> {
    pub(super) manifest: &'m Manifest,
    pub(super) stage: &'a OwnedFd,
    pub(super) writer: &'a Writer<'m>,
}

impl Placing<'_, '_> {
    /// Puts an entry in its place. What stood there is replaced; a directory that was in the way is in the staging
    /// directory afterwards.
    pub(super) fn place(&self, directories: &mut DirCache, index: u32) -> Result<(), UpdateError> {
        let entry = &self.manifest.entries[index as usize];
        let parent = self.manifest.path(entry.parent);
        let dir = directories.open(&parent)?;
        let staged = staged_name(index);
        let done = match &entry.kind {
            Kind::Directory => {
                directories.forget(&self.manifest.path(index));
                fs::make_dir(self.stage, &staged).map_err(UpdateError::from)?;
                swap(self.stage, &staged, &dir, &entry.name)
            }
            Kind::HardLink(to) => {
                let inode = &self.manifest.entries[*to as usize];
                let from = directories.open(&self.manifest.path(inode.parent))?;
                return self
                    .link(&from, inode, &dir, index)
                    .map_err(|error| error.under(&parent).into());
            }
            _ => {
                directories.forget(&self.manifest.path(index));
                swap(self.stage, &staged, &dir, &entry.name)
            }
        };
        match done {
            Err(error) if error.errno() == Some(Errno::XDEV) => {
                // Another file system below the root: the new file is copied to it first, and synced.
                let beside = [STAGE, &staged].concat();
                self.copy_across(&dir, &staged, &beside, index, entry)?;
                swap(&*dir, &beside, &dir, &entry.name).map_err(|error| error.under(&parent))?;
                // Where a directory was in the way, it has this name now.
                remove_all(&dir, &beside).map_err(|error| error.under(&parent))?;
            }
            other => other.map_err(|error| error.under(&parent))?,
        }
        Ok(())
    }

    fn link(&self, from: &Arc<Dir>, inode: &Entry, dir: &Arc<Dir>, index: u32) -> Result<(), FsError> {
        let beside = [STAGE, &staged_name(index)].concat();
        remove_all(dir, &beside)?;
        fs::hard_link(&**from, &inode.name, &**dir, &beside)?;
        swap(&**dir, &beside, dir, &self.manifest.entries[index as usize].name)?;
        // When both were names of one inode already, rename(2) leaves the first in place.
        remove_all(dir, &beside)
    }

    fn copy_across(
        &self,
        dir: &Dir,
        name: &[u8],
        beside: &[u8],
        index: u32,
        entry: &Entry,
    ) -> Result<(), UpdateError> {
        remove_all(dir, beside)?;
        match &entry.kind {
            Kind::Directory => {
                // Its metadata come at the end.
                return Ok(fs::make_dir(dir, beside)?);
            }
            Kind::Symlink(target) => fs::make_symlink(dir, beside, target)?,
            Kind::File(_) => {
                let (source, _) = fs::open_read(self.stage, name)?;
                let file = fs::create_file(dir, beside)?;
                let io = |error| {
                    let path = fs::Shown(&self.manifest.path(index)).to_string();
                    ApplyError::Io("copy", path, error)
                };
                fs::copy_data(&source, &file).map_err(io)?;
                file.sync_all().map_err(io)?;
            }
            kind => {
                let (kind, device) = kind.node().expect("links are not staged");
                fs::make_node(dir, beside, kind, device)?;
            }
        }
        let limitations = fs::apply_meta_at(dir, beside, entry.kind.fs_kind(), &entry.meta)?;
        self.writer.limited(index, limitations);
        Ok(())
    }
}

/// Renames; where a directory gives way to something else, or the other way round, both are exchanged in one step.
fn swap(
    from: impl std::os::fd::AsFd + Copy,
    name: &[u8],
    dir: &Arc<Dir>,
    new_name: &[u8],
) -> Result<(), FsError> {
    match fs::rename(from, name, &**dir, new_name) {
        Err(error) if is_of_another_kind(&error) => {}
        other => return other,
    }
    match fs::exchange(from, name, &**dir, new_name) {
        // A file system that cannot: what is in the way goes first.
        Err(error) if matches!(error.errno(), Some(Errno::INVAL | Errno::NOSYS)) => {
            remove_all(dir, new_name)?;
            fs::rename(from, name, &**dir, new_name)
        }
        other => other,
    }
}

fn is_of_another_kind(error: &FsError) -> bool {
    matches!(
        error.errno(),
        Some(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST)
    )
}

fn remove_all(dir: &Dir, name: &[u8]) -> Result<(), FsError> {
    match fs::stat(dir, name) {
        Err(error) if error.is_absent() => Ok(()),
        Ok(found) if found.kind == FsKind::Dir => fs::remove_tree(dir, name),
        _ => fs::remove_if_there(dir, name),
    }
}
