//! Ends a program at a chosen change of the file system: the one that ships, traced from outside (ptrace(2)), not one that
//! was built to fail.
//!
//! All threads and children of the program are followed. System calls that change files are counted, whoever makes them;
//! when the chosen one is about to be made, everything is killed with SIGKILL, so that it is not made any more.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::command::{command, tail};

/// How long a traced program may take.
const LIMIT: Duration = Duration::from_secs(120);

/// How a traced program ended.
#[derive(Debug)]
pub struct Traced {
    /// Its exit code; `None` when it was killed.
    pub code: Option<i32>,
    /// Changes that it made or was about to make.
    pub changes: u64,
    /// What it said on stderr.
    pub stderr: String,
}

/// Runs `command` and kills it when it is about to make its change number `at`, from 1, of what lies below `below`.
/// Without `at` it runs to its end.
///
/// # Errors
/// When it cannot be traced, or does not end in time.
pub fn at_change(original: &Command, below: &Path, at: Option<u64>, log: &Path) -> Result<Traced> {
    // The shell stops itself, so that it is traced before it becomes the program.
    let mut stopped = command("sh");
    stopped.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]);
    stopped.arg(original.get_program()).args(original.get_args());
    for (name, value) in original.get_envs() {
        match value {
            Some(value) => stopped.env(name, value),
            None => stopped.env_remove(name),
        };
    }
    let file = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
    let child = stopped
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file)
        .spawn()
        .context("start the program that is traced")?;
    let pid = Pid::from_raw(i32::try_from(child.id()).context("use the number of a process")?);
    let mut tracer = Tracer {
        pid,
        below,
        at,
        changes: 0,
        inside: BTreeSet::new(),
    };
    let ran = tracer.run();
    if ran.is_err() {
        // The first error is the one that counts.
        kill(pid, Signal::SIGKILL).unwrap_or_default();
    }
    let code = ran?;
    let said = fs::read_to_string(log).unwrap_or_default();
    Ok(Traced {
        code,
        changes: tracer.changes,
        stderr: tail(&said, 20),
    })
}

struct Tracer<'a> {
    pid: Pid,
    below: &'a Path,
    at: Option<u64>,
    changes: u64,
    /// Threads that are inside a system call.
    inside: BTreeSet<Pid>,
}

