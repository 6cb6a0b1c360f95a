//! The receiver of a session (protocol.md 10): gathers symbols, says what it lacks, and lets nothing count that its
//! driver has not verified.

mod gathering;
mod reporter;

use std::collections::VecDeque;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::multicast::fec::Gathered;
use crate::multicast::key::{ReceiverId, ReceiverKeys, SessionId, TagKey};
use crate::multicast::limits::{FILL_JUDGED, NAK_RETRY, QUIET_PACKETS, SAMPLE_PACKETS, SAMPLE_TIME};
use crate::multicast::packet::{self, Announce, Data, Fin, Kind, Malformed, Phase, Reason, Report};
use crate::multicast::set::ChunkSet;
use crate::multicast::stats::ReceiverStats;
use crate::multicast::table::Geometry;
use crate::multicast::time::{Time, earlier};
use crate::units::Rate;
use gathering::{Gathering, Symbol, Took};
use reporter::Reporter;

/// Data packets that may come in ahead of what the announced rate explains.
const AHEAD_PACKETS: u64 = 4_096;
/// How many times the announced rate the present one may be: a rate that nothing bounds yet rises fourfold between two
/// announces.
const RISING: u64 = 8;

/// What a receiver must know to take part.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// The session.
    pub session: SessionId,
    /// Its own number in it.
    pub receiver: ReceiverId,
    /// Its keys.
    pub keys: ReceiverKeys,
    /// The chunks and how they are cut.
    pub geometry: Geometry,
    /// Bytes of chunk buffers that it may hold: at least [`WINDOW_BYTES`](super::limits::WINDOW_BYTES) twice, to
    /// follow the sender and wait for repairs.
    pub memory: u64,
    /// Time without an announce after which the sender counts as lost.
    pub silence: Duration,
    /// The first JOIN comes at random within this time, so that a thousand nodes do not speak at once.
    pub join_spread: Duration,
}

/// What happened, for the driver.
#[derive(Debug)]
pub enum ReceiverEvent {
    /// A chunk is there but not verified: decode it, check its hash, then call `accept` or `reject`.
    Gathered(Gathered),
    /// This session will not bring the chunk: its hash was wrong too often, or the sender cannot read it.
    GaveUp(u32),
    /// Nothing is missing any more, except for what was given up.
    Complete,
    /// The sender ended the session.
    Finished(Reason),
    /// The sender does not wait for this receiver any more, because it follows too slowly: the session is over for it.
    Parted,
    /// Nothing was heard of the sender for the configured time.
    Silent,
}

/// What is known of the sender since its last announce.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Time,
    seq: u64,
    tx_seq: u64,
    rate: Rate,
}

/// The receiver's end of a session. See the module for the contract.
#[derive(Debug)]
pub struct Receiver {
    config: ReceiverConfig,
    gathering: Gathering,
    reporter: Reporter,
    rng: Xoshiro256PlusPlus,
    heard: Option<Heard>,
    /// Checks data packets that carry a tag; all do when `tagged`.
    data_key: TagKey,
    tagged: bool,
    /// Highest packet number that was taken or announced.
    highest: u64,
    /// The highest packet number that can be, and when that was worked out: packets come in batches.
    ceiling: (u64, Time),
    /// Where the present look at the loss began: highest number, packets, time.
    counted: (u64, u64, Time),
    /// At which packet number quiet chunks are looked for again.
    scan_at: u64,
    seq: u64,
    silent_at: Time,
    ended: bool,
    complete: bool,
    stats: ReceiverStats,
    events: VecDeque<ReceiverEvent>,
}

impl Receiver {
    /// Joins a session to get the chunks in `missing`.
    pub fn new(now: Time, config: ReceiverConfig, missing: ChunkSet, mut rng: Xoshiro256PlusPlus) -> Self {
        let wait = config.join_spread * rng.random_range(0..=1000) / 1000;
        let mut receiver = Self {
            gathering: Gathering::new(missing, config.memory),
            reporter: Reporter::new(now + wait),
            rng,
            heard: None,
            data_key: config.keys.group.data(),
            tagged: false,
            highest: 0,
            ceiling: (u64::MAX, now),
            counted: (0, 0, now),
            scan_at: QUIET_PACKETS,
            seq: 0,
            silent_at: now + config.silence,
            ended: false,
            complete: false,
            stats: ReceiverStats::default(),
            events: VecDeque::new(),
            config,
        };
        receiver.check_complete(now);
        receiver
    }

