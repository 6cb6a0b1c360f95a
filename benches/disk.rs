//! The disk that everything measured is written to: an ext4 of its own in a file, made anew for each sample.
//!
//! Three things would otherwise spoil the figures. ext4 does not reuse the number of an inode that was freed in the last
//! minutes and walks over all of them again and again (`recently_deleted`), so that whoever writes a tree where another
//! was just removed spends most of his time there. A sync waits for what anybody has written to the same file system. And
//! a file system that is half full in another way each time puts files in other places.
//!
//! The mount lives in a mount namespace of this program ([`enter_private_namespace`]) and vanishes with it.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use simulcast_testkit::command::{command, run};

/// Bytes of the disk: four nodes with all that an update stages.
const BYTES: u64 = 10 << 30;

/// Set in the environment of the program that has a mount namespace of its own.
const PRIVATE: &str = "SI_BENCH_PRIVATE";

/// A disk, mounted or not.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

/// Starts this program again in a mount namespace of its own, unless it is in one. Returns when it is.
pub(crate) fn enter_private_namespace() -> Result<()> {
    if std::env::var_os(PRIVATE).is_some() {
        return Ok(());
    }
    let own = std::env::current_exe().context("find this program")?;
    let mut again = command("unshare");
    again
        .args(["--mount", "--propagation", "slave"])
        .arg(own)
        .args(std::env::args_os().skip(1));
    let error = again.env(PRIVATE, "1").exec();
    Err(error).context("start unshare")
}

impl Disk {
    /// A disk in a file below `dir`; the blocks are allocated now, so that writing does not look for them.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let disk = Self {
            image: dir.join("disk.img"),
            mount: dir.join("disk"),
        };
        fs::create_dir(&disk.mount).context("create the disk's mount point")?;
        run(command("fallocate")
            .args(["-l", &BYTES.to_string()])
            .arg(&disk.image))
        .context("make room for the disk")?;
        disk.mount_new()?;
        Ok(disk)
    }

    /// An empty file system, mounted. Whatever was on the disk is gone.
    pub(crate) fn renew(&self) -> Result<&Path> {
        run(command("umount").arg(&self.mount)).context("unmount the disk")?;
        self.mount_new()?;
        Ok(&self.mount)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    fn mount_new(&self) -> Result<()> {
        // The kernel would go on making inode tables while we measure: it is told not to.
        run(command("mkfs.ext4")
            .args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=1"])
            .arg(&self.image))?;
        let mut losetup = command("losetup");
        losetup
            .args(["--find", "--show", "--direct-io=on"])
            .arg(&self.image);
        let device = simulcast_testkit::command::read(&mut losetup)?;
        let device = device.trim();
        let mounted = run(command("mount")
            .args(["-o", "noinit_itable", device])
            .arg(&self.mount));
        // Detached when it is unmounted, or at once when it was not mounted.
        run(command("losetup").args(["--detach", device]))?;
        mounted.context("mount the disk")?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // When something still uses it, it goes with the mount namespace.
        run(command("umount").arg(&self.mount)).ok();
    }
}
