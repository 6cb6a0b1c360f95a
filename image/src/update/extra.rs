//! What the tree has and the version does not: to be deleted, except what is protected and the directories that hold it.

use crate::apply::join;
use crate::fs::{self, DirStack, FsError, Kind, Listing, Stat};

/// Something to delete: a path without anything below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doomed {
    pub(super) path: Vec<u8>,
    pub(super) directory: bool,
}

/// What was found below a name that the version does not have.
#[derive(Debug, Default)]
pub(super) struct Extras {
    /// What goes, in an order in which it can go: a directory after what was in it.
    pub(super) doomed: Vec<Doomed>,
    /// Regular files among them: directory, name and what the kernel says of them.
    pub(super) files: Vec<(Vec<u8>, Vec<u8>, Stat)>,
    /// Paths that stay because they are protected or mounted.
    pub(super) protected: u64,
}

struct Level {
    listing: Listing,
    next: usize,
    holds_protected: bool,
}

impl Extras {
    /// Takes `name` in the directory where `dir` stands, with all below it.
    pub(super) fn take(
        &mut self,
        dir: &DirStack,
        name: &[u8],
        found: &Stat,
        protects: &mut dyn FnMut(&[u8], bool) -> bool,
    ) -> Result<(), FsError> {
        if found.kind != Kind::Dir {
            self.leaf(dir.path(), name, found.clone());
            return Ok(());
        }
        if found.mount_root {
            self.protected += 1;
            return Ok(());
        }
        let top = dir.current().try_clone_to_owned();
        let top = top.map_err(|error| {
            let errno = rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO);
            FsError::new(fs::Act::Open, name, errno)
        })?;
        let mut stack = DirStack::new(top)?;
        stack.enter(name)?;
        let mut levels = vec![Level::open(&stack)?];
        while let Some(level) = levels.last_mut() {
            let path = join(dir.path(), stack.path());
            let Some((name, _)) = level.listing.get(level.next) else {
                let holds_protected = level.holds_protected;
                levels.pop();
                if holds_protected {
                    if let Some(above) = levels.last_mut() {
                        above.holds_protected = true;
                    }
                } else {
                    self.doomed.push(Doomed {
                        path,
                        directory: true,
                    });
                }
                stack.leave()?;
                continue;
            };
            level.next += 1;
            let name = name.to_vec();
            let found = match fs::stat(stack.current(), &name) {
                Err(error) if error.is_absent() => continue,
                other => other.map_err(|error| error.under(&path))?,
            };
            let directory = found.kind == Kind::Dir;
            if protects(&join(&path, &name), directory) || (directory && found.mount_root) {
                level.holds_protected = true;
                self.protected += 1;
            } else if directory {
                stack.enter(&name)?;
                levels.push(Level::open(&stack)?);
            } else {
                self.leaf(&path, &name, found);
            }
        }
        Ok(())
    }

    fn leaf(&mut self, directory: &[u8], name: &[u8], found: Stat) {
        self.doomed.push(Doomed {
            path: join(directory, name),
            directory: false,
        });
        if found.kind == Kind::File {
            self.files.push((directory.to_vec(), name.to_vec(), found));
        }
    }
}

impl Level {
    fn open(stack: &DirStack) -> Result<Self, FsError> {
        let listing = fs::list(stack.current()).map_err(|error| error.under(stack.path()))?;
        Ok(Self {
            listing,
            next: 0,
            holds_protected: false,
        })
    }
}
