//! The multicast protocol in a virtual world: lossy, late, dying, lying. Every run prints its seed when it fails;
//! `SIM_SEED=n` runs the swarm with that seed alone, `SIM_SEEDS=n` with so many. The figures of a crowd are printed by
//! `SIM_RECEIVERS=10000 SIM_CHUNKS=32 cargo test --release -p simulcast-protocol --test sim crowd::figures --
//! --ignored --nocapture`; other ignored tests say what the protocol does not meet.
#![expect(clippy::unwrap_used, reason = "a simulation that cannot go on has failed")]

mod attack;
mod basics;
mod checks;
mod crowd;
mod faults;
mod hostile;
mod liar;
mod meter;
mod net;
mod network;
mod node;
mod outcome;
mod scenario;
mod serve;
mod swarm;
mod world;

use std::time::Duration;

use outcome::Outcome;
use scenario::Image;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Packets sent for each source packet of the image.
fn packets_per_source(outcome: &Outcome, image: &Image) -> f64 {
    outcome.sender.packets as f64 / image.packets() as f64
}

fn env(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}
