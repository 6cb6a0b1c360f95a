//! What is in every initramfs besides modules: directories, devices, configuration, and the programs that an installation
//! may need.
//!
//! There is no udev. The kernel makes devices by itself (devtmpfs), modules are loaded by the aliases that the kernel shows
//! in sysfs, and an installation asks the kernel, not `/dev/disk`, which disks there are. So LVM and md are told to wait for
//! nobody.

use crate::tree::{MERGED, Node, Tree};

/// A program that is put into the initramfs.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// By which name it is looked for.
    pub(crate) name: &'static str,
    /// Where it is put.
    pub(crate) place: &'static str,
    /// Further names that it has, beside it.
    pub(crate) links: &'static [&'static str],
    /// The package of Debian that has it.
    pub(crate) package: &'static str,
    /// Whether nothing can be installed without it.
    pub(crate) required: bool,
}

const fn required(
    name: &'static str,
    place: &'static str,
    links: &'static [&'static str],
    package: &'static str,
) -> Wanted {
    Wanted {
        name,
        place,
        links,
        package,
        required: true,
    }
}

const fn useful(
    name: &'static str,
    place: &'static str,
    links: &'static [&'static str],
    package: &'static str,
) -> Wanted {
    Wanted {
        required: false,
        ..required(name, place, links, package)
    }
}

/// The program whose applets are everything that has no program of its own.
pub(crate) const BUSYBOX: &str = "/usr/bin/busybox";

/// Programs of the system, in the order of their names.
pub(crate) const PROGRAMS: &[Wanted] = &[
    required("blkid", "/usr/sbin/blkid", &[], "util-linux"),
    required("busybox", BUSYBOX, &[], "busybox-static"),
    useful("btrfs", "/usr/bin/btrfs", &[], "btrfs-progs"),
    useful("dropbear", "/usr/sbin/dropbear", &[], "dropbear-bin"),
    useful("dropbearkey", "/usr/bin/dropbearkey", &[], "dropbear-bin"),
    useful("efibootmgr", "/usr/bin/efibootmgr", &[], "efibootmgr"),
    useful("kexec", "/usr/sbin/kexec", &[], "kexec-tools"),
    required("lsblk", "/usr/bin/lsblk", &[], "util-linux"),
    useful("lvm", "/usr/sbin/lvm", LVM, "lvm2"),
    useful("mdadm", "/usr/sbin/mdadm", &[], "mdadm"),
    required(
        "mke2fs",
        "/usr/sbin/mke2fs",
        &["mkfs.ext2", "mkfs.ext3", "mkfs.ext4"],
        "e2fsprogs",
    ),
    useful("mkfs.btrfs", "/usr/sbin/mkfs.btrfs", &[], "btrfs-progs"),
    useful("mkfs.fat", "/usr/sbin/mkfs.fat", &["mkfs.vfat"], "dosfstools"),
    useful("mkfs.xfs", "/usr/sbin/mkfs.xfs", &[], "xfsprogs"),
    required("mkswap", "/usr/sbin/mkswap", &[], "util-linux"),
    required("modprobe", "/usr/sbin/kmod", KMOD, "kmod"),
    required("partx", "/usr/bin/partx", &[], "util-linux"),
    required("sfdisk", "/usr/sbin/sfdisk", &[], "fdisk"),
    required("wipefs", "/usr/sbin/wipefs", &[], "util-linux"),
];

const LVM: &[&str] = &[
    "lvchange", "lvcreate", "lvremove", "lvs", "pvcreate", "pvremove", "pvs", "pvscan", "vgchange",
    "vgcreate", "vgremove", "vgs", "vgscan",
];

const KMOD: &[&str] = &["depmod", "insmod", "lsmod", "modinfo", "modprobe", "rmmod"];

/// Libraries that the C library opens by itself when a thread ends.
pub(crate) const OPENED: &str = "libgcc_s.so.1";

/// Configuration of the system that programs should find as it is there.
pub(crate) const COPIED: &[&str] = &["/etc/mke2fs.conf"];

/// Files of our own.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\n"),
    ("etc/group", 0o644, "root:x:0:\ndisk:x:6:\ntty:x:5:\n"),
    // No password fits: whoever comes by ssh has a key.
    ("etc/shadow", 0o600, "root:*:19000:0:99999:7:::\n"),
    ("etc/shells", 0o644, "/bin/sh\n"),
    ("etc/hosts", 0o644, "127.0.0.1 localhost\n::1 localhost\n"),
    (
        "etc/nsswitch.conf",
        0o644,
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    ),
    ("etc/mtab", 0o644, ""),
    ("etc/lvm/lvm.conf", 0o644, LVM_CONF),
];

const LVM_CONF: &str = "\
devices {
    obtain_device_list_from_udev = 0
    external_device_info_source = \"none\"
    use_devicesfile = 0
}
activation {
    udev_sync = 0
    udev_rules = 0
}
backup {
    backup = 0
    archive = 0
}
";

/// Empty directories, with their permissions.
const DIRECTORIES: &[(&str, u32)] = &[
    ("dev", 0o755),
    ("etc/dropbear", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("var/log", 0o755),
    ("usr/lib64", 0o755),
];

/// Devices that must be there before the kernel's own are mounted: type, permissions, numbers of `devices.txt`.
const DEVICES: &[(&str, u32, u32, u32)] = &[
    ("dev/console", 0o600, 5, 1),
    ("dev/kmsg", 0o600, 1, 11),
    ("dev/null", 0o666, 1, 3),
    ("dev/tty", 0o666, 5, 0),
];

/// A tree with what every initramfs has.
pub(crate) fn tree() -> Tree {
    let mut tree = Tree::default();
    for (link, target) in MERGED {
        tree.put(link, Node::Link(target.to_owned()));
    }
    for (path, mode) in DIRECTORIES {
        tree.put(path, Node::Directory(*mode));
    }
    for (path, mode, major, minor) in DEVICES {
        tree.put(path, Node::Device(*mode, *major, *minor));
    }
    for (path, mode, text) in FILES {
        tree.put(path, Node::File(*mode, text.as_bytes().to_vec()));
    }
    tree.put("usr/share/empty", Node::Directory(0o755));
    tree
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stands_in_the_way_of_anything() {
        let tree = tree();
        assert!(
            tree.iter()
                .any(|(path, node)| path == "dev/console" && *node == Node::Device(0o600, 5, 1))
        );
        let modes: Vec<_> = tree.iter().filter(|(path, _)| *path == "tmp").collect();
        assert_eq!(modes, [("tmp", &Node::Directory(0o1777))]);
        let mut names: Vec<_> = PROGRAMS
            .iter()
            .flat_map(|wanted| {
                let own = wanted.place.rsplit('/').next();
                own.into_iter().chain(wanted.links.iter().copied())
            })
            .collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "two programs want one name");
    }
}
