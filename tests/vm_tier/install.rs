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
