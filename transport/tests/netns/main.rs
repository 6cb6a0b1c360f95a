//! Real sockets over veth pairs and a bridge: one sender, several receivers, each in a network namespace.
#![expect(clippy::unwrap_used, reason = "a lab that cannot be set up has failed")]

mod lab;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lab::{Chunks, Lab, Memory, can_run};
use simulcast_protocol::multicast::{ChunkSet, Reason};
use simulcast_transport::multicast::{
    Cancel, End, Kept, ReceiverConfig, ReceiverSummary, SenderConfig, SenderHandle, SenderSession, go_on,
    receive,
};
use simulcast_transport::udp::Interface;

/// Starts a sender on machine 0, with port 0 of its address for reports.
fn send(lab: &Lab, chunks: &Arc<Chunks>, change: impl FnOnce(&mut SenderConfig) + Send) -> SenderHandle {
    let start = || {
        lab.enter(0);
        let address = lab.address(0);
        let (interface, control) = (Interface::Address(address), (address, 0).into());
        let group = "239.255.77.1:7700".parse().unwrap();
        let mut config = SenderConfig::new(interface, group, control, Arc::clone(&chunks.table));
        config.rate = "200Mbit".parse().unwrap();
        change(&mut config);
        SenderSession::start(config, Arc::<Chunks>::clone(chunks)).unwrap()
    };
    std::thread::scope(|scope| scope.spawn(start).join().unwrap())
}

/// Receives on a machine until the end, what `sink` lacks.
fn get(
    lab: &Lab,
    machine: usize,
    sender: &SenderHandle,
    chunks: &Chunks,
    sink: &Memory,
    cancel: &Cancel,
) -> ReceiverSummary {
    get_on(lab, machine, sender, chunks, &mut None, sink, cancel)
}

/// The same with what an earlier session left.
fn get_on(
    lab: &Lab,
    machine: usize,
    sender: &SenderHandle,
    chunks: &Chunks,
    kept: &mut Option<Kept>,
    sink: &Memory,
    cancel: &Cancel,
) -> ReceiverSummary {
    lab.enter(machine);
    let config = ReceiverConfig::new(Interface::Address(lab.address(machine)), &sender.offer());
    let mut missing = ChunkSet::full(chunks.table.count());
    (0..chunks.table.count())
        .filter(|&index| !simulcast_transport::multicast::ChunkSink::wanted(sink, index))
        .for_each(|index| _ = missing.remove(index));
    go_on(&config, Arc::clone(&chunks.table), missing, kept, sink, cancel).unwrap()
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what} within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn three_receivers_get_every_byte_with_loss_and_one_late() {
    if !can_run() {
        return;
    }
    let lab = Lab::new("a", 4);
    lab.segment_at_device(0);
    lab.lose(2, 10);
    let chunks = Chunks::random(1, (0..96).map(|index: usize| 250_000 - index * 1_001));
    let sender = send(&lab, &chunks, |_| {});
    let sinks = [0; 3].map(|_| Memory::new(&chunks.table));
    let half = chunks.table.chunks().len() / 2;
    let summaries: Vec<ReceiverSummary> = std::thread::scope(|scope| {
        let run = |machine: usize| {
            let (lab, sender, chunks, sinks) = (&lab, &sender, &chunks, &sinks);
            move || {
                if machine == 3 {
                    wait_until("half of the image", || sinks[0].count() >= half);
                }
                get(
                    lab,
                    machine,
                    sender,
                    chunks,
                    &sinks[machine - 1],
                    &Cancel::default(),
                )
            }
        };
        let threads: Vec<_> = (1..=3).map(|machine| scope.spawn(run(machine))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for (sink, summary) in sinks.iter().zip(&summaries) {
        assert!(chunks.are_in(sink), "bit-exact");
        assert_eq!((summary.end, summary.missing.count()), (End::Complete, 0));
        assert_eq!((summary.stats.rejected, summary.stats.refused.total()), (0, 0));
    }
    let sent = sender.join().unwrap();
    assert_eq!(sent.reason, Reason::Done);
    assert!(sent.receivers.iter().all(|receiver| receiver.missing == 0));
    let stats = sent.progress.stats;
    assert!(stats.parity > 0, "loss is repaired by parity: {stats:?}");
    assert!(summaries[1].stats.naks > 0);
    let source: u64 = chunks
        .table
        .chunks()
        .iter()
        .map(|info| u64::from(info.len.div_ceil(1440)))
        .sum();
    // The late one missed half, and what was under way then.
    let bound = source * 18 / 10;
    assert!(
        stats.packets < bound,
        "{} packets for {source}: {stats:?}",
        stats.packets
    );
}

#[test]
fn a_killed_receiver_stalls_nobody() {
    if !can_run() {
        return;
    }
    let lab = Lab::new("b", 4);
    let chunks = Chunks::random(2, (0..24).map(|_| 1_000_000));
    let sender = send(&lab, &chunks, |config| config.min_receivers = 3);
    let sinks = [0; 3].map(|_| Memory::new(&chunks.table));
    let (killed, start) = (Cancel::default(), Instant::now());
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let run = |machine: usize| {
            let (lab, sender, chunks, sinks) = (&lab, &sender, &chunks, &sinks);
            let cancel = if machine == 3 {
                killed.clone()
            } else {
                Cancel::default()
            };
            move || {
                get(lab, machine, sender, chunks, &sinks[machine - 1], &cancel);
                sinks[machine - 1].last()
            }
        };
        let threads: Vec<_> = (1..=3).map(|machine| scope.spawn(run(machine))).collect();
        // It says nothing when it goes, as a killed process does not.
        wait_until("a third of the image", || sinks[2].count() >= 8);
        killed.set();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(chunks.are_in(&sinks[0]) && chunks.are_in(&sinks[1]));
    assert!(sinks[2].count() < 24);
    // 24 MB at 200 Mbit/s take 1.05 s.
    assert!(
        took[..2].iter().all(|took| *took < Duration::from_secs(4)),
        "{took:?}"
    );
    let sent = sender.join().unwrap();
    let lacking = sent
        .receivers
        .iter()
        .filter(|receiver| receiver.missing > 0)
        .count();
    assert_eq!(lacking, 1, "the session says who is not complete");
    assert!(
        start.elapsed() < took[0].max(took[1]) + Duration::from_secs(8),
        "the session ends after the silence bound"
    );
}

#[test]
fn a_restarted_sender_goes_on_where_the_first_was_stopped() {
    if !can_run() {
        return;
    }
    let lab = Lab::new("c", 2);
    let chunks = Chunks::random(3, (0..24).map(|_| 1_000_000));
    let sink = Memory::new(&chunks.table);
    let mut kept = None;
    let mut receive_once = |sender: &SenderHandle| {
        let (lab, chunks, kept, sink) = (&lab, &chunks, &mut kept, &sink);
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || get_on(lab, 1, sender, chunks, kept, sink, &Cancel::default()));
            if sink.count() == 0 {
                wait_until("a third of the image", || sink.count() >= 8);
                sender.stop();
            }
            thread.join().unwrap()
        })
    };
    let first = send(&lab, &chunks, |_| {});
    let summary = receive_once(&first);
    assert_eq!(summary.end, End::Finished(Reason::Stopped));
    let had = u64::try_from(sink.count()).unwrap();
    assert_eq!(u64::from(summary.missing.count()) + had, 24);
    assert_eq!(first.join().unwrap().reason, Reason::Stopped);

    let second = send(&lab, &chunks, |_| {});
    let summary = receive_once(&second);
    assert_eq!(summary.end, End::Complete);
    assert!(chunks.are_in(&sink));
    let (packets, symbols) = (
        second.join().unwrap().progress.stats.source,
        1_000_000u64.div_ceil(1440),
    );
    assert!(packets <= (24 - had) * symbols, "only what lacked was sent");
    // Symbols of chunks that were not whole yet were good for something: none was needed twice.
    assert_eq!(summary.stats.symbols, 24 * symbols);
}

