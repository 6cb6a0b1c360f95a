//! Links, holes, sizes, depths and a large directory.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, symlink};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};

use super::super::BEYOND;
use super::{EdgeSize, Tree, noise};

const MIB: usize = 1 << 20;

pub(super) fn links(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn holes(tree: &Tree<'_>, size: EdgeSize) -> io::Result<()> {
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

pub(super) fn sizes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn deep(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn large(tree: &Tree<'_>, size: EdgeSize) -> io::Result<()> {
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
pub(super) fn beyond(tree: &Tree<'_>) -> io::Result<()> {
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
