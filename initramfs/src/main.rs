//! `si-installer`: what a machine runs to become a copy of the golden client.

#![forbid(unsafe_code)]

mod receive;

use std::process::ExitCode;

use simulcast_cli::{Console, Exit, Options, Program};

/// Make this machine a copy of the golden client
#[derive(Debug, clap::Parser)]
#[command(
    name = "si-installer",
    version,
    arg_required_else_help = true,
    max_term_width = 100
)]
struct Installer {
    #[command(flatten)]
    options: Options,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Receive(receive::Args),
}

impl Program for Installer {
    const COMMANDS_HAVE_NAMES: bool = false;

    fn options(&self) -> &Options {
        &self.options
    }

    fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self.command {
            Command::Receive(args) => receive::run(args, console),
        }
    }
}

fn main() -> ExitCode {
    simulcast_cli::main::<Installer>()
}
