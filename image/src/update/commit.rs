//! Carrying out a plan: build beside the tree, sync, keep what goes, rename in a safe order, delete last.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;
use simulcast_protocol::units::Bytes;

use super::extra::Doomed;
use super::keep::{Kept, drop_oldest};
use super::place::Placing;
use super::plan::{Action, Plan, Summary};
use super::rank::in_order;
use super::{STAGE, UpdateError};
use crate::apply::{ApplyError, Home, Limited, Worker, Writer, staged_name};
use crate::fs::{self, DirCache, Meta};
use crate::manifest::{Entry, Kind};

/// Directories that are kept open while things are put in place.
const DIRECTORIES: usize = 256;

/// How an update ends.
#[derive(Debug, Clone, Copy)]
pub struct CommitOptions<'a> {
    /// Updates that can be undone afterwards, this one included; none keeps nothing.
    pub keep: usize,
    /// What the machine's record of its version says before; a rollback gives it back.
    pub record: Option<&'a [u8]>,
}

/// An update whose new files are being built.
#[derive(Debug)]
pub struct Update<'m> {
    plan: Plan<'m>,
    root: OwnedFd,
    stage: Arc<OwnedFd>,
    stage_name: Vec<u8>,
    writer: Writer<'m>,
    local_bytes: u64,
    /// What the root had: building in it changes its time.
    root_before: Meta,
}

/// What an update did.
#[derive(Debug)]
pub struct UpdateReport {
    /// The plan that was carried out.
    pub summary: Summary,
    /// Bytes of new files that came from the tree itself.
    pub local_bytes: u64,
    /// Metadata that the file system could not hold.
    pub limited: Vec<Limited>,
}

impl<'m> Update<'m> {
    /// Makes the staging directory and builds in it what the tree has the bytes for.
    ///
    /// # Errors
    /// [`UpdateError::NoSpace`] before anything is written; else what the file system refuses. The tree is unchanged.
    pub fn begin(plan: Plan<'m>, root: OwnedFd) -> Result<Self, UpdateError> {
        let manifest = plan.manifest;
        make_space(&plan, &root)?;
        let mut root_before = fs::stat_fd(&root)?.meta;
        root_before.xattrs = fs::read_xattrs_fd(&root)?;
        let (stage_name, stage) = make_stage(&root)?;
        // Until the commit the tree is as it was.
        fs::apply_meta_fd(&root, &root_before)?;
        let stage = Arc::new(stage);
        let writes: Vec<bool> = plan
            .actions
            .iter()
            .map(|&action| action == Action::Write)
            .collect();
        let writer = Writer::new(manifest, Home::Stage(Arc::clone(&stage)), |index| {
            writes[index as usize]
        });
        let mut update = Self {
            plan,
            root,
            stage,
            stage_name,
            writer,
            local_bytes: 0,
            root_before,
        };
        update
            .writer
            .files_without_parts(|index| writes[index as usize])?;
        update.special_files()?;
        let mut worker = update.writer.worker()?;
        let mut directories = update.directories()?;
        update.local_bytes =
            update
                .plan
                .sources
                .fill(manifest, &mut directories, &update.writer, &mut worker)?;
        Ok(update)
    }

