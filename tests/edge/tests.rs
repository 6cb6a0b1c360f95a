//! Tests of [`super`]: that the tree can be built and is the same each time, and that no difference is missed.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, lchown, symlink};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use super::*;

const SMALL: EdgeSize = EdgeSize {
    large_dir: 200,
    sparse_bytes: 100 << 20,
};

/// Whether this process may build the tree; fails when it must and may not.
fn privileged() -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("REQUIRE_TIERS").is_none(),
        "building the tree needs root, and REQUIRE_TIERS is set"
    );
    eprintln!("SKIPPED: building the tree needs root");
    false
}

#[test]
fn the_tree_is_the_same_each_time_and_rsync_copies_all_but_the_deepest() {
    if !privileged() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    build(&path("one"), SMALL).unwrap();
    build(&path("two"), SMALL).unwrap();
    assert_same(&path("one"), &path("two"));
    if !Tool::Rsync.is_installed() {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "rsync is not installed, and REQUIRE_TIERS is set"
        );
        eprintln!("SKIPPED: rsync is not installed");
        return;
    }
    assert_eq!(
        rsync_differences(&path("one"), &path("two")).unwrap(),
        Vec::<String>::new()
    );
    Run::new(Tool::Rsync)
        .args(["-aHAXS", "--numeric-ids", &format!("--exclude=/{BEYOND}/")])
        .args([path("one").join(""), path("copy")])
        .run()
        .unwrap();
    assert_eq!(
        rsync_differences(&path("one"), &path("copy")).unwrap(),
        Vec::<String>::new()
    );
    // rsync makes holes out of zeros that were allocated; nothing else is lost.
    let lost = differences(&path("one"), &path("copy")).unwrap();
    let lost: Vec<_> = lost.iter().filter(|line| !line.starts_with(BEYOND)).collect();
    assert_eq!(
        lost,
        ["holes/allocated-zeros: allocated bytes 1048576 in the first, 0 in the second"]
    );
}

fn set_time(path: &Path, secs: i64, nanos: i64) {
    let time = Timespec {
        tv_sec: secs,
        tv_nsec: nanos,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// A tree with one of each, whose times are all the same.
fn plain(root: &Path) {
    fs::create_dir_all(root.join("dir")).unwrap();
    fs::write(root.join("file"), b"content").unwrap();
    fs::write(root.join("large"), vec![7; 1 << 20]).unwrap();
    fs::write(root.join("times"), b"").unwrap();
    set_time(&root.join("times"), 1_000_000_000, 5);
    fs::write(root.join("link"), b"linked").unwrap();
    fs::hard_link(root.join("link"), root.join("dir/link")).unwrap();
    symlink("target", root.join("symlink")).unwrap();
    rustix::fs::mknodat(
        CWD,
        root.join("char"),
        FileType::CharacterDevice,
        Mode::RUSR,
        rustix::fs::makedev(1, 3),
    )
    .unwrap();
    rustix::fs::lsetxattr(root.join("file"), "user.a", b"1", XattrFlags::empty()).unwrap();
    level_times(root);
}

fn level_times(root: &Path) {
    for name in [
        "dir/link", "dir", "file", "large", "link", "symlink", "char", "more", "",
    ] {
        if root.join(name).symlink_metadata().is_ok() {
            set_time(&root.join(name), 1_000_000_000, 5);
        }
    }
}

/// What is changed in a tree, and how the lines begin that should say so.
type Change<'a> = (&'a dyn Fn(&Path), &'a [&'a str]);

