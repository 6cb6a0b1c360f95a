//! What the kernel knows of an inode.

use std::fmt;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, Statx, StatxAttributes, StatxFlags, StatxTimestamp};
use serde::{Deserialize, Serialize};

use super::{Act, Cause, FsError, check_name};

/// Bits of a mode that are not the kind of file: permissions, set-user-id, set-group-id, sticky.
pub(super) const MODE_BITS: u16 = 0o7777;

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A Unix socket's name.
    Socket,
}

/// A point in time: seconds since 1970 (negative before it) and nanoseconds below 1,000,000,000 after that second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds after `secs`, below 1,000,000,000.
    pub nanos: u32,
}

/// The number of a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Device {
    /// Which driver; below 4,096 on Linux.
    pub major: u32,
    /// Which of its devices; below 1,048,576 on Linux.
    pub minor: u32,
}

/// One extended attribute: ACLs, capabilities, SELinux labels and what users attach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Xattr {
    /// Its full name, as in `system.posix_acl_access`.
    pub name: Box<[u8]>,
    /// Its value, verbatim.
    pub value: Box<[u8]>,
}

/// Everything about an inode but its kind, content, links and identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Meta {
    /// Permissions, set-user-id, set-group-id and sticky: 07777 at most.
    pub mode: u16,
    /// Numeric owner; 4,294,967,295 is no owner.
    pub uid: u32,
    /// Numeric group; 4,294,967,295 is no group.
    pub gid: u32,
    /// When the content last changed.
    pub mtime: Timestamp,
    /// Extended attributes, sorted by name, no name twice.
    pub xattrs: Vec<Xattr>,
}

/// What one `statx` tells of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What kind of thing it is.
    pub kind: Kind,
    /// Mode, owner and time; the extended attributes are left empty, see [`super::read_xattrs_at`].
    pub meta: Meta,
    /// Bytes of content, holes included; of a symlink's target.
    pub size: u64,
    /// Bytes that are allocated on disk.
    pub allocated: u64,
    /// The inode's number in its file system.
    pub ino: u64,
    /// The file system's device.
    pub dev: Device,
    /// How many names the inode has.
    pub nlink: u32,
    /// Which device a device file stands for; zeros for others.
    pub rdev: Device,
    /// When content or metadata last changed, by the kernel's clock.
    pub ctime: Timestamp,
    /// Whether another file system, or another part of this one, is mounted here.
    pub mount_root: bool,
}

/// Reads what the kernel knows of `name` in `dir`, without following a symlink and without mounting anything.
///
/// # Errors
/// [`Act::Stat`]; see [`FsError::is_absent`] for a name that is not there.
pub fn stat(dir: impl AsFd, name: &[u8]) -> Result<Stat, FsError> {
    check_name(Act::Stat, name)?;
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let raw = rustix::fs::statx(dir, name, flags, StatxFlags::BASIC_STATS)
        .map_err(|errno| FsError::new(Act::Stat, name, errno))?;
    Stat::from_raw(&raw).map_err(|cause| FsError::new(Act::Stat, name, cause))
}

/// Reads what the kernel knows of an open file, directory or `O_PATH` descriptor.
///
/// # Errors
/// [`Act::Stat`] with an empty path.
pub fn stat_fd(fd: impl AsFd) -> Result<Stat, FsError> {
    let raw = rustix::fs::statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)
        .map_err(|errno| FsError::new(Act::Stat, b"", errno))?;
    Stat::from_raw(&raw).map_err(|cause| FsError::new(Act::Stat, b"", cause))
}

impl Stat {
    fn from_raw(raw: &Statx) -> Result<Self, Cause> {
        Ok(Self {
            kind: Kind::from_file_type(FileType::from_raw_mode(raw.stx_mode.into()))
                .ok_or(Cause::UnknownKind)?,
            meta: Meta {
                mode: raw.stx_mode & MODE_BITS,
                uid: raw.stx_uid,
                gid: raw.stx_gid,
                mtime: Timestamp::from_raw(raw.stx_mtime),
                xattrs: Vec::new(),
            },
            size: raw.stx_size,
            allocated: raw.stx_blocks.saturating_mul(512),
            ino: raw.stx_ino,
            dev: Device {
                major: raw.stx_dev_major,
                minor: raw.stx_dev_minor,
            },
            nlink: raw.stx_nlink,
            rdev: Device {
                major: raw.stx_rdev_major,
                minor: raw.stx_rdev_minor,
            },
            ctime: Timestamp::from_raw(raw.stx_ctime),
            mount_root: raw.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }

    /// What tells this inode from every other: the file system's device and the number in it.
    pub fn id(&self) -> (Device, u64) {
        (self.dev, self.ino)
    }
}

impl Timestamp {
    pub(super) fn from_raw(raw: StatxTimestamp) -> Self {
        Self {
            secs: raw.tv_sec,
            nanos: raw.tv_nsec,
        }
    }
}

impl Meta {
    pub(super) fn permissions(&self) -> Mode {
        Mode::from_raw_mode((self.mode & MODE_BITS).into())
    }
}

impl Kind {
    pub(super) fn from_file_type(file_type: FileType) -> Option<Self> {
        Some(match file_type {
            FileType::RegularFile => Self::File,
            FileType::Directory => Self::Dir,
            FileType::Symlink => Self::Symlink,
            FileType::CharacterDevice => Self::CharDevice,
            FileType::BlockDevice => Self::BlockDevice,
            FileType::Fifo => Self::Fifo,
            FileType::Socket => Self::Socket,
            FileType::Unknown => return None,
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::File => "file",
            Self::Dir => "directory",
            Self::Symlink => "symlink",
            Self::CharDevice => "character device",
            Self::BlockDevice => "block device",
            Self::Fifo => "fifo",
            Self::Socket => "socket",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;
    use crate::fs::testing::Scratch;

    #[test]
    fn statx_says_what_std_says_and_follows_nothing() {
        let scratch = Scratch::new();
        fs::write(scratch.path("f"), b"hello").unwrap();
        fs::create_dir(scratch.path("d")).unwrap();
        symlink("f", scratch.path("l")).unwrap();
        for (name, kind) in [("f", Kind::File), ("d", Kind::Dir), ("l", Kind::Symlink)] {
            let ours = stat(&scratch, name.as_bytes()).unwrap();
            let theirs = fs::symlink_metadata(scratch.path(name)).unwrap();
            assert_eq!(ours.kind, kind);
            assert_eq!(ours.ino, theirs.ino());
            assert_eq!(u64::from(ours.nlink), theirs.nlink());
            assert_eq!(ours.size, theirs.size());
            assert_eq!(ours.allocated, theirs.blocks() * 512);
            assert_eq!((ours.meta.uid, ours.meta.gid), (theirs.uid(), theirs.gid()));
            assert_eq!(u32::from(ours.meta.mode), theirs.mode() & 0o7777);
            assert_eq!(ours.meta.mtime.secs, theirs.mtime());
            assert_eq!(i64::from(ours.meta.mtime.nanos), theirs.mtime_nsec());
            assert_eq!(ours.ctime.secs, theirs.ctime());
        }
        assert!(stat(&scratch, b"none").unwrap_err().is_absent());
        assert!(matches!(
            stat(&scratch, b"../x").unwrap_err().cause(),
            Cause::Name
        ));
    }

    #[test]
    fn mount_points_are_seen() {
        let root = super::super::open_root(std::path::Path::new("/")).unwrap();
        assert!(stat(&root, b"proc").unwrap().mount_root);
        assert!(!stat(&root, b"usr").unwrap().mount_root);
    }
}
