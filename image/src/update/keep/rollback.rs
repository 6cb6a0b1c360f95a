//! Going back to what was there before the last update, from what it kept.
//!
//! Every step may be done twice: a rollback that was interrupted is finished by the next. What was kept goes when all is
//! done, so that the rollback after that goes back one update further.

use std::os::fd::OwnedFd;

use rustix::io::Errno;
use serde::Serialize;
use simulcast_protocol::limits::{KEPT_RECORD_BYTES, UNDO_BYTES};

use super::undo::{self, Record, Was};
use super::{
    DIRECTORIES, FILES, Generation, RECORD, UNDO, UpdateError, failed, generations, open_all, read_bounded,
    split, sync,
};
use crate::fs::{self, Dir, DirCache, FsError, Kind, Limitation, Meta};
use crate::update::STAGE;

/// What would be brought back.
#[derive(Debug)]
pub struct Rollback {
    root: OwnedFd,
    all: OwnedFd,
    generation: Generation,
    records: Vec<Record>,
    record: Option<Vec<u8>>,
}

/// A rollback in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RollbackSummary {
    /// Paths that get back what stood there.
    pub restored: u64,
    /// Paths that get back their metadata alone.
    pub metadata: u64,
    /// Paths that the update made, and that go.
    pub removed: u64,
    /// Whether the update that is undone was interrupted.
    pub interrupted: bool,
}

/// What a rollback did.
#[derive(Debug)]
pub struct RollbackReport {
    /// The numbers.
    pub summary: RollbackSummary,
    /// Directories that the update made and that stay, because they hold what was put there since.
    pub stayed: Vec<String>,
    /// Metadata that the file system could not hold, with the path.
    pub limited: Vec<(String, Limitation)>,
    /// What [`super::super::Update::commit`] was given as the record of the version before.
    pub record: Option<Vec<u8>>,
}

impl Rollback {
    /// Finds what the last update kept; `None` when nothing is kept. Changes nothing.
    ///
    /// # Errors
    /// [`UpdateError::Undo`] when it is damaged; [`UpdateError::Fs`].
    pub fn find(root: OwnedFd) -> Result<Option<Self>, UpdateError> {
        let Some(all) = open_all(&root)? else {
            return Ok(None);
        };
        for &generation in generations(&all)?.iter().rev() {
            let place = fs::open_dir(&all, &generation.name())?;
            // An update that was interrupted before it had its list had changed nothing.
            let Some(bytes) = read_bounded(&place, UNDO, UNDO_BYTES)? else {
                continue;
            };
            return Ok(Some(Self {
                records: undo::decode(&bytes)?,
                record: read_bounded(&place, RECORD, KEPT_RECORD_BYTES)?,
                root,
                all,
                generation,
            }));
        }
        Ok(None)
    }

    /// What would be done, path by path.
    pub fn steps(&self) -> impl Iterator<Item = (&'static str, &[u8])> {
        self.records.iter().map(|record| {
            let what = match record.was {
                Was::Absent => "remove",
                Was::Directory(_) | Was::Meta(..) => "metadata",
                _ => "restore",
            };
            (what, &record.path[..])
        })
    }

    /// The numbers.
    pub fn summary(&self) -> RollbackSummary {
        let mut summary = RollbackSummary {
            interrupted: self.generation.open,
            ..RollbackSummary::default()
        };
        for (what, _) in self.steps() {
            match what {
                "remove" => summary.removed += 1,
                "metadata" => summary.metadata += 1,
                _ => summary.restored += 1,
            }
        }
        summary
    }

