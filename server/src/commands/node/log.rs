//! `si-node log`.

use anyhow::{Result, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_protocol::install::NodeName;

use super::super::nodes;

/// Print what a node has logged during its last install, or another one
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The node
    #[arg(value_name = "NODE")]
    node: NodeName,

    /// The number of the order, as si-node show --json lists them [default: the last one]
    #[arg(long, value_name = "N")]
    order: Option<u64>,
}

pub(super) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let (name, state) = (&args.node, nodes::look(console)?);
    nodes::existing(&nodes::inventory(console)?, name.as_str())?;
    let orders = state.orders(name)?;
    let order = match args.order {
        Some(number) => orders.iter().find(|order| order.number == number),
        None => orders.first(),
    };
    let Some(order) = order else {
        let what = args
            .order
            .map_or_else(|| "no order".to_owned(), |number| format!("no order {number}"));
        return Err(anyhow!("{name} has had {what} that is remembered")).hint(format!(
            "si-node show {name} --json lists its orders; si-install {name} has it installed when it boots next"
        ));
    };
    let log = state.log(order.number)?;
    if console.json() {
        console.print_json(&json!({ "node": name, "order": order.number, "log": log }))?;
    } else if log.is_empty() {
        console.say(format_args!(
            "{name} has logged nothing for order {}",
            order.number
        ));
    } else {
        console.data(|out| std::io::Write::write_all(out, harmless(&log).as_bytes()))?;
    }
    Ok(Exit::Done)
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
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(harmless("a\tb\r\n\u{1b}[2Jc"), "a\tb\n\\u{1b}[2Jc\n");
    }
}
