//! Whole runs, from empty disks to nodes. Each makes its own laboratory, and fails with what was not as it must be.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::judge::{self, Found};
use super::{Course, INSTALL, LOCAL, Lab, Node, Times, all_reach};
use crate::process::Process;
use crate::programs::Programs;
use crate::run::Run;
use crate::vm::site::dhcp;
use crate::vm::{Bus, Card, Firmware, Machine, Turn};

/// Longest that a machine may take from its power switch to the installer.
const START: Duration = Duration::from_secs(240);

/// Longest that an install may take, and longest that a boot from disk may.
const WHOLE: Duration = Duration::from_secs(900);

/// Longest that a start from disk may take.
const BOOT: Duration = Duration::from_secs(300);

/// Longest that a machine may take to switch itself off.
const OFF: Duration = Duration::from_secs(120);

/// Size of the nodes' disks in MiB.
const DISK: u64 = 2048;

/// The section of `server.toml` that has one session for so many machines.
fn one_session(receivers: u32) -> String {
    format!("\n[multicast]\nmin-receivers = {receivers}\nmax-wait = \"60s\"\n")
}

/// Three machines with empty disks start together: a BIOS, a UEFI, and a BIOS with two disks that mirror each other. Unknown
/// at first, they are adopted, install from one session, restart from disk and report. Then the first is switched on
/// again, and does not install again.
///
/// # Errors
/// When anything is not so.
pub fn three_at_once(programs: &Programs) -> Result<Vec<Times>> {
    let (_turn, run) = (Turn::take()?, Run::start("three")?);
    let lab = Lab::new(&run, programs.clone(), &(dhcp("") + &one_session(3)))?;
    let network = &lab.site.network;
    let machines = [
        Machine::new(&run, network, "node01", 21)?.disk(Bus::Virtio, DISK)?,
        Machine::new(&run, network, "node02", 22)?
            .firmware(Firmware::Uefi)
            .card(Card::VirtioBare)
            .disk(Bus::Nvme, DISK)?,
        Machine::new(&run, network, "node03", 23)?
            .disk(Bus::Virtio, DISK)?
            .disk(Bus::Virtio, DISK)?,
    ];
    let mut server = lab.site.start("server")?;
    let mut courses = Vec::new();
    for machine in &machines {
        courses.push(Course::begin(machine, INSTALL)?);
    }
    all_reach(&mut courses, "hello", START)?;
    lab.wait_unknown(&machines, START)?;
    for (machine, (layout, number)) in machines
        .iter()
        .zip([("plain", 11), ("plain", 12), ("mirror", 13)])
    {
        lab.adopt(machine, layout, number)?;
    }
    let before = lab.site.server.counters()?;
    all_reach(&mut courses, "received", WHOLE)?;
    let sent = lab.site.server.counters()?.since(before).sent_bytes;
    all_reach(&mut courses, "login", WHOLE)?;
    let mut times = Vec::new();
    let mut found = Vec::new();
    for (machine, course) in machines.iter().zip(courses) {
        let node = installed(&lab, machine, "golden01@1", 1)?;
        times.push(Times::of(machine.name(), &course, &node));
        course.switch_off(OFF)?;
        found.push(as_version(&lab, machine, 1)?);
    }
    println!("{}", super::table(&times));
    let stored = lab.stored_bytes(1)?;
    println!("the server sent {sent} bytes to three machines; the version has {stored} in its store");
    ensure!(
        sent < stored * 3 / 2,
        "{sent} bytes were sent for a version of {stored}: not one session for all"
    );
    ensure!(
        found[0].machine_id != found[1].machine_id && found[1].host_key != found[2].host_key,
        "two nodes have the same identity: {found:?}"
    );
    boots_again(&lab, &machines[0])?;
    stop(&mut server)?;
    Ok(times)
}

/// Waits until a node is installed and up, by what the server knows of it.
fn installed(lab: &Lab<'_>, machine: &Machine, version: &str, attempts: u64) -> Result<Node> {
    let node = lab.wait_up(machine.name(), BOOT)?;
    let name = machine.name();
    ensure!(node.state() == "installed", "{name} is {}", node.state());
    ensure!(
        node.version() == version,
        "{name} has {} instead of {version}",
        node.version()
    );
    let tried = &node.0["order"]["attempts"];
    ensure!(
        *tried == attempts,
        "{name} booted the installer {tried} times for one order"
    );
    Ok(node)
}

/// Compares the disk of a machine that is off with a version.
fn as_version(lab: &Lab<'_>, machine: &Machine, version: u32) -> Result<Found> {
    let mut except = vec![judge::IDENTITY, judge::STARTED];
    if machine.disks().len() > 1 {
        except.push(judge::MIRROR);
    }
    let found = judge::look(machine, &lab.tree(version)?, lab.site.state.as_path(), &except)?;
    let name = machine.name();
    ensure!(
        found.differences.is_empty(),
        "{name} differs from golden01@{version}:\n{}",
        found.differences.join("\n")
    );
    ensure!(found.hostname == name, "{name} calls itself {:?}", found.hostname);
    ensure!(
        found.machine_id.len() == 32,
        "{name} has the machine-id {:?}",
        found.machine_id
    );
    Ok(found)
}

/// Switches an installed machine on: it starts from its disk, and no order is carried out.
fn boots_again(lab: &Lab<'_>, machine: &Machine) -> Result<()> {
    let order = lab.node(machine.name())?.order();
    let mut course = [Course::begin(machine, LOCAL)?];
    all_reach(&mut course, "login", BOOT)?;
    let [mut course] = course;
    let text = course.vm().console();
    let login = format!("{} login: ", machine.name());
    ensure!(
        text.contains(&login),
        "the console of {} has no {login:?}",
        machine.name()
    );
    let after = lab.node(machine.name())?;
    ensure!(
        after.order() == order && after.state() == "installed",
        "{} was installed again: {}",
        machine.name(),
        after.0
    );
    course.switch_off(OFF)
}

fn stop(server: &mut Process) -> Result<()> {
    let status = server.stop(Duration::from_secs(30))?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}
