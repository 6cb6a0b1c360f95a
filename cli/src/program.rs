//! The outermost layer of a program: which command, set-up, how it ends.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::Command;
use tracing_subscriber::EnvFilter;

use crate::completion::Names;
use crate::console::{colours_wanted, talk};
use crate::{Console, Exit, Options, completion, failure, interrupt, manual};

/// What the names of all our programs begin with.
const PREFIX: &str = "si-";

/// Prints the names by which the program's commands can be called, one a line: for whoever installs the links.
const LIST_COMMANDS: &str = "--list-commands";

/// Writes the manual pages of all commands into a directory: for whoever packs the program.
const WRITE_MANUAL: &str = "--write-manual";

/// A program: its command line, and what it does.
pub trait Program: clap::Parser {
    /// Whether the program's commands have names of their own, `si-` and the command. A program that is such a
    /// command itself says no.
    const COMMANDS_HAVE_NAMES: bool = true;

    /// The options that every command takes.
    fn options(&self) -> &Options;

    /// What is logged to stderr without `-v`. A daemon tells more than a command.
    fn level(&self) -> tracing::Level {
        tracing::Level::WARN
    }

    /// What can stand for a value that help calls `value`, as in `NODES`: shells offer it.
    fn names_for(value: &str) -> Option<Names> {
        let _ = value;
        None
    }

    /// Does what the command line says.
    ///
    /// # Errors
    /// What the operator is to read; see [`Remark`](crate::Remark).
    fn run(self, console: &Console) -> anyhow::Result<Exit>;
}

/// Runs a program: the whole of its `main`.
pub fn main<P: Program>() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|argument| argument == LIST_COMMANDS) {
        return end(list_commands::<P>());
    }
    if let [_, option, directory] = arguments.as_slice()
        && option == WRITE_MANUAL
    {
        return end(write_manual::<P>(Path::new(directory)));
    }
    if completion::answered(|| asked_for::<P>(arguments.first()), &arguments) {
        return ExitCode::SUCCESS;
    }
    let parsed = named::<P>()
        .try_get_matches_from(by_name::<P>(arguments))
        .and_then(|mut matches| P::from_arg_matches_mut(&mut matches));
    let program = match parsed {
        Ok(program) => program,
        Err(error) => {
            // Help goes to stdout, complaints to stderr; when neither can be written, nobody reads.
            error.print().unwrap_or_default();
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            return ExitCode::from(exit.code());
        }
    };
    set_up_log(program.options().verbose, program.level());
    if let Err(error) = interrupt::listen() {
        tracing::warn!(%error, "cannot listen for signals; Ctrl-C ends the program without a word");
    }
    let console = Console::new(program.options().clone());
    end(program.run(&console))
}

fn end(result: anyhow::Result<Exit>) -> ExitCode {
    let exit = match result {
        Ok(exit) => exit,
        Err(error) => match failure::judge(&error) {
            Some((text, exit)) => {
                talk(text);
                if interrupt::requested() {
                    Exit::Interrupted
                } else {
                    exit
                }
            }
            None => Exit::Done,
        },
    };
    ExitCode::from(exit.code())
}

fn list_commands<P: Program>() -> anyhow::Result<Exit> {
    let named = commands::<P>().filter(|_| P::COMMANDS_HAVE_NAMES);
    let names: String = named.map(|name| format!("{PREFIX}{name}\n")).collect();
    io::Write::write_all(&mut io::stdout(), names.as_bytes()).map_err(failure::stdout_failed)?;
    Ok(Exit::Done)
}

fn write_manual<P: Program>(directory: &Path) -> anyhow::Result<Exit> {
    let mut whole = named::<P>();
    whole.build();
    manual::write(&whole, directory)
        .with_context(|| format!("cannot write manual pages into {}", directory.display()))?;
    Ok(Exit::Done)
}

