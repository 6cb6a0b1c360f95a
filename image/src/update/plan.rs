//! The plan of an update: what will be done to every path, found without changing anything.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use serde::Serialize;
use simulcast_protocol::limits::PART_BYTES;

use super::directory::{check_directory, reaches};
use super::extra::{Doomed, Extras};
use super::local::{Installed, hash};
use super::sources::Sources;
use super::{KEPT, STAGE, UpdateError};
use crate::apply::{Visitor, compare, join};
use crate::filter::Side;
use crate::fs::{self, Device, DirCache, DirStack, FsError, Kind as FsKind, Meta, Stat};
use crate::manifest::{Entry, FileContent, Kind, Manifest, content_id};

/// Directories that are kept open while extra files are read.
const DIRECTORIES: usize = 64;

/// How a plan is made.
pub struct PlanOptions<'a> {
    /// What is protected: not written where the sender's side excludes it, not deleted where the receiver's does. The
    /// flag says that the path is a directory.
    pub protects: &'a dyn Fn(Side, &[u8], bool) -> bool,
    /// Whether what the version does not have is deleted.
    pub delete: bool,
    /// Whether every file is read, instead of trusting length and time of those that `installed` knows.
    pub checksum: bool,
    /// What was installed here last, if that is known.
    pub installed: Option<&'a Manifest>,
    /// The directory outside which nothing is looked at or changed: names joined by `/`, empty for the whole tree.
    pub directory: &'a [u8],
    /// Mount points below the root that are not entered: pseudo and network file systems.
    pub closed: &'a HashSet<Vec<u8>>,
}

impl std::fmt::Debug for PlanOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PlanOptions")
            .field("delete", &self.delete)
            .field("checksum", &self.checksum)
            .finish_non_exhaustive()
    }
}

/// What is done about one entry of the version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Nothing: it is right, or a directory that only gets its metadata if they differ.
    Keep,
    /// Nothing: it is protected.
    Protect,
    /// It is made new, or replaces what stands there.
    Write,
    /// Its metadata are changed.
    Meta,
}

/// The plan of an update.
#[derive(Debug)]
pub struct Plan<'m> {
    pub(super) manifest: &'m Manifest,
    pub(super) actions: Vec<Action>,
    pub(super) doomed: Vec<Doomed>,
    pub(super) sources: Sources,
    /// Directories that something else replaces, and what is in them: removed before anything is put in place.
    pub(super) cleared: Vec<Doomed>,
    /// Files that stand where a file of other content will be, and whose content the version before did not have.
    pub(super) altered: Vec<u32>,
    /// Entries that the version has and that cannot be written, because what is protected is in their way or is what they
    /// link to.
    pub(super) blocked: Vec<u32>,
    protected: u64,
    found: u64,
}

/// A plan in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Paths that are made new or replaced.
    pub written: u64,
    /// Bytes of content in them.
    pub written_bytes: u64,
    /// Of these, bytes that the tree has somewhere already.
    pub local_bytes: u64,
    /// Paths of which only metadata change.
    pub metadata: u64,
    /// Paths that are deleted.
    pub deleted: u64,
    /// Paths that the exclusion lists protect (a directory counts once).
    pub protected: u64,
    /// Paths that stay as they are.
    pub kept: u64,
}

impl<'m> Plan<'m> {
    /// Compares the tree below `root` with the version.
    ///
    /// # Errors
    /// [`UpdateError::Fs`] when the tree cannot be read.
    pub fn make(
        manifest: &'m Manifest,
        root: &OwnedFd,
        options: &PlanOptions<'_>,
    ) -> Result<Self, UpdateError> {
        check_directory(root, options.directory)?;
        let mut planner = Planner {
            options,
            installed: options.installed.map(Installed::new),
            plan: Self {
                manifest,
                actions: vec![Action::Protect; manifest.entries.len()],
                doomed: Vec::new(),
                sources: Sources::new(manifest),
                cleared: Vec::new(),
                altered: Vec::new(),
                blocked: Vec::new(),
                protected: 0,
                found: 0,
            },
            extras: Extras::default(),
            cleared: Extras::default(),
            inodes: HashMap::new(),
            local: HashMap::new(),
            buffer: vec![0; PART_BYTES],
        };
        let duplicate = || fs::duplicate(root);
        compare(manifest, duplicate()?, &mut planner)?;
        planner.read_extras(duplicate()?)?;
        let Planner {
            mut plan,
            extras,
            cleared,
            ..
        } = planner;
        plan.doomed = extras.doomed;
        plan.cleared = cleared.doomed;
        plan.protected += extras.protected + cleared.protected;
        Ok(plan)
    }

