//! Programs, each with the libraries that it needs, found as `ld.so` finds them.
//!
//! There is no cache of `ld.so` in the initramfs, so a library is put where it is found without one: where its program's
//! own search path says, else beside the C library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::elf::{self, Needs};
use crate::error::PackageError;
use crate::record::ProgramRecord;
use crate::root::Root;
use crate::tree::{Node, Tree};

/// Where programs are looked for.
const PLACES: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// Bytes of the largest program or library.
const PROGRAM_BYTES: u64 = 256 << 20;

/// Files of `ld.so`'s configuration that are read.
const CONFIGURATIONS: usize = 256;

/// Where `ld.so` looks when nothing else is said; `{}` is the triplet of Debian and its relatives.
const USUAL: [&str; 6] = [
    "/lib/{}",
    "/usr/lib/{}",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
];

/// Puts programs and their libraries from a system's tree into that of the initramfs.
#[derive(Debug)]
pub(crate) struct Programs<'a> {
    root: &'a Root,
    /// As `uname -m` says.
    machine: &'a str,
    directories: Vec<String>,
    done: BTreeSet<PathBuf>,
    /// What was put, by its place in the initramfs.
    pub(crate) records: BTreeMap<String, ProgramRecord>,
}

impl<'a> Programs<'a> {
    /// Programs of the system at `root`, which must be for the processor `machine`.
    pub(crate) fn new(root: &'a Root, machine: &'a str) -> Self {
        let usual = USUAL.iter().map(|path| path.replace("{}", &triplet(machine)));
        let mut directories = configured(root);
        directories.extend(usual);
        Self {
            root,
            machine,
            directories,
            done: BTreeSet::new(),
            records: BTreeMap::new(),
        }
    }

    /// The program `name` of the system, as seen from inside.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        PLACES.iter().find_map(|place| {
            let path = self.root.resolve(&Path::new(place).join(name))?;
            self.root.outside(&path).is_file().then_some(path)
        })
    }

    /// Where a path of the system is, for opening it.
    pub(crate) fn outside(&self, path: &Path) -> PathBuf {
        self.root.outside(path)
    }

    /// The file of the system at `path`, links followed, for opening it; `None` when there is none.
    pub(crate) fn file(&self, path: &str) -> Option<PathBuf> {
        let found = self.root.resolve(Path::new(path))?;
        Some(self.root.outside(&found)).filter(|path| path.is_file())
    }

    /// Puts a library that nobody names, if it is there.
    ///
    /// # Errors
    /// As [`Programs::put`].
    pub(crate) fn put_library(&mut self, tree: &mut Tree, name: &str) -> Result<(), PackageError> {
        let mut places = self.directories.iter();
        let Some(found) = places.find_map(|directory| self.library(directory, name)) else {
            return Ok(());
        };
        let to = format!("/usr/lib/{}/{name}", triplet(self.machine));
        self.put(tree, &self.root.outside(&found), &to)
    }

    /// Puts the file `from`, a path outside of any root, to `to`, with all libraries that it needs from this system.
    ///
    /// # Errors
    /// When it cannot be read, is for another processor, or needs a library that is nowhere.
    pub(crate) fn put(&mut self, tree: &mut Tree, from: &Path, to: &str) -> Result<(), PackageError> {
        let mut open = vec![(from.to_owned(), to.to_owned())];
        while let Some((from, to)) = open.pop() {
            let bytes = read_program(&from)?;
            self.records.insert(to.clone(), ProgramRecord::of(&from, &bytes));
            let needs = elf::needs(&bytes);
            tree.put(&to, Node::File(0o755, elf::stripped(&bytes).unwrap_or(bytes)));
            // A script needs what it names, which is the caller's to know.
            let Ok(needs) = needs else { continue };
            if needs.machine != self.machine {
                return Err(PackageError::Architecture {
                    path: from,
                    found: needs.machine,
                    wanted: self.machine.to_owned(),
                });
            }
            self.needed(&from, &needs, &mut open)?;
        }
        Ok(())
    }

    /// Adds the libraries that are not there yet to `open`.
    fn needed(
        &mut self,
        program: &Path,
        needs: &Needs,
        open: &mut Vec<(PathBuf, String)>,
    ) -> Result<(), PackageError> {
        let nowhere = |library: &str| PackageError::Library {
            program: program.to_owned(),
            library: library.to_owned(),
        };
        if let Some(interpreter) = &needs.interpreter {
            let found = self
                .root
                .resolve(Path::new(interpreter))
                .ok_or_else(|| nowhere(interpreter))?;
            self.open(&found, interpreter, open);
        }
        for library in &needs.libraries {
            let own = needs.runpath.iter().map(|path| expand(path, program, self.root));
            let by_itself = own.filter_map(|directory| Some((self.library(&directory, library)?, directory)));
            if let Some((found, directory)) = by_itself.into_iter().next() {
                self.open(&found, &format!("{directory}/{library}"), open);
                continue;
            }
            let found = self
                .directories
                .iter()
                .find_map(|directory| self.library(directory, library))
                .ok_or_else(|| nowhere(library))?;
            let to = format!("/usr/lib/{}/{library}", triplet(self.machine));
            self.open(&found, &to, open);
        }
        Ok(())
    }

    fn open(&mut self, found: &Path, to: &str, open: &mut Vec<(PathBuf, String)>) {
        if self.done.insert(PathBuf::from(to)) {
            open.push((self.root.outside(found), to.to_owned()));
        }
    }

    /// A library of this name and for this processor in a directory.
    fn library(&self, directory: &str, name: &str) -> Option<PathBuf> {
        let path = self.root.resolve(&Path::new(directory).join(name))?;
        let bytes = read_program(&self.root.outside(&path)).ok()?;
        let fits = elf::needs(&bytes).is_ok_and(|needs| needs.machine == self.machine);
        fits.then_some(path)
    }
}

