//! The receiver's run loop.

mod config;
mod deaf;

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, RecvTimeoutError, Sender as Outbox, TrySendError, bounded};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::multicast::{
    ChunkSet, ChunkTable, Decoder, Gathered, Geometry, Receiver, ReceiverEvent, Time,
};

pub use config::{End, ReceiveError, ReceiverConfig, ReceiverSummary, SinkError};

use super::wait::{Cancel, Clock, Waker};
use crate::chunk_bytes::{ChunkBytes, Pool};
use crate::udp::batch::Receiving;
use crate::udp::{control_speaker, group_receiver, receive_buffer};
use deaf::Deaf;

/// Chunks that wait for a worker, for each worker; what is beyond waits in the receiver's own memory budget.
const QUEUE: usize = 2;
/// Batches taken from the socket before anything else is looked at.
const BATCHES: usize = 8;
/// How often chunks are looked for that came by another transport.
const SWEEP: Duration = Duration::from_millis(250);
/// How often the kernel is asked how full the socket is and what it dropped.
const FILL: Duration = Duration::from_millis(2);
/// How long packets are let gather in the socket while they come: one wake-up for each would cost more than the packets
/// themselves. Little beside the windows of milliseconds that the protocol waits for.
const GATHER: Duration = Duration::from_millis(1);
/// How long no packets are taken while chunks wait for workers.
const RELIEF: Duration = Duration::from_millis(2);
/// How often packets are taken even then: among them may be what the sender announces.
const READ: Duration = Duration::from_millis(100);
/// The receive buffer from which on packets may gather: it holds what 10 Gbit/s bring in that time several times over.
const GATHER_BUFFER: usize = 8 << 20;

/// Time without an announce, of which there should be twenty a second, after which a sender whose port is closed is gone.
const QUIET: Duration = Duration::from_millis(400);

/// Where a receiver's chunks go. Called from several threads at once.
pub trait ChunkSink: Send + Sync {
    /// Whether the chunk is still wanted; other transports may have brought it meanwhile.
    fn wanted(&self, index: u32) -> bool;
    /// Takes a chunk whose bytes have the hash that the table names. It may block: that slows the session. An error
    /// ends it.
    fn deliver(&self, index: u32, bytes: ChunkBytes) -> Result<(), SinkError>;
    /// This session will not bring the chunk: the sender cannot read it, or its bytes were wrong too often. Another transport
    /// may fetch it at once.
    fn gave_up(&self, _index: u32) {}
    /// How full the sink's own queue is, in 255ths; the sender goes slower when it is fuller than 77.
    fn fill(&self) -> u8;
}

/// What a receiver had when its session ended, for the next one of the same version: also symbols of chunks that are not
/// whole yet.
#[derive(Debug)]
pub struct Kept {
    receiver: Receiver,
    clock: Clock,
    symbol: usize,
}

impl Kept {
    /// Announces that were heard so far, in all sessions.
    pub fn announces(&self) -> u64 {
        self.receiver.stats().announces
    }
}

/// Takes part in a session until the chunks in `missing` are delivered, the session ends, or nothing comes any more.
/// The calling thread does the network; `workers` threads decode, verify and deliver.
pub fn receive(
    config: &ReceiverConfig,
    table: Arc<ChunkTable>,
    missing: ChunkSet,
    sink: &dyn ChunkSink,
    cancel: &Cancel,
) -> Result<ReceiverSummary, ReceiveError> {
    go_on(config, table, missing, &mut None, sink, cancel)
}

