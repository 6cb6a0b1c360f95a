//! What a layout must fulfil whatever the machine: names that exist, places used once, mount points that can be.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Disk, Filesystem, FsKind, Group, ITEMS, Label, Layout, Loader, Partition, PartitionKind, Place, Raid,
    Size, Table,
};

/// Arguments for a program that makes a file system, and bytes of one.
const MKFS_ARGUMENTS: usize = 32;
const ARGUMENT_BYTES: usize = 256;

/// Bytes of a mount point.
const MOUNT_BYTES: usize = 1024;

/// Partitions of an MBR: logical ones are not made.
const MBR_PARTITIONS: usize = 4;

/// Something in a layout makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{item}: {fault}")]
pub struct CheckError {
    item: String,
    fault: String,
}

fn fault<T>(item: impl Into<String>, fault: impl Into<String>) -> Result<T, CheckError> {
    Err(CheckError {
        item: item.into(),
        fault: fault.into(),
    })
}

/// What a place is, and what has taken it.
struct Found<'a> {
    kind: Option<PartitionKind>,
    keep: bool,
    used: Option<String>,
    subvolumes: BTreeSet<&'a str>,
}

pub(super) fn check(layout: &Layout) -> Result<(), CheckError> {
    let counts = [
        layout.disk.len(),
        layout.raid.len(),
        layout.group.len(),
        layout.filesystem.len(),
    ];
    if counts.into_iter().any(|count| count > ITEMS) {
        return fault("layout", format!("more than {ITEMS} of one kind"));
    }
    if layout.disk.is_empty() {
        return fault("layout", "it has no disk");
    }
    let mut names: BTreeSet<&Label> = BTreeSet::new();
    for name in layout
        .disk
        .keys()
        .chain(layout.raid.keys())
        .chain(layout.group.keys())
    {
        if !names.insert(name) {
            return fault(
                format!("{name}"),
                "two of disks, arrays and groups have this name",
            );
        }
    }
    let mut places = BTreeMap::new();
    for (name, disk) in &layout.disk {
        check_disk(name, disk, &mut places)?;
    }
    for (name, raid) in &layout.raid {
        check_raid(name, raid, &mut places)?;
    }
    for (name, group) in &layout.group {
        check_group(name, group, &mut places)?;
    }
    for fs in &layout.filesystem {
        check_filesystem(fs, &mut places)?;
    }
    check_mounts(layout)
}

fn check_disk<'a>(
    name: &Label,
    disk: &'a Disk,
    places: &mut BTreeMap<Place, Found<'a>>,
) -> Result<(), CheckError> {
    let item = format!("disk.{name}");
    let count = disk.partition.len();
    if count == 0 || count > ITEMS {
        return fault(item, format!("it must have 1 to {ITEMS} partitions"));
    }
    if let (Some(min), Some(max)) = (disk.choose.min, disk.choose.max)
        && min > max
    {
        return fault(item, "its min is more than its max");
    }
    if disk.table == Table::Mbr && count > MBR_PARTITIONS {
        return fault(item, "an mbr has at most 4 partitions here: use table = \"gpt\"");
    }
    let mut rests = 0;
    for partition in &disk.partition {
        let item = format!("{item}.{}", partition.name);
        check_partition(&item, disk.table, partition)?;
        if partition.keep {
            rests = 0;
        }
        rests += usize::from(partition.size == Some(Size::Rest));
        if rests > 1 {
            return fault(item, "only one partition can have the rest");
        }
        let found = Found {
            kind: Some(partition.kind),
            keep: partition.keep,
            used: None,
            subvolumes: BTreeSet::new(),
        };
        if places
            .insert(Place::part_of(name, &partition.name), found)
            .is_some()
        {
            return fault(item, "two partitions of the disk have this name");
        }
    }
    Ok(())
}

fn check_partition(item: &str, table: Table, partition: &Partition) -> Result<(), CheckError> {
    let bounded = partition.min.is_some() || partition.max.is_some();
    match partition.size {
        None if !partition.keep => return fault(item, "it has no size"),
        Some(_) if partition.keep => return fault(item, "it is kept, so that it has the size that it has"),
        Some(Size::Fixed(_)) | None if bounded => {
            return fault(item, "min and max are for sizes in % and for the rest");
        }
        _ => {}
    }
    if let (Some(min), Some(max)) = (partition.min, partition.max)
        && min > max
    {
        return fault(item, "its min is more than its max");
    }
    if table == Table::Mbr && partition.kind == PartitionKind::BiosBoot {
        return fault(
            item,
            "bios-boot is for gpt; with an mbr GRUB lies before the first partition",
        );
    }
    Ok(())
}

