//! Ways from firmware to the installer that no run of `netboot` goes. Those have iPXE from the ROM of a BIOS' card, `snponly.efi`
//! and GRUB without a foreign DHCP server, and from there their local disks.

use std::time::Duration;

use simulcast_testkit::run::Run;
use simulcast_testkit::vm::site::{Site, dhcp, foreign_dhcp, proxy};
use simulcast_testkit::vm::{Card, Firmware, Machine, Turn};

use crate::site::{can_run, site};

/// Longest that a boot may take: ten times what it takes on a machine with nothing else to do.
const BOOT: Duration = Duration::from_secs(240);

/// What our installer says soon after it has started: that it is to be told what to do, or that the machine is unknown.
const INSTALLER: &str = "this machine";

/// Boots a machine into the mini-kernel, and says how long that took.
fn boots_the_mini_kernel(site: &Site<'_>, machine: &Machine) {
    let mut server = site.start("server").unwrap();
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
fn a_bios_boots_the_mini_kernel_by_pxelinux() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-pxelinux").unwrap());
    let site = site(&run, &dhcp("bios = \"pxelinux\"\n")).with_package().unwrap();
    let machine = Machine::new(&run, &site.network, "pxelinux", 14).unwrap();
    boots_the_mini_kernel(&site, &machine);
}

#[test]
fn a_bios_boots_the_mini_kernel_by_grub() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-bios-grub").unwrap());
    let site = site(&run, &dhcp("bios = \"grub\"\n")).with_package().unwrap();
    let machine = Machine::new(&run, &site.network, "biosgrub", 16).unwrap();
    boots_the_mini_kernel(&site, &machine);
}

#[test]
fn a_uefi_boots_the_mini_kernel_by_http_alone() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-uefi-http").unwrap());
    let site = site(&run, &dhcp("")).with_package().unwrap();
    let machine = Machine::new(&run, &site.network, "uefihttp", 13).unwrap();
    boots_the_mini_kernel(&site, &machine.firmware(Firmware::Uefi).card(Card::VirtioHttp));
}

#[test]
fn a_uefi_boots_the_mini_kernel_by_grub_beside_a_foreign_dhcp_server() {
    if !can_run() {
        return;
    }
    let (_turn, run) = (Turn::take().unwrap(), Run::start("vm-grub").unwrap());
    let site = site(&run, &proxy("uefi = \"grub\"\n")).with_package().unwrap();
    let _foreign = foreign_dhcp(&run, &site.network).unwrap();
    let machine = Machine::new(&run, &site.network, "grub", 17).unwrap();
    boots_the_mini_kernel(&site, &machine.firmware(Firmware::Uefi).card(Card::VirtioBare));
}