    /// Goes on in another session of the same version with symbols of the same size, as after a restart of the
    /// sender: chunks and symbols that are there stay.
    pub fn rejoin(&mut self, now: Time, session: SessionId, receiver: ReceiverId, keys: ReceiverKeys) {
        (self.config.session, self.config.receiver, self.config.keys) = (session, receiver, keys);
        let wait = self.config.join_spread * self.rng.random_range(0..=1000) / 1000;
        self.reporter = Reporter::new(now + wait);
        (self.heard, self.highest, self.scan_at, self.seq) = (None, 0, QUIET_PACKETS, 0);
        self.counted = (0, self.stats.packets, now);
        self.ceiling = (u64::MAX, now);
        (self.data_key, self.tagged) = (self.config.keys.group.data(), false);
        self.silent_at = now + self.config.silence;
        (self.ended, self.complete) = (false, false);
        self.gathering.restart();
        self.check_complete(now);
    }

    /// Takes a packet that came to the group.
    pub fn handle_packet(&mut self, now: Time, packet: &[u8]) {
        let result = match packet::peek(packet) {
            Ok((_, session)) if session != self.config.session => {
                self.stats.refused.foreign += 1;
                Ok(())
            }
            Ok((Kind::Data, _)) => self.on_data(now, packet),
            Ok((Kind::Announce | Kind::Fin, _)) => self.on_control(now, packet),
            Ok((Kind::Join | Kind::Report, _)) => Err(Malformed::Kind),
            Err(why) => Err(why),
        };
        if let Err(why) = result {
            self.stats.refused.count(why);
        }
    }

