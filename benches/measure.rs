//! Processes under measurement: the time until the last of them ends, and what the kernel says they have used.
//!
//! CPU time and peak memory are those of wait4(2): a process and all of its children that it has waited for. So a
//! pipeline is the sum of its parts, and a daemon is complete when it was asked to end and did.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use simulcast_testkit::command;
use wait4::Wait4 as _;

/// How long a single measured program may take: many times what it does on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(1200);

/// What processes have used.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// From the start of the first to the end of the last.
    pub(crate) wall: Duration,
    /// User and system time of all.
    pub(crate) cpu: Duration,
    /// Resident memory of the largest, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Usage {
    /// Adds what processes used that ran at the same time: the time that passed stays.
    pub(crate) fn beside(self, other: Self) -> Self {
        Self {
            wall: self.wall,
            cpu: self.cpu + other.cpu,
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }
}

/// A started process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    started: Instant,
    out: Option<PathBuf>,
    err: PathBuf,
    ended: Option<(ExitStatus, Usage)>,
}

/// Starts `command`; what it writes to stderr goes to `logs/NAME.err`, and to stdout to `logs/NAME.out`.
pub(crate) fn start(name: &str, command: &mut Command, logs: &Path) -> Result<Running> {
    let out = logs.join(format!("{name}.out"));
    let file = File::create(&out).with_context(|| format!("create log {}", out.display()))?;
    command.stdin(Stdio::null()).stdout(file);
    let mut running = start_as_given(name, command, logs)?;
    running.out = Some(out);
    Ok(running)
}

/// Starts the commands as a pipeline, the last one's stdout going to `out`; returns them in order.
pub(crate) fn start_pipeline(
    commands: Vec<(String, Command)>,
    out: Option<&Path>,
    logs: &Path,
) -> Result<Vec<Running>> {
    let count = commands.len();
    let mut input = Stdio::null();
    let mut started = Vec::with_capacity(count);
    for (index, (name, mut command)) in commands.into_iter().enumerate() {
        command.stdin(input);
        match out {
            _ if index + 1 < count => command.stdout(Stdio::piped()),
            Some(path) => {
                command.stdout(File::create(path).with_context(|| format!("create {}", path.display()))?)
            }
            None => command.stdout(Stdio::null()),
        };
        let mut running = start_as_given(&name, &mut command, logs)?;
        input = running.child.stdout.take().map_or_else(Stdio::null, Stdio::from);
        started.push(running);
    }
    Ok(started)
}

fn start_as_given(name: &str, command: &mut Command, logs: &Path) -> Result<Running> {
    let err = logs.join(format!("{name}.err"));
    let file = File::create(&err).with_context(|| format!("create log {}", err.display()))?;
    let started = Instant::now();
    let child = command
        .stderr(file)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {name}: {}", command::line(command)))?;
    Ok(Running {
        name: name.to_owned(),
        child,
        started,
        out: None,
        err,
        ended: None,
    })
}

impl Running {
    /// What it has written to stdout so far, when that was not piped.
    pub(crate) fn stdout(&self) -> String {
        // A log that cannot be read is shown as empty: what needs it says what it missed.
        self.out
            .as_ref()
            .and_then(|p| fs::read_to_string(p).ok())
            .unwrap_or_default()
    }

    /// What it has written to stderr so far.
    pub(crate) fn stderr(&self) -> String {
        fs::read(&self.err)
            .map(|b| String::from_utf8_lossy(&b).into_owned())
            .unwrap_or_default()
    }

