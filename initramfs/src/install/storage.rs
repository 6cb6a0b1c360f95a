//! Disks: emptied, partitioned, formatted, mounted, and at the end marked as installed.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use simulcast_image::apply::MARKER;
use simulcast_image::layout::plan::{Plan, PlannedDisk, PlannedFs, PlannedPartition};
use simulcast_image::layout::{FsKind, MARK_OFFSET, Metadata, PartitionKind, Size, Stage, Table};
use simulcast_image::manifest::{Kind, Manifest, SignedManifest};
use simulcast_image::order::Order;
use simulcast_system::command::{Run, Tool};
use simulcast_system::partition::{self, ScriptPartition, TableScript};
use simulcast_system::storage::{self, Mkfs, NewArray, lvm};

use super::reporter::Reporter;
use super::{Done, facts, job};

/// Makes the disks plainly unbootable, before anything else is written: an install that is interrupted leaves no system
/// that is half right. Where nothing is kept, every trace of what was there goes too, that of RAID and LVM above all.
pub(super) fn erase(plan: &Plan) -> Done {
    for disk in &plan.disks {
        let path = Path::new(&disk.path);
        partition::erase_boot_code(path)?;
        partition::write_at(path, &[0; 4096], MARK_OFFSET)?;
        let kept: Vec<u32> = disk
            .partitions
            .iter()
            .filter_map(|p| p.keep.as_ref())
            .map(|kept| kept.number)
            .collect();
        for old in partitions_of(&disk.path) {
            if !partition::number_of(&old).is_some_and(|number| kept.contains(&number)) {
                partition::wipe(&Path::new("/dev").join(&old))?;
            }
        }
        if kept.is_empty() {
            partition::wipe(path)?;
        }
    }
    Ok(())
}

/// Names of the partitions that the kernel knows of a disk.
fn partitions_of(disk: &str) -> Vec<String> {
    let name = Path::new(disk).file_name().unwrap_or_default();
    let entries = fs::read_dir(Path::new("/sys/class/block").join(name))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| partition::number_of(name).is_some())
        .collect()
}

/// Writes the partition tables, empties what was made, and marks the disks.
pub(super) fn partition(plan: &Plan, order: &Order) -> Done {
    for (index, disk) in plan.disks.iter().enumerate() {
        let paths: Vec<PathBuf> = disk
            .partitions
            .iter()
            .map(|partition| partition.path.clone().into())
            .collect();
        script(disk).write(Path::new(&disk.path), &paths)?;
        for partition in disk
            .partitions
            .iter()
            .filter(|partition| partition.keep.is_none())
        {
            partition::wipe(Path::new(&partition.path))?;
        }
        write_mark(plan, order, index, Stage::Partitioned)?;
    }
    Ok(())
}

fn write_mark(plan: &Plan, order: &Order, disk: usize, stage: Stage) -> Result<()> {
    let bytes = job::mark(order, plan, disk, stage).encode()?;
    Ok(partition::write_at(
        Path::new(&plan.disks[disk].path),
        &bytes,
        MARK_OFFSET,
    )?)
}

fn script(disk: &PlannedDisk) -> TableScript {
    let gpt = disk.table == Table::Gpt;
    let kind = |partition: &PlannedPartition| match partition.kind {
        PartitionKind::Linux => partition::Kind::Linux,
        PartitionKind::Swap => partition::Kind::Swap,
        PartitionKind::Efi => partition::Kind::Efi,
        PartitionKind::BiosBoot => partition::Kind::BiosBoot,
        PartitionKind::Raid => partition::Kind::Raid,
        PartitionKind::Lvm => partition::Kind::Lvm,
    };
    // Some BIOSes start no MBR without an active partition; which one does not matter to GRUB.
    let active = disk
        .partitions
        .iter()
        .find(|p| p.kind == PartitionKind::Linux || p.kind == PartitionKind::Raid);
    let active = active
        .or(disk.partitions.first())
        .map(|partition| partition.number);
    TableScript {
        gpt,
        id: disk.table_id.clone(),
        sector: disk.sector,
        partitions: disk
            .partitions
            .iter()
            .map(|partition| ScriptPartition {
                number: partition.number,
                start: partition.start,
                bytes: partition.bytes,
                kind: kind(partition),
                kept_type: partition.keep.as_ref().and_then(|kept| kept.kind.clone()),
                name: partition.name.to_string(),
                id: partition.id.clone(),
                active: !gpt && Some(partition.number) == active,
            })
            .collect(),
    }
}

