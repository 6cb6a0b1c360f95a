//! Filling one directory of what is kept.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use simulcast_protocol::limits::{KEPT_RECORD_BYTES, UNDO_BYTES};

use super::undo::{self, Record, Was};
use super::{DIRECTORIES, FILES, Generation, RECORD, UNDO, read_bounded, split, write_whole};
use crate::apply::{ApplyError, join};
use crate::fs::{self, Device, Dir, DirCache, FsError, Kind as FsKind, Meta};
use crate::update::UpdateError;

/// Fills one directory of what is kept.
pub(super) struct Keeper {
    place: OwnedFd,
    files: OwnedFd,
    directories: DirCache,
    records: Vec<Record>,
    known: HashSet<Vec<u8>>,
    /// Inodes that have been kept already, under which number.
    inodes: HashMap<(Device, u64), u32>,
    next: u32,
}

impl Keeper {
    pub(super) fn open(all: &OwnedFd, generation: Generation, root: &OwnedFd) -> Result<Self, UpdateError> {
        let name = generation.name();
        let make = |dir: &OwnedFd, name: &[u8]| match fs::make_dir(dir, name) {
            Err(error) if error.errno() == Some(Errno::EXIST) => Ok(()),
            other => other,
        };
        make(all, &name)?;
        let place = fs::open_dir(all, &name)?;
        make(&place, FILES)?;
        let files = fs::open_dir(&place, FILES)?;
        let records = match read_bounded(&place, UNDO, UNDO_BYTES)? {
            Some(bytes) => undo::decode(&bytes)?,
            None => Vec::new(),
        };
        // Names of what was interrupted before its list was written belong to nothing.
        let listed = records.iter().filter_map(Record::kept).max().map_or(0, |n| n + 1);
        let stray: Vec<Vec<u8>> = fs::list(&files)?
            .iter()
            .filter(|(name, _)| number(name).is_none_or(|number| number >= listed))
            .map(|(name, _)| name.to_vec())
            .collect();
        for name in stray {
            fs::remove(&files, &name)?;
        }
        let known = records.iter().map(|record| record.path.clone()).collect();
        Ok(Self {
            place,
            files,
            directories: DirCache::new(fs::duplicate(root)?, DIRECTORIES),
            records,
            known,
            inodes: HashMap::new(),
            next: listed,
        })
    }

    /// Keeps what stands at a path.
    pub(super) fn take(&mut self, path: &[u8]) -> Result<(), UpdateError> {
        if !self.known.insert(path.to_vec()) {
            return Ok(());
        }
        let was = self.look(path, false)?;
        self.records.push(Record {
            path: path.to_vec(),
            was,
        });
        Ok(())
    }

    /// Keeps the metadata of the root.
    pub(super) fn take_root(&mut self, meta: &Meta) {
        if self.known.insert(Vec::new()) {
            self.records.push(Record {
                path: Vec::new(),
                was: Was::Directory(meta.clone()),
            });
        }
    }

    /// Keeps the metadata of what stands at a path.
    pub(super) fn take_meta(&mut self, path: &[u8]) -> Result<(), UpdateError> {
        if !self.known.insert(path.to_vec()) {
            return Ok(());
        }
        let was = self.look(path, true)?;
        if was != Was::Absent {
            self.records.push(Record {
                path: path.to_vec(),
                was,
            });
        }
        Ok(())
    }

    fn look(&mut self, path: &[u8], meta_only: bool) -> Result<Was, UpdateError> {
        let (parent, name) = split(path);
        let here = |error: FsError| error.under(parent);
        let found = self
            .directories
            .open(parent)
            .and_then(|dir| Ok((fs::stat(&*dir, name).map_err(here)?, dir)));
        let (found, dir) = match found {
            Err(error) if error.is_absent() || error.is_not_a_directory() => return Ok(Was::Absent),
            other => other?,
        };
        let mut meta = found.meta.clone();
        meta.xattrs = fs::read_xattrs_at(&*dir, name).map_err(here)?;
        Ok(match found.kind {
            FsKind::Dir => Was::Directory(meta),
            kind if meta_only => Was::Meta(kind, meta),
            FsKind::File => {
                let kept = match self.inodes.get(&found.id()) {
                    Some(&kept) => kept,
                    None => {
                        let kept = self.keep_file(&dir, name).map_err(|error| error.under(parent))?;
                        self.inodes.insert(found.id(), kept);
                        kept
                    }
                };
                Was::File { kept, meta }
            }
            FsKind::Symlink => Was::Symlink(fs::read_link(&*dir, name).map_err(here)?, meta),
            kind => Was::Node(kind, found.rdev, meta),
        })
    }

    /// Gives the file a further name among what is kept, or copies it.
    fn keep_file(&mut self, dir: &Dir, name: &[u8]) -> Result<u32, KeepFailed> {
        let number = self.next;
        self.next += 1;
        let kept = number.to_string().into_bytes();
        match fs::hard_link(dir, name, &self.files, &kept) {
            Err(error) if matches!(error.errno(), Some(Errno::XDEV | Errno::MLINK | Errno::PERM)) => {
                let (from, _) = fs::open_read(dir, name)?;
                let to = fs::create_file(&self.files, &kept)?;
                fs::copy_data(&from, &to).map_err(|error| KeepFailed::Copy(name.to_vec(), error))?;
            }
            other => other?,
        }
        Ok(number)
    }

    /// Writes the list.
    pub(super) fn close(self, record: Option<&[u8]>) -> Result<(), UpdateError> {
        // What an interrupted update found is what the machine had.
        let is_there = fs::stat(&self.place, RECORD).is_ok();
        if let Some(record) = record.filter(|record| !is_there && record.len() <= KEPT_RECORD_BYTES) {
            write_whole(&self.place, RECORD, record)?;
        }
        write_whole(&self.place, UNDO, &undo::encode(&self.records))
    }
}

enum KeepFailed {
    Fs(FsError),
    Copy(Vec<u8>, io::Error),
}

impl From<FsError> for KeepFailed {
    fn from(error: FsError) -> Self {
        Self::Fs(error)
    }
}

impl KeepFailed {
    fn under(self, directory: &[u8]) -> UpdateError {
        match self {
            Self::Fs(error) => error.under(directory).into(),
            Self::Copy(name, error) => {
                let path = fs::Shown(&join(directory, &name)).to_string();
                ApplyError::Io("keep a copy of", path, error).into()
            }
        }
    }
}

fn number(name: &[u8]) -> Option<u32> {
    std::str::from_utf8(name).ok()?.parse().ok()
}
