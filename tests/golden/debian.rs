//! A golden client's tree as debootstrap makes it, kept as an archive so that the second run takes seconds.
//!
//! The Debian sources of this machine are used as they are configured, by its own `apt-get`: mirrors, proxies and
//! certificates never enter the tree. The packages of version 2 (what the updates and security suites have newer, and
//! some additional ones) are downloaded together with those of version 1, so that a run needs no network later.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{FlockOperation, flock};

use crate::command::{command, read, run};
use crate::run::lab_dir;

/// What the golden client has besides Debian's minimal base: over 15,000 files with systemd, sshd, compilers, an
/// interpreter, and file capabilities (ping).
pub const PACKAGES: &[&str] = &[
    "acl",
    "attr",
    "bc",
    "file",
    "g++",
    "gcc",
    "git",
    "iproute2",
    "iputils-ping",
    "less",
    "libcap2-bin",
    "openssh-client",
    "openssh-server",
    "perl",
    "python3",
    "rsync",
    "systemd",
    "systemd-sysv",
    "vim",
];

/// What version 2 has besides.
pub const ADDED: &[&str] = &["nano", "tree"];

/// What version 2 lacks.
pub const REMOVED: &[&str] = &["bc", "vim", "vim-runtime"];

/// What a golden client is made of.
#[derive(Debug)]
pub struct Recipe {
    /// Changes when the way of making the tree does, so that old archives are not used.
    pub revision: u32,
    /// What it has besides Debian's minimal base.
    pub packages: &'static [&'static str],
    /// What version 2 has besides; then newer versions of all packages are downloaded too. Empty: there is no such version.
    pub added: &'static [&'static str],
    /// What its administrator does after the installation.
    pub finish: fn(&Path) -> Result<()>,
}

/// The golden client of the demonstration.
pub const WORKSTATION: Recipe = Recipe {
    revision: 1,
    packages: PACKAGES,
    added: ADDED,
    finish: |_| Ok(()),
};

/// A prepared Debian golden client.
#[derive(Debug)]
pub struct Debian {
    dir: PathBuf,
}

impl Debian {
    /// The golden client of the demonstration: about 250 MB of downloads.
    ///
    /// # Errors
    /// As [`Debian::of`].
    pub fn prepare() -> Result<Self> {
        Self::of(&WORKSTATION)
    }

    /// Makes the archive, or finds it. Runs of several processes wait for each other. The first takes some minutes.
    ///
    /// # Errors
    /// When this machine is no Debian, or `debootstrap` or `apt-get` fail.
    pub fn of(recipe: &Recipe) -> Result<Self> {
        let suite = suite()?;
        let Recipe {
            revision,
            packages,
            added,
            ..
        } = recipe;
        let key = blake3::hash(format!("{revision} {suite} {packages:?} {added:?}").as_bytes());
        let dir = lab_dir()?.join(format!("debian-{suite}-{}", &key.to_hex()[..12]));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let lock =
            File::create(dir.join("lock")).context("create the lock of the golden client's archive")?;
        flock(&lock, FlockOperation::LockExclusive)
            .context("wait for another process that makes the archive")?;
        let debian = Self { dir };
        if !debian.archive().is_file() {
            debian
                .make(&suite, recipe)
                .context("make the golden client's Debian tree")?;
        }
        Ok(debian)
    }

    /// Unpacks the tree to `tree`, which must not exist.
    ///
    /// # Errors
    /// When it exists, or `tar` fails.
    pub fn unpack(&self, tree: &Path) -> Result<()> {
        fs::create_dir(tree).with_context(|| format!("create {}", tree.display()))?;
        let mut tar = command("tar");
        tar.args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
            "-I",
            "zstd",
            "-xpf",
        ]);
        run(tar.arg(self.archive()).arg("-C").arg(tree)).context("unpack the golden client")?;
        Ok(())
    }

    /// A name that is another one whenever the tree may be.
    pub fn name(&self) -> String {
        self.dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    }

    /// The directory with the .deb files of version 2.
    pub fn packages(&self) -> PathBuf {
        self.dir.join("packages")
    }

    fn archive(&self) -> PathBuf {
        self.dir.join("tree.tar.zst")
    }

    fn make(&self, suite: &str, recipe: &Recipe) -> Result<()> {
        let work = self.dir.join("work");
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
        }
        let tree = work.join("tree");
        fs::create_dir_all(work.join("lists/partial")).context("create the directory of package lists")?;
        let apt = Apt {
            lists: work.join("lists"),
            tree: tree.clone(),
            packages: self.packages(),
        };
        run(apt.get().arg("update"))?;
        bootstrap(suite, &apt.mirror(suite)?, recipe.packages, &tree)?;
        fs::create_dir_all(self.packages().join("partial")).context("create the directory of packages")?;
        if !recipe.added.is_empty() {
            run(apt.get().args(["--download-only", "dist-upgrade"]))?;
            run(apt.get().args(["--download-only", "install"]).args(recipe.added))?;
        }
        (recipe.finish)(&tree).context("finish the golden client")?;
        let packed = work.join("tree.tar.zst");
        let mut tar = command("tar");
        tar.args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
            "-I",
            "zstd -3 -T0",
            "-cf",
        ]);
        run(tar.arg(&packed).arg("-C").arg(&tree).arg("."))?;
        // The archive comes last: where it is, everything is.
        fs::rename(&packed, self.archive()).context("put the golden client's archive in place")?;
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))
    }
}

