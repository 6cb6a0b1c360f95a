//! What an update replaces is kept, so that [`Rollback`] brings it back without a server: `.simulcast-kept` in the root of
//! the tree has a directory for each of the last updates.
//!
//! ```text
//! .simulcast-kept/7/undo      what stood at each path that the update touches
//! .simulcast-kept/7/record    which version the machine had, as its state directory says it
//! .simulcast-kept/7/f/12      the files that were replaced or deleted, numbered
//! .simulcast-kept/8.open/     of an update that was interrupted: the next one goes on with it
//! ```
//!
//! Files are kept as further names of their inodes, which costs no copy and no time; where that cannot be, because
//! another file system is mounted there, they are copied. All of it is on disk before the first path is touched.

mod keeper;
mod rollback;
mod undo;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;

use keeper::Keeper;
pub use rollback::{Rollback, RollbackReport, RollbackSummary};

use super::plan::Plan;
use super::{KEPT, UpdateError};
use crate::apply::{ApplyError, join};
use crate::fs::{self, FsError, Meta};

/// Directories that are kept open.
const DIRECTORIES: usize = 256;

const UNDO: &[u8] = b"undo";
const RECORD: &[u8] = b"record";
const FILES: &[u8] = b"f";

/// Behind the number of what an update that has not ended keeps.
const OPEN: &[u8] = b".open";

/// What one update keeps, while it runs.
#[derive(Debug)]
pub(super) struct Kept {
    all: OwnedFd,
    number: u64,
}

/// A directory of what was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Generation {
    number: u64,
    open: bool,
}

impl Generation {
    fn parse(name: &[u8]) -> Option<Self> {
        let (digits, open) = match name.strip_suffix(OPEN) {
            Some(digits) => (digits, true),
            None => (name, false),
        };
        let text = std::str::from_utf8(digits).ok().filter(|text| text.len() <= 18)?;
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse().ok().filter(|_| plain)?;
        Some(Self { number, open })
    }

    fn name(self) -> Vec<u8> {
        let end: &[u8] = if self.open { OPEN } else { b"" };
        [self.number.to_string().as_bytes(), end].concat()
    }
}

/// What is kept in the tree, oldest first.
fn generations(all: &OwnedFd) -> Result<Vec<Generation>, FsError> {
    let mut found: Vec<_> = fs::list(all)?
        .iter()
        .filter_map(|(name, _)| Generation::parse(name))
        .collect();
    found.sort();
    Ok(found)
}

/// The directory of all that is kept; `None` where nothing is.
fn open_all(root: &OwnedFd) -> Result<Option<OwnedFd>, FsError> {
    match fs::open_dir(root, KEPT) {
        Err(error) if error.is_absent() => Ok(None),
        other => other.map(Some),
    }
}

/// Ends what an update was interrupted in just before it ended itself: for a run that finds nothing to do. No more than
/// `most` are kept then.
///
/// # Errors
/// [`UpdateError::Fs`].
pub fn settle_kept(root: &OwnedFd, most: usize) -> Result<(), UpdateError> {
    let Some(all) = open_all(root)? else {
        return Ok(());
    };
    match generations(&all)?.last() {
        Some(&Generation { number, open: true }) => Kept { all, number }.complete(most),
        _ => Ok(()),
    }
}

/// Removes the oldest of what is kept, unless it is the last; whether there was such.
pub(super) fn drop_oldest(root: &OwnedFd) -> Result<bool, UpdateError> {
    let Some(all) = open_all(root)? else {
        return Ok(false);
    };
    match generations(&all)?[..] {
        [oldest, _, ..] => {
            fs::remove_tree(&all, &oldest.name())?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

impl Kept {
    /// Keeps what the plan will replace, change or delete, and syncs it. `touched` are the directories whose times that
    /// changes, `root_meta` are what the root had before the update built anything in it. `record` says which version the
    /// machine has.
    ///
    /// What an interrupted update kept stays: it is what there was before, and counts for each path that it has.
    pub(super) fn keep(
        plan: &Plan<'_>,
        touched: &BTreeSet<Vec<u8>>,
        root: &OwnedFd,
        root_meta: &Meta,
        record: Option<&[u8]>,
    ) -> Result<Self, UpdateError> {
        let all = match open_all(root)? {
            Some(all) => all,
            None => {
                fs::make_dir(root, KEPT)?;
                fs::apply_meta_fd(root, root_meta)?;
                fs::open_dir(root, KEPT)?
            }
        };
        let last = generations(&all)?.last().copied();
        let number = match last {
            Some(Generation { number, open: true }) => number,
            other => other.map_or(1, |last| last.number + 1),
        };
        let generation = Generation { number, open: true };
        let mut keeper = Keeper::open(&all, generation, root)?;
        keeper.take_root(root_meta);
        for doomed in plan.cleared.iter().chain(&plan.doomed) {
            keeper.take(&doomed.path)?;
        }
        for (index, action) in plan.actions() {
            match action {
                super::Action::Write => keeper.take(&plan.manifest.path(index))?,
                super::Action::Meta => keeper.take_meta(&plan.manifest.path(index))?,
                super::Action::Keep | super::Action::Protect => {}
            }
        }
        for directory in touched {
            keeper.take_meta(directory)?;
        }
        keeper.close(record)?;
        sync(root)?;
        Ok(Self { all, number })
    }

    /// The update has ended: it is what a rollback goes back from. No more than `generations` are kept.
    pub(super) fn complete(self, most: usize) -> Result<(), UpdateError> {
        let of = |open| {
            Generation {
                number: self.number,
                open,
            }
            .name()
        };
        fs::rename(&self.all, &of(true), &self.all, &of(false))?;
        let found = generations(&self.all)?;
        for old in &found[..found.len().saturating_sub(most)] {
            fs::remove_tree(&self.all, &old.name())?;
        }
        Ok(())
    }
}

/// A path's directory and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn failed(what: &'static str, name: &[u8], error: io::Error) -> UpdateError {
    let path = fs::Shown(&join(KEPT, name)).to_string();
    ApplyError::Io(what, path, error).into()
}

/// Reads a file of what is kept; `None` when it is not there.
fn read_bounded(place: &OwnedFd, name: &[u8], most: usize) -> Result<Option<Vec<u8>>, UpdateError> {
    let file = match fs::open_read(place, name) {
        Err(error) if error.is_absent() => return Ok(None),
        other => other?.0,
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("read", name, error))?;
    if bytes.len() > most {
        return Err(UpdateError::Undo(
            "it is longer than any list of what an update replaced",
        ));
    }
    Ok(Some(bytes))
}

/// Writes a file of what is kept, in one step.
fn write_whole(place: &OwnedFd, name: &[u8], bytes: &[u8]) -> Result<(), UpdateError> {
    let new = [name, b".new"].concat();
    fs::remove_if_there(place, &new)?;
    let mut file: File = fs::create_file(place, &new)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| failed("write", name, error))?;
    Ok(fs::rename(place, &new, place, name)?)
}

fn sync(root: &OwnedFd) -> Result<(), UpdateError> {
    let synced = rustix::fs::syncfs(root);
    Ok(synced.map_err(|errno| ApplyError::Io("sync", String::new(), errno.into()))?)
}
