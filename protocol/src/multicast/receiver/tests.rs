//! Packets in, events and reports out: what a receiver believes and what it does not.

use std::sync::Arc;

use rand::SeedableRng;

use super::*;
use crate::id::{ChunkId, ManifestId};
use crate::multicast::fec::Parity;
use crate::multicast::key::SessionKey;
use crate::multicast::packet::{Phase, Plan, WHOLE};
use crate::multicast::table::{ChunkInfo, ChunkTable};

const SESSION: SessionId = SessionId(7);
const CHUNK: [u8; 64] = [9; 64];

fn key() -> SessionKey {
    SessionKey::from_bytes([5; 32])
}

fn at(ms: u64) -> Time {
    Time::from_start(Duration::from_millis(ms))
}

/// A receiver that lacks three chunks of 64 bytes, in four symbols of 16 each.
fn receiver() -> Receiver {
    let infos = vec![
        ChunkInfo {
            id: ChunkId::of(&CHUNK),
            len: 64
        };
        3
    ];
    let table = ChunkTable::new(ManifestId::of(b"v"), infos).unwrap();
    let config = ReceiverConfig {
        session: SESSION,
        receiver: ReceiverId(1),
        keys: key().receiver_keys(ReceiverId(1)),
        geometry: Geometry::new(Arc::new(table), 16).unwrap(),
        memory: 1 << 20,
        silence: Duration::from_secs(2),
        join_spread: Duration::ZERO,
    };
    Receiver::new(
        at(0),
        config,
        ChunkSet::full(3),
        Xoshiro256PlusPlus::seed_from_u64(1),
    )
}

fn data(chunk: u32, symbol: u16, tx_seq: u64, payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    Data {
        session: SESSION,
        symbol,
        chunk,
        tx_seq,
        payload,
    }
    .encode(&mut packet);
    packet
}

fn announce(seq: u64, tx_seq: u64, phase: Phase, plans: Vec<Plan>) -> Vec<u8> {
    let announce = Announce {
        session: SESSION,
        seq,
        manifest: ManifestId::of(b"v"),
        tx_seq,
        rate: Rate::from_bits_per_second(1_000_000),
        receivers: 1,
        done: 0,
        wanted: 1,
        report_period: Duration::from_millis(250),
        nak_window: Duration::from_millis(4),
        expected_deficit: 1,
        phase,
        plans,
        unreadable: vec![],
        parted: vec![],
        confirmed: vec![],
        tagged: false,
    };
    let mut packet = Vec::new();
    announce.encode(&key().group(), &mut packet);
    packet
}

fn reports(receiver: &mut Receiver, until: Time) -> Vec<Report> {
    let (mut reports, mut packet) = (Vec::new(), Vec::new());
    while let Some(now) = receiver.poll_timeout().filter(|next| *next <= until) {
        while receiver.poll_transmit(now, &mut packet) {
            let body = key().receiver(ReceiverId(1)).open(&packet).unwrap();
            reports.push(Report::decode(body).unwrap());
        }
        receiver.handle_timeout(now);
    }
    reports
}

