//! How one inode is reached: by an open descriptor, or through `/proc/self/fd` where it cannot or need not be opened.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Act, Cause, FsError, Stat, check_name, stat_fd};

/// One inode that is held, as the calls that change its metadata need it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle<'a> {
    /// A file or directory that is open.
    Open(BorrowedFd<'a>),
    /// `/proc/self/fd/N` of an `O_PATH` descriptor: following it ends at that inode, be it a symlink.
    Pinned(&'a [u8]),
}

/// One inode that is only read: held, or named by `/proc/self/fd/DIR/NAME`, whose last part is not followed. The
/// second saves a scan two system calls per entry.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source<'a> {
    Held(Handle<'a>),
    Named(&'a [u8]),
}

/// An inode held by an `O_PATH` descriptor: it cannot be exchanged for another between two calls.
#[derive(Debug)]
pub(super) struct Pinned {
    fd: OwnedFd,
    path: Vec<u8>,
}

impl Pinned {
    /// Holds `name` in `dir` without opening or following it.
    pub(super) fn new(act: Act, dir: impl AsFd, name: &[u8]) -> Result<Self, FsError> {
        check_name(act, name)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(dir, name, flags, Mode::empty())
            .map_err(|errno| FsError::new(act, name, errno))?;
        let path = proc_path(fd.as_fd(), None);
        Ok(Self { fd, path })
    }

    pub(super) fn stat(&self) -> Result<Stat, FsError> {
        stat_fd(&self.fd)
    }

    pub(super) fn handle(&self) -> Handle<'_> {
        Handle::Pinned(&self.path)
    }
}

/// The path under `/proc/self/fd` of a descriptor, or of a name in the directory that it holds.
pub(super) fn proc_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

/// The cause to report for `errno` from a call that may have gone through `/proc`.
pub(super) fn explain(source: Source<'_>, errno: Errno) -> Cause {
    let through_proc = !matches!(source, Source::Held(Handle::Open(_)));
    if through_proc && errno == Errno::NOENT && rustix::fs::stat(c"/proc/self/fd").is_err() {
        return Cause::NoProc;
    }
    Cause::System(errno)
}
