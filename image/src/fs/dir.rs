//! Opening and listing directories.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, RawDir, SeekFrom};
use rustix::io::Errno;

use super::{Act, Cause, FsError, Kind, check_name};

/// Bytes that one call to the kernel may fill with directory entries.
const BUFFER_BYTES: usize = 32 << 10;

/// Bytes of names that one directory may have: a million of the longest, ten million usual ones.
const LISTING_BYTES: usize = 256 << 20;

const DIR_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Opens the directory at `path`, from which everything else starts. This is the one place where symlinks are
/// followed: the operator may name the target through one.
///
/// # Errors
/// [`Act::Open`] with `path`.
pub fn open_root(path: &Path) -> Result<OwnedFd, FsError> {
    let flags = DIR_FLAGS.difference(OFlags::NOFOLLOW);
    rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| FsError::new(Act::Open, path.as_os_str().as_bytes(), errno))
}

/// Opens the directory `name` in `dir`; a symlink is refused.
///
/// # Errors
/// [`Act::Open`]; [`Cause::Kind`] when it is no directory.
pub fn open_dir(dir: impl AsFd, name: &[u8]) -> Result<OwnedFd, FsError> {
    check_name(Act::Open, name)?;
    let dir = dir.as_fd();
    // Reading a directory should not change its atime on a machine that we only look at. Only root and the owner may
    // ask for that.
    let opened = match rustix::fs::openat(dir, name, DIR_FLAGS | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, DIR_FLAGS, Mode::empty()),
        other => other,
    };
    opened.map_err(|errno| match errno {
        Errno::NOTDIR | Errno::LOOP => wrong_kind(dir, name, Kind::Dir, errno),
        _ => FsError::new(Act::Open, name, errno),
    })
}

/// The error for an open that failed with `errno` because something else than `wanted` stands at `name`.
pub(super) fn wrong_kind(dir: impl AsFd, name: &[u8], wanted: Kind, errno: Errno) -> FsError {
    match super::stat(dir, name) {
        Ok(found) if found.kind != wanted => FsError::new(
            Act::Open,
            name,
            Cause::Kind {
                wanted,
                found: found.kind,
            },
        ),
        _ => FsError::new(Act::Open, name, errno),
    }
}

/// The names in one directory, sorted by their bytes, without `.` and `..`.
///
/// Names stand in one allocation: 100,000 of them take 3 MB.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    names: Vec<u8>,
    entries: Vec<(u32, u16, Option<Kind>)>,
}

impl Listing {
    /// How many names there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The names in order, each with its kind as far as the directory itself knows it. Some file systems do not, and
    /// it may have changed since: a hint, not a promise.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], Option<Kind>)> + ExactSizeIterator {
        self.entries
            .iter()
            .map(|&(start, len, kind)| (self.slice(start, len), kind))
    }

    /// The name and kind at `index` in order; `None` behind the last.
    pub fn get(&self, index: usize) -> Option<(&[u8], Option<Kind>)> {
        self.entries
            .get(index)
            .map(|&(start, len, kind)| (self.slice(start, len), kind))
    }

    fn slice(&self, start: u32, len: u16) -> &[u8] {
        let start = start as usize;
        &self.names[start..start + usize::from(len)]
    }

    fn push(&mut self, name: &[u8], kind: Option<Kind>) -> Result<(), Cause> {
        let bound = Cause::Bound("its names take more than 256 MiB");
        if self.names.len() + name.len() > LISTING_BYTES {
            return Err(bound);
        }
        let (Ok(start), Ok(len)) = (u32::try_from(self.names.len()), u16::try_from(name.len())) else {
            return Err(bound);
        };
        self.names.extend_from_slice(name);
        self.entries.push((start, len, kind));
        Ok(())
    }
}

/// Reads all names in `dir`. The descriptor's offset is used: two threads must not list one descriptor at a time.
///
/// # Errors
/// [`Act::List`] with an empty path; [`Cause::Bound`] above 256 MiB of names.
pub fn list(dir: impl AsFd) -> Result<Listing, FsError> {
    let dir = dir.as_fd();
    let failed = |cause: Cause| FsError::new(Act::List, b"", cause);
    rustix::fs::seek(dir, SeekFrom::Start(0)).map_err(|errno| failed(errno.into()))?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER_BYTES];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut listing = Listing::default();
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|errno| failed(errno.into()))?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            listing
                .push(name, Kind::from_file_type(entry.file_type()))
                .map_err(failed)?;
        }
    }
    let Listing { names, entries } = &mut listing;
    entries
        .sort_unstable_by_key(|&(start, len, _)| &names[start as usize..start as usize + usize::from(len)]);
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fs::testing::Scratch;

    #[test]
    fn odd_names_are_listed_in_byte_order() {
        let scratch = Scratch::new();
        let long = [b'z'; 255];
        let names: [&[u8]; 6] = [b"\n", b"..a", b"a\\b", b"b", &long, b"\xff\xfe"];
        for name in names {
            fs::write(scratch.path(OsStr::from_bytes(name)), b"").unwrap();
        }
        for _ in 0..2 {
            let listing = list(&scratch).unwrap();
            let found: Vec<_> = listing.iter().map(|(name, _)| name).collect();
            assert_eq!(found, names);
        }
        assert_eq!(
            list(&scratch).unwrap().get(3),
            Some((&b"b"[..], Some(Kind::File)))
        );
        assert_eq!(list(&scratch).unwrap().get(6), None);
    }

    #[test]
    fn a_hundred_thousand_entries() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("d")).unwrap();
        let dir = open_dir(&scratch, b"d").unwrap();
        fs::write(scratch.path("d/x"), b"").unwrap();
        for i in 0..100_000 {
            // Links are cheaper than files; ext4 allows 65,000 to one inode.
            if i % 50_000 == 0 {
                fs::write(scratch.path(format!("d/first{i}")), b"").unwrap();
            }
            let from = format!("first{}", i / 50_000 * 50_000);
            crate::fs::hard_link(&dir, from.as_bytes(), &dir, format!("{i}").as_bytes()).unwrap();
        }
        let listing = list(&dir).unwrap();
        assert_eq!(listing.len(), 100_003);
        assert!(listing.iter().zip(listing.iter().skip(1)).all(|(a, b)| a.0 < b.0));
        crate::fs::remove_tree(&scratch, b"d").unwrap();
    }

    #[test]
    fn symlinks_and_files_are_not_opened_as_directories() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("d")).unwrap();
        symlink("d", scratch.path("l")).unwrap();
        fs::write(scratch.path("f"), b"").unwrap();
        assert!(open_dir(&scratch, b"d").is_ok());
        for (name, kind) in [(&b"l"[..], Kind::Symlink), (b"f", Kind::File)] {
            let error = open_dir(&scratch, name).unwrap_err();
            assert!(
                matches!(*error.cause(), Cause::Kind { wanted: Kind::Dir, found } if found == kind),
                "{error:?}"
            );
        }
        assert!(open_dir(&scratch, b"..").is_err());
        assert!(open_dir(&scratch, b"none").unwrap_err().is_absent());
    }
}
