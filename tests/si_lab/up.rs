//! `si-lab up`: a laboratory to look around in.

use std::convert::Infallible;

use anyhow::Result;
use simulcast_testkit::command;
use simulcast_testkit::netns::{Network, Snooping};
use simulcast_testkit::run::Run;

/// First number of the nodes: node01 has the address 10.77.0.11.
pub(crate) const FIRST_NODE: u8 = 11;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// How many nodes.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=200))]
    nodes: u8,
    /// Per cent of the packets that each node loses.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
}

/// Makes the machines, says how to enter them, and waits for the end of the process.
pub(crate) fn run(arguments: &Arguments) -> Result<Infallible> {
    let run = Run::start("up")?;
    let network = Network::new(&run, Snooping::WithQuerier)?;
    let mut machines = vec![network.join("server", 1)?];
    for number in 0..arguments.nodes {
        let node = network.join(&format!("node{:02}", number + 1), FIRST_NODE + number)?;
        node.set_loss(arguments.loss)?;
        machines.push(node);
    }
    for machine in &machines {
        println!(
            "{:<8} {:<12} {} bash",
            machine.name(),
            machine.address(),
            command::line(&machine.command("env"))
        );
    }
    println!("Ctrl-C ends it and removes all of this.");
    // Nothing to do here: the run's remover acts when this process ends, by whatever signal.
    loop {
        std::thread::park();
    }
}
