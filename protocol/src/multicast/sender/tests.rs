//! Packets in, packets out: what the sender does with single reports, honest and not.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::id::{ChunkId, ManifestId};
use crate::multicast::key::{SessionId, SessionKey, TagKey};
use crate::multicast::limits::RECEIVERS;
use crate::multicast::packet::{Announce, Bitmap, Data, Fin, Phase, Want};
use crate::multicast::table::{ChunkInfo, ChunkTable, Geometry};

const SESSION: SessionId = SessionId(7);

fn chunk(index: u32) -> Vec<u8> {
    vec![u8::try_from(index % 251).unwrap(); 40]
}

fn key() -> SessionKey {
    SessionKey::from_bytes([5; 32])
}

/// A sender of `count` chunks of 40 bytes in three symbols of 16, at `now` = 0.
fn sender(count: u32) -> Sender {
    let infos = (0..count)
        .map(|index| ChunkInfo {
            id: ChunkId::of(&chunk(index)),
            len: 40,
        })
        .collect();
    let table = ChunkTable::new(ManifestId::of(b"v"), infos).unwrap();
    let config = SenderConfig {
        session: SESSION,
        key: key(),
        geometry: Geometry::new(Arc::new(table), 16).unwrap(),
        rate_max: Rate::from_bits_per_second(1_000_000_000),
        rate_min: Rate::from_bits_per_second(1_000_000),
        min_receivers: 1,
        max_wait: Duration::ZERO,
        gather: Duration::ZERO,
        join_wait: Duration::from_secs(5),
        linger: Duration::from_millis(100),
        memory: 1 << 20,
        max_segments: 4,
    };
    Sender::new(Time::ZERO, config)
}

fn report(receiver: u64, seq: u64, wants: Vec<Want>) -> Report {
    let missing = u32::from(!wants.is_empty());
    let receiver = ReceiverId(receiver);
    Report {
        poisoned: false,
        join: seq == 1,
        session: SESSION,
        seq,
        receiver,
        tx_seq: 0,
        received: 0,
        drops: 0,
        missing,
        fill: 0,
        wants,
        bitmap: Bitmap::NONE,
    }
}

fn sealed(report: &Report) -> Vec<u8> {
    let mut packet = Vec::new();
    report.encode(&key().receiver(report.receiver), &mut packet);
    packet
}

fn want(first: u32, count: u32, deficit: u16) -> Want {
    Want {
        first,
        count,
        deficit,
    }
}

fn at(ms: u64) -> Time {
    Time::from_start(Duration::from_millis(ms))
}

fn serve(sender: &mut Sender, now: Time) {
    while let Some(load) = sender.poll_load() {
        let loaded = load.run(|index| Ok(chunk(index))).unwrap();
        sender.provide(now, loaded);
    }
}

/// Everything that may go until `until`: symbols as (chunk, symbol), announces as they are.
fn drain(sender: &mut Sender, from: Time, until: Time) -> (Vec<(u32, u16)>, Vec<Announce>) {
    let (mut data, mut announces, mut now) = (Vec::new(), Vec::new(), from);
    let (mut batch, mut buffer) = (Batch::default(), Vec::new());
    while now <= until {
        sender.handle_timeout(now);
        serve(sender, now);
        while sender.poll_transmit(now, &mut batch) {
            batch.copy_to(&mut buffer);
            for packet in buffer.chunks(batch.segment()) {
                match packet::peek(packet).unwrap().0 {
                    Kind::Data => {
                        let symbol = Data::decode(packet).unwrap();
                        data.push((symbol.chunk, symbol.symbol));
                    }
                    Kind::Announce => {
                        announces.push(Announce::decode(key().group().open(packet).unwrap()).unwrap())
                    }
                    kind => panic!("{kind:?}"),
                }
            }
        }
        let Some(next) = sender.poll_timeout() else { break };
        now = next.max(now + Duration::from_nanos(1));
    }
    (data, announces)
}