fn assert_found(changes: &[Change<'_>]) {
    let scratch = tempfile::tempdir().unwrap();
    let one = scratch.path().join("one");
    plain(&one);
    for (index, (change, expected)) in changes.iter().enumerate() {
        let two = scratch.path().join(format!("two-{index}"));
        plain(&two);
        change(&two);
        level_times(&two);
        let found = differences(&one, &two).unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (line, start) in found.iter().zip(*expected) {
            assert!(line.starts_with(start), "{line}");
        }
    }
}

#[test]
fn differences_of_content_kind_and_links_are_found_and_named() {
    if !privileged() {
        return;
    }
    assert_found(&[
        (&|_| {}, &[]),
        (
            &|two| fs::write(two.join("file"), b"CONTENT").unwrap(),
            &["file: content "],
        ),
        (
            &|two| fs::write(two.join("file"), b"content!").unwrap(),
            &["file: size 7 in the first, 8 in the second", "file: content "],
        ),
        (
            &|two| {
                fs::remove_file(two.join("symlink")).unwrap();
                symlink("other", two.join("symlink")).unwrap();
            },
            &["symlink: target target in the first, other in the second"],
        ),
        (
            &|two| {
                fs::remove_file(two.join("char")).unwrap();
                fs::write(two.join("char"), "").unwrap();
            },
            &["char: CharacterDevice in the first, RegularFile in the second"],
        ),
        (
            &|two| {
                fs::remove_file(two.join("dir/link")).unwrap();
                fs::write(two.join("dir/link"), b"linked").unwrap();
            },
            &["link: linked with dir/link in the first, with link in the second"],
        ),
        (
            &|two| fs::remove_file(two.join("file")).unwrap(),
            &["file: only in the first"],
        ),
        (
            &|two| fs::write(two.join("more"), "").unwrap(),
            &["more: only in the second"],
        ),
        (
            &|two| {
                let file = File::create(two.join("large")).unwrap();
                file.set_len(1 << 20).unwrap();
            },
            &[
                "large: content ",
                "large: allocated bytes 1048576 in the first, 0 in the second",
            ],
        ),
    ]);
}

#[test]
fn differences_of_metadata_are_found_and_named() {
    if !privileged() {
        return;
    }
    assert_found(&[
        (
            &|two| fs::set_permissions(two.join("dir"), fs::Permissions::from_mode(0o1755)).unwrap(),
            &["dir: mode 0755 in the first, 1755 in the second"],
        ),
        (
            &|two| lchown(two.join("symlink"), Some(1), None).unwrap(),
            &["symlink: owner 0:0 in the first, 1:0 in the second"],
        ),
        (
            &|two| lchown(two, None, Some(2)).unwrap(),
            &[": owner 0:0 in the first, 0:2 in the second"],
        ),
        (
            &|two| rustix::fs::lsetxattr(two.join("file"), "user.a", b"2", XattrFlags::empty()).unwrap(),
            &["file: attribute user.a \"1\" in the first, \"2\" in the second"],
        ),
        (
            &|two| rustix::fs::lsetxattr(two.join("symlink"), "trusted.b", b"", XattrFlags::empty()).unwrap(),
            &["symlink: attribute trusted.b nothing in the first, \"\" in the second"],
        ),
        (
            &|two| rustix::fs::lremovexattr(two.join("file"), "user.a").unwrap(),
            &["file: attribute user.a \"1\" in the first, nothing in the second"],
        ),
        (
            &|two| set_time(&two.join("times"), 1_000_000_000, 6),
            &["times: mtime 1000000000.000000005 in the first, 1000000000.000000006 in the second"],
        ),
    ]);
}

#[test]
fn zeros_and_holes_have_the_same_content_but_not_the_same_allocation() {
    let scratch = tempfile::tempdir().unwrap();
    let make = |name: &str, zeros: bool| {
        let root = scratch.path().join(name);
        fs::create_dir(&root).unwrap();
        let file = File::create(root.join("f")).unwrap();
        file.set_len((3 << 20) + 5).unwrap();
        file.write_all_at(b"data", 1_500_001).unwrap();
        if zeros {
            file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        }
        set_time(&root.join("f"), 1, 1);
        set_time(&root, 1, 1);
        root
    };
    let found = differences(&make("holes", false), &make("zeros", true)).unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("f: allocated bytes "), "{found:?}");
}
