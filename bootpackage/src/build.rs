//! Building: what goes in, what comes out.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::archive;
use crate::error::PackageError;
use crate::kernel::Kernel;
use crate::modules::{Class, Modules};
use crate::programs::{Programs, applets};
use crate::record::{FORMAT, FileRecord, INITRD, KERNEL, Record};
use crate::root::Root;
use crate::skeleton::{BUSYBOX, COPIED, OPENED, PROGRAMS, tree};
use crate::tree::{Node, Tree};
use crate::unpack::read;

/// The program that the kernel starts, and where it is.
const INIT: &str = "init";
const INSTALLER: &str = "/usr/bin/si-installer";

/// What a mini-kernel is made of.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The kernel.
    pub kernel: Kernel,
    /// Our installer.
    pub installer: PathBuf,
    /// The system that all other programs are taken from.
    pub programs: Root,
    /// Further programs by name, and files and programs by path, of that system.
    pub include: Vec<String>,
    /// What modules there are for.
    pub classes: Vec<Class>,
    /// Further modules, by name.
    pub modules: Vec<String>,
    /// A directory of firmware, as `/lib/firmware`: what modules ask for is put in, as far as it is there.
    pub firmware: Option<PathBuf>,
    /// zstd's level, 1 (quick) to 19 (small).
    pub level: i32,
}

/// A mini-kernel.
#[derive(Debug)]
pub struct Built {
    /// The kernel's bytes.
    pub kernel: Vec<u8>,
    /// The initramfs' bytes.
    pub initrd: Vec<u8>,
    /// What is in them.
    pub record: Record,
}

/// Builds a mini-kernel.
///
/// # Errors
/// When the kernel cannot take it, a module or program that is needed is missing, or a file cannot be read.
pub fn build(recipe: &Recipe) -> Result<Built, PackageError> {
    check_kernel(&recipe.kernel)?;
    let modules = Modules::read(&recipe.kernel.modules)?;
    let names = modules.closure(&recipe.classes, &recipe.modules, &recipe.kernel.modules)?;
    let mut tree = tree();
    let base = format!("usr/lib/modules/{}", recipe.kernel.version);
    let chosen: Vec<_> = names.iter().filter_map(|name| modules.get(name)).collect();
    for module in &chosen {
        tree.put(
            &format!("{base}/{}", module.path),
            Node::File(0o644, module.content()?),
        );
    }
    for (name, bytes) in modules.tables(&names) {
        tree.put(&format!("{base}/{name}"), Node::File(0o644, bytes));
    }
    let wanted: std::collections::BTreeSet<_> = chosen
        .iter()
        .flat_map(|module| module.firmware.iter().cloned())
        .collect();
    let (firmware, firmware_missing) = put_firmware(&mut tree, recipe.firmware.as_deref(), wanted)?;
    let mut programs = Programs::new(&recipe.programs, &modules.machine);
    programs.put(&mut tree, &recipe.installer, INSTALLER)?;
    tree.put(INIT, Node::Link(INSTALLER.trim_start_matches('/').to_owned()));
    let programs_missing = put_programs(&mut tree, &mut programs)?;
    put_included(&mut tree, &mut programs, &recipe.include)?;
    put_applets(&mut tree);
    let kernel = fs::read(&recipe.kernel.image).map_err(PackageError::read(&recipe.kernel.image))?;
    let unpacked = archive::pack(&tree)?;
    let initrd = archive::compress(&unpacked, recipe.level)?;
    let mut paths: Vec<_> = chosen.iter().map(|module| module.path.clone()).collect();
    paths.sort();
    let record = Record {
        format: FORMAT,
        kernel: recipe.kernel.version.clone(),
        architecture: modules.machine.clone(),
        vmlinuz: FileRecord::of(&kernel),
        initrd: FileRecord::of(&initrd),
        unpacked: unpacked.len() as u64,
        classes: recipe.classes.iter().map(Class::to_string).collect(),
        modules: paths,
        firmware,
        firmware_missing,
        programs: programs.records,
        programs_missing,
    };
    Ok(Built {
        kernel,
        initrd,
        record,
    })
}

/// A kernel that says how it was configured must be able to unpack what we give it.
fn check_kernel(kernel: &Kernel) -> Result<(), PackageError> {
    let Some(path) = &kernel.config else {
        return Ok(());
    };
    let text = fs::read_to_string(path).map_err(PackageError::read(path))?;
    for needed in ["CONFIG_BLK_DEV_INITRD=y", "CONFIG_RD_ZSTD=y", "CONFIG_DEVTMPFS=y"] {
        if !text.lines().any(|line| line == needed) {
            return Err(PackageError::malformed(
                path,
                format!("this kernel cannot be a mini-kernel: it was built without {needed}"),
            ));
        }
    }
    Ok(())
}

