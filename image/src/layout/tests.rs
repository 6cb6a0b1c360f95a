//! Tests of [`super`]: text and checks.

use super::*;

const RAID: &str = include_str!("../../fixtures/layout-raid1.toml");

#[test]
fn a_layout_is_read_and_written() {
    let layout = Layout::parse(RAID).unwrap();
    assert_eq!(layout.disk.len(), 2);
    let system = &layout.disk[&"first".parse().unwrap()];
    assert_eq!(system.choose.order, Some(0));
    assert_eq!(system.partition[0].when, Some(Firmware::Bios));
    assert_eq!(layout.root().unwrap().on.to_string(), "vg0.root");
    let text = layout.to_toml();
    assert_eq!(Layout::parse(&text).unwrap(), layout, "{text}");
    let json = serde_json::to_string(&layout).unwrap();
    assert_eq!(serde_json::from_str::<Layout>(&json).unwrap(), layout);
}

#[test]
fn a_wrong_text_is_named_with_its_line() {
    let error = |text: &str| Layout::parse(text).unwrap_err().to_string();
    let small = "[[disk.a.partition]]\nname = \"root\"\nsize = \"rest\"\n\n[[filesystem]]\non = \"a.root\"\nkind = \"ext4\"\nmount = \"/\"\n";
    assert!(Layout::parse(small).is_ok());
    let unknown = error(&small.replace("mount", "mont"));
    assert!(unknown.starts_with("line 8: unknown field `mont`"), "{unknown}");
    let size = error(&small.replace("rest", "big"));
    assert_eq!(
        size,
        "line 3: \"big\" is not a size: write 512MiB, 20GB, 30% or rest"
    );
    assert!(error("[disk").starts_with("line 1: "));
    assert_eq!(error(&" ".repeat(300 << 10)), "a layout has at most 256 KiB");
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (from, to, message) in [
        (
            "on = \"vg0.root\"",
            "on = \"vg0.none\"",
            "filesystem on vg0.none: there is no such partition, array or volume in this layout",
        ),
        (
            "on = \"vg0.swap\"",
            "on = \"vg0.root\"",
            "filesystem on vg0.root: it is used by filesystem on vg0.root already",
        ),
        (
            "mount = \"/boot\"",
            "mount = \"/\"",
            "filesystem on vg0.root: something else is mounted at / too",
        ),
        (
            "mount = \"/boot\"",
            "mount = \"/../x\"",
            "filesystem on boot: it cannot be mounted at \"/../x\"",
        ),
        (
            "mount = \"/\"",
            "mount = \"/srv\"",
            "layout: nothing is mounted at /",
        ),
        (
            "level = 1",
            "level = 2",
            "raid.boot: there is no level 2: use 0, 1, 4, 5, 6 or 10",
        ),
        (
            "\"second.boot\"",
            "\"first.boot\"",
            "raid.boot: first.boot is used by raid.boot already",
        ),
        (
            "\"second.boot\"",
            "\"second.efi\"",
            "raid.boot: second.efi is not a partition of kind raid",
        ),
        (
            "[raid.boot]",
            "[raid.first]",
            "first: two of disks, arrays and groups have this name",
        ),
        (
            "table = \"gpt\"",
            "table = \"mbr\"",
            "disk.first.bios: bios-boot is for gpt; with an mbr GRUB lies before the first partition",
        ),
        (
            "size = \"512MiB\"",
            "keep = true",
            "raid.boot: first.boot is not a partition of kind raid",
        ),
        (
            "label = \"boot\"",
            "label = \"more-than-sixteen\"",
            "filesystem on boot: the label of ext4 is up to 16 printable ASCII characters",
        ),
        (
            "label = \"boot\"",
            "uuid = \"12\"",
            "filesystem on boot: \"12\" is no UUID of ext4",
        ),
        (
            "label = \"boot\"",
            "options = \"a b\"",
            "filesystem on boot: mount options are words with commas between them",
        ),
        (
            "label = \"boot\"",
            "subvolume = \"x\"",
            "filesystem on boot: a subvolume is btrfs', and named by up to 64 letters, digits, '@', '_', '-' or '.'",
        ),
    ] {
        assert!(RAID.contains(from), "{from}");
        let error = Layout::parse(&RAID.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