    /// Takes the chunks.
    pub fn writer(&self) -> &Writer<'m> {
        &self.writer
    }

    /// A worker for [`Update::writer`].
    ///
    /// # Errors
    /// As [`Writer::worker`].
    pub fn worker(&self) -> Result<Worker, ApplyError> {
        self.writer.worker()
    }

    /// The plan that is carried out.
    pub fn plan(&self) -> &Plan<'m> {
        &self.plan
    }

    /// Files that somebody changed on this machine, still wanting parts: candidates for a rolling-checksum delta. The
    /// entry's path in the tree holds the basis.
    pub fn altered(&self) -> Vec<u32> {
        let wanting = |index: &u32| self.writer.is_waiting(*index);
        self.plan.altered.iter().copied().filter(wanting).collect()
    }

    /// Opens the file that stands in the tree where `entry` will be: the basis of a delta.
    ///
    /// # Errors
    /// [`UpdateError::Fs`] when it is gone.
    pub fn basis(&self, entry: u32) -> Result<(std::fs::File, fs::Stat), UpdateError> {
        let entry = &self.plan.manifest.entries[entry as usize];
        let directory = self.directories()?.open(&self.plan.manifest.path(entry.parent))?;
        Ok(fs::open_read(&*directory, &entry.name)?)
    }

    /// Gives up: removes what was staged. The tree is unchanged.
    ///
    /// # Errors
    /// [`UpdateError::Fs`].
    pub fn abandon(self) -> Result<(), UpdateError> {
        Ok(fs::remove_tree(&self.root, &self.stage_name)?)
    }

    /// Puts everything in place and deletes what goes.
    ///
    /// # Errors
    /// As [`Update::put_in_place`] and [`Placed::finish`].
    pub fn commit(self, options: CommitOptions<'_>) -> Result<UpdateReport, UpdateError> {
        self.put_in_place(options)?.finish()
    }

    /// Puts everything in place. Nothing is deleted yet: what the machine booted with is still there, beside what it will
    /// boot with, so that its boot loader can be told.
    ///
    /// # Errors
    /// [`ApplyError::Incomplete`] when chunks are missing: then the tree is unchanged. After any other error the tree
    /// holds whole old and whole new files, which a further update finishes and a rollback undoes.
    pub fn put_in_place(self, options: CommitOptions<'_>) -> Result<Placed<'m>, UpdateError> {
        let missing = self
            .writer
            .missing_chunks()
            .into_iter()
            .filter(|&missing| missing)
            .count();
        if missing > 0 {
            return Err(ApplyError::Incomplete(missing).into());
        }
        // Without this, a crash after the renames could leave empty files.
        self.sync()?;
        let touched = self.plan.touched_directories();
        let kept = match options.keep {
            0 => None,
            _ => {
                let (plan, root) = (&self.plan, &self.root);
                let kept = Kept::keep(plan, &touched, root, &self.root_before, options.record);
                Some(kept?)
            }
        };
        let mut directories = self.directories()?;
        let placing = Placing {
            manifest: self.plan.manifest,
            stage: &self.stage,
            writer: &self.writer,
        };
        for index in in_order(&self.plan) {
            placing.place(&mut directories, index)?;
        }
        for (index, action) in self.plan.actions() {
            let entry = &self.plan.manifest.entries[index as usize];
            if action == Action::Meta && entry.kind != Kind::Directory {
                self.metadata(&mut directories, index, entry)?;
            }
        }
        Ok(Placed {
            update: self,
            directories,
            touched,
            kept,
            keep: options.keep,
        })
    }

    /// Builds new symlinks, devices, fifos and sockets.
    fn special_files(&self) -> Result<(), UpdateError> {
        for (index, action) in self.plan.actions() {
            let entry = &self.plan.manifest.entries[index as usize];
            if action != Action::Write {
                continue;
            }
            let name = staged_name(index);
            match &entry.kind {
                Kind::File(_) | Kind::HardLink(_) | Kind::Directory => continue,
                Kind::Symlink(target) => fs::make_symlink(&*self.stage, &name, target)?,
                kind => {
                    let (kind, device) = kind.node().expect("all other kinds are nodes");
                    fs::make_node(&*self.stage, &name, kind, device)?;
                }
            }
            let limitations = fs::apply_meta_at(&*self.stage, &name, entry.kind.fs_kind(), &entry.meta)?;
            self.writer.limited(index, limitations);
        }
        Ok(())
    }

    fn metadata(&self, directories: &mut DirCache, index: u32, entry: &Entry) -> Result<(), UpdateError> {
        let (dir, parent) = self.parent(directories, entry)?;
        let limitations = fs::apply_meta_at(&*dir, &entry.name, entry.kind.fs_kind(), &entry.meta)
            .map_err(|error| error.under(&parent))?;
        self.writer.limited(index, limitations);
        Ok(())
    }

    fn delete(&self, directories: &mut DirCache, list: &[Doomed]) -> Result<(), UpdateError> {
        for doomed in list {
            if doomed.directory {
                directories.forget(&doomed.path);
            }
            remove(directories, &doomed.path)?;
        }
        Ok(())
    }

    /// Gives directories their metadata, deepest first, where they differ or what was done in them changed their times.
    fn finish_directories(
        &self,
        directories: &mut DirCache,
        touched: &BTreeSet<Vec<u8>>,
    ) -> Result<(), UpdateError> {
        for index in (1..self.plan.manifest.entries.len()).rev() {
            let entry = &self.plan.manifest.entries[index];
            if entry.kind != Kind::Directory {
                continue;
            }
            let number = u32::try_from(index).expect("entries are bounded");
            let due = match self.plan.actions[index] {
                Action::Protect => false,
                Action::Write | Action::Meta => true,
                Action::Keep => touched.contains(&self.plan.manifest.path(number)),
            };
            if due {
                self.metadata(directories, number, entry)?;
            }
        }
        Ok(())
    }

    /// The directory of an entry, and its path.
    fn parent(
        &self,
        directories: &mut DirCache,
        entry: &Entry,
    ) -> Result<(Arc<fs::Dir>, Vec<u8>), UpdateError> {
        let path = self.plan.manifest.path(entry.parent);
        Ok((directories.open(&path)?, path))
    }

    fn directories(&self) -> Result<DirCache, UpdateError> {
        Ok(DirCache::new(fs::duplicate(&self.root)?, DIRECTORIES))
    }

    fn sync(&self) -> Result<(), UpdateError> {
        let synced = rustix::fs::syncfs(&self.root);
        Ok(synced.map_err(|errno| ApplyError::Io("sync", String::new(), errno.into()))?)
    }
}