/// Puts firmware that is there; returns the names of what is there and of what is not.
fn put_firmware(
    tree: &mut Tree,
    directory: Option<&Path>,
    wanted: std::collections::BTreeSet<String>,
) -> Result<(Vec<String>, Vec<String>), PackageError> {
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for name in wanted {
        let inside = name.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let found = directory.filter(|_| inside).and_then(|directory| {
            let names = [name.clone(), format!("{name}.xz"), format!("{name}.zst")];
            names
                .iter()
                .map(|name| directory.join(name))
                .find(|path| path.is_file())
        });
        match found {
            Some(path) => {
                tree.put(
                    &format!("usr/lib/firmware/{name}"),
                    Node::File(0o644, read(&path)?),
                );
                there.push(name);
            }
            None => missing.push(name),
        }
    }
    Ok((there, missing))
}

/// Puts the usual programs; returns those that are not installed and that one can do without.
fn put_programs(tree: &mut Tree, programs: &mut Programs<'_>) -> Result<Vec<String>, PackageError> {
    let (mut missing, mut needed) = (Vec::new(), Vec::new());
    for wanted in PROGRAMS {
        let Some(path) = programs.find(wanted.name) else {
            let list = if wanted.required {
                &mut needed
            } else {
                &mut missing
            };
            list.push(format!("{} (package {})", wanted.name, wanted.package));
            continue;
        };
        let from = programs.outside(&path);
        programs.put(tree, &from, wanted.place)?;
        let (directory, name) = wanted.place.rsplit_once('/').unwrap_or(("", wanted.place));
        for link in wanted.links {
            tree.put(&format!("{directory}/{link}"), Node::Link(name.to_owned()));
        }
    }
    if !needed.is_empty() {
        return Err(PackageError::Programs(needed));
    }
    programs.put_library(tree, OPENED)?;
    for path in COPIED {
        if let Some(found) = programs.file(path) {
            let bytes = fs::read(&found).map_err(PackageError::read(&found))?;
            tree.put(path, Node::File(0o644, bytes));
        }
    }
    Ok(missing)
}

fn put_included(
    tree: &mut Tree,
    programs: &mut Programs<'_>,
    include: &[String],
) -> Result<(), PackageError> {
    for name in include {
        let found = if name.starts_with('/') {
            programs.file(name).map(|outside| (outside, name.clone()))
        } else {
            let path = programs.find(name);
            path.map(|path| (programs.outside(&path), format!("/usr/bin/{name}")))
        };
        let (from, to) =
            found.ok_or_else(|| PackageError::Programs(vec![format!("{name} (that was asked for)")]))?;
        programs.put(tree, &from, &to)?;
    }
    Ok(())
}

/// Gives busybox the names of all its applets that no other program has.
fn put_applets(tree: &mut Tree) {
    let names = match tree.get(BUSYBOX) {
        Some(Node::File(_, bytes)) => applets(bytes),
        _ => Vec::new(),
    };
    let places = ["usr/bin", "usr/sbin"];
    for name in names.iter().filter(|name| *name != "busybox") {
        if !places.iter().any(|place| tree.has(&format!("{place}/{name}"))) {
            tree.put(&format!("usr/bin/{name}"), Node::Link("busybox".to_owned()));
        }
    }
}

impl Built {
    /// Writes the package as the directory `directory`. What was there before is replaced as a whole, so that nobody ever
    /// sees the kernel of one package with the initramfs of another.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, directory: &Path) -> Result<(), PackageError> {
        let fresh = directory.with_extension(format!("{}.new", std::process::id()));
        // What a build that was killed has left.
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(PackageError::write(&fresh))?;
        }
        fs::create_dir_all(&fresh).map_err(PackageError::write(&fresh))?;
        let mut json = serde_json::to_vec_pretty(&self.record)
            .map_err(|error| PackageError::malformed(&fresh, error.to_string()))?;
        json.push(b'\n');
        for (name, bytes) in [
            (KERNEL, &self.kernel),
            (INITRD, &self.initrd),
            (crate::record::FILE, &json),
        ] {
            let path = fresh.join(name);
            let written = fs::File::create(&path).and_then(|mut file| {
                file.write_all(bytes)?;
                file.sync_all()
            });
            written.map_err(PackageError::write(&path))?;
        }
        let swapped = renameat_with(CWD, &fresh, CWD, directory, RenameFlags::EXCHANGE);
        match swapped {
            Ok(()) => fs::remove_dir_all(&fresh).map_err(PackageError::write(&fresh))?,
            Err(rustix::io::Errno::NOENT) => {
                fs::rename(&fresh, directory).map_err(PackageError::write(directory))?;
            }
            Err(error) => return Err(PackageError::write(directory)(error.into())),
        }
        let parent = directory.parent().unwrap_or(directory);
        fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(PackageError::write(parent))
    }
}

#[cfg(test)]
#[path = "build_tests.rs"]
mod tests;
