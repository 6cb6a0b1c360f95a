//! Tests of [`super`].

use std::fs;
use std::os::unix::fs::symlink;

use rustix::fs::XattrFlags;

use super::*;
use crate::fs::testing::{Scratch, privileged};
use crate::fs::{
    Device, Xattr, create_file, hard_link, make_dir, make_node, make_symlink, open_dir, read_xattrs_at, stat,
};

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr {
        name: name.as_bytes().into(),
        value: value.into(),
    }
}

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// rwx for the owner, r-x for user 1234, nothing for the group, mask r-x, nothing for others: mode 0750.
fn named_user_acl() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[
        (1, 7, NONE),
        (2, 5, 1234),
        (4, 0, NONE),
        (0x10, 5, NONE),
        (0x20, 0, NONE),
    ])
}

/// `cap_net_raw+ep`, version 2.
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn full() -> Meta {
    Meta {
        mode: 0o6750,
        uid: 4_294_967_294,
        gid: 3_000_000_000,
        mtime: Timestamp {
            secs: -1_000_000_000,
            nanos: 123_456_789,
        },
        xattrs: vec![
            xattr("security.capability", &CAPABILITY),
            xattr("system.posix_acl_access", &named_user_acl()),
            xattr("trusted.simulcast", b"\0binary\xff"),
            xattr("user.note", b""),
        ],
    }
}

fn read(scratch: &Scratch, name: &[u8]) -> Meta {
    let mut meta = stat(scratch, name).unwrap().meta;
    meta.xattrs = read_xattrs_at(scratch, name).unwrap();
    meta
}

#[test]
fn everything_at_once_on_files_and_directories() {
    if !privileged("everything_at_once_on_files_and_directories") {
        return;
    }
    let scratch = Scratch::new();
    let wanted = full();
    let file = create_file(&scratch, b"fd").unwrap();
    assert_eq!(apply_meta_fd(&file, &wanted).unwrap(), []);
    create_file(&scratch, b"at").unwrap();
    assert_eq!(apply_meta_at(&scratch, b"at", Kind::File, &wanted).unwrap(), []);
    let file = create_file(&scratch, b"new").unwrap();
    let birth = Birth::in_dir(&scratch).unwrap();
    assert_eq!(apply_meta_new(&file, birth, &wanted).unwrap(), []);
    for name in [&b"fd"[..], b"at", b"new"] {
        assert_eq!(read(&scratch, name), wanted);
    }
    let mut of_dir = wanted;
    of_dir.mode = 0o3750;
    of_dir.xattrs[0] = xattr("system.posix_acl_default", &named_user_acl());
    of_dir.xattrs.sort();
    make_dir(&scratch, b"d").unwrap();
    assert_eq!(apply_meta_at(&scratch, b"d", Kind::Dir, &of_dir).unwrap(), []);
    assert_eq!(read(&scratch, b"d"), of_dir);
}

#[test]
fn what_is_not_wanted_goes_and_the_second_time_changes_nothing() {
    if !privileged("what_is_not_wanted_goes_and_the_second_time_changes_nothing") {
        return;
    }
    let scratch = Scratch::new();
    let file = create_file(&scratch, b"f").unwrap();
    apply_meta_fd(&file, &full()).unwrap();
    let plain = Meta {
        mode: 0o644,
        mtime: Timestamp {
            secs: 4_102_444_800,
            nanos: 1,
        },
        ..Meta::default()
    };
    assert_eq!(apply_meta_fd(&file, &plain).unwrap(), []);
    assert_eq!(read(&scratch, b"f"), plain);
    // Set-user-id survives a change of owner, and comes back where only chown cleared it.
    for (uid, mode) in [(7, 0o4755), (8, 0o4755), (8, 0o755), (0, 0o6755)] {
        let meta = Meta {
            uid,
            mode,
            ..plain.clone()
        };
        apply_meta_fd(&file, &meta).unwrap();
        assert_eq!(read(&scratch, b"f"), meta);
    }
}

#[test]
fn symlinks_and_nodes_get_theirs_without_being_followed() {
    if !privileged("symlinks_and_nodes_get_theirs_without_being_followed") {
        return;
    }
    let scratch = Scratch::new();
    create_file(&scratch, b"target").unwrap();
    let before = read(&scratch, b"target");
    make_symlink(&scratch, b"l", b"target").unwrap();
    make_symlink(&scratch, b"dangling", b"nowhere").unwrap();
    hard_link(&scratch, b"l", &scratch, b"l2").unwrap();
    let null = Device { major: 1, minor: 3 };
    for (name, kind) in [
        (&b"c"[..], Kind::CharDevice),
        (b"b", Kind::BlockDevice),
        (b"p", Kind::Fifo),
        (b"s", Kind::Socket),
    ] {
        make_node(&scratch, name, kind, null).unwrap();
        let wanted = Meta {
            mode: 0o1666,
            xattrs: vec![xattr("trusted.x", b"1")],
            ..full()
        };
        assert_eq!(apply_meta_at(&scratch, name, kind, &wanted).unwrap(), []);
        assert_eq!(read(&scratch, name), wanted);
    }
    for name in [&b"l"[..], b"dangling"] {
        let wanted = Meta {
            mode: 0o777,
            xattrs: vec![xattr("trusted.x", b"1")],
            ..full()
        };
        assert_eq!(apply_meta_at(&scratch, name, Kind::Symlink, &wanted).unwrap(), []);
        assert_eq!(read(&scratch, name), wanted);
    }
    assert_eq!(read(&scratch, b"l2"), read(&scratch, b"l"));
    assert_eq!(read(&scratch, b"target"), before);
    let error = apply_meta_at(&scratch, b"l", Kind::File, &full()).unwrap_err();
    assert!(matches!(
        error.cause(),
        Cause::Kind {
            wanted: Kind::File,
            found: Kind::Symlink
        }
    ));
}

