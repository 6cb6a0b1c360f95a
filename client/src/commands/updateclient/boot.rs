//! What an update does about booting: initramfs and the boot loader's menu are this machine's own, and are made anew by its
//! own tools when what they are made of has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Remark};
use simulcast_image::filter::ExclusionList;
use simulcast_image::manifest::Manifest;
use simulcast_image::update::BootFiles;
use simulcast_system::command::{Run, Tool};

/// Time for making an initramfs on a slow machine, or for looking for other systems on all disks.
const LONG: Duration = Duration::from_secs(1500);

/// The initramfs images that this machine made for kernels of the version, as a list that keeps those of the image from
/// replacing them. Others go with their kernels. `None` where no tool makes any.
pub(crate) fn made_here(manifest: &Manifest, root: &Path) -> Option<ExclusionList> {
    if root != Path::new("/") || tools().is_none() {
        return None;
    }
    let mut names = BTreeSet::new();
    for (index, _) in manifest.files() {
        let path = manifest.path(index);
        let name = path
            .strip_prefix(b"boot/")
            .and_then(|name| std::str::from_utf8(name).ok());
        match name {
            Some(name) if name.starts_with("initrd.img-") || name.starts_with("initramfs-") => {
                names.insert(name.to_owned());
            }
            Some(name) => {
                if let Some(version) = name.strip_prefix("vmlinuz-") {
                    names.extend([
                        format!("initrd.img-{version}"),
                        format!("initramfs-{version}.img"),
                    ]);
                }
            }
            None => {}
        }
    }
    let is_own =
        |name: &String| !name.contains(['/', '*', '?', '[', '\\']) && Path::new("/boot").join(name).is_file();
    let lines: Vec<String> = names
        .into_iter()
        .filter(is_own)
        .map(|name| format!("- /boot/{name}"))
        .collect();
    ExclusionList::parse(lines.join("\n").as_bytes(), "initramfs of this machine").ok()
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

/// What is to be made anew. Until that is done, a file of the state directory says so: a run that finds all in place after
/// an interruption does it.
pub(super) struct Refresh<'a> {
    boot: BootFiles,
    due: PathBuf,
    here: bool,
    console: &'a Console,
}

impl<'a> Refresh<'a> {
    /// What these files concern, in the tree at `root`. Another tree than this machine's is left alone.
    pub(super) fn of(boot: BootFiles, root: &Path, console: &'a Console) -> Self {
        let due = console.options().state.join("boot-files-due");
        let here = root == Path::new("/");
        let all = BootFiles { kernel: true, ..boot };
        Self {
            boot: if here && due.exists() { all } else { boot },
            due,
            here,
            console,
        }
    }

    fn concerns(&self) -> bool {
        self.boot.concern_initramfs() || self.boot.concern_loader()
    }

    /// Writes down that it is due, before anything is put in place.
    pub(super) fn announce(&self) -> Result<()> {
        if !self.concerns() || !self.here {
            return Ok(());
        }
        let attempt = || format!("cannot write {}", self.due.display());
        if let Some(parent) = self.due.parent() {
            fs::create_dir_all(parent).with_context(attempt)?;
        }
        let file = fs::File::create(&self.due).with_context(attempt)?;
        file.sync_all().with_context(attempt)
    }

    /// Makes it anew: the old kernels are still there.
    pub(super) fn run(&self) -> Result<()> {
        if !self.concerns() {
            return Ok(());
        }
        if !self.here {
            self.console.say(
                "kernels or their configuration changed; initramfs and boot loader are left to the tree's own machine",
            );
            return Ok(());
        }
        if self.boot.concern_initramfs() {
            refresh_initramfs(self.console)
                .context("the initramfs could not be made anew")
                .hint(
                    "what was there before still boots; mend it and start again, or go back with --rollback",
                )?;
        }
        refresh_menu(Path::new("/"), self.console)
    }

    /// Does both, when all is in place since an earlier run.
    pub(super) fn make_up(&self) -> Result<()> {
        self.run()?;
        self.done()
    }

    /// Makes the menu once more, without the kernels that are gone by now. Then nothing is due any more.
    pub(super) fn done(&self) -> Result<()> {
        if !self.concerns() || !self.here {
            return Ok(());
        }
        if self.boot.kernel {
            refresh_menu(Path::new("/"), self.console)?;
        }
        match fs::remove_file(&self.due) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.due.display()))
            }
            _ => Ok(()),
        }
    }
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
