//! Why a step on the file system failed: the act, the path as far as it is known, the cause.

use std::fmt;

use rustix::io::Errno;

use super::{Kind, Shown};

/// A step on the file system that failed.
///
/// The primitives know one name; whoever knows the directory that it stands in adds it with [`FsError::under`].
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", Shown(path))]
pub struct FsError {
    act: Act,
    path: Vec<u8>,
    #[source]
    cause: Cause,
}

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Opening a directory or file.
    Open,
    /// Reading type, size, owner, mode and times.
    Stat,
    /// Reading the names in a directory.
    List,
    /// Reading the target of a symlink.
    ReadLink,
    /// Reading the content of a file.
    Read,
    /// Reading extended attributes.
    ReadXattrs,
    /// Finding the holes of a file.
    FindHoles,
    /// Making a file, directory, symlink, device, fifo or socket.
    Create,
    /// Giving an inode one more name.
    Link,
    /// Renaming, or exchanging two names.
    Rename,
    /// Removing a name.
    Remove,
    /// Setting owner, mode, extended attributes and times.
    SetMeta,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// The kernel refused.
    #[error(transparent)]
    System(#[from] Errno),
    /// The name is empty, `.`, `..`, too long, or has a `/` or a NUL in it.
    #[error("this is not a single file name")]
    Name,
    /// Another kind of entry than expected stands there.
    #[error("it is a {found}, not a {wanted}")]
    Kind {
        /// What should be there.
        wanted: Kind,
        /// What is there.
        found: Kind,
    },
    /// The kernel reports a kind of inode that we do not know.
    #[error("it is of no known kind of file")]
    UnknownKind,
    /// A directory is not the one that stood there when it was entered.
    #[error("another directory stands there since it was entered")]
    Replaced,
    /// Something is mounted on this directory.
    #[error("another file system is mounted on it")]
    MountPoint,
    /// More than this program takes; the text names the bound.
    #[error("{0}")]
    Bound(&'static str),
    /// Metadata that no file system can hold; the text says which.
    #[error("{0}")]
    Meta(&'static str),
    /// `/proc` is missing.
    #[error("/proc is not mounted; extended attributes and modes are reached through /proc/self/fd")]
    NoProc,
}

impl FsError {
    /// The failure of `act` on `name` because of `cause`.
    pub fn new(act: Act, name: &[u8], cause: impl Into<Cause>) -> Self {
        Self {
            act,
            path: name.to_vec(),
            cause: cause.into(),
        }
    }

    /// The same failure with the directory that the name stands in put before it.
    #[must_use]
    pub fn under(mut self, dir: &[u8]) -> Self {
        if dir.is_empty() {
            return self;
        }
        if self.path.is_empty() {
            self.path = dir.to_vec();
            return self;
        }
        self.path = [dir, self.path.as_slice()].join(&b'/');
        self
    }

    /// What was attempted.
    pub fn act(&self) -> Act {
        self.act
    }

    /// The path as far as it is known.
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The kernel's error number, if the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self.cause {
            Cause::System(errno) => Some(errno),
            _ => None,
        }
    }

    /// Whether something else than a directory stood where one was looked into.
    pub fn is_not_a_directory(&self) -> bool {
        matches!(
            self.cause,
            Cause::Kind {
                wanted: Kind::Dir,
                ..
            }
        ) || self.errno() == Some(Errno::NOTDIR)
    }

    /// Whether the entry was simply not there (any more), as happens in a tree that is in use.
    pub fn is_absent(&self) -> bool {
        self.errno() == Some(Errno::NOENT)
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Stat => "look at",
            Self::List => "list",
            Self::ReadLink => "read the symlink",
            Self::Read => "read",
            Self::ReadXattrs => "read the extended attributes of",
            Self::FindHoles => "find the holes of",
            Self::Create => "create",
            Self::Link => "make the hard link",
            Self::Rename => "rename",
            Self::Remove => "remove",
            Self::SetMeta => "set owner, mode or times of",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_names_act_and_path_and_leaves_the_cause_to_the_chain() {
        let error = FsError::new(Act::Open, b"a\nb", Errno::NOENT)
            .under(b"etc")
            .under(b"");
        assert_eq!(error.to_string(), r"cannot open etc/a\nb");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(source.as_deref(), Some("No such file or directory (os error 2)"));
        assert!(error.is_absent());
        assert_eq!(
            FsError::new(Act::List, b"", Errno::IO).under(b"etc").path(),
            b"etc"
        );
    }
}
