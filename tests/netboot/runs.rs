//! Whole runs, from empty disks to nodes. Each makes its own laboratory, and fails with what was not as it must be.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::judge::{self, Found};
use super::{Course, INSTALL, LOCAL, Lab, Node, Times, all_reach};
use crate::process::Process;
use crate::programs::Programs;
use crate::run::Run;
use crate::vm::site::{dhcp, foreign_dhcp, proxy};
use crate::vm::{Bus, Card, Firmware, Machine, Turn};

/// Longest that a machine may take from its power switch to the installer.
pub(super) const START: Duration = Duration::from_secs(240);

/// Longest that an install may take, and longest that a boot from disk may.
pub(super) const WHOLE: Duration = Duration::from_secs(900);

/// Longest that a start from disk may take.
pub(super) const BOOT: Duration = Duration::from_secs(300);

/// Longest that a machine may take to switch itself off.
pub(super) const OFF: Duration = Duration::from_secs(120);

/// Bytes that may be sent in vain when a server is stopped: those of the chunks that are under way, of which several are sent
/// interleaved.
const UNDER_WAY: u64 = 24 << 20;

/// Size of the nodes' disks in MiB.
pub(super) const DISK: u64 = 2048;

/// The section of `server.toml` that has one session for so many machines, at a rate that emulated ones can follow.
fn one_session(receivers: u32, rate: &str) -> String {
    format!("\n[multicast]\nmin_receivers = {receivers}\nmax_wait = \"60s\"\nmax_rate = \"{rate}\"\n")
}

/// Three machines with empty disks start together: a BIOS, a UEFI, and a BIOS with two disks that mirror each other. Unknown
/// at first, they are adopted, install from one session, restart from disk and report.
///
/// # Errors
/// When anything is not so.
pub fn three_at_once(programs: &Programs) -> Result<Vec<Times>> {
    let (_turn, run) = (Turn::take()?, Run::start("three")?);
    let lab = Lab::new(&run, programs.clone(), &(dhcp("") + &one_session(3, "100Mbit")))?;
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
        lab.adopt(machine, layout, Some(number), &[])?;
    }
    let before = lab.site.server.counters()?;
    all_reach(&mut courses, "received", WHOLE)?;
    let sent = lab.site.server.counters()?.since(before).sent_bytes;
    all_reach(&mut courses, "login", WHOLE)?;
    let mut times = Vec::new();
    let mut found = Vec::new();
    for (machine, mut course) in machines.iter().zip(courses) {
        let own = if machine.disks().len() > 1 {
            copies_afterwards(&mut course)?;
            judge::MIRROR
        } else {
            &[]
        };
        let node = installed(&lab, machine, "golden01@1", 1)?;
        tell(&mut course);
        let address = node.0["address"].as_str().unwrap_or_default();
        ensure!(
            address == format!("10.77.0.1{}", times.len() + 1),
            "{} has the address {address:?}",
            machine.name()
        );
        times.push(Times::of(machine.name(), &course, &node));
        course.switch_off(OFF)?;
        found.push(as_version(&lab, machine, 1, own)?);
    }
    println!("{}", super::table(&times));
    let (stored, loaded) = (lab.stored_bytes(1)?, lab.package_bytes()?);
    println!("kernel and initramfs of the mini-kernel have {loaded} bytes");
    println!("the server sent {sent} bytes to three machines; the version has {stored} in its store");
    let log = server.stderr();
    let sessions = log.matches("multicast session opened").count();
    // What a machine that falls behind gets by HTTP is sent to it alone.
    ensure!(
        sessions == 1 && sent < stored * 2,
        "{sessions} sessions and {sent} bytes for a version of {stored}: not one session for all"
    );
    ensure!(
        found[0].machine_id != found[1].machine_id && found[1].host_key != found[2].host_key,
        "two nodes have the same identity: {found:?}"
    );
    stop(&mut server)?;
    Ok(times)
}

