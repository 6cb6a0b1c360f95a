//! What a machine is: distribution, kernel, firmware, disks and what is on them. `si-prepareclient` records it of a
//! golden client, so that a node can be built without anybody writing its layout.

mod blkid;
mod lsblk;
mod os_release;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use blkid::{Probe, parse_blkid};
pub use lsblk::{BlockDevice, LsblkError, parse_lsblk};
pub use os_release::OsRelease;

use crate::command::{CommandError, Run, Tool};

/// Where the kernel shows the firmware's interface.
const EFI: &str = "/sys/firmware/efi";

/// Exit codes of `blkid` that are answers: nothing found, and contradictory signatures on one device.
const NOTHING: i32 = 2;
const AMBIVALENT: i32 = 8;

/// What is known of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineFacts {
    /// Its distribution; of a tree without that file, nothing.
    pub os: OsRelease,
    /// The release of the running kernel, as `uname -r` says.
    pub kernel: String,
    /// The machine's architecture, as `uname -m` says.
    pub architecture: String,
    /// What starts the boot loader.
    pub firmware: Firmware,
    /// Its disks, each with what is on it.
    pub disks: Vec<BlockDevice>,
    /// The text of /etc/fstab: what is mounted where, and how.
    #[serde(default)]
    pub fstab: String,
}

/// What starts the boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A PC BIOS, or whatever else a machine has that did not start by UEFI.
    Bios,
    /// UEFI, of 32 or 64 bits, which need not be the kernel's.
    Uefi {
        /// Bits of its programs.
        bits: u32,
    },
}

/// Facts that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum FactsError {
    /// A program failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The output of `lsblk` cannot be read.
    #[error(transparent)]
    Lsblk(#[from] LsblkError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl MachineFacts {
    /// Finds out what this machine is; the distribution is that of the tree at `root` (`/` for the machine's own).
    ///
    /// # Errors
    /// A file or program that has to be there and fails. Root sees what is on the disks; others see the disks alone.
    pub fn read(root: &Path) -> Result<Self, FactsError> {
        let uname = rustix::system::uname();
        Ok(Self {
            os: read_os_release(root)?,
            kernel: uname.release().to_string_lossy().into_owned(),
            architecture: uname.machine().to_string_lossy().into_owned(),
            firmware: read_firmware(Path::new(EFI))?,
            disks: read_disks()?,
            fstab: read_if_there(&root.join("etc/fstab"))?.unwrap_or_default(),
        })
    }
}

/// The first of the two files that the specification names, os-release(5).
pub(crate) fn read_os_release(root: &Path) -> Result<OsRelease, FactsError> {
    for name in ["etc/os-release", "usr/lib/os-release"] {
        if let Some(text) = read_if_there(&root.join(name))? {
            return Ok(OsRelease::parse(&text));
        }
    }
    Ok(OsRelease::default())
}

/// What starts the boot loader, as the directory `efi` (/sys/firmware/efi) says.
fn read_firmware(efi: &Path) -> Result<Firmware, FactsError> {
    if !efi.is_dir() {
        return Ok(Firmware::Bios);
    }
    // Kernels before 4.0 lack the file; all machines of their time that ran 64-bit Linux had 64-bit firmware.
    let size = read_if_there(&efi.join("fw_platform_size"))?;
    let bits = size.and_then(|text| text.trim().parse().ok()).unwrap_or(64);
    Ok(Firmware::Uefi { bits })
}

fn read_if_there(path: &Path) -> Result<Option<String>, FactsError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(FactsError::Read {
            path: path.to_owned(),
            source,
        }),
    }
}

/// Lists the disks, each with what is on it. `lsblk` has from udev what is on them; where no udev runs, or is not trusted to be current, `blkid`
/// looks at the devices themselves.
///
/// # Errors
/// As [`MachineFacts::read`].
pub fn read_disks() -> Result<Vec<BlockDevice>, FactsError> {
    let listed = Run::new(Tool::Lsblk).args(["--json", "-b", "-O"]).run()?;
    let mut disks = parse_lsblk(&listed.stdout)?;
    let mut paths = Vec::new();
    disks
        .iter()
        .for_each(|disk| disk.each(&mut |device| paths.extend(probed(device))));
    paths.sort();
    paths.dedup();
    if rustix::process::geteuid().is_root() && !paths.is_empty() {
        let run = Run::new(Tool::Blkid).args(["-p", "-o", "export"]).args(paths);
        let probes = parse_blkid(&run.accept(NOTHING).accept(AMBIVALENT).run()?.stdout);
        disks.iter_mut().for_each(|disk| disk.fill_in(&probes));
    }
    Ok(disks)
}

/// The path to probe, of a device that can have content: not of an empty drive or an unused zram.
fn probed(device: &BlockDevice) -> Option<OsString> {
    (device.bytes > 0 && device.kind != "rom").then(|| device.path.clone().into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_machine_has_facts() {
        if !Tool::Lsblk.is_installed() {
            assert!(
                std::env::var_os("REQUIRE_TIERS").is_none(),
                "lsblk is missing, and REQUIRE_TIERS is set"
            );
            eprintln!("SKIPPED: lsblk is not installed");
            return;
        }
        let facts = MachineFacts::read(Path::new("/")).unwrap();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        assert_eq!(facts.kernel, release.trim());
        assert_eq!(facts.architecture, std::env::consts::ARCH);
        let json = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<MachineFacts>(&json).unwrap(), facts);
    }

    #[test]
    fn firmware_is_told_by_the_directory() {
        let scratch = tempfile::tempdir().unwrap();
        let efi = scratch.path().join("efi");
        assert_eq!(read_firmware(&efi).unwrap(), Firmware::Bios);
        fs::create_dir(&efi).unwrap();
        assert_eq!(read_firmware(&efi).unwrap(), Firmware::Uefi { bits: 64 });
        fs::write(efi.join("fw_platform_size"), "32\n").unwrap();
        assert_eq!(read_firmware(&efi).unwrap(), Firmware::Uefi { bits: 32 });
    }

    #[test]
    fn the_distribution_is_that_of_the_tree() {
        let scratch = tempfile::tempdir().unwrap();
        assert_eq!(read_os_release(scratch.path()).unwrap(), OsRelease::default());
        fs::create_dir_all(scratch.path().join("usr/lib")).unwrap();
        fs::write(scratch.path().join("usr/lib/os-release"), "ID=alpine\n").unwrap();
        assert_eq!(read_os_release(scratch.path()).unwrap().id, "alpine");
        fs::create_dir(scratch.path().join("etc")).unwrap();
        fs::write(scratch.path().join("etc/os-release"), "ID=debian\n").unwrap();
        assert_eq!(read_os_release(scratch.path()).unwrap().id, "debian");
    }
}
