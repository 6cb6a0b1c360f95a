//! `si-node list`.

use anyhow::Result;
use simulcast_cli::{Align, Console, Exit, Table};
use simulcast_protocol::install::NodeState;
use simulcast_protocol::units::Bytes;

use super::super::nodes;
use crate::state::{OrderResult, Unknown};
use crate::text::Utc;
use crate::view::{self, NodeRow};

/// List nodes with their states, or machines that nobody has adopted
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only these nodes
    #[arg(value_name = "NODES", conflicts_with = "unknown")]
    nodes: Option<String>,

    /// Only nodes in this state: install, installing, installed, failed, rescue or local
    #[arg(long = "in", value_name = "STATE", conflicts_with = "unknown")]
    only: Option<NodeState>,

    /// Machines that are in the mini-kernel and that si-node adopt can adopt
    #[arg(long)]
    unknown: bool,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let state = nodes::look(console)?;
    let inventory = nodes::inventory(console)?;
    if args.unknown {
        return unknown(&view::unknown(&inventory, &state)?, console);
    }
    let mut rows = view::rows(&inventory, &state)?;
    if let Some(text) = &args.nodes {
        let wanted = nodes::existing(&inventory, text)?;
        let mut by_name: std::collections::BTreeMap<_, _> =
            rows.into_iter().map(|row| (row.name.clone(), row)).collect();
        rows = wanted.iter().filter_map(|name| by_name.remove(name)).collect();
    }
    rows.retain(|row| args.only.is_none_or(|state| row.record.state == state));
    if console.json() {
        console.print_json(&rows)?;
    } else if rows.is_empty() {
        console.say("there are no such nodes");
    } else {
        console.table(&table(&rows))?;
    }
    Ok(Exit::Done)
}

fn table(rows: &[NodeRow]) -> Table {
    let mut table = Table::new(&[
        ("NODE", Align::Left),
        ("STATE", Align::Left),
        ("IMAGE", Align::Left),
        ("INSTALLED", Align::Left),
        ("ADDRESS", Align::Left),
        ("SINCE", Align::Left),
    ]);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    for row in rows {
        let record = &row.record;
        let installed = record
            .order
            .as_ref()
            .filter(|order| order.result == Some(OrderResult::Installed));
        table.row([
            row.name.to_string(),
            view::doing(record),
            or_dash(row.image.clone()),
            or_dash(installed.map(|order| format!("{}@{}", order.image, order.version))),
            or_dash(record.address.clone()),
            or_dash(record.since.map(|since| Utc(since).to_string())),
        ]);
    }
    table
}

fn unknown(machines: &[Unknown], console: &Console) -> Result<Exit> {
    if console.json() {
        console.print_json(&machines)?;
        return Ok(Exit::Done);
    }
    if machines.is_empty() {
        console.say("no machine waits to be adopted");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&[
        ("MAC", Align::Left),
        ("ADDRESS", Align::Left),
        ("FIRST", Align::Left),
        ("LAST", Align::Left),
        ("FIRMWARE", Align::Left),
        ("CPUS", Align::Right),
        ("MEMORY", Align::Right),
        ("DISKS", Align::Left),
        ("MACHINE", Align::Left),
    ]);
    for machine in machines {
        table.row(cells(machine));
    }
    console.table(&table)?;
    Ok(Exit::Done)
}

fn cells(machine: &Unknown) -> [String; 9] {
    let hello = &machine.hello;
    let disks: Vec<_> = hello
        .disks
        .iter()
        .map(|disk| format!("{} {}", disk.name, Bytes(disk.size)))
        .collect();
    let dmi = [&hello.dmi.vendor, &hello.dmi.product, &hello.dmi.serial];
    let words: Vec<&str> = dmi
        .into_iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    [
        machine.mac.to_string(),
        machine.address.clone(),
        Utc(machine.first).to_string(),
        Utc(machine.last).to_string(),
        hello.firmware.clone(),
        hello.processors.to_string(),
        Bytes(hello.memory).to_string(),
        disks.join(", "),
        words.join(" "),
    ]
}
