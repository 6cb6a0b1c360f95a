//! A store of its own for each test, and the program run against it.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// A store, and a directory for what else a test needs.
pub(crate) struct Site {
    directory: TempDir,
}

/// What a run said and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::new().unwrap(),
        }
    }

    /// A site with the tree of [`small_tree`] as `golden@1`.
    pub(crate) fn with_golden() -> Self {
        let site = Self::new();
        small_tree(&site.path("tree"));
        assert_eq!(site.import("golden").stdout, "golden@1\n");
        site
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// Imports the tree `tree` of this site.
    pub(crate) fn import(&self, image: &str) -> Run {
        self.ok(&["import", image, "--tree", "{}/tree"])
    }

    /// The program with these arguments; `{}` in one stands for the site's directory.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(env!("CARGO_BIN_EXE_si"));
        let directory = self.directory.path().to_str().unwrap();
        command.args(arguments.iter().map(|argument| argument.replace("{}", directory)));
        self.surroundings(&mut command);
        command
    }

    pub(crate) fn surroundings(&self, command: &mut Command) {
        command
            .env_remove("SI_LOG")
            .env("SI_STATE", self.state())
            .env("SI_CONFIG", self.path("config"))
            .stdin(Stdio::null());
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(self.command(arguments))
    }

    /// Runs what has to succeed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert!(run.status.success(), "{arguments:?}: {run:#?}");
        run
    }

    /// Runs what has to end with `code`, with this error alone on stderr and nothing on stdout.
    pub(crate) fn fails(&self, arguments: &[&str], code: i32, error: &str) {
        let run = self.run(arguments);
        let wanted = error.replace("{}", self.directory.path().to_str().unwrap());
        assert_eq!(
            (run.stderr.trim_end(), run.code()),
            (&*wanted, Some(code)),
            "{arguments:?}: {run:#?}"
        );
        assert_eq!(run.stdout, "", "{arguments:?}");
    }

    /// What a command prints with `--json`, progress left out.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let run = self.ok(&[arguments, &["--json"]].concat());
        let lines: Vec<_> = run
            .stdout
            .lines()
            .filter(|line| !line.starts_with("{\"event\":\"progress\""))
            .collect();
        serde_json::from_str(&lines.join("\n")).unwrap()
    }

    /// The program with its stdin open, for a tar archive that comes slowly.
    pub(crate) fn with_stdin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.spawn().unwrap()
    }

    /// The files of all chunks.
    pub(crate) fn chunks(&self) -> Vec<PathBuf> {
        let mut chunks = Vec::new();
        for directory in fs::read_dir(self.state().join("chunks")).unwrap() {
            let directory = directory.unwrap().path();
            if directory.file_name().unwrap().len() == 2 {
                chunks.extend(fs::read_dir(directory).unwrap().map(|file| file.unwrap().path()));
            }
        }
        chunks.sort();
        chunks
    }
}

impl Run {
    pub(crate) fn of(mut command: Command) -> Self {
        Self::from(command.output().unwrap())
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }
}

impl From<std::process::Output> for Run {
    fn from(output: std::process::Output) -> Self {
        Self {
            status: output.status,
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "tests run the program itself, and others to compare with"
)]
pub(crate) fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

/// Files of several kinds; more than one chunk.
pub(crate) fn small_tree(tree: &Path) {
    let at = |name: &str| tree.join(name);
    fs::create_dir_all(at("etc/deep/er")).unwrap();
    fs::write(at("etc/passwd"), b"root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(at("etc/empty"), b"").unwrap();
    fs::hard_link(at("etc/passwd"), at("etc/deep/link")).unwrap();
    symlink("../etc/passwd", at("etc/deep/symlink")).unwrap();
    fs::write(at("etc/new\nline"), b"odd").unwrap();
    fs::write(at("big"), noise(9_000_000)).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(50 << 20).unwrap();
    sparse.write_all_at(b"data", 20 << 20).unwrap();
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(next).flatten().take(len).collect()
}

/// What rsync finds different between two trees.
pub(crate) fn differences(left: &Path, right: &Path) -> String {
    let mut rsync = program("rsync");
    rsync.args(["-aHAXSn", "--checksum", "--delete", "--itemize-changes"]);
    rsync.args([left.join(""), right.join("")]);
    let run = Run::of(rsync);
    assert!(run.status.success(), "{run:#?}");
    run.stdout
}

/// Whether we are root. A test that needs it says loudly that it did not run, and fails when `REQUIRE_TIERS` is set.
pub(crate) fn root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "{test} needs root, and REQUIRE_TIERS is set"
        );
        eprintln!("SKIPPED: {test} needs root");
    }
    root
}

/// A file system of a fixed size, unmounted in the end.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    pub(crate) fn new(at: PathBuf, bytes: u64) -> Self {
        fs::create_dir(&at).unwrap();
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", &at, "tmpfs", flags, Some(&*options)).unwrap();
        Self(at)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}
