//! `si-node mark`.

use anyhow::Result;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::install::NodeState;

use super::super::nodes::{self, DryRun, Verb};
use crate::state::State;
use crate::text::now;

const MARKED: Verb = Verb {
    done: "marked",
    would: "would mark",
};

/// Say what nodes do when they boot next: start their disks, or wait in the mini-kernel for you
///
/// An install that goes on loses its right to report. si-install has nodes installed.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The nodes
    #[arg(value_name = "NODES")]
    nodes: String,

    /// What they do
    #[arg(value_name = "STATE")]
    becomes: Marked,

    #[command(flatten)]
    dry_run: DryRun,
}

/// The states that an operator can give.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Marked {
    /// They start their local disk
    Local,
    /// They start their local disk, on which an image is
    Installed,
    /// They start the mini-kernel and let you in
    Rescue,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let names = nodes::existing(&nodes::inventory(console)?, &args.nodes)?;
    let state = match args.becomes {
        Marked::Local => NodeState::Local,
        Marked::Installed => NodeState::Installed,
        Marked::Rescue => NodeState::Rescue,
    };
    if !args.dry_run.dry_run {
        State::open(&console.options().state)?.decide(&names, state, now())?;
    }
    nodes::report(console, MARKED, &names, args.dry_run)
}