/// As [`receive`], with what an earlier session left in `kept`, if it has symbols of the same size; what this session
/// leaves is there afterwards. Counters go on too.
pub fn go_on(
    config: &ReceiverConfig,
    table: Arc<ChunkTable>,
    missing: ChunkSet,
    kept: &mut Option<Kept>,
    sink: &dyn ChunkSink,
    cancel: &Cancel,
) -> Result<ReceiverSummary, ReceiveError> {
    if config.manifest != table.manifest() {
        return Err(ReceiveError::Version {
            session: config.manifest,
            table: table.manifest(),
        });
    }
    if missing.size() != table.count() {
        return Err(ReceiveError::Missing {
            set: missing.size(),
            table: table.count(),
        });
    }
    let geometry = Geometry::new(Arc::clone(&table), config.symbol)?;
    let group = group_receiver(config.group, config.interface)?;
    let control = control_speaker(config.control)?;
    let waker = Waker::new().map_err(ReceiveError::Receive)?;
    let workers = config.workers.max(1);
    let (work, todo) = bounded(workers * QUEUE);
    // Every chunk under way has a place for its verdict, so a worker never waits to give one.
    let (verdict, verdicts) = bounded(workers * (QUEUE + 1));
    let (clock, receiver) = match kept.take().filter(|kept| kept.symbol == config.symbol) {
        Some(Kept {
            mut receiver, clock, ..
        }) => {
            receiver.rejoin(clock.now(), config.session, config.receiver, config.keys.clone());
            (clock, receiver)
        }
        None => {
            let (clock, rng) = (
                Clock::start(),
                Xoshiro256PlusPlus::seed_from_u64(rand::rng().random()),
            );
            (
                clock,
                Receiver::new(clock.now(), config.state(geometry), missing, rng),
            )
        }
    };
    let pool = Arc::new(Pool::default());
    let given_up = ChunkSet::empty(table.count());
    let driver = Driver {
        heard: (receiver.stats().announces, clock.now()),
        deaf: config
            .deaf_after
            .map(|limit| Deaf::new(limit, receiver.stats().packets)),
        receiver,
        clock,
        control,
        given_up,
        sink,
        pool: Arc::clone(&pool),
        cancel,
        receiving: Receiving::new(),
        waker: &waker,
        work,
        verdicts,
        waiting: VecDeque::new(),
        under_way: 0,
        swept: Time::ZERO,
        filled: (Time::ZERO, 0),
        read: Time::ZERO,
        gathers: receive_buffer(&group).is_ok_and(|bytes| bytes >= GATHER_BUFFER),
        group,
        end: None,
    };
    std::thread::scope(|scope| {
        let judges: Vec<_> = (0..workers)
            .map(|_| {
                let (todo, verdict, table, waker) = (todo.clone(), verdict.clone(), &table, &waker);
                let pool = Arc::clone(&pool);
                scope.spawn(move || judge(table, sink, &pool, &todo, &verdict, waker))
            })
            .collect();
        drop((todo, verdict));
        let result = driver.run();
        let broken = judges
            .into_iter()
            .map(|judge| judge.join())
            .filter(Result::is_err)
            .count();
        if broken > 0 {
            return Err(ReceiveError::Broken);
        }
        let (summary, receiver) = result?;
        // A chunk that was given up, or whose verdict nobody waited for, is one that this receiver would not take again.
        let whole = summary.stats.given_up == 0 && summary.end != End::Cancelled;
        *kept = whole.then_some(Kept {
            receiver,
            clock,
            symbol: config.symbol,
        });
        Ok(summary)
    })
}

/// What a worker found.
enum Verdict {
    /// The chunk was delivered, or is not wanted any more.
    Accepted(u32),
    /// Its bytes have not its hash.
    Rejected(u32),
    /// The sink did not take it.
    Failed(SinkError),
    /// The worker panicked.
    Broken,
}

/// Tells the network's thread of a panic, which would otherwise wait for a verdict for ever.
struct Alarm<'a>(&'a Outbox<Verdict>, &'a Waker);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && self.0.send(Verdict::Broken).is_ok() {
            self.1.wake();
        }
    }
}

/// Decodes, verifies and delivers chunks until there are no more.
fn judge(
    table: &ChunkTable,
    sink: &dyn ChunkSink,
    pool: &Arc<Pool>,
    todo: &Inbox<Gathered>,
    verdict: &Outbox<Verdict>,
    waker: &Waker,
) {
    let _alarm = Alarm(verdict, waker);
    let mut decoder = Decoder::default();
    for gathered in todo {
        let index = gathered.index();
        let id = table.get(index).map(|info| info.id);
        let found = if sink.wanted(index) {
            match gathered.decode_with(&mut decoder).map(|bytes| pool.lend(bytes)) {
                Ok(bytes) if Some(ChunkId::of(&bytes)) == id => match sink.deliver(index, bytes) {
                    Ok(()) => Verdict::Accepted(index),
                    Err(error) => Verdict::Failed(error),
                },
                Ok(_) | Err(_) => Verdict::Rejected(index),
            }
        } else {
            Verdict::Accepted(index)
        };
        if verdict.send(found).is_err() {
            return;
        }
        waker.wake();
    }
}

