//! What must hold in every run, checked at every event.
//!
//! - No wrong byte is accepted, and no chunk twice.
//! - Sender and receivers keep to their memory.
//! - No window of time carries more than the set rate, the credit of pacing and one batch.
//! - Nothing is planned or sent that nobody asked for since it was last sent.
//! - Receivers keep to the bound of the return traffic.
//! - Somebody who lacks something and can be reached gets something within a bounded time.
//! - Everyone ends complete, or is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::PARITY;
use simulcast_protocol::multicast::limits::{
    PACING_BURST, REPORT_PERIOD_MIN, REPORTS_PER_SECOND, URGENT_PERIOD_EACH, URGENT_PERIOD_MIN,
    WIRE_OVERHEAD_BYTES,
};
use simulcast_protocol::multicast::packet::{self, Announce, Data, Kind, Report};
use simulcast_protocol::multicast::{SenderStats, SessionKey, Time};

use crate::scenario::{Image, Scenario};

/// Chunks that the sender may hold beyond its budget: sixteen in the window, sixteen staged, eight on their way.
const HELD_CHUNKS: u64 = 40;

/// What is known of a run while it goes on.
pub(crate) struct Checks {
    image: Image,
    /// Bytes a second.
    rate: f64,
    memory: u64,
    patience: Duration,
    /// Bytes sent that the rate does not yet explain.
    debt: f64,
    debt_at: Time,
    tx_seq: u64,
    /// Highest packet number of the reports that asked for a chunk since it was last begun.
    asked: BTreeMap<u32, u64>,
    /// Chunks that the last announce planned, and the packet number that it named.
    planned: BTreeSet<u32>,
    announced: u64,
    /// Last symbol sent of each chunk, and the number of its packet.
    sent: BTreeMap<u32, (u16, u64)>,
    /// Reports in the present second.
    second: (u64, u64),
    gained: (u64, Time),
}