/// The command line of a program, where each command has the name that it can be called by.
fn named<P: Program>() -> Command {
    let mut whole = P::command();
    if P::COMMANDS_HAVE_NAMES {
        whole = whole.mut_subcommands(|command| {
            let name = format!("{PREFIX}{}", command.get_name());
            let command = command.mut_subcommands(|below| {
                let usage = format!("{name} {}", below.get_name());
                let page = format!("{name}-{}", below.get_name());
                below.bin_name(usage).display_name(page)
            });
            command.bin_name(&name).display_name(&name)
        });
    }
    whole
}

/// The command line that a shell asks to complete: the program's, or that of the command it is called by.
fn asked_for<P: Program>(called: Option<&OsString>) -> Command {
    let mut whole = named::<P>();
    whole.build();
    let command = called
        .and_then(|called| called_as::<P>(called))
        .and_then(|name| whole.find_subcommand(name).cloned());
    completion::with_names(command.unwrap_or(whole), P::names_for)
}

fn commands<P: Program>() -> impl Iterator<Item = String> {
    let commands: Vec<_> = P::command()
        .get_subcommands()
        .map(|command| command.get_name().to_owned())
        .filter(|name| name != "help")
        .collect();
    commands.into_iter()
}

/// `si-lsimage X` becomes `si lsimage X`; everything else stays.
fn by_name<P: Program>(mut arguments: Vec<OsString>) -> Vec<OsString> {
    if let Some(command) = arguments.first().and_then(|name| called_as::<P>(name)) {
        // Help calls itself by the first of them.
        arguments[0] = P::command().get_name().into();
        arguments.insert(1, command.into());
    }
    arguments
}

/// The command that a program is called as: `lsimage` of `/usr/bin/si-lsimage`.
fn called_as<P: Program>(path: &OsStr) -> Option<String> {
    let name = Path::new(path).file_name()?.to_str()?.strip_prefix(PREFIX)?;
    (P::COMMANDS_HAVE_NAMES && commands::<P>().any(|command| command == name)).then(|| name.to_owned())
}

fn set_up_log(verbose: u8, level: tracing::Level) {
    let level = match verbose {
        0 => level,
        1 => level.max(tracing::Level::INFO),
        2 => level.max(tracing::Level::DEBUG),
        _ => tracing::Level::TRACE,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("SI_LOG")
        .from_env_lossy();
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(colours_wanted() && io::stderr().is_terminal())
        .without_time()
        .with_target(verbose > 1);
    if let Err(error) = log.try_init() {
        talk(format_args!("warning: cannot set up the log: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "si")]
    struct Si {
        #[command(flatten)]
        options: Options,
        #[command(subcommand)]
        command: Command,
    }

    #[derive(Debug, PartialEq, clap::Subcommand)]
    enum Command {
        Lsimage { image: Option<String> },
        Gc,
    }

    impl Program for Si {
        fn options(&self) -> &Options {
            &self.options
        }

        fn run(self, _: &Console) -> anyhow::Result<Exit> {
            Ok(Exit::Done)
        }
    }

    fn parsed(line: &str) -> Result<Si, clap::Error> {
        Si::try_parse_from(by_name::<Si>(line.split(' ').map(OsString::from).collect()))
    }

    #[test]
    fn the_name_chooses_the_command() {
        for line in [
            "si lsimage x",
            "/usr/bin/si-lsimage x",
            "si-lsimage x",
            "./si-other lsimage x",
        ] {
            let command = parsed(line).unwrap().command;
            assert_eq!(
                command,
                Command::Lsimage {
                    image: Some("x".to_owned())
                },
                "{line}"
            );
        }
        assert!(parsed("si-help").is_err());
        assert!(parsed("si-other").is_err());
        assert_eq!(commands::<Si>().collect::<Vec<_>>(), ["lsimage", "gc"]);
    }

    #[test]
    fn options_stand_before_or_behind_the_command() {
        for line in [
            "si --state /s --json gc",
            "si gc --json --state /s",
            "si-gc --state /s --json",
        ] {
            let options = parsed(line).unwrap().options;
            assert_eq!(
                (options.state.to_str(), options.json),
                (Some("/s"), true),
                "{line}"
            );
        }
    }
}
