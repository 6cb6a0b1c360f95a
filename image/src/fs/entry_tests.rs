//! Tests of [`super`].

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use super::*;
use crate::fs::testing::{Scratch, privileged};
use crate::fs::{remove, stat};

fn found(error: &FsError) -> Option<Kind> {
    match error.cause() {
        Cause::Kind { found, .. } => Some(*found),
        _ => None,
    }
}

#[test]
fn only_regular_files_are_opened_and_nothing_blocks() {
    let scratch = Scratch::new();
    fs::write(scratch.path("f"), b"hello").unwrap();
    symlink("f", scratch.path("l")).unwrap();
    make_dir(&scratch, b"d").unwrap();
    make_node(&scratch, b"p", Kind::Fifo, Device::default()).unwrap();
    make_node(&scratch, b"s", Kind::Socket, Device::default()).unwrap();
    let (mut file, stat) = open_read(&scratch, b"f").unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!((text.as_str(), stat.size), ("hello", 5));
    for open in [open_read, open_existing] {
        for (name, kind) in [
            (&b"l"[..], Kind::Symlink),
            (b"d", Kind::Dir),
            (b"p", Kind::Fifo),
            (b"s", Kind::Socket),
        ] {
            let error = open(&scratch, name).unwrap_err();
            assert_eq!(found(&error), Some(kind), "{error:?}");
        }
        assert!(open(&scratch, b"none").unwrap_err().is_absent());
        assert!(matches!(
            open(&scratch, b"d/../f").unwrap_err().cause(),
            Cause::Name
        ));
    }
}

#[test]
fn root_reads_mode_0000() {
    if !privileged("root_reads_mode_0000") {
        return;
    }
    let scratch = Scratch::new();
    fs::write(scratch.path("f"), b"secret").unwrap();
    fs::set_permissions(scratch.path("f"), fs::Permissions::from_mode(0o000)).unwrap();
    assert_eq!(open_read(&scratch, b"f").unwrap().1.size, 6);
}

#[test]
fn files_are_made_only_where_nothing_stands() {
    let scratch = Scratch::new();
    symlink("elsewhere", scratch.path("trap")).unwrap();
    assert_eq!(
        create_file(&scratch, b"trap").unwrap_err().errno(),
        Some(Errno::EXIST)
    );
    assert!(!scratch.path("elsewhere").exists());
    create_file(&scratch, b"f").unwrap().write_all(b"x").unwrap();
    assert_eq!(
        create_file(&scratch, b"f").unwrap_err().errno(),
        Some(Errno::EXIST)
    );
    assert_eq!(stat(&scratch, b"f").unwrap().meta.mode, 0o600);
    make_dir(&scratch, b"d").unwrap();
    assert_eq!(stat(&scratch, b"d").unwrap().meta.mode, 0o700);
    open_existing(&scratch, b"f").unwrap().0.write_all(b"y").unwrap();
    assert_eq!(fs::read(scratch.path("f")).unwrap(), b"y");
}

#[test]
fn nodes_of_every_kind() {
    if !privileged("nodes_of_every_kind") {
        return;
    }
    let scratch = Scratch::new();
    let largest = Device {
        major: 4095,
        minor: (1 << 20) - 1,
    };
    for (name, kind, rdev) in [
        (&b"c"[..], Kind::CharDevice, largest),
        (b"b", Kind::BlockDevice, Device { major: 7, minor: 300 }),
        (b"zero", Kind::CharDevice, Device::default()),
        (b"p", Kind::Fifo, Device::default()),
        (b"s", Kind::Socket, Device::default()),
    ] {
        make_node(&scratch, name, kind, rdev).unwrap();
        let made = stat(&scratch, name).unwrap();
        assert_eq!((made.kind, made.rdev, made.meta.mode), (kind, rdev, 0o600));
        hard_link(&scratch, name, &scratch, &[name, b"2"].concat()).unwrap();
        assert_eq!(stat(&scratch, name).unwrap().nlink, 2);
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20), (u32::MAX, u32::MAX)] {
        let error = make_node(&scratch, b"x", Kind::CharDevice, Device { major, minor }).unwrap_err();
        assert!(matches!(error.cause(), Cause::Meta(_)), "{error:?}");
    }
    assert!(make_node(&scratch, b"x", Kind::File, Device::default()).is_err());
    assert!(!scratch.path("x").exists());
}

#[test]
fn symlinks_are_linked_and_read_themselves() {
    let scratch = Scratch::new();
    let target = [b'a'; 4000];
    make_symlink(&scratch, b"l", &target).unwrap();
    assert_eq!(*read_link(&scratch, b"l").unwrap(), target);
    hard_link(&scratch, b"l", &scratch, b"m").unwrap();
    let (one, two) = (stat(&scratch, b"l").unwrap(), stat(&scratch, b"m").unwrap());
    assert_eq!((one.kind, one.id(), one.nlink), (Kind::Symlink, two.id(), 2));
    fs::write(scratch.path("f"), b"").unwrap();
    assert_eq!(read_link(&scratch, b"f").unwrap_err().errno(), Some(Errno::INVAL));
    assert!(make_symlink(&scratch, b"n", &[b'a'; 4096]).is_err());
    assert!(make_symlink(&scratch, b"n", b"a\0b").is_err());
}

#[test]
fn renames_replace_and_exchange() {
    let scratch = Scratch::new();
    fs::write(scratch.path("a"), b"a").unwrap();
    fs::write(scratch.path("b"), b"b").unwrap();
    rename(&scratch, b"a", &scratch, b"b").unwrap();
    assert_eq!(fs::read(scratch.path("b")).unwrap(), b"a");
    make_dir(&scratch, b"d").unwrap();
    exchange(&scratch, b"b", &scratch, b"d").unwrap();
    assert_eq!(stat(&scratch, b"b").unwrap().kind, Kind::Dir);
    assert_eq!(fs::read(scratch.path("d")).unwrap(), b"a");
    assert!(rename(&scratch, b"d", &scratch, b"../x").is_err());
    remove(&scratch, b"b").unwrap();
    remove(&scratch, b"d").unwrap();
    assert!(remove(&scratch, b"d").unwrap_err().is_absent());
}

#[test]
fn reading_leaves_the_atime_alone() {
    let scratch = Scratch::new();
    fs::write(scratch.path("f"), b"x").unwrap();
    let old = rustix::fs::Timestamps {
        last_access: rustix::fs::Timespec {
            tv_sec: 5,
            tv_nsec: 0,
        },
        last_modification: rustix::fs::Timespec {
            tv_sec: 6,
            tv_nsec: 0,
        },
    };
    rustix::fs::utimensat(&scratch, "f", &old, AtFlags::empty()).unwrap();
    let mut byte = [0];
    open_read(&scratch, b"f")
        .unwrap()
        .0
        .read_exact(&mut byte)
        .unwrap();
    assert_eq!(fs::metadata(scratch.path("f")).unwrap().atime(), 5);
}
