//! Writing a version into a directory of its own.

use std::os::fd::{AsFd, OwnedFd};

use simulcast_protocol::units::Bytes;

use super::survey::Survey;
use super::writer::{Home, Writer};
use super::{ApplyError, Limited, compare};
use crate::fs::{self, DirCache, FsError, Kind as FsKind};
use crate::manifest::{Kind, Manifest};

/// Stands in the root of the target from the first write to the last, so that an interrupted install is known as one.
pub const MARKER: &[u8] = b".simulcast-install";

/// Directories that are kept open while those below are made.
const DIRECTORIES: usize = 256;

/// A version on its way into a directory.
#[derive(Debug)]
pub struct Install<'m> {
    manifest: &'m Manifest,
    root: OwnedFd,
    writer: Writer<'m>,
    selection: Selection,
    bytes_found: u64,
}

/// Which entries of a version are wanted.
#[derive(Debug, Clone)]
pub struct Selection(Vec<bool>);

impl Selection {
    /// All of them.
    pub fn all(manifest: &Manifest) -> Self {
        Self(vec![true; manifest.entries.len()])
    }

    /// Those that `excluded` leaves: it is asked for paths below the root, with a flag that says "a directory". Nothing
    /// below an excluded directory is wanted, nor a further name of a file whose first one is not.
    pub fn without(manifest: &Manifest, excluded: &dyn Fn(&[u8], bool) -> bool) -> Self {
        let mut wanted = vec![true; manifest.entries.len()];
        for (index, entry) in manifest.entries.iter().enumerate().skip(1) {
            let inode = match entry.kind {
                Kind::HardLink(to) => wanted[to as usize],
                _ => true,
            };
            let number = u32::try_from(index).expect("entries are bounded");
            wanted[index] = inode
                && wanted[entry.parent as usize]
                && !excluded(&manifest.path(number), entry.kind == Kind::Directory);
        }
        Self(wanted)
    }

    /// Whether an entry is wanted.
    pub fn has(&self, entry: u32) -> bool {
        self.0[entry as usize]
    }
}

/// What an install did.
#[derive(Debug)]
pub struct InstallReport {
    /// Metadata that the target's file system could not hold.
    pub limited: Vec<Limited>,
}

impl<'m> Install<'m> {
    /// Begins with an empty directory, or goes on where an interrupted install stopped.
    ///
    /// # Errors
    /// [`ApplyError::NotEmpty`], [`ApplyError::NoSpace`] before anything is written; else what the target refuses.
    pub fn begin(manifest: &'m Manifest, root: OwnedFd) -> Result<Self, ApplyError> {
        Self::begin_with(manifest, root, Selection::all(manifest))
    }

    /// The same, with only some of the entries. Whoever goes on with an interrupted install gives the same ones.
    ///
    /// # Errors
    /// As [`Install::begin`].
    pub fn begin_with(
        manifest: &'m Manifest,
        root: OwnedFd,
        selection: Selection,
    ) -> Result<Self, ApplyError> {
        let names = fs::list(&root)?;
        let interrupted = names.iter().any(|(name, _)| name == MARKER);
        let writer = Writer::new(manifest, Home::Root(fs::duplicate(&root)?), |entry| {
            selection.has(entry)
        });
        let mut bytes_found = 0;
        if interrupted {
            let mut survey = Survey::new(&writer, &selection);
            compare::compare(manifest, fs::duplicate(&root)?, &mut survey)?;
            bytes_found = survey.bytes_found;
        } else if names.iter().any(|(name, _)| name != b"lost+found") {
            return Err(ApplyError::NotEmpty);
        } else {
            check_space(manifest, &selection, &root)?;
            drop(fs::create_file(&root, MARKER)?);
        }
        let install = Self {
            manifest,
            root,
            writer,
            selection,
            bytes_found,
        };
        install.skeleton()?;
        let Self {
            writer, selection, ..
        } = &install;
        writer.files_without_parts(|entry| selection.has(entry))?;
        Ok(install)
    }

