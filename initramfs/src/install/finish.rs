//! What makes a tree this node's: fstab, names, keys, network, initramfs.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use simulcast_image::layout::plan::Plan;
use simulcast_image::layout::{FsKind, Layout};
use simulcast_image::order::{MachineId, SshHostKeys};

use super::chroot::{Chroot, said};
use super::extras::{read_below, write_below};
use super::{Done, Failure, Job, facts, up};
use crate::text::network::{Manager, files, resolv_conf};
use crate::text::{fstab as fstab_text, hosts};

/// Time for making an initramfs on a slow machine.
const INITRAMFS: Duration = Duration::from_secs(1500);

/// Time for making ssh host keys: primes for RSA are luck, and a slow machine has little of it.
const KEYS: Duration = Duration::from_secs(600);

/// Where Debian keeps which swap a resumed system is read from.
const RESUME: &str = "etc/initramfs-tools/conf.d/resume";

/// Writes fstab and mdadm.conf.
pub(super) fn fstab(job: &mut Job) -> Done {
    let image = read_below(&job.target, "etc/fstab")?;
    let plan = job.plan()?;
    write_below(&job.target, "etc/fstab", 0o644, &fstab_text::fstab(plan, &image))?;
    if let Some(text) = fstab_text::mdadm_conf(plan, job.known_order()?.node.as_str()) {
        let path = if facts::below(&job.target, "etc/mdadm")?.is_dir() {
            "etc/mdadm/mdadm.conf"
        } else {
            "etc/mdadm.conf"
        };
        write_below(&job.target, path, 0o644, &text)?;
    }
    // When a try before this one has written it, the image's own is known already.
    job.image_fstab.get_or_insert(image);
    Ok(())
}

/// Host name, hosts, machine-id, ssh host keys, and the service that reports the first start.
pub(super) fn identity(job: &mut Job) -> Done {
    let order = job.known_order()?;
    let target = &job.target;
    let golden = job
        .manifest()?
        .manifest
        .info
        .source
        .get("host")
        .cloned()
        .unwrap_or_default();
    let golden = golden.split('.').next().unwrap_or_default();
    let (host, domain) = (order.network.hostname.as_str(), order.network.domain.as_str());
    write_below(target, "etc/hostname", 0o644, &format!("{host}\n"))?;
    let text = hosts::hosts(&read_below(target, "etc/hosts")?, golden, host, domain);
    write_below(target, "etc/hosts", 0o644, &text)?;
    let id = match &order.identity.machine_id {
        MachineId::Keep => None,
        MachineId::Value(id) => Some(id.clone()),
        MachineId::New => {
            let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid")
                .context("the kernel gives no random identity")?;
            Some(uuid.trim().replace('-', ""))
        }
    };
    if let Some(id) = id {
        write_below(target, "etc/machine-id", 0o444, &format!("{id}\n"))?;
        // Usually a symlink to the other one, which then says the same.
        let dbus = facts::below(target, "var/lib/dbus/machine-id")?;
        if fs::symlink_metadata(&dbus).is_ok_and(|found| found.is_file()) {
            write_below(target, "var/lib/dbus/machine-id", 0o444, &format!("{id}\n"))?;
        }
    }
    if order.identity.ssh_host_keys == SshHostKeys::New {
        new_host_keys(job)?;
    }
    up::leave(job)?;
    Ok(())
}