    /// Does it.
    ///
    /// # Errors
    /// [`UpdateError::Occupied`] before anything is changed; otherwise start again, and the rest is done.
    pub fn apply(mut self) -> Result<RollbackReport, UpdateError> {
        // Parents before what is in them.
        self.records.sort_by(|one, other| one.path.cmp(&other.path));
        let place = fs::open_dir(&self.all, &self.generation.name())?;
        let mut work = Work {
            files: fs::open_dir(&place, FILES)?,
            directories: DirCache::new(fs::duplicate(&self.root)?, DIRECTORIES),
            limited: Vec::new(),
            stayed: Vec::new(),
        };
        for record in &self.records {
            work.make_room(record, &self.records)?;
        }
        let mut in_order: Vec<&Record> = self.records.iter().collect();
        in_order.sort_by_key(|record| record.rank());
        for record in in_order {
            work.restore(record)?;
        }
        for record in self.records.iter().rev() {
            work.settle(record)?;
        }
        sync(&self.root)?;
        fs::remove_tree(&self.all, &self.generation.name())?;
        // Removing it changed the time of the directory that has it, which is not the tree's own.
        sync(&self.root)?;
        Ok(RollbackReport {
            summary: self.summary(),
            stayed: work.stayed,
            limited: work.limited,
            record: self.record,
        })
    }
}

struct Work {
    files: OwnedFd,
    directories: DirCache,
    limited: Vec<(String, Limitation)>,
    stayed: Vec<String>,
}

impl Work {
    /// Where something else than a directory comes back and a directory stands now: what the update put in it goes.
    fn make_room(&mut self, record: &Record, all: &[Record]) -> Result<(), UpdateError> {
        if !matches!(record.was, Was::File { .. } | Was::Symlink(..) | Was::Node(..)) {
            return Ok(());
        }
        let (parent, name) = split(&record.path);
        let Some(dir) = self.open(parent)? else {
            return Ok(());
        };
        match fs::stat(&*dir, name) {
            Ok(found) if found.kind == Kind::Dir => {}
            _ => return Ok(()),
        }
        let mut below = record.path.clone();
        below.push(b'/');
        for made in all.iter().rev().filter(|other| other.path.starts_with(&below)) {
            if made.was == Was::Absent {
                self.remove(&made.path)?;
            }
        }
        self.directories.forget(&record.path);
        match fs::remove(&*dir, name) {
            Err(error) if is_not_empty(&error) => {
                Err(UpdateError::Occupied(fs::Shown(&record.path).to_string()))
            }
            Err(error) if !error.is_absent() => Err(error.under(parent).into()),
            _ => Ok(()),
        }
    }

    fn restore(&mut self, record: &Record) -> Result<(), UpdateError> {
        let (parent, name) = split(&record.path);
        if name.is_empty() || matches!(record.was, Was::Absent | Was::Meta(..)) {
            return Ok(());
        }
        let Some(dir) = self.open(parent)? else {
            return Ok(());
        };
        let here = |error: FsError| error.under(parent);
        let beside = [STAGE, b"back"].concat();
        fs::remove_if_there(&*dir, &beside).map_err(here)?;
        match &record.was {
            Was::Directory(_) => {
                let stands = fs::stat(&*dir, name).ok().map(|found| found.kind);
                if stands.is_some_and(|kind| kind != Kind::Dir) {
                    fs::remove_if_there(&*dir, name).map_err(here)?;
                }
                if stands != Some(Kind::Dir) {
                    fs::make_dir(&*dir, name).map_err(here)?;
                }
                return Ok(());
            }
            Was::File { kept, meta } => self.file(&dir, parent, &beside, *kept, meta)?,
            Was::Symlink(target, _) => fs::make_symlink(&*dir, &beside, target).map_err(here)?,
            Was::Node(kind, device, _) => fs::make_node(&*dir, &beside, *kind, *device).map_err(here)?,
            Was::Absent | Was::Meta(..) => unreachable!("these have returned"),
        }
        if let Was::Symlink(_, meta) | Was::Node(_, _, meta) = &record.was {
            let kind = fs::stat(&*dir, &beside).map_err(here)?.kind;
            let found = fs::apply_meta_at(&*dir, &beside, kind, meta).map_err(here)?;
            self.note(&record.path, found);
        }
        fs::rename(&*dir, &beside, &*dir, name).map_err(here)?;
        // When both were names of one inode already, rename(2) leaves the first in place.
        Ok(fs::remove_if_there(&*dir, &beside).map_err(here)?)
    }

