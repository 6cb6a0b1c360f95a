//! What the commands about nodes and groups share.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::install::{Mac, NodeName};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::nodeset::NodeSet;

use crate::inventory::{Change, Edit, EditError, Inventory, Subject, load};
use crate::state::State;

/// What every command takes that changes something.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(super) struct DryRun {
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
}

/// Values that are set so often that they have options of their own.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Values {
    /// The image that is installed, as KEY=VALUE can say too
    #[arg(long, value_name = "IMAGE[@V]")]
    pub(super) image: Option<ImageRef>,

    /// The layout of disks: a file of layouts.d, without .toml
    #[arg(long, value_name = "NAME")]
    layout: Option<String>,

    /// Other values, as in domain=example.org or variables.RACK=7; docs/inventory.md lists all
    #[arg(value_name = "KEY=VALUE")]
    values: Vec<String>,
}

impl Values {
    /// The changes that they make.
    pub(super) fn changes(&self) -> Result<Vec<Change>> {
        let image = self.image.as_ref().map(ToString::to_string);
        let named = [("image", image), ("layout", self.layout.clone())];
        let mut changes = Vec::new();
        for (key, value) in named {
            if let Some(value) = value {
                changes.push(usage(Change::set_to(key, &value))?);
            }
        }
        for value in &self.values {
            changes.push(usage(Change::set(value))?);
        }
        Ok(changes)
    }
}

/// A change of a card.
pub(super) fn card(mac: Mac) -> Result<Change> {
    usage(Change::set_to("mac", &mac.to_string()))
}

/// An error of the inventory as the operator reads it.
pub(super) fn usage<T>(result: Result<T, EditError>) -> Result<T> {
    let exit = match &result {
        Err(EditError::Write(..) | EditError::Missing(_)) => Exit::Failed,
        _ => Exit::Usage,
    };
    let hint = match &result {
        Err(EditError::Missing(_)) => Some("si-node list and si-group list tell what there is"),
        Err(EditError::Exists { .. }) => Some("set changes what is there"),
        _ => None,
    };
    let result = result.exit(exit);
    match hint {
        Some(hint) => result.hint(hint),
        None => result,
    }
}

/// The inventory as it is.
pub(super) fn inventory(console: &Console) -> Result<Inventory> {
    load(&console.options().config, &BTreeMap::new()).exit(Exit::Usage)
}

/// What is known of nodes, to be looked at.
pub(super) fn look(console: &Console) -> Result<State> {
    let state = &console.options().state;
    match State::is_there(state) {
        true => Ok(State::open(state)?),
        false => Ok(State::empty()?),
    }
}

/// Changes the inventory, or with `dry_run` only sees whether it could be.
pub(super) fn edit(
    console: &Console,
    dry_run: DryRun,
    change: impl FnOnce(&mut Edit) -> Result<()>,
) -> Result<Inventory> {
    let mut edit = usage(Edit::begin(&console.options().config))?;
    change(&mut edit)?;
    usage(if dry_run.dry_run {
        edit.check()
    } else {
        edit.write()
    })
}

/// The nodes that a text means, in the order of their numbers. They need not exist.
pub(super) fn names(inventory: &Inventory, text: &str) -> Result<Vec<NodeName>> {
    Ok(inventory.set(text).exit(Exit::Usage)?.names())
}

/// The same; all of them must exist, and there must be some.
pub(super) fn existing(inventory: &Inventory, text: &str) -> Result<Vec<NodeName>> {
    let names = names(inventory, text)?;
    let missing: NodeSet = names
        .iter()
        .filter(|name| inventory.node(name).is_none())
        .cloned()
        .collect();
    if !missing.is_empty() {
        return Err(anyhow!("there is no node {missing}")).hint("si-node list tells which there are");
    }
    if names.is_empty() {
        return Err(anyhow!("{text:?} means no node")).exit(Exit::Usage);
    }
    Ok(names)
}

/// Says what was done to nodes, or would have been.
pub(super) fn report(console: &Console, verb: Verb, nodes: &[NodeName], dry_run: DryRun) -> Result<Exit> {
    if console.json() {
        console.print_json(&json!({ verb.done: nodes, "dry_run": dry_run.dry_run }))?;
    } else {
        let set: NodeSet = nodes.iter().cloned().collect();
        let verb = if dry_run.dry_run { verb.would } else { verb.done };
        console.line(format_args!("{verb} {set}"))?;
    }
    Ok(Exit::Done)
}

/// What is done to nodes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verb {
    pub(super) done: &'static str,
    pub(super) would: &'static str,
}

pub(super) const ADDED: Verb = Verb {
    done: "added",
    would: "would add",
};
pub(super) const CHANGED: Verb = Verb {
    done: "changed",
    would: "would change",
};
pub(super) const REMOVED: Verb = Verb {
    done: "removed",
    would: "would remove",
};

/// A node as what a change is about.
pub(super) fn node(name: &NodeName) -> Subject {
    Subject::Node(name.clone())
}
