//! Partition tables and what tells of content on a disk, by `sfdisk` and `wipefs`.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{CommandError, Run, Tool};

/// How long the kernel may take to show a partition that was made.
const APPEAR: Duration = Duration::from_secs(15);

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Time for a program that erases: a slow disk takes seconds.
const ERASE: Duration = Duration::from_secs(120);

/// Bytes at the beginning of a disk in which boot code may stand, before the table of an MBR.
const BOOT_CODE: usize = 440;

/// Types that sfdisk knows in a GPT (UUIDs of the UEFI and discoverable-partition specifications) and in an MBR.
const TYPES: [(Kind, &str, &str); 6] = [
    (Kind::Linux, "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "83"),
    (Kind::Swap, "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F", "82"),
    (Kind::Efi, "C12A7328-F81F-11D2-BA4B-00A0C93EC93B", "ef"),
    (Kind::BiosBoot, "21686148-6449-6E6F-744E-656564454649", "da"),
    (Kind::Raid, "A19D880F-05FC-4D3B-A006-743F0F84911E", "fd"),
    (Kind::Lvm, "E6D6D379-F507-44C2-A23C-238F2A3DF928", "8e"),
];

/// A partition table that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableScript {
    /// Whether it is a GPT; else an MBR.
    pub gpt: bool,
    /// Its identity: a UUID, or `0x` and 8 hexadecimal digits.
    pub id: String,
    /// Bytes of one of the disk's sectors.
    pub sector: u64,
    /// What is on it.
    pub partitions: Vec<ScriptPartition>,
}

/// A partition of such a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptPartition {
    /// Its number, from 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its bytes.
    pub bytes: u64,
    /// Its type.
    pub kind: Kind,
    /// The type that it has already, which then stays.
    pub kept_type: Option<String>,
    /// Its name in a GPT.
    pub name: String,
    /// Its identity in a GPT.
    pub id: String,
    /// Whether a BIOS that looks for it finds it active (MBR).
    pub active: bool,
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A file system.
    Linux,
    /// Swap.
    Swap,
    /// EFI system partition.
    Efi,
    /// Room for GRUB.
    BiosBoot,
    /// Member of an array.
    Raid,
    /// Member of a volume group.
    Lvm,
}

/// A disk could not be partitioned.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The disk cannot be read or written.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was attempted.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The kernel does not show what was made.
    #[error("the kernel does not show {} 15 seconds after it was made", .0.display())]
    Absent(PathBuf),
}

impl TableScript {
    /// The script for sfdisk(8), in sectors.
    pub fn text(&self) -> String {
        let label = if self.gpt { "gpt" } else { "dos" };
        let mut text = format!("label: {label}\nlabel-id: {}\nunit: sectors\n\n", self.id);
        for partition in &self.partitions {
            let ScriptPartition {
                number, start, bytes, ..
            } = partition;
            let usual = TYPES
                .iter()
                .find(|(kind, ..)| *kind == partition.kind)
                .map_or("", |(_, gpt, mbr)| if self.gpt { gpt } else { mbr });
            let kind = partition
                .kept_type
                .as_deref()
                .map_or(usual, |kept| kept.trim_start_matches("0x"));
            let written = write!(
                text,
                "{number} : start={}, size={}, type={kind}",
                start / self.sector,
                bytes / self.sector
            );
            written.expect("a text can be written to");
            if self.gpt {
                text += &format!(", uuid={}, name=\"{}\"", partition.id, partition.name);
            } else if partition.active {
                text += ", bootable";
            }
            text.push('\n');
        }
        text
    }

    /// Writes the table to `disk` and waits until the kernel shows the partitions, which have the given paths.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub fn write(&self, disk: &Path, paths: &[PathBuf]) -> Result<(), PartitionError> {
        Run::new(Tool::Sfdisk)
            .args([
                "--quiet",
                "--wipe",
                "always",
                "--wipe-partitions",
                "never",
                "--no-tell-kernel",
            ])
            .arg(disk)
            .input(self.text())
            .timeout(ERASE)
            .run()?;
        tell_kernel(disk)?;
        paths.iter().try_for_each(|path| appear(path))
    }
}

/// Has the kernel forget the partitions that it knows of a disk, and read them again. `partx` also works where the kernel
/// cannot read such tables, or where another partition of the disk is in use.
fn tell_kernel(disk: &Path) -> Result<(), PartitionError> {
    if Tool::Partx.is_installed() {
        // 1 says that there was nothing to forget.
        Run::new(Tool::Partx).arg("-d").arg(disk).accept(1).run()?;
        Run::new(Tool::Partx).arg("-a").arg(disk).run()?;
    } else {
        Run::new(Tool::Busybox)
            .args(["blockdev", "--rereadpt"])
            .arg(disk)
            .run()?;
    }
    Ok(())
}

