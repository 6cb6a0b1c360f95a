use super::super::report::{Counter, Flow, Heard, Listening, Tally};
use super::*;

const SIZES: [u16; 4] = [128, 1280, 1400, 1500];

/// What comes in five seconds when so many in a thousand are lost.
fn flow(lost: u32, bursts_lost: u32) -> Flow {
    let tally = |bytes, sent: u32, lost: u32| Tally {
        bytes,
        sent,
        came: sent - sent * lost / 1000,
    };
    Flow {
        sizes: SIZES.map(|bytes| tally(bytes, 200, lost)).to_vec(),
        bursts: tally(1500, 640, bursts_lost),
        each_second: 160,
        seconds: vec![u16::try_from(160 - 160 * lost / 1000).unwrap(); 5],
        lost: Vec::new(),
    }
}

/// A machine without fault.
fn sound(node: &str) -> Report {
    let mut report = Report {
        node: node.to_owned(),
        ..Report::default()
    };
    report.counts.multicast = flow(0, 0);
    report.counts.unicast = flow(0, 0);
    report.counts.machine.interface = "eth0".to_owned();
    report.counts.machine.speed = Some(1000);
    report.counts.machine.listening.seconds = Some(5);
    report.server.speed = Some(1000);
    report.server.interface = "br0".to_owned();
    report
}

fn nothing() -> Flow {
    let mut flow = flow(1000, 1000);
    flow.seconds = vec![0; 5];
    flow
}

fn heard() -> Listening {
    Listening {
        seconds: Some(500),
        heard: Some(Heard {
            protocol: "IGMPv2".to_owned(),
            from: [10, 0, 0, 1].into(),
        }),
    }
}

fn deaf_ear() -> Listening {
    Listening {
        seconds: Some(200),
        heard: None,
    }
}

/// The findings about one machine that was changed, as kind and what was seen.
fn of(change: impl FnOnce(&mut Report)) -> Vec<(Kind, String)> {
    let mut report = sound("node01");
    change(&mut report);
    let findings = judge(&[report]);
    findings
        .into_iter()
        .map(|finding| (finding.kind, finding.seen))
        .collect()
}

fn one(change: impl FnOnce(&mut Report)) -> (Kind, String) {
    let mut findings = of(change);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    findings.remove(0)
}

#[test]
fn where_all_is_well_nothing_is_found() {
    assert_eq!(judge(&[sound("a"), sound("b"), sound("c")]), []);
    assert_eq!(judge(&[]), []);
    // A report of nothing at all is one of a machine that nothing reached; it must not break anything.
    let empty = judge(&[Report::default()]);
    assert_eq!(empty[0].kind, Kind::NothingArrives);
}

#[test]
fn a_group_that_does_not_arrive_is_told_from_a_machine_that_nothing_reaches() {
    let (kind, _) = one(|report| {
        report.counts.multicast = nothing();
        report.counts.unicast = nothing();
    });
    assert_eq!(kind, Kind::NothingArrives);
    let deaf = |listening: Listening| {
        let mut report = sound("node01");
        report.counts.multicast = nothing();
        report.server.listening = listening;
        let mut findings = judge(&[report]);
        assert_eq!(findings.len(), 1, "{findings:#?}");
        let finding = findings.remove(0);
        assert_eq!(
            (finding.kind, finding.severity),
            (Kind::NotReached, Severity::Error)
        );
        (finding.seen, finding.remedy)
    };
    let (seen, remedy) = deaf(deaf_ear());
    assert!(
        seen.ends_with("do not; nobody asks for members of groups there"),
        "{seen}"
    );
    assert!(
        remedy.starts_with("the switch snoops and nobody asks"),
        "{remedy}"
    );
    let (seen, remedy) = deaf(heard());
    assert!(
        seen.ends_with("; somebody asks for members of groups there"),
        "{seen}"
    );
    assert!(
        remedy.starts_with("look for a firewall on the machine"),
        "{remedy}"
    );
    let (seen, remedy) = deaf(Listening::default());
    assert!(seen.ends_with("those to the multicast group do not"), "{seen}");
    assert!(
        remedy.contains("firewall") && remedy.contains("snoops"),
        "{remedy}"
    );
}

