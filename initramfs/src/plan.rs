//! `si-installer plan`: what an order would do on a machine, without doing it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::layout::plan::Plan;
use simulcast_image::layout::{DiskFacts, Firmware, refuse};
use simulcast_image::order::Order;

use crate::install::{self, step};

/// Show what an order would do on a machine
///
/// Nothing is changed. The order is its JSON without the signature; the facts are a JSON list of disks, or those of this
/// machine.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The order, as si-node show NODE --order prints it
    #[arg(long, value_name = "FILE")]
    order: PathBuf,

    /// Disks of the machine, as --json of this command prints them [default: this machine's]
    #[arg(long, value_name = "FILE")]
    facts: Option<PathBuf>,

    /// As on a machine of this firmware [default: this machine's]
    #[arg(long, value_name = "bios|uefi", value_parser = parse_firmware)]
    firmware: Option<Firmware>,
}

fn parse_firmware(text: &str) -> Result<Firmware, String> {
    match text {
        "bios" => Ok(Firmware::Bios),
        "uefi" => Ok(Firmware::Uefi),
        _ => Err("use bios or uefi".to_owned()),
    }
}

#[derive(Serialize)]
struct Shown<'a> {
    steps: Vec<&'static str>,
    resumes: bool,
    refused: Option<String>,
    plan: &'a Plan,
    disks: &'a [DiskFacts],
}

pub(crate) fn run(args: &Args, console: &Console) -> Result<Exit> {
    let read = |path: &PathBuf| {
        fs::read(path)
            .with_context(|| format!("cannot read {}", path.display()))
            .exit(Exit::Usage)
    };
    let order: Order = serde_json::from_slice(&read(&args.order)?)
        .context("this is no order")
        .exit(Exit::Usage)?;
    order.check().exit(Exit::Usage)?;
    let disks: Vec<DiskFacts> = match &args.facts {
        Some(path) => serde_json::from_slice(&read(path)?)
            .context("these are no disks")
            .exit(Exit::Usage)?,
        None => install::disks()?,
    };
    let firmware = args.firmware.unwrap_or_else(install::firmware);
    let plan = install::plan(&order, &disks, firmware)?;
    let resumes = install::resumes(&order, &plan, &disks);
    let wipe = order.wipe || order.layout.wipe;
    let refused = refuse(&plan, &disks, &order.node, wipe || resumes)
        .err()
        .map(|error| error.to_string());
    let steps = step::install(&order, &plan, resumes);
    let all = step::FIRST.iter().chain(&step::BEFORE_DISKS).chain(&steps);
    if console.json() {
        console.print_json(&Shown {
            steps: all.map(|step| step.name()).collect(),
            resumes,
            refused: refused.clone(),
            plan: &plan,
            disks: &disks,
        })?;
    } else {
        for step in all {
            console.line(format_args!("{:<14} {}", step.name(), step.text()))?;
        }
        console.line(install::describe(&plan))?;
    }
    match refused {
        None => Ok(Exit::Done),
        Some(refused) => {
            console.say(format_args!("refused: {refused}"));
            Ok(Exit::Failed)
        }
    }
}
