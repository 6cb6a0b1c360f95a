//! A file tree run as a machine: chrooted, with its own processes, mounts and host name, and with a real /proc, /sys,
//! /dev and /run. All of that belongs to namespaces of the first process and vanishes with it; the tree keeps nothing.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use crate::command::command;
use crate::netns::Namespace;

/// Arguments: root, host name, pairs of what to bind read-only and where, `--`, the program and its arguments.
const ENTER: &str = r#"
set -eu
root=$1 name=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done
shift
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
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts pts
mount -t tmpfs -o mode=1777 tmpfs shm
ln -s pts/ptmx ptmx
hostname "$name"
cd /
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C \
    chroot "$root" "$@"
"#;

/// A directory of this machine that the tree sees, read-only.
#[derive(Debug, Clone, Copy)]
pub struct Bind<'a> {
    /// The directory here.
    pub from: &'a Path,
    /// Where the tree sees it: an absolute path that exists there.
    pub to: &'a Path,
}

/// A command that runs its further arguments as the first process of the machine whose root is `tree`. Killing the
/// command kills all processes of the machine and removes its mounts. Without a namespace it has no network.
pub fn command_in(tree: &Path, host_name: &str, network: Option<&Namespace>, binds: &[Bind<'_>]) -> Command {
    let mut inside = match network {
        Some(namespace) => namespace.command("unshare"),
        None => {
            let mut unshare = command("unshare");
            unshare.arg("--net");
            unshare
        }
    };
    inside.args([
        "--mount",
        "--pid",
        "--uts",
        "--ipc",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        ENTER,
        "machine",
    ]);
    inside.args([tree.as_os_str(), OsStr::new(host_name)]);
    for bind in binds {
        inside.args([bind.from, bind.to]);
    }
    inside.arg("--");
    inside
}
