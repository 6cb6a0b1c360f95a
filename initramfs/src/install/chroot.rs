//! Programs of the installed system, run in it before it starts.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simulcast_system::command::{Output, Run, Tool};
use simulcast_system::storage;

/// What is shown in the installed system while its programs run.
const SHOWN: [&str; 4] = ["proc", "sys", "dev", "run"];

/// The installed system with /proc, /sys, /dev and /run of the mini-kernel in it; they go when this is dropped.
#[derive(Debug)]
pub(super) struct Chroot {
    root: PathBuf,
    bound: Vec<PathBuf>,
}

impl Chroot {
    /// Shows the directories in the tree at `root`.
    pub(super) fn enter(root: &Path) -> Result<Self> {
        let mut chroot = Self {
            root: root.to_owned(),
            bound: Vec::new(),
        };
        for name in SHOWN {
            let point = super::facts::below(root, name)?;
            fs::create_dir_all(&point).with_context(|| format!("cannot make {}", point.display()))?;
            storage::bind(&Path::new("/").join(name), &point)?;
            chroot.bound.push(point);
        }
        Ok(chroot)
    }

    /// Whether the system has a program, in one of the usual places.
    pub(super) fn has(&self, program: &str) -> bool {
        [
            "usr/sbin",
            "usr/bin",
            "sbin",
            "bin",
            "usr/local/sbin",
            "usr/local/bin",
        ]
        .iter()
        .any(|dir| self.root.join(dir).join(program).is_file())
    }

    /// A program of the system, to be given arguments and run.
    pub(super) fn run(&self, program: &str) -> Run {
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let run = if Tool::Chroot.is_installed() {
            Run::new(Tool::Chroot)
        } else {
            Run::new(Tool::Busybox).arg("chroot")
        };
        run.env("PATH", path)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .arg(&self.root)
            .arg(program)
    }
}

impl Drop for Chroot {
    fn drop(&mut self) {
        for point in self.bound.iter().rev() {
            // Something of the system may still run there; it is taken away when that ends.
            if let Err(error) = storage::unmount(point, true) {
                tracing::warn!(%error, "it stays in the installed system until the machine restarts");
            }
        }
    }
}

/// What a program said, for the log.
pub(super) fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
