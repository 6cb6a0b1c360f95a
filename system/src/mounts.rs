//! What is mounted where, and which of it a capture does not enter.
//!
//! Reading `/proc/self/mountinfo` (proc_pid_mountinfo(5)) is one call; everything else is a pure function over its
//! text.

mod kinds;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::Path;

pub use kinds::{FsClass, class_of};

/// The kernel's list for this process.
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u32,
    /// The number of the mount that it is mounted on.
    pub parent: u32,
    /// The file system's device, major and minor.
    pub device: (u32, u32),
    /// The directory of the file system that is seen there: `/` but for bind mounts and subvolumes.
    pub root: Vec<u8>,
    /// Where it is mounted, from the root of this process.
    pub point: Vec<u8>,
    /// Options of this mount, separated by commas.
    pub options: Vec<u8>,
    /// The file system's type, as in `ext4`, `fuse.sshfs`.
    pub fs_type: Vec<u8>,
    /// What is mounted: a device's path, `host:/path`, or a word.
    pub source: Vec<u8>,
    /// Options of the file system, separated by commas.
    pub super_options: Vec<u8>,
}

/// A line of mountinfo that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of mountinfo has {fault}: {text:?}")]
pub struct MountsError {
    line: usize,
    fault: &'static str,
    text: String,
}

/// Why a capture does not enter a mount point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The kernel makes its content: proc, sysfs, tmpfs.
    Pseudo,
    /// It lies on another machine.
    Network,
    /// A program makes its content.
    UserSpace,
    /// It is shown through other directories, which are captured themselves.
    Overlay,
    /// A packed image that cannot be written: snaps, optical media.
    PackedImage,
    /// The medium can be taken out.
    Removable,
    /// The same directory of the same file system is entered elsewhere.
    Duplicate,
    /// A kind of file system that we do not know.
    Unknown,
}

/// A mount point that a capture does not enter. The directory itself belongs to the file system above it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its path below the captured root: names joined by `/`.
    pub path: Vec<u8>,
    /// Why.
    pub reason: Reason,
    /// The type of what is mounted there.
    pub fs_type: Vec<u8>,
    /// What is mounted there.
    pub source: Vec<u8>,
}

/// Reads the mounts of this process, in the order in which the kernel lists them: a mount stands behind the one that
/// it is mounted on.
///
/// # Errors
/// Reading; a line that is not as the kernel writes it, as [`io::ErrorKind::InvalidData`].
pub fn read() -> io::Result<Vec<Mount>> {
    parse(&std::fs::read(MOUNTINFO)?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Reads the text of a mountinfo file.
///
/// # Errors
/// The first line that cannot be read.
pub fn parse(text: &[u8]) -> Result<Vec<Mount>, MountsError> {
    text.split(|&byte| byte == b'\n')
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(|(index, line)| {
            Mount::parse(line).map_err(|fault| MountsError {
                line: index + 1,
                fault,
                text: String::from_utf8_lossy(line).chars().take(200).collect(),
            })
        })
        .collect()
}

impl Mount {
    fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let mut fields = line.split(|&byte| byte == b' ');
        let mut next = || fields.next().ok_or("too few fields");
        let id = number(next()?).ok_or("no number first")?;
        let parent = number(next()?).ok_or("no parent's number")?;
        let device = device(next()?).ok_or("no device")?;
        let (root, point, options) = (unescape(next()?), unescape(next()?), unescape(next()?));
        // Optional fields, as "shared:1", up to a lone "-".
        while next()? != b"-" {}
        let (fs_type, source) = (unescape(next()?), unescape(next()?));
        // Some file systems have no options at all.
        let super_options = next().map(unescape).unwrap_or_default();
        Ok(Self {
            id,
            parent,
            device,
            root,
            point,
            options,
            fs_type,
            source,
            super_options,
        })
    }

    fn class(&self) -> FsClass {
        class_of(&self.fs_type)
    }
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn device(text: &[u8]) -> Option<(u32, u32)> {
    let colon = text.iter().position(|&byte| byte == b':')?;
    Some((number(&text[..colon])?, number(&text[colon + 1..])?))
}

/// Undoes the kernel's escapes: a backslash and three octal digits for blank, tab, newline, backslash and `#`.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, behind @ ..] = rest {
        rest = behind;
        if let (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', behind @ ..]) = (first, rest) {
            plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
            rest = behind;
        } else {
            plain.push(*first);
        }
    }
    plain
}

/// Whether `path` is `dir` or lies below it, and what of it lies below.
fn below<'a>(path: &'a [u8], dir: &[u8]) -> Option<&'a [u8]> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    match path.strip_prefix(dir)? {
        [] => Some(&[]),
        [b'/', rest @ ..] => Some(rest),
        _ => None,
    }
}

