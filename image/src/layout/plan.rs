//! What exactly will be made on the disks of one machine: every byte of every partition, every identity, every device.
//!
//! The same order on the same disks always gives the same plan, identities included: that is how an install that was
//! interrupted knows its own work again.

use std::collections::BTreeMap;

use serde::Serialize;
use simulcast_protocol::id::{ContentId, ManifestId};
use simulcast_protocol::install::NodeName;

use super::fit::{UNIT, Wish, fit};
use super::{
    Bytes, ChooseError, Disk, DiskFacts, Extent, Firmware, FitError, FsKind, Label, Layout, Loader, Metadata,
    Partition, PartitionKind, Place, Size, Table, choose,
};

/// What an MBR can count: 2^32 sectors.
const MBR_SECTORS: u64 = 1 << 32;

/// What a layout means on one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What starts the boot loader.
    pub firmware: Firmware,
    /// The boot loader.
    pub loader: Loader,
    /// The disks that are used.
    pub disks: Vec<PlannedDisk>,
    /// Arrays, in the order in which they are made.
    pub arrays: Vec<PlannedArray>,
    /// Volume groups.
    pub groups: Vec<PlannedGroup>,
    /// File systems and swap, in the order in which they are mounted.
    pub filesystems: Vec<PlannedFs>,
}

/// A disk that will be partitioned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedDisk {
    /// What the layout calls it.
    pub label: Label,
    /// The device.
    pub path: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// Bytes of one of its sectors.
    pub sector: u64,
    /// The kind of its table.
    pub table: Table,
    /// The identity of the table: a UUID, or `0x` and 8 digits.
    pub table_id: String,
    /// What will be on it, by number.
    pub partitions: Vec<PlannedPartition>,
}

/// A partition that will be made, or kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedPartition {
    /// Its name in the layout.
    pub name: Label,
    /// Its number, from 1.
    pub number: u32,
    /// The device.
    pub path: String,
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What it is for.
    pub kind: PartitionKind,
    /// Its identity in a GPT.
    pub id: String,
    /// What is there and stays.
    pub keep: Option<Extent>,
}

/// An array that will be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedArray {
    /// Its name.
    pub label: Label,
    /// The device.
    pub path: String,
    /// Its level.
    pub level: u8,
    /// The format of its metadata.
    pub metadata: Metadata,
    /// Its identity.
    pub id: String,
    /// The devices that it is made of.
    pub members: Vec<String>,
}

/// A volume group that will be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedGroup {
    /// Its name.
    pub label: Label,
    /// The devices that it is made of.
    pub members: Vec<String>,
    /// Its volumes.
    pub volumes: Vec<PlannedVolume>,
}

/// A logical volume that will be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedVolume {
    /// Its name.
    pub label: Label,
    /// The device.
    pub path: String,
    /// Its size.
    pub size: Size,
}

/// A file system or swap that will be made, or kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedFs {
    /// What the layout says it lies on.
    pub on: Place,
    /// The device.
    pub path: String,
    /// Its kind.
    pub kind: FsKind,
    /// Its label.
    pub label: Option<String>,
    /// Its identity; of one that is kept and has none in the layout, empty until it is asked for.
    pub uuid: String,
    /// Where it is mounted.
    pub mount: Option<String>,
    /// Mount options.
    pub options: Option<String>,
    /// Its subvolume.
    pub subvolume: Option<String>,
    /// More arguments for the program that makes it.
    pub mkfs: Vec<String>,
    /// It is there and stays.
    pub keep: bool,
}

/// What a plan is made for.
#[derive(Debug, Clone, Copy)]
pub struct Purpose<'a> {
    /// Whose disks they are.
    pub node: &'a NodeName,
    /// The number of the order.
    pub order: u64,
    /// The version that will be installed.
    pub manifest: ManifestId,
    /// What starts the boot loader.
    pub firmware: Firmware,
}

/// A layout cannot be had on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A disk cannot be found.
    #[error(transparent)]
    Choose(#[from] ChooseError),
    /// A disk is too small.
    #[error("disk.{disk} ({path}) is too small")]
    Disk {
        /// What the layout calls it.
        disk: Label,
        /// The device.
        path: String,
        /// By how much.
        #[source]
        source: FitError,
    },
    /// A volume group is too small.
    #[error("group.{0} is too small")]
    Group(Label, #[source] FitError),
    /// A partition that is to be kept is not there.
    #[error(
        "disk.{disk}.{partition} is to be kept, but {path} has no partition of this name, nor one in this place"
    )]
    Kept {
        /// What the layout calls the disk.
        disk: Label,
        /// What it calls the partition.
        partition: Label,
        /// The device.
        path: String,
    },
    /// Something does not go with this firmware, or with this disk.
    #[error("{0}")]
    Unfit(String),
}

