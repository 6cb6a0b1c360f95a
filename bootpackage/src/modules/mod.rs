//! Kernel modules: which ones a mini-kernel has, and the indexes by which they are found.
//!
//! What a module needs is read from the module itself (its section `.modinfo`), as `depmod` does. The lists that `depmod`
//! leaves in an installed system say the same, but a kernel package does not have them.

mod class;
mod index;
mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub use class::Class;

use crate::elf;
use crate::error::PackageError;
use crate::unpack::{plain_name, read};

/// Directory levels below the directory of modules; real trees have eight.
const DEPTH: usize = 32;

/// A module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Below the directory of modules, without the suffix of a compression: `kernel/fs/ext4/ext4.ko`.
    pub(crate) path: String,
    /// Where it is.
    file: PathBuf,
    depends: Vec<String>,
    soft: Vec<String>,
    softdeps: Vec<String>,
    aliases: Vec<String>,
    /// Firmware files that it may ask for.
    pub(crate) firmware: Vec<String>,
    /// Its place in the kernel's own order: of two drivers for one device, the first is tried first.
    rank: u32,
}

/// All modules of a kernel, by name.
#[derive(Debug)]
pub(crate) struct Modules {
    all: BTreeMap<String, Module>,
    builtin: BTreeSet<String>,
    /// The processor that they are for, as `uname -m` says; empty when there is none.
    pub(crate) machine: String,
    /// Files of the directory that are copied as they are.
    texts: BTreeMap<&'static str, Vec<u8>>,
}

/// Lists that the kernel's build leaves in the directory of modules.
const ORDER: &str = "modules.order";
const BUILTIN: &str = "modules.builtin";
const BUILTIN_INFO: &str = "modules.builtin.modinfo";

impl Modules {
    /// Reads what all modules below `directory` say of themselves.
    ///
    /// # Errors
    /// When a file cannot be read, or a module is none.
    pub(crate) fn read(directory: &Path) -> Result<Self, PackageError> {
        let mut texts = BTreeMap::new();
        for name in [ORDER, BUILTIN, BUILTIN_INFO] {
            let path = directory.join(name);
            if path.is_file() {
                texts.insert(name, fs::read(&path).map_err(PackageError::read(&path))?);
            }
        }
        let lines = |name: &str| -> Vec<String> {
            let text = texts
                .get(name)
                .map(|text| String::from_utf8_lossy(text).into_owned());
            text.unwrap_or_default().lines().map(str::to_owned).collect()
        };
        let ranks: BTreeMap<String, u32> = lines(ORDER)
            .iter()
            .map(|path| module_name(path))
            .zip(0..)
            .collect();
        let builtin = lines(BUILTIN).iter().map(|path| module_name(path)).collect();
        let mut files = Vec::new();
        find(directory, &directory.join("kernel"), DEPTH, &mut files)?;
        let (mut all, mut machine) = (BTreeMap::new(), String::new());
        for (path, file) in files {
            let bytes = read(&file)?;
            let (of, info) = elf::modinfo(&bytes).map_err(|what| PackageError::malformed(&file, what))?;
            machine = of;
            let name = module_name(&path);
            let rank = ranks.get(&name).copied().unwrap_or(u32::MAX);
            all.insert(name, Module::new(path, file, &info, rank));
        }
        Ok(Self {
            all,
            builtin,
            machine,
            texts,
        })
    }

    /// The names of all modules of `classes` and `names`, with what they need, also softly, and what that needs.
    ///
    /// # Errors
    /// [`PackageError::Kernel`] when there is no module of a name, or one needs another that is nowhere.
    pub(crate) fn closure(
        &self,
        classes: &[Class],
        names: &[String],
        directory: &Path,
    ) -> Result<BTreeSet<String>, PackageError> {
        let missing = |what: String| PackageError::Kernel {
            place: directory.to_owned(),
            what,
        };
        let of_class = |module: &Module| {
            let path = module.path.trim_start_matches("kernel/").trim_end_matches(".ko");
            classes.iter().any(|class| class.has(path))
        };
        let mut open: Vec<String> = self
            .all
            .iter()
            .filter(|(_, module)| of_class(module))
            .map(|(name, _)| name.clone())
            .collect();
        for name in names.iter().map(|name| name.replace('-', "_")) {
            if !self.all.contains_key(&name) && !self.builtin.contains(&name) {
                return Err(missing(format!("there is no module {name}")));
            }
            open.push(name);
        }
        let by_alias = self.by_alias();
        let mut chosen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(module) = self.all.get(&name) else {
                continue;
            };
            if !chosen.insert(name.clone()) {
                continue;
            }
            for needed in &module.depends {
                if !self.all.contains_key(needed) && !self.builtin.contains(needed) {
                    return Err(missing(format!(
                        "the module {name} needs {needed}, which is not there"
                    )));
                }
                open.push(needed.clone());
            }
            for wanted in &module.soft {
                // Softly needed is by name or by alias, and may be missing.
                open.push(wanted.replace('-', "_"));
                let named = by_alias.get(wanted.as_str()).into_iter().flatten();
                open.extend(named.map(|name| (*name).to_owned()));
            }
        }
        Ok(chosen)
    }

    fn by_alias(&self) -> BTreeMap<&str, Vec<&str>> {
        let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (name, module) in &self.all {
            for alias in &module.aliases {
                found.entry(alias).or_default().push(name);
            }
        }
        found
    }

    /// The module of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Module> {
        self.all.get(name)
    }
}

