//! `si-bench`: every figure that the README quotes, printed by one command, `scripts/bench`.
//!
//! Everything is measured against the tool that people use today, on the same input, in the same minute ([`sample`]),
//! from outside: processes with wait4 ([`measure`]), packets by interface counters. How to read the tables, and which
//! settings the peers get and why, is told in `docs/benchmarks.md`. A figure that misses its target is no failure of
//! the program; a result that is not identical is.

#![forbid(unsafe_code)]

mod bittorrent;
mod capture;
mod cases;
mod checkout;
mod disk;
mod figure;
mod fleet;
mod measure;
mod memory;
mod multicast;
mod order;
mod recapture;
mod sample;
mod stage;
mod update;
mod wire;

use std::cell::OnceCell;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, ValueEnum};
use simulcast_protocol::units::Bytes;
use simulcast_testkit::programs::Programs;

use crate::sample::Sample;
use crate::stage::Stage;

/// Measure Simulcast against the tools that people use today, and print every figure that the README quotes.
#[derive(Debug, Parser)]
#[command(
    name = "si-bench",
    version,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true
)]
struct Arguments {
    /// Which benchmarks [default: all].
    names: Vec<Bench>,
    /// How many interleaved pairs each measures.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pairs: u16,
    /// Write all samples to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the built programs are [default: where scripts/build puts them].
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    /// For bittorrent: two nodes and a small tree, to see that everything runs.
    #[arg(long)]
    small: bool,
    #[command(flatten)]
    order: order::OrderArguments,
    #[command(flatten)]
    cases: cases::CaseArguments,

    #[command(flatten)]
    swarm: bittorrent::SwarmArguments,
    #[command(flatten)]
    wire: wire::WireArguments,
    /// Not for people: this program as one end of a session.
    #[command(subcommand)]
    part: Option<wire::Part>,
}

/// A benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bench {
    /// First capture of a tree, against tar and zstd.
    Capture,
    /// Second capture after a change, against rsync.
    Recapture,
    /// Checkout of a version, against tar and zstd.
    Checkout,
    /// One version to four nodes, against udpcast and tar.
    Multicast,
    /// One version to 8 and 24 nodes by BitTorrent, against other clients.
    Bittorrent,
    /// The protocol by itself over a matrix of receivers, loss and paths, against udpcast and uftp.
    Wire,
    /// Each stage of the protocol's sender and receiver alone: which is the limit.
    Stages,
    /// Four nodes to the next version, against rsync.
    Update,
    /// Three kinds of updates to one node and to several, against rsync and casync.
    Cases,
    /// Peak memory of every program, with a file of 20 GiB.
    Memory,
}

impl Bench {
    /// Measures and prints.
    fn run(self, arguments: &Arguments, stage: &OnceCell<Stage>, samples: &mut Vec<Sample>) -> Result<()> {
        let pairs = usize::from(arguments.pairs);
        let stage = || -> Result<&Stage> {
            if let Some(stage) = stage.get() {
                return Ok(stage);
            }
            let new = Stage::new(Programs::new(arguments.programs.as_deref()), pairs)?;
            Ok(stage.get_or_init(|| new))
        };
        let (title, rows) = match self {
            Self::Capture => (capture::TITLE, capture::run_bench(stage()?, samples)),
            Self::Recapture => (recapture::TITLE, recapture::run_bench(stage()?, samples)),
            Self::Checkout => (checkout::TITLE, checkout::run_bench(stage()?, samples)),
            Self::Multicast => (multicast::TITLE, multicast::run_bench(stage()?, samples)),
            Self::Bittorrent => (
                bittorrent::TITLE,
                bittorrent::run_bench(stage()?, arguments.small, &arguments.swarm, samples),
            ),
            Self::Wire => return wire::run_bench(&arguments.wire, pairs, samples),
            Self::Stages => return wire::run_stages(samples),
            Self::Update => (update::TITLE, update::run_bench(stage()?, samples)),
            Self::Cases => {
                for (title, rows) in cases::run_bench(stage()?, &arguments.cases, samples)? {
                    println!("{}", figure::table(&title, &rows));
                }
                return Ok(());
            }
            Self::Memory => (memory::TITLE, memory::run_bench(stage()?, samples)),
        };
        println!("{}", figure::table(title, &rows?));
        Ok(())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match (arguments.order.order, &arguments.part) {
        (Some(order), _) => order::run(&arguments.order, order),
        (None, Some(part)) => part.run(),
        (None, None) => disk::enter_private_namespace().and_then(|()| run(&arguments)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "not root: network namespaces and files of other owners need root"
    );
    let names = if arguments.names.is_empty() {
        Bench::value_variants()
    } else {
        &arguments.names
    };
    println!("{}", machine(arguments)?);
    let stage = OnceCell::new();
    let mut all = Vec::new();
    let mut failed = Vec::new();
    for &bench in names {
        let mut samples = Vec::new();
        eprintln!("==> {bench:?}");
        match bench.run(arguments, &stage, &mut samples) {
            Ok(()) => {
                let load = sample::median(&samples.iter().map(|s| s.load).collect::<Vec<_>>());
                println!("  load average during it: {:.1}\n", load.unwrap_or_default());
            }
            // The others are still worth measuring.
            Err(error) => {
                eprintln!("error: {bench:?}: {error:#}");
                failed.push(format!("{bench:?}").to_lowercase());
            }
        }
        all.append(&mut samples);
        if let Some(path) = &arguments.json {
            let text = serde_json::to_string_pretty(&all).context("write samples as JSON")?;
            std::fs::write(path, text + "\n").with_context(|| format!("write {}", path.display()))?;
        }
    }
    ensure!(failed.is_empty(), "broken: {}", failed.join(", "));
    Ok(())
}

/// What the figures depend on, in one paragraph.
fn machine(arguments: &Arguments) -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).with_context(|| format!("read {path}"));
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|l| l.starts_with(name));
        line.and_then(|l| l.split(':').nth(1))
            .map_or_else(String::new, |v| v.trim().to_owned())
    };
    let memory = field(&read("/proc/meminfo")?, "MemTotal");
    let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    Ok(format!(
        "machine: {} x {}, {} of memory, Linux {}, ext4 in a file for what is written\n{} pairs; ratios are medians of the pairs' ratios\n",
        std::thread::available_parallelism().context("count the processors")?,
        field(&read("/proc/cpuinfo")?, "model name"),
        Bytes(kib << 10),
        read("/proc/sys/kernel/osrelease")?.trim(),
        arguments.pairs
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Arguments as clap::CommandFactory>::command().debug_assert();
        let given = Arguments::parse_from(["si-bench", "capture", "memory", "--pairs", "3"]);
        assert_eq!(given.names, [Bench::Capture, Bench::Memory]);
        assert_eq!(given.pairs, 3);
        assert!(Arguments::try_parse_from(["si-bench", "--pairs", "0"]).is_err());
        assert!(Arguments::try_parse_from(["si-bench", "--order", "random"]).is_err());
    }
}
