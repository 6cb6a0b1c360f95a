//! Finding out why multicast does not do what it should: numbered packets go to a group and, beside it, to single
//! machines; what comes of them is counted and made into findings.
//!
//! A probe is a row of rounds, twenty a second, that runs as long as anybody takes part. Which packets a round has
//! follows from its number ([`Schedule`]), so a machine that is told its [`Window`] knows what should have come without
//! hearing anything. [`Gathering`] counts, [`judge`](verdict::judge) makes findings out of the counts of one machine or
//! of many. Sockets, clocks and the machine's own counters are the driver's.

mod gathering;
mod offer;
mod report;
mod schedule;
pub mod verdict;

pub use gathering::Gathering;
pub use offer::{ProbeOffer, ProbeOfferError, ProbeRequest};
pub use report::{Counter, Counts, Flow, Heard, Listening, Machine, Report, ServerSide, Tally};
pub use schedule::{BURST, BURST_PACKETS, EACH, ROUND, ROUNDS_PER_SECOND, SECONDS, SIZES, Schedule, Window};
