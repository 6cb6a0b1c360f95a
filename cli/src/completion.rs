//! Completion of command lines in a shell. The shell asks the program itself, so names of nodes, groups and images are those of
//! this moment: `source <(SI_COMPLETE=bash si-getimage)`.

use std::ffi::{OsStr, OsString};

use clap::Command;
use clap_complete::CompleteEnv;
use clap_complete::engine::{ArgValueCompleter, CompletionCandidate};
use clap_complete::env::{Bash, Shells};

use crate::Options;

/// What the shell's function sets when it asks.
const ASKED: &str = "SI_COMPLETE";

/// Answers a shell that asks how a command line goes on. Says whether one did; a program that was asked does nothing else.
pub(crate) fn answered(command: impl Fn() -> Command, arguments: &[OsString]) -> bool {
    let directory = std::env::current_dir().ok();
    CompleteEnv::with_factory(command)
        .var(ASKED)
        .shells(Shells(&[&Bash]))
        .try_complete(arguments, directory.as_deref())
        // Whoever presses a key has no use for a complaint.
        .unwrap_or(true)
}

/// Lists the names that something can have, as things are now.
pub type Names = fn(&Options) -> Vec<String>;

/// Gives each value of a command line, and of those below it, the names that can stand for it.
pub(crate) fn with_names(command: Command, names_for: fn(&str) -> Option<Names>) -> Command {
    let command = command.mut_args(|argument| {
        let value = argument.get_value_names().and_then(<[_]>::first).cloned();
        match value.and_then(|value| names_for(&value)) {
            Some(names) => argument.add(ArgValueCompleter::new(move |typed: &OsStr| {
                fitting(typed, names(&Options::usual()))
            })),
            None => argument,
        }
    });
    command.mut_subcommands(|below| with_names(below, names_for))
}

/// Those of `names` that go on with what was typed, behind what stands before the last comma of it.
fn fitting(typed: &OsStr, names: Vec<String>) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else {
        return Vec::new();
    };
    let (before, begun) = typed.split_at(typed.rfind(',').map_or(0, |comma| comma + 1));
    let fitting = names.into_iter().filter(|name| name.starts_with(begun));
    fitting
        .map(|name| CompletionCandidate::new(format!("{before}{name}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_several_names_is_completed() {
        let all = || ["node01", "node02", "gpu01"].map(str::to_owned).to_vec();
        let completed = |typed: &str| -> Vec<String> {
            fitting(OsStr::new(typed), all())
                .iter()
                .map(|candidate| candidate.get_value().to_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(completed("g"), ["gpu01"]);
        assert_eq!(completed("gpu01,n"), ["gpu01,node01", "gpu01,node02"]);
        assert_eq!(completed("").len(), 3);
        assert!(completed("x").is_empty());
    }
}