/// One machine beside a foreign DHCP server. Its power is cut in the middle of receiving, the server restarts in the middle
/// of the second try, and it ends installed without what had arrived being sent again. Then the golden client changes, and
/// `si-install` brings the newer version, then the older one again.
///
/// # Errors
/// When anything is not so.
pub fn interrupted_and_installed_again(programs: &Programs) -> Result<Vec<Times>> {
    let (_turn, run) = (Turn::take()?, Run::start("again")?);
    let lab = Lab::new(&run, programs.clone(), &(proxy("") + &one_session(1, "40Mbit")))?;
    let _foreign = foreign_dhcp(&run, &lab.site.network)?;
    let machines = [Machine::new(&run, &lab.site.network, "node01", 31)?.disk(Bus::Virtio, DISK)?];
    let [machine] = &machines;
    let mut server = lab.site.start("server")?;
    let mut first = [Course::begin(machine, INSTALL)?];
    all_reach(&mut first, "hello", START)?;
    lab.wait_unknown(&machines, START)?;
    lab.adopt(machine, "plain", None, &[])?;
    all_reach(&mut first, "receive", WHOLE)?;
    let cut = lab.wait_received(machine.name(), 60)?;
    let [first] = first;
    first.cut_power();
    println!("power cut after {cut} bytes");
    let before = lab.site.server.counters()?;
    let mut second = [Course::begin(machine, INSTALL)?];
    all_reach(&mut second, "receive", WHOLE)?;
    let seen = lab.wait_received(machine.name(), 80)?;
    stop(&mut server)?;
    let sent = lab.site.server.counters()?.since(before).sent_bytes;
    println!("the server stops after {seen} bytes");
    let mut server = lab.site.start("server-again")?;
    all_reach(&mut second, "received", WHOLE)?;
    let sent = sent
        + lab
            .site
            .server
            .counters()?
            .since(before)
            .sent_bytes
            .saturating_sub(sent);
    all_reach(&mut second, "login", WHOLE)?;
    let [mut second] = second;
    tell(&mut second);
    let text = second.vm().console();
    let there = already_there(&text)?;
    let node = installed(&lab, machine, "golden01@1", 2)?;
    let times = vec![Times::of(machine.name(), &second, &node)];
    second.switch_off(OFF)?;
    as_version(&lab, machine, 1, &[])?;
    let (stored, loaded) = (lab.stored_bytes(1)?, lab.package_bytes()?);
    let accepted = accepted(&text)?;
    let figures = format!(
        "{there} chunks were there; {accepted} bytes of {stored} arrived then; {sent} were sent, among them the {loaded} of \
         kernel and initramfs"
    );
    println!("{figures}");
    let most = loaded + accepted + accepted / 20 + UNDER_WAY;
    ensure!(
        there > 0 && accepted < stored * 9 / 10 && sent < most,
        "what had arrived was sent again: {figures}"
    );

    // From here on it switches itself off instead of starting from its disk, which then is as the installer left it.
    lab.site
        .operate("si-node", &["set", machine.name(), "finish=poweroff"])?;
    lab.change_golden()?;
    lab.site.operate("si-install", &[machine.name()])?;
    installs_and_ends(&lab, machine, 2)?;
    lab.site
        .operate("si-install", &[machine.name(), "--image", "golden01@1"])?;
    installs_and_ends(&lab, machine, 1)?;
    stop(&mut server)?;
    println!("{}", super::table(&times));
    Ok(times)
}

/// The array of an installed machine has made next to nothing alike during the install.
fn copies_afterwards(course: &mut Course) -> Result<()> {
    let text = course.vm().console();
    let said = text
        .split_once("makes its members alike when the system has started; ")
        .and_then(|(_, rest)| rest.split_whitespace().next()?.parse::<u64>().ok());
    let mib = said.with_context(|| format!("{} does not say what its array does", course.name()))?;
    println!("    {}: {mib} MiB of {DISK} were copied meanwhile", course.name());
    ensure!(mib < DISK / 8, "{} copies meanwhile", course.name());
    Ok(())
}

/// Prints what an installer says of itself: how the version came, and its memory.
pub(super) fn tell(course: &mut Course) {
    let text = course.vm().console();
    let told = |line: &&str| line.starts_with("installed") || line.contains(" by multicast, ");
    for line in text.lines().filter(told) {
        println!("    {}: {line}", course.name());
    }
}

/// Installs a machine that switches itself off then, and compares its disk.
fn installs_and_ends(lab: &Lab<'_>, machine: &Machine, version: u32) -> Result<()> {
    let mut course = Course::begin(machine, INSTALL)?;
    course.vm().wait_off(WHOLE)?;
    let (name, node) = (machine.name(), lab.node(machine.name())?);
    ensure!(
        node.state() == "installed" && node.version() == format!("golden01@{version}"),
        "{name} is {} with {}",
        node.state(),
        node.version()
    );
    judged(lab, machine, version, &[judge::IDENTITY, judge::REPORT])?;
    Ok(())
}

/// How many chunks an installer has found on the disk, as it says on the console.
fn already_there(console: &str) -> Result<u64> {
    let line = console
        .lines()
        .find(|line| line.contains("chunks are there already"));
    let line = line.context("the installer has found nothing of what had arrived")?;
    let count = line
        .split_whitespace()
        .nth(1)
        .and_then(|count| count.parse().ok());
    count.with_context(|| format!("read the number of chunks in {line:?}"))
}

/// How many bytes of chunks an installer has received, as it says on the console: `receive: 70.1 MB by multicast, 0 B by HTTP`.
fn accepted(console: &str) -> Result<u64> {
    let line = console.lines().find(|line| line.contains(" by multicast, "));
    let line = line.context("the installer does not say what it received")?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut sum = 0.0;
    for at in words.windows(3).filter(|words| words[2] == "by") {
        let unit = match at[1] {
            "B" => 1.0,
            "kB" => 1e3,
            "MB" => 1e6,
            _ => 1e9,
        };
        let number: f64 = at[0].parse().with_context(|| format!("read {line:?}"))?;
        sum += number * unit;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a size of a version is positive and far below 2^52"
    )]
    Ok(sum.max(0.0) as u64)
}

/// Waits until a node is installed and up, by what the server knows of it.
pub(super) fn installed(lab: &Lab<'_>, machine: &Machine, version: &str, attempts: u64) -> Result<Node> {
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

/// Compares the disk of a machine that has started and is off with a version; `own` is what its layout makes its own besides.
pub(super) fn as_version(lab: &Lab<'_>, machine: &Machine, version: u32, own: &[&str]) -> Result<Found> {
    judged(
        lab,
        machine,
        version,
        &[judge::IDENTITY, judge::REPORT, judge::STARTED, own],
    )
}

fn judged(lab: &Lab<'_>, machine: &Machine, version: u32, except: &[&[&str]]) -> Result<Found> {
    let found = judge::look(machine, &lab.tree(version)?, lab.site.state.as_path(), except)?;
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
pub(super) fn boots_again(lab: &Lab<'_>, machine: &Machine) -> Result<()> {
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

pub(super) fn stop(server: &mut Process) -> Result<()> {
    let status = server.stop(Duration::from_secs(30))?;
    ensure!(status.success(), "the server ended with {status}");
    Ok(())
}
