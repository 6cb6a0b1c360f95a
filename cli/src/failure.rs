//! Exit codes, and what an error says besides its chain of causes: a code of its own and a hint.

use std::error::Error;
use std::fmt;
use std::io;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All was done: 0.
    Done,
    /// It failed: 1.
    Failed,
    /// Wrong usage or configuration: 2.
    Usage,
    /// Done for some nodes only: 3.
    SomeNodes,
    /// Interrupted by Ctrl-C or SIGTERM: 130.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::SomeNodes => 3,
            Self::Interrupted => 130,
        }
    }
}

/// Adds what only the program knows to an error: which exit code it means, and what to do about it.
pub trait Remark<T> {
    /// Ends the program with `exit` instead of [`Exit::Failed`].
    ///
    /// # Errors
    /// The same error, marked.
    fn exit(self, exit: Exit) -> anyhow::Result<T>;

    /// Prints `hint: …` under the error. The hint of the outermost error that has one is printed.
    ///
    /// # Errors
    /// The same error, with the hint.
    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T>;
}

impl<T, E: Into<anyhow::Error>> Remark<T> for Result<T, E> {
    fn exit(self, exit: Exit) -> anyhow::Result<T> {
        self.map_err(|error| remark(error.into(), Some(exit), None))
    }

    fn hint(self, hint: impl Into<String>) -> anyhow::Result<T> {
        self.map_err(|error| remark(error.into(), None, Some(hint.into())))
    }
}

/// An error with a remark. It shows itself as the error that it is about.
#[derive(Debug)]
struct Remarked {
    error: anyhow::Error,
    exit: Option<Exit>,
    hint: Option<String>,
}

impl fmt::Display for Remarked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for Remarked {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

fn remark(error: anyhow::Error, exit: Option<Exit>, hint: Option<String>) -> anyhow::Error {
    anyhow::Error::new(Remarked { error, exit, hint })
}

/// What the top of a program prints about an error and how it ends; `None` when there is nothing to complain about,
/// because the reader of our output has gone.
pub(crate) fn judge(error: &anyhow::Error) -> Option<(String, Exit)> {
    let (mut exit, mut hint, mut quiet) = (None, None, false);
    for cause in causes(error) {
        if let Some(remarked) = cause.downcast_ref::<Remarked>() {
            exit = exit.or(remarked.exit);
            hint = hint.or(remarked.hint.as_ref());
        }
        quiet |= cause.downcast_ref::<StdoutClosed>().is_some();
    }
    if quiet {
        return None;
    }
    let mut text = format!("error: {error:#}");
    if let Some(hint) = hint {
        text.push_str("\nhint: ");
        text.push_str(hint);
    }
    Some((text, exit.unwrap_or(Exit::Failed)))
}

/// The chain of an error, going through remarks to what they are about.
fn causes(error: &anyhow::Error) -> Vec<&(dyn Error + 'static)> {
    let mut found = Vec::new();
    let mut next: Option<&(dyn Error + 'static)> = Some(error.as_ref());
    while let Some(cause) = next {
        found.push(cause);
        next = match cause.downcast_ref::<Remarked>() {
            Some(remarked) => Some(remarked.error.as_ref()),
            None => cause.source(),
        };
    }
    found
}

/// Our stdout has no reader any more: the program ends, and has nothing to complain about.
#[derive(Debug)]
struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nobody reads the output any more")
    }
}

impl Error for StdoutClosed {}

/// An error of writing to stdout.
pub(crate) fn stdout_failed(error: io::Error) -> anyhow::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        anyhow::Error::new(StdoutClosed)
    } else {
        anyhow::Error::new(error).context("cannot write to standard output")
    }
}

#[cfg(test)]
mod tests {
    use anyhow::{Context, anyhow};

    use super::*;

    #[test]
    fn the_chain_is_printed_once_with_its_hint() {
        let result: anyhow::Result<()> = Err(anyhow!("c"))
            .context("b")
            .hint("inner")
            .context("a")
            .hint("do this");
        let (text, exit) = judge(&result.unwrap_err()).unwrap();
        assert_eq!(text, "error: a: b: c\nhint: do this");
        assert_eq!(exit, Exit::Failed);
    }

    #[test]
    fn a_code_survives_context_and_hints() {
        let result: Result<(), io::Error> = Err(io::Error::other("why"));
        let error = result.exit(Exit::Usage).hint("look").context("what").unwrap_err();
        assert_eq!(
            judge(&error),
            Some(("error: what: why\nhint: look".to_owned(), Exit::Usage))
        );
    }

    #[test]
    fn only_our_own_closed_output_is_no_failure() {
        let pipe = || io::Error::from(io::ErrorKind::BrokenPipe);
        let own = Err::<(), _>(stdout_failed(pipe()))
            .context("listing")
            .unwrap_err();
        assert_eq!(judge(&own), None);
        let other = anyhow::Error::new(pipe()).context("cannot talk to golden01");
        assert!(judge(&other).is_some());
        assert!(judge(&stdout_failed(io::ErrorKind::StorageFull.into())).is_some());
    }
}
