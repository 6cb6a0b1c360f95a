//! A layout from what `si-prepareclient` recorded of a golden client.
//!
//! The record is the JSON of `simulcast_system::facts::MachineFacts`; here only what a layout needs of it is read. UUIDs of
//! file systems become part of the layout: nodes that have those of the golden client need neither another boot menu nor
//! another initramfs than the image has.

mod record;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Bytes, CheckError, Choose, Disk, Filesystem, Firmware, FsKind, Group, Label, Layout, Metadata, Partition,
    PartitionKind, Place, Raid, Size, Table, Volume,
};
use record::{Device, Entry, Record};

/// Size of an EFI system partition that the golden client does not have.
const EFI_BYTES: u64 = 256 << 20;

/// Size of a place for GRUB that the golden client does not have.
const BIOS_BYTES: u64 = 1 << 20;

/// A layout, and what of the golden client it does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Derived {
    /// The layout.
    pub layout: Layout,
    /// What was changed or left out, one sentence each.
    pub notes: Vec<String>,
}

/// A record of which no layout can be made.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// It is no record.
    #[error("the record of the golden client's disks cannot be read")]
    Json(#[from] serde_json::Error),
    /// Its disks are such that no layout describes them.
    #[error("the golden client's {0}; write a layout by hand in layouts.d")]
    Unfit(String),
    /// What comes out makes no sense.
    #[error("the golden client's disks make no sensible layout")]
    Check(#[from] CheckError),
}

struct Maker<'a> {
    fstab: Vec<Entry>,
    layout: Layout,
    notes: Vec<String>,
    names: BTreeSet<String>,
    /// Arrays and groups that were seen, by device or group name.
    arrays: BTreeMap<&'a str, Label>,
    seen: BTreeSet<&'a str>,
    firmware: Firmware,
}

pub(super) fn derive(text: &str) -> Result<Derived, MachineError> {
    let record: Record = serde_json::from_str(text)?;
    let mut maker = Maker {
        fstab: record.mounts(),
        layout: Layout::default(),
        notes: Vec::new(),
        names: BTreeSet::new(),
        arrays: BTreeMap::new(),
        seen: BTreeSet::new(),
        firmware: record.firmware(),
    };
    let mut used: Vec<&Device> = Vec::new();
    for disk in record.disks.iter().filter(|disk| disk.kind == "disk") {
        if maker.is_used(disk) && !disk.children.is_empty() && disk.table.is_some() {
            used.push(disk);
        } else if maker.is_used(disk) {
            return Err(MachineError::Unfit(format!(
                "disk {} is used without a partition table",
                disk.name
            )));
        } else {
            maker
                .notes
                .push(format!("{} is not used, and not part of the layout", disk.name));
        }
    }
    for (index, disk) in used.iter().enumerate() {
        maker.disk(index, disk, used.len() > 1)?;
    }
    maker.finish()
}

impl<'a> Maker<'a> {
    /// Whether anything on a device is mounted, swapped to or named in fstab.
    fn is_used(&self, device: &Device) -> bool {
        !device.mount_points.is_empty()
            || self.fstab.iter().any(|entry| entry.names(device))
            || device.children.iter().any(|child| self.is_used(child))
    }

    /// A name that nothing else has.
    fn name(&mut self, wanted: &str, scope: &str) -> Label {
        let plain: String = wanted
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            .take(24)
            .collect();
        let plain = plain.trim_start_matches(['_', '-']);
        let plain = if plain.is_empty() { "part" } else { plain };
        let mut name = plain.to_owned();
        let mut number = 2;
        while !self.names.insert(format!("{scope}/{name}")) {
            name = format!("{plain}{number}");
            number += 1;
        }
        name.parse()
            .expect("it has the characters of a name and not too many")
    }