#[test]
fn a_stream_that_stops_is_told_from_a_link_that_breaks() {
    let stop = |flow: &mut Flow| {
        flow.seconds = vec![160, 160, 160, 0, 0];
        flow.sizes.iter_mut().for_each(|size| size.came = 120);
    };
    let (kind, seen) = one(|report| stop(&mut report.counts.multicast));
    assert_eq!(kind, Kind::Stopped);
    assert!(seen.contains("arrived for 3 s and then no more"), "{seen}");
    let (kind, _) = one(|report| {
        stop(&mut report.counts.multicast);
        stop(&mut report.counts.unicast);
    });
    assert_eq!(kind, Kind::Lost, "all stopped at once");
    let (kind, _) = one(|report| {
        stop(&mut report.counts.multicast);
        report.counts.multicast.seconds[4] = 7;
    });
    assert_eq!(kind, Kind::MulticastLost, "it came again");
}

#[test]
fn loss_is_told_by_the_way_and_by_bursts() {
    let found = one(|report| report.counts.multicast = flow(20, 25));
    let words = "2.0 % of the multicast packets are lost, and next to none by unicast";
    assert_eq!(found, (Kind::MulticastLost, words.to_owned()));
    let (kind, _) = one(|report| {
        report.counts.multicast = flow(20, 20);
        report.counts.unicast = flow(15, 15);
    });
    assert_eq!(kind, Kind::Lost);
    let (kind, _) = one(|report| {
        report.counts.multicast = flow(20, 20);
        report.counts.unicast = Flow::default();
    });
    assert_eq!(kind, Kind::Lost, "nothing to compare with");
    let found = one(|report| report.counts.multicast = flow(0, 250));
    let words = "25.0 % of the packets are lost when 64 come at once, and next to none otherwise";
    assert_eq!(found, (Kind::BurstsLost, words.to_owned()));
    assert_eq!(of(|report| report.counts.multicast = flow(4, 8)), []);
}

#[test]
fn sizes_that_do_not_pass_are_named_and_are_no_loss() {
    let (kind, seen) = one(|report| {
        report.counts.multicast.sizes[3].came = 0;
        report.counts.multicast.bursts.came = 0;
    });
    let words = "multicast packets of 1400 bytes pass, of 1500 bytes none does";
    assert_eq!((kind, seen.as_str()), (Kind::LargeLost, words));
    let (kind, _) = one(|report| report.counts.multicast.sizes[3].came = 150);
    assert_eq!(kind, Kind::MulticastLost, "some pass");
}

#[test]
fn drops_of_the_machine_are_told_by_where_they_happen() {
    let (kind, seen) = one(|report| report.counts.machine.socket_drops = 12);
    assert_eq!(
        (kind, seen.as_str()),
        (Kind::SocketDrops, "the socket was full and dropped 12 packets")
    );
    let counter = |name: &str| Counter {
        name: name.to_owned(),
        by: 9,
    };
    let (kind, seen) = one(|report| report.counts.machine.counters = vec![counter("rx_fifo_errors")]);
    let words = "the network card's counter rx_fifo_errors rose by 9";
    assert_eq!((kind, seen.as_str()), (Kind::CardDrops, words));
    let (kind, _) = one(|report| report.counts.machine.counters = vec![counter("rx_crc_errors")]);
    assert_eq!(kind, Kind::Damaged);
    let (_, seen) = one(|report| report.counts.machine.counters = vec![counter("a\x1b[2J\u{202e}b")]);
    assert!(
        seen.contains("a?[2J?b"),
        "what a peer names is safe to print: {seen}"
    );
    let dropped = || vec![counter("rx_dropped")];
    assert_eq!(
        of(|report| report.counts.machine.counters = dropped()),
        [],
        "frames that nobody listens for"
    );
    let kinds = of(|report| {
        report.counts.machine.counters = dropped();
        report.counts.multicast.sizes[0].came -= 9;
    });
    assert!(
        kinds.iter().any(|(kind, _)| *kind == Kind::CardDrops),
        "{kinds:?}"
    );
    let (kind, _) = one(|report| report.server.unsent = 3);
    assert_eq!(kind, Kind::NotSent);
}

