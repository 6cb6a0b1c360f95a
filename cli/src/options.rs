//! Options that every command takes.

use std::path::PathBuf;

use clap::{Args, FromArgMatches};

/// Options that every command takes, before or behind its name.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Options {
    /// Where images, chunks, keys and state are kept
    #[arg(
        long,
        global = true,
        env = "SI_STATE",
        value_name = "DIR",
        default_value = "/var/lib/simulcast",
        hide_env_values = true
    )]
    pub state: PathBuf,

    /// Where the configuration is
    #[arg(
        long,
        global = true,
        env = "SI_CONFIG",
        value_name = "DIR",
        default_value = "/etc/simulcast",
        hide_env_values = true
    )]
    pub config: PathBuf,

    /// Print data as JSON, and progress as lines of JSON
    #[arg(long, global = true)]
    pub json: bool,

    /// Tell more on stderr; twice for still more. SI_LOG sets it by module
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Options {
    /// The options of a command line that says nothing.
    pub(crate) fn usual() -> Self {
        let none = Self::augment_args(clap::Command::new("usual")).get_matches_from(["usual"]);
        Self::from_arg_matches(&none).expect("every option has a default")
    }
}
