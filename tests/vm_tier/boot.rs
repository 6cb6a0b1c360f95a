//! Whole boots, from firmware to the installer or to the local disk.

use std::fs::{self, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use simulcast_testkit::command::{command, run};
use simulcast_testkit::process::Process;
use simulcast_testkit::run::Run;
use simulcast_testkit::vm::{Bus, Card, Firmware, Machine, Turn, Vm};

use crate::site::{Site, can_run, dhcp, proxy};

/// Longest that a boot may take: ten times what it takes on a machine with nothing else to do.
const BOOT: Duration = Duration::from_secs(240);

/// What our installer says soon after it has started: that it is to be told what to do, or that the machine is unknown.
const INSTALLER: &str = "this machine";

/// What the disks of these tests say.
const DISK: &str = "the local disk boots";

/// Waits until the server has told the machine what to boot; returns how long that took since it was switched on.
fn told(server: &mut Process, vm: &Vm, machine: &Machine, what: &str) -> Duration {
    let said = format!("unknown machine {} boots {what}", machine.mac());
    server
        .wait_until(&said, BOOT, |server| {
            Ok(server.stderr().contains(&said).then_some(()))
        })
        .unwrap();
    vm.uptime()
}

/// Boots a machine into the mini-kernel, and says how long that took.
fn boots_the_mini_kernel(site: &Site<'_>, machine: &Machine) {
    let mut server = site.start("server");
    let mut vm = machine.power_on().unwrap();
    let asked = told(&mut server, &vm, machine, "the mini-kernel");
    let started = vm.wait_for(INSTALLER, BOOT).unwrap();
    eprintln!(
        "{}: {:.1} s in firmware and boot loader, {:.1} s until the installer runs",
        machine.name(),
        asked.as_secs_f64(),
        started.as_secs_f64()
    );
    vm.cut_power();
    server.stop(Duration::from_secs(20)).unwrap();
}

/// A DHCP server that is not ours, on a machine of its own, and knows nothing of booting.
fn foreign_dhcp(run: &Run, site: &Site<'_>) -> Process {
    let foreign = site.network.join("foreign", 2).unwrap();
    let mut dnsmasq = foreign.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--port=0",
        "--bind-interfaces",
        "--interface=eth0",
        "--no-ping",
    ]);
    dnsmasq.args([
        "--conf-file=/dev/null",
        "--dhcp-range=10.77.0.50,10.77.0.60,1h",
        "--log-facility=-",
    ]);
    dnsmasq.arg(format!(
        "--dhcp-leasefile={}",
        run.dir().join("foreign-leases").display()
    ));
    foreign.spawn("dnsmasq", &mut dnsmasq).unwrap()
}

/// Boots a machine into the mini-kernel by a boot loader whose configuration comes by TFTP, so that the server only sees it when
/// it has an address.
fn boots_by_tftp(site: &Site<'_>, machine: &Machine) {
    let mut server = site.start("server");
    let mut vm = machine.power_on().unwrap();
    let started = vm.wait_for(INSTALLER, BOOT).unwrap();
    eprintln!(
        "{}: {:.1} s until the installer runs",
        machine.name(),
        started.as_secs_f64()
    );
    vm.cut_power();
    server.stop(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_bios_boots_the_mini_kernel_by_the_rom_of_its_card() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-bios").unwrap());
    let site = Site::new(&run, &dhcp("")).with_package();
    let machine = Machine::new(&run, &site.network, "bios", 11).unwrap();
    boots_the_mini_kernel(&site, &machine);
}

#[test]
fn a_uefi_boots_the_mini_kernel_by_snponly() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-uefi").unwrap());
    let site = Site::new(&run, &dhcp("")).with_package();
    let machine = Machine::new(&run, &site.network, "uefi", 12).unwrap();
    boots_the_mini_kernel(&site, &machine.firmware(Firmware::Uefi).card(Card::VirtioBare));
}

#[test]
fn a_bios_boots_the_mini_kernel_by_pxelinux() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-pxelinux").unwrap());
    let site = Site::new(&run, &dhcp("bios = \"pxelinux\"\n")).with_package();
    let machine = Machine::new(&run, &site.network, "pxelinux", 16).unwrap();
    boots_by_tftp(&site, &machine);
}

