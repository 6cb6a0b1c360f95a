//! Kinds of storage, boot loaders and endings that the other runs have not, and an install that is refused first.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::runs::{BOOT, DISK, OFF, START, WHOLE, as_version, boots_again, installed, stop, tell};
use super::{Course, INSTALL, Lab, REFUSED, RESCUE, STOPPED, Times, all_reach, judge};
use crate::command::{command, read, run, run_with_input};
use crate::programs::Programs;
use crate::run::Run;
use crate::sshd::Operator;
use crate::vm::site::{LIMIT, dhcp};
use crate::vm::{Bus, Card, Firmware, Machine, Turn};
use crate::wait;

/// Bytes of the beginning of a disk that are compared: those of a foreign partition and more.
const BEGINNING: u64 = 64 << 20;

/// What firmware shows on the way to a boot from the network.
const ROM: &str = "iPXE";

/// Two machines start by iPXE and GRUB. One has a disk with somebody's data: it is refused, the operator looks around by
/// ssh, lets it be erased and has the next try stop at a break point. It gets volumes of a group, and goes on by kexec; switched
/// on again, it starts from its disk. The other one, a UEFI, gets systemd-boot, and starts by the firmware's entry alone.
///
/// # Errors
/// When anything is not so.
pub fn of_other_kinds(programs: &Programs) -> Result<Vec<Times>> {
    let (_turn, of) = (Turn::take()?, Run::start("kinds")?);
    let settings = dhcp("uefi = \"grub\"\n");
    let lab = Lab::new(&of, programs.clone(), &settings)?;
    let (network, operator) = (&lab.site.network, Operator::new(&of)?);
    let machines = [
        Machine::new(&of, network, "node01", 51)?.disk(Bus::Virtio, DISK)?,
        Machine::new(&of, network, "node02", 52)?
            .firmware(Firmware::Uefi)
            .card(Card::VirtioBare)
            .disk(Bus::Nvme, DISK)?,
    ];
    write_foreign_data(machines[0].disks()[0].path())?;
    let mut server = lab.site.start("server")?;
    let mut courses = [
        Course::begin(&machines[0], REFUSED)?,
        Course::begin(&machines[1], INSTALL)?,
    ];
    all_reach(&mut courses, "hello", START)?;
    lab.wait_unknown(&machines, START)?;
    let key = format!("rescue_keys={}", operator.public_key()?.trim());
    lab.adopt(&machines[0], "volumes", Some(21), &["finish=kexec", &key])?;
    lab.adopt(&machines[1], "entries", Some(22), &[])?;
    let [first, second] = courses;
    let first = refused_and_let_in(&lab, &machines[0], first, &operator)?;
    let mut courses = [first, second];
    all_reach(&mut courses[..1], "stopped", WHOLE)?;
    looks_around(&mut courses[0])?;
    all_reach(&mut courses, "login", WHOLE)?;
    let text = courses[0].vm().console();
    let (_, after) = text.rsplit_once("unmount: done in").context("it was installed")?;
    ensure!(
        !after.contains(ROM),
        "{} restarted instead of going on by kexec:\n{after}",
        machines[0].name()
    );
    let mut times = Vec::new();
    for ((machine, mut course), (attempts, own)) in machines
        .iter()
        .zip(courses)
        .zip([(1, judge::VOLUMES), (1, &[][..])])
    {
        let node = installed(&lab, machine, "golden01@1", attempts)?;
        tell(&mut course);
        times.push(Times::of(machine.name(), &course, &node));
        course.switch_off(OFF)?;
        as_version(&lab, machine, 1, own)?;
    }
    println!("{}", super::table(&times));
    boots_again(&lab, &machines[0])?;
    boots_by_its_entry(&machines[1])?;
    stop(&mut server)?;
    Ok(times)
}

/// A disk as another system has left it: a partition with a file system.
fn write_foreign_data(disk: &Path) -> Result<()> {
    let script = "label: gpt\nstart=2048, size=65536, type=linux, name=precious\n";
    run_with_input(command("sfdisk").arg("-q").arg(disk), script)?;
    run(command("mkfs.ext4")
        .args(["-q", "-L", "precious", "-E", "offset=1048576"])
        .arg(disk)
        .arg("32M"))?;
    Ok(())
}

