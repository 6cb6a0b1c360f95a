//! `si-node remove`.

use anyhow::Result;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::nodeset::NodeSet;

use super::super::nodes::{self, DryRun, REMOVED, usage};
use crate::state::State;

/// Remove nodes from the inventory, with all that is known of their installs
///
/// Their disks stay as they are. Overrides in overrides/node/ stay too.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The nodes
    #[arg(value_name = "NODES")]
    nodes: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let names = nodes::existing(&nodes::inventory(console)?, &args.nodes)?;
    let set: NodeSet = names.iter().cloned().collect();
    if !args.dry_run.dry_run && !console.confirm(&format!("remove {set}?"), args.yes)? {
        console.say("nothing was removed");
        return Ok(Exit::Failed);
    }
    nodes::edit(console, args.dry_run, |edit| {
        names
            .iter()
            .try_for_each(|name| usage(edit.remove(&nodes::node(name))))
    })?;
    if !args.dry_run.dry_run {
        State::open(&console.options().state)?.forget(&names)?;
    }
    nodes::report(console, REMOVED, &names, args.dry_run)
}