fn check_raid<'a>(
    name: &Label,
    raid: &Raid,
    places: &mut BTreeMap<Place, Found<'a>>,
) -> Result<(), CheckError> {
    let item = format!("raid.{name}");
    let least = match raid.level {
        0 | 1 | 10 => 2,
        4 | 5 => 3,
        6 => 4,
        level => {
            return fault(
                item,
                format!("there is no level {level}: use 0, 1, 4, 5, 6 or 10"),
            );
        }
    };
    if raid.members.len() < least || raid.members.len() > ITEMS {
        return fault(
            item,
            format!("level {} needs {least} to {ITEMS} members", raid.level),
        );
    }
    for member in &raid.members {
        take(
            &item,
            member,
            places,
            |found| found.kind == Some(PartitionKind::Raid),
            "a partition of kind raid",
        )?;
    }
    places.insert(Place::whole(name), made());
    Ok(())
}

fn check_group<'a>(
    name: &Label,
    group: &'a Group,
    places: &mut BTreeMap<Place, Found<'a>>,
) -> Result<(), CheckError> {
    let item = format!("group.{name}");
    if group.members.is_empty() || group.members.len() > ITEMS || group.volume.len() > ITEMS {
        return fault(
            item,
            format!("it must have 1 to {ITEMS} members, and at most {ITEMS} volumes"),
        );
    }
    for member in &group.members {
        let fits = |found: &Found<'_>| matches!(found.kind, None | Some(PartitionKind::Lvm));
        take(&item, member, places, fits, "a partition of kind lvm or an array")?;
    }
    if group
        .volume
        .iter()
        .filter(|volume| volume.size == Size::Rest)
        .count()
        > 1
    {
        return fault(item, "only one volume can have the rest");
    }
    for volume in &group.volume {
        if places
            .insert(Place::part_of(name, &volume.name), made())
            .is_some()
        {
            return fault(
                format!("{item}.{}", volume.name),
                "two volumes of the group have this name",
            );
        }
    }
    Ok(())
}

fn made<'a>() -> Found<'a> {
    Found {
        kind: None,
        keep: false,
        used: None,
        subvolumes: BTreeSet::new(),
    }
}

/// Marks a place as used by `item`, if it is there, free, may be written over, and `fits`.
fn take(
    item: &str,
    place: &Place,
    places: &mut BTreeMap<Place, Found<'_>>,
    fits: impl Fn(&Found<'_>) -> bool,
    wanted: &str,
) -> Result<(), CheckError> {
    let Some(found) = places.get_mut(place) else {
        return fault(
            item,
            format!(
                "there is no {place} in this layout, or it stands for something that needs {item} itself"
            ),
        );
    };
    if let Some(user) = &found.used {
        return fault(item, format!("{place} is used by {user} already"));
    }
    if !fits(found) || found.keep {
        return fault(item, format!("{place} is not {wanted}"));
    }
    found.used = Some(item.to_owned());
    Ok(())
}

fn check_filesystem<'a>(
    fs: &'a Filesystem,
    places: &mut BTreeMap<Place, Found<'a>>,
) -> Result<(), CheckError> {
    let item = format!("filesystem on {}", fs.on);
    let Some(found) = places.get_mut(&fs.on) else {
        return fault(item, "there is no such partition, array or volume in this layout");
    };
    let fits = match found.kind {
        None | Some(PartitionKind::Linux) => true,
        Some(PartitionKind::Swap) => fs.kind == FsKind::Swap,
        Some(PartitionKind::Efi) => fs.kind == FsKind::Vfat,
        Some(PartitionKind::BiosBoot | PartitionKind::Raid | PartitionKind::Lvm) => false,
    };
    if !fits {
        return fault(
            item,
            format!("a partition of this kind cannot hold {}", fs.kind.name()),
        );
    }
    match &fs.subvolume {
        Some(subvolume) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '_' | '-' | '.');
            let ok = (1..=64).contains(&subvolume.len())
                && subvolume.chars().all(plain)
                && !subvolume.starts_with(['.', '-']);
            if fs.kind != FsKind::Btrfs || !ok {
                return fault(
                    item,
                    "a subvolume is btrfs', and named by up to 64 letters, digits, '@', '_', '-' or '.'",
                );
            }
            if found.used.is_some() && found.subvolumes.is_empty() || !found.subvolumes.insert(subvolume) {
                return fault(item, "this place or subvolume is used already");
            }
        }
        None if found.used.is_some() => {
            return fault(
                item,
                format!(
                    "it is used by {} already",
                    found.used.as_deref().unwrap_or_default()
                ),
            );
        }
        None => {}
    }
    found.used = Some(item.clone());
    check_words(&item, fs)
}