/// `apt-get` of this machine, looking at the tree's package database and keeping its lists and packages apart.
struct Apt {
    lists: PathBuf,
    tree: PathBuf,
    packages: PathBuf,
}

impl Apt {
    fn options(&self) -> Vec<String> {
        let path = |name: &str, path: &Path| format!("{name}={}", path.display());
        let options = [
            path("Dir::State::lists", &self.lists),
            path("Dir::State::status", &self.tree.join("var/lib/dpkg/status")),
            path(
                "Dir::State::extended_states",
                &self.tree.join("var/lib/apt/extended_states"),
            ),
            path("Dir::Cache::archives", &self.packages),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            // Nothing of this machine is touched, and its own apt may run at the same time.
            "Debug::NoLocking=1".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
            "APT::Install-Recommends=0".to_owned(),
        ];
        options.into_iter().flat_map(|o| ["-o".to_owned(), o]).collect()
    }

    fn get(&self) -> std::process::Command {
        let mut apt = command("apt-get");
        apt.args(["-q", "-y"]).args(self.options());
        apt
    }

    /// Where this machine gets the suite from.
    fn mirror(&self, suite: &str) -> Result<String> {
        let format = [
            "indextargets",
            "--format",
            "$(CODENAME) $(COMPONENT) $(REPO_URI)",
            "Created-By: Packages",
        ];
        let targets = read(self.get().args(format))?;
        let found = find_mirror(&targets, suite);
        found.with_context(|| format!("this machine's apt sources have no suite {suite} with component main"))
    }
}

fn find_mirror(targets: &str, suite: &str) -> Option<String> {
    let prefix = format!("{suite} main ");
    targets
        .lines()
        .find_map(|l| l.strip_prefix(&prefix))
        .map(str::to_owned)
}

fn bootstrap(suite: &str, mirror: &str, packages: &[&str], tree: &Path) -> Result<()> {
    // debootstrap downloads by itself: it is told the proxy that apt uses.
    let with_proxy = r#"
        eval "$(apt-config shell http_proxy Acquire::http::Proxy https_proxy Acquire::https::Proxy)"
        [ -z "${http_proxy:-}" ] || export http_proxy
        [ -z "${https_proxy:-}" ] || export https_proxy
        exec debootstrap "$@""#;
    let mut unshare = command("unshare");
    // What debootstrap mounts goes away with it, also when it fails.
    unshare.args([
        "--mount",
        "--pid",
        "--fork",
        "--kill-child",
        "sh",
        "-c",
        with_proxy,
        "debootstrap",
    ]);
    unshare.args([
        "--variant=minbase",
        &format!("--include={}", packages.join(",")),
        suite,
    ]);
    run(unshare.arg(tree).arg(mirror))?;
    // An administrator's golden client does not keep the installed packages' archives either.
    let archives = tree.join("var/cache/apt/archives");
    for entry in fs::read_dir(&archives).with_context(|| format!("list {}", archives.display()))? {
        let path = entry
            .with_context(|| format!("list {}", archives.display()))?
            .path();
        if path.extension().is_some_and(|e| e == "deb") {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    Ok(())
}

/// This machine's own release: for it the sources are configured and the keys are there.
fn suite() -> Result<String> {
    let release = fs::read_to_string("/etc/os-release").context("read /etc/os-release")?;
    let field = |name: &str| {
        release
            .lines()
            .find_map(|l| l.strip_prefix(name))
            .map(|v| v.trim_matches('"').to_owned())
    };
    if field("ID=").as_deref() != Some("debian") {
        bail!("this machine is no Debian, whose sources the golden client is made from");
    }
    let suite = field("VERSION_CODENAME=").context("/etc/os-release has no VERSION_CODENAME")?;
    ensure!(
        suite.chars().all(|c| c.is_ascii_alphanumeric()),
        "{suite:?} is no name of a suite"
    );
    Ok(suite)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_that_of_the_plain_suite() {
        let targets = "bookworm-security main http://a/security/\nbookworm contrib http://a/x/\n\
                       bookworm main http://a/debian/\nbookworm main http://b/debian/\n";
        assert_eq!(
            find_mirror(targets, "bookworm").as_deref(),
            Some("http://a/debian/")
        );
        assert_eq!(find_mirror(targets, "trixie"), None);
    }
}
