//! The sender of a session (protocol.md 8): collects what receivers lack and sends it once for all of them.

mod announcer;
mod batch;
mod config;
mod follower;
mod following;
mod history;
mod registry;
mod store;
mod transmit;
mod wants;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

pub use batch::Batch;
pub use config::{SenderConfig, SenderEvent};
pub use registry::Peer;
pub use store::{Load, LoadError, Loaded};

use crate::multicast::key::{ReceiverId, TagKey};
use crate::multicast::limits::{EVENTS, FINS, REPORT_CHUNKS, WIRE_OVERHEAD_BYTES};
use crate::multicast::pace::Pacer;
use crate::multicast::packet::{self, Kind, Malformed, Reason, Report, WHOLE};
use crate::multicast::rate::RateControl;
use crate::multicast::stats::SenderStats;
use crate::multicast::time::{Time, earlier};
use crate::units::Rate;
use announcer::Announcer;
use following::{Advice, Cause, Following, Sending};
use history::History;
use registry::{Heard, Registry};
use store::{Store, Wanted};
use wants::{Answer, Ask, Wants};
use window::Window;

/// How often silence is looked for.
const CENSUS: Duration = Duration::from_millis(250);

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Receivers are waited for, since the first one joined if one has.
    Waiting {
        first: Option<Time>,
    },
    /// Wants are answered.
    Open,
    /// FIN is being repeated.
    Closing {
        reason: Reason,
        left: u32,
        next: Time,
    },
    Closed,
}

/// The sender's end of a session. See the module for the contract.
#[derive(Debug)]
pub struct Sender {
    config: SenderConfig,
    state: State,
    registry: Registry,
    wants: Wants,
    store: Store,
    window: Window,
    /// Bytes on the wire of a chunk of middling length.
    chunk_wire: u64,
    pacer: Pacer,
    rate: RateControl,
    following: Following,
    history: History,
    /// Makes the tags of data packets, once somebody has noticed forged ones.
    data_key: TagKey,
    tagged: bool,
    announcer: Announcer,
    tx_seq: u64,
    census_at: Time,
    /// Since when nobody that is alive lacks anything.
    content_since: Time,
    stats: SenderStats,
    events: VecDeque<SenderEvent>,
}

