//! What the benchmarks stand on: the golden trees, the stores, and the calls of programs.

use std::cell::OnceCell;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use simulcast_testkit::command::{command, run};
use simulcast_testkit::compare::differences;
use simulcast_testkit::golden::debian::Debian;
use simulcast_testkit::golden::{change, small};
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;

use crate::disk::Disk;
use crate::measure;

/// Bytes of the large file of the golden client that changes.
const BIG_BYTES: u64 = 64 << 20;

/// Where, in the golden client, the files are that a change changes.
const FILES: &str = "srv/golden";

/// The directory of one call of si-bench, and what it holds by now.
#[derive(Debug)]
pub(crate) struct Stage {
    /// Dropped before the run, whose directory it is in.
    disk: Disk,
    run: Run,
    programs: Programs,
    debian: Debian,
    /// How many pairs a benchmark measures.
    pub(crate) pairs: usize,
    plain: OnceCell<PathBuf>,
    changing: OnceCell<[PathBuf; 2]>,
}

impl Stage {
    /// An empty stage.
    pub(crate) fn new(programs: Programs, pairs: usize) -> Result<Self> {
        let debian = Debian::prepare()?;
        let run = Run::start("bench")?;
        Ok(Self {
            debian,
            disk: Disk::new(run.dir())?,
            run,
            programs,
            pairs,
            plain: OnceCell::new(),
            changing: OnceCell::new(),
        })
    }

    /// The disk that what is measured is written to.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disk
    }

    /// A path of the run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.run.dir().join(name)
    }

    /// An empty path: whatever an earlier run left there is removed.
    pub(crate) fn fresh(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        remove(&path)?;
        Ok(path)
    }

    /// An empty directory.
    pub(crate) fn fresh_dir(&self, name: &str) -> Result<PathBuf> {
        let path = self.fresh(name)?;
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }

    /// Where programs' logs are.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        self.run.make_dir("logs")
    }

    /// The path of one of the product's programs.
    pub(crate) fn program(&self, name: &str) -> Result<PathBuf> {
        self.programs.path(name)
    }

    /// One of the product's programs with a state directory, in this machine's own network.
    pub(crate) fn ours(&self, name: &str, state: &Path) -> Result<Command> {
        let mut ours = command(self.program(name)?);
        ours.env("SI_STATE", state);
        ours.env("SI_CONFIG", self.run.make_dir("config")?);
        Ok(ours)
    }

    /// Where the Debian tree and the packages of its next version come from.
    pub(crate) fn debian(&self) -> &Debian {
        &self.debian
    }

    /// The Debian tree as debootstrap made it.
    pub(crate) fn debian_tree(&self) -> Result<&Path> {
        if let Some(tree) = self.plain.get() {
            return Ok(tree);
        }
        let tree = self.path("debian");
        self.debian.unpack(&tree)?;
        Ok(self.plain.get_or_init(|| tree))
    }

    /// The golden client's trees before and after its change: the Debian tree with the laboratory's own files.
    pub(crate) fn versions(&self) -> Result<&[PathBuf; 2]> {
        if let Some(trees) = self.changing.get() {
            return Ok(trees);
        }
        let (old, new) = (self.path("golden.1"), self.path("golden.2"));
        self.debian.unpack(&old)?;
        small::make(&old.join(FILES), BIG_BYTES)?;
        mirror(&old, &new, &[])?;
        change::files(&new.join(FILES))?;
        let packages = change::packages(&new, &self.debian)?;
        eprintln!(
            "    the change: {} packages upgraded, {} added, {} removed, files of /{FILES} edited",
            packages.upgraded.len(),
            packages.added.len(),
            packages.removed.len()
        );
        Ok(self.changing.get_or_init(|| [old, new]))
    }

    /// A store whose image `name` has the given trees as its versions 1, 2, …
    pub(crate) fn store(&self, dir: &str, name: &str, trees: &[&Path]) -> Result<PathBuf> {
        let state = self.fresh_dir(dir)?;
        for tree in trees {
            let mut import = self.ours("si-import", &state)?;
            import.arg(name).arg("--tree").arg(tree);
            measure::run("si-import", &mut import, &self.logs()?)?;
        }
        Ok(state)
    }
}

/// GNU tar with everything that it can keep of a tree.
pub(crate) fn tar() -> Command {
    let mut tar = command("tar");
    tar.args([
        "--format=posix",
        "--numeric-owner",
        "--sparse",
        "--acls",
        "--xattrs",
        "--xattrs-include=*",
    ]);
    tar
}

/// Makes `to` what `from` is, in everything that rsync knows, except for what matches one of rsync's patterns; writes
/// only what differs.
pub(crate) fn mirror(from: &Path, to: &Path, except: &[&str]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("create {}", to.display()))?;
    let mut rsync = command("rsync");
    rsync.args(["-aHAXS", "--delete", "--modify-window=-1"]);
    rsync.args(except.iter().map(|pattern| format!("--exclude={pattern}")));
    run(rsync.arg(from.join("")).arg(to.join("")))
        .with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Fails when rsync, comparing contents, finds any difference between the trees but for what matches a pattern.
pub(crate) fn require_identical(original: &Path, copy: &Path, except: &[&str]) -> Result<()> {
    let found = differences(original, copy, except)?;
    if !found.is_empty() {
        bail!(
            "{} differs from {} in {} places:\n{}",
            copy.display(),
            original.display(),
            found.len(),
            found[..found.len().min(10)].join("\n")
        );
    }
    Ok(())
}

/// Reads a file, or every file below a directory, so that the page cache holds it. In small pieces: the kernel counts
/// the memory of this process at the start of a child as the child's.
pub(crate) fn warm(path: &Path) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut read = |path: &Path| -> Result<()> {
        let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        while file
            .read(&mut buffer)
            .with_context(|| format!("read {}", path.display()))?
            > 0
        {}
        Ok(())
    };
    if !path.is_dir() {
        return read(path);
    }
    visit(path, &mut |path, metadata| {
        if metadata.is_file() { read(path) } else { Ok(()) }
    })
}

/// Apparent bytes of all files below `path`, or of the file itself.
pub(crate) fn size(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path).with_context(|| format!("look at {}", path.display()))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    let mut sum = 0;
    visit(path, &mut |_, metadata| {
        sum += if metadata.is_file() { metadata.len() } else { 0 };
        Ok(())
    })?;
    Ok(sum)
}

/// Removes a tree or a file; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let removed = if metadata.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.with_context(|| format!("remove {}", path.display()))
}

fn visit(dir: &Path, each: &mut dyn FnMut(&Path, &fs::Metadata) -> Result<()>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        each(&path, &metadata)?;
        if metadata.is_dir() {
            visit(&path, each)?;
        }
    }
    Ok(())
}
