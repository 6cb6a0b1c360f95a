//! `si-node log`.

use std::io::Write as _;

use anyhow::{Result, anyhow};
use serde::Serialize;
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::install::NodeName;

use super::super::nodes;
use crate::state::{OrderRecord, State};

/// Print what a node has logged during its last install, or another one, or search what nodes have logged
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node; several with --grep
    #[arg(value_name = "NODES")]
    nodes: String,

    /// The number of the order, as si-node show --json lists them [default: the last one; with --grep, all]
    #[arg(long, value_name = "N")]
    order: Option<u64>,

    /// Only lines with this text, in capitals or not, each with its node and order, newest orders first
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
}

/// A line that was searched for.
#[derive(Debug, Serialize)]
struct Found {
    node: NodeName,
    order: u64,
    /// Its number in the log, from 1.
    line: usize,
    text: String,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let names = nodes::existing(&nodes::inventory(console)?, &args.nodes)?;
    let state = nodes::look(console)?;
    if let Some(text) = &args.grep {
        return search(&names, args.order, text, &state, console);
    }
    let [name] = names.as_slice() else {
        return Err(anyhow!("a log is printed of one node, not of {}", names.len()))
            .exit(Exit::Usage)
            .hint("--grep TEXT searches the logs of several");
    };
    print(name, args.order, &state, console)
}

/// Prints the log of one order.
fn print(name: &NodeName, number: Option<u64>, state: &State, console: &Console) -> Result<Exit> {
    let orders = orders(name, number, state)?;
    let Some(order) = orders.first() else {
        let what = number.map_or_else(|| "no order".to_owned(), |number| format!("no order {number}"));
        return Err(anyhow!("{name} has had {what} that is remembered")).hint(format!(
            "si-node show {name} --json lists its orders; si-install {name} has it installed when it boots next"
        ));
    };
    let log = state.log(order.number)?;
    if console.json() {
        console.print_json(&json!({ "node": name, "order": order, "log": log }))?;
    } else if log.is_empty() {
        console.say(format_args!(
            "{name} has logged nothing for order {}",
            order.number
        ));
    } else {
        console.data(|out| out.write_all(harmless(&log).as_bytes()))?;
    }
    Ok(Exit::Done)
}

/// Prints the lines that hold a text, one log in memory at a time.
fn search(
    names: &[NodeName],
    number: Option<u64>,
    text: &str,
    state: &State,
    console: &Console,
) -> Result<Exit> {
    let mut all = Vec::new();
    for name in names {
        for order in orders(name, number, state)? {
            all.extend(lines(&state.log(order.number)?, text).map(|(line, text)| Found {
                node: name.clone(),
                order: order.number,
                line,
                text: text.to_owned(),
            }));
        }
    }
    if console.json() {
        console.print_json(&all)?;
    } else if all.is_empty() {
        console.say("no log that is kept has such a line");
    } else {
        console.data(|out| {
            all.iter().try_for_each(|found| {
                let (node, order) = (&found.node, found.order);
                write!(out, "{node} {order}:{}: {}", found.line, harmless(&found.text))
            })
        })?;
    }
    Ok(Exit::Done)
}

/// The orders of a node, newest first, or the one of this number.
fn orders(name: &NodeName, number: Option<u64>, state: &State) -> Result<Vec<OrderRecord>> {
    let mut orders = state.orders(name)?;
    orders.retain(|order| number.is_none_or(|number| order.number == number));
    Ok(orders)
}

/// The lines that hold a text, in capitals or not, with their numbers from 1.
fn lines<'a>(log: &'a str, text: &str) -> impl Iterator<Item = (usize, &'a str)> {
    let wanted = text.to_lowercase();
    (1..)
        .zip(log.lines())
        .filter(move |(_, line)| line.to_lowercase().contains(&wanted))
}

/// The log without what a terminal would obey: it comes from a machine that may not be ours.
fn harmless(log: &str) -> String {
    let mut text = String::with_capacity(log.len() + 1);
    for c in log.chars() {
        match c {
            '\n' | '\t' => text.push(c),
            '\r' => {}
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_capitals_or_not() {
        let found: Vec<_> = lines("Disk full\nall is well\r\n/dev/sda: DISK FULL", "disk Full").collect();
        assert_eq!(found, [(1, "Disk full"), (3, "/dev/sda: DISK FULL")]);
        assert_eq!(lines("", "").count(), 0);
    }

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(harmless("a\tb\r\n\u{1b}[2Jc"), "a\tb\n\\u{1b}[2Jc\n");
    }
}
