//! `si-installer plan`: what an order would do on a machine, without doing it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::layout::plan::Plan;
use simulcast_image::layout::{Bytes, DiskFacts, Firmware, refuse};
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
        console.line(describe(&plan))?;
    }
    match refused {
        None => Ok(Exit::Done),
        Some(refused) => {
            console.say(format_args!("refused: {refused}"));
            Ok(Exit::Failed)
        }
    }
}

/// A plan for people, one line for each thing that is made.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for disk in &plan.disks {
        lines.push(format!(
            "disk.{} is {} ({})",
            disk.label,
            disk.path,
            Bytes(disk.bytes)
        ));
        for partition in &disk.partitions {
            let kept = if partition.keep.is_some() { ", kept" } else { "" };
            let kind = serde_json::to_string(&partition.kind).unwrap_or_default();
            let kind = kind.trim_matches('"');
            let (size, start) = (Bytes(partition.bytes), Bytes(partition.start));
            lines.push(format!(
                "  {} {}: {kind}, {size} from {start}{kept}",
                partition.path, partition.name
            ));
        }
    }
    for array in &plan.arrays {
        lines.push(format!(
            "raid.{} is {}: level {} of {}",
            array.label,
            array.path,
            array.level,
            array.members.join(", ")
        ));
    }
    for group in &plan.groups {
        lines.push(format!("group.{} of {}", group.label, group.members.join(", ")));
        for volume in &group.volumes {
            lines.push(format!("  {} {}: {}", volume.path, volume.label, volume.size));
        }
    }
    for fs in &plan.filesystems {
        let point = fs
            .mount
            .as_deref()
            .map(|point| format!(" at {point}"))
            .unwrap_or_default();
        let kept = if fs.keep { ", kept" } else { "" };
        lines.push(format!("{} on {}{point}{kept}", fs.kind.name(), fs.path));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use crate::testing::raid_plan;

    #[test]
    fn a_plan_reads_top_to_bottom() {
        let text = super::describe(&raid_plan());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "disk.first is /dev/vda (10GiB)",
                "  /dev/vda1 bios: bios-boot, 1MiB from 1MiB",
                "  /dev/vda2 boot: raid, 512MiB from 2MiB",
                "  /dev/vda3 data: raid, 9725MiB from 514MiB",
            ]
        );
        assert!(lines.contains(&"raid.data is /dev/md1: level 1 of /dev/vda3, /dev/vdb3"));
        assert!(lines.contains(&"ext4 on /dev/mapper/vg0-root at /"));
    }
}
