//! Scanning: one walk over a tree that reads, hashes and hands on everything once.
//!
//! The bytes that are handed on are the bytes that were hashed. A file that changes while it is read is read again; one
//! that will not hold still is taken as it was last read, and named in the report.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::ENTRIES;

use super::entry::{ScannedContent, ScannedEntry, ScannedKind};
use super::read::ContentScanner;
use crate::fs::{self, DirStack, FsError, Kind, Listing, Shown, Stat};

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// What a scan leaves out.
pub struct ScanScope<'a> {
    /// Whether a path below the root is excluded; an excluded directory is not entered. The flag says "a directory".
    pub excluded: &'a dyn Fn(&[u8], bool) -> bool,
    /// Mount points below the root whose content is not entered: pseudo and network file systems, for example.
    pub closed: &'a HashSet<Vec<u8>>,
}

impl std::fmt::Debug for ScanScope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScanScope")
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

/// Takes what a scan finds.
pub trait ScanSink {
    /// Why the sink cannot go on.
    type Error: From<ScanError>;

    /// A file is about to be read, or read again because it changed meanwhile. What is known of an unchanged file need
    /// not be read.
    fn file(&mut self, directory: &[u8], name: &[u8], stat: &Stat) -> Attempt {
        let _ = (directory, name, stat);
        Attempt::Read
    }

    /// Whether the bytes of a part of that file, at this offset, are wanted.
    fn lacks(&mut self, part: &PartId, offset: u64) -> bool;

    /// Takes the bytes of a part that was wanted.
    ///
    /// # Errors
    /// The sink's own.
    fn part(&mut self, id: PartId, bytes: &[u8]) -> Result<(), Self::Error>;

    /// Takes an entry; its index is the number of entries before it. The parts of a file come before its entry.
    ///
    /// # Errors
    /// The sink's own.
    fn entry(&mut self, entry: ScannedEntry) -> Result<(), Self::Error>;
}

/// What is done about a file.
#[derive(Debug)]
pub enum Attempt {
    /// It is read.
    Read,
    /// It is known to have this content.
    Known(ScannedContent),
}

/// A scan failed.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// The tree cannot be read.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file cannot be read.
    #[error("cannot read /{0}")]
    Read(String, #[source] std::io::Error),
    /// A file is larger than a manifest can describe.
    #[error("/{0} has {1} bytes; a file of at most 2^44 bytes can be captured: exclude it")]
    TooLarge(String, u64),
    /// More entries than a manifest can hold.
    #[error("the tree has more paths than a version can hold (16 million): exclude some")]
    TooMany,
}

/// What a scan did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanReport {
    /// Entries found.
    pub entries: u64,
    /// Regular files among them, hard links counted once.
    pub files: u64,
    /// Bytes of file content read.
    pub bytes_read: u64,
    /// Paths left out by the exclusion list.
    pub excluded: u64,
    /// Files that changed each time they were read.
    pub unsettled: Vec<String>,
    /// Paths that vanished between being listed and being read.
    pub vanished: Vec<String>,
}

/// Scans the tree below `root`.
///
/// # Errors
/// The sink's, or [`ScanError`] for what cannot be read. What vanishes meanwhile is no error.
pub fn scan<S: ScanSink>(root: OwnedFd, scope: &ScanScope<'_>, sink: &mut S) -> Result<ScanReport, S::Error> {
    let mut scan = Scan {
        scope,
        sink,
        report: ScanReport::default(),
        links: HashMap::new(),
        contents: ContentScanner::new(),
        entries: 0,
    };
    scan.run(root)?;
    Ok(scan.report)
}

struct Scan<'a, S> {
    scope: &'a ScanScope<'a>,
    sink: &'a mut S,
    report: ScanReport,
    /// Inodes with several names, and the entry that has the inode.
    links: HashMap<(fs::Device, u64), u32>,
    contents: ContentScanner,
    entries: u32,
}

/// A directory whose names are being gone through.
struct Open {
    listing: Listing,
    next: usize,
    entry: u32,
}

/// Why an entry could not be taken: what vanished meanwhile is told from the rest.
enum Stopped<E> {
    Fs(FsError),
    Sink(E),
}