/// Makes the arrays.
pub(super) fn raid(plan: &Plan, order: &Order) -> Done {
    for array in &plan.arrays {
        let new = NewArray {
            device: Path::new(&array.path),
            name: array.label.as_str(),
            host: order.node.as_str(),
            level: array.level,
            metadata: match array.metadata {
                Metadata::End => "1.0",
                Metadata::Beginning => "1.2",
            },
            uuid: &array.id,
            members: &array.members,
        };
        new.command().run()?;
        partition::appear(Path::new(&array.path))?;
        partition::wipe(Path::new(&array.path))?;
    }
    Ok(())
}

/// Has the arrays make their members alike after the install, which would be the slower for it.
pub(super) fn postpone_copying(plan: &Plan, reporter: &Reporter) {
    for array in &plan.arrays {
        if let Err(error) = storage::postpone_copying(Path::new(&array.path)) {
            reporter.say(&format!(
                "warning: {} makes its members alike now, and that costs time: {error}",
                array.path
            ));
        }
    }
}

/// Says what the arrays have yet to do when the installed system has started.
pub(super) fn tell_copying(plan: &Plan, reporter: &Reporter) {
    for array in &plan.arrays {
        if let Ok(Some(done)) = storage::copied(Path::new(&array.path)) {
            reporter.say(&format!(
                "{} makes its members alike when the system has started; {} MiB of each are so already",
                array.path,
                done >> 20
            ));
        }
    }
}

/// Makes the volume groups and their volumes.
pub(super) fn volumes(plan: &Plan) -> Done {
    for group in &plan.groups {
        lvm("pvcreate")
            .args(["--force", "--force", "--yes", "--quiet"])
            .args(&group.members)
            .run()?;
        lvm("vgcreate")
            .arg("--quiet")
            .arg(group.label.as_str())
            .args(&group.members)
            .run()?;
        // What takes the rest comes last, whatever its place.
        let mut volumes: Vec<_> = group.volumes.iter().collect();
        volumes.sort_by_key(|volume| volume.size == Size::Rest);
        for volume in volumes {
            let (option, size) = match volume.size {
                Size::Fixed(bytes) => ("--size", format!("{}b", bytes.0)),
                Size::PerCent(per_cent) => ("--extents", format!("{per_cent}%VG")),
                Size::Rest => ("--extents", "100%FREE".to_owned()),
            };
            lvm("lvcreate")
                .args([
                    "--yes",
                    "--wipesignatures",
                    "y",
                    "--zero",
                    "y",
                    "--quiet",
                    option,
                    &size,
                    "--name",
                ])
                .arg(volume.label.as_str())
                .arg(group.label.as_str())
                .run()?;
            lvm("vgmknodes").accept(5).run()?;
            partition::appear(Path::new(&volume.path))?;
        }
    }
    Ok(())
}

/// Makes file systems and swap. From here on an interrupted install can go on.
pub(super) fn format(plan: &Plan, order: &Order) -> Done {
    let mut made: Vec<&str> = Vec::new();
    for fs in plan.filesystems.iter().filter(|fs| !fs.keep) {
        // Further subvolumes of one btrfs.
        if made.contains(&fs.path.as_str()) {
            continue;
        }
        made.push(&fs.path);
        let mkfs = Mkfs {
            kind: fs.kind.name(),
            device: Path::new(&fs.path),
            label: fs.label.as_deref(),
            uuid: &fs.uuid,
            more: &fs.mkfs,
        };
        mkfs.command()
            .with_context(|| format!("nothing makes {}", fs.kind.name()))?
            .run()?;
    }
    subvolumes(plan)?;
    for index in 0..plan.disks.len() {
        write_mark(plan, order, index, Stage::Formatted)?;
    }
    Ok(())
}

/// Makes the subvolumes of btrfs.
fn subvolumes(plan: &Plan) -> Result<()> {
    let top = Path::new(crate::wish::RUN).join("btrfs");
    for fs in &plan.filesystems {
        let Some(name) = &fs.subvolume else { continue };
        fs::create_dir_all(&top).with_context(|| format!("cannot make {}", top.display()))?;
        storage::mount(Path::new(&fs.path), &top, "btrfs", "")?;
        let made = Run::new(Tool::Btrfs)
            .args(["subvolume", "create"])
            .arg(top.join(name))
            .run();
        storage::unmount(&top, false)?;
        made?;
    }
    Ok(())
}

