//! Programs that run beside the test: logged to files, watched, and killed by their own process id.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::{command, wait};

/// Lines of each log that an error shows.
const TAIL_LINES: usize = 25;

/// A running program. Dropped, it is killed.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    out: PathBuf,
    err: PathBuf,
    status: Option<ExitStatus>,
    peak_bytes: u64,
}

/// Starts `command`, with stdout in `logs/NAME.out`, stderr in `logs/NAME.err` and an empty stdin. It gets a process
/// group of its own, so that Ctrl-C reaches the laboratory first, which then ends everything in its order.
///
/// # Errors
/// When the program cannot be started or the logs cannot be created.
pub fn spawn(name: &str, command: &mut Command, logs: &Path) -> Result<Process> {
    let (out, err) = (logs.join(format!("{name}.out")), logs.join(format!("{name}.err")));
    let create = |path: &Path| File::create(path).with_context(|| format!("create log {}", path.display()));
    let child = command
        .stdin(Stdio::null())
        .stdout(create(&out)?)
        .stderr(create(&err)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {name}: {}", command::line(command)))?;
    Ok(Process {
        name: name.to_owned(),
        child,
        out,
        err,
        status: None,
        peak_bytes: 0,
    })
}

impl Process {
    /// The name that it was started under, which is also that of its logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has written to stdout so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.out)
    }

    /// What it has written to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.err)
    }

    /// The largest resident memory seen so far, in bytes; looked at whenever the process is waited for.
    pub fn peak_memory(&self) -> u64 {
        self.peak_bytes
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// When the kernel does not know the process.
    pub fn poll(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            // A process that ended a moment ago has no memory left to look at: the last look counts.
            self.peak_bytes = self.peak_bytes.max(resident_peak(self.child.id()));
            self.status = self
                .child
                .try_wait()
                .with_context(|| format!("look at {}", self.name))?;
        }
        Ok(self.status)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it still runs after `limit`; it is then killed and the ends of its logs are shown.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {}", self.name);
        match wait::until(&what, limit, || self.poll()) {
            Ok(status) => Ok(status),
            Err(error) => {
                self.kill();
                Err(anyhow!("{error:#}{}", self.log_tail()))
            }
        }
    }

    /// Waits for its end, which must be exit status 0.
    ///
    /// # Errors
    /// As [`Process::wait`], and when the status is another one, with the ends of its logs.
    pub fn wait_success(&mut self, limit: Duration) -> Result<()> {
        let status = self.wait(limit)?;
        if !status.success() {
            bail!("{} failed ({status}){}", self.name, self.log_tail());
        }
        Ok(())
    }

    /// Waits until `condition`, which is given this process, has a value.
    ///
    /// # Errors
    /// When the process ends before that, when the time is over, or the condition's own error; each with the logs' ends.
    pub fn wait_until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> Result<Option<T>>,
    ) -> Result<T> {
        let waited = wait::until(what, limit, || {
            // The look at the process comes first: what it wrote before its end must still be seen.
            let ended = self.poll()?;
            let value = condition(self)?;
            match (value, ended) {
                (Some(value), _) => Ok(Some(value)),
                (None, Some(status)) => bail!("{} ended ({status}) before {what}", self.name),
                (None, None) => Ok(None),
            }
        });
        waited.map_err(|error| anyhow!("{error:#}{}", self.log_tail()))
    }

    /// Sends `signal` to the process, if it still runs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.poll()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .context("a process id")?;
        kill_process(pid, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Asks it to end (SIGTERM), waits at most `limit`, then kills it.
    ///
    /// # Errors
    /// When it had to be killed, with the ends of its logs.
    pub fn stop(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Kills it (SIGKILL) and waits for it. Does nothing when it has ended.
    pub fn kill(&mut self) {
        if self.status.is_none() {
            // An error means that it is gone already, which is what was asked for.
            self.child.kill().ok();
            self.status = self.child.wait().ok();
        }
    }

    /// The ends of both logs, for messages; empty when it said nothing.
    pub fn log_tail(&self) -> String {
        let mut shown = String::new();
        for (kind, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
            if !text.trim().is_empty() {
                let end = command::tail(text.trim_end(), TAIL_LINES);
                shown.push_str(&format!("\n--- {} {kind}, last lines ---\n{end}", self.name));
            }
        }
        shown
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_lossy(path: &Path) -> String {
    // A log that cannot be read is shown as empty: it only serves messages and conditions.
    fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// VmHWM of a process in bytes, 0 when it has none (a zombie) or is gone.
fn resident_peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    parse_resident_peak(&status)
}

fn parse_resident_peak(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|l| l.trim().strip_suffix(" kB"))
        .and_then(|n| n.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;

    fn shell(run: &Run, script: &str) -> Process {
        spawn("shell", command::command("sh").args(["-c", script]), run.dir()).unwrap()
    }

    #[test]
    fn a_time_out_kills_and_shows_the_log() {
        let run = Run::start("process-timeout").unwrap();
        let mut process = shell(&run, "echo working; exec sleep 600");
        let pid = process.id();
        let error = process.wait(Duration::from_millis(300)).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("shell stdout, last lines ---\nworking"), "{text}");
        assert!(text.contains("in vain for the end of shell"), "{text}");
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn an_early_end_is_not_waited_for() {
        let run = Run::start("process-early").unwrap();
        let mut process = shell(&run, "echo gave up >&2; exit 3");
        let limit = Duration::from_secs(60);
        let error = process
            .wait_until("a port", limit, |_| Ok(None::<()>))
            .unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("ended (exit status: 3) before a port") && text.contains("gave up"),
            "{text}"
        );
    }

    #[test]
    fn memory_is_seen_and_parsed() {
        let run = Run::start("process-memory").unwrap();
        let mut process = shell(&run, "exec sleep 600");
        process
            .wait_until("memory", Duration::from_secs(5), |p| {
                Ok((p.peak_memory() > 0).then_some(()))
            })
            .unwrap();
        assert_eq!(parse_resident_peak("Name:\tx\nVmHWM:\t    1820 kB\n"), 1820 << 10);
        assert_eq!(parse_resident_peak("Name:\tx\n"), 0);
    }
}