impl Sender {
    /// Opens a session.
    pub fn new(now: Time, config: SenderConfig) -> Self {
        Self {
            state: State::Waiting { first: None },
            registry: Registry::default(),
            wants: Wants::new(config.geometry.table().count()),
            store: Store::new(config.memory),
            window: Window::default(),
            chunk_wire: config.geometry.table().bytes() / u64::from(config.geometry.table().count())
                * config.geometry.wire_bytes()
                / u64_from(config.geometry.symbol_bytes()),
            pacer: Pacer::new(now),
            rate: RateControl::new(now, config.rate_min, config.rate_max),
            following: Following::default(),
            history: History::default(),
            data_key: config.key.data(),
            tagged: false,
            announcer: Announcer::new(now),
            tx_seq: 0,
            census_at: now + CENSUS,
            content_since: now,
            stats: SenderStats::default(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Takes a packet that came to the control address.
    pub fn handle_packet(&mut self, now: Time, packet: &[u8]) {
        match self.decode(packet) {
            Ok(Some(report)) => self.on_report(now, &report, packet.len()),
            Ok(None) => {}
            Err(why) => self.stats.refused.count(why),
        }
    }

    /// Takes that time passed. To be called when [`poll_timeout`](Self::poll_timeout) says so; earlier does no harm.
    pub fn handle_timeout(&mut self, now: Time) {
        self.rate
            .count(now, self.state == State::Open && self.window.can_send());
        self.rate.on_time(now, self.pacer.wasted());
        if now >= self.census_at {
            self.census_at = now + CENSUS;
            self.census(now);
        }
        self.advance(now);
    }

    /// Ends the session: FIN is sent, and what was under way is not.
    pub fn stop(&mut self, now: Time) {
        if !matches!(self.state, State::Closing { .. } | State::Closed) {
            self.close(now, Reason::Stopped);
        }
    }

    /// The next chunk that the driver should bring. Some may be under way at a time; answer each with
    /// [`provide`](Self::provide) or [`provide_failed`](Self::provide_failed).
    pub fn poll_load(&mut self) -> Option<Load> {
        self.store.poll_load()
    }

    /// Takes a chunk that was loaded.
    pub fn provide(&mut self, now: Time, loaded: Loaded) {
        self.store.provide(loaded);
        self.stats.held_peak = self.store.peak();
        self.advance(now);
    }

    /// Takes that a chunk cannot be read: receivers are told to get it elsewhere.
    pub fn provide_failed(&mut self, now: Time, index: u32) {
        if self.store.failed(index) {
            self.stats.unreadable += 1;
            self.window.remove(index, &self.config.geometry);
            self.store.release(index);
            self.wants.unreadable(index);
            self.announcer.urge();
            self.advance(now);
        }
    }

    /// Puts packets for the group that may go now into `batch`, in place of what was there; false when there are none.
    pub fn poll_transmit(&mut self, now: Time, batch: &mut Batch) -> bool {
        if self.pacer.ready_at() > now {
            return false;
        }
        let any = match self.state {
            State::Closed => false,
            State::Closing { reason, left, next } => self.fin(now, reason, left, next, batch),
            State::Waiting { .. } | State::Open if self.announcer.due(self.rate.rate()) <= now => {
                self.announce(now, batch);
                true
            }
            State::Waiting { .. } => false,
            State::Open => {
                let any = self.batch(now, batch);
                if !any {
                    self.pacer.rest();
                }
                any
            }
        };
        if !any {
            return false;
        }
        if self.state != State::Open {
            self.pacer.rest();
        }
        let (segment, count) = (u64_from(batch.segment()), u64_from(batch.count()));
        let wire = (segment + WIRE_OVERHEAD_BYTES) * count;
        self.pacer.spend(now, wire, self.rate.rate());
        self.stats.bytes += segment * count;
        true
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and to poll for packets again; `None` when the session
    /// is closed.
    pub fn poll_timeout(&self) -> Option<Time> {
        let paced = |at: Time| at.max(self.pacer.ready_at());
        match self.state {
            State::Closed => None,
            State::Closing { next, .. } => Some(paced(next)),
            State::Waiting { first } => {
                let complete = self.registry.alive() >= self.config.min_receivers;
                let wait = if complete {
                    self.config.gather
                } else {
                    self.config.max_wait
                };
                let until = first.map(|first| first + wait);
                let announce = paced(self.announcer.due(self.rate.rate()));
                earlier(until, Some(announce.min(self.census_at)))
            }
            State::Open => {
                let announce = paced(self.announcer.due(self.rate.rate()));
                let data = self.window.can_send().then(|| self.pacer.ready_at());
                let repair = if self.window.takes_repair() {
                    self.wants.due()
                } else {
                    None
                };
                earlier(earlier(data, repair), Some(announce.min(self.census_at)))
            }
        }
    }

    /// The next event, oldest first.
    pub fn poll_event(&mut self) -> Option<SenderEvent> {
        self.events.pop_front()
    }

    /// Whether the session is over and FIN was repeated as often as it is.
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Whether the session is ending or over: who joins now gets nothing from it.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closing { .. } | State::Closed)
    }

    /// Counters so far.
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            expired: self.wants.expired(),
            bounds: self.rate.bounds(),
            ..self.stats
        }
    }

    /// The rate at present.
    pub fn rate(&self) -> Rate {
        self.rate.rate()
    }