fn check_words(item: &str, fs: &Filesystem) -> Result<(), CheckError> {
    let plain = |text: &str| {
        text.chars()
            .all(|c| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '$' | '`'))
    };
    let most = match fs.kind {
        FsKind::Vfat => 11,
        FsKind::Xfs => 12,
        FsKind::Swap => 15,
        FsKind::Ext4 => 16,
        FsKind::Btrfs => 64,
    };
    if let Some(label) = &fs.label
        && (label.is_empty()
            || label.len() > most
            || !plain(label)
            || label.starts_with('-')
            || label.contains('/'))
    {
        return fault(
            item,
            format!(
                "the label of {} is up to {most} printable ASCII characters",
                fs.kind.name()
            ),
        );
    }
    if let Some(uuid) = &fs.uuid
        && !uuid_fits(fs.kind, uuid)
    {
        return fault(item, format!("{uuid:?} is no UUID of {}", fs.kind.name()));
    }
    if let Some(options) = &fs.options
        && (options.is_empty()
            || options.len() > ARGUMENT_BYTES
            || !plain(options)
            || options.starts_with('-'))
    {
        return fault(item, "mount options are words with commas between them");
    }
    if fs.mkfs.len() > MKFS_ARGUMENTS
        || fs
            .mkfs
            .iter()
            .any(|argument| argument.len() > ARGUMENT_BYTES || argument.chars().any(char::is_control))
    {
        return fault(item, "mkfs has at most 32 arguments of 256 printable characters");
    }
    Ok(())
}

fn uuid_fits(kind: FsKind, uuid: &str) -> bool {
    let groups: &[usize] = if kind == FsKind::Vfat {
        &[4, 4]
    } else {
        &[8, 4, 4, 4, 12]
    };
    let parts: Vec<_> = uuid.split('-').collect();
    parts.len() == groups.len()
        && parts
            .iter()
            .zip(groups)
            .all(|(part, len)| part.len() == *len && part.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

fn check_mounts(layout: &Layout) -> Result<(), CheckError> {
    let mut points = BTreeSet::new();
    for fs in &layout.filesystem {
        let item = format!("filesystem on {}", fs.on);
        let Some(mount) = &fs.mount else { continue };
        let steps_ok = mount == "/"
            || mount
                .strip_prefix('/')
                .is_some_and(|path| path.split('/').all(|step| !matches!(step, "" | "." | "..")));
        let plain = |c: char| c.is_ascii_graphic() && c != '\\';
        if fs.kind == FsKind::Swap || !steps_ok || mount.len() > MOUNT_BYTES || !mount.chars().all(plain) {
            return fault(item, format!("it cannot be mounted at {mount:?}"));
        }
        if !points.insert(mount.as_str()) {
            return fault(item, format!("something else is mounted at {mount} too"));
        }
    }
    let Some(root) = layout.root() else {
        return fault("layout", "nothing is mounted at /");
    };
    if root.kind == FsKind::Vfat {
        return fault(
            format!("filesystem on {}", root.on),
            "vfat cannot hold a root: it has no owners",
        );
    }
    let efi = ["/boot/efi", "/efi", "/boot"]
        .into_iter()
        .find_map(|point| layout.mounted_at(point));
    if layout.boot.loader == Loader::SystemdBoot && efi.is_none_or(|fs| fs.kind != FsKind::Vfat) {
        return fault(
            "boot",
            "systemd-boot needs a vfat file system at /boot, /efi or /boot/efi",
        );
    }
    Ok(())
}
