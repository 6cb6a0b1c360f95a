//! Building the tree.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, Timespec, Timestamps, UTIME_OMIT, XattrFlags,
};

use super::BEYOND;

const MIB: usize = 1 << 20;

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

fn names(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    let long = [b'n'; 255];
    let long_unicode = "ü".repeat(127);
    let names: [&[u8]; 22] = [
        b"new\nline",
        b"\n",
        b"invalid-\xff\xfe-utf8",
        b"\xc3",
        b"back\\slash",
        b"\\",
        b"\\134",
        b" ",
        b"trailing ",
        b"tab\t",
        b"\x1b[31mred",
        b"\x7f",
        b"-rf",
        b"--help",
        b"*?[a]",
        b"'single' \"double\" $HOME `id`",
        b"#comment",
        b"...",
        "n\u{308}fd".as_bytes(),
        "ñfc".as_bytes(),
        &long,
        long_unicode.as_bytes(),
    ];
    for name in names {
        fs::write(tree.path("names").join(OsStr::from_bytes(name)), name)?;
    }
    for name in [&b"dir\nline"[..], b"dir-\xff", b"dir\\x"] {
        let dir = tree.path("names").join(OsStr::from_bytes(name));
        fs::create_dir(&dir)?;
        fs::write(dir.join("inside"), name)?;
    }
    Ok(())
}

fn modes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    for mode in [
        0o000, 0o200, 0o444, 0o644, 0o777, 0o1644, 0o2755, 0o4755, 0o6711, 0o7777,
    ] {
        let name = format!("modes/file-{mode:04o}");
        tree.file(&name, name.as_bytes())?;
        tree.mode(&name, mode)?;
    }
    for mode in [0o000, 0o555, 0o700, 0o1777, 0o2775, 0o7777] {
        let name = format!("modes/dir-{mode:04o}");
        tree.dir(&name)?;
        tree.owner(&name, 0, if mode & 0o2000 == 0 { 0 } else { 4242 })?;
        tree.mode(&name, mode)?;
        // In a set-group-id directory these inherit its group.
        tree.file(&format!("{name}/inside"), b"inside")?;
        tree.dir(&format!("{name}/below"))?;
    }
    tree.dir("modes/empty")
}

fn owners(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    for id in [
        1,
        1000,
        65_534,
        65_536,
        2_147_483_647,
        2_147_483_648,
        4_294_967_294,
    ] {
        let name = format!("owners/{id}");
        tree.file(&name, b"owned")?;
        tree.owner(&name, id, 1)?;
        let dir = format!("owners/dir-{id}");
        tree.dir(&dir)?;
        tree.owner(&dir, 1, id)?;
    }
    // A change of owner clears these bits: they must be set after it.
    tree.file("owners/set-id", b"owned")?;
    tree.owner("owners/set-id", 3_000_000_000, 3_000_000_001)?;
    tree.mode("owners/set-id", 0o6755)
}

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

fn xattrs(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    const ANY: u32 = u32::MAX;
    let access = acl(&[
        (1, 6, ANY),
        (2, 4, 1000),
        (2, 6, 4_000_000_000),
        (4, 4, ANY),
        (8, 5, 1001),
        (16, 7, ANY),
        (32, 0, ANY),
    ]);
    let default = acl(&[(1, 7, ANY), (2, 5, 1000), (4, 5, ANY), (16, 5, ANY), (32, 0, ANY)]);
    tree.file("xattrs/acl", b"acl")?;
    tree.xattr("xattrs/acl", "system.posix_acl_access", &access)?;
    tree.dir("xattrs/default-acl")?;
    tree.xattr("xattrs/default-acl", "system.posix_acl_default", &default)?;
    tree.file("xattrs/default-acl/inherits", b"acl")?;
    tree.dir("xattrs/default-acl/below")?;
    tree.dir("xattrs/both-acls")?;
    tree.xattr("xattrs/both-acls", "system.posix_acl_access", &access)?;
    tree.xattr("xattrs/both-acls", "system.posix_acl_default", &default)?;
    // cap_net_raw+ep, on a file that is not root's.
    tree.file("xattrs/capability", b"#!")?;
    tree.owner("xattrs/capability", 1000, 1000)?;
    tree.mode("xattrs/capability", 0o755)?;
    tree.xattr(
        "xattrs/capability",
        "security.capability",
        &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    )?;
    tree.file("xattrs/user", b"user")?;
    tree.xattr("xattrs/user", "user.empty", b"")?;
    tree.xattr("xattrs/user", "user.binary", b"\0\xff\n\\")?;
    tree.xattr("xattrs/user", "user.long", &noise("xattr", 3000))?;
    tree.xattr("xattrs/user", "user.odd \n ü name", b"odd")?;
    tree.file("xattrs/many", b"many")?;
    for index in 0..40 {
        tree.xattr("xattrs/many", &format!("user.{index:02}"), &[index])?;
    }
    tree.dir("xattrs/dir")?;
    symlink("user", tree.path("xattrs/symlink"))?;
    tree.node("xattrs/char", FileType::CharacterDevice, 1, 3)?;
    tree.node("xattrs/fifo", FileType::Fifo, 0, 0)?;
    tree.node("xattrs/socket", FileType::Socket, 0, 0)?;
    for name in ["user", "dir", "symlink", "char", "fifo", "socket"] {
        tree.xattr(&format!("xattrs/{name}"), "trusted.edge", name.as_bytes())?;
    }
    Ok(())
}

