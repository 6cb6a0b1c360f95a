//! What a command talks through: data on stdout, talk on stderr, questions.

use std::fmt;
use std::io::{self, BufRead, BufWriter, IsTerminal, StdoutLock, Write};

use anyhow::{Context, anyhow};
use serde::Serialize;

use crate::failure::stdout_failed;
use crate::progress::{Progress, Style};
use crate::table::Table;
use crate::{Exit, Options, Remark};

/// The terminal, pipe or file that a command answers to.
#[derive(Debug)]
pub struct Console {
    options: Options,
    colours: bool,
}

impl Console {
    pub(crate) fn new(options: Options) -> Self {
        Self {
            options,
            colours: colours_wanted() && io::stdout().is_terminal(),
        }
    }

    /// The options that every command takes.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Whether data is to be JSON.
    pub fn json(&self) -> bool {
        self.options.json
    }

    /// Writes data to stdout through a buffer, and flushes it.
    ///
    /// # Errors
    /// What `write` returns, or that stdout cannot be written to. That its reader has gone is an error here too, so
    /// that the command ends; [`main`](crate::main) knows that it is none.
    pub fn data<T>(
        &self,
        write: impl FnOnce(&mut BufWriter<StdoutLock<'static>>) -> io::Result<T>,
    ) -> anyhow::Result<T> {
        let mut out = BufWriter::with_capacity(1 << 16, io::stdout().lock());
        let result = write(&mut out).and_then(|value| out.flush().map(|()| value));
        if result.is_err() {
            // What is left in the buffer would fail once more on drop.
            drop(out.into_parts());
        }
        result.map_err(stdout_failed)
    }

    /// Writes one line of data to stdout.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn line(&self, line: impl fmt::Display) -> anyhow::Result<()> {
        self.data(|out| writeln!(out, "{line}"))
    }

    /// Writes a value as JSON and a line end to stdout: indented for people, on one line otherwise.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn print_json(&self, value: &impl Serialize) -> anyhow::Result<()> {
        let pretty = io::stdout().is_terminal();
        self.data(|out| {
            if pretty {
                serde_json::to_writer_pretty(&mut *out, value)?;
            } else {
                serde_json::to_writer(&mut *out, value)?;
            }
            writeln!(out)
        })
    }

    /// Writes a table to stdout.
    ///
    /// # Errors
    /// As [`Console::data`].
    pub fn table(&self, table: &Table) -> anyhow::Result<()> {
        self.data(|out| table.write(out, self.colours))
    }

    /// Writes a line of talk to stderr.
    pub fn say(&self, line: impl fmt::Display) {
        talk(line);
    }

    /// Writes `warning: …` to stderr.
    pub fn warn(&self, line: impl fmt::Display) {
        talk(format_args!("warning: {line}"));
    }

    /// Shows how far `what` has come: a bar on a terminal, plain lines otherwise, lines of JSON on stdout with `--json`.
    pub fn progress(&self, what: &str) -> Progress {
        let style = if self.json() {
            Style::Json
        } else if io::stderr().is_terminal() {
            Style::Bar
        } else {
            Style::Lines
        };
        Progress::new(what, style)
    }

    /// Asks before something is erased, unless `yes`. Returns whether to do it.
    ///
    /// # Errors
    /// When there is nobody to ask, as in a script: then `--yes` is needed, which is an error of usage.
    pub fn confirm(&self, question: &str, yes: bool) -> anyhow::Result<bool> {
        if yes {
            return Ok(true);
        }
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Err(anyhow!(
                "cannot ask \"{question}\": standard input is no terminal"
            ))
            .exit(Exit::Usage)
            .hint("give --yes to do it without being asked; nothing was changed");
        }
        write!(io::stderr(), "{question} [y/N] ").context("cannot ask on standard error")?;
        let mut answer = String::new();
        stdin
            .lock()
            .read_line(&mut answer)
            .context("cannot read the answer")?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

/// Writes a line to stderr. When even that fails, there is nobody left to tell.
pub(crate) fn talk(line: impl fmt::Display) {
    writeln!(io::stderr().lock(), "{line}").unwrap_or_default();
}

/// Whether colours are allowed at all: not with `NO_COLOR` set to anything (https://no-color.org), nor on a dumb terminal.
pub(crate) fn colours_wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}