/// What the socket had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Came {
    /// Nothing.
    Nothing,
    /// Packets, and now it is empty.
    All,
    /// Packets, and there are more.
    More,
}

/// What the network's thread owns.
struct Driver<'a> {
    receiver: Receiver,
    clock: Clock,
    group: UdpSocket,
    control: UdpSocket,
    receiving: Receiving,
    waker: &'a Waker,
    sink: &'a dyn ChunkSink,
    pool: Arc<Pool>,
    cancel: &'a Cancel,
    work: Outbox<Gathered>,
    verdicts: Inbox<Verdict>,
    /// Chunks for which no worker has room yet.
    waiting: VecDeque<Gathered>,
    /// Chunks that workers have.
    under_way: usize,
    given_up: ChunkSet,
    swept: Time,
    filled: (Time, u8),
    /// When packets were last taken.
    read: Time,
    /// Whether the socket's buffer is large enough to let packets gather in it.
    gathers: bool,
    /// Announces, and when the last of them was noticed.
    heard: (u64, Time),
    /// While it is not known whether data packets pass.
    deaf: Option<Deaf>,
    end: Option<End>,
}

impl Driver<'_> {
    fn run(mut self) -> Result<(ReceiverSummary, Receiver), ReceiveError> {
        while self.end.is_none() {
            if self.receiver.is_full() {
                self.relieve()?;
            }
            let came = self.feed()?;
            while let Ok(verdict) = self.verdicts.try_recv() {
                self.take(verdict)?;
            }
            while let Some(memory) = self.pool.take() {
                self.receiver.give(memory);
            }
            self.drain();
            if self.cancel.is_set() {
                self.end = Some(End::Cancelled);
            }
            let deadline = self.receiver.poll_timeout();
            let left = deadline.map_or(GATHER, |at| at.since(self.clock.now()));
            if self.end.is_some() || left.is_zero() {
                continue;
            }
            match came {
                Came::More => {}
                Came::All if self.gathers => std::thread::sleep(left.min(GATHER)),
                Came::All | Came::Nothing => {
                    let waited = self.waker.wait(&self.group, &self.clock, deadline);
                    waited.map_err(ReceiveError::Receive)?;
                }
            }
        }
        self.finish()
    }

    /// Delivers what is gathered: that the session is over takes nothing from its worth.
    fn finish(mut self) -> Result<(ReceiverSummary, Receiver), ReceiveError> {
        self.look(self.clock.now());
        if self.end == Some(End::Cancelled) {
            self.waiting.clear();
        }
        self.hand_out();
        while self.under_way > 0 {
            let verdict = self.verdicts.recv().map_err(|_| ReceiveError::Broken)?;
            self.take(verdict)?;
            self.hand_out();
        }
        let mut missing = self.receiver.missing().clone();
        self.given_up.iter().for_each(|index| _ = missing.insert(index));
        let end = match self.end {
            Some(end) if !self.receiver.missing().is_empty() => end,
            Some(_) | None => End::Complete,
        };
        let summary = ReceiverSummary {
            end,
            missing,
            stats: self.receiver.stats(),
            drops: self.receiving.drops(),
        };
        Ok((summary, self.receiver))
    }

    /// Waits for a worker, which needs the processor more than this thread now, or for [`RELIEF`].
    fn relieve(&mut self) -> Result<(), ReceiveError> {
        match self.verdicts.recv_timeout(RELIEF) {
            Ok(verdict) => self.take(verdict)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(ReceiveError::Broken),
        }
        self.hand_out();
        Ok(())
    }

    /// Brings in packets and time, and how full the queues are.
    fn feed(&mut self) -> Result<Came, ReceiveError> {
        let mut came = Came::Nothing;
        let full = self.receiver.is_full() && self.clock.now().since(self.read) < READ;
        for _ in 0..if full { 0 } else { BATCHES } {
            let more = self
                .receiving
                .receive(&self.group)
                .map_err(ReceiveError::Receive)?;
            let now = self.clock.now();
            self.read = now;
            self.receiving
                .packets()
                .for_each(|packet| self.receiver.handle_packet(now, packet));
            if more {
                came = Came::More;
                continue;
            }
            if !self.receiving.is_empty() || came == Came::More {
                came = Came::All;
            }
            break;
        }
        let now = self.clock.now();
        if let Some(deaf) = &mut self.deaf {
            match deaf.look(now, self.receiver.stats().packets, self.receiver.announced()) {
                Some(true) => self.end = Some(End::Deaf),
                Some(false) => self.deaf = None,
                None => {}
            }
        }
        if now.since(self.filled.0) >= FILL {
            self.look(now);
        }
        self.receiver
            .load(now, self.filled.1.max(self.sink.fill()), self.receiving.drops());
        self.receiver.handle_timeout(now);
        if now.since(self.swept) >= SWEEP {
            self.swept = now;
            let elsewhere: Vec<u32> = self
                .receiver
                .missing()
                .iter()
                .filter(|&index| !self.sink.wanted(index))
                .collect();
            elsewhere
                .into_iter()
                .for_each(|index| self.receiver.have(now, index));
        }
        Ok(came)
    }

    /// Asks how full the socket is. Kernels that cannot tell (before 4.12) leave lost packets as the only sign.
    fn look(&mut self, now: Time) {
        self.filled = (now, self.receiving.look(&self.group).unwrap_or(0));
    }

    fn take(&mut self, verdict: Verdict) -> Result<(), ReceiveError> {
        self.under_way -= 1;
        let now = self.clock.now();
        match verdict {
            Verdict::Accepted(index) => self.receiver.accept(now, index),
            Verdict::Rejected(index) => self.receiver.reject(now, index),
            Verdict::Failed(error) => return Err(ReceiveError::Sink(error)),
            Verdict::Broken => return Err(ReceiveError::Broken),
        }
        Ok(())
    }

    /// Carries out what the receiver wants.
    fn drain(&mut self) {
        let mut packet = Vec::new();
        while self.receiver.poll_transmit(self.clock.now(), &mut packet) {
            if let Err(error) = self.control.send(&packet) {
                // A lost report is repeated; a sender that is gone becomes silent.
                tracing::trace!(%error, "report not sent");
                if error.kind() == ErrorKind::ConnectionRefused && self.is_quiet() {
                    self.end = Some(End::Gone);
                }
            }
        }
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Gathered(gathered) => self.waiting.push_back(gathered),
                ReceiverEvent::GaveUp(index) => {
                    tracing::warn!(index, "chunk left to another transport");
                    self.given_up.insert(index);
                    self.sink.gave_up(index);
                }
                ReceiverEvent::Complete => {}
                ReceiverEvent::Finished(reason) => self.end = Some(End::Finished(reason)),
                ReceiverEvent::Parted => self.end = Some(End::Parted),
                ReceiverEvent::Silent => self.end = Some(End::Silent),
            }
        }
        if self.receiver.is_finished() && self.end.is_none() {
            self.end = Some(End::Complete);
        }
        self.hand_out();
    }

    /// Whether no announce came of late, though many should have.
    fn is_quiet(&mut self) -> bool {
        let (announces, now) = (self.receiver.stats().announces, self.clock.now());
        if announces != self.heard.0 {
            self.heard = (announces, now);
        }
        now.since(self.heard.1) >= QUIET
    }

    fn hand_out(&mut self) {
        while let Some(gathered) = self.waiting.pop_front() {
            match self.work.try_send(gathered) {
                Ok(()) => self.under_way += 1,
                Err(TrySendError::Full(gathered) | TrySendError::Disconnected(gathered)) => {
                    return self.waiting.push_front(gathered);
                }
            }
        }
    }
}
