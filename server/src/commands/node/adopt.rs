//! `si-node adopt`.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::install::{GroupName, Mac, NodeName, NodeState};

use super::super::nodes::{self, DryRun, usage};
use crate::boot::node::Uuid;
use crate::inventory::{Change, Edit, Inventory};
use crate::state::{State, Unknown};
use crate::text::now;
use crate::view;

/// Make machines that wait in the mini-kernel nodes, and have them installed
///
/// MACHINE is the address of a network card, the serial number or the UUID, as si-node list --unknown shows it. With
/// --all-unknown, as many machines as NODES has names get them, in the order in which they were first heard.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The machine, then its name; with --all-unknown names alone, as in node[01-03]
    #[arg(value_names = ["MACHINE", "NODES"], num_args = 1..=2, required = true)]
    who: Vec<String>,

    /// Adopt all machines that wait
    #[arg(long)]
    all_unknown: bool,

    /// A group that they are in; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupName>,

    /// Set a value, as in domain=example.org; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// The image that is installed [default: as groups say]
    #[arg(long, value_name = "IMAGE[@V]")]
    image: Option<simulcast_protocol::name::ImageRef>,

    /// The layout of disks: a file of layouts.d, without .toml [default: as groups say, or as in the image]
    #[arg(long, value_name = "NAME")]
    layout: Option<String>,

    /// Take the place of a node that has another network card so far
    #[arg(long)]
    replace: bool,

    /// Do not have them installed yet
    #[arg(long)]
    no_install: bool,

    #[command(flatten)]
    dry_run: DryRun,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let state = match args.dry_run.dry_run {
        true => nodes::look(console)?,
        false => State::open(&console.options().state)?,
    };
    let changes = args.changes()?;
    let mut pairs: Vec<(Unknown, NodeName)> = Vec::new();
    let after = nodes::edit(console, args.dry_run, |edit| {
        pairs = args.pairs(&view::unknown(edit.before(), &state)?, edit.before())?;
        pairs
            .iter()
            .try_for_each(|(machine, name)| adopt(edit, machine, name, &changes, args.replace))
    })?;
    let names: Vec<_> = pairs.iter().map(|(_, name)| name.clone()).collect();
    let installs = |name: &&NodeName| !args.no_install && has_image(&after, name);
    let (install, others): (Vec<_>, Vec<_>) = names.iter().partition(installs);
    if !args.dry_run.dry_run {
        state.decide(install.iter().copied(), NodeState::Install, now())?;
        // A machine whose place was taken loses its right to go on.
        state.decide(others, NodeState::Local, now())?;
        state.forget_unknown(pairs.iter().map(|(machine, _)| machine.mac))?;
    }
    if console.json() {
        let adopted: Vec<_> = pairs
            .iter()
            .map(|(machine, name)| json!({ "mac": machine.mac, "node": name }))
            .collect();
        console.print_json(
            &json!({ "adopted": adopted, "install": install, "dry_run": args.dry_run.dry_run }),
        )?;
    } else {
        let verb = if args.dry_run.dry_run {
            "would adopt"
        } else {
            "adopted"
        };
        for (machine, name) in &pairs {
            console.line(format_args!("{verb} {} as {name}", machine.mac))?;
        }
    }
    if !args.no_install && install.len() < names.len() {
        console.warn(
            "nobody says which image they get, so they are not installed: si-install NODES --image IMAGE",
        );
    }
    Ok(Exit::Done)
}

impl Args {
    fn changes(&self) -> Result<Vec<Change>> {
        let image = self.image.as_ref().map(|image| format!("image={image}"));
        let layout = self.layout.as_ref().map(|layout| format!("layout={layout}"));
        let all = image.iter().chain(&layout).chain(&self.set);
        let mut changes = all
            .map(|text| usage(Change::set(text)))
            .collect::<Result<Vec<_>>>()?;
        changes.extend(super::set::groups(&self.groups)?);
        Ok(changes)
    }