impl Plan {
    /// Works out what `layout` means on a machine with these disks.
    ///
    /// # Errors
    /// [`PlanError`]; whether anything on the disks stands against it is another question: [`super::refuse`].
    pub fn new(layout: &Layout, disks: &[DiskFacts], purpose: &Purpose<'_>) -> Result<Self, PlanError> {
        let mut devices = BTreeMap::new();
        let chosen = choose(layout, disks, purpose.node)?;
        let mut planned = Vec::new();
        for (label, index) in &chosen {
            let disk = plan_disk(label, &layout.disk[label], &disks[*index], purpose)?;
            for partition in &disk.partitions {
                let room = partition.bytes;
                devices.insert(
                    Place::part_of(label, &partition.name),
                    (partition.path.clone(), room, partition.keep.is_some()),
                );
            }
            planned.push(disk);
        }
        let arrays = plan_arrays(layout, purpose, &mut devices);
        let groups = plan_groups(layout, &mut devices)?;
        let mut filesystems = Vec::new();
        for fs in &layout.filesystem {
            // What lies on a partition for other firmware is left out with it.
            let Some((path, _, keep)) = devices.get(&fs.on) else {
                continue;
            };
            let uuid = match (&fs.uuid, fs.kind, keep) {
                (Some(uuid), ..) => uuid.clone(),
                (None, _, true) => String::new(),
                (None, FsKind::Vfat, false) => short_id(purpose, &format!("filesystem {}", fs.on)),
                (None, _, false) => uuid(purpose, &format!("filesystem {}", fs.on)),
            };
            filesystems.push(PlannedFs {
                on: fs.on.clone(),
                path: path.clone(),
                kind: fs.kind,
                label: fs.label.clone(),
                uuid,
                mount: fs.mount.clone(),
                options: fs.options.clone(),
                subvolume: fs.subvolume.clone(),
                mkfs: fs.mkfs.clone(),
                keep: *keep,
            });
        }
        // What is mounted deeper is mounted later; swap and the rest last.
        filesystems.sort_by_key(|fs| match fs.mount.as_deref() {
            Some("/") => (0, 0),
            Some(point) => (1, point.split('/').count()),
            None => (2, 0),
        });
        let plan = Self {
            firmware: purpose.firmware,
            loader: layout.boot.loader,
            disks: planned,
            arrays,
            groups,
            filesystems,
        };
        plan.check_boot()?;
        Ok(plan)
    }

    /// What all of it is known by.
    pub fn digest(&self) -> ContentId {
        ContentId::of(&serde_json::to_vec(self).expect("a plan becomes JSON"))
    }

    /// The file system that is mounted at `point`.
    pub fn mounted_at(&self, point: &str) -> Option<&PlannedFs> {
        self.filesystems
            .iter()
            .find(|fs| fs.mount.as_deref() == Some(point))
    }

    /// The root. A layout that was checked has one, but it may lie on a partition for other firmware.
    pub fn root(&self) -> Option<&PlannedFs> {
        self.mounted_at("/")
    }

    /// The EFI system partition, where it is mounted.
    pub fn efi(&self) -> Option<&PlannedFs> {
        let points = ["/boot/efi", "/efi", "/boot"];
        points
            .into_iter()
            .filter_map(|point| self.mounted_at(point))
            .find(|fs| fs.kind == FsKind::Vfat)
    }

    fn check_boot(&self) -> Result<(), PlanError> {
        let unfit = |text: &str| Err(PlanError::Unfit(text.to_owned()));
        let Some(root) = self.root() else {
            return unfit("nothing is mounted at / on machines of this firmware");
        };
        if root.keep {
            return unfit("the root is on a partition that is kept; an install needs an empty one");
        }
        match (self.loader, self.firmware) {
            (Loader::None, _) => Ok(()),
            (_, Firmware::Uefi) if self.efi().is_none() => {
                unfit("a UEFI machine needs an efi partition: vfat, mounted at /boot/efi, /efi or /boot")
            }
            (Loader::SystemdBoot, Firmware::Bios) => {
                unfit("systemd-boot needs UEFI, and this machine has a BIOS")
            }
            (Loader::Grub, Firmware::Bios) => {
                let has_room = |disk: &PlannedDisk| {
                    disk.table == Table::Mbr
                        || disk.partitions.iter().any(|p| p.kind == PartitionKind::BiosBoot)
                };
                if self.disks.iter().any(has_room) {
                    return Ok(());
                }
                unfit("GRUB needs a partition of kind bios-boot (1MiB) on a gpt of a BIOS machine")
            }
            _ => Ok(()),
        }
    }
}

