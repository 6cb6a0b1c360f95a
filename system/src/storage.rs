//! Arrays, volume groups and file systems: made, opened, closed. There is no udev in the mini-kernel, so nothing waits for it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};

use crate::command::{CommandError, Run, Tool};

/// Time for a program that makes something large on a slow disk.
const MAKE: Duration = Duration::from_secs(600);

/// How often an array is told to wait, and the pause between: its own thread looks after each second or sooner.
const FREEZE_TRIES: u32 = 50;
const FREEZE_PAUSE: Duration = Duration::from_millis(100);

/// What LVM needs to be told where no udev makes its devices.
const NO_UDEV: &str =
    "activation{udev_sync=0 udev_rules=0} devices{obtain_device_list_from_udev=0 use_devicesfile=0}";

/// A file system that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mkfs<'a> {
    /// Its kind, as `mount` calls it.
    pub kind: &'a str,
    /// On which device.
    pub device: &'a Path,
    /// Its label.
    pub label: Option<&'a str>,
    /// Its identity.
    pub uuid: &'a str,
    /// More arguments.
    pub more: &'a [String],
}

/// An array that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewArray<'a> {
    /// Its device.
    pub device: &'a Path,
    /// Its name.
    pub name: &'a str,
    /// Whose it is, in its name.
    pub host: &'a str,
    /// Its level.
    pub level: u8,
    /// The format of its metadata, as in `1.2`.
    pub metadata: &'a str,
    /// Its identity.
    pub uuid: &'a str,
    /// What it is made of.
    pub members: &'a [String],
}

/// Storage that cannot be mounted or unmounted.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {} at {}", device.display(), point.display())]
pub struct MountError {
    act: &'static str,
    device: PathBuf,
    point: PathBuf,
    source: io::Error,
}

impl Mkfs<'_> {
    /// The command that makes it; none for a kind that we do not make.
    pub fn command(&self) -> Option<Run> {
        let label = |option: &str| {
            self.label
                .map(|label| vec![option.to_owned(), label.to_owned()])
                .unwrap_or_default()
        };
        let plain = self.uuid.replace('-', "");
        let (tool, fixed, label) = match self.kind {
            "ext4" => (
                Tool::MkfsExt4,
                vec![
                    "-q",
                    "-F",
                    "-E",
                    "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
                    "-U",
                    self.uuid,
                ],
                label("-L"),
            ),
            "xfs" => (Tool::MkfsXfs, vec!["-q", "-f", "-K"], label("-L")),
            "btrfs" => (
                Tool::MkfsBtrfs,
                vec!["-q", "-f", "-K", "-U", self.uuid],
                label("-L"),
            ),
            "vfat" => (Tool::MkfsVfat, vec!["-i", &plain], label("-n")),
            "swap" => (Tool::Mkswap, vec!["-f", "-U", self.uuid], label("-L")),
            _ => return None,
        };
        let mut run = Run::new(tool).args(fixed).args(label);
        if self.kind == "xfs" {
            run = run.args(["-m".to_owned(), format!("uuid={}", self.uuid)]);
        }
        Some(run.args(self.more).arg(self.device).timeout(MAKE))
    }
}

impl NewArray<'_> {
    /// The command that makes and starts it. It does not wait until the members are alike.
    pub fn command(&self) -> Run {
        let run = Run::new(Tool::Mdadm)
            .args(["--create", "--run", "--force", "--quiet"])
            .arg(self.device)
            .arg(format!("--level={}", self.level))
            .arg(format!("--metadata={}", self.metadata))
            .arg(format!("--name={}", self.name))
            .arg(format!("--homehost={}", self.host))
            // mdadm writes UUIDs in four groups, and reads them with or without.
            .arg(format!("--uuid={}", md_uuid(self.uuid)))
            .arg(format!("--raid-devices={}", self.members.len()));
        // A bitmap spares copying everything after a crash; level 0 has nothing to copy. Unsaid, mdadm asks about it.
        let bitmap = if self.level == 0 {
            "--bitmap=none"
        } else {
            "--bitmap=internal"
        };
        run.arg(bitmap).args(self.members).timeout(MAKE).input("y\n")
    }
}

/// A UUID in four groups of eight digits, as md writes it.
pub fn md_uuid(uuid: &str) -> String {
    let digits: Vec<char> = uuid.chars().filter(char::is_ascii_hexdigit).collect();
    let groups: Vec<String> = digits.chunks(8).map(|group| group.iter().collect()).collect();
    groups.join(":")
}

/// An `lvm` command that waits for no udev.
pub fn lvm(command: &str) -> Run {
    Run::new(Tool::Lvm)
        .args([command, "--config", NO_UDEV])
        .timeout(MAKE)
}

/// Has an array wait with making its members alike until it is started the next time, so that it does not compete with what is
/// written to it. Whether it has anything to make alike; a level without redundancy has not.
///
/// # Errors
/// When the kernel refuses, or goes on with it.
pub fn postpone_copying(array: &Path) -> io::Result<bool> {
    let md = md_directory(array)?;
    let (action, completed) = (md.join("sync_action"), md.join("sync_completed"));
    if !action.exists() {
        return Ok(false);
    }
    // A copying that is just about to begin is not held by the first word: only one that runs can be stopped.
    for _ in 0..FREEZE_TRIES {
        fs::write(&action, "frozen")?;
        if fs::read_to_string(&completed)?.trim() == "none" {
            return Ok(true);
        }
        thread::sleep(FREEZE_PAUSE);
    }
    Err(io::Error::other("the kernel goes on with it"))
}

