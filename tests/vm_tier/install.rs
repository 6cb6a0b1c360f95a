//! Machines with empty disks become nodes.

use simulcast_testkit::netboot::runs;
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
