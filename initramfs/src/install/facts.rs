//! What this machine is: drivers, cards, disks, firmware.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simulcast_image::layout::{Content, DiskFacts, Extent, Firmware, MARK_BYTES, MARK_OFFSET, Mark};
use simulcast_protocol::install::{Disk, Dmi, Hello, Mac};
use simulcast_system::command::{Run, Tool};
use simulcast_system::facts::{BlockDevice, read_disks};
use simulcast_system::partition;

use super::Done;
use super::reporter::Reporter;

/// Rounds of loading modules: a controller shows its disks, a bridge its devices, only when it has its driver.
const ROUNDS: usize = 4;

/// Aliases of one call of modprobe.
const BATCH: usize = 200;

/// What no device asks for by itself.
const WANTED: [&str; 9] = [
    "dm-mod", "md-mod", "raid0", "raid1", "raid10", "raid456", "ext4", "xfs", "btrfs",
];

/// Bytes of a word that is told of the machine.
const WORD: usize = 120;

/// Names that the kernel gives to what is no disk to install on.
const NO_DISKS: [&str; 6] = ["zram", "ram", "nbd", "fd", "sr", "loop"];

/// The most memory that this program ever had, in bytes, as the kernel counts it; `None` where it does not say.
pub(super) fn peak_memory() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Loads a driver for everything that asks for one, until nothing new does.
pub(super) fn load_modules(reporter: &Reporter) -> Done {
    if !Path::new("/sbin/modprobe").exists() && !Tool::Modprobe.is_installed() {
        reporter.say("there is no modprobe: what the kernel has built in must do");
        return Ok(());
    }
    let mut seen = BTreeSet::new();
    for _ in 0..ROUNDS {
        let new: Vec<String> = aliases().difference(&seen).cloned().collect();
        if new.is_empty() {
            break;
        }
        for batch in new.chunks(BATCH) {
            // Most aliases have no module: only whether something is missing in the end counts.
            Run::new(Tool::Modprobe)
                .args(["-a", "-b", "-q"])
                .args(batch)
                .accept(1)
                .run()?;
        }
        seen.extend(new);
    }
    Run::new(Tool::Modprobe)
        .args(["-a", "-b", "-q"])
        .args(WANTED)
        .accept(1)
        .run()?;
    Ok(())
}

fn aliases() -> BTreeSet<String> {
    let buses = fs::read_dir("/sys/bus").into_iter().flatten().flatten();
    let devices = buses.flat_map(|bus| {
        fs::read_dir(bus.path().join("devices"))
            .into_iter()
            .flatten()
            .flatten()
    });
    devices
        .filter_map(|device| fs::read_to_string(device.path().join("modalias")).ok())
        .map(|alias| alias.trim().to_owned())
        .filter(|alias| !alias.is_empty() && !alias.starts_with('-'))
        .collect()
}

/// What starts the boot loader here.
pub(crate) fn firmware() -> Firmware {
    if Path::new("/sys/firmware/efi").is_dir() {
        Firmware::Uefi
    } else {
        Firmware::Bios
    }
}

/// The network cards: name and address. Bridges, bonds and the like are none.
pub(super) fn cards() -> Vec<(String, Mac)> {
    let entries = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut cards: Vec<(String, Mac)> = entries
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| {
            let address = fs::read_to_string(entry.path().join("address")).ok()?;
            Some((
                entry.file_name().into_string().ok()?,
                address.trim().parse().ok()?,
            ))
        })
        .collect();
    cards.sort();
    cards
}

/// What the machine says of itself.
pub(super) fn hello(boot: Option<Mac>) -> Result<Hello> {
    let cards = cards();
    let boot = boot
        .or(cards.first().map(|(_, mac)| *mac))
        .context("this machine has no network card")?;
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?
            .trim()
            .strip_suffix("kB")?
            .trim()
            .parse::<u64>()
            .ok()
    });
    let disks = disks()?.into_iter().map(|disk| Disk {
        name: disk.name,
        size: disk.bytes,
        model: word(&disk.model),
        bus: disk.bus,
    });
    Ok(Hello {
        boot,
        macs: cards.into_iter().map(|(_, mac)| mac).collect(),
        dmi: dmi(),
        firmware: match firmware() {
            Firmware::Bios => "bios".into(),
            Firmware::Uefi => "uefi".into(),
        },
        architecture: rustix::system::uname().machine().to_string_lossy().into_owned(),
        processors: std::thread::available_parallelism()
            .map_or(1, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory: kibibytes.unwrap_or(0) * 1024,
        disks: disks.collect(),
    })
}

