//! Which services run what an update replaces: they go on with what they have loaded until they are restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Serialize;
use simulcast_image::update::{Action, Plan};

/// A service, session or program that runs replaced files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Service {
    /// Its systemd unit; without one, the program's name.
    pub(super) name: String,
    /// Its processes that do.
    pub(super) processes: u32,
}

/// Those of this machine. None for another tree than this machine's.
pub(super) fn services(plan: &Plan<'_>, root: &Path) -> Vec<Service> {
    if root != Path::new("/") {
        return Vec::new();
    }
    let manifest = plan.manifest();
    let written = plan
        .actions()
        .filter(|(_, action)| *action == Action::Write)
        .map(|(index, _)| manifest.path(index));
    let gone = plan.deleted().map(<[u8]>::to_vec);
    let replaced: BTreeSet<Vec<u8>> = written.chain(gone).collect();
    let mut found: BTreeMap<String, u32> = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes {
        let name = process.file_name();
        let is_process = name.to_string_lossy().bytes().all(|byte| byte.is_ascii_digit());
        // A process that ends meanwhile runs nothing any more.
        let Some(maps) = is_process
            .then(|| fs::read(process.path().join("maps")).ok())
            .flatten()
        else {
            continue;
        };
        if mapped(&maps).any(|path| replaced.contains(path)) {
            let read = |file: &str| fs::read_to_string(process.path().join(file)).unwrap_or_default();
            let unit = unit(&read("cgroup")).unwrap_or_else(|| read("comm").trim().to_owned());
            *found.entry(unit).or_default() += 1;
        }
    }
    let service = |(name, processes)| Service { name, processes };
    found.into_iter().map(service).collect()
}

/// The files that a process has mapped, from the text of /proc/PID/maps (proc_pid_maps(5)), without the first slash.
fn mapped(maps: &[u8]) -> impl Iterator<Item = &[u8]> {
    maps.split(|&byte| byte == b'\n').filter_map(|line| {
        let at = line.iter().position(|&byte| byte == b'/')?;
        let path = &line[at + 1..];
        Some(path.strip_suffix(b" (deleted)").unwrap_or(path))
    })
}

/// The systemd unit in the text of /proc/PID/cgroup (cgroups(7)).
fn unit(cgroup: &str) -> Option<String> {
    let paths = cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope");
    paths
        .filter_map(|path| path.rsplit('/').find(is_unit))
        .map(str::to_owned)
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_and_cgroups_are_read() {
        let maps = b"5581-5582 r--p 00000000 fe:00 1234    /usr/sbin/sshd\n7f00-7f01 r-xp 00000000 fe:00 77  \
            /usr/lib/libc.so.6 (deleted)\n7ffc-7ffd rw-p 00000000 00:00 0   [stack]\n7ffe-7fff r--p 00000000 00:00 0\n";
        let found: Vec<_> = mapped(maps).map(String::from_utf8_lossy).collect();
        assert_eq!(found, ["usr/sbin/sshd", "usr/lib/libc.so.6"]);
        assert_eq!(
            unit("0::/system.slice/ssh.service\n").as_deref(),
            Some("ssh.service")
        );
        let session = "1:name=systemd:/user.slice/user-0.slice/session-3.scope\n0::/\n";
        assert_eq!(unit(session).as_deref(), Some("session-3.scope"));
        assert_eq!(unit("0::/\n"), None);
    }
}
