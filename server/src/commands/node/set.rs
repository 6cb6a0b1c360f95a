//! `si-node set` and `si-node unset`.

use anyhow::Result;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::install::GroupName;

use super::super::nodes::{self, CHANGED, DryRun, usage};
use crate::inventory::Change;

/// Set values of nodes, as in si-node set node[01-16] image=golden01 groups=gpu,rack1
#[derive(Debug, clap::Args)]
#[command(after_help = crate::inventory::keys_help())]
pub(super) struct SetArgs {
    /// The nodes
    #[arg(value_name = "NODES")]
    nodes: String,

    /// What is set; variables.NAME=VALUE for variables of scripts
    #[arg(value_name = "KEY=VALUE", required = true)]
    values: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

/// Take values of nodes away, so that those of their groups hold
#[derive(Debug, clap::Args)]
#[command(after_help = crate::inventory::keys_help())]
pub(super) struct UnsetArgs {
    /// The nodes
    #[arg(value_name = "NODES")]
    nodes: String,

    /// What is taken away; variables.NAME for one variable
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(super) fn set(args: &SetArgs, console: &Console) -> Result<Exit> {
    let changes: Result<Vec<_>> = args
        .values
        .iter()
        .map(|value| usage(Change::set(value)))
        .collect();
    change(&args.nodes, &changes?, args.dry_run, console)
}

pub(super) fn unset(args: &UnsetArgs, console: &Console) -> Result<Exit> {
    let changes: Result<Vec<_>> = args.keys.iter().map(|key| usage(Change::unset(key))).collect();
    change(&args.nodes, &changes?, args.dry_run, console)
}

fn change(text: &str, changes: &[Change], dry_run: DryRun, console: &Console) -> Result<Exit> {
    let mut names = Vec::new();
    nodes::edit(console, dry_run, |edit| {
        names = nodes::existing(edit.before(), text)?;
        names
            .iter()
            .try_for_each(|name| usage(edit.change(&nodes::node(name), changes)))
    })?;
    nodes::report(console, CHANGED, &names, dry_run)
}

/// The change that puts a node into groups; none when there are none.
pub(super) fn groups(groups: &[GroupName]) -> Result<Option<Change>> {
    if groups.is_empty() {
        return Ok(None);
    }
    let names: Vec<_> = groups.iter().map(GroupName::as_str).collect();
    usage(Change::set_to("groups", &names.join(","))).map(Some)
}
