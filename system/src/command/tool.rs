//! The programs that are not ours.

use std::ffi::OsStr;
use std::path::PathBuf;

use super::search_path;

/// A program that is not ours, or one of ours at a certain place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tool {
    /// What is on block devices.
    Blkid,
    /// Subvolumes of btrfs.
    Btrfs,
    /// What the mini-kernel has for everything that has no program of its own.
    Busybox,
    /// Runs a program of another tree.
    Chroot,
    /// Makes a Debian tree.
    Debootstrap,
    /// Makes an initramfs, on Fedora and its like.
    Dracut,
    /// The ssh server of the mini-kernel.
    Dropbear,
    /// Boot entries of UEFI firmware.
    Efibootmgr,
    /// What a network card is set to, and its counters.
    Ethtool,
    /// Makes GRUB's menu.
    GrubMkconfig,
    /// The same, as Fedora and its like call it.
    Grub2Mkconfig,
    /// Network devices, addresses, namespaces.
    Ip,
    /// Starts another kernel without going through the firmware.
    Kexec,
    /// Files as block devices.
    Losetup,
    /// Block devices.
    Lsblk,
    /// Volume groups.
    Lvm,
    /// Arrays of md RAID.
    Mdadm,
    /// Makes an initramfs, on Arch.
    Mkinitcpio,
    /// Makes btrfs.
    MkfsBtrfs,
    /// Makes ext4.
    MkfsExt4,
    /// Makes FAT.
    MkfsVfat,
    /// Makes XFS.
    MkfsXfs,
    /// Makes swap space.
    Mkswap,
    /// Loads modules of the kernel.
    Modprobe,
    /// Packet filter.
    Nft,
    /// Tells the kernel of partitions.
    Partx,
    /// Copies and compares trees: our measure.
    Rsync,
    /// Partition tables.
    Sfdisk,
    /// Reaches another machine.
    Ssh,
    /// Services, and restarting the machine.
    Systemctl,
    /// Traffic control.
    Tc,
    /// Makes an initramfs, on Debian and its like.
    UpdateInitramfs,
    /// Erases what tells what is on a block device.
    Wipefs,
    /// A program of this project, by its path.
    Own(PathBuf),
}

impl Tool {
    pub(super) fn program(&self) -> &OsStr {
        match self {
            Self::Own(path) => path.as_os_str(),
            tool => OsStr::new(tool.name_and_package().0),
        }
    }

    /// The package of Debian that has it; other distributions call most of them the same.
    pub(super) fn package(&self) -> Option<&'static str> {
        match self {
            Self::Own(_) => None,
            tool => Some(tool.name_and_package().1),
        }
    }

    fn name_and_package(&self) -> (&'static str, &'static str) {
        match self {
            Self::Blkid => ("blkid", "util-linux"),
            Self::Btrfs => ("btrfs", "btrfs-progs"),
            Self::Busybox => ("busybox", "busybox-static"),
            Self::Chroot => ("chroot", "coreutils"),
            Self::Debootstrap => ("debootstrap", "debootstrap"),
            Self::Dracut => ("dracut", "dracut"),
            Self::Dropbear => ("dropbear", "dropbear-bin"),
            Self::Efibootmgr => ("efibootmgr", "efibootmgr"),
            Self::Ethtool => ("ethtool", "ethtool"),
            Self::GrubMkconfig => ("grub-mkconfig", "grub-common"),
            Self::Grub2Mkconfig => ("grub2-mkconfig", "grub2-tools"),
            Self::Ip => ("ip", "iproute2"),
            Self::Kexec => ("kexec", "kexec-tools"),
            Self::Losetup => ("losetup", "mount"),
            Self::Lsblk => ("lsblk", "util-linux"),
            Self::Lvm => ("lvm", "lvm2"),
            Self::Mdadm => ("mdadm", "mdadm"),
            Self::Mkinitcpio => ("mkinitcpio", "mkinitcpio"),
            Self::MkfsBtrfs => ("mkfs.btrfs", "btrfs-progs"),
            Self::MkfsExt4 => ("mkfs.ext4", "e2fsprogs"),
            Self::MkfsVfat => ("mkfs.vfat", "dosfstools"),
            Self::MkfsXfs => ("mkfs.xfs", "xfsprogs"),
            Self::Mkswap => ("mkswap", "util-linux"),
            Self::Modprobe => ("modprobe", "kmod"),
            Self::Nft => ("nft", "nftables"),
            Self::Partx => ("partx", "util-linux"),
            Self::Rsync => ("rsync", "rsync"),
            Self::Sfdisk => ("sfdisk", "fdisk"),
            Self::Ssh => ("ssh", "openssh-client"),
            Self::Systemctl => ("systemctl", "systemd"),
            Self::Tc => ("tc", "iproute2"),
            Self::UpdateInitramfs => ("update-initramfs", "initramfs-tools"),
            Self::Wipefs => ("wipefs", "util-linux"),
            Self::Own(_) => ("", ""),
        }
    }

    /// Whether the program is installed: looked for, not run.
    pub fn is_installed(&self) -> bool {
        let program = self.program();
        let dirs = search_path();
        std::env::split_paths(&dirs).any(|dir| {
            let path = dir.join(program);
            rustix::fs::access(&path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
        })
    }
}
