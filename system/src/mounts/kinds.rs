//! Kinds of file systems by name. What is not in this list is not entered: a capture that misses something says so,
//! one that reads a network's worth of files does not.

/// What a type of file system is, for a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsClass {
    /// On disks of this machine: captured.
    Disk,
    /// Made by the kernel, or gone at the next boot.
    Pseudo,
    /// On another machine.
    Network,
    /// Made by a program through FUSE.
    UserSpace,
    /// Layers of other directories.
    Overlay,
    /// Packed and read-only.
    PackedImage,
    /// Not known.
    Unknown,
}

const DISK: [&str; 22] = [
    "ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "jfs", "reiserfs", "reiser4",
    "nilfs2", "vfat", "msdos", "exfat", "ntfs", "ntfs3", "fuseblk", "hfsplus", "ubifs", "jffs2", "minix",
];

const PSEUDO: [&str; 34] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup",
    "cgroup2",
    "cpuset",
    "pstore",
    "bpf",
    "debugfs",
    "tracefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "configfs",
    "efivarfs",
    "mqueue",
    "hugetlbfs",
    "fusectl",
    "binfmt_misc",
    "autofs",
    "rpc_pipefs",
    "nfsd",
    "nsfs",
    "resctrl",
    "functionfs",
    "usbfs",
    "openpromfs",
    "spufs",
    "xenfs",
    "dax",
];

const NETWORK: [&str; 19] = [
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "ncpfs", "afs", "ceph", "9p", "virtiofs", "gfs", "gfs2", "ocfs2",
    "lustre", "gpfs", "beegfs", "pvfs2", "orangefs", "coda",
];

const PACKED: [&str; 6] = ["squashfs", "erofs", "iso9660", "udf", "cramfs", "romfs"];

const OVERLAY: [&str; 4] = ["overlay", "overlayfs", "aufs", "unionfs"];

/// What this type of file system is.
pub fn class_of(fs_type: &[u8]) -> FsClass {
    let Ok(name) = std::str::from_utf8(fs_type) else {
        return FsClass::Unknown;
    };
    let lists: [(&[&str], FsClass); 5] = [
        (&DISK, FsClass::Disk),
        (&PSEUDO, FsClass::Pseudo),
        (&NETWORK, FsClass::Network),
        (&PACKED, FsClass::PackedImage),
        (&OVERLAY, FsClass::Overlay),
    ];
    let found = lists
        .iter()
        .find(|(names, _)| names.contains(&name))
        .map(|&(_, class)| class);
    match found {
        Some(class) => class,
        None if name == "fuse" || name.starts_with("fuse.") => FsClass::UserSpace,
        None => FsClass::Unknown,
    }
}
