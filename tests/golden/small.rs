//! A small golden tree without debootstrap: a few hundred files with every kind of metadata. On a Debian tree the
//! same things are added below `/srv/golden`, so that the large tree has them as well.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, lchown, symlink};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, lsetxattr, makedev, mknodat, utimensat,
};

use super::noise;

/// The large file that a change patches in the middle, below the root of the additions.
pub const BIG: &str = "big.bin";

/// The log that a change appends to.
pub const LOG: &str = "service.log";

/// The configuration that a change edits.
pub const CONFIG: &str = "etc/service-007.conf";

/// A file that a change deletes.
pub const DELETED: &str = "etc/service-013.conf";

/// Makes a small golden tree at `tree`, which must not exist: 300 small files, one of `big_bytes` that does not
/// compress, and one entry at least of every kind and with every metadata that a file system of Linux has.
///
/// # Errors
/// When something cannot be made; device nodes and trusted attributes need root.
pub fn make(tree: &Path, big_bytes: u64) -> Result<()> {
    fs::create_dir(tree).with_context(|| format!("create {}", tree.display()))?;
    make_files(tree, big_bytes)?;
    make_kinds(&tree.join("kinds"))?;
    make_metadata(&tree.join("metadata"))?;
    // Times last: what is made in a directory changes the directory's.
    set_time(&tree.join("kinds"), 1_600_000_000, 123_456_789)?;
    set_time(tree, 1_700_000_000, 1)
}

fn make_files(tree: &Path, big_bytes: u64) -> Result<()> {
    let etc = tree.join("etc");
    fs::create_dir(&etc).with_context(|| format!("create {}", etc.display()))?;
    for number in 0..100 {
        let text =
            format!("# service {number}\nport = {}\nenabled = true\n", 8000 + number).repeat(number + 1);
        write(&etc.join(format!("service-{number:03}.conf")), text.as_bytes())?;
        let dir = tree.join(format!("lib/{:02}", number % 10));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let len = number * number * 7;
        write(
            &dir.join(format!("object-{number:03}.bin")),
            &noise::bytes(&format!("object {number}"), len),
        )?;
        write(
            &dir.join(format!("text-{number:03}.txt")),
            "all work and no play\n".repeat(number).as_bytes(),
        )?;
    }
    let line = "2026-01-01T00:00:00 service[1]: request answered in 12 ms\n";
    write(&tree.join(LOG), line.repeat(2000).as_bytes())?;
    noise::file(&tree.join(BIG), "big", big_bytes)
}

fn make_kinds(dir: &Path) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    write(&dir.join("empty"), b"")?;
    write(&dir.join("one-byte"), b"1")?;
    write(&dir.join("linked"), b"three names")?;
    for name in ["linked-2", "linked-3"] {
        fs::hard_link(dir.join("linked"), dir.join(name)).with_context(|| format!("link {name}"))?;
    }
    let links = [
        ("relative", "one-byte"),
        ("absolute", "/etc/hostname"),
        ("dangling", "../no/such/file"),
    ];
    for (name, target) in links {
        symlink(target, dir.join(name)).with_context(|| format!("make symlink {name}"))?;
    }
    lchown(dir.join("dangling"), Some(1234), Some(5678)).context("give a symlink its owner")?;
    let nodes = [
        ("fifo", FileType::Fifo, 0),
        ("null", FileType::CharacterDevice, makedev(1, 3)),
        ("loop", FileType::BlockDevice, makedev(7, 200)),
    ];
    for (name, kind, device) in nodes {
        let mode = Mode::from_raw_mode(0o640);
        mknodat(CWD, dir.join(name), kind, mode, device).with_context(|| format!("make node {name}"))?;
    }
    let sparse = File::create(dir.join("sparse")).context("create a sparse file")?;
    sparse.set_len(256 << 20).context("lengthen a sparse file")?;
    for at in [0, 5 << 20, (256 << 20) - 4096] {
        sparse
            .write_all_at(&[0x5a; 4096], at)
            .context("write to a sparse file")?;
    }
    let mut deep = dir.join("deep");
    for level in 0..40 {
        deep.push(format!("level-{level:02}"));
    }
    fs::create_dir_all(&deep).context("create deep directories")?;
    write(&deep.join("bottom"), b"deep")?;
    for name in [
        &b"new\nline"[..],
        b"invalid-utf8-\xff\xfe",
        b" spaces and 'quotes' ",
        b"-rf",
        &[b'n'; 255],
    ] {
        write(&dir.join(std::ffi::OsStr::from_bytes(name)), name)?;
    }
    Ok(())
}

fn make_metadata(dir: &Path) -> Result<()> {
    fs::create_dir(dir).with_context(|| format!("create {}", dir.display()))?;
    for mode in [0o0000, 0o0400, 0o0644, 0o0755, 0o1777, 0o2755, 0o4755, 0o6711] {
        let path = dir.join(format!("mode-{mode:04o}"));
        write(&path, b"mode")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("set a mode")?;
    }
    let sticky = dir.join("sticky-directory");
    fs::create_dir(&sticky).context("create a directory")?;
    fs::set_permissions(&sticky, fs::Permissions::from_mode(0o3775)).context("set a mode")?;
    let owned = dir.join("owned");
    write(&owned, b"owned")?;
    lchown(&owned, Some(4_000_000_000), Some(3_000_000_000)).context("set an owner beyond 2^31")?;
    let times = [
        ("old", -1_000_000_000, 999_999_999),
        ("precise", 1_500_000_000, 1),
        ("late", 4_000_000_000, 0),
    ];
    for (name, seconds, nanoseconds) in times {
        write(&dir.join(name), b"time")?;
        set_time(&dir.join(name), seconds, nanoseconds)?;
    }
    let attributed = dir.join("attributed");
    write(&attributed, b"attributed")?;
    // The capability is cap_net_raw=ep (vfs_cap_data, version 2); the ACL gives user 1234 the right to read.
    let capability = b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
    let attributes: [(&str, &[u8]); 5] = [
        ("user.comment", b"golden"),
        ("user.binary", &[0, 1, 2, 255]),
        ("trusted.overlay", b"root only"),
        ("security.capability", capability),
        ("system.posix_acl_access", ACL),
    ];
    for (name, value) in attributes {
        lsetxattr(&attributed, name, value, XattrFlags::empty())
            .with_context(|| format!("set attribute {name}"))?;
    }
    lsetxattr(&sticky, "system.posix_acl_default", ACL, XattrFlags::empty()).context("set a default ACL")
}

/// An ACL as the kernel takes it (linux/posix_acl_xattr.h): version 2, then tag, permissions, id of each entry:
/// user::rw-, user:1234:r--, group::r--, mask::r--, other::---.
const ACL: &[u8] = b"\x02\x00\x00\x00\
    \x01\x00\x06\x00\xff\xff\xff\xff\
    \x02\x00\x04\x00\xd2\x04\x00\x00\
    \x04\x00\x04\x00\xff\xff\xff\xff\
    \x10\x00\x04\x00\xff\xff\xff\xff\
    \x20\x00\x00\x00\xff\xff\xff\xff";

fn write(path: &Path, data: &[u8]) -> Result<()> {
    fs::write(path, data).with_context(|| format!("write {}", path.display()))
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> Result<()> {
    let time = Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .with_context(|| format!("set the time of {}", path.display()))
}