    /// The version that the tree is brought to.
    pub fn manifest(&self) -> &'m Manifest {
        self.manifest
    }

    /// What is done about each entry, with the entry's index.
    pub fn actions(&self) -> impl Iterator<Item = (u32, Action)> {
        (0..).zip(self.actions.iter().copied())
    }

    /// The paths that are deleted, in that order.
    pub fn deleted(&self) -> impl Iterator<Item = &[u8]> {
        let gone = self.cleared.iter().chain(&self.doomed);
        gone.map(|doomed| &doomed.path[..])
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        let none = |action: &Action| matches!(action, Action::Keep | Action::Protect);
        self.doomed.is_empty() && self.cleared.is_empty() && self.actions.iter().all(none)
    }

    /// Paths of the version that cannot be written: what is protected is in their way, or is what they link to.
    pub fn blocked(&self) -> impl Iterator<Item = Vec<u8>> {
        self.blocked.iter().map(|&index| self.manifest.path(index))
    }

    /// Whether so much of the tree would be deleted that a wrong `--root` or image is likely: more than 30 % of what is
    /// there, and more than 500 paths.
    pub fn deletes_suspiciously_much(&self) -> bool {
        let doomed = self.doomed.len() as u64;
        doomed > 500 && doomed * 10 > (self.found + doomed) * 3
    }

    /// The plan in numbers.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            deleted: self.deleted().count() as u64,
            protected: self.protected,
            ..Summary::default()
        };
        for (index, action) in self.actions() {
            match action {
                Action::Keep => summary.kept += 1,
                Action::Protect => {}
                Action::Meta => summary.metadata += 1,
                Action::Write => {
                    summary.written += 1;
                    if let Kind::File(content) = &self.manifest.entries[index as usize].kind {
                        summary.written_bytes += content.size();
                        let local = content
                            .parts()
                            .filter(|place| place.part.is_none_or(|part| self.sources.has(part)));
                        summary.local_bytes += local.map(|place| u64::from(place.len)).sum::<u64>();
                    }
                }
            }
        }
        summary
    }
}

struct Planner<'a, 'm> {
    options: &'a PlanOptions<'a>,
    installed: Option<Installed<'a>>,
    plan: Plan<'m>,
    extras: Extras,
    cleared: Extras,
    /// Inodes of the tree with several names, and the entry that each was taken for.
    inodes: HashMap<(Device, u64), u32>,
    /// For entries that others link to: the inode that stands at their path, if it is right.
    local: HashMap<u32, (Device, u64)>,
    buffer: Vec<u8>,
}

impl Visitor for Planner<'_, '_> {
    type Error = UpdateError;

    fn skips(&mut self, side: Side, path: &[u8], directory: bool) -> bool {
        if path.starts_with(STAGE) && !path.contains(&b'/') {
            return false;
        }
        if !self.is_looked_at(path) {
            return true;
        }
        let protected = (self.options.protects)(side, path, directory);
        self.plan.protected += u64::from(protected);
        protected
    }

    fn is_hidden_only(&mut self, path: &[u8], directory: bool) -> bool {
        let hidden = self.is_looked_at(path) && !(self.options.protects)(Side::Receiver, path, directory);
        // It was counted as protected for the sender's side.
        self.plan.protected -= u64::from(hidden);
        hidden
    }