fn links(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    for dir in ["links/a", "links/b", "links/b/c"] {
        tree.dir(dir)?;
    }
    tree.file("links/a/file", b"three names")?;
    symlink("nowhere", tree.path("links/a/symlink"))?;
    tree.node("links/a/char", FileType::CharacterDevice, 1, 5)?;
    tree.node("links/a/block", FileType::BlockDevice, 7, 99)?;
    tree.node("links/a/fifo", FileType::Fifo, 0, 0)?;
    tree.node("links/a/socket", FileType::Socket, 0, 0)?;
    tree.file("links/a/empty", b"")?;
    fs::write(tree.path("links/a/large"), noise("large link", 5 * MIB))?;
    for name in [
        "file", "symlink", "char", "block", "fifo", "socket", "empty", "large",
    ] {
        tree.link(&format!("links/a/{name}"), &format!("links/b/c/{name}-too"))?;
    }
    tree.link("links/a/file", "links/another")?;
    tree.xattr("links/another", "user.of", b"all three")?;
    // The same content and metadata, yet not a link.
    tree.file("links/not-linked", b"three names")
}

fn symlinks(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    let long = [b'l'; 4000];
    let targets: [(&str, &[u8]); 10] = [
        ("dangling", b"does/not/exist"),
        ("absolute", b"/etc/passwd"),
        ("outside", b"../../../../etc/shadow"),
        ("self", b"self"),
        ("dir", b"."),
        ("long", &long),
        ("newline", b"a\nb"),
        ("invalid", b"\xff\xfe"),
        ("spaces", b" -> x "),
        ("owned", b"target"),
    ];
    for (name, target) in targets {
        symlink(OsStr::from_bytes(target), tree.path(format!("symlinks/{name}")))?;
    }
    tree.owner("symlinks/owned", 12_345, 2_147_483_650)
}

fn nodes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    tree.node("nodes/null", FileType::CharacterDevice, 1, 3)?;
    tree.node("nodes/whiteout", FileType::CharacterDevice, 0, 0)?;
    tree.node("nodes/largest", FileType::CharacterDevice, 4095, (1 << 20) - 1)?;
    tree.node("nodes/block", FileType::BlockDevice, 259, 300)?;
    tree.node("nodes/fifo", FileType::Fifo, 0, 0)?;
    tree.node("nodes/socket", FileType::Socket, 0, 0)?;
    tree.owner("nodes/block", 0, 6)?;
    tree.mode("nodes/block", 0o1660)?;
    tree.mode("nodes/fifo", 0o622)?;
    tree.mode("nodes/socket", 0o777)
}

fn holes(tree: &Tree<'_>, size: EdgeSize) -> io::Result<()> {
    let sparse = |name: &str, len: u64, data: &[(u64, usize)]| {
        let file = File::create(tree.path(format!("holes/{name}")))?;
        for &(at, bytes) in data {
            file.write_all_at(&noise(name, bytes), at)?;
        }
        file.set_len(len)
    };
    // 70,000 bytes in five places, not aligned to anything, across a border between parts, and at the very end.
    let end = size.sparse_bytes;
    let part = 4 * MIB as u64;
    let places = [
        (5, 10_000),
        (part - 5_000, 10_000),
        (end / 3, 20_000),
        (end / 2 + 1, 20_000),
        (end - 10_000, 10_000),
    ];
    sparse("sparse", end, &places)?;
    sparse("at-end", 3 * MIB as u64 + 123, &[(0, 50_000)])?;
    sparse("at-begin", 2_000_000, &[(1_900_000, 100_000)])?;
    sparse("only-a-hole", 10 * MIB as u64, &[])?;
    sparse("between-parts", 5 * part, &[(0, 100), (2 * part, 4 * MIB)])?;
    let every_other: Vec<_> = (0..200).map(|index| (index * 65_536, 4096)).collect();
    sparse("many", 200 * 65_536, &every_other)?;
    // Zeros that were written are data: a database or a swap file has allocated them on purpose.
    tree.file("holes/allocated-zeros", &vec![0; MIB])
}

