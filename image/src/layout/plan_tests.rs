//! Tests of [`super`] and of what must be refused.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::layout::{Content, Mark, Stage, refuse};

const RAID: &str = include_str!("../../fixtures/layout-raid1.toml");

fn node() -> NodeName {
    "node01".parse().unwrap()
}

fn plan(layout: &Layout, disks: &[DiskFacts], firmware: Firmware) -> Result<Plan, PlanError> {
    let purpose = Purpose {
        node: &node(),
        order: 7,
        manifest: ManifestId::of(b"m"),
        firmware,
    };
    Plan::new(layout, disks, &purpose)
}

fn disk(name: &str, bytes: u64) -> DiskFacts {
    DiskFacts {
        bus: "sata".into(),
        ..DiskFacts::new(name, bytes)
    }
}

fn extent(number: u32, start: u64, bytes: u64, label: &str) -> Extent {
    Extent {
        number,
        start,
        bytes,
        label: Some(label.into()).filter(|label: &String| !label.is_empty()),
        id: Some(format!("id-{number}")),
        signature: Some("ext4".into()),
        ..Extent::default()
    }
}

fn shown(disk: &PlannedDisk) -> Vec<(String, u64, u64)> {
    disk.partitions
        .iter()
        .map(|partition| {
            (
                partition.path.clone(),
                partition.start >> 20,
                partition.bytes >> 20,
            )
        })
        .collect()
}

#[test]
fn one_layout_serves_both_kinds_of_firmware() {
    let layout = Layout::parse(RAID).unwrap();
    let disks = [disk("nvme0n1", 10 << 30), disk("nvme1n1", 10 << 30)];
    let bios = plan(&layout, &disks, Firmware::Bios).unwrap();
    let path = |number| format!("/dev/nvme0n1p{number}");
    assert_eq!(
        shown(&bios.disks[0]),
        [(path(1), 1, 1), (path(2), 2, 512), (path(3), 514, 10_239 - 514)]
    );
    assert_eq!(bios.arrays[1].members, ["/dev/nvme0n1p3", "/dev/nvme1n1p3"]);
    assert_eq!(bios.groups[0].members, ["/dev/md1"]);
    assert_eq!(bios.groups[0].volumes[1].path, "/dev/mapper/vg0-root");
    let mounts: Vec<_> = bios
        .filesystems
        .iter()
        .map(|fs| (fs.path.as_str(), fs.mount.as_deref()))
        .collect();
    assert_eq!(
        mounts,
        [
            ("/dev/mapper/vg0-root", Some("/")),
            ("/dev/md0", Some("/boot")),
            ("/dev/mapper/vg0-swap", None)
        ]
    );
    let uefi = plan(&layout, &disks, Firmware::Uefi).unwrap();
    assert_eq!(shown(&uefi.disks[0])[0], (path(1), 1, 128));
    assert_eq!(uefi.efi().unwrap().path, path(1));
    assert_eq!(uefi.efi().unwrap().uuid.len(), 9);
    // The same order makes the same plan, another one other identities.
    assert_eq!(
        plan(&layout, &disks, Firmware::Bios).unwrap().digest(),
        bios.digest()
    );
    assert_ne!(uefi.digest(), bios.digest());
    assert_eq!(bios.disks[0].table_id.as_bytes()[14], b'8');
}

#[test]
fn too_small_is_said_with_what_is_missing() {
    let layout = Layout::parse(RAID).unwrap();
    let disks = [disk("sda", 8_000_000_000), disk("sdb", 8_000_000_000)];
    assert!(plan(&layout, &disks, Firmware::Bios).is_ok());
    let text = RAID.replace("8GB", "1GB");
    let disks = [disk("sda", 4 << 30), disk("sdb", 4 << 30)];
    let error = plan(&Layout::parse(&text).unwrap(), &disks, Firmware::Bios).unwrap_err();
    assert_eq!(error.to_string(), "disk.first (/dev/sda) is too small");
    let PlanError::Disk { source, .. } = error else {
        panic!()
    };
    assert_eq!(
        source.to_string(),
        "515MiB are missing: 4609MiB are needed, and there is room for 4094MiB"
    );
    let text = RAID.replace(
        "name = \"swap\", size = \"1GiB\"",
        "name = \"swap\", size = \"900GiB\"",
    );
    let disks = [disk("sda", 10 << 30), disk("sdb", 10 << 30)];
    let error = plan(&Layout::parse(&text).unwrap(), &disks, Firmware::Bios).unwrap_err();
    assert_eq!(error.to_string(), "group.vg0 is too small");
}

#[test]
fn kept_partitions_stay_where_they_are() {
    let text = "[disk.a]\npartition = [{ name = \"root\", size = \"rest\" }, { name = \"home\", keep = true }, { name = \"swap\", kind = \"swap\", size = \"1GiB\" }]\n\
                [boot]\nloader = \"none\"\n[[filesystem]]\non = \"a.root\"\nkind = \"ext4\"\nmount = \"/\"\n\
                [[filesystem]]\non = \"a.home\"\nkind = \"ext4\"\nmount = \"/home\"\n";
    let layout = Layout::parse(text).unwrap();
    let mut facts = disk("sda", 10 << 30);
    facts.content = Content {
        table: Some("gpt".into()),
        table_id: Some("t".into()),
        partitions: vec![
            extent(1, 1 << 20, 1 << 30, "old"),
            extent(2, 3 << 30, 2 << 30, "home"),
        ],
        ..Content::default()
    };
    let made = plan(&layout, std::slice::from_ref(&facts), Firmware::Bios).unwrap();
    assert_eq!(
        shown(&made.disks[0]),
        [
            ("/dev/sda1".into(), 1, 3071),
            ("/dev/sda2".into(), 3072, 2048),
            ("/dev/sda3".into(), 5120, 1024)
        ]
    );
    assert_eq!(made.disks[0].table_id, "t");
    assert_eq!(made.disks[0].partitions[1].id, "id-2");
    assert!(made.mounted_at("/home").unwrap().keep);
    // The partition beside it is not ours.
    let error = refuse(&made, std::slice::from_ref(&facts), &node(), false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "/dev/sda holds a gpt table with 2 partitions (ext4, ext4), which this system did not put there"
    );
    facts.content.partitions.remove(0);
    assert_eq!(
        refuse(&made, std::slice::from_ref(&facts), &node(), false),
        Ok(())
    );
    facts.content.partitions[0].start = 63 * 512;
    let error = plan(&layout, std::slice::from_ref(&facts), Firmware::Bios)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "disk.a (/dev/sda) has a partition to keep within its first MiB, which is needed"
    );
    facts.content.partitions.clear();
    let error = plan(&layout, &[facts], Firmware::Bios).unwrap_err().to_string();
    assert_eq!(
        error,
        "disk.a.home is to be kept, but /dev/sda has no partition of this name, nor one in this place"
    );
}