impl Module {
    fn new(path: String, file: PathBuf, info: &[(String, String)], rank: u32) -> Self {
        let all = |key: &str| {
            let pairs = info.iter().filter(|(name, _)| name == key);
            pairs.map(|(_, value)| value.clone()).collect::<Vec<_>>()
        };
        let depends = all("depends")
            .iter()
            .flat_map(|list| list.split(','))
            .filter(|name| !name.is_empty())
            .map(|name| name.replace('-', "_"))
            .collect();
        let softdeps = all("softdep");
        let soft = softdeps
            .iter()
            .flat_map(|list| list.split_whitespace())
            .filter(|word| !word.ends_with(':'))
            .map(str::to_owned)
            .collect();
        Self {
            path,
            file,
            depends,
            soft,
            softdeps,
            aliases: all("alias"),
            firmware: all("firmware"),
            rank,
        }
    }

    /// The module itself, decompressed: the archive is compressed as a whole, which is smaller.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn content(&self) -> Result<Vec<u8>, PackageError> {
        read(&self.file)
    }
}

/// `kernel/drivers/md/dm-mod.ko.xz` is `dm_mod`.
fn module_name(path: &str) -> String {
    let name = plain_name(path.rsplit('/').next().unwrap_or(path));
    name.strip_suffix(".ko").unwrap_or(name).replace('-', "_")
}

/// All modules below `at`, with their paths below `top`. Links are not followed.
fn find(top: &Path, at: &Path, depth: usize, found: &mut Vec<(String, PathBuf)>) -> Result<(), PackageError> {
    let entries = fs::read_dir(at).map_err(PackageError::read(at))?;
    for entry in entries {
        let entry = entry.map_err(PackageError::read(at))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(PackageError::read(at))?);
        if kind.is_dir() && depth > 0 {
            find(top, &path, depth - 1, found)?;
        }
        let below = path.strip_prefix(top).ok().and_then(Path::to_str);
        if let Some(below) = below.map(plain_name)
            && kind.is_file()
            && below.ends_with(".ko")
        {
            found.push((below.to_owned(), path.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod forge {
    use super::*;
    use crate::elf::forge::module;

    /// A directory of modules: paths below it, and what the modules say.
    pub(crate) fn directory(modules: &[(&str, &[&str])], builtin: &str, order: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, info) in modules {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, module(info)).unwrap();
        }
        fs::write(directory.path().join(BUILTIN), builtin).unwrap();
        fs::write(directory.path().join(ORDER), order).unwrap();
        directory
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn real_life() -> tempfile::TempDir {
        forge::directory(
            &[
                (
                    "kernel/fs/ext4/ext4.ko",
                    &["depends=jbd2,mbcache", "softdep=pre: crc32c", "alias=fs-ext4"],
                ),
                ("kernel/fs/jbd2/jbd2.ko", &["depends="]),
                ("kernel/fs/mbcache.ko", &["depends="]),
                (
                    "kernel/crypto/crc32c_generic.ko",
                    &["alias=crypto-crc32c", "alias=crc32c"],
                ),
                ("kernel/drivers/md/dm-mod.ko", &["depends=dax"]),
                ("kernel/sound/snd.ko", &["depends=nothing"]),
            ],
            "kernel/drivers/dax/dax.ko\n",
            "kernel/fs/jbd2/jbd2.ko\n",
        )
    }

    #[test]
    fn a_class_brings_what_its_modules_need_also_softly() {
        let directory = real_life();
        let modules = Modules::read(directory.path()).unwrap();
        assert_eq!(modules.machine, "x86_64");
        let closure = |classes: &[Class], names: &[&str]| {
            let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            modules
                .closure(classes, &names, directory.path())
                .map(|names| names.into_iter().collect::<Vec<_>>())
                .map_err(|error| error.to_string().rsplit_once(": ").unwrap().1.to_owned())
        };
        assert_eq!(
            closure(&[Class::Filesystems], &[]).unwrap(),
            ["crc32c_generic", "ext4", "jbd2", "mbcache"]
        );
        assert_eq!(
            closure(&[Class::Lvm], &["jbd2", "dax"]).unwrap(),
            ["dm_mod", "jbd2"]
        );
        assert_eq!(closure(&[], &["none"]).unwrap_err(), "there is no module none");
        assert_eq!(
            closure(&[Class::All], &[]).unwrap_err(),
            "the module snd needs nothing, which is not there"
        );
    }

    #[test]
    fn what_is_no_module_is_named() {
        let directory = real_life();
        let path = directory.path().join("kernel/fs/bad.ko");
        fs::write(&path, "no module").unwrap();
        let error = Modules::read(directory.path()).unwrap_err().to_string();
        assert!(
            error.starts_with(&format!("{}: it is no ELF file", path.display())),
            "{error}"
        );
    }
}
