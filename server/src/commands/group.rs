//! `si-group`.

use anyhow::{Result, anyhow};
use serde::Serialize;
use serde_json::json;
use simulcast_cli::{Align, Console, Exit, Remark, Table};
use simulcast_protocol::install::{GroupName, NodeName};
use simulcast_protocol::nodeset::NodeSet;

use super::nodes::{self, ADDED, CHANGED, DryRun, REMOVED, Values, Verb, usage};
use crate::inventory::{Change, Entry, Inventory, Subject};

/// Groups of nodes: what holds for all of a group, unless a node says otherwise
///
/// Groups stand in groups.d/*.toml of the configuration directory. Every node is in group all; the others are named by
/// the nodes themselves (groups = [...]). Of several groups the one with the higher priority decides.
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Add a group to groups.d/groups.toml
    Add {
        /// Its name
        group: GroupName,

        #[command(flatten)]
        values: Values,

        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Set values of a group, as in si-group set gpu priority=5 image=golden01
    Set {
        /// The group
        group: GroupName,

        #[command(flatten)]
        values: Values,

        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Take values of a group away
    Unset {
        /// The group
        group: GroupName,

        /// What is taken away; variables.NAME for one variable
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,

        #[command(flatten)]
        dry_run: DryRun,
    },
    /// Show what a group says, and which nodes are in it
    Show {
        /// The group
        group: GroupName,
    },
    /// List groups and their nodes
    List,
    /// Remove a group that no node is in
    Remove {
        /// The group
        group: GroupName,

        /// Do not ask
        #[arg(short, long)]
        yes: bool,

        #[command(flatten)]
        dry_run: DryRun,
    },
}

#[derive(Debug, Serialize)]
struct Row {
    name: GroupName,
    /// `FILE:LINE`; none for a group that nothing is said of.
    defined: Option<String>,
    settings: Entry,
    nodes: Vec<NodeName>,
}

/// Does what `si-group` is asked for.
///
/// # Errors
/// When it cannot be done.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    match args.what {
        What::Add {
            group,
            values,
            dry_run,
        } => {
            let changes = values.changes()?;
            let subject = Subject::Group(group.clone());
            nodes::edit(console, dry_run, |edit| usage(edit.add(&subject, &changes)))?;
            report(console, ADDED, &group, dry_run)
        }
        What::Set {
            group,
            values,
            dry_run,
        } => {
            let changes = values.changes()?;
            if changes.is_empty() {
                return Err(anyhow!("nothing is set"))
                    .exit(Exit::Usage)
                    .hint("give KEY=VALUE, as in image=golden01");
            }
            change(&group, &changes, dry_run, console)
        }
        What::Unset { group, keys, dry_run } => {
            let changes: Result<Vec<_>> = keys.iter().map(|key| usage(Change::unset(key))).collect();
            change(&group, &changes?, dry_run, console)
        }
        What::Show { group } => show(&group, console),
        What::List => list(console),
        What::Remove { group, yes, dry_run } => remove(&group, yes, dry_run, console),
    }
}

fn change(group: &GroupName, changes: &[Change], dry_run: DryRun, console: &Console) -> Result<Exit> {
    let subject = Subject::Group(group.clone());
    nodes::edit(console, dry_run, |edit| usage(edit.change(&subject, changes)))?;
    report(console, CHANGED, group, dry_run)
}

fn remove(group: &GroupName, yes: bool, dry_run: DryRun, console: &Console) -> Result<Exit> {
    let subject = Subject::Group(group.clone());
    if !dry_run.dry_run && !console.confirm(&format!("remove group {group}?"), yes)? {
        console.say("nothing was removed");
        return Ok(Exit::Failed);
    }
    nodes::edit(console, dry_run, |edit| {
        let members: NodeSet = edit.before().members(group).into_iter().flatten().collect();
        if group.as_str() != GroupName::ALL && !members.is_empty() {
            return Err(anyhow!("{members} are in group {group}")).hint(format!(
                "si-node set '@{group}' groups=… puts them into others first"
            ));
        }
        usage(edit.remove(&subject))
    })?;
    report(console, REMOVED, group, dry_run)
}

fn report(console: &Console, verb: Verb, group: &GroupName, dry_run: DryRun) -> Result<Exit> {
    if console.json() {
        console.print_json(&json!({ verb.done: group, "dry_run": dry_run.dry_run }))?;
    } else {
        let verb = if dry_run.dry_run { verb.would } else { verb.done };
        console.line(format_args!("{verb} group {group}"))?;
    }
    Ok(Exit::Done)
}

fn row(inventory: &Inventory, name: &GroupName) -> Row {
    let placed = inventory.groups().get(name);
    let members: NodeSet = inventory.members(name).into_iter().flatten().collect();
    Row {
        name: name.clone(),
        defined: placed.map(crate::inventory::Placed::place),
        settings: placed.map(|placed| placed.entry.clone()).unwrap_or_default(),
        nodes: members.names(),
    }
}

fn show(group: &GroupName, console: &Console) -> Result<Exit> {
    let inventory = nodes::inventory(console)?;
    if inventory.members(group).is_none() {
        return Err(anyhow!("there is no group {group}")).hint("si-group list tells which there are");
    }
    let row = row(&inventory, group);
    if console.json() {
        console.print_json(&row)?;
        return Ok(Exit::Done);
    }
    let nodes: NodeSet = row.nodes.iter().cloned().collect();
    console.line(format_args!("{group}: {nodes}"))?;
    if let Some(defined) = &row.defined {
        console.line(format_args!("  defined: {defined}"))?;
    }
    let settings = serde_json::to_value(&row.settings)?;
    for (key, value) in settings.as_object().into_iter().flatten() {
        match value {
            serde_json::Value::String(text) => console.line(format_args!("  {key}: {text}"))?,
            other => console.line(format_args!("  {key}: {other}"))?,
        }
    }
    Ok(Exit::Done)
}

fn list(console: &Console) -> Result<Exit> {
    let inventory = nodes::inventory(console)?;
    let mut names = vec![GroupName::all()];
    names.extend(
        inventory
            .groups()
            .keys()
            .filter(|name| name.as_str() != GroupName::ALL)
            .cloned(),
    );
    let rows: Vec<_> = names.iter().map(|name| row(&inventory, name)).collect();
    if console.json() {
        console.print_json(&rows)?;
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("GROUP", Align::Left),
        ("PRIORITY", Align::Right),
        ("IMAGE", Align::Left),
        ("NODES", Align::Left),
    ]);
    for row in rows {
        let nodes: NodeSet = row.nodes.into_iter().collect();
        table.row([
            row.name.to_string(),
            row.settings.priority.unwrap_or(0).to_string(),
            row.settings
                .image
                .map_or_else(|| "-".to_owned(), |image| image.to_string()),
            nodes.to_string(),
        ]);
    }
    console.table(&table)?;
    Ok(Exit::Done)
}