#[test]
fn links_that_are_no_good_for_multicast_are_named() {
    let (kind, seen) = one(|report| report.counts.machine.speed = Some(100));
    assert_eq!(kind, Kind::SlowLink);
    assert!(seen.contains("runs at 100 Mbit/s"), "{seen}");
    let (kind, seen) = one(|report| {
        report.counts.machine.wireless = true;
        report.counts.machine.interface = "wlan0".to_owned();
    });
    assert_eq!(
        (kind, seen.as_str()),
        (Kind::Wireless, "wlan0 is a wireless link")
    );
    // All at 100 Mbit/s and a server whose speed nobody knows: that is how the place is.
    let slow = |name| {
        let mut report = sound(name);
        (report.counts.machine.speed, report.server.speed) = (Some(100), None);
        report
    };
    assert_eq!(judge(&[slow("a"), slow("b"), slow("c")]), []);
    let mut fast = [sound("a"), sound("b"), slow("c")];
    fast.iter_mut().for_each(|report| report.server.speed = None);
    let findings = judge(&fast);
    assert_eq!(
        (findings.len(), findings[0].kind, &findings[0].nodes[..]),
        (1, Kind::SlowLink, &["c".to_owned()][..])
    );
}

#[test]
fn that_nobody_asks_takes_long_enough_listening() {
    let (kind, seen) = one(|report| report.server.listening = deaf_ear());
    assert_eq!(kind, Kind::NoQuerier);
    assert!(seen.ends_with("for 200 s"), "{seen}");
    for listening in [
        heard(),
        Listening::default(),
        Listening {
            seconds: Some(129),
            heard: None,
        },
    ] {
        assert_eq!(of(|report| report.server.listening = listening), []);
    }
    let quiet = of(|report| {
        report.server.listening = deaf_ear();
        report.server.querier = true;
    });
    assert_eq!(quiet, [], "we ask ourselves");
}

#[test]
fn the_same_trouble_of_many_is_one_finding_with_its_range() {
    let lossy = |name, lost| {
        let mut report = sound(name);
        report.counts.multicast = flow(lost, lost);
        report
    };
    let findings = judge(&[lossy("a", 10), sound("b"), lossy("c", 35), lossy("d", 10)]);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].nodes, ["a", "c", "d"]);
    assert!(
        findings[0].seen.starts_with("1.0 to 3.5 % of the multicast"),
        "{}",
        findings[0].seen
    );
    let alike = judge(&[lossy("a", 50), lossy("b", 55), lossy("c", 60)]);
    assert_eq!((alike.len(), alike[0].kind), (1, Kind::LostAlike));
    let two = judge(&[lossy("a", 50), lossy("b", 50)]);
    assert_eq!(two[0].kind, Kind::MulticastLost, "two may be an accident");
}

#[test]
fn packets_that_all_lose_were_lost_on_the_way_that_they_share() {
    let lossy = |name, lost: std::ops::Range<u32>| {
        let mut report = sound(name);
        report.counts.multicast = flow(30, 30);
        report.counts.multicast.lost = lost.collect();
        report
    };
    let shared = judge(&[
        lossy("a", 0..20),
        lossy("b", 1..20),
        lossy("c", 0..19),
        sound("d"),
    ]);
    assert_eq!(
        (shared.len(), shared[0].kind),
        (1, Kind::LostTogether),
        "{shared:#?}"
    );
    assert_eq!(shared[0].nodes, ["a", "b", "c"]);
    let apart = judge(&[lossy("a", 0..20), lossy("b", 100..120), sound("c")]);
    assert_eq!((apart.len(), apart[0].kind), (1, Kind::MulticastLost));
}

#[test]
fn the_worst_comes_first() {
    let findings = of(|report| {
        report.counts.multicast = nothing();
        report.counts.machine.wireless = true;
        report.counts.machine.socket_drops = 1;
    });
    let kinds: Vec<Kind> = findings.into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::NotReached, Kind::SocketDrops, Kind::Wireless]);
}
