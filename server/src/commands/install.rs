//! `si-install`.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;
use serde_json::json;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::install::{NodeName, NodeState};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::nodeset::NodeSet;

use super::nodes::{self, DryRun, usage};
use crate::extras::Extras;
use crate::inventory::{Change, Inventory};
use crate::order::{self, MakeError, Place, Source};
use crate::state::State;
use crate::text::now;

/// Have nodes installed when they boot next
///
/// What they would be told is worked out first; nodes for which that fails are named and left as they are, and the exit
/// code is 3. Until a node has booted, si-node mark NODES local takes it back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The nodes, as in node[01-16], @group or node[1-9]!node3
    #[arg(value_name = "NODES")]
    nodes: String,

    /// Set the image that they get from now on
    #[arg(long, value_name = "IMAGE[@V]")]
    image: Option<ImageRef>,

    #[command(flatten)]
    dry_run: DryRun,
}

/// A node that cannot be installed, and why.
#[derive(Debug, Serialize)]
struct Failed {
    node: NodeName,
    error: String,
    hint: String,
}

/// Marks nodes for install.
///
/// # Errors
/// When none of them can be.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let store = crate::store::open(console)?;
    let mut names = Vec::new();
    let inventory = match &args.image {
        None => {
            let inventory = nodes::inventory(console)?;
            names = nodes::existing(&inventory, &args.nodes)?;
            inventory
        }
        Some(image) => {
            // Before anything is written.
            store.resolve(image)?;
            let change = [usage(Change::set_to("image", &image.to_string()))?];
            nodes::edit(console, args.dry_run, |edit| {
                names = nodes::existing(edit.before(), &args.nodes)?;
                names
                    .iter()
                    .try_for_each(|name| usage(edit.change(&nodes::node(name), &change)))
            })?
        }
    };
    let (ready, failed) = sort(&names, &inventory, &store, console);
    if !args.dry_run.dry_run && !ready.is_empty() {
        State::open(&console.options().state)?.decide(&ready, NodeState::Install, now())?;
    }
    tell(&ready, &failed, args.dry_run, console)?;
    Ok(match (ready.is_empty(), failed.is_empty()) {
        (_, true) => Exit::Done,
        (true, false) => Exit::Failed,
        (false, false) => Exit::SomeNodes,
    })
}

/// Those that can be installed, and those that cannot.
fn sort(
    names: &[NodeName],
    inventory: &Inventory,
    store: &simulcast_image::store::Store,
    console: &Console,
) -> (Vec<NodeName>, Vec<Failed>) {
    let options = console.options();
    let extras = Extras::new(&options.state);
    let place = Place {
        config: &options.config,
        extras: &extras,
    };
    // A thousand nodes have few images; what is noted of one is said once.
    let mut sources: BTreeMap<ImageRef, Source> = BTreeMap::new();
    let mut try_out = |name: &NodeName| -> Result<(), MakeError> {
        let Some(effective) = inventory.effective(name) else {
            return Ok(());
        };
        let image = order::wanted(name, &effective)?;
        let source = match sources.get(image) {
            Some(source) => source.clone(),
            None => {
                let source = order::source(store, image)?;
                if effective.entry.layout.is_none() {
                    note(&source, console);
                }
                sources.insert(image.clone(), source.clone());
                source
            }
        };
        let order = order::make(0, name, &effective, &source, place)?;
        order::sign(&order, store.signing_key()).map(drop)
    };
    let (mut ready, mut failed) = (Vec::new(), Vec::new());
    for name in names {
        match try_out(name) {
            Ok(()) => ready.push(name.clone()),
            Err(error) => failed.push(Failed {
                node: name.clone(),
                hint: error.hint(),
                error: format!("{:#}", anyhow::Error::new(error)),
            }),
        }
    }
    (ready, failed)
}

/// Says what the disks of nodes will not have of the golden client's.
fn note(source: &Source, console: &Console) {
    // An error is said for each node that it concerns.
    if let Some(Ok(derived)) = order::recorded(source) {
        for note in derived.notes {
            console.warn(format_args!(
                "disks as those of {}@{}: {note}",
                source.image, source.version
            ));
        }
    }
}

fn tell(ready: &[NodeName], failed: &[Failed], dry_run: DryRun, console: &Console) -> Result<()> {
    if console.json() {
        console.print_json(&json!({ "install": ready, "failed": failed, "dry_run": dry_run.dry_run }))?;
    } else if !ready.is_empty() {
        let verb = if dry_run.dry_run {
            "would install"
        } else {
            "will install"
        };
        let set: NodeSet = ready.iter().cloned().collect();
        console.line(format_args!("{verb} {set} at the next boot"))?;
    }
    for failed in failed {
        console.say(format_args!(
            "error: cannot install {}: {}",
            failed.node, failed.error
        ));
        if !failed.hint.is_empty() {
            console.say(format_args!("hint: {}", failed.hint));
        }
    }
    Ok(())
}
