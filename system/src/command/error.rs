//! Why a program did not do what it should, with its last words.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Lines and bytes of each output that an error repeats.
const TAIL_LINES: usize = 10;
pub(super) const TAIL_BYTES: usize = 2000;

/// Why a program did not do what it should. Each names the command line.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It is not installed.
    #[error("{line}: the program is not installed{}", hint(*.package))]
    Missing {
        /// The command line.
        line: String,
        /// What to install, where that is known.
        package: Option<&'static str>,
    },
    /// It could not be started.
    #[error("cannot start {line}")]
    Start {
        /// The command line.
        line: String,
        /// Why.
        source: io::Error,
    },
    /// It ended with an error.
    #[error("{line}: {status}{tails}")]
    Failed {
        /// The command line.
        line: String,
        /// Its exit code or signal.
        status: ExitStatus,
        /// What it said last.
        tails: Tails,
    },
    /// It did not end in time, and was ended.
    #[error("{line}: not done after {} s, and ended{tails}", .after.as_secs_f32())]
    TimedOut {
        /// The command line.
        line: String,
        /// How long it had.
        after: Duration,
        /// What it said last.
        tails: Tails,
    },
    /// It wrote more than expected, and was ended.
    #[error("{line}: more than {bytes} bytes of output, and ended")]
    TooMuchOutput {
        /// The command line.
        line: String,
        /// How much it may write.
        bytes: usize,
    },
    /// Its input and output could not be moved.
    #[error("cannot talk to {line}")]
    Talk {
        /// The command line.
        line: String,
        /// Why.
        source: io::Error,
    },
}

fn hint(package: Option<&'static str>) -> String {
    package
        .map(|package| format!("; install the package {package}"))
        .unwrap_or_default()
}

/// The last lines of both outputs of a program that failed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tails {
    stdout: String,
    stderr: String,
}

impl Tails {
    pub(super) fn of(stdout: &[u8], stderr: &[u8]) -> Self {
        Self {
            stdout: tail(stdout),
            stderr: tail(stderr),
        }
    }
}

impl fmt::Display for Tails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, text) in [("stderr", &self.stderr), ("stdout", &self.stdout)] {
            if !text.is_empty() {
                write!(f, "\n{name}: {}", text.replace('\n', "\n        "))?;
            }
        }
        Ok(())
    }
}

/// The last lines, as many as an error should repeat.
fn tail(output: &[u8]) -> String {
    let end = &output[output.len().saturating_sub(TAIL_BYTES)..];
    let text = printable(end);
    let lines: Vec<_> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Text from a program, without what could steer a terminal.
pub(super) fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .flat_map(|c| {
            let escape = c.is_control() && c != '\n' && c != '\t';
            let escaped = escape.then(|| c.escape_default());
            escaped.into_iter().flatten().chain((!escape).then_some(c))
        })
        .collect()
}
