//! Building the tree.

mod content;
mod metadata;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};

use content::{beyond, deep, holes, large, links, sizes};
use metadata::{modes, names, nodes, owners, symlinks, times, xattrs};

/// How large the tree is where size matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeSize {
    /// Entries of the one large directory.
    pub large_dir: usize,
    /// Apparent bytes of the sparse file; 70 kB of it are data.
    pub sparse_bytes: u64,
}

impl EdgeSize {
    /// As large as what must work: a directory of 100,000 entries, a file of 5 GiB.
    pub const FULL: Self = Self {
        large_dir: 100_000,
        sparse_bytes: 5 << 30,
    };

    /// For tests that run often.
    pub const QUICK: Self = Self {
        large_dir: 2_000,
        sparse_bytes: 1 << 30,
    };
}

/// Builds the tree in the directory `root`, which is made if it is missing, and gives that directory metadata of its
/// own as well.
///
/// # Errors
/// The first step that fails, with what it was about.
pub fn build(root: &Path, size: EdgeSize) -> io::Result<()> {
    fs::create_dir_all(root)?;
    let tree = Tree(root);
    let parts: [(&str, Part); 11] = [
        ("names", names),
        ("modes", modes),
        ("owners", owners),
        ("xattrs", xattrs),
        ("links", links),
        ("symlinks", symlinks),
        ("nodes", nodes),
        ("holes", holes),
        ("sizes", sizes),
        ("deep", deep),
        ("large", large),
    ];
    for (name, part) in parts {
        fs::create_dir(root.join(name))?;
        part(&tree, size)
            .map_err(|error| io::Error::new(error.kind(), format!("building {name}: {error}")))?;
    }
    beyond(&tree)?;
    tree.xattr("", "user.root", b"the root has attributes as well")?;
    tree.mode("", 0o751)?;
    let dir = rustix::fs::openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    set_all_times(&dir, &mut Vec::new())?;
    times(&tree)?;
    set_time(CWD, root.as_os_str().as_bytes(), 1_500_000_000, 7)
}

/// Builds what is in one directory.
type Part = fn(&Tree<'_>, EdgeSize) -> io::Result<()>;

struct Tree<'a>(&'a Path);

impl Tree<'_> {
    fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.0.join(name.as_ref())
    }

    fn file(&self, name: &str, content: &[u8]) -> io::Result<()> {
        fs::write(self.path(name), content)
    }

    fn dir(&self, name: &str) -> io::Result<()> {
        fs::create_dir(self.path(name))
    }

    fn mode(&self, name: &str, mode: u32) -> io::Result<()> {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode))
    }

    fn owner(&self, name: &str, uid: u32, gid: u32) -> io::Result<()> {
        lchown(self.path(name), Some(uid), Some(gid))
    }

    fn xattr(&self, name: &str, xattr: &str, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::lsetxattr(
            self.path(name),
            xattr,
            value,
            XattrFlags::empty(),
        )?)
    }

    fn node(&self, name: &str, kind: FileType, major: u32, minor: u32) -> io::Result<()> {
        let device = rustix::fs::makedev(major, minor);
        Ok(rustix::fs::mknodat(
            CWD,
            self.path(name),
            kind,
            Mode::from_raw_mode(0o640),
            device,
        )?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.path(from), self.path(to));
        Ok(rustix::fs::linkat(CWD, from, CWD, to, AtFlags::empty())?)
    }
}

/// Bytes that no compression shrinks, the same for the same seed.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(seed.as_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

fn set_time(dir: impl AsFd, name: &[u8], secs: i64, nanos: i64) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: secs,
            tv_nsec: nanos,
        },
    };
    Ok(rustix::fs::utimensat(
        dir,
        name,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Gives everything below `dir` a time that follows from its path, the deepest first.
fn set_all_times(dir: &OwnedFd, path: &mut Vec<u8>) -> io::Result<()> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut entries = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    for (name, kind) in names {
        let len = path.len();
        path.push(b'/');
        path.extend_from_slice(&name);
        if kind == FileType::Directory {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            set_all_times(&rustix::fs::openat(dir, &name[..], flags, Mode::empty())?, path)?;
        }
        let hash = blake3::hash(path);
        let [a, b, c, d, e, f, ..] = *hash.as_bytes();
        let secs = 1_000_000_000 + i64::from(u32::from_le_bytes([a, b, c, 0])) * 40;
        let nanos = i64::from(u32::from_le_bytes([d, e, f, 0])) * 59;
        set_time(dir, &name, secs, nanos)?;
        path.truncate(len);
    }
    Ok(())
}
