//! The operator's commands, one file each.

mod server;

use simulcast_cli::{Console, Exit};

/// One of the operator's commands.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Server(server::Args),
}

impl Command {
    /// Does what it says.
    ///
    /// # Errors
    /// As each command says.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        match self {
            Self::Server(args) => server::run(args, console),
        }
    }
}