/// Opens what an interrupted install made.
pub(super) fn assemble(plan: &Plan) -> Done {
    // By their own names, which an array that is only found would not get.
    for array in &plan.arrays {
        Run::new(Tool::Mdadm)
            .args(["--assemble", "--run", &array.path])
            .args(&array.members)
            .run()?;
    }
    for group in &plan.groups {
        lvm("vgchange")
            .args(["--activate", "y", "--quiet", group.label.as_str()])
            .run()?;
        lvm("vgmknodes").arg(group.label.as_str()).run()?;
    }
    let devices = plan.arrays.iter().map(|array| &array.path);
    let volumes = plan
        .groups
        .iter()
        .flat_map(|group| &group.volumes)
        .map(|volume| &volume.path);
    for device in devices.chain(volumes) {
        partition::appear(Path::new(device))?;
    }
    Ok(())
}

/// Mounts the root, and below it every new file system for which the version has a directory. What is kept is mounted at
/// no time during an install: nothing of the version is written there.
pub(super) fn mount(plan: &Plan, signed: &SignedManifest, target: &Path) -> Done {
    // After a failed try some may be mounted already.
    unmount_below(target);
    fs::create_dir_all(target).with_context(|| format!("cannot make {}", target.display()))?;
    for fs in
        mounts(plan).filter(|fs| fs.mount.as_deref() == Some("/") || has_directory(&signed.manifest, fs))
    {
        mount_one(fs, target)?;
    }
    Ok(())
}

/// Has the target taken for an interrupted install, whose mount points and files are looked at rather than refused.
pub(super) fn set_marker(target: &Path) -> Result<()> {
    let marker = target.join(std::str::from_utf8(MARKER).context("the marker's name is text")?);
    fs::write(&marker, b"").with_context(|| format!("cannot write {}", marker.display()))
}

/// Mounts what the version has no directory for, after it was received.
pub(super) fn mount_rest(plan: &Plan, signed: &SignedManifest, target: &Path) -> Result<()> {
    mounts(plan)
        .filter(|fs| fs.mount.as_deref() != Some("/") && !has_directory(&signed.manifest, fs))
        .try_for_each(|fs| mount_one(fs, target))
}

fn mounts(plan: &Plan) -> impl Iterator<Item = &PlannedFs> {
    plan.filesystems
        .iter()
        .filter(|fs| fs.mount.is_some() && !fs.keep)
}

fn has_directory(manifest: &Manifest, fs: &PlannedFs) -> bool {
    let path = fs.mount.as_deref().unwrap_or_default().trim_start_matches('/');
    let entry = manifest
        .find(path.as_bytes())
        .and_then(|index| manifest.entries.get(index as usize));
    entry.is_some_and(|entry| entry.kind == Kind::Directory)
}

fn mount_one(fs: &PlannedFs, target: &Path) -> Result<()> {
    let point = facts::below(target, fs.mount.as_deref().unwrap_or_default())?;
    fs::create_dir_all(&point).with_context(|| format!("cannot make {}", point.display()))?;
    let data = match (&fs.subvolume, fs.kind) {
        (Some(subvolume), _) => format!("subvol={subvolume}"),
        // Another disk of the machine may have a copy of the same file system.
        (None, FsKind::Xfs) => "nouuid".to_owned(),
        _ => String::new(),
    };
    Ok(storage::mount(
        Path::new(&fs.path),
        &point,
        fs.kind.name(),
        &data,
    )?)
}

/// Unmounts everything at and below the target, deepest first; what is not mounted is passed over.
pub(super) fn unmount_below(target: &Path) {
    let mounted = simulcast_system::mounts::read().unwrap_or_default();
    let points = mounted
        .into_iter()
        .rev()
        .map(|mount| PathBuf::from(String::from_utf8_lossy(&mount.point).into_owned()));
    for point in points.filter(|point| point.starts_with(target)) {
        if let Err(error) = storage::unmount(&point, false) {
            tracing::debug!(%error, "it is unmounted when nobody uses it any more");
            drop(storage::unmount(&point, true));
        }
    }
}

/// Syncs and unmounts everything, and then marks the disks as installed.
pub(super) fn unmount(plan: &Plan, order: &Order, target: &Path) -> Done {
    rustix::fs::sync();
    unmount_below(target);
    let still = simulcast_system::mounts::read()?;
    if let Some(busy) = still
        .iter()
        .find(|mount| Path::new(&*String::from_utf8_lossy(&mount.point)).starts_with(target))
    {
        return Err(anyhow!("{} is still in use", String::from_utf8_lossy(&busy.point)).into());
    }
    for index in 0..plan.disks.len() {
        write_mark(plan, order, index, Stage::Installed)?;
    }
    Ok(())
}