#[test]
fn only_empty_and_own_disks_are_written_without_being_asked() {
    let text = "[disk.a]\ntable = \"mbr\"\npartition = [{ name = \"root\", size = \"rest\" }]\n[[filesystem]]\non = \"a.root\"\nkind = \"ext4\"\nmount = \"/\"\n";
    let layout = Layout::parse(text).unwrap();
    let mut facts = disk("vda", 10 << 30);
    let made = plan(&layout, std::slice::from_ref(&facts), Firmware::Bios).unwrap();
    let judged = |facts: &DiskFacts, wipe| refuse(&made, std::slice::from_ref(facts), &node(), wipe).is_ok();
    assert!(judged(&facts, false));
    facts.content.signature = Some("LVM2_member".into());
    assert!(!judged(&facts, false));
    assert!(judged(&facts, true));
    facts.content = Content {
        table: Some("dos".into()),
        table_id: Some("12345678".into()),
        partitions: vec![extent(1, 1 << 20, 9 << 30, "")],
        ..Content::default()
    };
    assert!(!judged(&facts, false));
    let mut mark = Mark {
        node: node(),
        disk: "a".parse().unwrap(),
        order: 1,
        manifest: ManifestId::of(b"m"),
        plan: made.digest(),
        table_id: "12345678".into(),
        partitions: BTreeSet::from([(1 << 20, 9 << 30)]),
        stage: Stage::Installed,
    };
    facts.content.mark = Some(mark.clone());
    assert!(judged(&facts, false));
    // Somebody made one more partition by hand.
    facts.content.partitions.push(extent(2, 9 << 30, 1 << 30, ""));
    assert!(!judged(&facts, false));
    facts.content.partitions.pop();
    mark.node = "node02".parse().unwrap();
    facts.content.mark = Some(mark);
    assert!(!judged(&facts, false));
}

#[test]
fn a_machine_that_cannot_boot_it_is_told() {
    let text = "[disk.a]\npartition = [{ name = \"root\", size = \"rest\" }]\n[[filesystem]]\non = \"a.root\"\nkind = \"ext4\"\nmount = \"/\"\n";
    let error = |firmware| {
        let layout = Layout::parse(text).unwrap();
        plan(&layout, &[disk("sda", 10 << 30)], firmware)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        error(Firmware::Bios),
        "GRUB needs a partition of kind bios-boot (1MiB) on a gpt of a BIOS machine"
    );
    assert_eq!(
        error(Firmware::Uefi),
        "a UEFI machine needs an efi partition: vfat, mounted at /boot/efi, /efi or /boot"
    );
}

proptest! {
    #[test]
    fn partitions_are_aligned_apart_and_within_the_disk(
        bytes in (64u64 << 20)..(64 << 30),
        sizes in prop::collection::vec((1u64..2000, any::<bool>()), 1..12),
        rest in any::<prop::sample::Index>(),
        keep in prop::option::of((0u64..40_000, 1u64..4_000)),
    ) {
        let mut list: Vec<String> = sizes
            .iter()
            .enumerate()
            .map(|(n, (size, per_cent))| {
                let size = if *per_cent { format!("{}%", size % 20 + 1) } else { format!("{size}MiB") };
                format!("{{ name = \"p{n}\", size = \"{size}\" }}")
            })
            .collect();
        let at = rest.index(list.len());
        list[at] = "{ name = \"root\", size = \"rest\" }".into();
        let mut facts = disk("sda", bytes);
        if let Some((start, len)) = keep {
            list.insert(at, "{ name = \"kept\", keep = true }".into());
            facts.content.table = Some("gpt".into());
            // Not aligned, as others may have made it.
            facts.content.partitions = vec![extent(3, (start << 20) + 4096, (len << 20) + 512, "kept")];
        }
        let text = format!(
            "[boot]\nloader = \"none\"\n[disk.a]\npartition = [{}]\n[[filesystem]]\non = \"a.root\"\nkind = \"ext4\"\nmount = \"/\"\n",
            list.join(",")
        );
        let layout = Layout::parse(&text).unwrap();
        if let Ok(plan) = plan(&layout, &[facts], Firmware::Bios) {
            let parts = &plan.disks[0].partitions;
            let mut end = 1 << 20;
            for part in parts {
                prop_assert!(part.start >= end, "{parts:?}");
                prop_assert!(part.bytes > 0);
                if part.keep.is_none() {
                    prop_assert!(part.start.is_multiple_of(1 << 20) && part.bytes.is_multiple_of(1 << 20));
                    prop_assert!(part.start + part.bytes <= bytes - (1 << 20));
                }
                end = part.start + part.bytes;
            }
        }
    }
}
