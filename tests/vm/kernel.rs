//! Kernel packages for mini-kernels, downloaded once by this machine's own `apt-get`.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, flock};

use crate::command::{command, read, run};
use crate::run::lab_dir;

/// Which kernel of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// For virtual machines alone: smaller.
    Cloud,
    /// For everything.
    Generic,
}

/// The newest kernel package of this machine's Debian. The first call downloads it: 27 MB, or 70 MB for everything.
///
/// # Errors
/// When this machine is no Debian, or `apt-get` fails.
pub fn package(flavour: Flavour) -> Result<PathBuf> {
    let meta = match flavour {
        Flavour::Cloud => "linux-image-cloud-amd64",
        Flavour::Generic => "linux-image-amd64",
    };
    let dir = lab_dir()?.join(meta);
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    let lock = File::create(dir.join("lock")).context("create the lock of the kernel packages")?;
    flock(&lock, FlockOperation::LockExclusive)
        .context("wait for another process that downloads a kernel")?;
    if let Some(found) = find(&dir)? {
        return Ok(found);
    }
    let depends = read(command("apt-cache").args(["depends", "--important", meta]))?;
    let name = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .with_context(|| format!("{meta} names no kernel; run apt-get update"))?;
    run(command("apt-get")
        .args(["-q", "-o", "APT::Sandbox::User=root", "download"])
        .arg(format!("linux-image-{name}"))
        .current_dir(&dir))?;
    match find(&dir)? {
        Some(found) => Ok(found),
        None => bail!("apt-get has left no package in {}", dir.display()),
    }
}

fn find(dir: &std::path::Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