/// An update of which all is in place, and nothing deleted.
#[derive(Debug)]
pub struct Placed<'m> {
    update: Update<'m>,
    directories: DirCache,
    touched: BTreeSet<Vec<u8>>,
    kept: Option<Kept>,
    keep: usize,
}

impl Placed<'_> {
    /// Deletes what goes, and gives directories their metadata.
    ///
    /// # Errors
    /// [`UpdateError`]: a further update finishes, a rollback undoes.
    pub fn finish(mut self) -> Result<UpdateReport, UpdateError> {
        let update = &self.update;
        update.delete(&mut self.directories, &update.plan.doomed)?;
        update.finish_directories(&mut self.directories, &self.touched)?;
        update.sync()?;
        fs::remove_tree(&update.root, &update.stage_name)?;
        let root_meta = match update.plan.actions[0] {
            Action::Write | Action::Meta => &update.plan.manifest.entries[0].meta,
            Action::Keep | Action::Protect => &update.root_before,
        };
        let limitations = fs::apply_meta_fd(&update.root, root_meta)?;
        update.writer.limited(0, limitations);
        update.sync()?;
        // Last of all: what is interrupted before goes on with the same, so that a rollback undoes both.
        if let Some(kept) = self.kept {
            kept.complete(self.keep)?;
        }
        let summary = self.update.plan.summary();
        Ok(UpdateReport {
            summary,
            local_bytes: self.update.local_bytes,
            limited: self.update.writer.into_limited(),
        })
    }
}

/// Removes the last name of a path; that it is gone already, as after an interruption, is right as well.
fn remove(directories: &mut DirCache, path: &[u8]) -> Result<(), UpdateError> {
    let split = path.iter().rposition(|&byte| byte == b'/');
    let (parent, name) = split.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    let dir = match directories.open(parent) {
        Err(error) if error.is_absent() => return Ok(()),
        other => other?,
    };
    Ok(fs::remove_if_there(&*dir, name).map_err(|error| error.under(parent))?)
}

fn make_stage(root: &OwnedFd) -> Result<(Vec<u8>, OwnedFd), UpdateError> {
    for number in 0u32.. {
        let name = [STAGE, number.to_string().as_bytes()].concat();
        match fs::make_dir(root, &name) {
            Err(error) if error.errno() == Some(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => {
                let stage = fs::open_dir(root, &name)?;
                return Ok((name, stage));
            }
        }
    }
    unreachable!("a directory cannot hold 2^32 names")
}

/// Drops what older updates kept, as far as the new files need the space; the last stays.
fn make_space(plan: &Plan<'_>, root: &OwnedFd) -> Result<(), UpdateError> {
    loop {
        match check_space(plan, root) {
            Err(UpdateError::NoSpace { .. }) if drop_oldest(root)? => {}
            other => return other,
        }
    }
}

fn check_space(plan: &Plan<'_>, root: &OwnedFd) -> Result<(), UpdateError> {
    let stat =
        rustix::fs::fstatvfs(root).map_err(|errno| ApplyError::Io("examine", String::new(), errno.into()))?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let writes = plan
        .manifest
        .files()
        .filter(|&(index, _)| plan.actions[index as usize] == Action::Write);
    let needed: u64 = writes.map(|(_, content)| content.allocated()).sum();
    if needed > free {
        return Err(UpdateError::NoSpace {
            free: Bytes(free).to_string(),
            needed: Bytes(needed).to_string(),
        });
    }
    Ok(())
}