#[test]
fn what_a_file_inherits_is_known_or_undone() {
    if !privileged("what_a_file_inherits_is_known_or_undone") {
        return;
    }
    let scratch = Scratch::new();
    let parent = Meta {
        mode: 0o2777,
        gid: 77,
        xattrs: vec![xattr("system.posix_acl_default", &named_user_acl())],
        ..Meta::default()
    };
    make_dir(&scratch, b"d").unwrap();
    apply_meta_at(&scratch, b"d", Kind::Dir, &parent).unwrap();
    let dir = open_dir(&scratch, b"d").unwrap();
    let birth = Birth::in_dir(&dir).unwrap();
    for gid in [0, 77] {
        let name = format!("f{gid}");
        let file = create_file(&dir, name.as_bytes()).unwrap();
        let wanted = Meta {
            mode: 0o640,
            gid,
            ..Meta::default()
        };
        assert_eq!(apply_meta_new(&file, birth, &wanted).unwrap(), []);
        let found = stat(&dir, name.as_bytes()).unwrap().meta;
        assert_eq!((found.gid, found.mode), (gid, 0o640));
        assert_eq!(read_xattrs_at(&dir, name.as_bytes()).unwrap(), []);
    }
}

#[test]
fn one_attribute_that_cannot_be_set_does_not_stop_the_others() {
    if !privileged("one_attribute_that_cannot_be_set_does_not_stop_the_others") {
        return;
    }
    let scratch = Scratch::new();
    symlink("x", scratch.path("l")).unwrap();
    let wanted = Meta {
        mode: 0o777,
        uid: 5,
        // The kernel allows no user attributes and no ACLs on symlinks.
        xattrs: vec![
            xattr("bogus.name", b"1"),
            xattr("system.posix_acl_access", &named_user_acl()),
            xattr("trusted.z", b"1"),
            xattr("user.a", b"1"),
        ],
        ..full()
    };
    let limitations = apply_meta_at(&scratch, b"l", Kind::Symlink, &wanted).unwrap();
    let refused: Vec<_> = limitations
        .iter()
        .map(|limitation| limitation.part.clone())
        .collect();
    let part = |name: &str| LimitedPart::Xattr(name.as_bytes().into());
    assert_eq!(
        refused,
        [
            part("bogus.name"),
            part("system.posix_acl_access"),
            part("user.a")
        ]
    );
    assert_eq!(
        limitations[0].to_string(),
        "extended attribute bogus.name not applied: Operation not supported (os error 95)"
    );
    let found = read(&scratch, b"l");
    assert_eq!((found.uid, found.mtime), (5, wanted.mtime));
    assert_eq!(found.xattrs, [xattr("trusted.z", b"1")]);
}

#[test]
fn a_time_that_the_file_system_cuts_is_reported() {
    let scratch = Scratch::new();
    let file = create_file(&scratch, b"f").unwrap();
    let wanted = Meta {
        mode: 0o644,
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        mtime: Timestamp {
            secs: i64::MAX / 4,
            nanos: 5,
        },
        ..Meta::default()
    };
    let limitations = apply_meta_fd(&file, &wanted).unwrap();
    let found = stat(&scratch, b"f").unwrap().meta.mtime;
    assert_ne!(
        found, wanted.mtime,
        "this file system reaches beyond the year 70,000,000,000"
    );
    assert_eq!(
        limitations,
        [Limitation {
            part: LimitedPart::Mtime(Some(found)),
            errno: None
        }]
    );
}

#[test]
fn values_that_mean_something_else_to_the_kernel_are_refused() {
    let scratch = Scratch::new();
    let file = create_file(&scratch, b"f").unwrap();
    rustix::fs::fsetxattr(&file, "user.a", b"1", XattrFlags::empty()).unwrap();
    let before = read(&scratch, b"f");
    let time = |nanos| Timestamp { secs: 0, nanos };
    for wrong in [
        Meta {
            uid: u32::MAX,
            ..Meta::default()
        },
        Meta {
            gid: u32::MAX,
            ..Meta::default()
        },
        Meta {
            mtime: time(0x3fff_ffff),
            ..Meta::default()
        },
        Meta {
            mtime: time(1_000_000_000),
            ..Meta::default()
        },
        Meta {
            mode: 0o10644,
            ..Meta::default()
        },
    ] {
        let error = apply_meta_fd(&file, &wrong).unwrap_err();
        assert!(matches!(error.cause(), Cause::Meta(_)), "{error:?}");
        assert_eq!(read(&scratch, b"f"), before);
    }
    let named = apply_meta_at(
        &scratch,
        b"f",
        Kind::File,
        &Meta {
            uid: u32::MAX,
            ..before.clone()
        },
    )
    .unwrap_err();
    assert_eq!(named.path(), b"f");
    fs::remove_file(scratch.path("f")).unwrap();
    assert!(
        apply_meta_at(&scratch, b"f", Kind::File, &before)
            .unwrap_err()
            .is_absent()
    );
}
