//! The faults that stop other multicast tools: one of eight receivers has one of them, and what it costs the others
//! is measured against the same session without it. Packets as at 1 Gbit/s; the image takes five seconds.

use std::time::Duration;

use simulcast_protocol::multicast::limits::WIRE_OVERHEAD_BYTES;
use simulcast_protocol::units::Rate;

use crate::ms;
use crate::net::{Cap, Loss};
use crate::outcome::Outcome;
use crate::packets_per_source;
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run;

/// The receiver that has the fault, of eight.
const VICTIM: usize = 7;
const SYMBOLS: usize = 1_000;
/// What a socket buffer of 16 MB holds, in packets of 1,538 bytes on the wire.
const SOCKET_PACKETS: u64 = 10_900;

/// Eight receivers without a fault; 400 chunks of a thousand symbols in five seconds.
fn session() -> Scenario {
    let mut spec = Spec::new(0);
    spec.memory = 66 * 16 * 1_000; // as many chunks as 96 MB of real ones
    let mut scenario = Scenario::new(71, 8, spec);
    scenario.image = Image::new(71, 16, (0..400).map(|_| 16 * SYMBOLS));
    scenario
        .receivers
        .iter_mut()
        .for_each(|spec| spec.socket = SOCKET_PACKETS * 114);
    let rate = Rate::from_bits_per_second(81_000 * 8 * scenario.image.wire());
    scenario = scenario.at_rate(rate);
    (scenario.segments, scenario.sender_memory, scenario.limit) =
        (44, 88 * 16 * 1_000, Duration::from_secs(100));
    scenario
}

/// What a fault costs: seconds and shares of the time without it.
#[derive(Debug)]
struct Cost {
    /// By how much the last of the others is later.
    others: Duration,
    /// The same, as a share of the time without the fault.
    share: f64,
    /// When the one with the fault is complete.
    victim: Option<Duration>,
}

/// Runs the session with a fault and prints what it costs.
fn with(name: &str, fault: impl FnOnce(&mut Spec, Duration)) -> (Cost, Outcome) {
    let mut scenario = session();
    let (span, image) = (scenario.image.time(scenario.rate), scenario.image.clone());
    let clean = run(scenario.clone()).done_of(0..VICTIM);
    fault(&mut scenario.receivers[VICTIM], span);
    let rate = scenario.rate.bits_per_second();
    let outcome = run(scenario);
    let others = outcome.done_of(0..VICTIM);
    let cost = Cost {
        others: others.saturating_sub(clean),
        share: others.as_secs_f64() / clean.as_secs_f64() - 1.0,
        victim: outcome.done[VICTIM],
    };
    println!(
        "{name:<26} others {others:.2?} for {clean:.2?} ({:+.1} %), it {:.2?}, ended {:.2?}, lowest rate {:.1} %, \
         {:.3} packets per source packet",
        cost.share * 100.0,
        cost.victim,
        outcome.ended,
        outcome.slowest as f64 * 100.0 / rate as f64,
        packets_per_source(&outcome, &image),
    );
    (cost, outcome)
}

#[test]
fn killed() {
    let (cost, outcome) = with("killed at 30 %", |spec, span| {
        spec.crash = Some((span * 3 / 10, None))
    });
    assert!(cost.others < ms(100), "{cost:?}");
    assert_eq!((cost.victim, outcome.silent), (None, 1));
}

#[test]
fn frozen_for_three_seconds() {
    let (cost, _) = with("frozen for 3 s", |spec, span| {
        spec.freeze = Some((span * 3 / 10, span * 3 / 10 + ms(3_000)));
    });
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn link_down_for_a_second() {
    let (cost, _) = with("link down for 1 s", |spec, span| {
        spec.down.down = vec![(span * 3 / 10, span * 3 / 10 + ms(1_000))];
        spec.up.down = spec.down.down.clone();
    });
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn port_at_a_tenth_of_the_rate() {
    let (cost, _) = with("port at a tenth", |spec, _| spec.down.cap = tenth());
    assert!(cost.share < 0.05 && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn thirty_percent_loss_at_one() {
    let (cost, _) = with("30 % loss", |spec, _| spec.down.loss = Loss::Independent(300_000));
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn disk_at_a_tenth_of_the_rate() {
    let (cost, _) = with("disk at a tenth", |spec, span| spec.sink_time = span / 40);
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn joined_at_forty_percent() {
    let (cost, _) = with("joined at 40 %", |spec, span| spec.join = span * 4 / 10);
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
}

#[test]
fn joined_at_half_time() {
    let (cost, outcome) = with("joined at half time", |spec, span| spec.join = span / 2);
    assert!(cost.share < 0.03, "{cost:?}");
    let others = outcome.done_of(0..VICTIM);
    assert!(cost.victim.unwrap() < others + others * 52 / 100, "{cost:?}");
}

#[test]
fn payload_altered_behind_the_checksum() {
    let (cost, outcome) = with("payload altered, 0.1 %", |spec, _| spec.down.corrupt = 1_000);
    assert!(cost.others < ms(1_000) && cost.victim.is_some(), "{cost:?}");
    assert!(outcome.rejected > 0, "{outcome:?}");
}

/// A port with a tenth of the rate and the queue of a small switch.
fn tenth() -> Option<Cap> {
    Cap::shared(8_100 * 8 * (48 + WIRE_OVERHEAD_BYTES), 100 * 114)
}

/// The whole network carries a thousandth of what the sender is told to send.
#[test]
fn a_slow_network_and_a_sender_set_to_a_thousand_times_as_much() {
    let mut scenario = session();
    scenario.image = Image::new(72, 16, (0..16).map(|_| 16 * SYMBOLS));
    let bits = 810 * 8 * scenario.image.wire();
    let slow = Rate::from_bits_per_second(bits);
    scenario = scenario.at_rate(Rate::from_bits_per_second(bits * 1_000));
    scenario.switches[0].down.cap = Cap::shared(bits, 100 * scenario.image.wire());
    scenario.rate_min = Rate::from_bits_per_second(bits / 10);
    let (image, span) = (scenario.image.clone(), scenario.image.time(slow));
    let outcome = run(scenario);
    println!(
        "network a thousandth       all {:.2?} for {span:.2?} at its rate, {:.1} packets per source packet",
        outcome.finish,
        packets_per_source(&outcome, &image)
    );
    assert!(outcome.finish < span * 3 / 2, "{:?} for {span:?}", outcome.finish);
}
