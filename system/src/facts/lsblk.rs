//! What `lsblk --json -b -O` says of block devices. Versions before 2.33 write numbers and truth values as text.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};

use super::Probe;

/// A block device and what was made out of it: partitions of a disk, a RAID out of partitions, a volume out of a RAID.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockDevice {
    /// The kernel's or device mapper's name: `sda1`, `vg-root`.
    pub name: String,
    /// The device's path: `/dev/sda1`, `/dev/mapper/vg-root`.
    pub path: String,
    /// What it is: `disk`, `part`, `raid1`, `lvm`, `crypt`, `loop`, `rom`.
    #[serde(alias = "type")]
    pub kind: String,
    /// Its size in bytes.
    #[serde(alias = "size", deserialize_with = "number")]
    pub bytes: u64,
    /// Where a partition begins on its disk, in units of 512 bytes whatever the disk's sectors are.
    #[serde(alias = "start", deserialize_with = "maybe_number")]
    pub start: Option<u64>,
    /// Bytes of a sector as the disk is spoken to.
    #[serde(alias = "log-sec", deserialize_with = "number")]
    pub logical_sector: u64,
    /// Bytes of a sector as the disk stores it.
    #[serde(alias = "phy-sec", deserialize_with = "number")]
    pub physical_sector: u64,
    /// Whether it cannot be written.
    #[serde(alias = "ro", deserialize_with = "truth")]
    pub read_only: bool,
    /// Whether its medium can be taken out.
    #[serde(alias = "rm", deserialize_with = "truth")]
    pub removable: bool,
    /// Whether the medium rotates, as far as the kernel knows.
    #[serde(alias = "rota", deserialize_with = "truth")]
    pub rotational: bool,
    /// How it is connected: `sata`, `nvme`, `usb`.
    #[serde(alias = "tran")]
    pub transport: Option<String>,
    /// The maker's name for it.
    pub model: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its world-wide name.
    pub wwn: Option<String>,
    /// The kind of partition table on it: `gpt`, `dos`.
    #[serde(alias = "pttype")]
    pub table: Option<String>,
    /// The partition table's identity.
    #[serde(alias = "ptuuid")]
    pub table_uuid: Option<String>,
    /// A partition's type: a UUID in a GPT, `0x83` in a DOS table.
    #[serde(alias = "parttype")]
    pub partition_type: Option<String>,
    /// A partition's identity.
    #[serde(alias = "partuuid")]
    pub partition_uuid: Option<String>,
    /// A partition's name in a GPT.
    #[serde(alias = "partlabel")]
    pub partition_label: Option<String>,
    /// A partition's flags: `0x80` for the active one of a DOS table, 64 bits in a GPT.
    #[serde(alias = "partflags")]
    pub partition_flags: Option<String>,
    /// What is on it: `ext4`, `swap`, `LVM2_member`, `linux_raid_member`, `crypto_LUKS`.
    #[serde(alias = "fstype")]
    pub fs_type: Option<String>,
    /// The version of that.
    #[serde(alias = "fsver")]
    pub fs_version: Option<String>,
    /// The label of that.
    pub label: Option<String>,
    /// The identity of that.
    pub uuid: Option<String>,
    /// Where it is mounted; `[SWAP]` for swap in use.
    #[serde(alias = "mountpoints", deserialize_with = "texts")]
    pub mount_points: Vec<String>,
    /// The only mount point that versions before 2.37 name; read into `mount_points`.
    #[serde(skip_serializing, rename = "mountpoint")]
    one_mount_point: Option<String>,
    /// What was made out of it.
    pub children: Vec<Self>,
}