    /// All receivers that were ever heard.
    pub fn receivers(&self) -> impl Iterator<Item = (ReceiverId, Peer)> + '_ {
        self.registry.iter()
    }

    fn decode(&mut self, packet: &[u8]) -> Result<Option<Report>, Malformed> {
        let (kind, session) = packet::peek(packet)?;
        if !matches!(kind, Kind::Join | Kind::Report) {
            return Err(Malformed::Kind);
        }
        if session != self.config.session {
            self.stats.refused.foreign += 1;
            return Ok(None);
        }
        let key = self.config.key.receiver(Report::peek_receiver(packet)?);
        let Some(body) = key.open(packet) else {
            self.stats.refused.tag += 1;
            return Ok(None);
        };
        let report = Report::decode(body)?;
        let count = self.config.geometry.table().count();
        let outside = report.wants.iter().any(|want| want.first + want.count > count)
            || report.bitmap.chunks().last().is_some_and(|last| last >= count);
        if outside || report.missing > count {
            Err(Malformed::Field)
        } else {
            Ok(Some(report))
        }
    }

    fn on_report(&mut self, now: Time, report: &Report, len: usize) {
        let heard = self.registry.on_report(now, report);
        match heard {
            Heard::Replayed => return self.stats.refused.replayed += 1,
            Heard::Crowd => return self.stats.refused.crowd += 1,
            Heard::Parted => return self.announcer.part(report.receiver),
            Heard::Joined => self.event(SenderEvent::Joined(report.receiver)),
            Heard::Done => self.event(SenderEvent::Done(report.receiver)),
            Heard::Known => {}
        }
        self.stats.reports += 1;
        self.stats.report_bytes += u64_from(len);
        if report.done() {
            self.announcer.confirm(report.receiver);
        }
        self.follow(now, report);
        if report.poisoned && !self.tagged {
            self.tagged = true;
            self.announcer.urge();
            self.event(SenderEvent::Tagged);
        }
        if report.join || heard == Heard::Joined {
            self.announcer.urge();
        }
        if matches!(self.state, State::Waiting { .. } | State::Open)
            && !report.done()
            && !self.following.is_straggler(report.receiver)
        {
            self.take_wants(now, report, heard == Heard::Joined);
        }
        self.advance(now);
    }

    /// Lets the rate follow what the report says.
    fn follow(&mut self, now: Time, report: &Report) {
        self.rate.on_time(now, self.pacer.wasted());
        let sending = Sending {
            now,
            rate: self.rate.rate(),
            guessed: !self.rate.heard(),
            tx_seq: self.tx_seq,
            history: &self.history,
            wire: self.config.geometry.wire_bytes(),
        };
        let advice = self.following.on_report(&sending, report);
        self.take_advice(now, advice);
    }

    fn take_advice(&mut self, now: Time, advice: Advice) {
        match advice {
            Advice::Keep => {}
            Advice::Good => self.rate.followed(),
            Advice::Cut(limit, Cause::Network) => self.rate.cut_to_line(now, limit),
            Advice::Cut(limit, Cause::Queues) => self.rate.cut(now, limit),
            Advice::Restore(before) => self.rate.restore(now, before),
        }
    }

    /// Looks who is silent, and who is a straggler for too long.
    fn census(&mut self, now: Time) {
        for id in self.registry.expire(now) {
            self.following.forget(id);
            self.event(SenderEvent::Silent(id));
        }
        let sent = self.history.lately(now, self.config.geometry.wire_bytes());
        let (advice, parted) =
            self.following
                .census(now, sent, self.registry.report_period(self.rate.rate()));
        self.take_advice(now, advice);
        for id in parted {
            self.registry.part(id);
            self.announcer.part(id);
            self.stats.parted += 1;
            self.event(SenderEvent::Parted(id));
        }
    }

    /// Changes the bound of the rate, as when another session begins or ends beside this one.
    pub fn set_rate_max(&mut self, max: Rate) {
        self.rate.set_max(max);
    }

    /// Counts a report's wants. Only the first report of a receiver may name more chunks than one section has.
    fn take_wants(&mut self, now: Time, report: &Report, first: bool) {
        // A receiver whose data ran ahead of our counter lies or was lied to; it cannot have seen more than all.
        let tx_seq = report.tx_seq.min(self.tx_seq);
        let class = 1 << (report.receiver.0 % 32);
        self.wants.set_receivers(self.registry.lacking());
        let runs = report.wants.iter().flat_map(|want| {
            (want.first..want.first + want.count).map(|chunk| Ask {
                chunk,
                deficit: want.deficit,
                tx_seq,
                class,
            })
        });
        let bits = report.bitmap.chunks().map(|chunk| Ask {
            chunk,
            deficit: WHOLE,
            tx_seq,
            class,
        });
        let all = self.config.geometry.table().chunks().len();
        let most = if first { all } else { REPORT_CHUNKS };
        let (mut deficits, plans) = (0, self.wants.repairs().count());
        for ask in runs.chain(bits).take(most) {
            let sources = self.config.geometry.source_symbols(ask.chunk);
            match self.wants.ask(now, ask, sources) {
                Answer::Taken => deficits += u64::from(ask.deficit < sources),
                Answer::Stale => self.stats.stale += 1,
                Answer::Unreadable => {}
            }
        }
        self.stats.deficits += deficits;
        self.stats.naks += u64::from(report.wants.iter().any(|want| want.deficit != WHOLE));
        if self.wants.repairs().count() > plans {
            self.announcer.urge();
        }
    }

    /// So many receivers are known to come: until sending has begun, they are waited for, as long as
    /// [`SenderConfig::max_wait`] allows. Fewer than before change nothing.
    pub fn expect(&mut self, receivers: u32) {
        self.config.min_receivers = self.config.min_receivers.max(receivers);
    }

    /// Moves the session on: starts it, stages and sends what is wanted, ends it.
    fn advance(&mut self, now: Time) {
        match self.state {
            State::Waiting { first } => self.wait(now, first),
            State::Open => self.work(now),
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn wait(&mut self, now: Time, first: Option<Time>) {
        if !self.registry.ever() {
            if now.since(self.content_since) >= self.config.join_wait {
                self.close(now, Reason::Done);
            }
            return;
        }
        let first = first.unwrap_or(now);
        let waited = now.since(first);
        let complete = self.registry.alive() >= self.config.min_receivers && waited >= self.config.gather;
        if complete || waited >= self.config.max_wait {
            self.state = State::Open;
            self.content_since = now;
            self.event(SenderEvent::Started);
            self.announcer.urge();
            self.work(now);
        } else {
            self.state = State::Waiting { first: Some(first) };
        }
    }

    fn work(&mut self, now: Time) {
        if self.registry.lacking() == 0 {
            // What the dead lacked, and what the living got elsewhere, is not sent.
            let dropped = self.window.clear();
            dropped.iter().for_each(|&chunk| self.store.release(chunk));
            self.wants.clear(&dropped);
            if now.since(self.content_since) >= self.config.linger {
                self.close(now, Reason::Done);
            }
            return;
        }
        self.content_since = now;
        let idle = self.window.is_empty() && self.wants.waiting() == 0;
        while self.window.takes_repair() {
            let Some(chunk) = self.wants.next_repair(now) else {
                break;
            };
            self.stage(chunk, true);
        }
        let sections = self
            .config
            .geometry
            .table()
            .count()
            .div_ceil(u32::try_from(REPORT_CHUNKS).unwrap_or(1));
        let expiry = self.registry.silence() * sections;
        while self.window.takes_whole() {
            let Some(chunk) = self.wants.next_whole(now, expiry) else {
                break;
            };
            self.stage(chunk, false);
        }
        let depth = self.depth();
        self.window
            .fill(&self.store, &mut self.wants, &self.config.geometry, depth);
        if idle && !self.window.is_empty() {
            self.announcer.urge();
        }
    }

    fn stage(&mut self, chunk: u32, repair: bool) {
        let geometry = &self.config.geometry;
        let Some(info) = geometry.table().get(chunk) else {
            return;
        };
        let wanted = Wanted {
            index: chunk,
            id: info.id,
            len: geometry.chunk_bytes(chunk),
            symbol: geometry.symbol_bytes(),
            parity: self.wants.needs_parity(chunk),
        };
        self.window.stage(&mut self.store, wanted, repair);
    }

    fn close(&mut self, now: Time, reason: Reason) {
        self.state = State::Closing {
            reason,
            left: FINS.0,
            next: now,
        };
    }

    fn event(&mut self, event: SenderEvent) {
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

fn u64_from(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
