//! Names, modes, owners, attributes, symlinks, devices and times.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use rustix::fs::{CWD, FileType};

use super::{EdgeSize, Tree, noise, set_time};

pub(super) fn names(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn modes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn owners(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn xattrs(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn symlinks(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

pub(super) fn nodes(tree: &Tree<'_>, _: EdgeSize) -> io::Result<()> {
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

/// Last, since making an entry changes its directory's time.
pub(super) fn times(tree: &Tree<'_>) -> io::Result<()> {
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