    /// Waits for its end at most until `limit` after its start.
    pub(crate) fn end(&mut self, limit: Duration) -> Result<(ExitStatus, Usage)> {
        if let Some(ended) = self.ended {
            return Ok(ended);
        }
        let pid = self.pid()?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).with_context(|| format!("watch {}", self.name))?;
        let left = (self.started + limit).saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).context("a time limit")?;
        let mut watched = [PollFd::new(&fd, PollFlags::IN)];
        let ready = poll(&mut watched, Some(&left)).with_context(|| format!("wait for {}", self.name))?;
        if ready == 0 {
            bail!(
                "{} still ran after {} s{}",
                self.name,
                limit.as_secs(),
                self.log_tail()
            );
        }
        let wall = self.started.elapsed();
        let used = self
            .child
            .wait4()
            .with_context(|| format!("wait for {}", self.name))?;
        let usage = Usage {
            wall,
            cpu: used.rusage.utime + used.rusage.stime,
            peak_bytes: used.rusage.maxrss,
        };
        Ok(*self.ended.insert((used.status, usage)))
    }

    /// Waits for its end, which must be a success.
    pub(crate) fn end_well(&mut self) -> Result<Usage> {
        let (status, usage) = self.end(LIMIT)?;
        if !status.success() {
            bail!("{} failed ({status}){}", self.name, self.log_tail());
        }
        Ok(usage)
    }

    /// Asks a daemon to end (SIGTERM) and waits for it. Its exit status is its own affair.
    pub(crate) fn stop(&mut self) -> Result<Usage> {
        self.ask_to_end()?;
        let limit = self.started.elapsed() + Duration::from_secs(30);
        Ok(self.end(limit)?.1)
    }

    /// Ends it by force, if it still runs; what it used is not known then.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_none() {
            // An error means that it is gone already, which is what was asked for.
            self.child.kill().ok();
            self.child.wait().ok();
        }
    }

    /// Asks a daemon to end (SIGTERM), if it has not.
    pub(crate) fn ask_to_end(&self) -> Result<()> {
        if self.ended.is_none() {
            kill_process(self.pid()?, Signal::TERM).with_context(|| format!("end {}", self.name))?;
        }
        Ok(())
    }

    /// Processor time of it and of its children that have ended, to a hundredth of a second.
    pub(crate) fn cpu_so_far(&self) -> Result<Duration> {
        let path = format!("/proc/{}/stat", self.child.id());
        let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        // Behind the name, which may have anything in it: the 12th to the 15th field (proc_pid_stat(5)).
        let fields = text.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields
            .skip(11)
            .take(4)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        let in_a_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Duration::from_millis(ticks * 1000 / in_a_second))
    }

    /// The end of what it said, for messages.
    pub(crate) fn log_tail(&self) -> String {
        let said = self.stderr() + &self.stdout();
        format!(
            "\n--- {}, last lines ---\n{}",
            self.name,
            command::tail(said.trim_end(), 25)
        )
    }

    fn pid(&self) -> Result<Pid> {
        let raw = i32::try_from(self.child.id()).context("a process id")?;
        Pid::from_raw(raw).context("a process id")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for all, which must succeed. The time is that from the start of the first to the end of the last.
pub(crate) fn end_all(processes: &mut [Running]) -> Result<Usage> {
    let first = processes.iter().map(|p| p.started).min();
    let mut all = Usage::default();
    // The kernel keeps what an ended process has used, so the order of looking does not matter; but the clock is
    // read at the end of each, and the last one's counts.
    for process in processes {
        let used = process.end_well()?;
        all = all.beside(used);
    }
    all.wall = first.map_or(Duration::ZERO, |f| f.elapsed());
    Ok(all)
}

/// How one of several processes ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    /// Its exit status.
    pub(crate) status: ExitStatus,
    /// What it used.
    pub(crate) usage: Usage,
    /// When its end was seen.
    pub(crate) at: Instant,
}

/// Waits for the end of each, whatever their status, and notes when it was. What still runs at `until` is killed, and
/// has no end.
pub(crate) fn end_each(processes: &mut [Running], until: Instant) -> Result<Vec<Option<Ended>>> {
    let watch = |process: &Running| -> Result<_> {
        pidfd_open(process.pid()?, PidfdFlags::empty()).with_context(|| format!("watch {}", process.name))
    };
    let watched: Vec<_> = processes.iter().map(watch).collect::<Result<_>>()?;
    let mut ends: Vec<Option<Ended>> = vec![None; processes.len()];
    while ends.iter().any(Option::is_none) {
        let open: Vec<usize> = (0..ends.len()).filter(|&at| ends[at].is_none()).collect();
        let mut fds: Vec<_> = open
            .iter()
            .map(|&at| PollFd::new(&watched[at], PollFlags::IN))
            .collect();
        let left =
            Timespec::try_from(until.saturating_duration_since(Instant::now())).context("a time limit")?;
        if poll(&mut fds, Some(&left)).context("wait for processes")? == 0 {
            break;
        }
        let at = Instant::now();
        for (&index, fd) in open.iter().zip(&fds) {
            if fd.revents().contains(PollFlags::IN) {
                let (status, usage) = processes[index].end(LIMIT)?;
                ends[index] = Some(Ended { status, usage, at });
            }
        }
    }
    for (process, _) in processes.iter_mut().zip(&ends).filter(|(_, end)| end.is_none()) {
        process.kill();
    }
    Ok(ends)
}

