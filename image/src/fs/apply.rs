//! Giving an inode its owner, mode, extended attributes and times, in the order that keeps all of them.
//!
//! The order is: owner; mode, since chown(2) clears set-user-id and set-group-id; extended attributes, since chown(2)
//! and writing clear `security.capability`, and after the mode, since chmod(2) changes an ACL's mask; times last.
//!
//! What a file system cannot hold (a `trusted.*` attribute on FAT, an ACL where ACLs are off) is a [`Limitation`]: it
//! is returned and everything else is still applied. Only failures that make the rest pointless are errors.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, CWD, Gid, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::pinned::{Handle, Pinned, Source, explain};
use super::{Act, Cause, FsError, Kind, Meta, Shown, Timestamp, stat_fd, xattr};

/// The label that SELinux gives every inode: it can be changed, never removed.
const SELINUX: &[u8] = b"security.selinux";

/// A part of the metadata that could not be applied to one inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limitation {
    /// Which part.
    pub part: LimitedPart,
    /// What the kernel said; `None` when it said nothing and stored something else.
    pub errno: Option<Errno>,
}

/// What a file system may be unable to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitedPart {
    /// The numeric owner or group.
    Owner,
    /// The mode.
    Mode,
    /// The extended attribute of this name.
    Xattr(Box<[u8]>),
    /// The mtime; what it is now, if known.
    Mtime(Option<Timestamp>),
}

/// What a file has that was just made in a certain directory: owner and group as far as they are certain, and whether
/// it may have inherited an ACL.
///
/// A plain directory of root's gives its files nothing; a set-group-id directory passes on its group, one with a
/// default ACL that, and some mounts force an owner. Asked once per directory, it saves a system call per file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Birth {
    uid: Option<u32>,
    gid: Option<u32>,
    acl: bool,
}

impl Birth {
    /// What a file has that is made in `dir` by this process, until the metadata of `dir` changes.
    ///
    /// # Errors
    /// [`Act::Stat`] or [`Act::ReadXattrs`] with an empty path.
    pub fn in_dir(dir: impl AsFd) -> Result<Self, FsError> {
        let dir = dir.as_fd();
        let found = stat_fd(dir)?.meta;
        let euid = rustix::process::geteuid().as_raw();
        let egid = rustix::process::getegid().as_raw();
        let names = xattr::names(Source::Held(Handle::Open(dir)))
            .map_err(|cause| FsError::new(Act::ReadXattrs, b"", cause))?;
        Ok(Self {
            // Where a mount or a server forces an owner, our own directories have it as well.
            uid: (found.uid == euid).then_some(euid),
            // By the set-group-id bit, or by a mount option (`grpid`), the group can be the directory's.
            gid: (found.gid == egid || found.mode & 0o2000 != 0).then_some(found.gid),
            acl: names
                .split(|&byte| byte == 0)
                .any(|name| name == b"system.posix_acl_default"),
        })
    }
}

/// What is known of an inode before metadata are applied to it.
struct Before {
    kind: Kind,
    uid: Option<u32>,
    gid: Option<u32>,
    mode: Option<u16>,
    may_have_xattrs: bool,
}

/// Gives an open file or directory the metadata `meta`, changing only what differs; extended attributes that `meta`
/// does not name are removed.
///
/// # Errors
/// [`Act::SetMeta`] with an empty path; [`Cause::Meta`] when no file system could hold `meta`.
pub fn apply_meta_fd(file: impl AsFd, meta: &Meta) -> Result<Vec<Limitation>, FsError> {
    let fd = file.as_fd();
    let found = stat_fd(fd)?;
    let before = Before::known(found.kind, &found.meta);
    apply(Handle::Open(fd), &before, meta).map_err(|cause| FsError::new(Act::SetMeta, b"", cause))
}

/// Gives `name` in `dir` the metadata `meta`, without opening or following it; as [`apply_meta_fd`]. A symlink has no
/// mode of its own: that is left out.
///
/// # Errors
/// [`Act::SetMeta`]; [`Cause::Kind`] when something else than a `kind` stands there.
pub fn apply_meta_at(
    dir: impl AsFd,
    name: &[u8],
    kind: Kind,
    meta: &Meta,
) -> Result<Vec<Limitation>, FsError> {
    let pinned = Pinned::new(Act::SetMeta, dir, name)?;
    let found = pinned.stat().map_err(|error| error.under(name))?;
    let failed = |cause: Cause| FsError::new(Act::SetMeta, name, cause);
    if found.kind != kind {
        return Err(failed(Cause::Kind {
            wanted: kind,
            found: found.kind,
        }));
    }
    apply(pinned.handle(), &Before::known(kind, &found.meta), meta).map_err(failed)
}

/// Gives a file that was just made by [`super::create_file`] in a directory of this `birth` the metadata `meta`, by
/// the fewest system calls: two for a file of root's without extended attributes.
///
/// # Errors
/// As [`apply_meta_fd`].
pub fn apply_meta_new(file: impl AsFd, birth: Birth, meta: &Meta) -> Result<Vec<Limitation>, FsError> {
    let before = Before {
        kind: Kind::File,
        uid: birth.uid,
        gid: birth.gid,
        mode: None,
        may_have_xattrs: birth.acl,
    };
    apply(Handle::Open(file.as_fd()), &before, meta).map_err(|cause| FsError::new(Act::SetMeta, b"", cause))
}

impl Before {
    fn known(kind: Kind, meta: &Meta) -> Self {
        Self {
            kind,
            uid: Some(meta.uid),
            gid: Some(meta.gid),
            mode: Some(meta.mode),
            may_have_xattrs: true,
        }
    }
}