    fn disk(&mut self, index: usize, disk: &'a Device, several: bool) -> Result<(), MachineError> {
        let label = self.name(&format!("disk{index}"), "");
        let mut parts: Vec<&'a Device> = disk
            .children
            .iter()
            .filter(|child| child.kind == "part" && !child.is_extended())
            .collect();
        parts.sort_by_key(|part| part.start);
        let mut table = if disk.table.as_deref() == Some("dos") {
            Table::Mbr
        } else {
            Table::Gpt
        };
        if table == Table::Mbr && parts.len() > 4 {
            table = Table::Gpt;
            self.notes.push(format!(
                "{} has logical partitions in an MBR; the layout has a GPT",
                disk.name
            ));
        }
        let mut partitions = Vec::new();
        for part in &parts {
            partitions.push(self.partition(&label, part)?);
        }
        let movable = |partition: &Partition| {
            matches!(
                partition.kind,
                PartitionKind::Linux | PartitionKind::Raid | PartitionKind::Lvm
            )
        };
        // The largest takes what a larger or smaller disk has.
        let largest = parts
            .iter()
            .enumerate()
            .filter(|(at, _)| movable(&partitions[*at]))
            .max_by_key(|(_, part)| part.bytes)
            .map(|(at, _)| at);
        if let Some(at) = largest {
            partitions[at].size = Some(Size::Rest);
        }
        if index == 0 {
            self.both_firmwares(&label, table, &mut partitions);
        } else if table == Table::Gpt
            && partitions
                .iter()
                .all(|partition| partition.kind != PartitionKind::BiosBoot)
            && self.layout_mirrors(&parts)
        {
            partitions.insert(0, self.bios_boot(&label));
        }
        let order = several.then(|| u32::try_from(index).unwrap_or(u32::MAX));
        let made = Disk {
            choose: Choose {
                order,
                ..Choose::default()
            },
            table,
            partition: partitions,
        };
        self.layout.disk.insert(label, made);
        Ok(())
    }

    /// Whether a disk has members of arrays, so that it may have to boot alone.
    fn layout_mirrors(&self, parts: &[&Device]) -> bool {
        parts
            .iter()
            .any(|part| part.fs_type.as_deref() == Some("linux_raid_member"))
    }

    fn bios_boot(&mut self, disk: &Label) -> Partition {
        Partition {
            name: self.name("bios", disk.as_str()),
            kind: PartitionKind::BiosBoot,
            size: Some(Size::Fixed(Bytes(BIOS_BYTES))),
            min: None,
            max: None,
            when: Some(Firmware::Bios),
            keep: false,
        }
    }

    /// Adds what the other kind of firmware needs, so that one layout serves both.
    fn both_firmwares(&mut self, disk: &Label, table: Table, partitions: &mut Vec<Partition>) {
        let has = |partitions: &[Partition], kind| partitions.iter().any(|partition| partition.kind == kind);
        if !has(partitions, PartitionKind::Efi) && (table == Table::Gpt || partitions.len() < 4) {
            let name = self.name("efi", disk.as_str());
            self.layout.filesystem.push(Filesystem {
                on: Place::part_of(disk, &name),
                kind: FsKind::Vfat,
                label: None,
                uuid: None,
                mount: Some("/boot/efi".into()),
                options: Some("umask=0077".into()),
                subvolume: None,
                mkfs: Vec::new(),
            });
            let efi = Partition {
                name,
                kind: PartitionKind::Efi,
                size: Some(Size::Fixed(Bytes(EFI_BYTES))),
                min: None,
                max: None,
                when: Some(Firmware::Uefi),
                keep: false,
            };
            partitions.insert(0, efi);
        }
        if table == Table::Gpt && !has(partitions, PartitionKind::BiosBoot) {
            let bios = self.bios_boot(disk);
            partitions.insert(0, bios);
        }
    }

