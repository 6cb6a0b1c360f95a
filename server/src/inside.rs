//! A tree run as if it were a machine: a shell or a command in it, with /proc, /sys and a /dev without disks.
//!
//! All of it belongs to namespaces of the first process and is gone with it, also when it is killed: mounts, and whatever was
//! started inside. The tree keeps nothing of it. A boot loader that a package installs inside finds no disk to write to.

#![expect(
    clippy::disallowed_methods,
    reason = "the runner of external programs is in the crate that touches disks, which the server does not link; unshare is the one program that is run here"
)]

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, ExitStatus};

use anyhow::{Context, Result};

/// Says to invoke-rc.d and its like that no service is to be started (Debian's policy-rc.d interface: 101 forbids).
pub(crate) const POLICY: &str = "#!/bin/sh\nexit 101\n";

/// Where that stands in a tree.
pub(crate) const POLICY_PATH: &str = "usr/sbin/policy-rc.d";

/// Arguments: root, host name, the program and its arguments.
const ENTER: &str = r#"
set -eu
root=$1 name=$2
shift 2
mount --bind "$root" "$root"
for place in proc sys dev run tmp; do
    [ -d "$root/$place" ] && [ ! -L "$root/$place" ] || { echo "the tree has no directory /$place" >&2; exit 125; }
done
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
if [ -f "$root/etc/resolv.conf" ] && [ ! -L "$root/etc/resolv.conf" ] && [ -f /etc/resolv.conf ]; then
    mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
    mount -o remount,bind,ro "$root/etc/resolv.conf"
fi
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
cd "$root/dev"
mknod -m 666 null c 1 3
mknod -m 666 zero c 1 5
mknod -m 666 full c 1 7
mknod -m 666 random c 1 8
mknod -m 666 urandom c 1 9
mknod -m 666 tty c 5 0
ln -s /proc/self/fd fd
ln -s fd/0 stdin
ln -s fd/1 stdout
ln -s fd/2 stderr
mkdir pts shm
mount --bind /dev/pts pts 2>/dev/null || mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts pts
mount -t tmpfs -o mode=1777 tmpfs shm
ln -s pts/ptmx ptmx
hostname "$name"
cd /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM="${TERM:-dumb}" LC_ALL=C.UTF-8 \
    DEBIAN_FRONTEND="${DEBIAN_FRONTEND:-}" chroot "$root" "$@"
"#;

/// Runs a command in the tree at `root`, or a shell when there is none, and waits until it has ended.
///
/// # Errors
/// When it cannot be started at all.
pub(crate) fn run(root: &Path, host_name: &str, command: &[impl AsRef<OsStr>]) -> Result<ExitStatus> {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        ENTER,
        "si-chroot",
    ]);
    unshare.args([root.as_os_str(), OsStr::new(host_name)]);
    if command.is_empty() {
        unshare.args([
            "/bin/sh",
            "-c",
            "if [ -x /bin/bash ]; then exec /bin/bash -l; else exec /bin/sh -l; fi",
        ]);
    } else {
        unshare.args(command);
    }
    unshare.status().context("cannot start unshare (util-linux)")
}