    /// Makes `beside` a name of a file that was kept, or a copy of it.
    fn file(
        &mut self,
        dir: &Dir,
        parent: &[u8],
        beside: &[u8],
        kept: u32,
        meta: &Meta,
    ) -> Result<(), UpdateError> {
        let kept = kept.to_string().into_bytes();
        let here = |error: FsError| error.under(parent);
        match fs::hard_link(&self.files, &kept, dir, beside) {
            Err(error) if matches!(error.errno(), Some(Errno::XDEV | Errno::MLINK)) => {
                let (from, _) = fs::open_read(&self.files, &kept)?;
                let to = fs::create_file(dir, beside).map_err(here)?;
                fs::copy_data(&from, &to)
                    .and_then(|()| to.sync_all())
                    .map_err(|error| failed("bring back", &kept, error))?;
            }
            other => other.map_err(here)?,
        }
        let found = fs::apply_meta_at(dir, beside, Kind::File, meta).map_err(here)?;
        self.note(parent, found);
        Ok(())
    }

    /// Removes what the update made, and gives back metadata; deepest first.
    fn settle(&mut self, record: &Record) -> Result<(), UpdateError> {
        let (kind, meta) = match &record.was {
            Was::Absent => return self.remove(&record.path),
            Was::Directory(meta) => {
                self.clear_stages(&record.path)?;
                (Kind::Dir, meta)
            }
            Was::Meta(kind, meta) => (*kind, meta),
            _ => return Ok(()),
        };
        let (parent, name) = split(&record.path);
        let limited = if name.is_empty() {
            fs::apply_meta_fd(&*self.directories.open(b"")?, meta)?
        } else {
            let Some(dir) = self.open(parent)? else {
                return Ok(());
            };
            match fs::stat(&*dir, name) {
                Ok(found) if found.kind == kind => {
                    fs::apply_meta_at(&*dir, name, kind, meta).map_err(|error| error.under(parent))?
                }
                _ => return Ok(()),
            }
        };
        self.note(&record.path, limited);
        Ok(())
    }

    /// Removes what an update or a rollback that was interrupted has left in a directory.
    fn clear_stages(&mut self, path: &[u8]) -> Result<(), UpdateError> {
        let Some(dir) = self.open(path)? else {
            return Ok(());
        };
        for (name, _) in fs::list(&*dir)?
            .iter()
            .filter(|(name, _)| name.starts_with(STAGE))
        {
            fs::remove_tree(&*dir, name).map_err(|error| error.under(path))?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8]) -> Result<(), UpdateError> {
        let (parent, name) = split(path);
        let Some(dir) = self.open(parent)? else {
            return Ok(());
        };
        self.directories.forget(path);
        match fs::remove_if_there(&*dir, name) {
            Err(error) if is_not_empty(&error) => self.stayed.push(format!("/{}", fs::Shown(path))),
            other => other.map_err(|error| error.under(parent))?,
        }
        Ok(())
    }

    /// A directory, if it is there.
    fn open(&mut self, path: &[u8]) -> Result<Option<std::sync::Arc<Dir>>, UpdateError> {
        match self.directories.open(path) {
            Err(error) if error.is_absent() || error.is_not_a_directory() => Ok(None),
            other => Ok(Some(other?)),
        }
    }

    fn note(&mut self, path: &[u8], limited: Vec<Limitation>) {
        let path = format!("/{}", fs::Shown(path));
        self.limited
            .extend(limited.into_iter().map(|l| (path.clone(), l)));
    }
}

fn is_not_empty(error: &FsError) -> bool {
    matches!(error.errno(), Some(Errno::NOTEMPTY | Errno::EXIST))
}
