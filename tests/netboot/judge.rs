//! The disk of a machine that is off, compared with a version from outside.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::places::places;
use crate::command::{command, read};
use crate::compare;
use crate::vm::Machine;

/// What an install makes a node's own: `docs/install.md` lists it.
pub const IDENTITY: &[&str] = &[
    "/boot/efi",
    "/boot/grub/**",
    "/etc/default/grub",
    "/etc/fstab",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/machine-id",
    "/etc/ssh/ssh_host_*",
    "/etc/systemd/network/10-simulcast.network",
    "/lost+found",
    "/var/lib/dbus/machine-id",
];

/// What an install makes a node's own besides, when its root is an array and the golden client's is not.
pub const MIRROR: &[&str] = &["/boot/initrd.img-*", "/etc/mdadm/mdadm.conf"];

/// What an install makes a node's own besides, when its root and `/var` are volumes of a group, and `/boot` a partition.
pub const VOLUMES: &[&str] = &[
    "/boot/initrd.img-*",
    "/boot/lost+found",
    "/etc/lvm/backup",
    "/var/lost+found",
];

/// What reports the first start, and goes then.
pub const REPORT: &[&str] = &[
    "/etc/systemd/system/multi-user.target.wants/simulcast-up.service",
    "/etc/systemd/system/simulcast-up.service",
    "/var/lib/simulcast",
];

/// What Debian itself writes when it starts.
pub const STARTED: &[&str] = &[
    "/etc/.pwd.lock",
    "/etc/.updated",
    "/etc/resolv.conf",
    "/tmp/**",
    "/var/.updated",
    "/var/cache/**",
    "/var/lib/private",
    "/var/lib/systemd/**",
    "/var/log/**",
    "/var/tmp/**",
];

/// What a look at a disk has found.
#[derive(Debug)]
pub struct Found {
    /// What rsync would change to make the root as the version, besides the times of directories in which something else was
    /// excepted.
    pub differences: Vec<String>,
    /// `/etc/hostname`.
    pub hostname: String,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The public ssh host key.
    pub host_key: String,
}

/// Mounts the root of `machine`, which must be off, and compares it with `tree`.
///
/// # Errors
/// When there is no clean file system, or rsync fails.
pub fn look(machine: &Machine, tree: &Path, work: &Path, except: &[&[&str]]) -> Result<Found> {
    let disk = machine.disks().first().context("a machine has a disk")?.path();
    let place = work.join(format!("{}-root", machine.name()));
    fs::create_dir_all(&place).with_context(|| format!("make {}", place.display()))?;
    let except: Vec<&str> = except.concat();
    let rsync = compare::rsync(tree, &place, &except);
    // What is mounted goes away with the shell. A file system that was not unmounted cannot be mounted read-only.
    let script = r#"set -eu
disk=$1 root=$2
shift 2
while [ "$1" != -- ]; do
    mount -o "ro,loop,offset=$1,sizelimit=$2" "$disk" "$root$3"
    shift 3
done
shift
cat "$root/etc/hostname" "$root/etc/machine-id" "$root/etc/ssh/ssh_host_ed25519_key.pub"
exec "$@""#;
    let mut shell = command("unshare");
    shell
        .args(["--mount", "sh", "-c", script, "sh"])
        .args([disk, &place]);
    for found in places(disk)? {
        shell.args([found.offset.to_string(), found.bytes.to_string(), found.point]);
    }
    shell.arg("--").arg(rsync.get_program()).args(rsync.get_args());
    let said = read(&mut shell).with_context(|| format!("look at the disk of {}", machine.name()))?;
    let mut lines = said.lines().map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (hostname, machine_id, host_key) = (next(), next(), next());
    Ok(Found {
        differences: lines.filter(|line| !is_time_of_parent(line, &except)).collect(),
        hostname,
        machine_id,
        host_key,
    })
}

/// Whether a difference is only the time of a directory in which something was made that is excepted.
fn is_time_of_parent(line: &str, except: &[&str]) -> bool {
    let Some(directory) = line.strip_prefix(".d..t...... ") else {
        return false;
    };
    let directory = directory.trim_start_matches("./");
    except.iter().any(|pattern| {
        let path = pattern
            .trim_start_matches('/')
            .trim_end_matches("**")
            .trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        [path, parent].iter().any(|known| {
            directory.trim_end_matches('/') == *known || known.is_empty() && directory.is_empty()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_of_directories_with_exceptions_are_forgiven() {
        let except = ["/etc/fstab", "/boot/grub/**", "/lost+found"];
        for line in [".d..t...... etc/", ".d..t...... boot/grub/", ".d..t...... ./"] {
            assert!(is_time_of_parent(line, &except), "{line}");
        }
        for line in [".d..t...... usr/", ">f..t...... etc/x", ".d...p..... etc/"] {
            assert!(!is_time_of_parent(line, &except), "{line}");
        }
    }
}
