//! Which modules a mini-kernel has: by what they are for, that is, by where the kernel's source has them.

use std::fmt;
use std::str::FromStr;

/// What modules are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Network cards of cables, also virtual ones and those on USB.
    Network,
    /// Disks and what they hang on: SATA, SAS, NVMe, MMC, USB, virtual ones.
    Disk,
    /// Software RAID.
    Raid,
    /// Logical volumes.
    Lvm,
    /// File systems that are made on disks.
    Filesystems,
    /// Keyboards, for whoever stands before the machine.
    Console,
    /// Everything that the kernel has.
    All,
}

impl Class {
    /// What a mini-kernel has unless told otherwise.
    pub const DEFAULT: [Self; 6] = [
        Self::Network,
        Self::Disk,
        Self::Raid,
        Self::Lvm,
        Self::Filesystems,
        Self::Console,
    ];

    const NAMES: [(Self, &'static str); 7] = [
        (Self::Network, "network"),
        (Self::Disk, "disk"),
        (Self::Raid, "raid"),
        (Self::Lvm, "lvm"),
        (Self::Filesystems, "filesystems"),
        (Self::Console, "console"),
        (Self::All, "all"),
    ];

    /// Whether the module at `path` below the directory `kernel`, as in `drivers/net/virtio_net`, is of this class.
    pub(super) fn has(self, path: &str) -> bool {
        let below = |directories: &[&str]| {
            directories.iter().any(|directory| {
                path.strip_prefix(directory)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        match self {
            Self::All => true,
            Self::Network => below(NETWORK),
            Self::Disk => below(DISK) && !below(NO_DISK),
            Self::Raid => below(RAID),
            Self::Lvm => below(LVM),
            Self::Filesystems => below(FILESYSTEMS),
            Self::Console => below(CONSOLE),
        }
    }
}

const NETWORK: &[&str] = &[
    "drivers/net/ethernet",
    "drivers/net/phy",
    "drivers/net/pcs",
    "drivers/net/mdio",
    "drivers/net/usb",
    "drivers/net/hyperv",
    "drivers/net/vmxnet3",
    "drivers/net/virtio_net",
    "drivers/net/net_failover",
    "drivers/net/xen-netfront",
    "drivers/net/bonding",
    "drivers/virtio",
    "drivers/char/hw_random/virtio-rng",
    "net/packet",
];

const DISK: &[&str] = &[
    "drivers/ata",
    "drivers/nvme/host",
    "drivers/scsi",
    "drivers/message/fusion",
    "drivers/block/virtio_blk",
    "drivers/block/xen-blkfront",
    "drivers/block/loop",
    "drivers/virtio",
    "drivers/mmc/core",
    "drivers/mmc/host",
    "drivers/usb/host",
    "drivers/usb/storage",
    "drivers/pci/controller",
    "drivers/hv",
    "drivers/ufs",
];

/// What is below the directories of disks and is none: tapes, changers, scanners, printers, network storage, targets, and
/// drivers that exist to test the kernel.
const NO_DISK: &[&str] = &[
    "drivers/scsi/st",
    "drivers/scsi/ch",
    "drivers/scsi/osst",
    "drivers/scsi/scsi_debug",
    "drivers/scsi/fcoe",
    "drivers/scsi/qedf",
    "drivers/scsi/qedi",
    "drivers/scsi/bnx2fc",
    "drivers/scsi/bnx2i",
    "drivers/scsi/cxgbi",
    "drivers/scsi/pcmcia",
    "drivers/scsi/libfc",
    "drivers/ata/pata_legacy",
];

const RAID: &[&str] = &[
    "drivers/md/md-mod",
    "drivers/md/linear",
    "drivers/md/raid0",
    "drivers/md/raid1",
    "drivers/md/raid10",
    "drivers/md/raid456",
];

const LVM: &[&str] = &[
    "drivers/md/dm-mod",
    "drivers/md/dm-snapshot",
    "drivers/md/dm-mirror",
    "drivers/md/dm-raid",
    "drivers/md/dm-thin-pool",
    "drivers/md/dm-cache",
];

const FILESYSTEMS: &[&str] = &[
    "fs/ext4",
    "fs/xfs",
    "fs/btrfs",
    "fs/fat",
    "fs/efivarfs",
    "fs/nls/nls_cp437",
    "fs/nls/nls_ascii",
    "fs/nls/nls_iso8859-1",
    "fs/nls/nls_utf8",
    // What ext4 and btrfs ask for by the name of the sum, not of the module.
    "crypto/crc32c_generic",
    "arch/x86/crypto/crc32c-intel",
    "arch/arm64/crypto/crc32-ce",
];

const CONSOLE: &[&str] = &[
    "drivers/hid/hid",
    "drivers/hid/hid-generic",
    "drivers/hid/usbhid",
    "drivers/hid/hid-hyperv",
    "drivers/usb/host",
    "drivers/input/serio",
    "drivers/input/keyboard/atkbd",
];

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::NAMES.iter().find(|(class, _)| class == self);
        f.write_str(name.map_or("", |(_, name)| name))
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let class = Self::NAMES.iter().find(|(_, name)| *name == text);
        class.map(|(class, _)| *class).ok_or_else(|| {
            let names: Vec<_> = Self::NAMES.iter().map(|(_, name)| *name).collect();
            format!("{text:?} is no class of modules: use {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_go_by_directory_and_by_name() {
        for (path, class, is) in [
            ("drivers/net/ethernet/intel/e1000e/e1000e", Class::Network, true),
            ("drivers/net/virtio_net", Class::Network, true),
            ("drivers/net/virtio_network", Class::Network, false),
            ("drivers/net/wireless/ath/ath", Class::Network, false),
            ("drivers/scsi/sd_mod", Class::Disk, true),
            ("drivers/scsi/st", Class::Disk, false),
            ("drivers/scsi/stex", Class::Disk, true),
            ("drivers/md/raid1", Class::Raid, true),
            ("drivers/md/raid1", Class::Lvm, false),
            ("sound/core/snd", Class::All, true),
        ] {
            assert_eq!(class.has(path), is, "{path} {class}");
        }
    }

    #[test]
    fn names_round_trip() {
        for (class, name) in Class::NAMES {
            assert_eq!(name.parse(), Ok(class));
            assert_eq!(class.to_string(), name);
        }
        let error = "tape".parse::<Class>().unwrap_err();
        assert_eq!(
            error,
            "\"tape\" is no class of modules: use network, disk, raid, lvm, filesystems, console, all"
        );
    }
}
