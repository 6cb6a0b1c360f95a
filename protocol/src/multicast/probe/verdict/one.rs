//! What one machine shows by itself.

use super::super::report::{Counter, Counts, Flow, Listening, Report, Tally};
use super::{Kind, LOSS_PPM, QUERIER_SECONDS, Sign};

/// Seconds without a packet at the end of a probe that make an end of it: fewer may be a pause.
const STOPPED_SECONDS: usize = 2;

/// Packets of a size from which on it can be told that none passes.
const ENOUGH: u32 = 20;

/// Names of counters, or parts of them, that say that a frame came in damaged.
const DAMAGED: [&str; 7] = [
    "crc",
    "fcs",
    "frame_err",
    "align",
    "symbol_err",
    "jabber",
    "rx_errors",
];

pub(super) fn signs(report: &Report) -> Vec<Sign> {
    let mut signs = Vec::new();
    let mut add = |kind, detail: String, measure| {
        signs.push(Sign {
            kind,
            detail,
            measure,
        });
    };
    let counts = &report.counts;
    if report.server.unsent > 0 {
        add(
            Kind::NotSent,
            printable(&report.server.interface),
            report.server.unsent,
        );
    }
    match arrival(counts) {
        Arrival::Nothing => add(Kind::NothingArrives, String::new(), 0),
        Arrival::UnicastAlone => add(Kind::NotReached, asking(report).to_owned(), 0),
        Arrival::Until(second) => add(Kind::Stopped, asking(report).to_owned(), second),
        Arrival::Whole => losses(counts, &mut add),
    }
    let machine = &counts.machine;
    if machine.socket_drops > 0 {
        add(Kind::SocketDrops, String::new(), machine.socket_drops);
    }
    for counter in machine.counters.iter().filter(|counter| tells(counter, counts)) {
        let damaged = DAMAGED.iter().any(|part| counter.name.contains(part));
        let kind = if damaged { Kind::Damaged } else { Kind::CardDrops };
        add(kind, printable(&counter.name), counter.by);
    }
    if machine.wireless {
        add(Kind::Wireless, printable(&machine.interface), 0);
    }
    if let (Some(speed), Some(server)) = (machine.speed, report.server.speed)
        && u64::from(speed) * 2 <= u64::from(server)
    {
        add(Kind::SlowLink, printable(&machine.interface), speed.into());
    }
    let reached = signs
        .iter()
        .all(|sign| !matches!(sign.kind, Kind::NotReached | Kind::Stopped));
    // Where it stops or never arrives, that nobody asks is part of that finding.
    if asking(report) == NOBODY && reached {
        signs.push(Sign {
            kind: Kind::NoQuerier,
            detail: String::new(),
            measure: listened(report).unwrap_or(0),
        });
    }
    signs
}

/// Nobody asked while we listened for long enough.
pub(super) const NOBODY: &str = "nobody asks";
/// Somebody asks.
pub(super) const SOMEBODY: &str = "somebody asks";
/// We did not listen for long enough.
pub(super) const UNKNOWN: &str = "";

/// Whether anybody asks for members of groups, as far as either end knows.
fn asking(report: &Report) -> &'static str {
    let heard = |listening: &Listening| listening.heard.is_some();
    if heard(&report.counts.machine.listening) || heard(&report.server.listening) || report.server.querier {
        SOMEBODY
    } else if listened(report).is_some_and(|seconds| seconds >= QUERIER_SECONDS) {
        NOBODY
    } else {
        UNKNOWN
    }
}

fn listened(report: &Report) -> Option<u64> {
    let (here, there) = (&report.counts.machine.listening, &report.server.listening);
    here.seconds.max(there.seconds)
}

/// Whether a counter that rose tells of trouble. What nobody listens for counts as dropped as well, so that counter has to
/// match what is missing.
fn tells(counter: &Counter, counts: &Counts) -> bool {
    let missing = u64::from(counts.multicast.all().lost()) + u64::from(counts.unicast.all().lost());
    counter.by > 0 && (counter.name != "rx_dropped" || (missing > 0 && counter.by >= missing.div_ceil(2)))
}

/// How far packets of the group arrive.
enum Arrival {
    Nothing,
    UnicastAlone,
    /// Until the end of this second.
    Until(u64),
    Whole,
}

fn arrival(counts: &Counts) -> Arrival {
    let (multicast, unicast) = (&counts.multicast, &counts.unicast);
    if multicast.all().came == 0 {
        return if unicast.all().came == 0 {
            Arrival::Nothing
        } else {
            Arrival::UnicastAlone
        };
    }
    let last = |flow: &Flow| flow.seconds.iter().rposition(|&came| came > 0);
    let (Some(end), seconds) = (last(multicast), multicast.seconds.len()) else {
        return Arrival::Whole;
    };
    // When everything stopped at once, it was the link and not the group.
    let goes_on = unicast.all().sent == 0 || last(unicast).is_some_and(|unicast| unicast > end);
    if seconds - 1 - end >= STOPPED_SECONDS && goes_on {
        Arrival::Until(end as u64 + 1)
    } else {
        Arrival::Whole
    }
}

/// Loss of what arrives at all: which sizes, which way, only in bursts.
fn losses(counts: &Counts, add: &mut impl FnMut(Kind, String, u64)) {
    let multicast = &counts.multicast;
    let passing = passing(multicast);
    if let Some((passes, fails)) = passing {
        add(
            Kind::LargeLost,
            format!("{passes} bytes pass, of {fails} bytes"),
            u64::from(passes),
        );
    }
    // What cannot pass says nothing about loss.
    let most = passing.map_or(u16::MAX, |(passes, _)| passes);
    let (by_group, by_unicast) = (usable(multicast, most), usable(&counts.unicast, most));
    let loss = by_group.loss_ppm().unwrap_or(0);
    let unicast_loss = by_unicast.loss_ppm();
    if loss >= LOSS_PPM {
        match unicast_loss {
            Some(unicast) if unicast < LOSS_PPM && unicast * 3 < loss => {
                add(Kind::MulticastLost, String::new(), loss);
            }
            // Nothing to compare with says as little as loss on both ways.
            _ => add(Kind::Lost, String::new(), loss),
        }
    }
    let bursts = multicast.bursts.loss_ppm().unwrap_or(0);
    if multicast.bursts.bytes <= most && bursts >= 2 * LOSS_PPM && loss < LOSS_PPM && bursts >= loss * 4 {
        add(Kind::BurstsLost, String::new(), bursts);
    }
}

/// The largest size that passes, and the next one, of which none does, nor of any that is larger.
fn passing(flow: &Flow) -> Option<(u16, u16)> {
    let passes = flow.sizes.iter().rposition(|tally| tally.came > 0)?;
    let (most, next) = (&flow.sizes[passes], flow.sizes.get(passes + 1)?);
    let certain = next.sent >= ENOUGH && u64::from(most.came) * 2 > u64::from(most.sent);
    certain.then_some((most.bytes, next.bytes))
}

/// Packets sent one by one of sizes that pass.
fn usable(flow: &Flow, most: u16) -> Tally {
    let sizes = flow.sizes.iter().filter(|tally| tally.bytes <= most);
    sizes.copied().fold(Tally::default(), Tally::with)
}

/// A name from a peer as a terminal may be given it.
fn printable(name: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_graphic() || c == ' ' { c } else { '?' }
    };
    name.chars().take(64).map(safe).collect()
}