fn plan_disk(
    label: &Label,
    disk: &Disk,
    facts: &DiskFacts,
    purpose: &Purpose<'_>,
) -> Result<PlannedDisk, PlanError> {
    let wanted: Vec<&Partition> = disk
        .partition
        .iter()
        .filter(|partition| partition.when.is_none_or(|firmware| firmware == purpose.firmware))
        .collect();
    let mut kept = Vec::new();
    for (at, partition) in wanted.iter().enumerate().filter(|(_, partition)| partition.keep) {
        let found = find_kept(partition, at, facts).ok_or_else(|| PlanError::Kept {
            disk: label.clone(),
            partition: partition.name.clone(),
            path: facts.path.clone(),
        })?;
        kept.push((at, found));
    }
    if kept.iter().any(|(_, found)| found.start < UNIT) {
        let text = format!(
            "disk.{label} ({}) has a partition to keep within its first MiB, which is needed",
            facts.path
        );
        return Err(PlanError::Unfit(text));
    }
    let table = if facts.content.table.as_deref() == Some("dos") {
        Table::Mbr
    } else {
        Table::Gpt
    };
    if !kept.is_empty() && table != disk.table {
        let text = format!(
            "disk.{label} ({}) has partitions to keep in a table of the other kind",
            facts.path
        );
        return Err(PlanError::Unfit(text));
    }
    // The last MiB of a GPT disk has its second table.
    let end = match disk.table {
        Table::Gpt => facts.bytes.saturating_sub(UNIT),
        Table::Mbr => facts.bytes.min(MBR_SECTORS * facts.sector),
    };
    let whole = (end / UNIT * UNIT).saturating_sub(UNIT);
    let mut extents = vec![(0, 0); wanted.len()];
    let (mut begin, mut first) = (UNIT, 0);
    for (at, found) in kept
        .iter()
        .map(|(at, found)| (*at, Some(found)))
        .chain([(wanted.len(), None)])
    {
        let limit = found.map_or(end, |found| found.start);
        let wishes: Vec<Wish> = wanted[first..at]
            .iter()
            .map(|partition| wish(partition))
            .collect();
        let room = limit.saturating_sub(begin);
        let sizes = fit(&wishes, room, whole).map_err(|source| PlanError::Disk {
            disk: label.clone(),
            path: facts.path.clone(),
            source,
        })?;
        let mut start = begin;
        for (extent, size) in extents[first..at].iter_mut().zip(sizes) {
            *extent = (start, size);
            start += size;
        }
        if let Some(found) = found {
            extents[at] = (found.start, found.bytes);
            begin = (found.start + found.bytes).div_ceil(UNIT) * UNIT;
            first = at + 1;
        }
    }
    let name = format!("disk {label}");
    let table_id = match (disk.table, kept.is_empty(), &facts.content.table_id) {
        (_, false, Some(id)) => id.clone(),
        (Table::Gpt, ..) => uuid(purpose, &name),
        (Table::Mbr, ..) => format!("0x{}", short_id(purpose, &name).replace('-', "").to_lowercase()),
    };
    let mut kept: BTreeMap<usize, Extent> = kept.into_iter().collect();
    let partitions = wanted
        .iter()
        .zip(extents)
        .enumerate()
        .map(|(at, (partition, (start, bytes)))| {
            let number = u32::try_from(at + 1).expect("partitions are at most 128");
            let keep = kept.remove(&at);
            PlannedPartition {
                name: partition.name.clone(),
                number,
                path: partition_path(&facts.path, number),
                start,
                bytes,
                kind: partition.kind,
                id: keep
                    .as_ref()
                    .and_then(|found| found.id.clone())
                    .unwrap_or_else(|| uuid(purpose, &format!("partition {label}.{}", partition.name))),
                keep,
            }
        });
    Ok(PlannedDisk {
        label: label.clone(),
        path: facts.path.clone(),
        bytes: facts.bytes,
        sector: facts.sector,
        table: disk.table,
        table_id,
        partitions: partitions.collect(),
    })
}

/// A partition that stays: the one with its name, else the one that stands in its place and has no other name.
fn find_kept(partition: &Partition, at: usize, facts: &DiskFacts) -> Option<Extent> {
    let found = &facts.content.partitions;
    let named = found
        .iter()
        .find(|extent| extent.label.as_deref() == Some(partition.name.as_str()));
    let nameless = |extent: &&Extent| extent.label.as_deref().is_none_or(str::is_empty);
    named.or_else(|| found.get(at).filter(nameless)).cloned()
}

