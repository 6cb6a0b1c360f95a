//! Tests of [`super`].

use super::super::plan::Purpose;
use super::super::{DiskFacts, Plan};
use super::*;
use simulcast_protocol::id::ManifestId;

fn disk(bytes: u64, table: &str, children: &str) -> String {
    format!(
        r#"{{"name":"sda","path":"/dev/sda","kind":"disk","bytes":{bytes},"table":"{table}","children":[{children}]}}"#
    )
}

fn part(number: u32, mib: u64, more: &str) -> String {
    format!(
        r#"{{"name":"sda{number}","path":"/dev/sda{number}","kind":"part","bytes":{},"start":{number}{more}}}"#,
        mib << 20
    )
}

fn record(firmware: &str, fstab: &str, disks: &str) -> String {
    let fstab = serde_json::to_string(fstab).unwrap();
    format!(r#"{{"firmware":{firmware},"fstab":{fstab},"disks":[{disks}],"kernel":"6.1","os":{{}}}}"#)
}

const ROOT: &str = "0b0a0908-0000-4000-8000-000000000001";
const SWAP: &str = "0b0a0908-0000-4000-8000-000000000002";

fn plans(layout: &Layout, firmware: Firmware) -> Plan {
    let disks: Vec<DiskFacts> = ["vda", "vdb"]
        .iter()
        .map(|name| DiskFacts {
            bus: "virtio".into(),
            ..DiskFacts::new(name, 30 << 30)
        })
        .collect();
    let purpose = Purpose {
        node: &"node01".parse().unwrap(),
        order: 1,
        manifest: ManifestId::of(b""),
        firmware,
    };
    Plan::new(layout, &disks, &purpose).unwrap()
}

#[test]
fn a_debian_with_logical_partitions_boots_on_both_kinds_of_firmware() {
    let parts = [
        part(
            1,
            9000,
            &format!(r#","fs_type":"ext4","uuid":"{ROOT}","mount_points":["/"],"partition_type":"0x83""#),
        ),
        part(2, 1, r#","partition_type":"0x5""#),
        part(
            5,
            975,
            &format!(
                r#","fs_type":"swap","uuid":"{SWAP}","mount_points":["[SWAP]"],"partition_type":"0x82""#
            ),
        ),
    ];
    let fstab = format!(
        "# /etc/fstab\nUUID={ROOT} /  ext4 errors=remount-ro 0 1\nUUID={SWAP} none swap sw 0 0\n/dev/sr0 /media/cdrom0 udf,iso9660 user,noauto 0 0\n"
    );
    let derived = Layout::from_machine(&record(
        "\"bios\"",
        &fstab,
        &disk(10 << 30, "dos", &parts.join(",")),
    ))
    .unwrap();
    let layout = &derived.layout;
    let disk0 = &layout.disk[&"disk0".parse().unwrap()];
    assert_eq!(disk0.table, Table::Mbr);
    let parts: Vec<_> = disk0
        .partition
        .iter()
        .map(|p| (p.name.to_string(), p.size.unwrap().to_string()))
        .collect();
    assert_eq!(
        parts,
        [
            ("efi".into(), "256MiB".into()),
            ("root".into(), "rest".into()),
            ("swap".into(), "975MiB".to_owned())
        ]
    );
    let root = layout.root().unwrap();
    assert_eq!(
        (root.uuid.as_deref(), root.options.as_deref()),
        (Some(ROOT), Some("errors=remount-ro"))
    );
    assert_eq!(plans(layout, Firmware::Bios).filesystems.len(), 2);
    assert_eq!(plans(layout, Firmware::Uefi).efi().unwrap().path, "/dev/vda1");
    assert_eq!(Layout::parse(&layout.to_toml()).unwrap(), *layout);
}

#[test]
fn raid_and_lvm_are_described() {
    let volume = |name: &str, gib: u64, more: &str| {
        format!(
            r#"{{"name":"{name}","path":"/dev/mapper/{name}","kind":"lvm","bytes":{}{more}}}"#,
            gib << 30
        )
    };
    let volumes = [
        volume(
            "my--vg-root",
            6,
            &format!(r#","fs_type":"xfs","uuid":"{ROOT}","mount_points":["/"]"#),
        ),
        volume(
            "my--vg-swap_1",
            1,
            &format!(r#","fs_type":"swap","uuid":"{SWAP}""#),
        ),
    ];
    let array = format!(
        r#"{{"name":"md127","kind":"raid1","bytes":8000000000,"fs_type":"LVM2_member","children":[{}]}}"#,
        volumes.join(",")
    );
    let member = format!(
        r#","fs_type":"linux_raid_member","fs_version":"1.2","label":"golden:data","children":[{array}]"#
    );
    let efi = r#","fs_type":"vfat","uuid":"1A2B-3C4D","mount_points":["/boot/efi"],"partition_type":"c12a7328-f81f-11d2-ba4b-00a0c93ec93b""#;
    let first = disk(
        9 << 30,
        "gpt",
        &[part(1, 512, efi), part(2, 8000, &member)].join(","),
    );
    let second = disk(9 << 30, "gpt", &part(2, 8000, &member)).replace("sda", "sdb");
    let fstab = "/dev/my-vg/root / xfs defaults 0 0\n/dev/mapper/my--vg-swap_1 none swap sw 0 0\nUUID=1A2B-3C4D /boot/efi vfat umask=0077 0 1\n";
    let derived = Layout::from_machine(&record(
        r#"{"uefi":{"bits":64}}"#,
        fstab,
        &[first, second].join(","),
    ))
    .unwrap();
    let layout = &derived.layout;
    let raid = &layout.raid[&"data".parse().unwrap()];
    assert_eq!((raid.level, raid.members.len()), (1, 2));
    let group = &layout.group[&"my-vg".parse().unwrap()];
    assert_eq!(group.members, ["data".parse().unwrap()]);
    let volumes: Vec<_> = group
        .volume
        .iter()
        .map(|v| (v.name.to_string(), v.size.to_string()))
        .collect();
    assert_eq!(
        volumes,
        [
            ("root".to_owned(), "rest".to_owned()),
            ("swap_1".to_owned(), "1GiB".to_owned())
        ]
    );
    for firmware in [Firmware::Bios, Firmware::Uefi] {
        let plan = plans(layout, firmware);
        assert_eq!(plan.root().unwrap().path, "/dev/mapper/my--vg-root");
        assert_eq!(plan.arrays[0].members.len(), 2);
    }
    // Either disk of a mirror boots alone.
    assert!(
        layout
            .disk
            .values()
            .all(|disk| disk.partition[0].kind == PartitionKind::BiosBoot)
    );
}

#[test]
fn subvolumes_come_from_fstab() {
    let parts = part(
        1,
        9000,
        &format!(r#","fs_type":"btrfs","uuid":"{ROOT}","mount_points":["/home","/"]"#),
    );
    let fstab = format!(
        "UUID={ROOT} / btrfs defaults,noatime,subvol=/@rootfs 0 0\nUUID={ROOT} /home btrfs subvol=@home 0 0\n"
    );
    let layout = Layout::from_machine(&record("\"bios\"", &fstab, &disk(10 << 30, "gpt", &parts)))
        .unwrap()
        .layout;
    let found: Vec<_> = layout
        .filesystem
        .iter()
        .filter(|fs| fs.kind == FsKind::Btrfs)
        .map(|fs| {
            (
                fs.mount.as_deref().unwrap(),
                fs.subvolume.as_deref().unwrap(),
                fs.options.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        found,
        [("/", "@rootfs", Some("noatime")), ("/home", "@home", None)]
    );
}

#[test]
fn what_cannot_be_described_is_said() {
    let refused = |parts: &str| {
        let error = Layout::from_machine(&record("\"bios\"", "", &disk(10 << 30, "gpt", parts))).unwrap_err();
        error.to_string()
    };
    let zfs = part(1, 9000, r#","fs_type":"zfs_member","mount_points":["/"]"#);
    assert_eq!(
        refused(&zfs),
        "the golden client's device sda1 has zfs_member, which is not made; write a layout by hand in layouts.d"
    );
    assert_eq!(refused(""), "the golden client's disks make no sensible layout");
    assert!(matches!(Layout::from_machine("{"), Err(MachineError::Json(_))));
    let spare = disk(1 << 30, "gpt", "").replace("sda", "sdb");
    let root = part(1, 9000, r#","fs_type":"ext4","mount_points":["/"]"#);
    let both = record("\"bios\"", "", &[disk(10 << 30, "gpt", &root), spare].join(","));
    let derived = Layout::from_machine(&both).unwrap();
    assert_eq!(derived.notes[0], "sdb is not used, and not part of the layout");
}
