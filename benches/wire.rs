//! The multicast protocol by itself: the library's sender and receivers, each a process in a network namespace of its
//! own, against udpcast and uftp, over a matrix of receivers, loss and paths. No image, no server, no TCP: an offer
//! travels through a file, and what is sent is one file that nothing compresses.
//!
//! A session begins when all receivers are there. The time that counts is from the first data on the sender's link to
//! the end of the last receiver: how long each side takes to find its receivers is a matter of its waiting times.

mod alone;
mod data;
mod fault;
mod lab;
mod memory_session;
mod options;
mod ours;
mod part;
mod peers;
mod table;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use simulcast_testkit::command::{command, run};
use simulcast_testkit::run::Run;

use self::data::Data;
use self::fault::OTHERS;
use self::lab::Lab;
use self::options::{Case, Loss, Plan, SLOWER, Scenario, Sink};
use self::ours::Ours;
use self::peers::Theirs;
use self::table::OURS;
use crate::sample::{Sample, Side, interleave};

pub(crate) use self::alone::run_bench as run_stages;
pub(crate) use self::options::WireArguments;
pub(crate) use self::part::Part;

/// Its name in samples.
const NAME: &str = "wire";
/// The sides of a run with and without the odd receiver.
const WITHOUT: &str = "others alone";
const WITH: &str = "with the odd one";

/// Measures what `arguments` ask for, printing each case when it is done.
pub(crate) fn run_bench(arguments: &WireArguments, pairs: usize, samples: &mut Vec<Sample>) -> Result<()> {
    let plan = arguments.plan(pairs);
    let run = Run::start("bench-wire")?;
    let dir = mount_tmpfs(&run)?;
    let data = Data::make(&dir, plan.bytes)?;
    println!("wire: {} bytes, {} pairs\n", plan.bytes, plan.pairs);
    if plan.scenarios.contains(&Scenario::Matrix) {
        for case in &plan.cases {
            measure_case(&plan, case, &data, &dir, samples)?;
            println!("{}", table::case(case, samples));
        }
    }
    for &scenario in plan.scenarios.iter().filter(|&&s| s != Scenario::Matrix) {
        measure_odd(&plan, scenario, &data, &dir, samples)?;
    }
    Ok(())
}

/// Memory as a file system, so that no disk is the limit. The mount goes with this program's mount namespace.
fn mount_tmpfs(run: &Run) -> Result<PathBuf> {
    let dir = run.make_dir("tmpfs")?;
    run_mount(&dir).context("mount a tmpfs")?;
    Ok(dir)
}

fn run_mount(dir: &Path) -> Result<()> {
    run(command("mount")
        .args(["-t", "tmpfs", "-o", "size=90%", "none"])
        .arg(dir))?;
    Ok(())
}

fn measure_case(plan: &Plan, case: &Case, data: &Data, dir: &Path, samples: &mut Vec<Sample>) -> Result<()> {
    let lab = Lab::new(case, 0)?;
    let (sink, dir) = (case.sink, dir.to_owned());
    let ours = Ours {
        plan,
        lab: &lab,
        data,
        sink,
        dir: dir.clone(),
    };
    let theirs: Vec<Theirs<'_>> = plan
        .peers
        .iter()
        .map(|&peer| Theirs {
            peer,
            plan,
            lab: &lab,
            data,
            sink,
            dir: dir.clone(),
        })
        .collect();
    let mut sides: Vec<Side<'_>> = vec![(OURS, Box::new(|| ours.measure()))];
    for theirs in &theirs {
        sides.push((theirs.peer.name(), Box::new(|| theirs.measure())));
    }
    eprintln!("  {case}");
    add(&case.to_string(), plan.pairs, sides, samples)
}

/// Interleaves the sides of a case, whose samples bear its name.
fn add(case: &str, pairs: usize, sides: Vec<Side<'_>>, samples: &mut Vec<Sample>) -> Result<()> {
    let mut own = Vec::new();
    let measured = interleave(NAME, pairs, sides, &mut own);
    own.iter_mut()
        .for_each(|sample| sample.case = Some(case.to_owned()));
    samples.append(&mut own);
    measured
}

/// What one receiver that is unlike the others costs them.
fn measure_odd(
    plan: &Plan,
    scenario: Scenario,
    data: &Data,
    dir: &Path,
    samples: &mut Vec<Sample>,
) -> Result<()> {
    let case = Case {
        receivers: OTHERS,
        loss: Loss::NONE,
        path: options::Path::Shaped,
        rate: Some(SLOWER),
        sink: Sink::Memory,
    };
    let lab = Lab::new(&case, 1)?;
    fault::prepare(&lab, scenario)?;
    let ours = Ours {
        plan,
        lab: &lab,
        data,
        sink: case.sink,
        dir: dir.to_owned(),
    };
    let sides: Vec<Side<'_>> = vec![
        (WITHOUT, Box::new(|| ours.measure_odd(scenario, false))),
        (WITH, Box::new(|| ours.measure_odd(scenario, true))),
    ];
    let name = format!("{scenario:?}").to_lowercase();
    eprintln!("  {name}");
    add(&name, plan.pairs, sides, samples)?;
    println!("{}", fault::table(scenario, &name, samples)?);
    Ok(())
}