#[test]
fn a_join_brings_an_announce_and_the_chunks_in_turn() {
    let mut sender = sender(3);
    assert_eq!(drain(&mut sender, at(0), at(20)).0, []);
    sender.handle_packet(
        at(30),
        &sealed(&report(1, 1, vec![want(0, 1, WHOLE), want(2, 1, WHOLE)])),
    );
    assert_eq!(sender.poll_event(), Some(SenderEvent::Joined(ReceiverId(1))));
    assert_eq!(sender.poll_event(), Some(SenderEvent::Started));
    let (data, announces) = drain(&mut sender, at(30), at(60));
    // The second begins when half of the first has been sent.
    assert_eq!(data, [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]);
    assert_eq!((announces[0].receivers, announces[0].phase), (1, Phase::Sending));
    let last = announces.last().unwrap();
    assert_eq!((last.tx_seq, last.phase, last.wanted), (6, Phase::Idle, 0));
    assert_eq!(last.manifest, ManifestId::of(b"v"));
}

#[test]
fn the_worst_nak_is_answered_by_parity_once() {
    let mut sender = sender(1);
    sender.handle_packet(at(0), &sealed(&report(1, 1, vec![want(0, 1, WHOLE)])));
    assert_eq!(drain(&mut sender, at(0), at(10)).0.len(), 3);
    for (receiver, deficit) in [(1, 1), (2, 2)] {
        let nak = Report {
            tx_seq: 3,
            ..report(receiver, 2, vec![want(0, 1, deficit)])
        };
        sender.handle_packet(at(11), &sealed(&nak));
    }
    // Written before the last symbol was sent: it may be on its way.
    sender.handle_packet(
        at(11),
        &sealed(&Report {
            tx_seq: 2,
            ..report(3, 2, vec![want(0, 1, 2)])
        }),
    );
    assert_eq!(drain(&mut sender, at(11), at(40)).0, [(0, 3), (0, 4)]);
    assert_eq!(
        (
            sender.stats().deficits,
            sender.stats().stale,
            sender.stats().parity
        ),
        (2, 1, 2)
    );
}

#[test]
fn what_is_forged_replayed_or_malformed_is_counted_and_changes_nothing() {
    let mut sender = sender(3);
    let good = sealed(&report(1, 5, vec![want(0, 3, WHOLE)]));
    let state = |sender: &mut Sender| {
        let receivers: Vec<_> = sender.receivers().collect();
        (
            receivers,
            sender.poll_load().map(|load| load.index()),
            sender.poll_event(),
            sender.stats().reports,
        )
    };
    let mut cut = good.clone();
    cut.truncate(30);
    let mut forged = good.clone();
    forged[30] ^= 1;
    let mut foreign = good.clone();
    foreign[4] ^= 1;
    let outside = sealed(&report(1, 6, vec![want(1, 3, WHOLE)]));
    let bits = Bitmap {
        first: 2,
        bits: vec![0b10],
    };
    let outside_bits = sealed(&Report {
        bitmap: bits,
        ..report(1, 6, vec![])
    });
    let mut other_key = Vec::new();
    report(1, 6, vec![]).encode(&TagKey::from_bytes([1; 32]), &mut other_key);
    let before = state(&mut sender);
    for packet in [
        &cut[..],
        &forged,
        &foreign,
        &outside,
        &outside_bits,
        &other_key,
        b"",
        b"\x11\0\0\0\x07\0\0\0",
    ] {
        sender.handle_packet(at(1), packet);
        assert_eq!(state(&mut sender), before);
    }
    let refused = sender.stats().refused;
    assert_eq!(
        (
            refused.tag,
            refused.foreign,
            refused.field,
            refused.short,
            refused.kind
        ),
        (3, 1, 2, 1, 1)
    );

    sender.handle_packet(at(2), &good);
    serve(&mut sender, at(2));
    while sender.poll_event().is_some() {}
    let before = state(&mut sender);
    sender.handle_packet(at(3), &good);
    sender.handle_packet(at(3), &sealed(&report(1, 4, vec![])));
    assert_eq!(state(&mut sender), before);
    assert_eq!(sender.stats().refused.replayed, 2);
}