    fn partition(&mut self, disk: &Label, part: &'a Device) -> Result<Partition, MachineError> {
        let kind = match (part.fs_type.as_deref(), part.type_kind()) {
            (Some("linux_raid_member"), _) => PartitionKind::Raid,
            (Some("LVM2_member"), _) => PartitionKind::Lvm,
            (Some("swap"), _) => PartitionKind::Swap,
            (_, Some(kind @ (PartitionKind::Efi | PartitionKind::BiosBoot))) => kind,
            _ => PartitionKind::Linux,
        };
        let wanted = match kind {
            PartitionKind::BiosBoot => "bios".to_owned(),
            PartitionKind::Efi => "efi".to_owned(),
            PartitionKind::Swap => "swap".to_owned(),
            PartitionKind::Raid => "raid".to_owned(),
            PartitionKind::Lvm => "lvm".to_owned(),
            PartitionKind::Linux => self
                .point_of(part)
                .map_or_else(|| "data".to_owned(), |point| name_of_point(&point)),
        };
        let name = self.name(&wanted, disk.as_str());
        let place = Place::part_of(disk, &name);
        self.content(part, &place)?;
        Ok(Partition {
            name,
            kind,
            size: Some(Size::Fixed(Bytes(part.bytes.div_ceil(1 << 20) << 20))),
            min: None,
            max: None,
            when: match kind {
                PartitionKind::BiosBoot => Some(Firmware::Bios),
                PartitionKind::Efi => Some(Firmware::Uefi),
                _ => None,
            },
            keep: false,
        })
    }

    /// What lies on a partition, array or volume.
    fn content(&mut self, device: &'a Device, place: &Place) -> Result<(), MachineError> {
        match device.fs_type.as_deref() {
            Some("linux_raid_member") => self.array(device, place),
            Some("LVM2_member") => self.group(device, place),
            Some(kind) => self.filesystem(device, place, kind),
            None => Ok(()),
        }
    }

    fn array(&mut self, member: &'a Device, place: &Place) -> Result<(), MachineError> {
        let Some(array) = member.children.first() else {
            self.notes.push(format!(
                "{} is a member of an array that was not running",
                member.name
            ));
            return Ok(());
        };
        if let Some(label) = self.arrays.get(array.name.as_str()).cloned() {
            if let Some(raid) = self.layout.raid.get_mut(&label) {
                raid.members.push(place.clone());
            }
            return Ok(());
        }
        let level = array
            .kind
            .strip_prefix("raid")
            .and_then(|level| level.parse().ok());
        let level = level
            .ok_or_else(|| MachineError::Unfit(format!("array {} is of kind {}", array.name, array.kind)))?;
        let wanted = member
            .label
            .as_deref()
            .and_then(|label| label.rsplit(':').next())
            .filter(|name| !name.chars().all(|c| c.is_ascii_digit()));
        let wanted = wanted.map_or_else(|| format!("array{}", self.arrays.len()), str::to_owned);
        let label = self.name(&wanted, "");
        self.arrays.insert(&array.name, label.clone());
        let metadata = match member.fs_version.as_deref() {
            Some("1.0" | "0.90" | "0.90.0") => Some(Metadata::End),
            _ => None,
        };
        let raid = Raid {
            level,
            members: vec![place.clone()],
            metadata,
        };
        self.layout.raid.insert(label.clone(), raid);
        self.content(array, &Place::whole(&label))
    }

