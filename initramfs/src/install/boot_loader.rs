//! The boot loader: last of all, so that a node that does not boot is one that is not installed.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use simulcast_image::layout::plan::{Plan, PlannedDisk};
use simulcast_image::layout::{Loader, MARK_OFFSET, PartitionKind};
use simulcast_image::order::Finish;
use simulcast_system::command::{Run, Tool};
use simulcast_system::grub::{Platform, early_config, stages};
use simulcast_system::partition;

use super::chroot::{Chroot, said};
use super::extras::{read_below, write_below};
use super::facts::below;
use super::kernels::kernels;
use super::{Done, Failure, Job, demands, efi, systemd_boot};
use crate::text::grub as text;

/// Time for grub-mkconfig, which looks for other systems on all disks, and for compressing GRUB on a slow machine.
const CONFIG: Duration = Duration::from_secs(600);

/// Bytes of the first sector.
const SECTOR: usize = 512;

/// Where GRUB's directory is, for Linux and for GRUB.
struct Place {
    /// Below the target, as in `boot/grub`.
    directory: &'static str,
    /// As GRUB sees it on its file system, as in `/boot/grub` or `/grub`.
    seen: String,
    /// Where GRUB sees kernels.
    kernels: String,
    /// The file system.
    uuid: String,
}

/// Puts the boot loader in place.
pub(super) fn install(job: &mut Job) -> Done {
    match job.plan()?.loader {
        Loader::None => {}
        Loader::Grub => grub(job)?,
        Loader::SystemdBoot => systemd_boot::install(job)?,
    }
    Ok(())
}

fn grub(job: &Job) -> Done {
    let plan = job.plan()?;
    let place = place(plan, &job.target)?;
    let platform = demands::platform(job.firmware);
    let modules = platform.modules_in(&job.target).ok_or_else(|| {
        let (name, package) = (platform.name(), platform.package());
        Failure::Final(anyhow!(
            "the image has no GRUB for {name}: install {package} in the golden client and capture it again"
        ))
    })?;
    let chroot = Chroot::enter(&job.target)?;
    let maker = ["grub-mkimage", "grub2-mkimage"]
        .into_iter()
        .find(|program| chroot.has(program));
    let maker = maker.ok_or_else(|| {
        Failure::Final(anyhow!(
            "the image has no grub-mkimage: install grub-common in the golden client"
        ))
    })?;
    copy_modules(&job.target, &modules, &place, platform)?;
    configure(job, &chroot, &place)?;
    let own = format!("{}/{}", place.directory, platform.name());
    write_below(
        &job.target,
        &format!("{own}/load.cfg"),
        0o644,
        &early_config(&place.uuid, &place.seen),
    )?;
    let core = if platform == Platform::Pc {
        "core.img"
    } else {
        "core.efi"
    };
    let made = chroot
        .run(maker)
        .args([
            "-O",
            platform.name(),
            "-d",
            &format!("/{}", modules.display()),
            "-c",
            &format!("/{own}/load.cfg"),
        ])
        .args(["-p", &place.seen, "-o", &format!("/{own}/{core}")])
        .args(platform.modules())
        .timeout(CONFIG)
        .run()?;
    drop(made);
    let core = fs::read(below(&job.target, &format!("{own}/{core}"))?)
        .context("cannot read what grub-mkimage made")?;
    drop(chroot);
    match platform.removable() {
        None => {
            let boot = fs::read(job.target.join(&modules).join("boot.img"))
                .context("cannot read GRUB's boot.img")?;
            plan.disks.iter().try_for_each(|disk| embed(disk, &boot, &core))?;
        }
        Some(removable) => efi::install(job, &core, removable)?,
    }
    Ok(())
}

/// Where GRUB's directory is: on /boot if that is a file system of its own, else on the root.
fn place(plan: &Plan, target: &Path) -> Result<Place> {
    let grub2 = below(target, "boot/grub2")?.is_dir() && !below(target, "boot/grub")?.is_dir();
    let (directory, name) = if grub2 {
        ("boot/grub2", "grub2")
    } else {
        ("boot/grub", "grub")
    };
    let (fs, before) = match plan.mounted_at("/boot") {
        Some(boot) => (boot, ""),
        None => (plan.root().context("there is no root")?, "/boot"),
    };
    let top = fs
        .subvolume
        .as_ref()
        .map(|subvolume| format!("/{subvolume}"))
        .unwrap_or_default();
    Ok(Place {
        directory,
        seen: format!("{top}{before}/{name}"),
        kernels: format!("{top}{before}"),
        uuid: fs.uuid.clone(),
    })
}

/// Puts GRUB's modules beside its configuration, where the core image looks for them.
fn copy_modules(target: &Path, modules: &Path, place: &Place, platform: Platform) -> Result<()> {
    let to = below(target, &format!("{}/{}", place.directory, platform.name()))?;
    fs::create_dir_all(&to).with_context(|| format!("cannot make {}", to.display()))?;
    let from = target.join(modules);
    for entry in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let wanted = Path::new(&name)
            .extension()
            .is_some_and(|kind| kind == "mod" || kind == "lst");
        if wanted {
            fs::copy(entry.path(), to.join(&name))
                .with_context(|| format!("cannot copy {}", entry.path().display()))?;
        }
    }
    Ok(())
}

