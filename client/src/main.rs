//! `si-client`: the commands of a golden client and of a node. `si-updateclient` and `si-client updateclient` are the same.

#![forbid(unsafe_code)]

mod commands;
mod exclusions;
mod mounted;

use std::process::ExitCode;

use simulcast_cli::{Console, Exit, Options, Program};

/// Keep this machine like the golden client, or be the golden client
#[derive(Debug, clap::Parser)]
#[command(
    name = "si-client",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct SiClient {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: commands::Command,
}

impl Program for SiClient {
    fn options(&self) -> &Options {
        &self.options
    }

    fn run(self, console: &Console) -> anyhow::Result<Exit> {
        self.command.run(console)
    }
}

fn main() -> ExitCode {
    simulcast_cli::main::<SiClient>()
}
