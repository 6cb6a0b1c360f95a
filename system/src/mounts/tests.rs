//! Tests of [`super`]: `mountinfo-debian12-vm.txt` was captured; the others are composed line by line as these
//! distributions mount things, so that every kind of mount occurs.

use std::fs;

use proptest::prelude::*;

use super::*;

const DEBIAN: &[u8] = include_bytes!("../../fixtures/mountinfo-debian12-vm.txt");
const FEDORA: &[u8] = include_bytes!("../../fixtures/mountinfo-fedora-btrfs.txt");
const UBUNTU: &[u8] = include_bytes!("../../fixtures/mountinfo-ubuntu-snaps.txt");
const ROCKY: &[u8] = include_bytes!("../../fixtures/mountinfo-rocky-nfs.txt");

fn skipped(text: &[u8], root: &str) -> Vec<(String, Reason)> {
    let stick = |device| device == (8, 17);
    skipped_below(&parse(text).unwrap(), root.as_bytes(), stick)
        .into_iter()
        .map(|one| (String::from_utf8(one.path).unwrap(), one.reason))
        .collect()
}

fn named(pairs: &[(&str, Reason)]) -> Vec<(String, Reason)> {
    pairs
        .iter()
        .map(|&(path, reason)| (path.to_owned(), reason))
        .collect()
}

#[test]
fn fields_are_read_and_escapes_undone() {
    let mounts = parse(UBUNTU).unwrap();
    assert_eq!(mounts.len(), 16);
    let data = &mounts[8];
    assert_eq!(
        *data,
        Mount {
            id: 99,
            parent: 31,
            device: (253, 1),
            root: b"/".to_vec(),
            point: b"/srv/data disk".to_vec(),
            options: b"rw,relatime".to_vec(),
            fs_type: b"xfs".to_vec(),
            source: b"/dev/mapper/data-srv".to_vec(),
            super_options: b"rw,attr2,inode64,logbufs=8,logbsize=32k,noquota".to_vec(),
        }
    );
    assert_eq!(mounts[10].point, b"/media/usb\tstick");
    assert_eq!(mounts[15].point, b"/mnt/odd\\name\nx");
    // Several optional fields, and none.
    let line = |optional: &str| format!("1 0 8:1 / / rw{optional} - ext4 /dev/sda1 rw\n");
    for optional in ["", " shared:1", " shared:1 master:2 propagate_from:3 unbindable"] {
        assert_eq!(parse(line(optional).as_bytes()).unwrap()[0].fs_type, b"ext4");
    }
    assert_eq!(
        parse(b"1 0 8:1 / / rw - ext4 none").unwrap()[0].super_options,
        b""
    );
}

#[test]
fn lines_that_are_none_are_refused_with_their_number() {
    for (text, fault) in [
        ("x", "line 1 of mountinfo has no number first: \"x\""),
        (
            "\n1 x 8:1 / / rw - ext4 a rw",
            "line 2 of mountinfo has no parent's number: \"1 x 8:1 / / rw - ext4 a rw\"",
        ),
        (
            "1 0 8 / / rw - ext4 a rw",
            "line 1 of mountinfo has no device: \"1 0 8 / / rw - ext4 a rw\"",
        ),
        (
            "1 0 8:1 / / rw shared:1",
            "line 1 of mountinfo has too few fields: \"1 0 8:1 / / rw shared:1\"",
        ),
        (
            "1 0 8:1 / / rw -",
            "line 1 of mountinfo has too few fields: \"1 0 8:1 / / rw -\"",
        ),
    ] {
        assert_eq!(parse(text.as_bytes()).unwrap_err().to_string(), fault);
    }
}

#[test]
fn what_a_capture_does_not_enter() {
    use Reason::{Duplicate, Network, Overlay, PackedImage, Pseudo, Removable, Unknown, UserSpace};
    let pseudo = |paths: &[&str]| named(&paths.iter().map(|&path| (path, Pseudo)).collect::<Vec<_>>());
    // /run/netns is a bind mount of a directory of the root file system.
    let mut expected = pseudo(&["dev", "proc", "sys"]);
    expected.insert(2, ("run/netns".to_owned(), Duplicate));
    assert_eq!(skipped(DEBIAN, "/"), expected);
    assert_eq!(
        skipped(FEDORA, "/"),
        pseudo(&["dev", "proc", "run", "sys", "tmp", "var/lib/nfs/rpc_pipefs"])
    );
    assert_eq!(
        skipped(UBUNTU, "/"),
        named(&[
            ("dev", Pseudo),
            ("media/cdrom", PackedImage),
            ("media/usb\tstick", Removable),
            ("mnt/odd\\name\nx", Unknown),
            ("proc", Pseudo),
            ("run", Pseudo),
            ("snap/core20/2318", PackedImage),
            ("snap/lxd/28373", PackedImage),
            ("srv/nfs", Duplicate),
            ("sys", Pseudo),
            ("var/lib/docker/overlay2/5f1c/merged", Overlay),
            ("var/lib/lxcfs", UserSpace),
        ])
    );
    // A disk below a directory of the automounter is not come to.
    assert_eq!(
        skipped(ROCKY, "/"),
        named(&[
            ("dev", Pseudo),
            ("home", Network),
            ("misc", Pseudo),
            ("opt/win", Network),
            ("proc", Pseudo),
            ("run", Pseudo),
            ("scratch", Network),
            ("sys", Pseudo),
        ])
    );
}

