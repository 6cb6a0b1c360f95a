//! The laboratory itself, for real: what the other tiers and the figures rely on.

#![expect(
    clippy::unwrap_used,
    reason = "everything here is a test, also what the tests share"
)]

mod capture;
mod golden;
mod network;
mod removal;
mod ssh;
mod upgrade;
