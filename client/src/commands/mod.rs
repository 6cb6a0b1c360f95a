//! One file a command.

mod agent;
mod doctor;
mod installed;
mod prepareclient;
mod updateclient;
mod verify;

use simulcast_cli::{Console, Exit};

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Agent(agent::Args),
    Doctor(Box<doctor::Args>),
    Installed(installed::Args),
    Prepareclient(prepareclient::Args),
    Updateclient(Box<updateclient::Args>),
    Verify(Box<verify::Args>),
}

impl Command {
    /// Does what the command says.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self {
            Self::Agent(args) => args.run(console),
            Self::Doctor(args) => args.run(console),
            Self::Installed(args) => args.run(console),
            Self::Prepareclient(args) => args.run(console),
            Self::Updateclient(args) => args.run(console),
            Self::Verify(args) => args.run(console),
        }
    }
}
