//! Machines with empty disks become nodes.

use simulcast_testkit::netboot::{kinds, runs};
use simulcast_testkit::programs::Programs;

use crate::site::can_run;

#[test]
fn three_machines_with_empty_disks_become_nodes() {
    if can_run() {
        runs::three_at_once(&Programs::new(None)).unwrap();
    }
}

#[test]
fn an_interrupted_install_goes_on_and_other_versions_follow() {
    if can_run() {
        runs::interrupted_and_installed_again(&Programs::new(None)).unwrap();
    }
}

#[test]
fn volumes_systemd_boot_and_kexec_work_and_a_refusal_can_be_looked_into() {
    if can_run() {
        kinds::of_other_kinds(&Programs::new(None)).unwrap();
    }
}
