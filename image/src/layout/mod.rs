//! What is on the disks of a node, as data: partitions, RAID, LVM, file systems, mount points, boot loader.
//!
//! A layout names no device. Which disk of a machine it means is decided from facts ([`choose`]), what exactly will be
//! made there is worked out before anything is written ([`Plan`]), and what stands in the way of that is refused
//! ([`refuse`]). All of it is pure; doing it is the installer's part. The form is described in `docs/install.md`.

mod check;
mod choose;
mod facts;
mod fit;
mod machine;
mod mark;
pub mod plan;
mod refuse;
mod size;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use check::CheckError;
pub use choose::{ChooseError, choose};
pub use facts::{Content, DiskFacts, Extent, Firmware};
pub use fit::FitError;
pub use machine::{Derived, MachineError};
pub use mark::{MARK_BYTES, MARK_OFFSET, Mark, MarkError, Stage};
pub use plan::{Plan, PlanError};
pub use refuse::{RefuseError, refuse};
pub use size::{Bytes, ParseSizeError, Size};
pub use text::{Label, LayoutError, ParseLabelError, ParsePlaceError, Place};

/// Disks, arrays, groups, or file systems of one layout, and members or partitions of one of them.
const ITEMS: usize = 128;

/// Bytes of a layout's text.
const TEXT_BYTES: usize = 256 << 10;

/// Disks, what is made on them, and where it is mounted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Layout {
    /// Erase disks that hold something which this system did not put there.
    #[serde(skip_serializing_if = "is_false")]
    pub wipe: bool,
    /// How the installed system starts.
    pub boot: Boot,
    /// The disks that are used, by the names that the rest of the layout calls them.
    pub disk: BTreeMap<Label, Disk>,
    /// Arrays of md RAID.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raid: BTreeMap<Label, Raid>,
    /// Volume groups of LVM.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub group: BTreeMap<Label, Group>,
    /// File systems and swap.
    pub filesystem: Vec<Filesystem>,
}

/// How the installed system starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Boot {
    /// What is put in place.
    pub loader: Loader,
}

/// A boot loader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB 2, for BIOS and UEFI.
    #[default]
    Grub,
    /// systemd-boot, for UEFI alone.
    SystemdBoot,
    /// None: the node starts its kernel in another way, by kexec perhaps.
    None,
}

/// A disk, and the partitions on it in the order in which they lie.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Disk {
    /// Which disk of the machine it is.
    #[serde(skip_serializing_if = "Choose::is_any")]
    pub choose: Choose,
    /// The kind of its partition table.
    pub table: Table,
    /// Its partitions.
    pub partition: Vec<Partition>,
}

/// What a disk must be to be chosen; what is not said does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Choose {
    /// At least so large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<Bytes>,
    /// At most so large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<Bytes>,
    /// How it is attached: `nvme`, `sata`, `sas`, `virtio`, `usb`. A USB disk is chosen only when this or `by-id` asks for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bus: Option<String>,
    /// One of its names in /dev/disk/by-id, its serial number or world-wide name; `*` stands for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_id: Option<String>,
    /// Its model; `*` stands for any text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Whether it turns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Of those that are left, the one with this number in the order of their names, from 0; else the first that no
    /// other disk of the layout has taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<u32>,
}

/// A kind of partition table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Table {
    /// GUID partition table.
    #[default]
    Gpt,
    /// The table of the PC BIOS: at most 4 partitions and 2 TiB here.
    Mbr,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Partition {
    /// Its name within the disk, and its label in a GPT.
    pub name: Label,
    /// What it is for.
    #[serde(default)]
    pub kind: PartitionKind,
    /// Its size; of one that is kept, what it is found to have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// For `%` and `rest`: not less than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Bytes>,
    /// For `%` and `rest`: not more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Bytes>,
    /// Only on machines of this firmware.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Firmware>,
    /// It is there already, with this name or at this place, and stays with all that is in it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep: bool,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartitionKind {
    /// A file system.
    #[default]
    Linux,
    /// Swap.
    Swap,
    /// The EFI system partition.
    Efi,
    /// Where GRUB puts itself on a GPT of a BIOS machine.
    BiosBoot,
    /// Member of an array.
    Raid,
    /// Member of a volume group.
    Lvm,
}

/// An array of md RAID.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Raid {
    /// 0, 1, 4, 5, 6 or 10.
    pub level: u8,
    /// Partitions.
    pub members: Vec<Place>,
    /// Where md keeps its own data: `1.2` near the beginning; `1.0` at the end, so that firmware sees a file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
}

/// A format of md's metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Metadata {
    /// At the end.
    #[serde(rename = "1.0")]
    End,
    /// 4 KiB from the beginning.
    #[default]
    #[serde(rename = "1.2")]
    Beginning,
}

/// A volume group of LVM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Group {
    /// Partitions and arrays.
    pub members: Vec<Place>,
    /// Its volumes, in the order in which they are made.
    pub volume: Vec<Volume>,
}

/// A logical volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Volume {
    /// Its name in the group.
    pub name: Label,
    /// Its size; `%` of the group.
    pub size: Size,
}

/// A file system or swap, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Filesystem {
    /// What it lies on: `DISK.PARTITION`, `ARRAY` or `GROUP.VOLUME`.
    pub on: Place,
    /// Its kind.
    pub kind: FsKind,
    /// Its label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// Its identity, if all nodes are to have the same; else each gets its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Where it is mounted; swap and what is only made have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount: Option<String>,
    /// Mount options, as in fstab.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<String>,
    /// A subvolume of btrfs that is made and mounted in place of the top.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subvolume: Option<String>,
    /// More arguments for the program that makes it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mkfs: Vec<String>,
}

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FsKind {
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT, as the EFI system partition needs it.
    Vfat,
    /// Swap space.
    Swap,
}

impl Layout {
    /// Reads the text of a file of `layouts.d/` and checks it.
    ///
    /// # Errors
    /// [`LayoutError`], with the line where it is known.
    pub fn parse(text: &str) -> Result<Self, LayoutError> {
        text::parse(text)
    }

    /// The text that [`Layout::parse`] reads.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a layout has the form of a TOML document")
    }

    /// Whether it makes sense in itself, whatever the machine.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), CheckError> {
        check::check(self)
    }

    /// Makes a layout from what `si-prepareclient` recorded of a golden client.
    ///
    /// # Errors
    /// When the record cannot be read, or describes disks that no layout can.
    pub fn from_machine(record: &str) -> Result<Derived, MachineError> {
        machine::derive(record)
    }

    /// The file system that is mounted at `/`, if there is one.
    pub fn root(&self) -> Option<&Filesystem> {
        self.mounted_at("/")
    }

    /// The file system that is mounted at `point`.
    pub fn mounted_at(&self, point: &str) -> Option<&Filesystem> {
        self.filesystem
            .iter()
            .find(|fs| fs.mount.as_deref() == Some(point))
    }
}

impl Choose {
    fn is_any(&self) -> bool {
        *self == Self::default()
    }
}

impl FsKind {
    /// As `mount`, `blkid` and fstab call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
            Self::Swap => "swap",
        }
    }

    /// The kind with this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs, Self::Vfat, Self::Swap]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !*value
}
