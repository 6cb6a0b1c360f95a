//! Reading a tree whole, the slow and obvious way.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, SeekFrom, StatxFlags};
use rustix::io::Errno;

const DIR_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW);

/// Contents are read in pieces of this size; pieces of zeros are the same as holes.
const PIECE: usize = 4096;

/// Everything about one entry that a copy must have as well.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) kind: FileType,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) mtime: (i64, u32),
    pub(super) size: u64,
    pub(super) allocated: u64,
    pub(super) device: (u32, u32),
    pub(super) target: Vec<u8>,
    pub(super) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Over all pieces that are not zero, each with its place: holes do not count.
    pub(super) content: Option<blake3::Hash>,
    /// The inode, to find out which names are links of one.
    pub(super) inode: (u32, u32, u64),
}

/// Reads the tree at `root`; the root itself has the empty path.
pub(super) fn read(root: &Path) -> io::Result<BTreeMap<Vec<u8>, Entry>> {
    let mut entries = BTreeMap::new();
    let dir = rustix::fs::openat(CWD, root, DIR_FLAGS, Mode::empty())?;
    // By way of itself, so that the root is read as every other directory.
    entries.insert(Vec::new(), entry(&dir, b".")?);
    walk(&dir, &mut Vec::new(), &mut entries)?;
    Ok(entries)
}

fn walk(dir: &OwnedFd, path: &mut Vec<u8>, entries: &mut BTreeMap<Vec<u8>, Entry>) -> io::Result<()> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut listed = RawDir::new(dir, buffer.spare_capacity_mut());
    while let Some(found) = listed.next() {
        names.push(found?.file_name().to_bytes().to_vec());
    }
    for name in names.iter().filter(|name| !matches!(&name[..], b"." | b"..")) {
        let len = path.len();
        if len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let found = entry(dir, name).map_err(|error| {
            io::Error::new(error.kind(), format!("reading {}: {error}", path.escape_ascii()))
        })?;
        let kind = found.kind;
        entries.insert(path.clone(), found);
        if kind == FileType::Directory {
            walk(
                &rustix::fs::openat(dir, &name[..], DIR_FLAGS, Mode::empty())?,
                path,
                entries,
            )?;
        }
        path.truncate(len);
    }
    Ok(())
}

fn entry(dir: &OwnedFd, name: &[u8]) -> io::Result<Entry> {
    let stat = rustix::fs::statx(dir, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    let target = if kind == FileType::Symlink {
        rustix::fs::readlinkat(dir, name, Vec::new())?.into_bytes()
    } else {
        Vec::new()
    };
    let content = if kind == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Some(content(
            &rustix::fs::openat(dir, name, flags, Mode::empty())?.into(),
            stat.stx_size,
        )?)
    } else {
        None
    };
    Ok(Entry {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        size: stat.stx_size,
        allocated: stat.stx_blocks * 512,
        device: (stat.stx_rdev_major, stat.stx_rdev_minor),
        target,
        xattrs: xattrs(dir, name)?,
        content,
        inode: (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino),
    })
}

fn xattrs(dir: &OwnedFd, name: &[u8]) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    let mut list = vec![0; 65_536];
    let len = match rustix::fs::llistxattr(&path, &mut list[..]) {
        Err(Errno::OPNOTSUPP) => 0,
        other => other?,
    };
    let mut xattrs = BTreeMap::new();
    for name in list[..len]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
    {
        let mut value = vec![0; 65_536];
        let len = rustix::fs::lgetxattr(&path, name, &mut value[..])?;
        value.truncate(len);
        xattrs.insert(name.to_vec(), value);
    }
    Ok(xattrs)
}

fn content(file: &File, size: u64) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let mut buffer = vec![0; 256 * PIECE];
    while at < size {
        // Only to be faster: a hole would be read as zeros. Rounded down, so that pieces stay where they are.
        at = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(data) => at.max(data / PIECE as u64 * PIECE as u64),
            Err(Errno::NXIO) => break,
            Err(_) => at,
        };
        let mut read = 0;
        while read < buffer.len() {
            match file.read_at(&mut buffer[read..], at + read as u64)? {
                0 => break,
                more => read += more,
            }
        }
        if read == 0 {
            break;
        }
        for (index, piece) in buffer[..read].chunks(PIECE).enumerate() {
            if piece.iter().any(|&byte| byte != 0) {
                hasher
                    .update(&(at + (index * PIECE) as u64).to_le_bytes())
                    .update(piece);
            }
        }
        at += buffer.len() as u64;
    }
    Ok(hasher.finalize())
}
