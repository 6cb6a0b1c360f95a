//! The EFI system partition, and the firmware's list of what it can start.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simulcast_system::command::{Run, Tool};
use simulcast_system::facts::OsRelease;

use super::Job;
use super::extras::read_below;
use super::facts::below;

/// Puts GRUB on the EFI system partition, under the name that firmware looks for and under the distribution's, and adds it
/// to the firmware's list behind all that is there: the network stays first.
pub(super) fn install(job: &Job, core: &[u8], removable: &str) -> Result<()> {
    let esp = job.plan()?.efi().context("there is no EFI system partition")?;
    let point = esp.mount.clone().unwrap_or_default();
    let id = OsRelease::parse(&read_below(&job.target, "etc/os-release")?).id;
    let id = if !id.is_empty() && id.chars().all(|c| c.is_ascii_alphanumeric()) {
        id
    } else {
        "linux".to_owned()
    };
    let file = if removable.ends_with("AA64.EFI") {
        "grubaa64.efi"
    } else {
        "grubx64.efi"
    };
    let own = format!("EFI/{id}/{file}");
    for name in [own.as_str(), removable] {
        write_bytes(&below(&job.target, &format!("{point}/{name}"))?, core)?;
    }
    boot_entry(job, &id, &own);
    Ok(())
}

/// Writes a file whole, so that a power cut leaves the old one or the new one.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    let attempt = || format!("cannot write {}", path.display());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).with_context(attempt)?;
    }
    let new: PathBuf = path.with_extension("new");
    fs::write(&new, bytes).with_context(attempt)?;
    fs::rename(&new, path).with_context(attempt)
}

/// Adds an entry to the firmware's list. Firmware may have no room or forbid it; the removable path boots all the same.
pub(super) fn boot_entry(job: &Job, label: &str, file: &str) {
    let added = || -> Result<()> {
        let plan = job.plan()?;
        let esp = plan.efi().context("there is no EFI system partition")?;
        let found = plan
            .disks
            .iter()
            .flat_map(|disk| disk.partitions.iter().map(move |partition| (disk, partition)));
        let (disk, partition) = found
            .into_iter()
            .find(|(_, p)| p.path == esp.path)
            .context("it lies on no disk")?;
        let before = String::from_utf8_lossy(&Run::new(Tool::Efibootmgr).run()?.stdout).into_owned();
        for number in entries_of(&before, label) {
            Run::new(Tool::Efibootmgr)
                .args(["--quiet", "--delete-bootnum", "--bootnum", &number])
                .run()?;
        }
        let loader = format!("\\{}", file.replace('/', "\\"));
        let number = partition.number.to_string();
        Run::new(Tool::Efibootmgr)
            .args([
                "--quiet",
                "--create-only",
                "--disk",
                &disk.path,
                "--part",
                &number,
                "--label",
                label,
                "--loader",
                &loader,
            ])
            .run()?;
        let after = String::from_utf8_lossy(&Run::new(Tool::Efibootmgr).run()?.stdout).into_owned();
        let order: Vec<String> = order_of(&after)
            .into_iter()
            .chain(entries_of(&after, label))
            .collect();
        let mut seen = Vec::new();
        order.into_iter().for_each(|number| {
            if !seen.contains(&number) {
                seen.push(number)
            }
        });
        Run::new(Tool::Efibootmgr)
            .args(["--quiet", "--bootorder", &seen.join(",")])
            .run()?;
        Ok(())
    };
    if let Err(error) = added() {
        job.reporter.say(&format!(
            "warning: the firmware's list has no entry for this disk: {error:#}; it boots by the usual path"
        ));
    }
}

/// Numbers of the entries with this label in the output of efibootmgr: `Boot0003* debian ...`.
fn entries_of(text: &str, label: &str) -> Vec<String> {
    let numbers = text.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix("Boot")?.split_at_checked(4)?;
        let name = rest.trim_start_matches('*').trim_start();
        let name = name.split('\t').next().unwrap_or_default();
        (number.chars().all(|c| c.is_ascii_hexdigit()) && name.trim() == label).then(|| number.to_owned())
    });
    numbers.collect()
}

/// The order of the entries in that output.
fn order_of(text: &str) -> Vec<String> {
    let order = text.lines().find_map(|line| line.strip_prefix("BootOrder:"));
    order
        .map(|order| order.trim().split(',').map(str::to_owned).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What versions 17 and 18 (Debian 12 and 13) say of an OVMF on which this program has put systemd-boot: the first without
    /// the paths.
    #[test]
    fn the_firmwares_list_is_read() {
        for text in [
            include_str!("../../../system/fixtures/efibootmgr17-ovmf.txt"),
            include_str!("../../../system/fixtures/efibootmgr18-ovmf.txt"),
        ] {
            assert_eq!(
                order_of(text),
                ["0002", "0003", "0004", "0005", "0001", "0007", "0000", "0006"]
            );
            assert_eq!(entries_of(text, "Linux Boot Manager"), ["0007"]);
            assert_eq!(entries_of(text, "UEFI PXEv4 (MAC:525400770034)"), ["0002"]);
            assert_eq!(entries_of(text, "UEFI QEMU NVMe Ctrl DISK1 1"), ["0001"]);
            assert!(entries_of(text, "Linux").is_empty());
        }
        assert!(order_of("BootCurrent: 0001\n").is_empty());
    }
}