    fn entry(&mut self, dir: &DirStack, index: u32, found: Option<&Stat>) -> Result<(), UpdateError> {
        let manifest = self.plan.manifest;
        let entry = &manifest.entries[index as usize];
        self.plan.found += u64::from(found.is_some());
        self.plan.actions[index as usize] = match found {
            _ if self.is_on_the_way(index) => Action::Keep,
            _ if self.links_to_nothing(entry) => self.block(index),
            None => Action::Write,
            Some(found) if index == 0 => differing(fs::read_xattrs_fd(dir.current())?, found, &entry.meta),
            // What is mounted there has metadata of its own.
            Some(found) if found.mount_root && self.options.closed.contains(&manifest.path(index)) => {
                Action::Keep
            }
            Some(found) => self.existing(dir, index, entry, found)?,
        };
        Ok(())
    }

    fn extra(&mut self, dir: &DirStack, name: &[u8], found: &Stat) -> Result<(), UpdateError> {
        if self.options.delete || name.starts_with(STAGE) {
            let protects = self.options.protects;
            let stage = name.starts_with(STAGE) && dir.depth() == 0;
            self.extras.take(dir, name, found, &mut |path, directory| {
                !stage && protects(Side::Receiver, path, directory)
            })?;
        }
        Ok(())
    }
}

impl Planner<'_, '_> {
    /// An entry whose path exists in the tree.
    fn existing(
        &mut self,
        dir: &DirStack,
        index: u32,
        entry: &Entry,
        found: &Stat,
    ) -> Result<Action, UpdateError> {
        if found.kind == FsKind::Dir && entry.kind != Kind::Directory {
            let (mut gone, protects) = (Extras::default(), self.options.protects);
            gone.take(dir, &entry.name, found, &mut |path, directory| {
                protects(Side::Receiver, path, directory)
            })?;
            // What is protected in it keeps it there, and with it the rest.
            if gone.protected > 0 || !self.options.delete {
                self.plan.protected += gone.protected;
                return Ok(self.block(index));
            }
            self.cleared.doomed.append(&mut gone.doomed);
            self.cleared.files.append(&mut gone.files);
        }
        let same_kind = match (&entry.kind, found.kind) {
            (Kind::Directory, FsKind::Dir) => true,
            (Kind::HardLink(to), _) => return Ok(self.link(*to, found)),
            (Kind::File(content), FsKind::File) => self.file(dir, index, entry, content, found)?,
            (Kind::Symlink(target), FsKind::Symlink) => {
                *fs::read_link(dir.current(), &entry.name).map_err(|error| error.under(dir.path()))?
                    == **target
            }
            (Kind::CharDevice(device), FsKind::CharDevice)
            | (Kind::BlockDevice(device), FsKind::BlockDevice) => *device == found.rdev,
            (Kind::Fifo, FsKind::Fifo) | (Kind::Socket, FsKind::Socket) => true,
            _ => false,
        };
        // An inode that two entries share in the tree but not in the version must be parted.
        let shared = found.nlink > 1
            && found.kind != FsKind::Dir
            && *self.inodes.entry(found.id()).or_insert(index) != index;
        if !same_kind || shared {
            return Ok(Action::Write);
        }
        self.local.insert(index, found.id());
        let xattrs = fs::read_xattrs_at(dir.current(), &entry.name);
        Ok(differing(
            xattrs.map_err(|error| error.under(dir.path()))?,
            found,
            &entry.meta,
        ))
    }