#[test]
fn the_crowd_and_the_greedy_are_bounded() {
    let mut sender = sender(6_000);
    let runs = vec![want(0, 6_000, WHOLE); 128];
    sender.handle_packet(at(0), &sealed(&report(0, 1, runs.clone())));
    assert_eq!(
        sender.wants.waiting(),
        6_000 - u32::try_from(crate::multicast::limits::LOADS).unwrap()
    );
    for receiver in 1..=u64::try_from(RECEIVERS).unwrap() {
        sender.handle_packet(at(1), &sealed(&report(receiver, 1, vec![])));
    }
    assert_eq!(
        (sender.receivers().count(), sender.stats().refused.crowd),
        (RECEIVERS, 1)
    );
}

#[test]
fn the_session_ends_with_the_last_receiver_and_says_so() {
    let mut sender = sender(1);
    sender.handle_packet(at(0), &sealed(&report(1, 1, vec![want(0, 1, WHOLE)])));
    drain(&mut sender, at(0), at(10));
    sender.handle_packet(at(20), &sealed(&report(1, 2, vec![])));
    let (mut batch, mut buffer, mut fins, mut now) = (Batch::default(), Vec::new(), Vec::new(), at(20));
    while let Some(next) = sender.poll_timeout() {
        now = next.max(now + Duration::from_nanos(1));
        sender.handle_timeout(now);
        while sender.poll_transmit(now, &mut batch) {
            batch.copy_to(&mut buffer);
            let body = key().group().open(&buffer).unwrap();
            fins.extend(Fin::decode(body).map(|fin| fin.seq));
        }
    }
    assert_eq!(fins.len(), 10);
    assert!(fins.is_sorted_by(|a, b| a < b), "each has a number of its own");
    assert!(now < at(1_500), "100 ms of lingering, a second of FINs: {now:?}");
    assert!(sender.is_closed());
    let events: Vec<_> = std::iter::from_fn(|| sender.poll_event()).collect();
    assert_eq!(events.last(), Some(&SenderEvent::Finished(Reason::Done)));
}

#[test]
fn nobody_comes_and_the_session_ends() {
    let mut sender = sender(1);
    drain_until_closed(&mut sender);
    assert_eq!(sender.stats().packets, 0);
    assert!(sender.is_closed());
}

fn drain_until_closed(sender: &mut Sender) {
    let (mut batch, mut now) = (Batch::default(), at(0));
    while let Some(next) = sender.poll_timeout() {
        now = next.max(now + Duration::from_nanos(1));
        assert!(now < at(7_000), "join_wait is 5 s, FINs take one");
        sender.handle_timeout(now);
        while sender.poll_transmit(now, &mut batch) {}
    }
}

#[test]
fn a_last_word_is_confirmed_once_for_each_time_it_is_said() {
    let mut sender = sender(1);
    sender.handle_packet(at(0), &sealed(&report(1, 1, vec![want(0, 1, WHOLE)])));
    sender.handle_packet(at(0), &sealed(&report(2, 1, vec![want(0, 1, WHOLE)])));
    let confirmed = |announces: Vec<Announce>| -> Vec<ReceiverId> {
        announces
            .into_iter()
            .flat_map(|announce| announce.confirmed)
            .collect()
    };
    assert_eq!(confirmed(drain(&mut sender, at(0), at(20)).1), []);
    for seq in [2, 3] {
        let from = seq * 20;
        sender.handle_packet(at(from), &sealed(&report(1, seq, vec![])));
        let announces = drain(&mut sender, at(from), at(from + 6)).1;
        assert_eq!(
            confirmed(announces),
            [ReceiverId(1)],
            "at once, not with the next regular one"
        );
        assert_eq!(confirmed(drain(&mut sender, at(from + 7), at(from + 19)).1), []);
    }
}
