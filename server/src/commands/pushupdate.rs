//! `si-pushupdate`.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::store::{Store, StoredVersion};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::nodeset;

use super::nodes::{self, DryRun};
use crate::push::{Carried, Order, Outcome, Remote, Running, Share, Ways, carry, prepare, waves};
use crate::remote::{each, preamble, token};
use crate::state::{Push, State};
use crate::text::now;

/// Nodes that are asked at a time what they run: each is a process of ssh.
const ASKED_AT_ONCE: usize = 64;

/// Update nodes to a version of an image, together
///
/// Nodes say over ssh what they run; one update pack is made for all their versions and sent once by multicast. Nodes that cannot
/// be reached are listed; --resume updates them when they are back, and goes on where a push was stopped or interrupted.
/// Exits with 3 when some nodes do not have the version at the end.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The nodes, as in node[01-16], @group or node[1-9]!node3
    #[arg(value_name = "NODES", required_unless_present = "resume")]
    nodes: Option<String>,

    /// The image, and the version unless the newest is meant
    #[arg(long, value_name = "IMAGE[@V]", required_unless_present = "resume")]
    image: Option<ImageRef>,

    /// Go on with the last push: nodes that were down, failed, or had not had their turn
    #[arg(long, conflicts_with_all = ["nodes", "image", "canary", "wave", "max_failures", "root", "transport", "no_pack", "force"])]
    resume: bool,

    /// So many nodes first; when one of them fails, the others are left as they are
    #[arg(long, value_name = "N", default_value_t = 0)]
    canary: u32,

    /// So many nodes at a time, or such a share of all
    #[arg(long, value_name = "N|N%", default_value = "100%")]
    wave: Share,

    /// Stop before the next wave when more nodes failed than this number or share
    #[arg(long, value_name = "N|N%", default_value = "0")]
    max_failures: Share,

    /// The image server as the nodes reach it, as in http://server:9440 [default: where ssh comes from]
    #[arg(long, value_name = "URL")]
    server: Option<String>,

    /// The tree on the nodes
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: String,

    /// How chunks come, as si-updateclient is told
    #[arg(long, value_name = "TRANSPORT", default_value = "auto", value_parser = word)]
    transport: String,

    /// Send chunks of the version, and no update pack
    #[arg(long)]
    no_pack: bool,

    /// Go on even where a large part of a node's tree would be deleted
    #[arg(long)]
    force: bool,

    /// Seconds that a node has for its update
    #[arg(long, value_name = "SECONDS", default_value_t = 3600, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    timeout: u32,

    #[command(flatten)]
    dry_run: DryRun,
}

/// A push that is about to be carried out.
struct Planned {
    version: StoredVersion,
    ways: Ways,
    /// Those whose turn it is, in order, and what became of those before.
    nodes: Vec<(NodeName, Outcome)>,
    /// Its number, once it has one.
    number: Option<u64>,
}

/// Updates nodes.
///
/// # Errors
/// When it cannot be begun, or no node could be updated.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let store = crate::store::open(console)?;
    let _lock = alone(console)?;
    let state = State::open(&console.options().state)?;
    let planned = match args.resume {
        true => resumed(&args, &store, &state)?,
        false => fresh(&args, &store, console)?,
    };
    let remote = Remote {
        console,
        token: token(console)?,
        preamble: preamble(planned.ways.server.as_deref(), console)?,
        key: store.verifying_key().to_string(),
        ways: &planned.ways.clone(),
    };
    let todo: Vec<NodeName> = planned
        .nodes
        .iter()
        .filter(|(_, outcome)| !outcome.is_well())
        .map(|(node, _)| node.clone())
        .collect();
    let asked = each(&todo, ASKED_AT_ONCE, |node| remote.ask(node));
    let id = planned.version.signed.id;
    let (ready, running, found) = sort(&todo, asked, &id);
    if args.dry_run.dry_run {
        return show_plan(&planned, &ready, &running, &found, console);
    }
    let number = match planned.number {
        Some(number) => number,
        None => state.new_push(&planned.version.reference(), &id, &planned.ways, &todo, now())?,
    };
    state.push_outcomes(number, found.iter().map(|(node, outcome)| (node, outcome)), now())?;
    for (node, outcome) in &found {
        if let Outcome::Down { error } | Outcome::Failed { error } = outcome {
            console.warn(format_args!("{node}: {error}"));
        }
    }
    let pack = match planned.ways.pack && !ready.is_empty() {
        true => prepare(&store, &counted(&running), &planned.version.signed, console)?,
        false => None,
    };
    // Canaries have sung when others had their turn already.
    let sung = planned
        .nodes
        .iter()
        .any(|(_, outcome)| matches!(outcome, Outcome::Done(_)));
    let canaries = if sung { 0 } else { planned.ways.canary };
    let order = Order {
        push: number,
        image: &planned.version.reference(),
        pack,
        canaries,
        total: planned.nodes.len(),
    };
    let carried = carry(&remote, &state, &order, &ready)?;
    let push = state
        .last_push()?
        .context("the push was forgotten while it was carried out")?;
    if push.nodes.iter().all(|(_, outcome)| outcome.is_well()) {
        state.end_push(number, now())?;
    }
    report(&push, carried, console)
}

