//! One run of the laboratory: its directory, its namespaces' names, and the promise that both disappear.
//!
//! The clean-up does not live in this process. A *remover*, started with the run, waits on a pipe whose other end only
//! this process holds; when the pipe closes it kills what still runs in the run's namespaces, deletes them and removes
//! the directory. So the end of a scope, a panic, Ctrl-C, a test runner's time-out and SIGKILL are all the same case.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::command::{command, read, run};
use crate::wait;

/// First word of the name of every namespace and directory of ours.
const MARK: &str = "si-lab";

/// How long an orderly clean-up may take: a few GB of files to unlink on a slow disk.
const REMOVAL_LIMIT: Duration = Duration::from_secs(120);

/// Reads until its stdin closes, then removes the namespaces that begin with `$1.` and the directory `$2` (none when
/// empty). Killing is repeated until nobody is left, as a process may be starting another one meanwhile.
const REMOVER: &str = r#"
cat >/dev/null
for ns in $(ip netns list 2>/dev/null | cut -d' ' -f1); do
    case $ns in
    "$1".*)
        for attempt in 1 2 3 4 5 6 7 8 9 10; do
            pids=$(ip netns pids "$ns")
            [ -n "$pids" ] || break
            kill -KILL $pids
            sleep 0.1
        done
        ip netns del "$ns" ;;
    esac
done
[ -z "$2" ] || rm -rf --one-file-system "$2"
"#;

/// A run. Dropped (or when its process is gone) everything of it is removed.
#[derive(Debug)]
pub struct Run {
    id: String,
    dir: PathBuf,
    remover: Child,
}

impl Run {
    /// Starts a run; `label` makes its directory recognisable. With `SI_LAB_KEEP` set the directory stays.
    ///
    /// # Errors
    /// When the directory or the remover cannot be made.
    pub fn start(label: &str) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let started = start_time(pid).context("read the start time of this process")?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{MARK}.{pid}.{started}.{count}");
        let dir = runs_dir()?.join(format!("{id}.{label}"));
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        let removed = if std::env::var_os("SI_LAB_KEEP").is_some() {
            Path::new("")
        } else {
            &dir
        };
        let remover = remover(&id, removed)?;
        Ok(Self { id, dir, remover })
    }

    /// The run's directory: logs, keys, trees, stores.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A directory of the run, made when it is not there.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
        Ok(dir)
    }

    /// The name in `ip netns` of this run's namespace `machine`.
    pub fn namespace(&self, machine: &str) -> String {
        format!("{}.{machine}", self.id)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        drop(self.remover.stdin.take());
        let ended = wait::until("the clean-up of a run", REMOVAL_LIMIT, || {
            self.remover.try_wait().context("look at the remover")
        });
        if let Err(error) = ended {
            eprintln!(
                "warning: {}: {error:#}; `scripts/lab clean` removes the rest",
                self.id
            );
        }
    }
}

/// Where caches and runs of the laboratory live: `SI_LAB_DIR`, or `lab` in cargo's target directory.
///
/// # Errors
/// When it cannot be made or has no absolute path.
pub fn lab_dir() -> Result<PathBuf> {
    let target =
        || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    let dir = std::env::var_os("SI_LAB_DIR").map_or_else(|| target().join("lab"), PathBuf::from);
    fs::create_dir_all(&dir)
        .with_context(|| format!("create the laboratory's directory {}", dir.display()))?;
    dir.canonicalize()
        .with_context(|| format!("resolve {}", dir.display()))
}

/// The root of the source tree that this was built from.
pub fn workspace() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Removes what runs have left whose process is gone (a remover that was itself killed, a restart of the machine's
/// own remover), and returns their names.
///
/// # Errors
/// When the leftovers cannot be listed, or one cannot be removed.
pub fn clean() -> Result<Vec<String>> {
    let listed = read(command("ip").args(["netns", "list"]))?;
    let mut names: BTreeSet<String> = listed
        .lines()
        .filter_map(|l| l.split(' ').next())
        .map(str::to_owned)
        .collect();
    let runs = runs_dir()?;
    let mut dirs = Vec::new();
    for entry in fs::read_dir(&runs).with_context(|| format!("list {}", runs.display()))? {
        let name = entry
            .with_context(|| format!("list {}", runs.display()))?
            .file_name();
        dirs.extend(name.into_string());
    }
    names.extend(dirs.iter().cloned());
    let stale: BTreeSet<String> = names.iter().filter_map(|n| stale_run(n)).collect();
    for id in &stale {
        let dir = dirs.iter().find(|d| {
            d.strip_prefix(id.as_str())
                .is_some_and(|rest| rest.starts_with('.'))
        });
        let dir = dir.map_or_else(PathBuf::new, |d| runs.join(d));
        run(command("sh").args(["-c", REMOVER, MARK, id]).arg(&dir))?;
    }
    Ok(stale.into_iter().collect())
}

fn runs_dir() -> Result<PathBuf> {
    let dir = lab_dir()?.join("runs");
    fs::create_dir_all(&dir).with_context(|| format!("create {}", dir.display()))?;
    Ok(dir)
}

fn remover(id: &str, dir: &Path) -> Result<Child> {
    command("sh")
        .args(["-c", REMOVER, MARK, id])
        .arg(dir)
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("start the remover of a run")
}

/// The run's id within the name of one of our namespaces or directories, when the run's process is gone.
fn stale_run(name: &str) -> Option<String> {
    let mut words = name.split('.');
    let (mark, pid, started, count) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (pid, started) = (pid.parse::<u32>().ok()?, started.parse::<u64>().ok()?);
    let alive = start_time(pid) == Some(started);
    (mark == MARK && !alive).then(|| format!("{MARK}.{pid}.{started}.{count}"))
}

/// When a process started, in clock ticks since the kernel did: with its id it names a process for good.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc(5): the second field is in parentheses and may hold anything; the start time is the 22nd.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_goes_with_the_run() {
        let run = Run::start("gone").unwrap();
        let dir = run.make_dir("a/b").unwrap();
        fs::write(dir.join("file"), "x").unwrap();
        let top = run.dir().to_owned();
        assert!(top.is_dir());
        drop(run);
        assert!(!top.exists());
    }

    #[test]
    fn only_dead_runs_of_ours_are_stale() {
        let pid = std::process::id();
        let started = start_time(pid).unwrap();
        assert_eq!(stale_run(&format!("{MARK}.{pid}.{started}.0.node01")), None);
        assert_eq!(
            stale_run(&format!("{MARK}.{pid}.{}.0.node01", started + 1)),
            Some(format!("{MARK}.{pid}.{}.0", started + 1))
        );
        for foreign in ["blue", "si-lab", "si-lab.x.y.z", "other.1.1.0.a", ""] {
            assert_eq!(stale_run(foreign), None, "{foreign}");
        }
    }
}