fn gathered(receiver: &mut Receiver) -> Gathered {
    match receiver.poll_event() {
        Some(ReceiverEvent::Gathered(gathered)) => gathered,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_joins_states_all_and_asks_for_what_lacks() {
    let mut receiver = receiver();
    let first = reports(&mut receiver, at(10));
    assert_eq!(
        (first.len(), first[0].join, first[0].seq, first[0].missing),
        (1, true, 1, 3)
    );
    assert_eq!(
        first[0].wants,
        [packet::Want {
            first: 0,
            count: 3,
            deficit: WHOLE
        }]
    );
    receiver.handle_packet(at(11), &announce(1, 0, Phase::Sending, vec![]));
    (0..3).for_each(|symbol| {
        receiver.handle_packet(at(12), &data(0, symbol, u64::from(symbol) + 1, &CHUNK[..16]))
    });
    receiver.handle_packet(
        at(13),
        &announce(2, 3, Phase::Sending, vec![Plan { chunk: 0, symbols: 1 }]),
    );
    assert!(
        reports(&mut receiver, at(40))
            .iter()
            .all(|report| report.wants.iter().all(|want| want.deficit == WHOLE))
    );
    receiver.handle_packet(at(41), &announce(3, 4, Phase::Sending, vec![]));
    let nak = reports(&mut receiver, at(60)).pop().unwrap();
    assert!(
        nak.wants.contains(&packet::Want {
            first: 0,
            count: 1,
            deficit: 1
        }),
        "{nak:?}"
    );
    assert_eq!((nak.tx_seq, nak.received, nak.join), (4, 3, false));
    let parity = Parity::of(&CHUNK, 16).unwrap();
    receiver.handle_packet(at(61), &data(0, 4, 5, parity.get(0).unwrap()));
    assert_eq!(gathered(&mut receiver).decode().unwrap(), CHUNK);
    receiver.accept(at(62), 0);
    assert_eq!(receiver.missing().iter().collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn wrong_bytes_are_thrown_away_and_the_second_time_given_up() {
    let mut receiver = receiver();
    for round in 0..2 {
        (0..4).for_each(|symbol| receiver.handle_packet(at(1), &data(1, symbol, 1, &[round; 16])));
        assert_eq!(gathered(&mut receiver).index(), 1);
        receiver.reject(at(2), 1);
    }
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::GaveUp(1))));
    assert_eq!((receiver.stats().rejected, receiver.stats().given_up), (2, 1));
    (0..4).for_each(|symbol| receiver.handle_packet(at(3), &data(1, symbol, 1, &[7; 16])));
    assert!(receiver.poll_event().is_none(), "it is not gathered again");
}

#[test]
fn numbers_that_cannot_be_and_packets_that_are_none_change_nothing() {
    let mut receiver = receiver();
    receiver.handle_packet(at(1), &announce(5, 10, Phase::Sending, vec![]));
    let replay = announce(5, 99, Phase::Sending, vec![]);
    let mut forged = announce(6, 99, Phase::Idle, vec![]);
    forged[60] ^= 1;
    let short = data(0, 0, 11, &CHUNK[..14]);
    let wrong = [
        data(3, 0, 11, &CHUNK[..16]),
        data(0, 260, 11, &CHUNK[..16]),
        data(0, 0, u64::MAX, &CHUNK[..16]),
    ];
    for packet in wrong.iter().chain([&replay, &forged, &short]) {
        receiver.handle_packet(at(2), packet);
    }
    let stats = receiver.stats();
    let refused = stats.refused;
    assert_eq!(
        (
            refused.field,
            refused.length,
            refused.tag,
            refused.replayed,
            stats.implausible
        ),
        (2, 1, 1, 1, 1)
    );
    assert_eq!(
        (stats.packets, stats.symbols, receiver.highest, stats.announces),
        (0, 0, 10, 1)
    );
}

#[test]
fn the_end_is_told_once_and_silence_after_its_time() {
    let mut receiver = receiver();
    receiver.handle_timeout(at(1_999));
    assert!(receiver.poll_event().is_none());
    let mut fin = Vec::new();
    Fin {
        session: SESSION,
        seq: 1,
        reason: Reason::Stopped,
    }
    .encode(&key().group(), &mut fin);
    receiver.handle_packet(at(1_999), &fin);
    receiver.handle_packet(at(1_999), &fin);
    assert!(matches!(
        receiver.poll_event(),
        Some(ReceiverEvent::Finished(Reason::Stopped))
    ));
    receiver.handle_timeout(at(9_000));
    assert!(receiver.poll_event().is_none() && receiver.is_finished() && receiver.poll_timeout().is_none());

    receiver.rejoin(
        at(9_000),
        SessionId(8),
        ReceiverId(2),
        key().receiver_keys(ReceiverId(2)),
    );
    receiver.handle_timeout(at(11_000));
    assert!(matches!(receiver.poll_event(), Some(ReceiverEvent::Silent)));
}

#[test]
fn the_last_word_is_repeated_until_it_is_confirmed() {
    let confirming = |seq, whom| {
        let packet = announce(seq, 0, Phase::Idle, vec![]);
        let body = key().group().open(&packet).unwrap().to_vec();
        let announce = Announce {
            confirmed: vec![whom],
            ..Announce::decode(&body).unwrap()
        };
        let mut packet = Vec::new();
        announce.encode(&key().group(), &mut packet);
        packet
    };
    for (whom, words) in [(ReceiverId(1), 1), (ReceiverId(2), 4)] {
        let mut receiver = receiver();
        receiver.handle_packet(at(1), &confirming(1, ReceiverId(1)));
        assert!(!receiver.is_finished(), "it is not done, whatever is confirmed");
        (0..3).for_each(|index| receiver.have(at(2), index));
        assert_eq!(reports(&mut receiver, at(2)).len(), 1);
        assert!(!receiver.is_finished());
        receiver.handle_packet(at(3), &confirming(2, whom));
        assert_eq!(receiver.is_finished(), words == 1);
        assert_eq!(reports(&mut receiver, at(500)).len() + 1, words);
        assert!(receiver.is_finished());
    }
}

#[test]
fn it_is_full_while_half_of_its_memory_waits_to_be_checked() {
    let mut receiver = receiver();
    receiver.gathering = Gathering::new(ChunkSet::full(3), 250);
    let fill = |receiver: &mut Receiver, chunk| {
        (0..4).for_each(|symbol| receiver.handle_packet(at(1), &data(chunk, symbol, 1, &CHUNK[..16])))
    };
    fill(&mut receiver, 0);
    assert!(!receiver.is_full());
    fill(&mut receiver, 1);
    assert!(receiver.is_full());
    receiver.accept(at(2), 0);
    assert!(!receiver.is_full());
}

#[test]
fn memory_stays_within_its_budget_and_completes_all_the_same() {
    let mut receiver = receiver();
    receiver.gathering = Gathering::new(ChunkSet::full(3), 150); // two chunks of 64 bytes, and not a third
    for (chunk, symbol) in [(0, 0), (1, 0), (2, 0)] {
        receiver.handle_packet(at(1), &data(chunk, symbol, 1, &CHUNK[..16]));
    }
    assert_eq!((receiver.stats().no_room, receiver.stats().memory_peak), (1, 128));
    // Once the first two are quiet, what lacks more than a quarter makes room.
    receiver.handle_packet(at(2), &announce(1, 500, Phase::Sending, vec![]));
    receiver.handle_packet(at(3), &data(2, 0, 501, &CHUNK[..16]));
    assert_eq!((receiver.stats().evicted, receiver.stats().memory_peak), (1, 128));
    (1..4).for_each(|symbol| receiver.handle_packet(at(3), &data(2, symbol, 501, &CHUNK[..16])));
    assert_eq!(gathered(&mut receiver).decode().unwrap(), CHUNK);
}