/// A whole file that is no longer than a program can be.
pub(crate) fn read_program(path: &Path) -> Result<Vec<u8>, PackageError> {
    let metadata = fs::metadata(path).map_err(PackageError::read(path))?;
    if !metadata.is_file() || metadata.len() > PROGRAM_BYTES {
        return Err(PackageError::malformed(path, "it is no program"));
    }
    fs::read(path).map_err(PackageError::read(path))
}

/// What Debian and its relatives call the directory of a processor's libraries.
fn triplet(machine: &str) -> String {
    format!("{machine}-linux-gnu")
}

/// A search path of a program: `$ORIGIN` is the directory that the program is in.
fn expand(path: &str, program: &Path, root: &Root) -> String {
    let inside = program.strip_prefix(root.directory()).unwrap_or(program);
    let origin = Path::new("/").join(inside);
    let origin = origin.parent().and_then(Path::to_str).unwrap_or("/").to_owned();
    let path = path.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
    // What has no `..` in it is a path that the tree of the initramfs can have.
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Directories that `/etc/ld.so.conf` names, with the files that it includes.
fn configured(root: &Root) -> Vec<String> {
    let mut files = vec![PathBuf::from("/etc/ld.so.conf")];
    let included = root.outside(Path::new("/etc/ld.so.conf.d"));
    // Without that directory there are none: not every system has it.
    let mut names: Vec<_> = fs::read_dir(included)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".conf"))
        .collect();
    names.sort();
    files.extend(
        names
            .iter()
            .take(CONFIGURATIONS)
            .map(|name| Path::new("/etc/ld.so.conf.d").join(name)),
    );
    let texts = files.iter().filter_map(|path| {
        let path = root.resolve(path)?;
        fs::read_to_string(root.outside(&path)).ok()
    });
    texts
        .flat_map(|text| {
            let lines = text
                .lines()
                .map(|line| line.split('#').next().unwrap_or("").trim());
            lines
                .filter(|line| line.starts_with('/'))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The applets of a busybox: it holds their names one after another, ended by NUL, sorted, beginning with `[`.
pub(crate) fn applets(busybox: &[u8]) -> Vec<String> {
    const FIRST: &[u8] = b"\0[\0[[\0";
    let Some(at) = busybox.windows(FIRST.len()).position(|window| window == FIRST) else {
        return Vec::new();
    };
    busybox[at + 1..]
        .split(|&byte| byte == 0)
        .map_while(|name| {
            let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"[_-.+".contains(byte);
            let name = Some(name).filter(|name| (1..=32).contains(&name.len()) && name.iter().all(plain))?;
            String::from_utf8(name.to_vec()).ok()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applets_are_read_from_the_program() {
        let busybox = b"\x7fELF..\0junk\0[\0[[\0ash\0mount\0x-y_z.9\0\0more\0";
        assert_eq!(applets(busybox), ["[", "[[", "ash", "mount", "x-y_z.9"]);
        assert!(applets(b"nothing").is_empty());
    }

    #[test]
    fn a_program_of_this_machine_brings_its_libraries() {
        let root = Root::new("/");
        let machine = std::env::consts::ARCH;
        let mut programs = Programs::new(&root, machine);
        let (from, mut tree) = (
            programs.find("ls").expect("every machine has ls"),
            Tree::default(),
        );
        programs.put(&mut tree, &from, "/usr/bin/ls").unwrap();
        let libc = format!("/usr/lib/{machine}-linux-gnu/libc.so.6");
        assert!(tree.has("/usr/bin/ls") && tree.has(&libc), "{tree:?}");
        let needs = elf::needs(&fs::read(&from).unwrap()).unwrap();
        assert!(tree.has(&needs.interpreter.unwrap()));
        assert!(programs.records.contains_key("/usr/bin/ls"));
    }

    #[test]
    fn a_program_for_another_processor_is_refused() {
        let root = Root::new("/");
        let mut programs = Programs::new(&root, "s390x");
        let from = programs.find("ls").unwrap();
        let error = programs.put(&mut Tree::default(), &from, "/bin/ls").unwrap_err();
        assert!(matches!(error, PackageError::Architecture { .. }), "{error}");
    }

    #[test]
    fn search_paths_know_their_origin() {
        let root = Root::new("/r");
        assert_eq!(
            expand("$ORIGIN/../lib", Path::new("/r/usr/bin/x"), &root),
            "/usr/lib"
        );
        assert_eq!(expand("${ORIGIN}", Path::new("/r/x"), &root), "/");
    }
}
