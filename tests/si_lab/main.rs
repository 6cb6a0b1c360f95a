//! `si-lab`: the laboratory for people. `scripts/demo` and `scripts/lab` call it.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod demo;
mod netboot;
mod report;
mod stage;
mod up;

/// Machines as network namespaces, and the product shown on them.
#[derive(Debug, Parser)]
#[command(name = "si-lab", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Capture a Debian golden client, multicast it to four nodes, update them; judge each step from outside.
    Demo(demo::Arguments),
    /// Install bare machines over the network, as QEMU emulates them; judge their disks from outside.
    Netboot(netboot::Arguments),
    /// Make an image server and nodes on a bridge, and keep them until Ctrl-C.
    Up(up::Arguments),
    /// Remove what killed runs have left.
    Clean,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    match arguments.command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Netboot(arguments) => netboot::run(&arguments),
        Command::Up(arguments) => match up::run(&arguments)? {},
        Command::Clean => {
            let removed = simulcast_testkit::run::clean()?;
            for run in &removed {
                println!("removed {run}");
            }
            eprintln!("{} killed run(s) had left something", removed.len());
            Ok(())
        }
    }
}
