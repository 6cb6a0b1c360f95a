//! Receivers that lie with valid keys, and outsiders that forge data: what they cost the others.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use simulcast_protocol::multicast::limits::REJECTIONS;
use simulcast_protocol::multicast::packet::{Announce, Data, Phase};
use simulcast_protocol::multicast::{
    ChunkSet, Receiver, ReceiverConfig, ReceiverId, SessionId, SessionKey, Time,
};
use simulcast_protocol::units::Rate;

use crate::liar::Lie;
use crate::ms;
use crate::outcome::Outcome;
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run;

/// Four honest receivers with 1 % loss; 100 chunks of 500 symbols in 2.5 s.
fn session() -> Scenario {
    let mut scenario = Scenario::new(31, 4, Spec::new(10_000));
    scenario.image = Image::new(31, 16, (0..100).map(|_| 16 * 500));
    let rate = Rate::from_bits_per_second(20_000 * 8 * scenario.image.wire());
    scenario = scenario.at_rate(rate);
    (scenario.sender_memory, scenario.limit) = (88 * 16 * 500, Duration::from_secs(400));
    scenario
}

/// How much later the honest ones are complete with a liar among them, as a multiple of their time without it.
fn with_liar(lie: Lie) -> (f64, Outcome) {
    let mut scenario = session();
    let clean = run(scenario.clone()).done_of(0..4);
    let rate = scenario.rate.bits_per_second();
    let mut spec = Spec::new(0);
    (spec.lies, spec.join) = (Some(lie), ms(100));
    scenario.receivers.push(spec);
    let outcome = run(scenario);
    let times = outcome.done_of(0..4).as_secs_f64() / clean.as_secs_f64();
    println!(
        "{lie:<10?} others {times:.2} x their {clean:.2?}, lowest rate {:.1} %, {} packets of which {} repeated",
        outcome.slowest as f64 * 100.0 / rate as f64,
        outcome.sender.packets,
        outcome.sender.repeated
    );
    (times, outcome)
}

/// What a receiver that truly lacks so much would cost too: half the places of the window, and everything once more.
const AS_A_STRAGGLER: f64 = 3.3;

#[test]
fn a_liar_that_lacks_parts_for_ever_takes_its_share() {
    let (times, outcome) = with_liar(Lie::Deficits);
    assert!(times < AS_A_STRAGGLER, "{times}");
    assert!(outcome.sender.stale > 0);
}

#[test]
fn a_liar_that_wants_everything_for_ever_takes_its_share() {
    let (times, _) = with_liar(Lie::Everything);
    assert!(times < AS_A_STRAGGLER, "{times}");
}

#[test]
fn a_liar_that_is_done_and_not_by_turns_takes_its_share() {
    let (times, _) = with_liar(Lie::Flapping);
    assert!(times < AS_A_STRAGGLER, "{times}");
}

#[test]
fn a_liar_with_full_queues_slows_the_others_no_more_than_a_straggler() {
    let (times, _) = with_liar(Lie::Full);
    assert!(times < AS_A_STRAGGLER, "{times}");
}

#[test]
fn a_liar_that_drops_for_ever_slows_the_others_no_more_than_a_straggler() {
    let (times, _) = with_liar(Lie::Drops);
    assert!(times < AS_A_STRAGGLER, "{times}");
}

#[test]
fn a_liar_of_every_kind_slows_the_others_no_more_than_a_straggler() {
    let (times, _) = with_liar(Lie::Mixture);
    assert!(times < AS_A_STRAGGLER, "{times}");
}

/// Symbols forged for the chunks that are being sent: each spoils a chunk, so few of them make all come another way.
#[test]
fn forged_data_spoils_chunks_and_nothing_else() {
    for poison in [1, 10, 100, 1_000] {
        let mut scenario = session();
        scenario.poison = poison;
        let (span, all) = (
            scenario.image.time(scenario.rate),
            4 * u64::from(scenario.image.count()),
        );
        let outcome = run(scenario);
        println!(
            "{poison:>5} forged a second: {:.2?} for {span:.2?}, {} rejected, {} of {all} chunks fetched elsewhere",
            outcome.finish, outcome.rejected, outcome.fetched,
        );
        assert!(
            (1..=all * u64::from(REJECTIONS)).contains(&outcome.rejected),
            "{outcome:?}"
        );
        assert!(outcome.finish < span * 2, "{:?} for {span:?}", outcome.finish);
    }
}

/// Packets repeated, cut, altered and invented without a key, to everyone, in both directions.
#[test]
fn outsiders_are_counted_and_cost_what_they_spoil() {
    let clean = run(session()).finish;
    for (attack, most) in [(100, 1.2), (1_000, 1.6), (10_000, 2.4)] {
        let mut scenario = session();
        scenario.attack = attack;
        let outcome = run(scenario);
        println!(
            "{attack:>6} invented a second: {:.2?} for {clean:.2?}, {} rejected, {} fetched elsewhere, {} refused",
            outcome.finish,
            outcome.rejected,
            outcome.fetched,
            outcome.sender.refused.total(),
        );
        let times = outcome.finish.as_secs_f64() / clean.as_secs_f64();
        assert!(times < most, "{times} times for {attack}");
        assert!(outcome.sender.refused.total() > 0, "{outcome:?}");
    }
}

/// A member of the group has the key of announces: one that names the last packet number there is, and data with
/// that number, must not stop a receiver.
#[test]
fn the_last_packet_number_there_is_stops_nobody() {
    let image = Image::new(1, 16, [64].into_iter());
    let (session, id, now) = (SessionId(1), ReceiverId(1), Time::ZERO);
    let key = SessionKey::from_bytes([1; 32]);
    let config = ReceiverConfig {
        session,
        receiver: id,
        keys: key.receiver_keys(id),
        geometry: image.geometry.clone(),
        memory: 1 << 20,
        silence: ms(1_000),
        join_spread: ms(0),
    };
    let rng = Xoshiro256PlusPlus::seed_from_u64(1);
    let mut receiver = Receiver::new(now, config, ChunkSet::full(1), rng);
    let announce = Announce {
        session,
        seq: 1,
        manifest: image.geometry.table().manifest(),
        tx_seq: u64::MAX - 8,
        rate: Rate::from_bits_per_second(1_000_000),
        receivers: 1,
        done: 0,
        wanted: 1,
        report_period: ms(250),
        nak_window: ms(4),
        expected_deficit: 1,
        phase: Phase::Sending,
        plans: Vec::new(),
        unreadable: Vec::new(),
        parted: vec![],
        confirmed: vec![],
        tagged: false,
    };
    let mut packet = Vec::new();
    announce.encode(&key.group(), &mut packet);
    receiver.handle_packet(now, &packet);
    packet.clear();
    let data = Data {
        session,
        symbol: 0,
        chunk: 0,
        tx_seq: u64::MAX,
        payload: &image.bytes(0)[..16],
    };
    data.encode(&mut packet);
    receiver.handle_packet(now, &packet);
    assert_eq!(receiver.stats().symbols, 1);
}