fn apply(handle: Handle<'_>, before: &Before, meta: &Meta) -> Result<Vec<Limitation>, Cause> {
    check(meta)?;
    let mut limits = Limits {
        handle,
        found: Vec::new(),
    };
    let chown = before.uid != Some(meta.uid) || before.gid != Some(meta.gid);
    if chown {
        limits.note(handle.chown(meta), || LimitedPart::Owner)?;
    }
    let cleared = chown && meta.mode & 0o6000 != 0;
    if before.kind != Kind::Symlink && (cleared || before.mode != Some(meta.mode)) {
        limits.note(handle.chmod(meta), || LimitedPart::Mode)?;
    }
    apply_xattrs(&mut limits, before, meta)?;
    limits.note(handle.set_mtime(meta.mtime), || LimitedPart::Mtime(None))?;
    // Old file systems end in 2038 or begin in 1970, and store the nearest time that they have without a word.
    if i32::try_from(meta.mtime.secs).map_or(true, i32::is_negative) {
        let got = handle.mtime()?;
        if got != meta.mtime
            && limits
                .found
                .iter()
                .all(|l| !matches!(l.part, LimitedPart::Mtime(_)))
        {
            limits.found.push(Limitation {
                part: LimitedPart::Mtime(Some(got)),
                errno: None,
            });
        }
    }
    Ok(limits.found)
}

fn apply_xattrs(limits: &mut Limits<'_>, before: &Before, meta: &Meta) -> Result<(), Cause> {
    let handle = limits.handle;
    if before.may_have_xattrs {
        let names = xattr::names(Source::Held(handle))?;
        let wanted = |name: &[u8]| meta.xattrs.iter().any(|xattr| *xattr.name == *name);
        for name in names.split(|&byte| byte == 0) {
            if !name.is_empty() && !wanted(name) && name != SELINUX {
                limits.note(handle.remove(name), || LimitedPart::Xattr(name.into()))?;
            }
        }
    }
    for xattr in &meta.xattrs {
        let set = handle.set(&xattr.name, &xattr.value);
        limits.note(set, || LimitedPart::Xattr(xattr.name.clone()))?;
    }
    Ok(())
}

/// Refuses what the kernel would take for something else: owner -1 means "leave it", two values of nanoseconds mean
/// "now" and "leave it".
fn check(meta: &Meta) -> Result<(), Cause> {
    if meta.uid == u32::MAX || meta.gid == u32::MAX {
        return Err(Cause::Meta("4294967295 is no owner and no group"));
    }
    if meta.mtime.nanos >= 1_000_000_000 {
        return Err(Cause::Meta("its mtime has a second or more of nanoseconds"));
    }
    if meta.mode > 0o7777 {
        return Err(Cause::Meta("its mode has bits beyond 07777"));
    }
    Ok(())
}

/// Collects what could not be applied.
struct Limits<'a> {
    handle: Handle<'a>,
    found: Vec<Limitation>,
}

impl Limits<'_> {
    fn note(&mut self, done: Result<(), Errno>, part: impl Fn() -> LimitedPart) -> Result<(), Cause> {
        match done {
            Ok(()) => Ok(()),
            Err(errno) if is_limit(errno, &part()) => {
                self.found.push(Limitation {
                    part: part(),
                    errno: Some(errno),
                });
                Ok(())
            }
            Err(errno) => Err(explain(Source::Held(self.handle), errno)),
        }
    }
}

/// Whether `errno` says that this file system does not hold such a thing, rather than that the step failed.
fn is_limit(errno: Errno, part: &LimitedPart) -> bool {
    match errno {
        Errno::OPNOTSUPP | Errno::PERM | Errno::ACCESS | Errno::INVAL | Errno::RANGE | Errno::TOOBIG => true,
        // The space for attributes of one inode; a disk that is full fails at the next write anyway.
        Errno::NOSPC | Errno::DQUOT => matches!(part, LimitedPart::Xattr(_)),
        _ => false,
    }
}

impl Handle<'_> {
    fn chown(self, meta: &Meta) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        match self {
            Self::Open(fd) => rustix::fs::fchown(fd, uid, gid),
            Self::Pinned(path) => rustix::fs::chownat(CWD, path, uid, gid, AtFlags::empty()),
        }
    }

    fn chmod(self, meta: &Meta) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fchmod(fd, meta.permissions()),
            Self::Pinned(path) => rustix::fs::chmodat(CWD, path, meta.permissions(), AtFlags::empty()),
        }
    }

    fn set_mtime(self, mtime: Timestamp) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: mtime.secs,
                tv_nsec: mtime.nanos.into(),
            },
        };
        match self {
            Self::Open(fd) => rustix::fs::futimens(fd, &times),
            Self::Pinned(path) => rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()),
        }
    }

    fn mtime(self) -> Result<Timestamp, Errno> {
        let found = match self {
            Self::Open(fd) => rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::MTIME),
            Self::Pinned(path) => rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::MTIME),
        }?;
        Ok(Timestamp::from_raw(found.stx_mtime))
    }
}

impl fmt::Display for Limitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.part {
            LimitedPart::Owner => f.write_str("owner")?,
            LimitedPart::Mode => f.write_str("mode")?,
            LimitedPart::Xattr(name) => write!(f, "extended attribute {}", Shown(name))?,
            LimitedPart::Mtime(None) => f.write_str("mtime")?,
            LimitedPart::Mtime(Some(got)) => write!(f, "mtime (it became {} s, {} ns)", got.secs, got.nanos)?,
        }
        match self.errno {
            Some(errno) => write!(f, " not applied: {errno}"),
            None => f.write_str(" not kept by the file system"),
        }
    }
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