impl Checks {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            image: scenario.image.clone(),
            rate: scenario.rate.bits_per_second() as f64 / 8.0,
            memory: scenario.sender_memory,
            patience: scenario.patience,
            debt: 0.0,
            debt_at: Time::ZERO,
            tx_seq: 0,
            asked: BTreeMap::new(),
            planned: BTreeSet::new(),
            announced: 0,
            sent: BTreeMap::new(),
            second: (0, 0),
            gained: (0, Time::ZERO),
        }
    }

    /// A new sender knows nothing of what the old one sent just before.
    pub(crate) fn restart(&mut self) {
        (self.debt, self.tx_seq, self.announced) = (0.0, 0, 0);
        self.asked.clear();
        self.planned.clear();
        self.sent.clear();
    }

    /// A transmission leaves the sender.
    pub(crate) fn transmitted(&mut self, now: Time, bytes: usize, count: usize) {
        let wire = bytes as f64 + (count as f64) * WIRE_OVERHEAD_BYTES as f64;
        let passed = now.since(self.debt_at).as_secs_f64();
        self.debt = (self.debt - self.rate * passed).max(0.0) + wire;
        self.debt_at = now;
        let most = self.rate * PACING_BURST.as_secs_f64() + wire + 1.0;
        assert!(
            self.debt <= most,
            "rate passed at {now:?}: {} of {most} bytes",
            self.debt
        );
    }

    /// One packet of it.
    pub(crate) fn packet(&mut self, packet: &[u8], key: &SessionKey) {
        match packet::peek(packet).expect("the sender sends packets").0 {
            Kind::Data => self.data(&Data::decode(packet).unwrap()),
            Kind::Announce => self.announce(&Announce::decode(key.group().open(packet).unwrap()).unwrap()),
            Kind::Fin => {}
            kind @ (Kind::Join | Kind::Report) => panic!("the sender sent a {kind:?}"),
        }
    }

    fn data(&mut self, data: &Data<'_>) {
        assert_eq!(data.tx_seq, self.tx_seq + 1, "numbers of packets rise by one");
        self.tx_seq = data.tx_seq;
        let before = self.sent.insert(data.chunk, (data.symbol, data.tx_seq));
        let sources = self.image.geometry.source_symbols(data.chunk);
        let goes_on = before.is_some_and(|(symbol, _)| {
            // Parity may follow the source symbols unasked, beginning with any that was not sent.
            symbol + 1 == data.symbol || symbol + 1 == sources && data.symbol > sources
        });
        if !goes_on {
            let last = before.map_or(0, |(_, tx_seq)| tx_seq);
            let asked = self.asked.remove(&data.chunk);
            assert!(
                asked.is_some_and(|tx_seq| tx_seq >= last),
                "chunk {} was sent up to packet {last} and again from {}, asked for at {asked:?}",
                data.chunk,
                data.tx_seq
            );
        }
    }

    fn announce(&mut self, announce: &Announce) {
        assert_eq!(
            announce.tx_seq, self.tx_seq,
            "an announce names the last data packet"
        );
        let planned: BTreeSet<u32> = announce.plans.iter().map(|plan| plan.chunk).collect();
        assert_eq!(planned.len(), announce.plans.len(), "a chunk is planned once");
        for chunk in planned.difference(&self.planned) {
            // What was begun since the last announce was asked for then.
            let begun = self
                .sent
                .get(chunk)
                .is_some_and(|(_, tx_seq)| *tx_seq > self.announced);
            let asked = begun || self.asked.contains_key(chunk);
            assert!(asked, "chunk {chunk} is planned and nobody asked for it");
        }
        (self.planned, self.announced) = (planned, announce.tx_seq);
    }

    /// A report that the sender has to believe reached it.
    pub(crate) fn reported(&mut self, report: &Report) {
        let tx_seq = report.tx_seq.min(self.tx_seq);
        let runs = report
            .wants
            .iter()
            .flat_map(|want| want.first..want.first.saturating_add(want.count));
        for chunk in runs.chain(report.bitmap.chunks()) {
            let asked = self.asked.entry(chunk).or_default();
            *asked = tx_seq.max(*asked);
        }
    }

    /// A receiver speaks; `receivers` are in the group.
    pub(crate) fn said(&mut self, now: Time, receivers: usize) {
        let second = now.since_start().as_secs();
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        let most = most_reports(receivers);
        assert!(
            self.second.1 <= most,
            "{} reports in second {second} of {receivers} receivers, {most} at most",
            self.second.1
        );
    }

    /// A receiver accepts a chunk with these bytes.
    pub(crate) fn accepts(&self, chunk: u32, bytes: &[u8]) -> bool {
        let info = self.image.geometry.table().get(chunk).unwrap();
        let good = ChunkId::of(bytes) == info.id;
        assert!(
            !good || bytes == self.image.bytes(chunk),
            "a wrong byte was accepted"
        );
        good
    }

    /// What the sender holds now and held at most.
    pub(crate) fn sender(&self, stats: &SenderStats) {
        let parity = u64::try_from(PARITY * self.image.geometry.symbol_bytes()).unwrap();
        let bound = self.memory + HELD_CHUNKS * (self.image.largest() + parity);
        assert!(
            stats.held_peak <= bound,
            "the sender held {} of {bound} bytes",
            stats.held_peak
        );
    }

    /// What a receiver holds at most. One chunk with its parity is always taken, however small the budget.
    pub(crate) fn receiver(&self, index: usize, peak: u64, budget: u64) {
        let symbol = u64::try_from(self.image.geometry.symbol_bytes()).unwrap();
        let bound = budget.max(2 * self.image.largest() + 17 * symbol);
        assert!(peak <= bound, "receiver {index} held {peak} of {bound} bytes");
    }

    /// From time to time: `gained` changes with every symbol that counts, and `waits` says whether somebody lacks
    /// something who can be reached. `state` is printed when nothing moves.
    pub(crate) fn progress(&mut self, now: Time, gained: u64, waits: bool, state: impl FnOnce() -> String) {
        if gained != self.gained.0 || !waits {
            self.gained = (gained, now);
        }
        assert!(
            now.since(self.gained.1) <= self.patience,
            "nobody got anything for {:?} at {now:?}: {}",
            self.patience,
            state()
        );
    }
}

/// Reports in one second at most: regular ones, urgent ones, the first and last words of everyone, and NAKs of as
/// many as a group of this size does not silence.
fn most_reports(receivers: usize) -> u64 {
    let receivers = u64::try_from(receivers.max(1)).unwrap();
    let each =
        |period: Duration| u64::try_from(Duration::from_secs(1).as_millis() / period.as_millis()).unwrap();
    let regular = u64::from(REPORTS_PER_SECOND).min(receivers * each(REPORT_PERIOD_MIN));
    let urgent = each(URGENT_PERIOD_EACH).min(receivers * each(URGENT_PERIOD_MIN));
    2 * (regular + urgent) + 12 * receivers + 2_000
}
