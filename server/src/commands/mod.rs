//! The operator's commands, one file each.

mod getimage;
mod server;

use simulcast_cli::{Console, Exit};

/// One of the operator's commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Getimage(getimage::Args),
    Server(server::Args),
}

impl Command {
    /// Does what it says.
    ///
    /// # Errors
    /// As each command says.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self {
            Self::Getimage(args) => args.run(console),
            Self::Server(args) => server::run(args, console),
        }
    }
}