    fn group(&mut self, member: &'a Device, place: &Place) -> Result<(), MachineError> {
        let Some(first) = member.children.iter().find(|child| child.kind == "lvm") else {
            self.notes.push(format!(
                "{} is a member of a volume group without volumes",
                member.name
            ));
            return Ok(());
        };
        let (group, _) = first
            .group_and_volume()
            .ok_or_else(|| MachineError::Unfit(format!("volume {} has no group", first.name)))?;
        let label: Label = group
            .parse()
            .map_err(|_| MachineError::Unfit(format!("volume group {group} has an unusual name")))?;
        self.names.insert(format!("/{group}"));
        let made = self.layout.group.entry(label.clone()).or_insert_with(|| Group {
            members: Vec::new(),
            volume: Vec::new(),
        });
        made.members.push(place.clone());
        let mut found: Vec<(&'a Device, Label)> = Vec::new();
        for child in member.children.iter().filter(|child| child.kind == "lvm") {
            if !child.children.is_empty() {
                return Err(MachineError::Unfit(format!(
                    "volume {} carries further devices",
                    child.name
                )));
            }
            let name = child
                .group_and_volume()
                .and_then(|(_, volume)| volume.parse().ok());
            let name: Label = name
                .ok_or_else(|| MachineError::Unfit(format!("volume {} has an unusual name", child.name)))?;
            // One that lies on two members is listed below both.
            if self.seen.insert(&child.name) {
                found.push((child, name));
            }
        }
        let largest = found.iter().map(|(child, _)| child.bytes).max();
        let mut rest_given = made.volume.iter().any(|volume| volume.size == Size::Rest);
        for (child, name) in &found {
            let rest = !rest_given && Some(child.bytes) == largest && member.children.len() == found.len();
            rest_given |= rest;
            made.volume.push(Volume {
                name: name.clone(),
                size: if rest {
                    Size::Rest
                } else {
                    Size::Fixed(Bytes(child.bytes))
                },
            });
        }
        for (child, name) in found {
            self.content(child, &Place::part_of(&label, &name))?;
        }
        Ok(())
    }

    fn filesystem(&mut self, device: &Device, place: &Place, kind: &str) -> Result<(), MachineError> {
        let lines: Vec<Entry> = self
            .fstab
            .iter()
            .filter(|entry| entry.names(device))
            .cloned()
            .collect();
        let kind = match (kind, FsKind::of(kind)) {
            (_, Some(kind)) => kind,
            ("ext2" | "ext3", None) => {
                self.notes.push(format!("{kind} on {} becomes ext4", device.name));
                FsKind::Ext4
            }
            (_, None) if lines.is_empty() && device.mount_points.is_empty() => {
                self.notes
                    .push(format!("{kind} on {} is not used, and left out", device.name));
                return Ok(());
            }
            (_, None) => {
                return Err(MachineError::Unfit(format!(
                    "device {} has {kind}, which is not made",
                    device.name
                )));
            }
        };
        let made = |mount: Option<String>, options: Option<String>, subvolume: Option<String>| Filesystem {
            on: place.clone(),
            kind,
            label: device.label.clone().filter(|label| {
                label
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
            }),
            uuid: device.uuid.clone(),
            mount,
            options,
            subvolume,
            mkfs: Vec::new(),
        };
        if kind == FsKind::Swap {
            self.layout.filesystem.push(made(None, None, None));
            return Ok(());
        }
        if lines.is_empty() {
            let point = device
                .mount_points
                .iter()
                .find(|point| point.starts_with('/'))
                .cloned();
            if point.is_some() || kind == FsKind::Vfat {
                self.layout.filesystem.push(made(point, None, None));
            }
            return Ok(());
        }
        for line in lines {
            let (subvolume, options) = line.split_options();
            self.layout
                .filesystem
                .push(made(Some(line.point), options, subvolume));
        }
        Ok(())
    }

    fn point_of(&self, device: &Device) -> Option<String> {
        let line = self
            .fstab
            .iter()
            .find(|entry| entry.names(device))
            .map(|entry| entry.point.clone());
        line.or_else(|| {
            device
                .mount_points
                .iter()
                .find(|point| point.starts_with('/'))
                .cloned()
        })
    }

    fn finish(mut self) -> Result<Derived, MachineError> {
        // An efi partition that only the other kind of firmware needs comes last, its mount point is that of the usual one.
        let mut points = BTreeSet::new();
        self.layout
            .filesystem
            .retain(|fs| fs.mount.as_ref().is_none_or(|mount| points.insert(mount.clone())));
        if self.firmware == Firmware::Bios {
            self.notes.push(
                "the golden client has a BIOS; for UEFI machines the image needs grub-efi-amd64-bin as well"
                    .into(),
            );
        } else {
            self.notes.push(
                "the golden client has UEFI; for BIOS machines the image needs grub-pc-bin as well".into(),
            );
        }
        self.layout.check()?;
        Ok(Derived {
            layout: self.layout,
            notes: self.notes,
        })
    }
}

fn name_of_point(point: &str) -> String {
    match point {
        "/" => "root".to_owned(),
        point => point.trim_matches('/').replace('/', "-"),
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
