//! What an update does about booting: initramfs and the boot loader's menu are this machine's own, and are made anew by its
//! own tools when what they are made of has changed.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Remark};
use simulcast_image::filter::ExclusionList;
use simulcast_image::update::BootFiles;
use simulcast_system::command::{Run, Tool};

/// Time for making an initramfs on a slow machine, or for looking for other systems on all disks.
const LONG: Duration = Duration::from_secs(1500);

/// The initramfs images that this machine made for itself, as a list that keeps those of the image from replacing them.
/// They go when the version does not have them any more. `None` where no tool makes any.
pub(super) fn made_here(root: &Path) -> Option<ExclusionList> {
    if root != Path::new("/") || tools().is_none() {
        return None;
    }
    let mut text = b"# made by this machine; the rules hold for writing only\n".to_vec();
    for entry in fs::read_dir("/boot").ok()?.flatten() {
        let name = entry.file_name();
        let bytes = name.as_bytes();
        let is_initramfs = bytes.starts_with(b"initrd.img-") || bytes.starts_with(b"initramfs-");
        let plain = !bytes.iter().any(|byte| b"*?[\\\n\r".contains(byte));
        if is_initramfs && plain {
            text.extend_from_slice(b"H /boot/");
            text.extend_from_slice(bytes);
            text.push(b'\n');
        }
    }
    ExclusionList::parse(&text, "initramfs of this machine").ok()
}

/// The tool that makes initramfs images here, and how it makes all anew.
fn tools() -> Option<(Tool, &'static [&'static str])> {
    let tools: [(Tool, &[&str]); 3] = [
        (Tool::UpdateInitramfs, &["-u", "-k", "all"]),
        (Tool::Dracut, &["--regenerate-all", "--force"]),
        (Tool::Mkinitcpio, &["-P"]),
    ];
    tools.into_iter().find(|(tool, _)| tool.is_installed())
}

/// Makes anew what the update concerns. Another tree than this machine's is left alone.
pub(super) fn refresh(boot: BootFiles, root: &Path, console: &Console) -> Result<()> {
    if !boot.concern_initramfs() && !boot.concern_loader() {
        return Ok(());
    }
    if root != Path::new("/") {
        console.say("kernels or their configuration changed; initramfs and boot loader are left to the tree's own machine");
        return Ok(());
    }
    if boot.concern_initramfs() {
        refresh_initramfs(console).context("the initramfs could not be made anew").hint(
            "the kernels that were there before still boot; mend it and start again with --force, or go back with --rollback",
        )?;
    }
    refresh_menu(root, console)
}

fn refresh_initramfs(console: &Console) -> Result<()> {
    let Some((tool, args)) = tools() else {
        console.say("no tool that makes an initramfs is installed: the image's own is used");
        return Ok(());
    };
    console.say("making the initramfs anew");
    let debian = tool == Tool::UpdateInitramfs;
    Run::new(tool).args(args).timeout(LONG).run()?;
    // That one makes anew only what it made before.
    for version in kernels().filter(|_| debian) {
        if !Path::new("/boot").join(format!("initrd.img-{version}")).exists() {
            Run::new(Tool::UpdateInitramfs)
                .args(["-c", "-k", &version])
                .timeout(LONG)
                .run()?;
        }
    }
    Ok(())
}

/// The versions of the kernels in /boot.
fn kernels() -> impl Iterator<Item = String> {
    let names = fs::read_dir("/boot").into_iter().flatten().flatten();
    names.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        Some(name.strip_prefix("vmlinuz-")?.to_owned())
    })
}

/// Has GRUB's menu made anew, where this machine has one.
pub(super) fn refresh_menu(root: &Path, console: &Console) -> Result<()> {
    if root != Path::new("/") {
        return Ok(());
    }
    for (tool, menu) in [
        (Tool::GrubMkconfig, "/boot/grub/grub.cfg"),
        (Tool::Grub2Mkconfig, "/boot/grub2/grub.cfg"),
    ] {
        if tool.is_installed() && Path::new(menu).is_file() {
            console.say(format_args!("making {menu} anew"));
            let new = format!("{menu}.new");
            let made = Run::new(tool).args(["-o", &new]).timeout(LONG).run();
            let placed = made.map_err(anyhow::Error::from).and_then(|_| {
                rustix::fs::sync();
                fs::rename(&new, menu).with_context(|| format!("cannot replace {menu}"))
            });
            if placed.is_err() {
                drop(fs::remove_file(&new));
            }
            placed
                .context("the boot loader's menu could not be made anew")
                .hint("the old menu is still there; mend it, or go back with --rollback")?;
        }
    }
    Ok(())
}

/// Restarts the machine.
pub(super) fn restart(console: &Console) -> Result<()> {
    console.say("restarting");
    rustix::fs::sync();
    let restarted = Run::new(Tool::Systemctl).arg("reboot").run();
    restarted
        .map(drop)
        .context("all is in place, but the machine cannot be restarted")
}