    /// Whether a path is the update's business at all, whatever the lists say.
    fn is_looked_at(&self, path: &[u8]) -> bool {
        let above = path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at]);
        path != KEPT
            && reaches(self.options.directory, path)
            && !above.is_some_and(|above| self.options.closed.contains(above))
    }

    /// Whether an entry is a directory that only leads to the one that is to be updated.
    fn is_on_the_way(&self, index: u32) -> bool {
        let wanted = self.options.directory;
        !wanted.is_empty() && {
            let path = self.plan.manifest.path(index);
            path.len() < wanted.len() && reaches(wanted, &path)
        }
    }

    /// Whether it is a further name of a file that this update leaves alone: what stands there is another inode, on
    /// purpose.
    fn links_to_nothing(&self, entry: &Entry) -> bool {
        matches!(entry.kind, Kind::HardLink(to) if self.plan.actions[to as usize] == Action::Protect)
    }

    fn block(&mut self, index: u32) -> Action {
        self.plan.blocked.push(index);
        Action::Protect
    }

    fn link(&mut self, to: u32, found: &Stat) -> Action {
        if self.local.get(&to) == Some(&found.id()) {
            Action::Keep
        } else {
            Action::Write
        }
    }

    /// Whether a file has the wanted content; what it has is noted as a source of bytes.
    fn file(
        &mut self,
        dir: &DirStack,
        index: u32,
        entry: &Entry,
        wanted: &FileContent,
        found: &Stat,
    ) -> Result<bool, UpdateError> {
        let manifest = self.plan.manifest;
        let known = match &mut self.installed {
            Some(installed) if !self.options.checksum => installed.content(dir.path(), &entry.name, found),
            _ => None,
        };
        if let (Some(known), Some(installed)) = (known, &self.installed) {
            self.plan
                .sources
                .add(dir.path(), &entry.name, &installed.parts(known));
            return Ok(installed.is_same(known, manifest, wanted));
        }
        let (file, stat) =
            fs::open_read(dir.current(), &entry.name).map_err(|error| error.under(dir.path()))?;
        let parts = hash(&file, &stat, &mut self.buffer)
            .map_err(|error| error.under(&join(dir.path(), &entry.name)))?;
        self.plan.sources.add(dir.path(), &entry.name, &parts);
        let same = stat.size == wanted.size()
            && content_id(stat.size, parts.into_iter()) == wanted.id(&manifest.parts);
        if !same {
            self.plan.altered.push(index);
        }
        Ok(same)
    }

    /// Reads the files that will be deleted, as far as parts are wanted that were not found elsewhere.
    fn read_extras(&mut self, root: OwnedFd) -> Result<(), UpdateError> {
        let manifest = self.plan.manifest;
        let wants = |plan: &Plan<'_>| {
            manifest.files().any(|(index, content)| {
                plan.actions[index as usize] == Action::Write
                    && content
                        .parts()
                        .any(|place| place.part.is_some_and(|part| !plan.sources.has(part)))
            })
        };
        let mut directories = DirCache::new(root, DIRECTORIES);
        let mut files = std::mem::take(&mut self.extras.files);
        files.append(&mut self.cleared.files);
        if !wants(&self.plan) {
            return Ok(());
        }
        for (directory, name, found) in files {
            let known = match &mut self.installed {
                Some(installed) if !self.options.checksum => installed
                    .content(&directory, &name, &found)
                    .map(|content| installed.parts(content)),
                _ => None,
            };
            let parts = match known {
                Some(parts) => parts,
                None => {
                    let read = |directories: &mut DirCache, buffer: &mut Vec<u8>| -> Result<_, FsError> {
                        let (file, stat) = fs::open_read(&*directories.open(&directory)?, &name)?;
                        hash(&file, &stat, buffer)
                    };
                    match read(&mut directories, &mut self.buffer) {
                        Ok(parts) => parts,
                        // A source that cannot be read is just no source.
                        Err(_) => continue,
                    }
                }
            };
            self.plan.sources.add(&directory, &name, &parts);
        }
        Ok(())
    }
}

/// Whether metadata must be changed. A symlink has no mode of its own.
fn differing(xattrs: Vec<fs::Xattr>, found: &Stat, wanted: &Meta) -> Action {
    let mut meta = Meta {
        xattrs,
        ..found.meta.clone()
    };
    if found.kind == FsKind::Symlink {
        meta.mode = wanted.mode;
    }
    if meta == *wanted {
        Action::Keep
    } else {
        Action::Meta
    }
}
