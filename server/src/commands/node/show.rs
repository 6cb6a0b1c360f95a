//! `si-node show`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::install::NodeName;

use super::super::nodes;
use crate::extras::Extras;
use crate::inventory::{Inventory, Origin};
use crate::order::{self, Place};
use crate::state::{OrderRecord, OrderResult, Step, StepState};
use crate::text::{Utc, count};
use crate::view::{self, NodeDetails};

/// Show all that is known of nodes: settings and who says them, state, and the steps of the last install with their times
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The nodes
    #[arg(value_name = "NODES")]
    nodes: String,

    /// The order that each would get now, as JSON
    #[arg(long)]
    order: bool,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let inventory = nodes::inventory(console)?;
    let names = nodes::existing(&inventory, &args.nodes)?;
    if args.order {
        return orders(&names, &inventory, console);
    }
    let state = nodes::look(console)?;
    let mut all = Vec::new();
    for name in &names {
        all.extend(view::details(&inventory, &state, name)?);
    }
    if console.json() {
        console.print_json(&all)?;
        return Ok(Exit::Done);
    }
    let texts: Result<Vec<_>> = all.iter().map(text).collect();
    console.line(texts?.join("\n\n"))?;
    Ok(Exit::Done)
}

/// What the nodes would get. The number is 0: a number is given with the order.
fn orders(names: &[NodeName], inventory: &Inventory, console: &Console) -> Result<Exit> {
    let store = crate::store::open(console)?;
    let options = console.options();
    let extras = Extras::new(&options.state);
    let place = Place {
        config: &options.config,
        extras: &extras,
    };
    let mut orders = Vec::new();
    for name in names {
        let made = inventory.effective(name).map(|effective| {
            let source = order::source(&store, order::wanted(name, &effective)?)?;
            order::make(0, name, &effective, &source, place)
        });
        if let Some(made) = made {
            orders.push(told(made, name)?);
        }
    }
    console.print_json(&orders)?;
    Ok(Exit::Done)
}

/// A failure to make an order as the operator reads it.
fn told<T>(made: Result<T, order::MakeError>, name: &NodeName) -> Result<T> {
    let hint = made
        .as_ref()
        .err()
        .map(order::MakeError::hint)
        .filter(|hint| !hint.is_empty());
    let made = made.with_context(|| format!("cannot make the order of {name}"));
    match hint {
        Some(hint) => made.hint(hint),
        None => made,
    }
}

fn text(node: &NodeDetails) -> Result<String> {
    let mut text = format!("{}: {}\n", node.name, view::doing(&node.record));
    let mut line = |name: &str, value: String| {
        // A string takes all.
        writeln!(text, "  {name}: {value}").unwrap_or_default();
    };
    line("defined", node.defined.clone());
    let groups: Vec<_> = node.groups.iter().map(ToString::to_string).collect();
    line("groups", groups.join(" < "));
    let settings = serde_json::to_value(&node.settings).context("cannot show the settings")?;
    for (key, origin) in &node.origins {
        let value = key.split('.').try_fold(&settings, |value, part| value.get(part));
        let value = match value {
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => continue,
        };
        match origin {
            Origin::Node(_) => line(key, value),
            Origin::Group(group) => line(key, format!("{value}   (group {group})")),
        }
    }
    if let Some(since) = node.record.since {
        line("since", Utc(since).to_string());
    }
    if let (Some(address), Some(heard)) = (&node.record.address, node.record.heard) {
        line("heard", format!("{} from {address}", Utc(heard)));
    }
    if let Some(order) = &node.record.order {
        line("order", order_text(order));
    }
    for step in &node.steps {
        line("step", step_text(step));
    }
    text.truncate(text.trim_end().len());
    Ok(text)
}

fn order_text(order: &OrderRecord) -> String {
    let mut text = format!(
        "{}, {}@{}, given {}",
        order.number,
        order.image,
        order.version,
        Utc(order.made)
    );
    let result = match order.result {
        Some(OrderResult::Installed) => "installed",
        Some(OrderResult::Failed) => "failed",
        Some(OrderResult::GivenUp) => "given up",
        None => "not ended",
    };
    match order.ended {
        Some(ended) => {
            let seconds = u64::try_from(ended - order.made).unwrap_or(0);
            text += &format!(", {result} {} after {}", Utc(ended), count(seconds, "second"));
        }
        None => text += &format!(", {result}"),
    }
    if order.attempts > 1 {
        text += &format!(", in {} boots", order.attempts);
    }
    if let Some(up) = order.up {
        text += &format!(", up {}", Utc(up));
    }
    text
}

fn step_text(step: &Step) -> String {
    let tenths = |millis: u64| format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    let took = step.ended.map(|ended| tenths(ended.saturating_sub(step.began)));
    let state = match step.state {
        StepState::Running => "running",
        StepState::Done => "done",
        StepState::Failed => "FAILED",
    };
    let mut text = format!("{:<16} {:>9}  {state}", step.step, took.unwrap_or_default());
    if step.retries > 0 {
        text += &format!(", {}", count(step.retries.into(), "retry"));
    }
    if !step.detail.is_empty() {
        text += &format!(": {}", step.detail.escape_debug());
    }
    text
}
