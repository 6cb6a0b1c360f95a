//! The sender of a session (protocol.md 8): collects what receivers lack and sends it once for all of them.

mod announcer;
mod registry;
mod store;
mod wants;
mod window;

use std::collections::VecDeque;
use std::time::Duration;

pub use registry::Peer;
pub use store::{Load, LoadError, Loaded};

use crate::multicast::key::{ReceiverId, SessionId, SessionKey};
use crate::multicast::limits::{BATCH_TIME, EVENTS, REPORT_CHUNKS, SEGMENTS, WIRE_OVERHEAD_BYTES};
use crate::multicast::pace::Pacer;
use crate::multicast::packet::{self, Data, Kind, Malformed, Phase, Reason, Report, WHOLE};
use crate::multicast::rate::RateControl;
use crate::multicast::stats::SenderStats;
use crate::multicast::table::Geometry;
use crate::multicast::time::{Time, earlier};
use crate::units::Rate;
use announcer::Announcer;
use registry::{Heard, Registry};
use store::{Store, Wanted};
use wants::{Answer, Ask, Wants};
use window::Window;

/// How often silence is looked for.
const CENSUS: Duration = Duration::from_millis(250);

/// What a session is to be.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Its number: random.
    pub session: SessionId,
    /// Its secret: random.
    pub key: SessionKey,
    /// Its chunks and how they are cut.
    pub geometry: Geometry,
    /// The rate on the wire that is never passed.
    pub rate_max: Rate,
    /// The rate below which receivers that cannot follow do not slow the session.
    pub rate_min: Rate,
    /// Receivers that are waited for before anything is sent.
    pub min_receivers: u32,
    /// How long they are waited for, from the first that joins.
    pub max_wait: Duration,
    /// How long the session stays open when nobody joins.
    pub join_wait: Duration,
    /// How long it stays open when nobody lacks anything, for others to join.
    pub linger: Duration,
    /// Bytes of chunks held in memory, as far as those being sent leave a choice.
    pub memory: u64,
    /// Packets in one transmission at most; 1 without segmentation offload.
    pub max_segments: usize,
}

/// Packets to be sent to the group, one behind the other in the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes of each packet.
    pub segment: usize,
    /// How many there are: the buffer holds `segment * count` bytes.
    pub count: usize,
}

/// What happened, for people and for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEvent {
    /// A receiver was heard for the first time, or again after silence.
    Joined(ReceiverId),
    /// A receiver needs nothing more.
    Done(ReceiverId),
    /// A receiver was not heard for the silence bound; nobody waits for it.
    Silent(ReceiverId),
    /// Sending begins.
    Started,
    /// The session ended: FIN was sent as often as it is.
    Finished(Reason),
}