/// How many bytes of each member an array has made alike since it was made; `None` when nothing is left to do.
///
/// # Errors
/// When the kernel does not say.
pub fn copied(array: &Path) -> io::Result<Option<u64>> {
    match fs::read_to_string(md_directory(array)?.join("resync_start")) {
        Ok(text) => Ok(text
            .trim()
            .parse()
            .ok()
            .map(|sectors: u64| sectors.saturating_mul(512))),
        // A level without redundancy.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the kernel says what an array does (md(4)). Its name in /dev may be a symlink.
fn md_directory(array: &Path) -> io::Result<PathBuf> {
    let device = array.canonicalize()?;
    let name = device.file_name().unwrap_or_default();
    Ok(Path::new("/sys/class/block").join(name).join("md"))
}

/// Stops all arrays and volume groups, so that their disks can be partitioned. What is not there, or has no program to be
/// stopped with, need not be stopped.
///
/// # Errors
/// A program that is there and fails.
pub fn stop_all() -> Result<(), CommandError> {
    if Tool::Lvm.is_installed() && Path::new("/dev/mapper/control").exists() {
        lvm("vgchange")
            .args(["--activate", "n", "--quiet"])
            .accept(5)
            .run()?;
    }
    if Tool::Mdadm.is_installed() && Path::new("/proc/mdstat").exists() {
        Run::new(Tool::Mdadm).args(["--stop", "--scan"]).accept(1).run()?;
    }
    Ok(())
}

/// Mounts a device.
///
/// # Errors
/// [`MountError`].
pub fn mount(device: &Path, point: &Path, kind: &str, data: &str) -> Result<(), MountError> {
    let data = std::ffi::CString::new(data).map_err(|_| io::ErrorKind::InvalidInput.into());
    let mounted = data.and_then(|data| {
        rustix::mount::mount(device, point, kind, MountFlags::empty(), Some(data.as_c_str()))
            .map_err(io::Error::from)
    });
    mounted.map_err(|source| MountError {
        act: "mount",
        device: device.to_owned(),
        point: point.to_owned(),
        source,
    })
}

/// Shows a directory, with all that is mounted below it, at another place too. What is unmounted there later stays mounted
/// here.
///
/// # Errors
/// [`MountError`].
pub fn bind(directory: &Path, point: &Path) -> Result<(), MountError> {
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_bind_recursive(directory, point)
        .and_then(|()| rustix::mount::mount_change(point, private))
        .map_err(|errno| MountError {
            act: "show",
            device: directory.to_owned(),
            point: point.to_owned(),
            source: errno.into(),
        })
}

/// Takes away what is mounted at a place.
///
/// # Errors
/// [`MountError`]; that something is in use, above all.
pub fn unmount(point: &Path, lazily: bool) -> Result<(), MountError> {
    let flags = if lazily {
        UnmountFlags::DETACH
    } else {
        UnmountFlags::empty()
    };
    rustix::mount::unmount(point, flags).map_err(|errno| MountError {
        act: "unmount",
        device: PathBuf::from("what is mounted"),
        point: point.to_owned(),
        source: errno.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_made_by_its_program() {
        let uuid = "0f0e0d0c-0b0a-8908-8706-050403020100";
        let line = |kind, label, uuid, more: &[String]| {
            let device = Path::new("/dev/sda1");
            Mkfs {
                kind,
                device,
                label,
                uuid,
                more,
            }
            .command()
            .map(|run| run.to_string())
        };
        assert_eq!(
            line("ext4", Some("root"), uuid, &["-m".into(), "1".into()]).unwrap(),
            format!(
                "mkfs.ext4 -q -F -E lazy_itable_init=1,lazy_journal_init=1,nodiscard -U {uuid} -L root -m 1 /dev/sda1"
            )
        );
        assert_eq!(
            line("xfs", None, uuid, &[]).unwrap(),
            format!("mkfs.xfs -q -f -K -m uuid={uuid} /dev/sda1")
        );
        assert_eq!(
            line("btrfs", None, uuid, &[]).unwrap(),
            format!("mkfs.btrfs -q -f -K -U {uuid} /dev/sda1")
        );
        assert_eq!(
            line("vfat", Some("EFI"), "1A2B-3C4D", &[]).unwrap(),
            "mkfs.vfat -i 1A2B3C4D -n EFI /dev/sda1"
        );
        assert_eq!(
            line("swap", None, uuid, &[]).unwrap(),
            format!("mkswap -f -U {uuid} /dev/sda1")
        );
        assert_eq!(line("ntfs", None, uuid, &[]), None);
    }

    #[test]
    fn an_array_is_made_without_questions() {
        let array = NewArray {
            device: Path::new("/dev/md0"),
            name: "root",
            host: "node01",
            level: 1,
            metadata: "1.2",
            uuid: "0f0e0d0c-0b0a-8908-8706-050403020100",
            members: &["/dev/sda2".into(), "/dev/sdb2".into()],
        };
        assert_eq!(
            array.command().to_string(),
            "mdadm --create --run --force --quiet /dev/md0 --level=1 --metadata=1.2 --name=root --homehost=node01 \
             --uuid=0f0e0d0c:0b0a8908:87060504:03020100 --raid-devices=2 --bitmap=internal /dev/sda2 /dev/sdb2"
        );
    }
}