fn sizes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    for size in [
        0,
        1,
        2,
        4095,
        4096,
        4097,
        65_536,
        4 * MIB - 1,
        4 * MIB,
        4 * MIB + 1,
        8 * MIB,
        9 * MIB,
    ] {
        tree.file(&format!("sizes/{size}"), &noise(&size.to_string(), size))?;
    }
    // One content under several names that are not linked; one that shares its first part with another file.
    for copy in 1..=3 {
        tree.file(&format!("sizes/copy-{copy}"), &noise("copy", 100_000))?;
        tree.file(&format!("sizes/large-copy-{copy}"), &noise("9437184", 9 * MIB))?;
    }
    let mut shares = noise("9437184", 9 * MIB);
    shares.truncate(4 * MIB);
    shares.extend(noise("another end", MIB));
    tree.file("sizes/shares-a-part", &shares)?;
    tree.file(
        "sizes/text",
        "The same line again and again.\n".repeat(50_000).as_bytes(),
    )
}

fn deep(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
    let mut path = tree.path("deep");
    for level in 1..=100 {
        path.push(format!("level{level}"));
        fs::create_dir(&path)?;
        if level % 25 == 0 {
            fs::write(path.join("file"), level.to_string())?;
        }
    }
    Ok(())
}

fn large(tree: &Tree<'_>, size: EdgeSize) -> io::Result<()> {
    let dir = rustix::fs::openat(
        CWD,
        tree.path("large"),
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    for index in 0..size.large_dir {
        let name = format!("entry-{index:06}");
        match index % 10 {
            0 => rustix::fs::mkdirat(&dir, name, Mode::from_raw_mode(0o755))?,
            1 => rustix::fs::symlinkat(format!("entry-{:06}", index + 1), &dir, name)?,
            _ => create(&dir, &name)?.write_all(name_of_content(index).as_bytes())?,
        }
    }
    Ok(())
}

/// Most are all different, some the same, some empty.
fn name_of_content(index: usize) -> String {
    match index % 10 {
        2 => String::new(),
        3 => "the same".to_owned(),
        _ => format!("content {index}"),
    }
}

fn create(dir: impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, name, flags, Mode::from_raw_mode(0o644))?.into())
}

/// 40 levels of 200 bytes: twice `PATH_MAX`.
fn beyond(tree: &Tree<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    tree.dir(BEYOND)?;
    let mut dir: OwnedFd = rustix::fs::openat(CWD, tree.path(BEYOND), flags, Mode::empty())?;
    for level in 0..40 {
        let name = format!("{level:0>200}");
        rustix::fs::mkdirat(&dir, &name, Mode::from_raw_mode(0o750))?;
        dir = rustix::fs::openat(&dir, &name, flags, Mode::empty())?;
        create(&dir, "file")?.write_all(name.as_bytes())?;
        rustix::fs::symlinkat("../file", &dir, "symlink")?;
    }
    rustix::fs::linkat(&dir, "file", &dir, "linked", AtFlags::empty())?;
    Ok(())
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

/// Last, since making an entry changes its directory's time.
fn times(tree: &Tree<'_>) -> io::Result<()> {
    tree.dir("times")?;
    for (name, secs, nanos) in [
        ("1901", -2_147_483_648, 0),
        ("1938", -1_000_000_000, 123_456_789),
        ("1969-last-nanosecond", -1, 999_999_999),
        ("1970", 0, 0),
        ("2038", 2_147_483_647, 999_999_999),
        ("2038-after", 2_147_483_648, 1),
        ("2100", 4_102_444_800, 500_000_001),
        ("2400", 13_569_465_600, 3),
    ] {
        for kind in ["file", "dir", "symlink", "fifo"] {
            let entry = format!("times/{name}-{kind}");
            match kind {
                "file" => tree.file(&entry, name.as_bytes())?,
                "dir" => tree.dir(&entry)?,
                "symlink" => symlink(name, tree.path(&entry))?,
                _ => tree.node(&entry, FileType::Fifo, 0, 0)?,
            }
            set_time(CWD, tree.path(&entry).as_os_str().as_bytes(), secs, nanos)?;
        }
    }
    set_time(
        CWD,
        tree.path("times").as_os_str().as_bytes(),
        1_234_567_890,
        987_654_321,
    )
}
