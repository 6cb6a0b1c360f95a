//! Judging trees from outside: rsync says what it would have to do to make one like the other.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::command::{command, read};

/// What of a golden client a version does not have, as rsync's patterns: mount points, what is volatile, and what is one
/// machine's own.
pub const NOT_CAPTURED: &[&str] = &[
    "/dev",
    "/proc",
    "/sys",
    "/run",
    "/tmp",
    "/var/tmp",
    "/lost+found",
    "/var/log/**",
    "/etc/fstab",
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/ssh/ssh_host_*",
    "/etc/udev/rules.d/70-persistent-*",
    "/var/lib/dbus/machine-id",
    "/var/lib/dhcp/**",
    "/var/lib/simulcast",
    "/var/lib/systemd/random-seed",
];

/// What rsync would change to make `copy` like `original`, one item a line; empty when they are identical in names,
/// types, contents, owners, modes, times to the nanosecond, ACLs, xattrs, hard links and device numbers. Paths that
/// match an `exclude` (rsync's patterns) are left out of the comparison on both sides, and so is what updates keep for a
/// rollback.
///
/// # Errors
/// When rsync fails.
pub fn differences(original: &Path, copy: &Path, exclude: &[&str]) -> Result<Vec<String>> {
    let said = read(&mut rsync(original, copy, exclude))?;
    Ok(said.lines().map(str::to_owned).collect())
}

/// The rsync that says so.
pub(crate) fn rsync(original: &Path, copy: &Path, exclude: &[&str]) -> Command {
    let mut rsync = command("rsync");
    rsync.args([
        "-aHAXSn",
        "--checksum",
        "--delete",
        "--itemize-changes",
        "--modify-window=-1",
        "--exclude=/.simulcast-kept/",
    ]);
    rsync.args(exclude.iter().map(|pattern| format!("--exclude={pattern}")));
    // The slash means the content of the directory, not the directory itself.
    rsync.arg(original.join("")).arg(copy.join(""));
    rsync
}
