//! What an administrator does to a golden client between two versions.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::debian::{ADDED, Debian, REMOVED};
use super::{noise, small};
use crate::command::{read, run};
use crate::machine::{Bind, command_in};

/// Bytes that a change puts in the middle of the large file, in place of as many others.
pub const PATCH_BYTES: usize = 1 << 20;

/// Lines that a change appends to the log.
const LOG_LINES: usize = 500;

/// What a change did to packages.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Packages {
    /// Packages with another version than before.
    pub upgraded: Vec<String>,
    /// Packages that were not there.
    pub added: Vec<String>,
    /// Packages that are gone.
    pub removed: Vec<String>,
}

/// Changes files of a small golden tree, or of its like below `/srv/golden` of a large one: edits two, deletes one,
/// makes one, renames a directory, appends to the log, changes a mode and an owner, and patches the large file in
/// the middle. Always the same.
///
/// # Errors
/// When the tree is not one that [`small::make`] made.
pub fn files(tree: &Path) -> Result<()> {
    let edited = tree.join(small::CONFIG);
    let text = fs::read_to_string(&edited).with_context(|| format!("read {}", edited.display()))?;
    fs::write(&edited, text.replace("port = 8007", "port = 9007")).context("edit a file")?;
    // The same length: only time and content tell.
    fs::write(tree.join("kinds/one-byte"), "2").context("edit a file")?;
    fs::remove_file(tree.join(small::DELETED)).context("delete a file")?;
    fs::write(tree.join("etc/service-100.conf"), "# service 100\n").context("make a file")?;
    fs::rename(tree.join("lib/09"), tree.join("lib/nine")).context("rename a directory")?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(tree.join("etc/service-001.conf"), mode).context("change a mode")?;
    std::os::unix::fs::chown(tree.join("etc/service-002.conf"), Some(1000), Some(1000))
        .context("change an owner")?;
    let mut log = OpenOptions::new()
        .append(true)
        .open(tree.join(small::LOG))
        .context("open the log")?;
    let line = "2026-02-01T00:00:00 service[1]: request answered in 11 ms\n";
    log.write_all(line.repeat(LOG_LINES).as_bytes())
        .context("append to the log")?;
    let big = OpenOptions::new()
        .write(true)
        .open(tree.join(small::BIG))
        .context("open the large file")?;
    let middle = big.metadata().context("look at the large file")?.len() / 2;
    big.write_all_at(&noise::bytes("patch", PATCH_BYTES), middle)
        .context("patch the large file")
}

/// Upgrades the golden client's packages to what the updates and security suites have, adds and removes some, with
/// its own `apt-get` in the tree; the packages are seen through a mount that vanishes with the call.
///
/// # Errors
/// When `apt-get` fails.
pub fn packages(tree: &Path, debian: &Debian) -> Result<Packages> {
    let before = installed(tree)?;
    let packages = debian.packages();
    let bind = Bind {
        from: &packages,
        to: Path::new("/mnt"),
    };
    let mut inside = command_in(tree, "golden", None, &[bind]);
    // The tree is thrown away after the run, so dpkg need not sync every file.
    let apt = "DEBIAN_FRONTEND=noninteractive apt-get -q -y -o APT::Sandbox::User=root \
               -o Dpkg::Options::=--force-unsafe-io -o Dpkg::Options::=--force-confold \
               install /mnt/*.deb \"$@\"";
    let removals = REMOVED.iter().map(|name| format!("{name}-"));
    run(inside.args(["sh", "-c", apt, "apt"]).args(removals))
        .context("change the golden client's packages")?;
    let changed = compare(&before, &installed(tree)?);
    anyhow::ensure!(
        ADDED.iter().all(|&name| changed.added.iter().any(|a| a == name)),
        "apt-get added {:?} instead of {ADDED:?}",
        changed.added
    );
    Ok(changed)
}

fn installed(tree: &Path) -> Result<BTreeMap<String, String>> {
    let database = tree.join("var/lib/dpkg");
    let mut query = crate::command::command("dpkg-query");
    query.arg("--admindir").arg(&database).args([
        "-W",
        "-f",
        "${db:Status-Abbrev}\t${Package}\t${Version}\n",
    ]);
    let listed = read(&mut query).context("list the golden client's packages")?;
    let rows = listed
        .lines()
        .filter_map(|l| l.strip_prefix("ii \t")?.split_once('\t'));
    Ok(rows
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect())
}

fn compare(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>) -> Packages {
    let mut changed = Packages::default();
    for (name, version) in after {
        match before.get(name) {
            None => changed.added.push(name.clone()),
            Some(old) if old != version => changed.upgraded.push(name.clone()),
            Some(_) => {}
        }
    }
    changed.removed = before
        .keys()
        .filter(|name| !after.contains_key(*name))
        .cloned()
        .collect();
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_lists_are_compared() {
        let list = |rows: &[(&str, &str)]| rows.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
        let before = list(&[("bc", "1"), ("git", "2"), ("perl", "5.1")]);
        let after = list(&[("git", "2"), ("nano", "7"), ("perl", "5.2")]);
        let expected = Packages {
            upgraded: vec!["perl".into()],
            added: vec!["nano".into()],
            removed: vec!["bc".into()],
        };
        assert_eq!(compare(&before, &after), expected);
    }
}