impl<S: ScanSink> Scan<'_, S> {
    fn run(&mut self, root: OwnedFd) -> Result<(), S::Error> {
        let mut stack = DirStack::new(root).map_err(ScanError::from)?;
        let stat = fs::stat_fd(stack.current()).map_err(ScanError::from)?;
        let mut open = vec![self.directory(&stack, 0, stat)?];
        while let Some(level) = open.last_mut() {
            let Some((name, _)) = level.listing.get(level.next) else {
                open.pop();
                if !open.is_empty() {
                    stack.leave().map_err(ScanError::from)?;
                }
                continue;
            };
            level.next += 1;
            let (name, parent) = (name.to_vec(), level.entry);
            if let Some(directory) = self.name(&mut stack, parent, &name)? {
                open.push(directory);
            }
        }
        Ok(())
    }

    /// Takes one name; a directory that is to be gone through is returned, and the stack stands in it.
    fn name(&mut self, stack: &mut DirStack, parent: u32, name: &[u8]) -> Result<Option<Open>, S::Error> {
        let path = crate::apply::join(stack.path(), name);
        let stat = match fs::stat(stack.current(), name) {
            Err(error) if error.is_absent() => return Ok(self.vanished(&path)),
            other => other.map_err(|error| ScanError::from(error.under(stack.path())))?,
        };
        if (self.scope.excluded)(&path, stat.kind == Kind::Dir) {
            self.report.excluded += 1;
            return Ok(None);
        }
        if stat.kind == Kind::Dir {
            return match stack.enter(name) {
                Err(error) if error.is_absent() => Ok(self.vanished(&path)),
                Err(error) => Err(ScanError::from(error).into()),
                Ok(stat) => self.directory(stack, parent, stat).map(Some),
            };
        }
        if let Some(entry) = self.other(stack, parent, name, &path, stat)? {
            self.push(entry)?;
        }
        Ok(None)
    }

    fn directory(&mut self, stack: &DirStack, parent: u32, stat: Stat) -> Result<Open, S::Error> {
        let here = |error: FsError| ScanError::from(error.under(stack.path()));
        let mut meta = stat.meta;
        meta.xattrs = fs::read_xattrs_fd(stack.current()).map_err(here)?;
        let closed = self.scope.closed.contains(stack.path());
        let listing = if closed {
            Listing::default()
        } else {
            fs::list(stack.current()).map_err(here)?
        };
        let name = stack.name().into();
        let entry = self.push(ScannedEntry {
            parent,
            name,
            kind: ScannedKind::Directory,
            meta,
        })?;
        Ok(Open {
            listing,
            next: 0,
            entry,
        })
    }

    /// Anything but a directory; `None` when it vanished.
    fn other(
        &mut self,
        stack: &DirStack,
        parent: u32,
        name: &[u8],
        path: &[u8],
        stat: Stat,
    ) -> Result<Option<ScannedEntry>, S::Error> {
        let id = (stat.nlink > 1).then(|| stat.id());
        let linked = id.and_then(|id| self.links.get(&id).copied());
        let found = match (linked, stat.kind) {
            (Some(to), _) => Ok((ScannedKind::HardLink(to), stat.meta)),
            (None, Kind::File) => self.file(stack, name, path),
            (None, _) => special(stack, name, stat).map_err(|error| Stopped::Fs(error.under(stack.path()))),
        };
        match found {
            Ok((kind, meta)) => {
                id.map(|id| self.links.entry(id).or_insert(self.entries));
                Ok(Some(ScannedEntry {
                    parent,
                    name: name.into(),
                    kind,
                    meta,
                }))
            }
            Err(Stopped::Fs(error)) if error.is_absent() => Ok(self.vanished(path)),
            Err(Stopped::Fs(error)) => Err(ScanError::from(error).into()),
            Err(Stopped::Sink(error)) => Err(error),
        }
    }

    /// Reads a file until it holds still.
    fn file(
        &mut self,
        stack: &DirStack,
        name: &[u8],
        path: &[u8],
    ) -> Result<(ScannedKind, fs::Meta), Stopped<S::Error>> {
        let here = |error: FsError| Stopped::Fs(error.under(stack.path()));
        self.report.files += 1;
        for attempt in 1.. {
            let last = attempt == ATTEMPTS;
            let (file, before) = fs::open_read(stack.current(), name).map_err(here)?;
            let mut meta = before.meta.clone();
            meta.xattrs = fs::read_xattrs_fd(&file).map_err(|error| here(error.under(name)))?;
            if let Attempt::Known(content) = self.sink.file(stack.path(), name, &before) {
                return Ok((ScannedKind::File(content), meta));
            }
            let (sink, bytes_read) = (&mut *self.sink, &mut self.report.bytes_read);
            let take = |offset, id, bytes: &[u8]| {
                *bytes_read += bytes.len() as u64;
                if sink.lacks(&id, offset) {
                    sink.part(id, bytes)
                } else {
                    Ok(())
                }
            };
            let content = self
                .contents
                .scan(&file, &before, path, last, take)
                .map_err(Stopped::Sink)?;
            let after = fs::stat_fd(&file).map_err(|error| here(error.under(name)))?;
            let changed = content.as_ref().is_none_or(|content| content.size != before.size)
                || (after.size, after.meta.mtime, after.ctime)
                    != (before.size, before.meta.mtime, before.ctime);
            if changed && !last {
                continue;
            }
            if changed {
                self.report.unsettled.push(format!("/{}", Shown(path)));
            }
            return Ok((ScannedKind::File(content.unwrap_or_default()), meta));
        }
        unreachable!("the last attempt returns")
    }

    fn push(&mut self, entry: ScannedEntry) -> Result<u32, S::Error> {
        let index = self.entries;
        if index as usize >= ENTRIES {
            return Err(ScanError::TooMany.into());
        }
        self.entries += 1;
        self.report.entries += 1;
        self.sink.entry(entry)?;
        Ok(index)
    }

    fn vanished<T>(&mut self, path: &[u8]) -> Option<T> {
        self.report.vanished.push(format!("/{}", Shown(path)));
        None
    }
}

fn special(stack: &DirStack, name: &[u8], stat: Stat) -> Result<(ScannedKind, fs::Meta), FsError> {
    let kind = match stat.kind {
        Kind::Symlink => ScannedKind::Symlink(fs::read_link(stack.current(), name)?),
        Kind::CharDevice => ScannedKind::CharDevice(stat.rdev),
        Kind::BlockDevice => ScannedKind::BlockDevice(stat.rdev),
        Kind::Fifo => ScannedKind::Fifo,
        Kind::Socket => ScannedKind::Socket,
        Kind::File | Kind::Dir => unreachable!("the caller takes files and directories itself"),
    };
    let mut meta = stat.meta;
    meta.xattrs = fs::read_xattrs_at(stack.current(), name)?;
    Ok((kind, meta))
}
