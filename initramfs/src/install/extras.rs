//! Overrides and scripts of an order.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use simulcast_image::order::{Extra, Order};
use simulcast_protocol::id::ContentId;
use simulcast_system::command::{Run, Tool};

use super::chroot::{Chroot, said};
use super::{Done, Failure, Job, facts};
use crate::wish::RUN;

/// How long one script may take.
const SCRIPT: Duration = Duration::from_secs(1800);

/// Where a script stands in the installed system while it runs: on a file system of the mini-kernel's.
const PLACE: &str = "simulcast/script";

/// Lays the overrides over the installed tree, in the order in which they stand: later ones win.
pub(super) fn overrides(job: &mut Job) -> Done {
    let order = job.known_order()?;
    for extra in &order.overrides {
        job.reporter.say(&format!("overrides: {}", extra.name));
        let bytes = fetch(job, extra)?;
        lay_over(&bytes, &job.target).with_context(|| format!("cannot lay {} over the image", extra.name))?;
    }
    Ok(())
}

/// Unpacks an archive in a process whose root is the target, so that no path and no symlink leads out of it.
fn lay_over(archive: &[u8], target: &Path) -> Result<()> {
    let own = std::env::current_exe().context("this program does not know its own path")?;
    Run::new(Tool::Own(own))
        .args(["unpack", "--root"])
        .arg(target)
        .input(archive)
        .timeout(SCRIPT)
        .run()?;
    Ok(())
}

/// Fetches a file that goes with the order, and checks its hash.
fn fetch(job: &Job, extra: &Extra) -> Result<Vec<u8>, Failure> {
    let bytes = job.client()?.install_file(&extra.hash, extra.bytes)?;
    if ContentId::of(&bytes) != extra.hash {
        return Err(anyhow!(
            "{} came damaged: its hash is another than the order says",
            extra.name
        )
        .into());
    }
    Ok(bytes)
}

/// Runs scripts in the mini-kernel, before the disks are touched.
pub(super) fn pre_install(job: &mut Job) -> Done {
    let order = job.known_order()?;
    for extra in &order.pre_install {
        let path = place(job, extra, Path::new(RUN))?;
        let run = Run::new(Tool::Own(path)).timeout(SCRIPT);
        finish(job, extra, with_variables(run, job, order))?;
    }
    Ok(())
}

/// Runs scripts in the installed system.
pub(super) fn post_install(job: &mut Job) -> Done {
    let order = job.known_order()?;
    let chroot = Chroot::enter(&job.target)?;
    for extra in &order.post_install {
        place(job, extra, Path::new(RUN))?;
        let run = chroot.run(&format!("/run/{PLACE}")).timeout(SCRIPT);
        finish(job, extra, with_variables(run, job, order))?;
    }
    Ok(())
}

fn place(job: &Job, extra: &Extra, run: &Path) -> Result<std::path::PathBuf, Failure> {
    let bytes = fetch(job, extra)?;
    let path = run.join("script");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
    Ok(path)
}

fn finish(job: &Job, extra: &Extra, run: Run) -> Done {
    job.reporter.say(&format!("running {}", extra.name));
    // A script that failed may have done half of its work: it is not run again.
    let output = run
        .run()
        .with_context(|| format!("script {} failed", extra.name))
        .map_err(Failure::Final)?;
    let said = said(&output);
    if !said.is_empty() {
        job.reporter.say(&said);
    }
    Ok(())
}

/// The variables that docs/install.md promises.
fn with_variables(run: Run, job: &Job, order: &Order) -> Run {
    let disks: Vec<&str> = job
        .plan
        .iter()
        .flat_map(|plan| &plan.disks)
        .map(|disk| disk.path.as_str())
        .collect();
    let firmware = match job.firmware {
        simulcast_image::layout::Firmware::Bios => "bios",
        simulcast_image::layout::Firmware::Uefi => "uefi",
    };
    let known = [
        ("SI_NODE", order.node.to_string()),
        ("SI_HOSTNAME", order.network.hostname.to_string()),
        ("SI_DOMAIN", order.network.domain.clone()),
        ("SI_MAC", order.network.mac.to_string()),
        ("SI_IMAGE", order.image.to_string()),
        ("SI_VERSION", order.version.to_string()),
        ("SI_ORDER", order.number.to_string()),
        (
            "SI_SERVER",
            job.line
                .server
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("SI_FIRMWARE", firmware.to_owned()),
        ("SI_DISKS", disks.join(" ")),
    ];
    let run = known
        .into_iter()
        .fold(run, |run, (name, value)| run.env(name, value));
    order
        .variables
        .iter()
        .fold(run, |run, (name, value)| run.env(format!("SI_VAR_{name}"), value))
}

/// Writes a file of the installed system, making its directory.
pub(super) fn write_below(target: &Path, path: &str, mode: u32, text: &str) -> Result<()> {
    let file = facts::below(target, path)?;
    let attempt = || format!("cannot write {}", file.display());
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).with_context(attempt)?;
    }
    // What stands there, perhaps a symlink or a link to another file's inode, is replaced and not written through.
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(attempt);
        }
        _ => {}
    }
    fs::write(&file, text).with_context(attempt)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(mode)).with_context(attempt)
}

/// A text file of the installed system; empty when there is none.
pub(super) fn read_below(target: &Path, path: &str) -> Result<String> {
    let file = facts::below(target, path)?;
    match fs::symlink_metadata(&file) {
        Ok(found) if found.is_file() && found.len() < 1 << 20 => {
            let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        }
        _ => Ok(String::new()),
    }
}