/// Output of `lsblk` that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the output of lsblk")]
pub struct LsblkError(#[source] serde_json::Error);

/// Reads the output of `lsblk --json -b -O`.
///
/// # Errors
/// Text that is not such output.
pub fn parse_lsblk(text: &[u8]) -> Result<Vec<BlockDevice>, LsblkError> {
    #[derive(Deserialize)]
    struct Output {
        blockdevices: Vec<BlockDevice>,
    }
    // Labels are bytes, and old versions write them as they are.
    let text = String::from_utf8_lossy(text);
    let mut output: Output = serde_json::from_str(&text).map_err(LsblkError)?;
    output.blockdevices.iter_mut().for_each(BlockDevice::complete);
    Ok(output.blockdevices)
}

impl BlockDevice {
    /// Calls `see` with this device and all that was made out of it, from the disk down.
    pub fn each(&self, see: &mut impl FnMut(&Self)) {
        see(self);
        self.children.iter().for_each(|child| child.each(see));
    }

    /// Sets what versions differ in.
    fn complete(&mut self) {
        if self.path.is_empty() {
            self.path = format!("/dev/{}", self.name);
        }
        if let Some(point) = self.one_mount_point.take()
            && self.mount_points.is_empty()
        {
            self.mount_points.push(point);
        }
        self.children.iter_mut().for_each(Self::complete);
    }

    /// Fills in what `lsblk` did not know from what `blkid` found on the devices.
    pub fn fill_in(&mut self, probes: &[Probe]) {
        if let Some(probe) = probes.iter().find(|probe| probe.path == self.path) {
            for (field, name) in [
                (&mut self.fs_type, "TYPE"),
                (&mut self.fs_version, "VERSION"),
                (&mut self.label, "LABEL"),
                (&mut self.uuid, "UUID"),
                (&mut self.table, "PTTYPE"),
                (&mut self.table_uuid, "PTUUID"),
                (&mut self.partition_type, "PART_ENTRY_TYPE"),
                (&mut self.partition_uuid, "PART_ENTRY_UUID"),
                (&mut self.partition_label, "PART_ENTRY_NAME"),
                (&mut self.partition_flags, "PART_ENTRY_FLAGS"),
            ] {
                if field.is_none() {
                    *field = probe.get(name).map(str::to_owned);
                }
            }
            // lsblk has not told it before version 2.38.
            let offset = probe.get("PART_ENTRY_OFFSET");
            self.start = self.start.or(offset.and_then(|sectors| sectors.parse().ok()));
        }
        self.children.iter_mut().for_each(|child| child.fill_in(probes));
    }
}

/// A number, or its text; nothing is 0.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    maybe_number(from).map(Option::unwrap_or_default)
}

fn maybe_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    match Option::<Number>::deserialize(from)? {
        None => Ok(None),
        Some(Number::Number(number)) => Ok(Some(number)),
        Some(Number::Text(text)) => text.trim().parse().map(Some).map_err(de::Error::custom),
    }
}

/// A truth value, or `0` and `1`; nothing is false.
fn truth<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    struct Truth;
    impl de::Visitor<'_> for Truth {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a truth value")
        }

        fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
            Ok(value)
        }

        fn visit_str<E>(self, value: &str) -> Result<bool, E> {
            Ok(matches!(value, "1" | "true"))
        }

        fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
            Ok(value != 0)
        }

        fn visit_unit<E>(self) -> Result<bool, E> {
            Ok(false)
        }
    }
    from.deserialize_any(Truth)
}

