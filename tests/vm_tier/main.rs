//! Machines that boot over the network, as QEMU emulates them, and the service that they ask.

#![expect(
    clippy::unwrap_used,
    reason = "everything here is a test, also what the tests share"
)]

mod boot;
mod dhcp;
mod install;
mod service;
mod site;