#[test]
fn a_uefi_boots_the_mini_kernel_by_grub_beside_a_foreign_dhcp_server() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-grub").unwrap());
    let site = Site::new(&run, &proxy("uefi = \"grub\"\n")).with_package();
    let _foreign = foreign_dhcp(&run, &site);
    let machine = Machine::new(&run, &site.network, "grub", 17).unwrap();
    boots_by_tftp(&site, &machine.firmware(Firmware::Uefi).card(Card::VirtioBare));
}

#[test]
fn a_bios_boots_beside_a_foreign_dhcp_server() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-proxy").unwrap());
    let site = Site::new(&run, &proxy("")).with_package();
    let _foreign = foreign_dhcp(&run, &site);
    let machine = Machine::new(&run, &site.network, "proxied", 13).unwrap();
    boots_the_mini_kernel(&site, &machine);
}

/// A boot sector that says [`DISK`] on the serial port:
///
/// ```text
///   xor ax, ax; mov ds, ax; mov si, 0x7c15
///   next: lodsb; test al, al; jz end; mov dx, 0x3f8; out dx, al; jmp next
///   end: hlt; jmp end
/// ```
fn write_boot_sector(disk: &Path) {
    let mut sector = vec![
        0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x15, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x06, 0xba, 0xf8, 0x03, 0xee, 0xeb,
        0xf5, 0xf4, 0xeb, 0xfd,
    ];
    sector.extend(DISK.bytes());
    sector.resize(510, 0);
    sector.extend([0x55, 0xaa]);
    let mut file = OpenOptions::new().write(true).open(disk).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&sector).unwrap();
}

/// A GPT with an EFI system partition whose boot loader says [`DISK`].
fn write_system_partition(disk: &Path, work: &Path) {
    let early = work.join("early.cfg");
    fs::write(
        &early,
        format!("serial --unit=0\nterminal_output serial\necho \"{DISK}\"\nsleep 100\n"),
    )
    .unwrap();
    let loader = work.join("BOOTX64.EFI");
    run(command("grub-mkimage")
        .args(["-O", "x86_64-efi", "-p", "/grub", "-c"])
        .arg(&early)
        .arg("-o")
        .arg(&loader)
        .args(["serial", "terminal", "echo", "sleep", "normal"]))
    .unwrap();
    let script = "label: gpt\nstart=2048, size=65536, type=uefi\n";
    simulcast_testkit::command::run_with_input(command("sfdisk").arg("-q").arg(disk), script).unwrap();
    run(command("mkfs.fat")
        .args(["-F", "16", "--offset", "2048"])
        .arg(disk)
        .arg("32768"))
    .unwrap();
    let at = format!("{}@@1M", disk.display());
    run(command("mmd").args(["-i", &at, "::/EFI", "::/EFI/BOOT"])).unwrap();
    run(command("mcopy")
        .args(["-i", &at])
        .arg(&loader)
        .arg("::/EFI/BOOT/BOOTX64.EFI"))
    .unwrap();
}

/// Boots a machine that asks the network first, and is told to boot its disk.
fn boots_its_disk(site: &Site<'_>, machine: &Machine) {
    let mut server = site.start("server");
    let mut vm = machine.power_on().unwrap();
    let asked = told(&mut server, &vm, machine, "its local disk");
    let booted = vm.wait_for(DISK, BOOT).unwrap();
    eprintln!(
        "{}: {:.1} s in firmware and boot loader, {:.1} s until the disk boots",
        machine.name(),
        asked.as_secs_f64(),
        booted.as_secs_f64()
    );
    vm.cut_power();
    server.stop(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_bios_that_is_told_so_boots_its_disk() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-bios-disk").unwrap());
    let site = Site::new(&run, &dhcp("unknown = \"local\"\n"));
    let machine = Machine::new(&run, &site.network, "biosdisk", 14)
        .unwrap()
        .disk(Bus::Virtio, 64)
        .unwrap();
    write_boot_sector(machine.disks()[0].path());
    boots_its_disk(&site, &machine);
}

#[test]
fn a_uefi_that_is_told_so_boots_its_disk() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-uefi-disk").unwrap());
    let site = Site::new(&run, &dhcp("unknown = \"local\"\n"));
    let machine = Machine::new(&run, &site.network, "uefidisk", 15).unwrap();
    let machine = machine
        .firmware(Firmware::Uefi)
        .card(Card::VirtioBare)
        .disk(Bus::Nvme, 64)
        .unwrap();
    write_system_partition(machine.disks()[0].path(), run.dir());
    boots_its_disk(&site, &machine);
}
