//! What the tests of this module share.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// A temporary directory with a descriptor on it.
pub(crate) struct Scratch {
    dir: tempfile::TempDir,
    fd: OwnedFd,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fd = super::open_root(dir.path()).unwrap();
        Self { dir, fd }
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }
}

impl AsFd for Scratch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Whether this process may do what a test needs root for. If not, says so loudly; fails when `REQUIRE_TIERS` is set.
pub(crate) fn privileged(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(
        std::env::var_os("REQUIRE_TIERS").is_none(),
        "{test} needs root, and REQUIRE_TIERS is set"
    );
    eprintln!("SKIPPED: {test} needs root");
    false
}