/// A push that the operator asks for.
fn fresh(args: &Args, store: &Store, console: &Console) -> Result<Planned> {
    let (Some(nodes), Some(image)) = (&args.nodes, &args.image) else {
        bail!("name nodes and an image");
    };
    let version = store.load(image)?;
    let inventory = nodes::inventory(console)?;
    let names = nodes::existing(&inventory, nodes)?;
    if !args.root.starts_with('/') {
        return Err(anyhow!("{:?} is no full path", args.root)).exit(Exit::Usage);
    }
    Ok(Planned {
        version,
        ways: Ways {
            canary: args.canary,
            wave: args.wave,
            max_failures: args.max_failures,
            server: args.server.clone(),
            root: args.root.clone(),
            transport: args.transport.clone(),
            pack: !args.no_pack,
            force: args.force,
            timeout: args.timeout,
        },
        nodes: names.into_iter().map(|node| (node, Outcome::Pending)).collect(),
        number: None,
    })
}

/// The last push, which has something left to be done.
fn resumed(args: &Args, store: &Store, state: &State) -> Result<Planned> {
    let push = state
        .last_push()?
        .ok_or_else(|| anyhow!("there is no push to go on with"))
        .exit(Exit::Usage)?;
    if push.ended.is_some() {
        return Err(anyhow!(
            "the last push, of {}, is through: all its nodes have the version",
            push.image
        ))
        .exit(Exit::Usage);
    }
    let version = store.load(&push.image)?;
    if version.signed.id != push.manifest {
        return Err(anyhow!(
            "{} is another version now than the one that was pushed",
            push.image
        ))
        .hint("begin anew with NODES and --image");
    }
    let mut ways = push.ways;
    if args.server.is_some() {
        ways.server.clone_from(&args.server);
    }
    Ok(Planned {
        version,
        ways,
        nodes: push.nodes,
        number: Some(push.number),
    })
}

/// Nodes that can be updated, with what they run, and those that need not or cannot be.
type Sorted = (Vec<NodeName>, Vec<Running>, Vec<(NodeName, Outcome)>);