#[test]
fn below_another_root_only_what_lies_there_counts() {
    assert_eq!(
        skipped(UBUNTU, "/media/"),
        named(&[("cdrom", Reason::PackedImage), ("usb\tstick", Reason::Removable)])
    );
    // From inside, the directory that is seen twice is not seen at its other place.
    assert_eq!(skipped(UBUNTU, "/srv"), []);
    assert_eq!(skipped(UBUNTU, "/home"), []);
    // The file system of the root itself is entered, whatever it is.
    assert_eq!(skipped(ROCKY, "/home"), []);
    assert_eq!(skipped(b"", "/"), []);
}

#[test]
fn of_the_same_directory_twice_the_larger_part_is_entered() {
    let text = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 8:2 /part /a rw - ext4 /dev/sda2 rw\n\
        3 1 8:2 / /b rw - ext4 /dev/sda2 rw\n\
        4 1 8:2 / /c rw - ext4 /dev/sda2 rw\n\
        5 1 8:2 /partition /d rw - ext4 /dev/sda2 rw\n\
        6 1 8:3 /partition /e rw - ext4 /dev/sda3 rw\n\
        7 1 8:3 /part /f rw - ext4 /dev/sda3 rw\n";
    let duplicate = |path| (path, Reason::Duplicate);
    assert_eq!(
        skipped(text, "/"),
        named(&[duplicate("a"), duplicate("c"), duplicate("d")])
    );
    assert_eq!(skipped(text, "/b"), []);
}

#[test]
fn mounts_that_others_hide_are_not_seen() {
    // A second file system over /a, and over the directory that /b/c lies in.
    let text = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n\
        2 1 8:2 / /a rw - nfs x:/ rw\n\
        3 2 0:5 / /a/proc rw - proc proc rw\n\
        4 2 8:3 / /a rw - ext4 /dev/sda3 rw\n\
        5 1 0:6 / /b/c rw - proc proc rw\n\
        6 1 8:4 / /b rw - ext4 /dev/sda4 rw\n\
        7 6 0:7 / /b/d rw - sysfs sysfs rw\n\
        8 4 0:8 / /a/x rw - tmpfs tmpfs rw\n";
    assert_eq!(
        skipped(text, "/"),
        named(&[("a/x", Reason::Pseudo), ("b/d", Reason::Pseudo)])
    );
}

#[test]
fn the_kernels_own_text_is_read_with_odd_names() {
    let mounts = read().unwrap();
    assert!(
        mounts
            .iter()
            .any(|mount| mount.point == b"/proc" && mount.fs_type == b"proc")
    );
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "mounting needs root, and REQUIRE_TIERS is set"
        );
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let point = scratch.path().join("a b\\c\nd#e\té");
    fs::create_dir(&point).unwrap();
    let from = scratch.path().join("from");
    fs::create_dir(&from).unwrap();
    rustix::mount::mount_bind(&from, &point).unwrap();
    let mounts = read();
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).unwrap();
    let mounts = mounts.unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount.point == point.as_os_str().as_encoded_bytes())
        .unwrap();
    assert!(mount.root.ends_with(b"/from"), "{mount:?}");
    let skipped = skipped_below(
        &mounts,
        scratch.path().as_os_str().as_encoded_bytes(),
        is_removable,
    );
    assert_eq!(skipped.len(), 1);
    assert_eq!(skipped[0].reason, Reason::Duplicate);
}

#[test]
fn a_disk_that_does_not_exist_is_not_removable() {
    assert!(!is_removable((0, 21)));
    assert!(!is_removable((4095, 4095)));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), root in any::<Vec<u8>>()) {
        if let Ok(mounts) = parse(&text) {
            skipped_below(&mounts, &root, |_| false);
        }
    }

    #[test]
    fn no_tree_of_mounts_makes_it_panic(lines in proptest::collection::vec((0u32..6, 0u32..6, 0u32..3, "/[ab]?(/[ab])?", "/[ab]?"), 0..12)) {
        let text: String = lines
            .iter()
            .map(|(id, parent, minor, point, root)| format!("{id} {parent} 8:{minor} {root} {point} rw - ext4 x rw\n"))
            .collect();
        let mounts = parse(text.as_bytes()).unwrap();
        for root in ["/", "/a", "/a/b"] {
            let skipped = skipped_below(&mounts, root.as_bytes(), |_| false);
            prop_assert!(skipped.iter().all(|one| one.reason == Reason::Duplicate));
        }
    }
}