/// Finds the mount points below `root` that a capture of `root` does not enter, by path; mounts that others hide, and
/// those below a mount point that is not entered, are left out. `is_removable` says of a device (major, minor) whether
/// its medium can be taken out: see [`is_removable`].
///
/// The file system that `root` itself lies on is always entered, whatever it is.
pub fn skipped_below(
    mounts: &[Mount],
    root: &[u8],
    is_removable: impl Fn((u32, u32)) -> bool,
) -> Vec<Skipped> {
    let visible = visible(mounts);
    let Some(base) = mount_of(&visible, root) else {
        return Vec::new();
    };
    let mut inside: Vec<(&[u8], &Mount)> = visible
        .iter()
        .filter(|mount| mount.id != base.id)
        .filter_map(|mount| below(&mount.point, root).map(|path| (path, *mount)))
        .filter(|(path, _)| !path.is_empty())
        .collect();
    inside.sort_by_key(|&(path, _)| path);
    let base_root = join(&base.root, below(root, &base.point).unwrap_or_default());
    let mut skipped: Vec<Skipped> = Vec::new();
    let mut candidates = Vec::new();
    for (path, mount) in inside {
        match reason(mount, &is_removable) {
            Some(reason) => skipped.push(Skipped::new(path, mount, reason)),
            None => candidates.push((path, mount)),
        }
    }
    skipped.extend(duplicates(&base_root, base.device, &candidates));
    skipped.sort_by(|a, b| a.path.cmp(&b.path));
    // What lies below one that is not entered is not come to.
    let mut reached: Vec<Skipped> = Vec::new();
    for one in skipped {
        if !reached
            .iter()
            .any(|above| below(&one.path, &above.path).is_some())
        {
            reached.push(one);
        }
    }
    reached
}

impl Skipped {
    fn new(path: &[u8], mount: &Mount, reason: Reason) -> Self {
        Self {
            path: path.to_vec(),
            reason,
            fs_type: mount.fs_type.clone(),
            source: mount.source.clone(),
        }
    }
}

fn reason(mount: &Mount, is_removable: impl Fn((u32, u32)) -> bool) -> Option<Reason> {
    match mount.class() {
        FsClass::Disk if is_removable(mount.device) => Some(Reason::Removable),
        FsClass::Disk => None,
        FsClass::Pseudo => Some(Reason::Pseudo),
        FsClass::Network => Some(Reason::Network),
        FsClass::UserSpace => Some(Reason::UserSpace),
        FsClass::Overlay => Some(Reason::Overlay),
        FsClass::PackedImage => Some(Reason::PackedImage),
        FsClass::Unknown => Some(Reason::Unknown),
    }
}

/// Of mounts that show the same part of the same file system, all but one: the one that shows most, and of equal ones
/// the first by path. What the captured root itself shows comes before all.
fn duplicates(base_root: &[u8], base_device: (u32, u32), candidates: &[(&[u8], &Mount)]) -> Vec<Skipped> {
    let mut by_size: Vec<_> = candidates.to_vec();
    by_size.sort_by_key(|(path, mount)| (mount.root.len(), *path));
    let mut entered = vec![(base_device, base_root.to_vec())];
    let mut skipped = Vec::new();
    for (path, mount) in by_size {
        let shown = |(device, root): &((u32, u32), Vec<u8>)| {
            *device == mount.device && below(&mount.root, root).is_some()
        };
        if entered.iter().any(shown) {
            skipped.push(Skipped::new(path, mount, Reason::Duplicate));
        } else {
            entered.push((mount.device, mount.root.clone()));
        }
    }
    skipped
}

fn join(dir: &[u8], path: &[u8]) -> Vec<u8> {
    let dir = dir.strip_suffix(b"/").unwrap_or(dir);
    if path.is_empty() && !dir.is_empty() {
        return dir.to_vec();
    }
    [dir, path].join(&b'/')
}

/// The mount that `path` lies on.
fn mount_of<'a>(visible: &[&'a Mount], path: &[u8]) -> Option<&'a Mount> {
    visible
        .iter()
        .filter(|mount| below(path, &mount.point).is_some())
        .max_by_key(|mount| mount.point.len())
        .copied()
}

/// The mounts that can be seen: nothing is mounted over them, nor over a directory on the way to them.
fn visible(mounts: &[Mount]) -> Vec<&Mount> {
    let covered = |mount: &Mount| {
        mounts
            .iter()
            .any(|other| other.parent == mount.id && other.id != mount.id && other.point == mount.point)
    };
    // Whether a mount's place in the tree can be reached, not asking what lies on itself. A parent stands before its
    // children; a process in a chroot does not see the parent of its first mount.
    let mut attached: Vec<bool> = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let parent = mounts[..index]
            .iter()
            .position(|other| other.id == mount.parent && other.id != mount.id);
        let reached = parent.is_none_or(|at| {
            let parent = &mounts[at];
            attached[at] && (parent.point == mount.point || !covered(parent))
        });
        let behind_a_later_one = mounts[index + 1..].iter().any(|later| {
            later.parent == mount.parent
                && later.point != mount.point
                && below(&mount.point, &later.point).is_some()
        });
        attached.push(reached && !behind_a_later_one);
    }
    let seen = mounts
        .iter()
        .zip(&attached)
        .filter(|&(mount, &attached)| attached && !covered(mount));
    seen.map(|(mount, _)| mount).collect()
}

/// Whether the kernel calls the disk of a block device (or of a partition) removable: sticks, cards, optical drives.
/// No for what is not a block device.
pub fn is_removable(device: (u32, u32)) -> bool {
    let dir = Path::new("/sys/dev/block").join(format!("{}:{}", device.0, device.1));
    // A partition's directory lies in that of its disk, which alone has the file.
    let flag = ["removable", "../removable"]
        .iter()
        .find_map(|name| std::fs::read(dir.join(name)).ok());
    flag.is_some_and(|flag| flag.first() == Some(&b'1'))
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pseudo => "made by the kernel",
            Self::Network => "on another machine",
            Self::UserSpace => "made by a program",
            Self::Overlay => "shown through other directories",
            Self::PackedImage => "a packed image",
            Self::Removable => "on a removable medium",
            Self::Duplicate => "seen elsewhere as well",
            Self::Unknown => "of an unknown kind of file system",
        })
    }
}
