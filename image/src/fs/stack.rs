//! Walking a tree one level down or up at a time, with a bounded number of descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use simulcast_protocol::limits;

use super::{Act, Cause, Device, FsError, Kind, Stat, open_dir, stat_fd};

/// Levels whose directories are held open, counted from the deepest. Trees are rarely deeper than 30 levels; going
/// back up a deeper one opens the levels above once in so many steps.
pub const OPEN_LEVELS: usize = 64;

/// A place in a tree: the directories from the root down to the current one.
///
/// Only the deepest [`OPEN_LEVELS`] are held open. When the way up needs one that was closed, it is opened again from
/// the root downwards, and must be the same inode as before at every level: `..` could lead elsewhere, and so could a
/// directory that was exchanged meanwhile.
#[derive(Debug)]
pub struct DirStack {
    root: OwnedFd,
    levels: Vec<Level>,
    path: Vec<u8>,
}

#[derive(Debug)]
struct Level {
    /// Where its name begins in the path.
    name_at: usize,
    id: (Device, u64),
    fd: Option<OwnedFd>,
}

impl DirStack {
    /// A stack that stands at the directory `root`.
    ///
    /// # Errors
    /// [`Act::Open`] with [`Cause::Kind`] when it is no directory.
    pub fn new(root: OwnedFd) -> Result<Self, FsError> {
        let found = stat_fd(&root)?;
        if found.kind != Kind::Dir {
            let cause = Cause::Kind {
                wanted: Kind::Dir,
                found: found.kind,
            };
            return Err(FsError::new(Act::Open, b"", cause));
        }
        Ok(Self {
            root,
            levels: Vec::new(),
            path: Vec::new(),
        })
    }