    /// Takes the chunks.
    pub fn writer(&self) -> &Writer<'m> {
        &self.writer
    }

    /// Bytes of content that an interrupted install had written already.
    pub fn bytes_found(&self) -> u64 {
        self.bytes_found
    }

    /// Makes hard links, gives directories their metadata, and syncs: afterwards the tree is complete and durable.
    ///
    /// # Errors
    /// [`ApplyError::Incomplete`] when chunks are missing; then a new install goes on from here.
    pub fn finish(self) -> Result<InstallReport, ApplyError> {
        let missing = self
            .writer
            .missing_chunks()
            .into_iter()
            .filter(|&missing| missing)
            .count();
        if missing > 0 {
            return Err(ApplyError::Incomplete(missing));
        }
        self.links()?;
        let mut directories = self.directories()?;
        for (index, entry) in self.manifest.entries.iter().enumerate().skip(1).rev() {
            let index = u32::try_from(index).expect("entries are bounded");
            if entry.kind == Kind::Directory && self.selection.has(index) {
                let parent = self.manifest.path(entry.parent);
                let limitations = fs::apply_meta_at(
                    &*directories.open(&parent)?,
                    &entry.name,
                    FsKind::Dir,
                    &entry.meta,
                )
                .map_err(|error| error.under(&parent))?;
                self.writer.limited(index, limitations);
            }
        }
        // Everything is durable before the marker goes, and the marker before anybody is told.
        self.sync()?;
        fs::remove(&self.root, MARKER)?;
        let limitations = fs::apply_meta_fd(&self.root, &self.manifest.entries[0].meta)?;
        self.writer.limited(0, limitations);
        self.sync()?;
        Ok(InstallReport {
            limited: self.writer.into_limited(),
        })
    }

    /// Directories, symlinks, devices, fifos and sockets.
    fn skeleton(&self) -> Result<(), ApplyError> {
        let mut directories = self.directories()?;
        for (index, entry) in (0u32..).zip(&self.manifest.entries).skip(1) {
            if matches!(entry.kind, Kind::File(_) | Kind::HardLink(_)) || !self.selection.has(index) {
                continue;
            }
            let parent = self.manifest.path(entry.parent);
            let here = |error: FsError| error.under(&parent);
            let dir = directories.open(&parent)?;
            match &entry.kind {
                Kind::Directory => match fs::make_dir(&*dir, &entry.name) {
                    Err(error) if error.errno() == Some(rustix::io::Errno::EXIST) => {}
                    other => other.map_err(here)?,
                },
                Kind::Symlink(target) => fs::make_symlink(&*dir, &entry.name, target).map_err(here)?,
                kind => {
                    let (kind, device) = kind.node().expect("all other kinds are nodes");
                    fs::make_node(&*dir, &entry.name, kind, device).map_err(here)?;
                }
            }
            // Directories get theirs at the end: what is made in them would change their times.
            if entry.kind != Kind::Directory {
                let limitations =
                    fs::apply_meta_at(&*dir, &entry.name, entry.kind.fs_kind(), &entry.meta).map_err(here)?;
                self.writer.limited(index, limitations);
            }
        }
        Ok(())
    }

    fn links(&self) -> Result<(), ApplyError> {
        let mut directories = self.directories()?;
        for (index, entry) in (0u32..).zip(&self.manifest.entries) {
            if let Kind::HardLink(to) = entry.kind
                && self.selection.has(index)
            {
                let inode = &self.manifest.entries[to as usize];
                let (from, parent) = (self.manifest.path(inode.parent), self.manifest.path(entry.parent));
                let (from, dir) = (directories.open(&from)?, directories.open(&parent)?);
                fs::hard_link(&*from, &inode.name, &*dir, &entry.name)
                    .map_err(|error| error.under(&parent))?;
            }
        }
        Ok(())
    }

    fn directories(&self) -> Result<DirCache, ApplyError> {
        Ok(DirCache::new(fs::duplicate(&self.root)?, DIRECTORIES))
    }

    fn sync(&self) -> Result<(), ApplyError> {
        rustix::fs::syncfs(&self.root).map_err(|errno| ApplyError::Io("sync", String::new(), errno.into()))
    }
}

/// Refuses a target that is plainly too small, before anything is written.
fn check_space(manifest: &Manifest, selection: &Selection, root: impl AsFd) -> Result<(), ApplyError> {
    let stat =
        rustix::fs::fstatvfs(root).map_err(|errno| ApplyError::Io("examine", String::new(), errno.into()))?;
    let wanted = manifest.files().filter(|&(index, _)| selection.has(index));
    let needed: u64 = wanted.map(|(_, content)| content.allocated()).sum();
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    if needed > free {
        return Err(ApplyError::NoSpace {
            free: Bytes(free).to_string(),
            needed: Bytes(needed).to_string(),
        });
    }
    Ok(())
}