fn new_host_keys(job: &Job) -> Result<()> {
    let directory = facts::below(&job.target, "etc/ssh")?;
    let Ok(entries) = fs::read_dir(&directory) else {
        return Ok(());
    };
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot read {}", directory.display()))?;
        if entry.file_name().to_string_lossy().starts_with("ssh_host_") {
            fs::remove_file(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    let chroot = Chroot::enter(&job.target)?;
    if chroot.has("ssh-keygen") {
        chroot
            .run("ssh-keygen")
            .arg("-A")
            .timeout(KEYS)
            .run()
            .context("cannot make ssh host keys")?;
    }
    Ok(())
}

/// Writes the network configuration in the form that the image uses.
pub(super) fn network(job: &mut Job) -> Done {
    let network = &job.known_order()?.network;
    let manager = manager(&job.target)?;
    let file = files(manager, network);
    write_below(&job.target, file.path, file.mode, &file.text)?;
    if manager == Manager::Networkd {
        enable(&job.target, "systemd-networkd.service")?;
    }
    let resolv = facts::below(&job.target, "etc/resolv.conf")?;
    // A symlink is a resolver's, which hears of the servers in its own way.
    let is_link = fs::symlink_metadata(&resolv).is_ok_and(|found| found.file_type().is_symlink());
    if let Some(text) = resolv_conf(network).filter(|_| !is_link) {
        write_below(&job.target, "etc/resolv.conf", 0o644, &text)?;
    }
    job.reporter
        .say(&format!("network-files: {} ({manager:?})", file.path));
    Ok(())
}

/// Who sets the network of an image: what is enabled in it, else what is there.
fn manager(target: &Path) -> Result<Manager> {
    let there = |path: &str| facts::below(target, path).map(|path| fs::symlink_metadata(path).is_ok());
    let wanted = |unit: &str| there(&format!("etc/systemd/system/multi-user.target.wants/{unit}"));
    if wanted("NetworkManager.service")? {
        return Ok(Manager::Keyfile);
    }
    if wanted("systemd-networkd.service")? {
        return Ok(Manager::Networkd);
    }
    if there("usr/sbin/ifup")? || fs::symlink_metadata(target.join("sbin/ifup")).is_ok() {
        return Ok(Manager::Ifupdown);
    }
    if there("usr/lib/systemd/systemd-networkd")? {
        return Ok(Manager::Networkd);
    }
    Err(anyhow!(
        "the image has none of NetworkManager, systemd-networkd and ifupdown: install one in the golden client"
    ))
}

/// Enables a unit of systemd for the usual start.
fn enable(target: &Path, unit: &str) -> Result<()> {
    let link = facts::below(
        target,
        &format!("etc/systemd/system/multi-user.target.wants/{unit}"),
    )?;
    if fs::symlink_metadata(&link).is_ok() {
        return Ok(());
    }
    let parent = link.parent().context("it has a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let unit = format!("/usr/lib/systemd/system/{unit}");
    std::os::unix::fs::symlink(unit, &link).with_context(|| format!("cannot make {}", link.display()))
}

/// Makes the initramfs anew, when the one of the image cannot know how to find the root of this node.
pub(super) fn initramfs(job: &mut Job) -> Done {
    let plan = job.plan()?;
    let stale = stale_resume(plan, &read_below(&job.target, RESUME)?);
    if let Some(text) = &stale {
        write_below(&job.target, RESUME, 0o644, text)?;
    }
    let golden = job.manifest()?.manifest.info.source.get("machine");
    let golden = golden
        .and_then(|record| Layout::from_machine(record).ok())
        .map(|derived| derived.layout);
    let fstab = job.image_fstab.clone().unwrap_or_default();
    if !needs_initramfs(plan, golden.as_ref(), &fstab) {
        job.reporter.say("initramfs: that of the image will do");
        // It would wait for the golden client's swap.
        job.no_resume = stale.is_some();
        return Ok(());
    }
    let chroot = Chroot::enter(&job.target)?;
    let programs: [(&str, &[&str]); 3] = [
        ("update-initramfs", &["-u", "-k", "all"]),
        ("dracut", &["--regenerate-all", "--force"]),
        ("mkinitcpio", &["-P"]),
    ];
    let Some((program, args)) = programs.into_iter().find(|(program, _)| chroot.has(program)) else {
        let text = "the layout needs another initramfs than the image's, and the image has no program that makes one";
        return Err(Failure::Final(anyhow!(text)));
    };
    let output = chroot
        .run(program)
        .args(args)
        .timeout(INITRAMFS)
        .run()
        .map_err(|error| Failure::Final(error.into()))?;
    job.reporter.say(&said(&output));
    Ok(())
}

/// The file in which Debian's initramfs reads where to resume from, when it names a swap that this node does not have.
fn stale_resume(plan: &Plan, image: &str) -> Option<String> {
    let old = image
        .lines()
        .find_map(|line| line.trim().strip_prefix("RESUME="))?;
    let swap = plan.filesystems.iter().find(|fs| fs.kind == FsKind::Swap);
    let new = swap.map_or_else(|| "none".to_owned(), |swap| format!("UUID={}", swap.uuid));
    (old.trim() != new && old.trim() != "none").then(|| format!("RESUME={new}\n"))
}

/// Whether the root lies on something that the golden client's did not: then its initramfs may lack drivers or programs.
/// Nothing is known of the golden client's disks when nobody recorded them; then its fstab must do.
fn needs_initramfs(plan: &Plan, golden: Option<&Layout>, fstab: &str) -> bool {
    let kind = plan.root().map(|root| root.kind.name()).unwrap_or_default();
    let (raid, lvm) = (!plan.arrays.is_empty(), !plan.groups.is_empty());
    match golden {
        Some(golden) => {
            let same = golden.root().is_some_and(|root| root.kind.name() == kind);
            !same || raid && golden.raid.is_empty() || lvm && golden.group.is_empty()
        }
        None => {
            let root = fstab.lines().find_map(|line| {
                let words: Vec<&str> = line.split_whitespace().collect();
                matches!(words[..], [source, "/", ..] if !source.starts_with('#'))
                    .then(|| words.get(2).copied().unwrap_or_default().to_owned())
            });
            raid || lvm || root.is_some_and(|root| root != kind)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::raid_plan;

    #[test]
    fn a_new_initramfs_is_made_only_where_the_root_is_found_otherwise() {
        let plan = raid_plan();
        let golden = Layout::parse(include_str!("../../../image/fixtures/layout-raid1.toml")).unwrap();
        assert!(!needs_initramfs(&plan, Some(&golden), ""));
        let mut plain = golden.clone();
        plain.group.clear();
        assert!(needs_initramfs(&plan, Some(&plain), ""));
        let mut single = plan.clone();
        single.arrays.clear();
        single.groups.clear();
        assert!(!needs_initramfs(&single, None, "UUID=x / ext4 defaults 0 1\n"));
        assert!(needs_initramfs(
            &single,
            None,
            "# / \nUUID=x / xfs defaults 0 1\n"
        ));
        assert!(!needs_initramfs(&single, None, ""));
        assert!(needs_initramfs(&plan, None, ""));
    }

    #[test]
    fn the_golden_clients_swap_is_not_waited_for() {
        let plan = raid_plan();
        let swap = &plan
            .filesystems
            .iter()
            .find(|fs| fs.kind == FsKind::Swap)
            .unwrap()
            .uuid;
        assert_eq!(
            stale_resume(&plan, "RESUME=UUID=old\n").unwrap(),
            format!("RESUME=UUID={swap}\n")
        );
        assert_eq!(stale_resume(&plan, &format!("RESUME=UUID={swap}\n")), None);
        assert_eq!(stale_resume(&plan, "RESUME=none\n"), None);
        assert_eq!(stale_resume(&plan, ""), None);
    }

    #[test]
    fn the_manager_is_what_the_image_has_enabled() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        assert!(manager(root).unwrap_err().to_string().contains("NetworkManager"));
        let make = |path: &str| write_below(root, path, 0o644, "").unwrap();
        make("usr/lib/systemd/systemd-networkd");
        assert_eq!(manager(root).unwrap(), Manager::Networkd);
        make("usr/sbin/ifup");
        assert_eq!(manager(root).unwrap(), Manager::Ifupdown);
        enable(root, "systemd-networkd.service").unwrap();
        assert_eq!(manager(root).unwrap(), Manager::Networkd);
        make("etc/systemd/system/multi-user.target.wants/NetworkManager.service");
        assert_eq!(manager(root).unwrap(), Manager::Keyfile);
    }
}