fn wish(partition: &Partition) -> Wish {
    Wish {
        size: partition.size.unwrap_or(Size::Fixed(Bytes(1))),
        min: partition.min,
        max: partition.max,
    }
}

type Devices = BTreeMap<Place, (String, u64, bool)>;

fn plan_arrays(layout: &Layout, purpose: &Purpose<'_>, devices: &mut Devices) -> Vec<PlannedArray> {
    let mut arrays = Vec::new();
    for (label, raid) in &layout.raid {
        let members: Vec<_> = raid
            .members
            .iter()
            .filter_map(|member| devices.get(member).cloned())
            .collect();
        if members.len() < raid.members.len() {
            continue;
        }
        let path = format!("/dev/md{}", arrays.len());
        let count = members.len() as u64;
        let least = members.iter().map(|member| member.1).min().unwrap_or(0);
        let data = match raid.level {
            0 => count,
            1 => 1,
            4 | 5 => count - 1,
            6 => count - 2,
            _ => count / 2,
        };
        // md takes up to 128 MiB of a large member, and a hundredth of a small one is more than it needs.
        let usable = least - (least / 100).clamp(UNIT, 128 * UNIT).min(least);
        devices.insert(
            Place::whole(label),
            (path.clone(), usable.saturating_mul(data), false),
        );
        arrays.push(PlannedArray {
            label: label.clone(),
            path,
            level: raid.level,
            metadata: raid.metadata.unwrap_or_default(),
            id: uuid(purpose, &format!("raid {label}")),
            members: members.into_iter().map(|(path, ..)| path).collect(),
        });
    }
    arrays
}

fn plan_groups(layout: &Layout, devices: &mut Devices) -> Result<Vec<PlannedGroup>, PlanError> {
    let mut groups = Vec::new();
    for (label, group) in &layout.group {
        let members: Vec<_> = group
            .members
            .iter()
            .filter_map(|member| devices.get(member).cloned())
            .collect();
        if members.len() < group.members.len() {
            continue;
        }
        // LVM's own data take the first MiB of each member, and an extent has 4.
        let room: u64 = members
            .iter()
            .map(|(_, bytes, _)| bytes.saturating_sub(UNIT) / (4 * UNIT) * 4 * UNIT)
            .sum();
        let wishes: Vec<Wish> = group
            .volume
            .iter()
            .map(|volume| Wish {
                size: volume.size,
                min: None,
                max: None,
            })
            .collect();
        fit(&wishes, room, room).map_err(|source| PlanError::Group(label.clone(), source))?;
        let escaped = |label: &Label| label.as_str().replace('-', "--");
        let volumes = group.volume.iter().map(|volume| {
            let path = format!("/dev/mapper/{}-{}", escaped(label), escaped(&volume.name));
            devices.insert(Place::part_of(label, &volume.name), (path.clone(), 0, false));
            PlannedVolume {
                label: volume.name.clone(),
                path,
                size: volume.size,
            }
        });
        groups.push(PlannedGroup {
            label: label.clone(),
            volumes: volumes.collect(),
            members: members.into_iter().map(|(path, ..)| path).collect(),
        });
    }
    Ok(groups)
}

/// The device of a partition, as the kernel names it: behind a digit stands a `p`.
pub fn partition_path(disk: &str, number: u32) -> String {
    let gap = if disk.ends_with(|c: char| c.is_ascii_digit()) {
        "p"
    } else {
        ""
    };
    format!("{disk}{gap}{number}")
}

/// An identity of `what`: a UUID of version 8 (RFC 9562), the same for the same purpose.
fn uuid(purpose: &Purpose<'_>, what: &str) -> String {
    let mut bytes = seed(purpose, what);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let [a, b, c, d, e] = [
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..],
    ];
    format!("{a}-{b}-{c}-{d}-{e}")
}

/// An identity as short as FAT and MBR have it: `1A2B-3C4D`.
fn short_id(purpose: &Purpose<'_>, what: &str) -> String {
    let [a, b, c, d, ..] = seed(purpose, what);
    format!("{a:02X}{b:02X}-{c:02X}{d:02X}")
}

fn seed(purpose: &Purpose<'_>, what: &str) -> [u8; 16] {
    let text = format!(
        "{}\0{}\0{}\0{what}",
        purpose.node, purpose.order, purpose.manifest
    );
    let mut bytes = [0; 16];
    let hash = ContentId::of(text.as_bytes());
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    bytes
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