/// The hash of the beginning of a disk.
fn beginning(disk: &Path) -> Result<blake3::Hash> {
    let file = File::open(disk).with_context(|| format!("open {}", disk.display()))?;
    let mut hasher = blake3::Hasher::new();
    hasher
        .update_reader(file.take(BEGINNING))
        .with_context(|| format!("read {}", disk.display()))?;
    Ok(hasher.finalize())
}

/// Waits until the machine has refused to erase somebody's data, looks at it by ssh, and restarts it by ssh: it waits in rescue.
/// Then the operator allows it, and restarts it again.
fn refused_and_let_in(
    lab: &Lab<'_>,
    machine: &Machine,
    course: Course,
    operator: &Operator,
) -> Result<Course> {
    let (name, disk) = (machine.name(), machine.disks()[0].path());
    let before = beginning(disk)?;
    let mut course = [course];
    all_reach(&mut course, "refused", START)?;
    let [mut course] = course;
    let log = wait::until("the log of the failure", LIMIT, || {
        let log = lab.site.operate("si-node", &["log", name])?;
        Ok(log.contains("reboot -f").then_some(log))
    })?;
    ensure!(
        log.contains("which this system did not put there") && log.contains("si-node set NODE wipe=true"),
        "the log of {name} does not say what happened:\n{log}"
    );
    let state = lab.node(name)?.state().to_owned();
    ensure!(state == "failed", "{name} is {state}");
    ensure!(
        beginning(disk)? == before,
        "a disk that was refused is another one than before"
    );
    looks_around_and_restarts(lab, &log, operator)?;
    let shown = course.vm().console().len();
    let mut course = [course.go_on(RESCUE)];
    all_reach(&mut course, "rescue", START)?;
    let [mut course] = course;
    let allowed = ["set", name, "wipe=true", "kernel_args=si.debug si.break=receive"];
    lab.site.operate("si-node", &allowed)?;
    lab.site.operate("si-install", &[name])?;
    looks_around_and_restarts(lab, &course.vm().console()[shown..], operator)?;
    Ok(course.go_on(STOPPED))
}

/// Looks at a machine in rescue by the ssh that it tells of, and restarts it.
fn looks_around_and_restarts(lab: &Lab<'_>, said: &str, operator: &Operator) -> Result<()> {
    let address = said
        .split_once("ssh root@")
        .and_then(|(_, rest)| rest.split([',', ';']).next());
    let address = address.context("the machine says where ssh gets in")?;
    let ssh = |words: &str| read(operator.to_stranger(&lab.site.server, address).arg(words));
    let seen = ssh("cat /proc/1/comm; blkid -s LABEL -o value /dev/vda1")?;
    ensure!(seen == "init\nprecious\n", "ssh shows {seen:?} in rescue");
    // The connection ends before the machine does.
    ssh("(sleep 1; reboot -f) > /dev/null 2>&1 &")?;
    Ok(())
}

/// Types into the shell of a break point: everything is mounted, and nothing has been received.
fn looks_around(course: &mut Course) -> Result<()> {
    let vm = course.vm();
    vm.type_text("echo $(grep -c ' /mnt' /proc/mounts) are mounted\n")?;
    vm.wait_for("3 are mounted", START)?;
    // Ctrl-C ends what runs, and not the shell.
    vm.type_text("sh -c 'echo begun $((2 + 2)); exec sleep 1000'\n")?;
    vm.wait_for("begun 4", START)?;
    vm.type_text("\x03echo interrupted $((1 + 1))\n")?;
    vm.wait_for("interrupted 2", START)?;
    vm.type_text("exit\n")
}

/// A UEFI without a network, and without the file that firmware looks for on any disk, starts by the entry that the install
/// has made in the firmware's list.
fn boots_by_its_entry(machine: &Machine) -> Result<()> {
    let system_partition = format!("{}@@1M", machine.disks()[0].path().display());
    run(command("mdel").args(["-i", &system_partition, "::/EFI/BOOT/BOOTX64.EFI"]))?;
    let mut vm = machine.power_on()?;
    vm.unplug()?;
    // The title in systemd-boot's menu.
    let booted = vm.wait_for("Debian GNU/Linux", BOOT)?;
    println!(
        "    {}: the firmware's entry after {:.1} s",
        machine.name(),
        booted.as_secs_f64()
    );
    vm.cut_power();
    Ok(())
}
