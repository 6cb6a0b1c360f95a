//! `si-mkbootpackage`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::Serialize;
use simulcast_bootpackage::{Built, Class, Kernel, PackageError, Recipe, Record, Root, build, unpack_deb};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use crate::boot::package::{self, PackageName};
use crate::text::count;

/// Names of firmware files that a warning repeats.
const NAMED: usize = 5;

/// zstd's level unless told otherwise: higher ones take several times as long for some per cent.
const LEVEL: i32 = 15;

/// Build a mini-kernel: the kernel and initramfs that bare nodes boot over the network
///
/// The kernel is that of a kernel package, of a directory, of an image, or of this machine; programs are those of this
/// machine. It needs no root, and building again from the same files gives the same bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the mini-kernel; nodes boot `default` unless told otherwise
    #[arg(value_name = "NAME", default_value = PackageName::DEFAULT)]
    name: PackageName,

    /// Take kernel and modules from this kernel package (.deb) or system tree
    #[arg(
        long,
        value_name = "DEB|DIR",
        default_value = "/",
        conflicts_with = "from_image"
    )]
    from: PathBuf,

    /// Take kernel and modules from this image; its newest version unless @V names one
    #[arg(long, value_name = "IMAGE[@V]")]
    from_image: Option<ImageRef>,

    /// The kernel, as `uname -r` says, where there are several
    #[arg(long, value_name = "VERSION")]
    kernel: Option<String>,

    /// What modules are for: network, disk, raid, lvm, filesystems, console, or all
    #[arg(long, value_name = "CLASS,…", value_delimiter = ',', default_values_t = Class::DEFAULT)]
    classes: Vec<Class>,

    /// A further module, by name; may be repeated
    #[arg(long = "module", value_name = "NAME")]
    modules: Vec<String>,

    /// Put in the firmware that modules ask for, from this directory
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/lib/firmware"
    )]
    firmware: Option<PathBuf>,

    /// A further program by name, or program or file by path; may be repeated
    #[arg(long, value_name = "NAME|PATH")]
    include: Vec<String>,

    /// The system tree that programs are taken from
    #[arg(long, value_name = "DIR", default_value = "/")]
    programs: PathBuf,

    /// Our installer [default: si-installer beside this program, or what SI_INSTALLER says]
    #[arg(long, value_name = "FILE", env = "SI_INSTALLER", hide_env_values = true)]
    installer: Option<PathBuf>,

    /// zstd level of the initramfs, 1 (quick) to 19 (small)
    #[arg(long, value_name = "N", default_value_t = LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,

    /// Write it into this directory instead of the state directory
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Serialize)]
struct Shown<'a> {
    name: String,
    id: String,
    directory: &'a Path,
    seconds: f64,
    #[serde(flatten)]
    record: &'a Record,
}

/// Builds it.
///
/// # Errors
/// When something is missing or cannot be read or written; each names it.
pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let begun = Instant::now();
    let boot = package::directory(&console.options().state);
    let directory = args
        .output
        .clone()
        .unwrap_or_else(|| boot.join(args.name.to_string()));
    let parent = directory.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let failed = || format!("cannot build the mini-kernel {}", args.name);
    let (built, _work) = make(&args, parent, console).with_context(failed)?;
    built.write(&directory).with_context(failed)?;
    let shown = Shown {
        name: args.name.to_string(),
        id: built.record.id(),
        directory: &directory,
        seconds: begun.elapsed().as_secs_f64(),
        record: &built.record,
    };
    warn(&built.record, args.firmware.is_some(), console);
    if console.json() {
        console.print_json(&shown)?;
    } else {
        let record = &built.record;
        console.line(format_args!(
            "{} is in {}: kernel {} ({}) and initramfs ({}, {} unpacked), together {}, with {}, in {:.1} s",
            args.name,
            directory.display(),
            record.kernel,
            Bytes(record.vmlinuz.bytes),
            Bytes(record.initrd.bytes),
            Bytes(record.unpacked),
            Bytes(record.vmlinuz.bytes + record.initrd.bytes),
            count(record.modules.len() as u64, "module"),
            shown.seconds,
        ))?;
    }
    Ok(Exit::Done)
}

/// Builds it, with a directory for what is unpacked meanwhile in `parent`, which is removed when the second value is
/// dropped.
fn make(args: &Args, parent: &Path, console: &Console) -> anyhow::Result<(Built, Option<Work>)> {
    let (kernels, work) = kernels(args, parent, console)?;
    let kernel = Kernel::find(&kernels, args.kernel.as_deref());
    let kernel = match kernel {
        Err(error @ PackageError::Kernel { .. }) => {
            return Err(error).exit(Exit::Usage).hint(
                "--from takes a kernel package (apt-get download linux-image-…) or a system tree, --from-image an image, and \
                 --kernel chooses one",
            );
        }
        other => other?,
    };
    let built = build(&Recipe {
        kernel,
        installer: installer(args)?,
        programs: Root::new(&args.programs),
        include: args.include.clone(),
        classes: args.classes.clone(),
        modules: args.modules.clone(),
        firmware: args.firmware.clone(),
        level: args.level,
    });
    match built {
        Err(error @ PackageError::Programs(_)) => {
            Err(error).hint("install them with apt-get, and do it again")
        }
        other => Ok((other?, work)),
    }
}

/// The tree with the kernels to choose from.
fn kernels(args: &Args, parent: &Path, console: &Console) -> anyhow::Result<(Root, Option<Work>)> {
    if let Some(image) = &args.from_image {
        let store = crate::store::open(console)?;
        let version = store.load(image)?;
        let _lease = store.lease(&version.image, version.version)?;
        let work = Work::new(parent)?;
        crate::boot::kernel::extract(&store, &version, &work.0)?;
        return Ok((Root::new(&work.0), Some(work)));
    }
    if args.from.is_file() {
        let work = Work::new(parent)?;
        unpack_deb(&args.from, &work.0)?;
        return Ok((Root::new(&work.0), Some(work)));
    }
    Ok((Root::new(&args.from), None))
}

fn installer(args: &Args) -> anyhow::Result<PathBuf> {
    if let Some(path) = &args.installer {
        return Ok(path.clone());
    }
    let program = std::env::current_exe().context("cannot find out where this program lies")?;
    let beside = program.with_file_name("si-installer");
    if beside.is_file() {
        return Ok(beside);
    }
    Err(anyhow!("there is no si-installer beside {}", program.display()))
        .exit(Exit::Usage)
        .hint("name it with --installer")
}

fn warn(record: &Record, firmware: bool, console: &Console) {
    if !record.programs_missing.is_empty() {
        console.warn(format_args!(
            "left out, because they are not installed here: {}",
            record.programs_missing.join(", ")
        ));
    }
    if firmware && !record.firmware_missing.is_empty() {
        let names: Vec<_> = record
            .firmware_missing
            .iter()
            .take(NAMED)
            .map(String::as_str)
            .collect();
        let more = record.firmware_missing.len().saturating_sub(NAMED);
        console.warn(format_args!(
            "firmware that is not there: {}{}",
            names.join(", "),
            if more > 0 {
                format!(" and {more} more (package.json names all)")
            } else {
                String::new()
            }
        ));
    }
}

/// A directory that is removed again.
#[derive(Debug)]
struct Work(PathBuf);

impl Work {
    fn new(parent: &Path) -> anyhow::Result<Self> {
        let path = parent.join(format!(".kernel.{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(%error, "cannot remove {}", self.0.display());
        }
    }
}