    /// Which machine becomes which node.
    fn pairs(&self, unknown: &[Unknown], before: &Inventory) -> Result<Vec<(Unknown, NodeName)>> {
        let (machine, text) = match &*self.who {
            [text] if self.all_unknown => (None, text),
            [machine, text] if !self.all_unknown => (Some(machine), text),
            _ => {
                return Err(anyhow!(
                    "a machine and a name are needed, or --all-unknown and names"
                ))
                .exit(Exit::Usage)
                .hint(
                    "si-node adopt 52:54:00:12:34:56 node01, or si-node adopt --all-unknown 'node[01-03]'",
                );
            }
        };
        let names = nodes::names(before, text)?;
        let machines = match machine {
            Some(machine) => vec![find(unknown, machine)?.clone()],
            None => unknown.to_vec(),
        };
        if machines.len() != names.len() {
            return Err(anyhow!(
                "there are {} machines to adopt and {} names",
                machines.len(),
                names.len()
            ))
            .hint("si-node list --unknown lists the machines; give one name for each");
        }
        let mut pairs: Vec<_> = machines.into_iter().zip(names).collect();
        forget_shared(&mut pairs);
        Ok(pairs)
    }
}

/// The machine that the operator means.
fn find<'a>(unknown: &'a [Unknown], text: &str) -> Result<&'a Unknown> {
    let mac = text.parse::<Mac>().ok();
    let matches = |machine: &&Unknown| {
        let dmi = &machine.hello.dmi;
        mac.is_some_and(|mac| machine.mac == mac || machine.hello.macs.contains(&mac))
            || dmi.serial == text
            || dmi.uuid.eq_ignore_ascii_case(text)
    };
    let found: Vec<_> = unknown.iter().filter(matches).collect();
    match (&*found, mac) {
        ([machine], _) => Ok(machine),
        ([], Some(mac)) => Err(anyhow!("no machine with network card {mac} waits to be adopted")).hint(
            format!("si-node add NODE --mac {mac} makes it a node before it boots"),
        ),
        ([], None) => Err(anyhow!("no machine {text:?} waits to be adopted"))
            .hint("si-node list --unknown lists those that do"),
        _ => Err(anyhow!("{text:?} is what {} machines are called", found.len()))
            .hint("give the address of its network card"),
    }
}

/// Forgets UUIDs that several machines have: some makers give all of theirs the same.
fn forget_shared(pairs: &mut [(Unknown, NodeName)]) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for (machine, _) in pairs.iter() {
        *seen.entry(machine.hello.dmi.uuid.clone()).or_default() += 1;
    }
    for (machine, _) in pairs {
        let uuid = &mut machine.hello.dmi.uuid;
        if seen.get(uuid).is_some_and(|&machines| machines > 1) {
            uuid.clear();
        }
    }
}

/// Gives a node its card, making the node if there is none.
fn adopt(
    edit: &mut Edit,
    machine: &Unknown,
    name: &NodeName,
    changes: &[Change],
    replace: bool,
) -> Result<()> {
    let mut all = vec![nodes::card(machine.mac)?];
    let uuid = Change::set_to("uuid", &machine.hello.dmi.uuid).ok();
    let own = machine.hello.dmi.uuid.parse::<Uuid>().ok();
    let taken = edit
        .before()
        .nodes()
        .iter()
        .any(|(other, node)| other != name && own.is_some() && node.entry.uuid == own);
    all.extend(uuid.filter(|_| !taken));
    all.extend_from_slice(changes);
    let subject = nodes::node(name);
    match edit.before().node(name).map(|node| node.mac) {
        None => usage(edit.add(&subject, &all)),
        Some(Some(old)) if old != machine.mac && !replace => {
            Err(anyhow!("{name} has network card {old} already"))
                .hint("--replace lets the machine take its place")
        }
        Some(_) => usage(edit.change(&subject, &all)),
    }
}

fn has_image(inventory: &Inventory, name: &NodeName) -> bool {
    inventory
        .effective(name)
        .is_some_and(|effective| effective.entry.image.is_some())
}
