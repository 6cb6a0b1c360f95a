//! The built programs end to end: a server, receivers, and what can go wrong between them.

#![expect(
    clippy::unwrap_used,
    reason = "everything here is a test, also what the tests share"
)]

mod api;
mod bittorrent;
mod cache;
mod capture;
mod chroot;
mod crash;
mod doctor;
mod edge;
mod faults;
mod fleet;
mod installing;
mod interfaces;
mod jumbo;
mod lists;
mod network;
mod node;
mod proof;
mod receive;
mod restart;
mod resume;
mod sessions;
mod site;
mod trouble;
mod update;
