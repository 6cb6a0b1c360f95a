//! What the shape of the network does: loss that many share, return paths that are bad, links that are slow.

use std::time::Duration;

use simulcast_protocol::units::Rate;

use crate::net::{Cap, Loss, Switch};
use crate::outcome::Outcome;
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run;
use crate::{ms, packets_per_source};

/// So many receivers below four switches; 64 chunks of 250 symbols in a second.
fn tree(receivers: usize, spec: Spec) -> Scenario {
    let mut scenario = Scenario::new(51, receivers, spec);
    scenario.image = Image::new(51, 16, (0..64).map(|_| 16 * 250));
    let rate = 16_000 * 8 * scenario.image.wire();
    scenario.rate = Rate::from_bits_per_second(rate);
    scenario.judges = 8;
    scenario.on_switches(4, |_| Switch::below(0))
}

fn ratio(scenario: Scenario) -> (f64, Outcome) {
    let image = scenario.image.clone();
    let outcome = run(scenario);
    (packets_per_source(&outcome, &image), outcome)
}

#[test]
fn loss_that_all_share_costs_once() {
    let mut shared = tree(100, Spec::new(0));
    shared.switches[0].down.loss = Loss::Independent(20_000);
    let (ratio_shared, outcome) = ratio(shared);
    // 2 % and what lets four chunks in five be complete after the first repair.
    assert!(ratio_shared < 1.04, "{ratio_shared}: {:?}", outcome.sender);

    let (ratio_own, _) = ratio(tree(100, Spec::new(20_000)));
    assert!(
        ratio_shared < ratio_own - 0.01,
        "{ratio_shared} shared, {ratio_own} each its own"
    );
}

#[test]
fn loss_on_one_switch_is_paid_for_once() {
    let mut scenario = tree(100, Spec::new(0));
    scenario.switches[2].down.loss = Loss::Bursts {
        enter: 600,
        leave: 31_250,
    };
    let (ratio, outcome) = ratio(scenario);
    assert!(ratio < 1.10, "{ratio}: {:?}", outcome.sender);
    let naks = outcome.said.naks.packets;
    assert!(
        naks < 64 * 16,
        "25 receivers lose the same and few of them say so: {naks}"
    );
}

#[test]
fn a_return_path_that_loses_half_of_all_reports_will_do() {
    let mut spec = Spec::new(10_000);
    spec.up.loss = Loss::Independent(500_000);
    let scenario = tree(20, spec);
    let span = scenario.image.time(scenario.rate);
    let (ratio, outcome) = ratio(scenario);
    assert!(ratio < 1.1, "{ratio}: {:?}", outcome.sender);
    assert!(
        outcome.finish < span + ms(1_500),
        "{:?} for {span:?}",
        outcome.finish
    );
}

/// Reports that crossed a repair on their way must not bring it again.
#[test]
fn a_return_path_of_a_fifth_of_a_second_sends_nothing_twice() {
    let mut spec = Spec::new(10_000);
    spec.up.delay = ms(200);
    spec.up.cap = Cap::shared(64_000, 4_000);
    let scenario = tree(20, spec);
    let span = scenario.image.time(scenario.rate);
    let (ratio, outcome) = ratio(scenario);
    assert!(ratio < 1.1, "{ratio}: {:?}", outcome.sender);
    assert!(
        outcome.finish < span + ms(2_500),
        "{:?} for {span:?}",
        outcome.finish
    );
}

/// Jitter larger than the time between packets, duplicates and loss, both ways.
#[test]
fn disorder_costs_no_more_than_the_loss() {
    let mut spec = Spec::new(5_000);
    (spec.down.jitter, spec.down.duplicate) = (ms(5), 20_000);
    (spec.up.jitter, spec.up.duplicate) = (ms(20), 20_000);
    let (ratio, outcome) = ratio(tree(20, spec));
    assert!(ratio < 1.06, "{ratio}: {:?}", outcome.sender);
}

/// One of four switches hangs on a port with half the rate: half of the receivers' packets are lost, in order.
#[test]
fn behind_a_port_of_half_the_rate_all_complete() {
    let mut scenario = tree(8, Spec::new(0));
    scenario.switches[1].down.cap =
        Cap::shared(scenario.rate.bits_per_second() / 2, 64 * scenario.image.wire());
    scenario.limit = Duration::from_secs(60);
    let (ratio, outcome) = ratio(scenario);
    println!(
        "half the rate behind one switch: {:.2?}, {ratio:.2} packets per source packet",
        outcome.finish
    );
    assert!(ratio < 10.0, "{ratio}: {:?}", outcome.sender);
}

/// A queue that nobody shares loses the same symbols whenever a chunk is sent again in the same order.
#[test]
fn a_queue_that_loses_the_same_each_time_holds_nobody_for_ever() {
    for share in [2, 3, 5, 8, 10] {
        let mut scenario = tree(2, Spec::new(0));
        scenario.image = Image::new(52, 16, (0..8).map(|_| 16 * 250));
        let bits = scenario.rate.bits_per_second() / share;
        scenario.receivers[0].down.cap = Some(Cap {
            bits,
            queue: 64 * scenario.image.wire(),
            others: 0,
        });
        scenario.limit = Duration::from_secs(60);
        let (span, (ratio, outcome)) = (scenario.image.time(scenario.rate), ratio(scenario));
        assert!(
            outcome.finish < span * 5 / 2 * u32::try_from(share).unwrap(),
            "{share}: {:?}",
            outcome.finish
        );
        println!(
            "a {share}th of the rate: {:.2?} for {span:.2?}, {ratio:.2} packets per source packet",
            outcome.finish
        );
    }
}

/// A line of 20 Mbit/s with the deep queues of cheap devices, before the sender and before each receiver, and a sender that
/// begins at ten times as much.
#[test]
fn two_dozen_behind_a_slow_line_with_deep_queues() {
    let bits = 20_000_000;
    let deep = Some(Cap {
        bits,
        queue: 512 << 10,
        others: 0,
    });
    let mut spec = Spec::new(0);
    spec.down.cap = deep;
    let mut scenario = Scenario::new(53, 24, spec);
    scenario.image = Image::new(53, 1_440, (0..20).map(|_| 1_440 * 1_000));
    scenario.switches[0].down.cap = deep;
    scenario = scenario.at_rate(Rate::from_bits_per_second(10_000_000_000));
    scenario.rate_min = Rate::from_bits_per_second(10_000_000);
    (scenario.segments, scenario.sender_memory) = (44, 128 << 20);
    (scenario.gather, scenario.limit) = (ms(250), Duration::from_secs(120));
    scenario.judges = 24;
    let span = scenario.image.time(Rate::from_bits_per_second(bits));
    let (ratio, outcome) = ratio(scenario);
    println!(
        "24 behind 20 Mbit/s: {:.2?} for {span:.2?}, {ratio:.2} packets per source packet, {:?}, slowest {}",
        outcome.finish, outcome.sender, outcome.slowest
    );
    assert!(outcome.finish < span * 6 / 5, "{:?} for {span:?}", outcome.finish);
}
