//! The receiver's run loop.

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender as Outbox, TrySendError, bounded};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{
    self as protocol, ChunkSet, ChunkTable, Gathered, Geometry, Reason, Receiver, ReceiverEvent, ReceiverId,
    ReceiverKeys, ReceiverStats, SessionId, TableError, Time,
};

use super::wait::{Cancel, Clock, Waker};
use crate::udp::batch::{Receiving, receive_fill};
use crate::udp::{Interface, SocketError, control_speaker, group_receiver};

/// Chunks that wait for a worker, for each worker; what is beyond waits in the receiver's own memory budget.
const QUEUE: usize = 2;
/// Batches taken from the socket before anything else is looked at.
const BATCHES: usize = 8;
/// How often chunks are looked for that came by another transport.
const SWEEP: Duration = Duration::from_millis(250);
/// How often the kernel is asked how full the socket is.
const FILL: Duration = Duration::from_millis(10);

/// Where a receiver's chunks go. Called from several threads at once.
pub trait ChunkSink: Send + Sync {
    /// Whether the chunk is still wanted; other transports may have brought it meanwhile.
    fn wanted(&self, index: u32) -> bool;
    /// Takes a chunk whose bytes have the hash that the table names. It may block: that slows the session. An error
    /// ends it.
    fn deliver(&self, index: u32, bytes: Vec<u8>) -> Result<(), SinkError>;
    /// How full the sink's own queue is, in 255ths; the sender goes slower when it is fuller than 77.
    fn fill(&self) -> u8;
}

/// A chunk that could not be put where it belongs.
#[derive(Debug, thiserror::Error)]
#[error("cannot take chunk {index}")]
pub struct SinkError {
    /// Which chunk.
    pub index: u32,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a receiver must know to take part. [`ReceiverConfig::new`] fills in what is usual.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// Where the group is joined.
    pub interface: Interface,
    /// Address and port of the group.
    pub group: SocketAddr,
    /// Where reports go.
    pub control: SocketAddr,
    /// The session.
    pub session: SessionId,
    /// This receiver's number in it.
    pub receiver: ReceiverId,
    /// Its keys.
    pub keys: ReceiverKeys,
    /// Bytes of a symbol.
    pub symbol: usize,
    /// The version that the session sends.
    pub manifest: ManifestId,
    /// Bytes of chunk buffers: from 64 MiB on the receiver can follow any sender.
    pub memory: u64,
    /// Threads that decode, verify and deliver.
    pub workers: usize,
    /// Time without a word of the sender after which it counts as lost.
    pub silence: Duration,
    /// The first word comes at random within this time.
    pub join_spread: Duration,
}