    /// The directory that the stack stands at.
    pub fn current(&self) -> BorrowedFd<'_> {
        match self.levels.last() {
            None => self.root.as_fd(),
            Some(level) => level
                .fd
                .as_ref()
                .expect("the deepest level is always open")
                .as_fd(),
        }
    }

    /// Its path below the root: names joined by `/`, empty at the root.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Its name in the directory above it; empty at the root.
    pub fn name(&self) -> &[u8] {
        self.levels
            .last()
            .map_or(b"", |level| &self.path[level.name_at..])
    }

    /// How many levels it stands below the root.
    pub fn depth(&self) -> usize {
        self.levels.len()
    }

    /// Goes down into the directory `name` and says what it is. On an error the stack stays where it is.
    ///
    /// # Errors
    /// As [`open_dir`], with the path from the root; [`Cause::Bound`] below [`limits::DEPTH`] levels.
    pub fn enter(&mut self, name: &[u8]) -> Result<Stat, FsError> {
        if self.levels.len() == limits::DEPTH {
            let cause = Cause::Bound("it lies more than 4,096 levels deep");
            return Err(FsError::new(Act::Open, name, cause).under(&self.path));
        }
        let fd = open_dir(self.current(), name).map_err(|error| error.under(&self.path))?;
        let stat = stat_fd(&fd).map_err(|error| error.under(name).under(&self.path))?;
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.levels.push(Level {
            name_at: self.path.len(),
            id: stat.id(),
            fd: Some(fd),
        });
        self.path.extend_from_slice(name);
        if let Some(above) = self.levels.len().checked_sub(OPEN_LEVELS + 1) {
            self.levels[above].fd = None;
        }
        Ok(stat)
    }

    /// Goes up one level; at the root nothing happens. On an error the stack stays where it is.
    ///
    /// # Errors
    /// [`Act::Open`], with [`Cause::Replaced`] when a directory above had to be opened again and is another one now.
    pub fn leave(&mut self) -> Result<(), FsError> {
        if let Some(above) = self.levels.len().checked_sub(2)
            && self.levels[above].fd.is_none()
        {
            self.open_again(above)?;
        }
        if let Some(level) = self.levels.pop() {
            self.path.truncate(level.name_at.saturating_sub(1));
        }
        Ok(())
    }

    /// Opens the levels down to `deepest` again and keeps as many of them as may be open.
    fn open_again(&mut self, deepest: usize) -> Result<(), FsError> {
        let mut above: Option<OwnedFd> = None;
        for index in 0..=deepest {
            let start = self.levels[index].name_at;
            let end = self
                .levels
                .get(index + 1)
                .map_or(self.path.len(), |next| next.name_at - 1);
            let dir = above.as_ref().unwrap_or(&self.root);
            let fd = open_dir(dir, &self.path[start..end])
                .map_err(|error| error.under(&self.path[..start.saturating_sub(1)]))?;
            let found = stat_fd(&fd).map_err(|error| error.under(&self.path[..end]))?;
            if found.id() != self.levels[index].id {
                return Err(FsError::new(Act::Open, &self.path[..end], Cause::Replaced));
            }
            // The one above goes to its level if that is to stay open, and is closed otherwise.
            if let Some(kept) = above.replace(fd)
                && index + OPEN_LEVELS > deepest + 1
            {
                self.levels[index - 1].fd = Some(kept);
            }
        }
        self.levels[deepest].fd = above;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fs::testing::Scratch;
    use crate::fs::{list, make_dir, open_root, rename};

    fn stack(scratch: &Scratch) -> DirStack {
        DirStack::new(open_root(&scratch.path("")).unwrap()).unwrap()
    }

    fn open_levels(stack: &DirStack) -> usize {
        stack.levels.iter().filter(|level| level.fd.is_some()).count()
    }

    #[test]
    fn down_and_up_beyond_path_max_with_few_descriptors() {
        let scratch = Scratch::new();
        let mut stack = stack(&scratch);
        let name = |level: usize| format!("{level:0>250}").into_bytes();
        let mut ids = Vec::new();
        for level in 0..1000 {
            make_dir(stack.current(), &name(level)).unwrap();
            ids.push(stack.enter(&name(level)).unwrap().ino);
            assert!(open_levels(&stack) <= OPEN_LEVELS);
        }
        assert_eq!(stack.path().len(), 1000 * 251 - 1);
        for level in (0..1000).rev() {
            assert_eq!(stack.name(), name(level));
            assert_eq!(stat_fd(stack.current()).unwrap().ino, ids[level]);
            assert!(open_levels(&stack) <= OPEN_LEVELS);
            stack.leave().unwrap();
            assert_eq!(list(stack.current()).unwrap().len(), 1);
        }
        assert_eq!(
            (stack.path(), stack.name(), stack.depth()),
            (&b""[..], &b""[..], 0)
        );
        stack.leave().unwrap();
        crate::fs::remove_tree(&scratch, &name(0)).unwrap();
    }

    #[test]
    fn a_directory_that_was_exchanged_above_is_noticed() {
        let scratch = Scratch::new();
        let mut stack = stack(&scratch);
        for _ in 0..OPEN_LEVELS + 2 {
            make_dir(stack.current(), b"d").unwrap();
            stack.enter(b"d").unwrap();
        }
        let root = open_root(&scratch.path("")).unwrap();
        rename(&root, b"d", &root, b"moved").unwrap();
        fs::create_dir_all(scratch.path("d/d")).unwrap();
        let error = loop {
            match stack.leave() {
                Ok(()) => assert!(stack.depth() > 0, "the exchange was not noticed"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.cause(), Cause::Replaced), "{error:?}");
        assert_eq!(error.path(), b"d");
        // It stays where it is, and that is still open.
        list(stack.current()).unwrap();
    }

    #[test]
    fn nothing_but_directories_is_entered() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("a/b")).unwrap();
        symlink("b", scratch.path("a/l")).unwrap();
        let mut stack = stack(&scratch);
        stack.enter(b"a").unwrap();
        let error = stack.enter(b"l").unwrap_err();
        assert_eq!((error.path(), stack.path()), (&b"a/l"[..], &b"a"[..]));
        assert!(stack.enter(b"..").is_err());
        assert!(stack.enter(b"b/..").is_err());
    }
}