impl Tracer<'_> {
    fn run(&mut self) -> Result<Option<i32>> {
        self.seize()?;
        let end = Instant::now() + LIMIT;
        loop {
            if Instant::now() > end {
                bail!("the traced program does not end");
            }
            // Only what this thread traces, not what other tests of the same process started.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            match waitpid(None, Some(flags)).context("wait for the traced program")? {
                WaitStatus::Exited(pid, code) if pid == self.pid => return Ok(Some(code)),
                WaitStatus::Signaled(pid, ..) if pid == self.pid => return Ok(None),
                WaitStatus::PtraceSyscall(pid) => {
                    if self.inside.remove(&pid) {
                        go_on(pid, None);
                    } else {
                        self.inside.insert(pid);
                        self.enters(pid)?;
                    }
                }
                WaitStatus::PtraceEvent(pid, ..) => go_on(pid, None),
                WaitStatus::Stopped(pid, Signal::SIGSTOP | Signal::SIGTRAP) => go_on(pid, None),
                WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal)),
                _ => {}
            }
        }
    }

    fn seize(&self) -> Result<()> {
        let end = Instant::now() + LIMIT;
        let state = format!("/proc/{}/stat", self.pid);
        while !fs::read_to_string(&state)
            .context("look at the program")?
            .contains(") T ")
        {
            if Instant::now() > end {
                bail!("the program does not stop to be traced");
            }
            std::thread::yield_now();
        }
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(self.pid, options).context("trace the program")?;
        kill(self.pid, Signal::SIGCONT).context("let the program go on")
    }

    /// A thread is about to make a system call.
    fn enters(&mut self, pid: Pid) -> Result<()> {
        // It may have been killed meanwhile.
        let Ok(registers) = ptrace::getregs(pid) else {
            return Ok(());
        };
        if self.changes_files(pid, &registers) {
            self.changes += 1;
            if self.at == Some(self.changes) {
                kill(self.pid, Signal::SIGKILL).context("kill the program")?;
                return Ok(());
            }
        }
        go_on(pid, None);
        Ok(())
    }

    /// Whether a call may change what is on a file system. Writing counts only below the directory: stderr is a file too.
    fn changes_files(&self, pid: Pid, registers: &nix::libc::user_regs_struct) -> bool {
        use nix::libc;
        let number = i64::try_from(registers.orig_rax).unwrap_or(-1);
        let on_our_file = || {
            let link = fs::read_link(format!("/proc/{pid}/fd/{}", registers.rdi));
            link.is_ok_and(|file| {
                let bytes = file.as_os_str().as_bytes();
                bytes.starts_with(self.below.as_os_str().as_bytes())
            })
        };
        let creates = |flags: u64| flags & (libc::O_CREAT | libc::O_TRUNC).cast_unsigned() as u64 != 0;
        match number {
            libc::SYS_open => creates(registers.rsi),
            libc::SYS_openat => creates(registers.rdx),
            libc::SYS_write
            | libc::SYS_writev
            | libc::SYS_pwrite64
            | libc::SYS_pwritev
            | libc::SYS_ftruncate
            | libc::SYS_fallocate => on_our_file(),
            libc::SYS_copy_file_range
            | libc::SYS_rename
            | libc::SYS_renameat
            | libc::SYS_renameat2
            | libc::SYS_link
            | libc::SYS_linkat
            | libc::SYS_symlink
            | libc::SYS_symlinkat
            | libc::SYS_unlink
            | libc::SYS_unlinkat
            | libc::SYS_rmdir
            | libc::SYS_mkdir
            | libc::SYS_mkdirat
            | libc::SYS_mknod
            | libc::SYS_mknodat
            | libc::SYS_truncate
            | libc::SYS_chmod
            | libc::SYS_fchmod
            | libc::SYS_fchmodat
            | libc::SYS_chown
            | libc::SYS_fchown
            | libc::SYS_lchown
            | libc::SYS_fchownat
            | libc::SYS_utimensat
            | libc::SYS_setxattr
            | libc::SYS_lsetxattr
            | libc::SYS_fsetxattr
            | libc::SYS_removexattr
            | libc::SYS_lremovexattr
            | libc::SYS_fremovexattr => true,
            _ => false,
        }
    }
}

/// Lets a thread run to its next system call. That it is gone already is no error: it was killed.
fn go_on(pid: Pid, signal: Option<Signal>) {
    ptrace::syscall(pid, signal).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;

    #[test]
    fn a_program_is_killed_before_the_chosen_change_and_no_other() {
        let run = Run::start("kill").unwrap();
        let (dir, log) = (run.dir().to_owned(), run.dir().join("log"));
        let mut script = command("sh");
        script
            .args(["-c", "cd \"$0\" && mkdir a && (mkdir b) && mkdir c; exit 3"])
            .arg(&dir);
        let clean = || {
            for name in ["a", "b", "c"] {
                drop(fs::remove_dir(dir.join(name)));
            }
        };
        let whole = at_change(&script, &dir, None, &log).unwrap();
        assert_eq!((whole.code, whole.changes), (Some(3), 3), "{}", whole.stderr);
        for at in 1..=3 {
            clean();
            let killed = at_change(&script, &dir, Some(at), &log).unwrap();
            assert_eq!((killed.code, killed.changes), (None, at));
            let made = ["a", "b", "c"].map(|name| u64::from(dir.join(name).exists()));
            assert_eq!(made.iter().sum::<u64>(), at - 1);
        }
    }
}