#[test]
fn a_sender_that_vanishes_is_noticed() {
    if !can_run() {
        return;
    }
    let lab = Lab::new("d", 2);
    let chunks = Chunks::random(4, (0..2).map(|_| 1_000));
    let sender = send(&lab, &chunks, |_| {});
    let offer = sender.offer();
    sender.stop();
    sender.join().unwrap();
    let mut unreachable = offer.clone();
    unreachable.control.set_ip("10.77.0.99".parse().unwrap());
    // Its machine says that nobody listens; nothing at all is heard of the other.
    for (offer, end) in [(offer, End::Gone), (unreachable, End::Silent)] {
        let sink = Memory::new(&chunks.table);
        let summary = std::thread::scope(|scope| {
            let run = || {
                lab.enter(1);
                let mut config = ReceiverConfig::new(Interface::Address(lab.address(1)), &offer);
                config.silence = Duration::from_millis(1500);
                let (table, missing) = (Arc::clone(&chunks.table), ChunkSet::full(2));
                receive(&config, table, missing, &sink, &Cancel::default()).unwrap()
            };
            scope.spawn(run).join().unwrap()
        });
        assert_eq!((summary.end, summary.missing.count()), (end, 2));
    }
}

/// The interface of the machine that the calling thread is on, by its index.
fn eth0() -> Interface {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    Interface::Index(rustix::net::netdevice::name_to_index(&socket, "eth0").unwrap())
}

#[test]
fn both_families_work_with_the_interface_named_by_index() {
    if !can_run() {
        return;
    }
    let lab = Lab::new("e", 2);
    let chunks = Chunks::random(5, (0..6).map(|_| 300_000));
    for (group, address) in [
        ("239.255.77.2:7700", lab.address(0)),
        ("[ff15::77:2]:7700", lab.address_v6(0)),
    ] {
        let sender = send(&lab, &chunks, |config| {
            (config.group, config.control) = (group.parse().unwrap(), (address, 0).into());
            config.interface = eth0();
        });
        let sink = Memory::new(&chunks.table);
        let run = || {
            lab.enter(1);
            let config = ReceiverConfig::new(eth0(), &sender.offer());
            let missing = ChunkSet::full(chunks.table.count());
            receive(
                &config,
                Arc::clone(&chunks.table),
                missing,
                &sink,
                &Cancel::default(),
            )
            .unwrap()
        };
        let summary = std::thread::scope(|scope| scope.spawn(run).join().unwrap());
        assert_eq!(summary.end, End::Complete, "{group}");
        assert!(chunks.are_in(&sink), "{group}");
    }
}