/// A list of texts; what has no mount point is listed as one `null`.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    let texts = Option::<Vec<Option<String>>>::deserialize(from)?;
    Ok(texts.unwrap_or_default().into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::super::parse_blkid;
    use super::*;

    #[test]
    fn captured_output_is_read_and_filled_in() {
        let mut disks = parse_lsblk(include_bytes!("../../fixtures/lsblk-debian12-gpt.json")).unwrap();
        assert_eq!(disks.len(), 1);
        disks[0].fill_in(&parse_blkid(include_bytes!(
            "../../fixtures/blkid-debian12-gpt.txt"
        )));
        let disk = &disks[0];
        assert_eq!(
            (disk.path.as_str(), disk.kind.as_str(), disk.bytes),
            ("/dev/loop0", "loop", 8 << 30)
        );
        assert_eq!((disk.logical_sector, disk.physical_sector), (512, 512));
        assert_eq!(disk.table.as_deref(), Some("gpt"));
        let partitions: Vec<_> = disk
            .children
            .iter()
            .map(|part| {
                (
                    part.start.unwrap(),
                    part.bytes >> 20,
                    part.fs_type.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            partitions,
            [
                (2048, 512, "vfat"),
                (1_050_624, 1024, "ext4"),
                (3_147_776, 1024, "swap"),
                (5_244_928, 5630, "ext4")
            ]
        );
        assert_eq!(disk.children[3].mount_points, ["/mnt/with space"]);
        assert_eq!(disk.children[3].label.as_deref(), Some(r#"root "x" \ y"#));
        assert_eq!(disk.children[0].mount_points, Vec::<String>::new());
        let mut names = Vec::new();
        disk.each(&mut |device| names.push(device.name.clone()));
        assert_eq!(names, ["loop0", "loop0p1", "loop0p2", "loop0p3", "loop0p4"]);
        let json = serde_json::to_string(disk).unwrap();
        assert_eq!(serde_json::from_str::<BlockDevice>(&json).unwrap(), *disk);
    }

    /// What versions 2.36, 2.38 and 2.41 (Debian 11, 12, 13) say of one machine, in its mini-kernel: LVM on NVMe, a RAID 1,
    /// an MBR with a logical partition.
    #[test]
    fn versions_say_the_same_of_one_machine() {
        let captured: [(&[u8], &[u8]); 3] = [
            (
                include_bytes!("../../fixtures/lsblk-debian11-lvm-md.json"),
                include_bytes!("../../fixtures/blkid-debian11-lvm-md.txt"),
            ),
            (
                include_bytes!("../../fixtures/lsblk-debian12-lvm-md.json"),
                include_bytes!("../../fixtures/blkid-debian12-lvm-md.txt"),
            ),
            (
                include_bytes!("../../fixtures/lsblk-debian13-lvm-md.json"),
                include_bytes!("../../fixtures/blkid-debian13-lvm-md.txt"),
            ),
        ];
        for (lsblk, blkid) in captured {
            let mut said = Vec::new();
            for mut disk in parse_lsblk(lsblk).unwrap() {
                disk.fill_in(&parse_blkid(blkid));
                disk.each(&mut |device| {
                    let text = |text: &Option<String>| text.clone().unwrap_or_default();
                    let (start, table) = (device.start.unwrap_or(0), text(&device.table));
                    let (kind, mib) = (&device.kind, device.bytes >> 20);
                    let (fs, label) = (text(&device.fs_type), text(&device.label));
                    let line = format!("{} {kind} {start} {mib} {table} {fs} {label}", device.path);
                    said.push(line.trim_end().to_owned());
                });
            }
            for line in [
                "/dev/nvme0n1 disk 0 512 gpt",
                "/dev/nvme0n1p1 part 2048 64  vfat EFI",
                "/dev/nvme0n1p2 part 133120 446  LVM2_member",
                "/dev/vdb2 part 4096 509  linux_raid_member node01:data",
                "/dev/md0 raid1 0 508  btrfs data",
                "/dev/vdd disk 0 512 dos",
                "/dev/vdd1 part 2048 64  ext4 boot",
            ] {
                assert!(said.iter().any(|said| said == line), "{line} is not in {said:#?}");
            }
            let volumes = said.iter().filter(|line| line.contains(" lvm "));
            let paths: Vec<_> = volumes.filter_map(|line| line.split(' ').next()).collect();
            assert_eq!(paths, ["/dev/mapper/vg--0-root", "/dev/mapper/vg--0-var_log"]);
            assert!(said.iter().any(|line| line.starts_with("/dev/vdd5 part ")));
        }
    }

    #[test]
    fn old_versions_write_text_and_one_mount_point() {
        let text =
            br#"{"blockdevices": [{"name": "sda", "maj:min": "8:0", "rm": "0", "size": "1000204886016",
            "ro": "1", "type": "disk", "mountpoint": null, "rota": "1", "log-sec": "512", "tran": "sata",
            "children": [{"name": "sda1", "rm": "1", "size": "1024", "start": "2048", "type": "part",
            "mountpoint": "/boot", "parttype": "0x83", "partflags": "0x80"}]}]}"#;
        let disk = &parse_lsblk(text).unwrap()[0];
        assert_eq!(
            (disk.bytes, disk.read_only, disk.removable, disk.rotational),
            (1_000_204_886_016, true, false, true)
        );
        assert_eq!(
            (disk.path.as_str(), disk.transport.as_deref()),
            ("/dev/sda", Some("sata"))
        );
        let part = &disk.children[0];
        assert_eq!(part.mount_points, ["/boot"]);
        assert_eq!((part.start, part.removable), (Some(2048), true));
        assert_eq!(part.partition_flags.as_deref(), Some("0x80"));
    }

    #[test]
    fn what_lsblk_knows_is_not_replaced() {
        let mut device = BlockDevice {
            path: "/dev/sda1".into(),
            fs_type: Some("xfs".into()),
            ..BlockDevice::default()
        };
        device.fill_in(&parse_blkid(
            b"DEVNAME=/dev/sda1\nTYPE=ext4\nLABEL=x\n\nDEVNAME=/dev/sda2\nUUID=u\n",
        ));
        assert_eq!(
            (device.fs_type.as_deref(), device.label.as_deref()),
            (Some("xfs"), Some("x"))
        );
        assert_eq!(device.uuid, None);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            &b""[..],
            b"{}",
            b"[]",
            br#"{"blockdevices": 1}"#,
            br#"{"blockdevices": [{"size": "x"}]}"#,
        ] {
            assert!(parse_lsblk(text).is_err());
        }
        let deep = br#"{"blockdevices":["#
            .iter()
            .chain(br#"{"children":["#.iter().cycle().take(1 << 20));
        assert!(parse_lsblk(&deep.copied().collect::<Vec<u8>>()).is_err());
    }
}
