//! GRUB as a boot loader over the network, made by `grub-mkimage` with everything built in: beside a foreign DHCP server it
//! would look for its modules at the wrong place.
//!
//! A third image boots the local disk of a UEFI. iPXE cannot do that itself, and leaving it to the firmware takes minutes: many
//! try all other ways to boot over the network first.

#![expect(
    clippy::disallowed_methods,
    reason = "the runner of external programs is in the crate that touches disks, which the server does not link"
)]

use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use super::files::BootFile;

/// The program.
const MKIMAGE: &str = "grub-mkimage";

/// Modules of every image.
const COMMON: &[&str] = &[
    "boot",
    "cat",
    "chain",
    "configfile",
    "echo",
    "ext2",
    "fat",
    "halt",
    "linux",
    "ls",
    "net",
    "normal",
    "part_gpt",
    "part_msdos",
    "reboot",
    "search",
    "search_fs_file",
    "search_label",
    "serial",
    "sleep",
    "terminal",
    "test",
    "tftp",
];

/// Modules of an image for a BIOS, and for UEFI.
const BIOS: &[&str] = &["biosdisk", "pxe"];
const UEFI: &[&str] = &["efinet", "http", "all_video", "gfxterm"];

/// What `grub-mkimage` calls a platform, where its modules are, and which ones an image has besides the common ones.
fn platform(file: BootFile) -> Option<(&'static str, &'static str, &'static [&'static str])> {
    match file {
        BootFile::GrubBios => Some(("i386-pc-pxe", "/usr/lib/grub/i386-pc", BIOS)),
        BootFile::GrubUefi => Some(("x86_64-efi", "/usr/lib/grub/x86_64-efi", UEFI)),
        BootFile::LocalUefi => Some(("x86_64-efi", "/usr/lib/grub/x86_64-efi", &[])),
        _ => None,
    }
}

/// Where boot loaders are on a local disk: where firmware itself looks, which is where ours are installed, then where
/// distributions have theirs.
const LOADERS: &[&str] = &[
    "/EFI/BOOT/BOOTX64.EFI",
    "/EFI/debian/shimx64.efi",
    "/EFI/debian/grubx64.efi",
    "/EFI/ubuntu/shimx64.efi",
    "/EFI/systemd/systemd-bootx64.efi",
];

/// The configuration that is built in. An image for the network gets the machine's own from `server`, which firmware may not
/// have told. What is built in is read line by line, without conditions, and goes on after a line that fails.
fn built_in(file: BootFile, server: Option<Ipv4Addr>) -> Option<String> {
    if file == BootFile::LocalUefi {
        let each = LOADERS
            .iter()
            .map(|path| format!("search --no-floppy --set=root --file {path}\nchainloader {path}\nboot\n"));
        return Some(format!("{}exit\n", each.collect::<String>()));
    }
    server.map(|server| format!("set root=(tftp,{server})\nset prefix=(tftp,{server})/grub\n"))
}

/// Makes an image of GRUB that asks `server`, using `directory` for what is made meanwhile; `None` when GRUB's modules or
/// `grub-mkimage` are not installed, the file is none of GRUB's, or it needs a server and none is known.
///
/// # Errors
/// When it fails.
pub(crate) fn image(file: BootFile, server: Option<Ipv4Addr>, directory: &Path) -> Result<Option<Vec<u8>>> {
    let (Some((format, modules, own)), Some(built_in)) = (platform(file), built_in(file, server)) else {
        return Ok(None);
    };
    if !Path::new(modules).is_dir() {
        return Ok(None);
    }
    let (early, out) = (directory.join("grub-early.cfg"), directory.join("grub-image.new"));
    fs::write(&early, built_in).with_context(|| format!("cannot write {}", early.display()))?;
    let mut command = Command::new(MKIMAGE);
    command
        .args([
            "--format",
            format,
            "--directory",
            modules,
            "--prefix",
            "/grub",
            "--config",
        ])
        .arg(&early)
        .arg("--output")
        .arg(&out)
        .args(COMMON)
        .args(own)
        .stdin(Stdio::null());
    let ran = command.output();
    let output = match ran {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        other => other.with_context(|| format!("cannot start {MKIMAGE}"))?,
    };
    if !output.status.success() {
        bail!(
            "{MKIMAGE} failed: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    let bytes = fs::read(&out).with_context(|| format!("cannot read {}", out.display()))?;
    for left in [early, out] {
        fs::remove_file(&left).with_context(|| format!("cannot remove {}", left.display()))?;
    }
    file.check(&bytes)?;
    Ok(Some(bytes))
}