    /// Takes that time passed. To be called when [`poll_timeout`](Self::poll_timeout) says so; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        if now >= self.silent_at && !self.ended {
            self.ended = true;
            self.events.push_back(ReceiverEvent::Silent);
        }
    }

    /// The chunk has its hash and was taken.
    pub fn accept(&mut self, now: Time, index: u32) {
        if self.gathering.accept(index) {
            self.stats.accepted += 1;
            self.check_complete(now);
        }
    }

    /// The chunk has not its hash: its symbols are thrown away.
    pub fn reject(&mut self, now: Time, index: u32) {
        if let Some(given_up) = self.gathering.reject(index) {
            self.stats.rejected += 1;
            if given_up {
                self.stats.given_up += 1;
                self.events.push_back(ReceiverEvent::GaveUp(index));
                self.check_complete(now);
            }
        }
    }

    /// The chunk came by another way, or is not wanted any more.
    pub fn have(&mut self, now: Time, index: u32) {
        if self.gathering.have(index) {
            self.check_complete(now);
        }
    }

    /// Takes memory of chunks that went before, for those that come.
    pub fn give(&mut self, memory: Vec<u8>) {
        self.gathering.give(memory);
    }

    /// How full the fullest queue behind the receiver is, in 255ths, and how many packets the socket dropped in all.
    pub fn load(&mut self, now: Time, fill: u8, drops: u64) {
        self.reporter.on_load(now, fill.max(self.gathering.fill()), drops);
    }

    /// Whether so many chunks wait for their hash to be checked that packets had better wait in the socket: there they are
    /// kept, and here they might find no room.
    pub fn is_full(&self) -> bool {
        self.gathering.fill() >= FILL_JUDGED
    }

    /// The packet for the sender's control address that is due, in `packet`, which is cleared before.
    pub fn poll_transmit(&mut self, now: Time, packet: &mut Vec<u8>) -> bool {
        packet.clear();
        if self.ended {
            return false;
        }
        let join = self.reporter.joining();
        let Some(content) = self.reporter.content(now, &mut self.gathering) else {
            return false;
        };
        self.seq += 1;
        let naks = content
            .wants
            .iter()
            .filter(|want| want.deficit != packet::WHOLE)
            .count();
        let report = Report {
            join,
            poisoned: self.stats.rejected > 0,
            session: self.config.session,
            seq: self.seq,
            receiver: self.config.receiver,
            tx_seq: self.highest,
            received: self.stats.packets,
            drops: self.reporter.drops(),
            missing: self.gathering.missing().count(),
            fill: self.reporter.fill(),
            wants: content.wants,
            bitmap: content.bitmap,
        };
        report.encode(&self.config.keys.own, packet);
        self.stats.reports += 1;
        self.stats.report_bytes += u64::try_from(packet.len()).unwrap_or(0);
        self.stats.naks += u64::try_from(naks).unwrap_or(0);
        true
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and to poll for a packet again.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.ended {
            None
        } else {
            earlier(self.reporter.due(&self.gathering), Some(self.silent_at))
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<ReceiverEvent> {
        self.events.pop_front()
    }

    /// Whether nothing is left to be said or heard: the session ended, or all is here and the sender was told.
    pub fn is_finished(&self) -> bool {
        self.ended || self.complete && self.reporter.said_all()
    }

    /// The number of the last packet that this session has sent, by its last announce; `None` before the first.
    pub fn announced(&self) -> Option<u64> {
        self.heard.map(|heard| heard.tx_seq)
    }

    /// Chunks that this session has not brought, nor anybody else.
    pub fn missing(&self) -> &ChunkSet {
        self.gathering.missing()
    }

    /// Counters so far.
    pub fn stats(&self) -> ReceiverStats {
        self.stats
    }

    fn on_data(&mut self, now: Time, packet: &[u8]) -> Result<(), Malformed> {
        let data = Data::decode(packet)?;
        // Without a tag a packet is taken as long as none is asked for; a wrong one never.
        if !Data::check(packet, &self.data_key).unwrap_or(!self.tagged) {
            self.stats.refused.tag += 1;
            return Ok(());
        }
        let geometry = &self.config.geometry;
        if packet.len() != geometry.packet_bytes() {
            return Err(Malformed::Length);
        }
        if data.chunk >= geometry.table().count() {
            return Err(Malformed::Field);
        }
        if !self.plausible(now, data.tx_seq) {
            self.stats.implausible += 1;
            return Ok(());
        }
        // Before the first announce nothing says which numbers can be.
        let tx_seq = if self.heard.is_some() { data.tx_seq } else { 0 };
        let symbol = Symbol {
            chunk: data.chunk,
            number: data.symbol,
            tx_seq,
            payload: data.payload,
        };
        match self
            .gathering
            .add(&self.config.geometry, &mut self.stats, &symbol)
        {
            Took::Wrong => return Err(Malformed::Field),
            Took::Gathered(gathered) => self.events.push_back(ReceiverEvent::Gathered(gathered)),
            Took::Nothing => {}
        }
        self.stats.packets += 1;
        if self.heard.is_some() && data.tx_seq > self.highest {
            self.highest = data.tx_seq;
            self.look_at_loss(now);
            if self.highest >= self.scan_at {
                self.scan_at = self.highest.saturating_add(QUIET_PACKETS);
                self.find_quiet(now, self.highest.saturating_sub(QUIET_PACKETS));
            }
        }
        Ok(())
    }

    /// Has a report sent at once when the loss is another than the last report could tell.
    fn look_at_loss(&mut self, now: Time) {
        let (highest, packets, at) = self.counted;
        let sent = self.highest - highest;
        if sent < SAMPLE_PACKETS || now.since(at) < SAMPLE_TIME {
            return;
        }
        self.counted = (self.highest, self.stats.packets, now);
        let lost = sent.saturating_sub(self.stats.packets - packets);
        self.reporter.on_loss(now, lost.saturating_mul(1_000_000) / sent);
    }

    /// Whether a packet number can be, by the last announce. Data packets usually carry no tag, and a forged number that
    /// were believed would make this receiver's reports claim what the sender has not sent.
    fn plausible(&mut self, now: Time, tx_seq: u64) -> bool {
        if let Some(heard) = self.heard.filter(|_| now > self.ceiling.1) {
            let wire = self.config.geometry.wire_bytes();
            let packet = heard.rate.time_for(wire).as_nanos().max(1);
            let since = now.since(heard.at).as_nanos() / packet;
            let since = u64::try_from(since).unwrap_or(u64::MAX).saturating_mul(RISING);
            let most = heard.tx_seq.saturating_add(since).saturating_add(AHEAD_PACKETS);
            self.ceiling = (most, now);
        }
        tx_seq <= self.ceiling.0
    }

    fn on_control(&mut self, now: Time, packet: &[u8]) -> Result<(), Malformed> {
        let Some(body) = self.config.keys.group.open(packet) else {
            self.stats.refused.tag += 1;
            return Ok(());
        };
        if packet::peek(body)?.0 == Kind::Fin {
            let fin = Fin::decode(body)?;
            if self.is_new(fin.seq) && !self.ended {
                self.ended = true;
                self.reporter.finish();
                self.events.push_back(ReceiverEvent::Finished(fin.reason));
            }
            return Ok(());
        }
        let announce = Announce::decode(body)?;
        if announce.manifest != self.config.geometry.table().manifest() {
            self.stats.refused.foreign += 1;
        } else if self.is_new(announce.seq) {
            self.on_announce(now, &announce);
        }
        Ok(())
    }

    fn is_new(&mut self, seq: u64) -> bool {
        let new = self.heard.is_none_or(|heard| seq > heard.seq);
        self.stats.refused.replayed += u64::from(!new);
        new
    }

    fn on_announce(&mut self, now: Time, announce: &Announce) {
        let Announce {
            seq, tx_seq, rate, ..
        } = *announce;
        self.stats.announces += 1;
        if self.heard.is_none() {
            // What was sent before it came is no loss.
            self.counted = (tx_seq.max(self.highest), self.stats.packets, now);
        }
        self.heard = Some(Heard {
            at: now,
            seq,
            tx_seq,
            rate,
        });
        self.ceiling = (tx_seq.saturating_add(AHEAD_PACKETS), now);
        self.highest = self.highest.max(tx_seq);
        self.silent_at = now + self.config.silence;
        self.tagged |= announce.tagged;
        if announce.parted.contains(&self.config.receiver) && !self.ended && !self.complete {
            self.ended = true;
            self.reporter.finish();
            self.events.push_back(ReceiverEvent::Parted);
            return;
        }
        if self.complete && announce.confirmed.contains(&self.config.receiver) {
            self.reporter.finish();
        }
        for &chunk in &announce.unreadable {
            if self.gathering.have(chunk) {
                self.stats.given_up += 1;
                self.events.push_back(ReceiverEvent::GaveUp(chunk));
            }
        }
        let mut plans: Vec<(u32, u16)> = announce
            .plans
            .iter()
            .map(|plan| (plan.chunk, plan.symbols))
            .collect();
        plans.sort_unstable();
        for (chunk, open) in self.gathering.open() {
            let deficit = open.symbols.deficit();
            let plan = plans
                .binary_search_by_key(&chunk, |plan| plan.0)
                .ok()
                .map(|at| plans[at].1);
            open.planned = plan.is_some_and(|symbols| symbols >= deficit);
            if open.planned && open.nak_at.take().is_some() {
                self.stats.suppressed += 1;
            }
            // When nothing is planned at all, a number that seems to come after the last one was forged.
            let over = tx_seq >= open.last_seq || announce.phase == Phase::Idle;
            if plan.is_none() && open.nak_at.is_none() && over {
                open.nak_at = Some(now + self.reporter.back_off(deficit, &mut self.rng));
            }
            if announce.phase == Phase::Idle {
                // The sender waits for nothing else: whoever was not answered for long, as a straggler is not, asks again.
                let soon = now + NAK_RETRY.0;
                open.nak_at = open.nak_at.map(|at| at.min(soon));
            }
        }
        let lacks_whole = !self.gathering.whole().is_empty();
        self.reporter
            .on_announce(now, announce, lacks_whole, &mut self.rng);
        self.check_complete(now);
    }

    /// Arms the NAK timers of chunks of which nothing came since packet `before`.
    fn find_quiet(&mut self, now: Time, before: u64) {
        for (_, open) in self.gathering.open() {
            if open.last_seq <= before && !open.planned && open.nak_at.is_none() {
                let deficit = open.symbols.deficit();
                open.nak_at = Some(now + self.reporter.back_off(deficit, &mut self.rng));
            }
        }
    }

    fn check_complete(&mut self, now: Time) {
        if self.gathering.missing().is_empty() && !self.complete {
            self.complete = true;
            self.reporter.on_done(now);
            self.events.push_back(ReceiverEvent::Complete);
        }
    }
}

#[cfg(test)]
mod tests;