/// Makes grub.cfg right for this node, in the cheapest way that is right: the image's own menu with the node's disks, else
/// a new one by the image's own program, else one of ours. update-grub goes on working in the node in any case.
fn configure(job: &Job, chroot: &Chroot, place: &Place) -> Result<()> {
    let plan = job.plan()?;
    let mut more = job.known_order()?.kernel_args.clone();
    more.extend(job.no_resume.then(|| "noresume".to_owned()));
    let defaults = read_below(&job.target, "etc/default/grub")?;
    if !defaults.is_empty() && !more.is_empty() {
        write_below(
            &job.target,
            "etc/default/grub",
            0o644,
            &text::defaults(&defaults, &more),
        )?;
    }
    let path = format!("{}/grub.cfg", place.directory);
    let old = text::uuids_of(job.image_fstab.as_deref().unwrap_or_default());
    let same_shape = plan.mounted_at("/boot").is_some() == old.iter().any(|(point, _)| point == "/boot")
        && plan.root().is_some_and(|root| root.subvolume.is_none());
    let new = |point: &str| {
        let swap = || {
            plan.filesystems
                .iter()
                .find(|fs| fs.kind == simulcast_image::layout::FsKind::Swap)
        };
        if point == "swap" {
            swap()
        } else {
            plan.mounted_at(point)
        }
        .map(|fs| fs.uuid.clone())
    };
    // The root's first: the menu must speak of it.
    let mut sorted = old.clone();
    sorted.sort_by_key(|(point, _)| point != "/");
    let replace: Vec<(String, String)> = sorted
        .iter()
        .filter_map(|(point, old)| Some((old.clone(), new(point)?)))
        .collect();
    let image = read_below(&job.target, &path)?;
    if let Some(adapted) = text::adapted(&image, &replace, &more).filter(|_| same_shape) {
        return write_below(&job.target, &path, 0o600, &adapted);
    }
    let makers = ["grub-mkconfig", "grub2-mkconfig"];
    if let Some(maker) = makers.into_iter().find(|program| chroot.has(program)) {
        let made = chroot
            .run(maker)
            .args(["-o", &format!("/{path}")])
            .timeout(CONFIG)
            .run();
        match made {
            Ok(output) => {
                job.reporter.say(&said(&output));
                return Ok(());
            }
            Err(error) => job
                .reporter
                .say(&format!("warning: {error}; a plain menu is written instead")),
        }
    }
    let root = plan.root().context("there is no root")?;
    let mut arguments = more;
    arguments.extend(
        root.subvolume
            .as_ref()
            .map(|subvolume| format!("rootflags=subvol={subvolume}")),
    );
    let kernels = kernels(&job.target)?;
    let text = text::plain(
        &place.uuid,
        &place.kernels,
        &kernels,
        &format!("UUID={}", root.uuid),
        &arguments,
    );
    write_below(&job.target, &path, 0o600, &text)
}

/// Writes GRUB's stages for a PC BIOS on one disk; on each disk of a mirror, so that either boots.
fn embed(disk: &PlannedDisk, boot: &[u8], core: &[u8]) -> Result<()> {
    let path = Path::new(&disk.path);
    let place = disk
        .partitions
        .iter()
        .find(|partition| partition.kind == PartitionKind::BiosBoot);
    let (at, room) = match (place, disk.table) {
        (Some(partition), _) => (partition.start, partition.bytes),
        (None, simulcast_image::layout::Table::Mbr) => (SECTOR as u64, MARK_OFFSET - SECTOR as u64),
        (None, simulcast_image::layout::Table::Gpt) => return Ok(()),
    };
    let first = partition::read_at(path, SECTOR, 0)?;
    let made = stages(boot, core, &first, at, room)?;
    // What is jumped to before what jumps.
    partition::write_at(path, &made.core, at)?;
    partition::write_at(path, &made.boot, 0)?;
    let back = partition::read_at(path, made.core.len(), at)?;
    anyhow::ensure!(
        back == made.core,
        "{} does not give back what was written to it",
        disk.path
    );
    Ok(())
}

/// Loads the installed kernel, when the node is to go on without restarting. If that fails it restarts.
pub(super) fn load_kexec(job: &Job) -> Result<()> {
    let order = job.known_order()?;
    if order.finish != Finish::Kexec {
        return Ok(());
    }
    let load = || -> Result<()> {
        let kernels = kernels(&job.target)?;
        let (kernel, initramfs) = kernels.first().context("there is no kernel")?;
        let root = job.plan()?.root().context("there is no root")?;
        let mut line = format!("root=UUID={} ro", root.uuid);
        let flags = root
            .subvolume
            .as_ref()
            .map(|subvolume| format!("rootflags=subvol={subvolume}"));
        flags
            .iter()
            .chain(&order.kernel_args)
            .for_each(|argument| line += &format!(" {argument}"));
        let mut run = Run::new(Tool::Kexec)
            .arg("--load")
            .arg(job.target.join("boot").join(kernel));
        if let Some(initramfs) = initramfs {
            run = run.arg(format!(
                "--initrd={}",
                job.target.join("boot").join(initramfs).display()
            ));
        }
        run.arg(format!("--command-line={line}")).run()?;
        Ok(())
    };
    if let Err(error) = load() {
        job.reporter
            .say(&format!("warning: no kexec: {error:#}; the machine will restart"));
    }
    Ok(())
}
