//! External programs: all of them in one enum, all run in one way.
//!
//! A program gets its arguments as a list, never through a shell; the C locale, so that its output can be read; its
//! own process group, so that a time-out ends it with all that it started; and bounded room for its output.

mod drive;
mod error;
#[cfg(test)]
mod tests;
mod tool;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

pub use error::{CommandError, Tails};
pub use tool::Tool;

use drive::{Collected, Ending, Talk, drive};
use error::{TAIL_BYTES, printable};

/// How long a program may take when nothing else is said: longer than any query of the machine needs.
const USUAL_TIMEOUT: Duration = Duration::from_secs(60);

/// Bytes of output that a program may write when nothing else is said. `lsblk` of 1,000 disks writes 2 MB.
const USUAL_OUTPUT_BYTES: usize = 16 << 20;

/// Where system programs are, beside what `PATH` says: it may come from a login that is not root's.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program with its arguments, about to be run.
#[derive(Debug)]
pub struct Run {
    tool: Tool,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    timeout: Duration,
    output_bytes: usize,
    accepted: Vec<i32>,
}

/// What a program that did what it should has written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Its data.
    pub stdout: Vec<u8>,
    /// Its talk.
    pub stderr: Vec<u8>,
    /// Its exit code: 0, or one that [`Run::accept`] allows.
    pub code: i32,
}

/// A program that runs while we talk to it.
#[derive(Debug)]
pub struct Running {
    line: String,
    child: Child,
    talk: Option<Talk>,
    timeout: Duration,
    output_bytes: usize,
    accepted: Vec<i32>,
}

impl Run {
    /// The program without arguments and input, with a minute's time and 16 MiB of output.
    pub fn new(tool: Tool) -> Self {
        Self {
            tool,
            args: Vec::new(),
            env: Vec::new(),
            input: Vec::new(),
            timeout: USUAL_TIMEOUT,
            output_bytes: USUAL_OUTPUT_BYTES,
            accepted: vec![0],
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of its environment, which is otherwise ours with the C locale.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// What it reads; nothing otherwise.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How much it may write, to each output.
    #[must_use]
    pub fn output_bytes(mut self, bytes: usize) -> Self {
        self.output_bytes = bytes;
        self
    }

    /// Takes this exit code for success as well: 2 of `blkid` means that there is nothing to say.
    #[must_use]
    pub fn accept(mut self, code: i32) -> Self {
        self.accepted.push(code);
        self
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// Any [`CommandError`]. A program that did not end by itself has been ended, with all of its process group.
    pub fn run(mut self) -> Result<Output, CommandError> {
        let input = std::mem::take(&mut self.input);
        self.spawn()?.collect(&input)
    }

    /// Starts it and leaves its input and output to the caller: [`Running::take_pipes`]. What [`Run::input`] gave is
    /// not written.
    ///
    /// # Errors
    /// [`CommandError::Missing`] and [`CommandError::Start`].
    pub fn spawn(self) -> Result<Running, CommandError> {
        let line = self.to_string();
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the one place where programs are started"
        )]
        let mut command = Command::new(self.tool.program());
        command
            .args(&self.args)
            .env("PATH", search_path())
            .env("LC_ALL", "C")
            .envs(self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = command.spawn().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => CommandError::Missing {
                line: line.clone(),
                package: self.tool.package(),
            },
            _ => CommandError::Start {
                line: line.clone(),
                source,
            },
        })?;
        Ok(Running {
            line,
            child,
            talk: None,
            timeout: self.timeout,
            output_bytes: self.output_bytes,
            accepted: self.accepted,
        })
    }
}

impl Running {
    /// Its input and output, once. What it says beside (stderr) is read meanwhile, and its end kept for the error.
    ///
    /// Dropping the input tells the program that nothing follows.
    pub fn take_pipes(&mut self) -> Option<(ChildStdin, ChildStdout)> {
        self.talk = self
            .child
            .stderr
            .take()
            .map(|from| Talk::listen(from, TAIL_BYTES))
            .or(self.talk.take());
        self.child.stdin.take().zip(self.child.stdout.take())
    }

    /// Waits for its end, with the time-out running from now.
    ///
    /// # Errors
    /// As [`Run::run`].
    pub fn finish(self) -> Result<Output, CommandError> {
        self.collect(&[])
    }

    fn collect(mut self, input: &[u8]) -> Result<Output, CommandError> {
        let deadline = Instant::now() + self.timeout;
        let driven = drive(&mut self.child, input, self.output_bytes, deadline);
        let Collected {
            stdout,
            mut stderr,
            ending,
        } = match driven {
            Ok(collected) => collected,
            Err(source) => {
                return Err(CommandError::Talk {
                    line: std::mem::take(&mut self.line),
                    source,
                });
            }
        };
        if let Some(talk) = self.talk.take() {
            stderr = talk.into_end();
        }
        let line = std::mem::take(&mut self.line);
        let tails = || Tails::of(&stdout, &stderr);
        match ending {
            Ending::Exited(status) => match status.code() {
                Some(code) if self.accepted.contains(&code) => Ok(Output { stdout, stderr, code }),
                _ => Err(CommandError::Failed {
                    line,
                    status,
                    tails: tails(),
                }),
            },
            Ending::TimedOut => Err(CommandError::TimedOut {
                line,
                after: self.timeout,
                tails: tails(),
            }),
            Ending::TooMuchOutput => Err(CommandError::TooMuchOutput {
                line,
                bytes: self.output_bytes,
            }),
        }
    }
}

impl Drop for Running {
    /// A program that nobody waited for is ended, so that none outlives an error of ours.
    fn drop(&mut self) {
        drive::end_group(&mut self.child);
    }
}

fn search_path() -> OsString {
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if !path.is_empty() {
        path.push(":");
    }
    path.push(SYSTEM_PATH);
    path
}

impl fmt::Display for Run {
    /// The command line as one could type it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&quoted(self.tool.program()))?;
        self.args.iter().try_for_each(|arg| write!(f, " {}", quoted(arg)))
    }
}

fn quoted(word: &OsStr) -> String {
    let text = printable(word.as_encoded_bytes());
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}