/// Runs one command to its successful end.
pub(crate) fn run(name: &str, command: &mut Command, logs: &Path) -> Result<Usage> {
    start(name, command, logs)?.end_well()
}

/// Waits until everything of the file system of `path` is on its disk.
pub(crate) fn sync(path: &Path) -> Result<()> {
    let dir = File::open(path).with_context(|| format!("open {}", path.display()))?;
    rustix::fs::syncfs(&dir).with_context(|| format!("sync {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulcast_testkit::command::command;
    use simulcast_testkit::run::Run;

    fn shell(script: &str) -> Command {
        let mut sh = command("sh");
        sh.args(["-c", script]);
        sh
    }

    #[test]
    fn usage_is_that_of_the_child_and_its_children() {
        let logs = Run::start("measure").unwrap();
        // Two busy loops in a grandchild; dd holds a buffer of 64 MiB.
        let busy = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; \
                    dd if=/dev/zero of=/dev/null bs=64M count=1";
        let used = run("busy", &mut shell(busy), logs.dir()).unwrap();
        assert!(used.cpu > Duration::from_millis(10), "{used:?}");
        assert!(
            used.peak_bytes > 60 << 20 && used.peak_bytes < 100 << 20,
            "{used:?}"
        );
        assert!(used.wall >= used.cpu / 2, "{used:?}");
    }

    #[test]
    fn a_pipeline_ends_with_its_last_part_and_fails_with_any() {
        let logs = Run::start("pipeline").unwrap();
        let out = logs.dir().join("result");
        let parts = |first: &str| {
            vec![
                ("first".to_owned(), shell(first)),
                ("last".to_owned(), shell("cat; sleep 0.2")),
            ]
        };
        let mut good = start_pipeline(parts("echo data"), Some(&out), logs.dir()).unwrap();
        let used = end_all(&mut good).unwrap();
        assert!(used.wall >= Duration::from_millis(200), "{used:?}");
        assert_eq!(fs::read_to_string(&out).unwrap(), "data\n");
        let mut bad = start_pipeline(parts("echo why >&2; exit 3"), None, logs.dir()).unwrap();
        let error = format!("{:#}", end_all(&mut bad).unwrap_err());
        assert!(
            error.starts_with("first failed (exit status: 3)") && error.contains("why"),
            "{error}"
        );
    }

    #[test]
    fn each_of_several_has_its_own_end() {
        let logs = Run::start("several").unwrap();
        let mut several: Vec<Running> = ["sleep 0.3; exit 3", "exit 0", "exec sleep 600"]
            .iter()
            .enumerate()
            .map(|(n, script)| start(&format!("p{n}"), &mut shell(script), logs.dir()).unwrap())
            .collect();
        let ends = end_each(&mut several, Instant::now() + Duration::from_secs(2)).unwrap();
        let (slow, quick) = (ends[0].unwrap(), ends[1].unwrap());
        assert!(slow.at > quick.at);
        assert_eq!((slow.status.code(), quick.status.code()), (Some(3), Some(0)));
        assert!(ends[2].is_none(), "it was killed");
    }

    #[test]
    fn a_daemon_is_asked_to_end() {
        let logs = Run::start("daemon").unwrap();
        let mut daemon = start("daemon", &mut shell("exec sleep 600"), logs.dir()).unwrap();
        let used = daemon.stop().unwrap();
        assert!(used.wall < Duration::from_secs(30));
        let late = start("late", &mut shell("exec sleep 600"), logs.dir())
            .unwrap()
            .end(Duration::from_millis(50));
        assert!(format!("{:#}", late.unwrap_err()).starts_with("late still ran after 0 s"));
    }
}
