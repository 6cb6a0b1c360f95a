//! `si`: the image server's commands. `si-lsimage X` and `si lsimage X` are the same.

#![forbid(unsafe_code)]

mod boot;
mod commands;
mod daemon;
mod exclusions;
mod extras;
mod files;
mod golden;
mod inside;
mod inventory;
mod names;
mod order;
mod push;
mod remote;
mod state;
mod store;
mod text;
mod throttle;
mod view;

use std::process::ExitCode;

use simulcast_cli::{Console, Exit, Names, Options, Program};

/// Keep one golden client as it should be, have every other machine be like it
#[derive(Debug, clap::Parser)]
#[command(
    name = "si",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Si {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: commands::Command,
}

impl Program for Si {
    fn options(&self) -> &Options {
        &self.options
    }

    fn level(&self) -> tracing::Level {
        match self.command {
            commands::Command::Server(_) => tracing::Level::INFO,
            _ => tracing::Level::WARN,
        }
    }

    fn names_for(value: &str) -> Option<Names> {
        names::names_for(value)
    }

    fn run(self, console: &Console) -> anyhow::Result<Exit> {
        self.command.run(console)
    }
}

fn main() -> ExitCode {
    simulcast_cli::main::<Si>()
}