/// Waits until a device is there.
///
/// # Errors
/// [`PartitionError::Absent`] after 15 seconds.
pub fn appear(path: &Path) -> Result<(), PartitionError> {
    let deadline = Instant::now() + APPEAR;
    while !path.exists() {
        if Instant::now() >= deadline {
            return Err(PartitionError::Absent(path.to_owned()));
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// Erases every signature that tells what is on a device: of file systems, RAID, LVM and partition tables.
///
/// # Errors
/// [`PartitionError::Command`].
pub fn wipe(device: &Path) -> Result<(), PartitionError> {
    Run::new(Tool::Wipefs)
        .args(["--all", "--force", "--quiet"])
        .arg(device)
        .timeout(ERASE)
        .run()?;
    Ok(())
}

/// Makes a disk plainly unbootable for a BIOS: erases the boot code of its first sector, not the table behind it.
///
/// # Errors
/// [`PartitionError::Io`].
pub fn erase_boot_code(disk: &Path) -> Result<(), PartitionError> {
    write_at(disk, &[0; BOOT_CODE], 0)
}

/// Writes bytes at an offset of a device, and waits until they are on it.
///
/// # Errors
/// [`PartitionError::Io`].
pub fn write_at(device: &Path, bytes: &[u8], offset: u64) -> Result<(), PartitionError> {
    let file = open(device, true)?;
    let written = file.write_all_at(bytes, offset).and_then(|()| file.sync_all());
    written.map_err(|source| failed("write to", device, source))
}

/// Reads so many bytes at an offset of a device; fewer where it ends.
///
/// # Errors
/// [`PartitionError::Io`].
pub fn read_at(device: &Path, bytes: usize, offset: u64) -> Result<Vec<u8>, PartitionError> {
    let file = open(device, false)?;
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(failed("read", device, source)),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

fn open(device: &Path, write: bool) -> Result<File, PartitionError> {
    let opened = OpenOptions::new().read(true).write(write).open(device);
    opened.map_err(|source| failed("open", device, source))
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> PartitionError {
    PartitionError::Io {
        act,
        path: path.to_owned(),
        source,
    }
}

/// The number of a partition, as the kernel shows it in sysfs; `None` for what is no partition.
pub fn number_of(name: &str) -> Option<u32> {
    let path = Path::new("/sys/class/block").join(name).join("partition");
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(gpt: bool) -> TableScript {
        let partition = |number, start: u64, mib: u64, kind, name: &str| ScriptPartition {
            number,
            start: start << 20,
            bytes: mib << 20,
            kind,
            kept_type: None,
            name: name.into(),
            id: format!("{number}-id"),
            active: number == 2,
        };
        TableScript {
            gpt,
            id: if gpt {
                "table-id".into()
            } else {
                "0x12345678".into()
            },
            sector: 512,
            partitions: vec![
                partition(1, 1, 1, Kind::BiosBoot, "bios"),
                partition(2, 2, 100, Kind::Linux, "root"),
            ],
        }
    }

    #[test]
    fn scripts_are_what_sfdisk_reads() {
        assert_eq!(
            script(true).text(),
            "label: gpt\nlabel-id: table-id\nunit: sectors\n\n\
             1 : start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, uuid=1-id, name=\"bios\"\n\
             2 : start=4096, size=204800, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, uuid=2-id, name=\"root\"\n"
        );
        let mut mbr = script(false);
        mbr.partitions.remove(0);
        mbr.sector = 4096;
        assert_eq!(
            mbr.text(),
            "label: dos\nlabel-id: 0x12345678\nunit: sectors\n\n2 : start=512, size=25600, type=83, bootable\n"
        );
        mbr.partitions[0].kept_type = Some("0x7".into());
        assert!(mbr.text().ends_with("type=7, bootable\n"));
    }

    #[test]
    fn bytes_are_written_and_read_at_their_place() {
        let scratch = tempfile::tempdir().unwrap();
        let disk = scratch.path().join("disk");
        fs::write(&disk, vec![0xff; 1000]).unwrap();
        write_at(&disk, b"mark", 500).unwrap();
        erase_boot_code(&disk).unwrap();
        assert_eq!(read_at(&disk, 6, 499).unwrap(), b"\xffmark\xff");
        assert_eq!(
            read_at(&disk, 10, 436).unwrap(),
            [0, 0, 0, 0, 255, 255, 255, 255, 255, 255]
        );
        assert_eq!(read_at(&disk, 10, 995).unwrap().len(), 5);
        let error = read_at(&scratch.path().join("none"), 1, 0)
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("cannot open "), "{error}");
    }
}