/// Where the session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Receivers are waited for, until the time if there is one.
    Waiting {
        until: Option<Time>,
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
    pacer: Pacer,
    rate: RateControl,
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
            state: State::Waiting { until: None },
            registry: Registry::default(),
            wants: Wants::new(config.geometry.table().count()),
            store: Store::new(config.memory),
            window: Window::default(),
            pacer: Pacer::new(now),
            rate: RateControl::new(now, config.rate_min, config.rate_max),
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
        self.rate.on_time(now);
        if now >= self.census_at {
            self.census_at = now + CENSUS;
            let silent = self.registry.expire(now);
            silent
                .into_iter()
                .for_each(|id| self.event(SenderEvent::Silent(id)));
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
            self.window.drop_staged(index);
            self.store.release(index);
            self.wants.unreadable(index);
            self.announcer.urge();
            self.advance(now);
        }
    }

    /// Packets for the group that may go now, in `buffer`, which is cleared before.
    pub fn poll_transmit(&mut self, now: Time, buffer: &mut Vec<u8>) -> Option<Transmit> {
        buffer.clear();
        if self.pacer.ready_at() > now {
            return None;
        }
        let transmit = match self.state {
            State::Closed => return None,
            State::Closing { reason, left, next } => self.fin(now, reason, left, next, buffer)?,
            State::Waiting { .. } | State::Open if self.announcer.due(self.rate.rate()) <= now => {
                self.announce(now, buffer)
            }
            State::Waiting { .. } => return None,
            State::Open => self.batch(now, buffer)?,
        };
        let wire = (u64_from(transmit.segment) + WIRE_OVERHEAD_BYTES) * u64_from(transmit.count);
        self.pacer.spend(now, wire, self.rate.rate());
        self.stats.bytes += u64_from(buffer.len());
        Some(transmit)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and to poll for packets again; `None` when the session
    /// is closed.
    pub fn poll_timeout(&self) -> Option<Time> {
        let paced = |at: Time| at.max(self.pacer.ready_at());
        match self.state {
            State::Closed => None,
            State::Closing { next, .. } => Some(paced(next)),
            State::Waiting { until } => {
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

    /// Counters so far.
    pub fn stats(&self) -> SenderStats {
        SenderStats {
            expired: self.wants.expired(),
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
        let (heard, sample) = self.registry.on_report(now, report);
        match heard {
            Heard::Replayed => return self.stats.refused.replayed += 1,
            Heard::Crowd => return self.stats.refused.crowd += 1,
            Heard::Joined => self.event(SenderEvent::Joined(report.receiver)),
            Heard::Done => self.event(SenderEvent::Done(report.receiver)),
            Heard::Known => {}
        }
        self.stats.reports += 1;
        self.stats.report_bytes += u64_from(len);
        self.rate.on_time(now);
        self.rate.on_report(now, sample);
        if report.join || heard == Heard::Joined {
            self.announcer.urge();
        }
        if matches!(self.state, State::Waiting { .. } | State::Open) && !report.done() {
            self.take_wants(now, report, heard == Heard::Joined);
        }
        self.advance(now);
    }

    /// Counts a report's wants. Only the first report of a receiver may name more chunks than one section has.
    fn take_wants(&mut self, now: Time, report: &Report, first: bool) {
        // A receiver whose data ran ahead of our counter lies or was lied to; it cannot have seen more than all.
        let tx_seq = report.tx_seq.min(self.tx_seq);
        let runs = report.wants.iter().flat_map(|want| {
            (want.first..want.first + want.count).map(|chunk| Ask {
                chunk,
                deficit: want.deficit,
                tx_seq,
            })
        });
        let bits = report.bitmap.chunks().map(|chunk| Ask {
            chunk,
            deficit: WHOLE,
            tx_seq,
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

    /// Moves the session on: starts it, stages and sends what is wanted, ends it.
    fn advance(&mut self, now: Time) {
        match self.state {
            State::Waiting { until } => self.wait(now, until),
            State::Open => self.work(now),
            State::Closing { .. } | State::Closed => {}
        }
    }

    fn wait(&mut self, now: Time, until: Option<Time>) {
        if !self.registry.ever() {
            if now.since(self.content_since) >= self.config.join_wait {
                self.close(now, Reason::Done);
            }
            return;
        }
        let until = until.unwrap_or(now + self.config.max_wait);
        if self.registry.alive() >= self.config.min_receivers || now >= until {
            self.state = State::Open;
            self.content_since = now;
            self.event(SenderEvent::Started);
            self.announcer.urge();
            self.work(now);
        } else {
            self.state = State::Waiting { until: Some(until) };
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
        self.window
            .fill(&self.store, &mut self.wants, &self.config.geometry);
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
            parity: self.wants.by_parity(chunk),
        };
        self.window.stage(&mut self.store, wanted, repair);
    }

    /// As many data packets as may go in one batch.
    fn batch(&mut self, now: Time, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let segment = self.config.geometry.packet_bytes();
        let most = self.batch_packets(segment);
        self.window
            .fill(&self.store, &mut self.wants, &self.config.geometry);
        let mut count = 0;
        while count < most {
            let Some(pick) = self.window.next(&self.config.geometry) else {
                break;
            };
            self.tx_seq += 1;
            self.write(pick, buffer);
            self.wants.sent(pick.chunk, self.tx_seq, pick.last);
            if pick.last {
                self.store.release(pick.chunk);
                self.work(now);
            }
            count += 1;
        }
        if count > 0 && self.window.is_empty() && self.wants.waiting() == 0 {
            self.announcer.urge();
        }
        self.stats.packets += u64_from(count);
        (count > 0).then_some(Transmit { segment, count })
    }

    /// Packets of one batch: what the driver takes, and not more than go in [`BATCH_TIME`].
    fn batch_packets(&self, segment: usize) -> usize {
        let wire = u64_from(segment) + WIRE_OVERHEAD_BYTES;
        let per_packet = self.rate.rate().time_for(wire).as_nanos().max(1);
        let paced = usize::try_from(BATCH_TIME.as_nanos() / per_packet).unwrap_or(usize::MAX);
        let datagram = 65_507 / segment;
        paced
            .min(self.config.max_segments)
            .min(SEGMENTS)
            .min(datagram)
            .max(1)
    }

    fn write(&mut self, pick: window::Pick, buffer: &mut Vec<u8>) {
        let geometry = &self.config.geometry;
        let sources = geometry.source_symbols(pick.chunk);
        let payload = if pick.symbol < sources {
            *(if pick.again {
                &mut self.stats.repeated
            } else {
                &mut self.stats.source
            }) += 1;
            let chunk = self
                .store
                .bytes(pick.chunk)
                .expect("a chunk being sent is pinned");
            &chunk[geometry.range(pick.symbol, chunk.len())]
        } else {
            self.stats.parity += 1;
            let parity = self.store.parity(pick.chunk, pick.symbol - sources);
            parity.expect("a chunk enters the window with the parity that its turn needs")
        };
        let end = buffer.len() + geometry.packet_bytes();
        let session = self.config.session;
        Data {
            session,
            symbol: pick.symbol,
            chunk: pick.chunk,
            tx_seq: self.tx_seq,
            payload,
        }
        .encode(buffer);
        buffer.resize(end, 0);
    }

    fn announce(&mut self, now: Time, buffer: &mut Vec<u8>) -> Transmit {
        let waiting = self.window.is_empty() && self.wants.waiting() == 0;
        let phase = match self.state {
            State::Waiting { .. } => Phase::Waiting,
            _ if waiting => Phase::Idle,
            _ => Phase::Sending,
        };
        let view = announcer::View {
            config: &self.config,
            registry: &self.registry,
            wants: &self.wants,
            window: &self.window,
            tx_seq: self.tx_seq,
            rate: self.rate.rate(),
            phase,
        };
        self.announcer.announce(now, &view, buffer);
        self.stats.control += 1;
        Transmit {
            segment: buffer.len(),
            count: 1,
        }
    }

    fn fin(
        &mut self,
        now: Time,
        reason: Reason,
        left: u32,
        next: Time,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if next > now {
            return None;
        }
        self.announcer.fin(&self.config, reason, buffer);
        self.stats.control += 1;
        self.state = match left {
            0 | 1 => State::Closed,
            _ => State::Closing {
                reason,
                left: left - 1,
                next: now + crate::multicast::limits::FINS.1,
            },
        };
        if self.state == State::Closed {
            self.event(SenderEvent::Finished(reason));
        }
        Some(Transmit {
            segment: buffer.len(),
            count: 1,
        })
    }

    fn close(&mut self, now: Time, reason: Reason) {
        self.state = State::Closing {
            reason,
            left: crate::multicast::limits::FINS.0,
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