fn sort(nodes: &[NodeName], asked: Vec<Result<Running, Outcome>>, wanted: &ManifestId) -> Sorted {
    let (mut ready, mut running, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for (node, answer) in nodes.iter().zip(asked) {
        match answer {
            Ok(runs) if runs.manifest == Some(*wanted) => found.push((node.clone(), Outcome::Already)),
            Ok(runs) => {
                ready.push(node.clone());
                running.push(runs);
            }
            Err(outcome) => found.push((node.clone(), outcome)),
        }
    }
    (ready, running, found)
}

fn counted(running: &[Running]) -> BTreeMap<ManifestId, usize> {
    let mut counted = BTreeMap::new();
    for manifest in running.iter().filter_map(|running| running.manifest) {
        *counted.entry(manifest).or_default() += 1;
    }
    counted
}

fn show_plan(
    planned: &Planned,
    ready: &[NodeName],
    running: &[Running],
    found: &[(NodeName, Outcome)],
    console: &Console,
) -> Result<Exit> {
    let ways = &planned.ways;
    let waves = waves(ready, ways.canary, ways.wave, planned.nodes.len());
    let mut from: BTreeMap<String, Vec<NodeName>> = BTreeMap::new();
    for (node, runs) in ready.iter().zip(running) {
        let image = runs.image.clone().unwrap_or_else(|| "unknown".to_owned());
        from.entry(image).or_default().push(node.clone());
    }
    let of = |wanted: fn(&Outcome) -> bool| -> Vec<NodeName> {
        let those = found.iter().filter(|(_, outcome)| wanted(outcome));
        those.map(|(node, _)| node.clone()).collect()
    };
    let already = of(|outcome| matches!(outcome, Outcome::Already));
    let down = of(|outcome| matches!(outcome, Outcome::Down { .. }));
    let failed = of(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let image = planned.version.reference();
    if console.json() {
        console.print_json(&json!({
            "dry_run": true, "image": image.to_string(), "from": from, "waves": waves,
            "already": already, "down": down, "failed": failed,
        }))?;
        return Ok(Exit::Done);
    }
    for (version, nodes) in &from {
        console.line(format_args!(
            "would update {} from {version} to {image}",
            fold(nodes)
        ))?;
    }
    for (number, wave) in waves.iter().enumerate() {
        console.line(format_args!("wave {}: {}", number + 1, fold(wave)))?;
    }
    for (nodes, what) in [
        (&already, "have it already"),
        (&down, "cannot be reached"),
        (&failed, "cannot be asked"),
    ] {
        if !nodes.is_empty() {
            console.line(format_args!("{what}: {}", fold(nodes)))?;
        }
    }
    Ok(Exit::Done)
}

fn report(push: &Push, carried: Carried, console: &Console) -> Result<Exit> {
    let those = |wanted: fn(&Outcome) -> bool| -> Vec<NodeName> {
        let those = push.nodes.iter().filter(|(_, outcome)| wanted(outcome));
        those.map(|(node, _)| node.clone()).collect()
    };
    let done = those(Outcome::is_well);
    let down = those(|outcome| matches!(outcome, Outcome::Down { .. }));
    let failed = those(|outcome| matches!(outcome, Outcome::Failed { .. }));
    let pending = those(|outcome| matches!(outcome, Outcome::Pending | Outcome::Running));
    let stopped = carried == Carried::Stopped;
    if console.json() {
        let nodes: BTreeMap<&str, &Outcome> = push
            .nodes
            .iter()
            .map(|(node, outcome)| (node.as_str(), outcome))
            .collect();
        console.print_json(&json!({
            "push": push.number, "image": push.image.to_string(), "manifest": push.manifest, "stopped": stopped,
            "nodes": nodes,
        }))?;
    } else {
        for (nodes, what) in [
            (&done, "done"),
            (&failed, "failed"),
            (&down, "down"),
            (&pending, "pending"),
        ] {
            if !nodes.is_empty() {
                console.line(format_args!("{what}: {}", fold(nodes)))?;
            }
        }
    }
    if stopped {
        console.warn("stopped: more nodes failed than may");
    }
    if !(down.is_empty() && failed.is_empty() && pending.is_empty()) {
        console.say("si-pushupdate --resume goes on with those that do not have it yet");
    }
    Ok(match (done.is_empty(), done.len() == push.nodes.len()) {
        (_, true) => Exit::Done,
        (true, false) => Exit::Failed,
        (false, false) => Exit::SomeNodes,
    })
}

/// Only one push at a time: two would undo each other's work.
fn alone(console: &Console) -> Result<File> {
    let path = console.options().state.join("push.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(anyhow!("another si-pushupdate is running; nothing was changed"))
                .hint("wait until it has ended")
        }
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

fn fold(nodes: &[NodeName]) -> String {
    nodeset::fold(nodes.iter().map(NodeName::as_str))
}

/// A word that a shell on a node takes as it is; the node's program says whether it means something.
fn word(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    good.then(|| text.to_owned())
        .ok_or_else(|| "use auto, multicast or http".to_owned())
}
