//! A golden client that starts on bare machines: Debian with a kernel, systemd, GRUB, systemd-boot, md RAID, LVM and sshd, and
//! little else, as emulated machines unpack a few MB in a second.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::debian::Recipe;
use crate::command::{command, run};
use crate::machine::command_in;

/// The UUID of the golden client's root, in its fstab and in GRUB's menu.
pub const ROOT: &str = "5f0c9a4e-6d1b-4b7e-9a53-0d6f2e8c1b70";

/// How it is made.
pub const RECIPE: Recipe = Recipe {
    revision: 4,
    packages: &[
        "busybox",
        "dbus",
        "grub-efi-amd64-bin",
        "grub-pc-bin",
        "grub2-common",
        "initramfs-tools",
        "iproute2",
        "kmod",
        "linux-image-cloud-amd64",
        "lvm2",
        "mdadm",
        "openssh-server",
        "systemd",
        "systemd-boot-efi",
        "systemd-sysv",
        "udev",
        "zstd",
    ],
    added: &[],
    finish,
};

/// What nobody reads on a node of a cluster.
const TRIMMED: &[&str] = &[
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
    "var/cache/debconf",
];

/// What an administrator does after the installation: names, disks, network, and what no node needs is removed.
fn finish(tree: &Path) -> Result<()> {
    for name in TRIMMED {
        let path = tree.join(name);
        if path.is_dir() {
            fs::remove_dir_all(&path).with_context(|| format!("remove {}", path.display()))?;
            fs::create_dir(&path).with_context(|| format!("make {}", path.display()))?;
        }
    }
    // Whoever stands at the console of an emulated machine may look around.
    run(command("chroot").arg(tree).args(["passwd", "-d", "root"]))?;
    write(tree, "etc/hostname", "golden01\n")?;
    write(tree, "etc/hosts", "127.0.0.1\tlocalhost\n127.0.1.1\tgolden01\n")?;
    write(
        tree,
        "etc/fstab",
        &format!("UUID={ROOT} / ext4 errors=remount-ro 0 1\n"),
    )?;
    write(
        tree,
        "etc/systemd/network/20-wired.network",
        "[Match]\nName=en* eth*\n\n[Network]\nDHCP=yes\n",
    )?;
    let wants = tree.join("etc/systemd/system/multi-user.target.wants");
    fs::create_dir_all(&wants).with_context(|| format!("make {}", wants.display()))?;
    symlink(
        "/lib/systemd/system/systemd-networkd.service",
        wants.join("systemd-networkd.service"),
    )
    .context("enable systemd-networkd")?;
    initramfs(tree)?;
    menu(tree)
}

/// An initramfs with the drivers of the site's disks alone: a small one starts sooner, and is sooner made anew.
fn initramfs(tree: &Path) -> Result<()> {
    write(tree, "etc/initramfs-tools/conf.d/site", "MODULES=list\n")?;
    let drivers = "virtio_pci\nvirtio_blk\nnvme\nahci\nsd_mod\next4\nxfs\nraid1\ndm_mod\n";
    write(tree, "etc/initramfs-tools/modules", drivers)?;
    run(command_in(tree, "golden01", None, &[]).args(["update-initramfs", "-u", "-k", "all"]))
        .context("make the golden client's initramfs")?;
    Ok(())
}

/// GRUB's menu, as grub-mkconfig would write it in brief.
fn menu(tree: &Path) -> Result<()> {
    let boot = tree.join("boot");
    let names = fs::read_dir(&boot).with_context(|| format!("list {}", boot.display()))?;
    let kernel = names
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .context("the golden client has no kernel")?;
    let text = format!(
        "set default=0\nset timeout=0\nserial --unit=0 --speed=115200\nterminal_output serial\n\
         menuentry 'Debian GNU/Linux' {{\n\
         \tsearch --no-floppy --fs-uuid --set=root {ROOT}\n\
         \techo 'Loading Linux {kernel} ...'\n\
         \tlinux /boot/vmlinuz-{kernel} root=UUID={ROOT} ro quiet\n\
         \tinitrd /boot/initrd.img-{kernel}\n}}\n"
    );
    fs::create_dir_all(boot.join("grub")).context("make the directory of GRUB")?;
    write(tree, "boot/grub/grub.cfg", &text)?;
    write(
        tree,
        "etc/default/grub",
        "GRUB_DEFAULT=0\nGRUB_TIMEOUT=0\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\nGRUB_CMDLINE_LINUX=\"\"\n",
    )
}

fn write(tree: &Path, path: &str, text: &str) -> Result<()> {
    fs::write(tree.join(path), text).with_context(|| format!("write the golden client's {path}"))
}