fn dmi() -> Dmi {
    let read =
        |name: &str| word(&fs::read_to_string(Path::new("/sys/class/dmi/id").join(name)).unwrap_or_default());
    Dmi {
        vendor: read("sys_vendor"),
        product: read("product_name"),
        serial: read("product_serial"),
        uuid: read("product_uuid").to_lowercase(),
    }
}

fn word(text: &str) -> String {
    let shown = text.trim().chars().filter(|c| !c.is_control());
    let mut text: String = shown.take(WORD).collect();
    while text.len() > WORD {
        text.pop();
    }
    text
}

/// The disks, and what is on them.
pub(crate) fn disks() -> Result<Vec<DiskFacts>> {
    let devices = read_disks().context("cannot find out about the disks")?;
    devices
        .iter()
        .filter(|device| device.kind == "disk" && !NO_DISKS.iter().any(|name| device.name.starts_with(name)))
        .map(|device| disk_facts(device, &partition::number_of))
        .collect()
}

/// One disk as a layout asks about it. `number_of` knows a partition's number by its name.
pub(crate) fn disk_facts(device: &BlockDevice, number_of: &dyn Fn(&str) -> Option<u32>) -> Result<DiskFacts> {
    let mark = if device.bytes > MARK_OFFSET + MARK_BYTES as u64 {
        // A disk that cannot be read is not marked; it cannot be written either, and says so then.
        partition::read_at(Path::new(&device.path), MARK_BYTES, MARK_OFFSET)
            .ok()
            .and_then(|bytes| Mark::decode(&bytes))
    } else {
        None
    };
    let mut partitions: Vec<Extent> = device
        .children
        .iter()
        .filter(|child| child.kind == "part")
        .map(|child| Extent {
            number: number_of(&child.name).unwrap_or(0),
            start: child.start.unwrap_or(0) * 512,
            bytes: child.bytes,
            label: child.partition_label.clone(),
            kind: child.partition_type.clone(),
            id: child.partition_uuid.clone(),
            signature: child.fs_type.clone(),
        })
        .collect();
    partitions.sort_by_key(|partition| partition.number);
    // What was made out of the whole disk without a table counts as its content.
    let stacked = device
        .children
        .iter()
        .find(|child| child.kind != "part")
        .map(|child| child.kind.clone());
    Ok(DiskFacts {
        path: device.path.clone(),
        sector: device.logical_sector.max(512),
        bus: bus(device),
        model: device.model.clone().unwrap_or_default().trim().to_owned(),
        ids: identities(device),
        rotational: device.rotational,
        removable: device.removable,
        read_only: device.read_only,
        content: Content {
            table: device.table.clone(),
            table_id: device.table_uuid.clone(),
            signature: device.fs_type.clone().or(stacked),
            partitions,
            mark,
        },
        ..DiskFacts::new(&device.name, device.bytes)
    })
}

fn bus(device: &BlockDevice) -> String {
    match (&device.transport, device.name.as_str()) {
        (Some(transport), _) if !transport.is_empty() => transport.clone(),
        (_, name) if name.starts_with("vd") => "virtio".into(),
        (_, name) if name.starts_with("nvme") => "nvme".into(),
        (_, name) if name.starts_with("mmcblk") => "mmc".into(),
        _ => String::new(),
    }
}

