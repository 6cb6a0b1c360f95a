//! `si-node add`.

use anyhow::Result;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::install::{GroupName, Mac};

use super::super::nodes::{self, ADDED, DryRun, Values};

/// Add nodes to nodes.d/nodes.toml
///
/// They are not installed before si-install says so.
#[derive(Debug, clap::Args)]
#[command(after_help = crate::inventory::keys_help())]
pub(super) struct Args {
    /// Names of the new nodes, as in node[01-16]
    #[arg(value_name = "NODES")]
    nodes: String,

    /// The network card that the node boots from
    #[arg(long)]
    mac: Option<Mac>,

    /// A group that they are in; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,

    #[command(flatten)]
    values: Values,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let mut changes = args.values.changes()?;
    if let Some(mac) = args.mac {
        changes.insert(0, nodes::card(mac)?);
    }
    changes.extend(super::set::groups(&args.groups)?);
    let mut names = Vec::new();
    nodes::edit(console, args.dry_run, |edit| {
        names = nodes::names(edit.before(), &args.nodes)?;
        names
            .iter()
            .try_for_each(|name| nodes::usage(edit.add(&nodes::node(name), &changes)))
    })?;
    nodes::report(console, ADDED, &names, args.dry_run)
}