/// Why receiving failed. What was delivered before stays delivered.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A socket cannot be set up.
    #[error("cannot join the multicast session")]
    Socket(#[from] SocketError),
    /// The table does not fit the session.
    #[error("cannot receive this version by multicast")]
    Table(#[from] TableError),
    /// The session sends another version than the table is of.
    #[error("the session sends version {session}, not {table}")]
    Version {
        /// What it sends.
        session: ManifestId,
        /// What is wanted.
        table: ManifestId,
    },
    /// The set of missing chunks is not of this table.
    #[error("the set of missing chunks counts {set} chunks, the version {table}")]
    Missing {
        /// Size of the set.
        set: u32,
        /// Chunks of the table.
        table: u32,
    },
    /// A chunk could not be taken.
    #[error("cannot store what multicast brought")]
    Sink(#[source] SinkError),
    /// Packets cannot be received.
    #[error("cannot receive packets")]
    Receive(#[source] io::Error),
    /// A worker panicked; its message went to stderr.
    #[error("a thread of the multicast session broke down")]
    Broken,
}

/// How receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All is there, except for chunks given up to another transport.
    Complete,
    /// The sender ended the session.
    Finished(Reason),
    /// Nothing was heard of the sender for the configured time.
    Silent,
    /// The caller asked for it.
    Cancelled,
}

/// What receiving came to.
#[derive(Debug, Clone)]
pub struct ReceiverSummary {
    /// How it ended.
    pub end: End,
    /// Chunks that are still missing, those given up included.
    pub missing: ChunkSet,
    /// Counters.
    pub stats: ReceiverStats,
    /// Packets that the socket dropped.
    pub drops: u64,
}

impl ReceiverConfig {
    /// Takes up an offer on `interface`.
    pub fn new(interface: Interface, offer: &SessionOffer) -> Self {
        Self {
            interface,
            group: offer.group,
            control: offer.control,
            session: offer.session,
            receiver: offer.receiver,
            keys: offer.keys.clone(),
            symbol: offer.symbol,
            manifest: offer.manifest,
            memory: 96 << 20,
            workers: 2,
            silence: Duration::from_secs(3),
            join_spread: Duration::from_millis(50),
        }
    }

    fn state(&self, geometry: Geometry) -> protocol::ReceiverConfig {
        protocol::ReceiverConfig {
            session: self.session,
            receiver: self.receiver,
            keys: self.keys.clone(),
            geometry,
            memory: self.memory,
            silence: self.silence,
            join_spread: self.join_spread,
        }
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
    let clock = Clock::start();
    let rng = Xoshiro256PlusPlus::seed_from_u64(rand::rng().random());
    let given_up = ChunkSet::empty(table.count());
    let driver = Driver {
        receiver: Receiver::new(clock.now(), config.state(geometry), missing, rng),
        clock,
        group,
        control,
        given_up,
        sink,
        cancel,
        receiving: Receiving::new(),
        waker: &waker,
        work,
        verdicts,
        waiting: VecDeque::new(),
        under_way: 0,
        swept: Time::ZERO,
        filled: (Time::ZERO, 0),
        end: None,
    };
    std::thread::scope(|scope| {
        let judges: Vec<_> = (0..workers)
            .map(|_| {
                let (todo, verdict, table, waker) = (todo.clone(), verdict.clone(), &table, &waker);
                scope.spawn(move || judge(table, sink, &todo, &verdict, waker))
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
            Err(ReceiveError::Broken)
        } else {
            result
        }
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
    todo: &Inbox<Gathered>,
    verdict: &Outbox<Verdict>,
    waker: &Waker,
) {
    let _alarm = Alarm(verdict, waker);
    for gathered in todo {
        let index = gathered.index();
        let id = table.get(index).map(|info| info.id);
        let found = if sink.wanted(index) {
            match gathered.decode() {
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

/// What the network's thread owns.
struct Driver<'a> {
    receiver: Receiver,
    clock: Clock,
    group: UdpSocket,
    control: UdpSocket,
    receiving: Receiving,
    waker: &'a Waker,
    sink: &'a dyn ChunkSink,
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
    end: Option<End>,
}

impl Driver<'_> {
    fn run(mut self) -> Result<ReceiverSummary, ReceiveError> {
        while self.end.is_none() {
            self.feed()?;
            while let Ok(verdict) = self.verdicts.try_recv() {
                self.take(verdict)?;
            }
            self.drain();
            if self.cancel.is_set() {
                self.end = Some(End::Cancelled);
            }
            let deadline = self.receiver.poll_timeout();
            if self.end.is_none() && deadline.is_none_or(|at| at > self.clock.now()) {
                self.waker
                    .wait(&self.group, &self.clock, deadline)
                    .map_err(ReceiveError::Receive)?;
            }
        }
        self.finish()
    }

    /// Delivers what is gathered: that the session is over takes nothing from its worth.
    fn finish(mut self) -> Result<ReceiverSummary, ReceiveError> {
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
        Ok(ReceiverSummary {
            end,
            missing,
            stats: self.receiver.stats(),
            drops: self.receiving.drops(),
        })
    }

    /// Brings in packets and time, and how full the queues are.
    fn feed(&mut self) -> Result<(), ReceiveError> {
        for _ in 0..BATCHES {
            if !self
                .receiving
                .receive(&self.group)
                .map_err(ReceiveError::Receive)?
            {
                break;
            }
            let now = self.clock.now();
            self.receiving
                .packets()
                .for_each(|packet| self.receiver.handle_packet(now, packet));
        }
        let now = self.clock.now();
        if now.since(self.filled.0) >= FILL {
            // Kernels that cannot tell (before 4.12) leave drops as the only sign of a full socket.
            self.filled = (now, receive_fill(&self.group).unwrap_or(0));
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
        Ok(())
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
            }
        }
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Gathered(gathered) => self.waiting.push_back(gathered),
                ReceiverEvent::GaveUp(index) => {
                    tracing::warn!(index, "chunk left to another transport");
                    self.given_up.insert(index);
                }
                ReceiverEvent::Complete => {}
                ReceiverEvent::Finished(reason) => self.end = Some(End::Finished(reason)),
                ReceiverEvent::Silent => self.end = Some(End::Silent),
            }
        }
        if self.receiver.is_finished() && self.end.is_none() {
            self.end = Some(End::Complete);
        }
        self.hand_out();
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