/// The names that udev would give in /dev/disk/by-id, as far as the kernel itself tells them.
fn identities(device: &BlockDevice) -> Vec<String> {
    let plain = |text: &Option<String>| {
        text.as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| text.replace(' ', "_"))
    };
    let (serial, model, wwn) = (plain(&device.serial), plain(&device.model), plain(&device.wwn));
    let mut ids = Vec::new();
    if let Some(serial) = &serial {
        ids.push(serial.clone());
        let prefix = match bus(device).as_str() {
            "sata" | "ata" => "ata",
            "nvme" => "nvme",
            "virtio" => "virtio",
            "usb" => "usb",
            _ => "scsi",
        };
        ids.push(match (&model, prefix) {
            (_, "virtio") | (None, _) => format!("{prefix}-{serial}"),
            (Some(model), _) => format!("{prefix}-{model}_{serial}"),
        });
    }
    if let Some(wwn) = wwn {
        ids.push(if bus(device) == "nvme" {
            format!("nvme-{wwn}")
        } else {
            format!("wwn-{wwn}")
        });
        ids.push(wwn);
    }
    ids
}

/// A path below the target, of which nothing is a symlink: what we write there ourselves stays there.
pub(super) fn below(target: &Path, path: &str) -> Result<PathBuf> {
    let mut at = target.to_owned();
    let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        anyhow::ensure!(name != "..", "{path} leaves the installed system");
        at.push(name);
        let is_link = fs::symlink_metadata(&at).is_ok_and(|found| found.file_type().is_symlink());
        anyhow::ensure!(
            !is_link || names.peek().is_none(),
            "{} is a symlink in the image",
            at.display()
        );
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulcast_system::facts::{parse_blkid, parse_lsblk};

    #[test]
    fn a_captured_machine_becomes_facts() {
        let mut devices =
            parse_lsblk(include_bytes!("../../../system/fixtures/lsblk-debian12-gpt.json")).unwrap();
        devices[0].fill_in(&parse_blkid(include_bytes!(
            "../../../system/fixtures/blkid-debian12-gpt.txt"
        )));
        devices[0].path = "/nonexistent/disk".into();
        let number = |name: &str| name.chars().last().and_then(|c| c.to_digit(10));
        let disk = disk_facts(&devices[0], &number).unwrap();
        assert_eq!(
            (disk.bytes, disk.sector, disk.content.table.as_deref()),
            (8 << 30, 512, Some("gpt"))
        );
        let parts: Vec<_> = disk
            .content
            .partitions
            .iter()
            .map(|part| {
                (
                    part.number,
                    part.start >> 20,
                    part.bytes >> 20,
                    part.signature.as_deref().unwrap(),
                )
            })
            .collect();
        assert_eq!(
            parts,
            [
                (1, 1, 512, "vfat"),
                (2, 513, 1024, "ext4"),
                (3, 1537, 1024, "swap"),
                (4, 2561, 5630, "ext4")
            ]
        );
        assert!(
            disk.content
                .describe()
                .starts_with("a gpt table with 4 partitions (vfat, ext4, swap, ext4)")
        );
    }

    #[test]
    fn identities_are_those_of_udev() {
        let mut device = BlockDevice::default();
        device.name = "sda".into();
        device.transport = Some("sata".into());
        device.model = Some("QEMU HARDDISK".into());
        device.serial = Some("QM00001".into());
        device.wwn = Some("0x5000c500a1b2c3d4".into());
        assert_eq!(
            identities(&device),
            [
                "QM00001",
                "ata-QEMU_HARDDISK_QM00001",
                "wwn-0x5000c500a1b2c3d4",
                "0x5000c500a1b2c3d4"
            ]
        );
        device.name = "vda".into();
        device.transport = None;
        device.wwn = None;
        assert_eq!(identities(&device), ["QM00001", "virtio-QM00001"]);
    }

    #[test]
    fn paths_do_not_leave_the_target_by_symlinks() {
        let scratch = tempfile::tempdir().unwrap();
        fs::create_dir(scratch.path().join("etc")).unwrap();
        std::os::unix::fs::symlink("/etc", scratch.path().join("trap")).unwrap();
        std::os::unix::fs::symlink("/run/x", scratch.path().join("etc/resolv.conf")).unwrap();
        assert!(below(scratch.path(), "etc/hostname").is_ok());
        assert!(below(scratch.path(), "etc/resolv.conf").is_ok());
        assert!(below(scratch.path(), "trap/hostname").is_err());
        assert!(below(scratch.path(), "etc/../../x").is_err());
    }
}
