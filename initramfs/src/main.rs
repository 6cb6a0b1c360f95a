//! `si-installer`: what a machine runs to become a copy of the golden client. As PID 1 it is the `/init` of the mini-kernel.

#![forbid(unsafe_code)]

mod install;
mod pid1;
mod plan;
mod receive;
mod shell;
#[cfg(test)]
mod testing;
mod text;
mod unpack;
mod wish;

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
    Receive(Box<receive::Args>),
    Plan(plan::Args),
    Run(install::Args),
    #[command(hide = true)]
    Unpack(unpack::Args),
}

impl Program for Installer {
    const COMMANDS_HAVE_NAMES: bool = false;

    fn options(&self) -> &Options {
        &self.options
    }

    fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self.command {
            Command::Receive(args) => receive::run(*args, console),
            Command::Plan(args) => plan::run(&args, console),
            Command::Run(args) => install::run(&args, console),
            Command::Unpack(args) => unpack::run(&args, console),
        }
    }
}

fn main() -> ExitCode {
    // The kernel gives PID 1 what it does not know of its command line as arguments; they are not ours.
    if std::process::id() == 1 {
        pid1::main();
    }
    simulcast_cli::main::<Installer>()
}
