//! The sender's run loop.

mod config;

use std::io::{self, IoSlice};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver as Inbox, Sender as Outbox, bounded};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::multicast::limits::LOADS;
use simulcast_protocol::multicast::sender::LoadError;
use simulcast_protocol::multicast::{
    self as protocol, Batch, Geometry, Load, Loaded, Reason, ReceiverId, Sender, SenderEvent, SessionId,
};
use simulcast_protocol::units::Rate;

pub use config::{PeerSummary, Progress, SendError, SenderConfig, Summary, symbol_for};

use super::wait::{Cancel, Clock, Waker};
use crate::udp::batch::{Batcher, Receiving};
use crate::udp::{Reach, SocketError, control_listener, group_sender};

/// Threads that read chunks and make parity. One reads while the other encodes.
const LOADERS: usize = 2;
/// Batches sent before reports are looked at again.
const BATCHES: usize = 32;
/// Time between two pictures of the progress.
const PICTURE: Duration = Duration::from_millis(50);

/// Where a sender's chunks come from.
pub trait ChunkSource: Send + Sync {
    /// The stored bytes of the chunk with this index. They are checked against the table; an error, or other bytes,
    /// makes the session go on without this chunk.
    fn read(&self, index: u32) -> io::Result<Vec<u8>>;
}

/// Starts sessions.
#[derive(Debug)]
pub struct SenderSession;

/// A session that runs. Dropped without [`join`](Self::join), it is stopped.
#[derive(Debug)]
pub struct SenderHandle {
    config: SenderConfig,
    control: SocketAddr,
    cancel: Cancel,
    waker: Arc<Waker>,
    progress: Arc<Mutex<Progress>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<Summary, SendError>>>,
}

/// What a handle and its session tell each other.
#[derive(Debug)]
struct Shared {
    /// Receivers that were given an offer.
    invited: AtomicU32,
    /// Bits per second that are never passed.
    max_rate: AtomicU64,
    begun: AtomicBool,
    closing: AtomicBool,
}

impl SenderSession {
    /// Opens the sockets and starts the threads. It returns at once; the session runs until all receivers that are
    /// alive are done, or it is stopped.
    pub fn start(config: SenderConfig, source: Arc<dyn ChunkSource>) -> Result<SenderHandle, SendError> {
        let geometry = Geometry::new(Arc::clone(&config.table), config.symbol)?;
        let reach = Reach {
            interface: config.interface,
            ttl: config.ttl,
            loopback: config.loopback,
            dscp: config.dscp,
        };
        let group = group_sender(config.group, reach)?;
        let control_socket = control_listener(config.control)?;
        let control = control_socket.local_addr().map_err(|source| SocketError {
            step: "tell the port",
            address: config.control,
            source,
        })?;
        let waker = Arc::new(Waker::new().map_err(SendError::Wait)?);
        let (cancel, progress) = (Cancel::default(), Arc::new(Mutex::new(Progress::default())));
        let (load, loads) = bounded(LOADS);
        let (result, results) = bounded(LOADS);
        for _ in 0..LOADERS {
            let (source, loads, result, waker) = (
                Arc::clone(&source),
                loads.clone(),
                result.clone(),
                Arc::clone(&waker),
            );
            let run = move || load_chunks(&*source, &loads, &result, &waker);
            std::thread::Builder::new()
                .name("multicast-load".into())
                .spawn(run)
                .map_err(SendError::Thread)?;
        }
        let clock = Clock::start();
        let shared = Arc::new(Shared {
            invited: AtomicU32::new(0),
            max_rate: AtomicU64::new(config.rate.bits_per_second()),
            begun: AtomicBool::new(false),
            closing: AtomicBool::new(false),
        });
        let driver = Driver {
            sender: Sender::new(clock.now(), config.state(geometry)),
            clock,
            group,
            control: control_socket,
            load,
            results,
            batcher: Batcher::new(config.offload),
            receiving: Receiving::new(),
            cancel: cancel.clone(),
            waker: Arc::clone(&waker),
            progress: Arc::clone(&progress),
            shared: Arc::clone(&shared),
            unsent: 0,
            pictured: None,
            reason: Reason::Stopped,
            unreadable: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("multicast-send".into())
            .spawn(move || driver.run());
        let thread = Some(thread.map_err(SendError::Thread)?);
        Ok(SenderHandle {
            config,
            control,
            cancel,
            waker,
            progress,
            shared,
            thread,
        })
    }
}

impl SenderHandle {
    /// Its number.
    pub fn session(&self) -> SessionId {
        self.config.session
    }

    /// Address and port of the group.
    pub fn group(&self) -> SocketAddr {
        self.config.group
    }

    /// Where reports are heard.
    pub fn control(&self) -> SocketAddr {
        self.control
    }

    /// An invitation with a new number, for one start of one receiver. Until sending has begun, whoever was invited is
    /// waited for, as long as the configuration allows.
    pub fn offer(&self) -> SessionOffer {
        if self.config.wait_for_invited {
            self.shared.invited.fetch_add(1, Ordering::Relaxed);
        }
        let receiver = ReceiverId(rand::random());
        SessionOffer {
            group: self.config.group,
            control: self.control,
            session: self.config.session,
            receiver,
            keys: self.config.key.receiver_keys(receiver),
            symbol: self.config.symbol,
            manifest: self.config.table.manifest(),
            wait: if self.has_begun() {
                Duration::ZERO
            } else {
                self.config.gather.max(self.config.max_wait)
            },
        }
    }

    /// How the session stands, at most a twentieth of a second ago.
    pub fn stats(&self) -> Progress {
        self.progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the session has ended, so that [`join`](Self::join) would not wait.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Changes the rate that is never passed, as when another session begins or ends beside this one.
    pub fn set_max_rate(&self, rate: Rate) {
        self.shared
            .max_rate
            .store(rate.bits_per_second(), Ordering::Relaxed);
    }

    /// Whether it has begun to send.
    pub fn has_begun(&self) -> bool {
        self.shared.begun.load(Ordering::Relaxed)
    }

    /// Whether the session is ending, or has ended: nobody should be sent to it any more.
    pub fn is_closing(&self) -> bool {
        self.cancel.is_set() || self.shared.closing.load(Ordering::Relaxed) || self.is_finished()
    }

    /// Ends the session: receivers are told.
    pub fn stop(&self) {
        self.cancel.set();
        self.waker.wake();
    }

    /// Waits for the end of the session.
    pub fn join(mut self) -> Result<Summary, SendError> {
        let thread = self.thread.take().ok_or(SendError::Broken)?;
        thread.join().map_err(|_| SendError::Broken)?
    }
}

impl Drop for SenderHandle {
    fn drop(&mut self) {
        self.stop();
    }
}

type LoadResult = Result<Loaded, (u32, LoadError)>;

/// Reads chunks until the session's thread is gone.
fn load_chunks(source: &dyn ChunkSource, loads: &Inbox<Load>, result: &Outbox<LoadResult>, waker: &Waker) {
    for load in loads {
        let index = load.index();
        let loaded = load
            .run(|index| source.read(index))
            .map_err(|error| (index, error));
        if result.send(loaded).is_err() {
            return;
        }
        waker.wake();
    }
}

/// What the session's thread owns.
struct Driver {
    sender: Sender,
    clock: Clock,
    group: UdpSocket,
    control: UdpSocket,
    load: Outbox<Load>,
    results: Inbox<LoadResult>,
    batcher: Batcher,
    receiving: Receiving,
    cancel: Cancel,
    waker: Arc<Waker>,
    progress: Arc<Mutex<Progress>>,
    shared: Arc<Shared>,
    unsent: u64,
    pictured: Option<protocol::Time>,
    reason: Reason,
    unreadable: Vec<String>,
}

impl Driver {
    fn run(mut self) -> Result<Summary, SendError> {
        let mut batch = Batch::default();
        while !self.sender.is_closed() {
            self.feed();
            self.drain(&mut batch);
            self.shared
                .closing
                .store(self.sender.is_closing(), Ordering::Relaxed);
            let deadline = self.sender.poll_timeout();
            if deadline.is_some_and(|at| at > self.clock.now()) {
                self.waker
                    .wait(&self.control, &self.clock, deadline)
                    .map_err(SendError::Wait)?;
            }
        }
        self.picture();
        let progress = self
            .progress
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let ended = progress.receivers.iter().map(|(id, peer)| PeerSummary {
            receiver: *id,
            missing: peer.missing,
        });
        Ok(Summary {
            reason: self.reason,
            receivers: ended.collect(),
            unreadable: self.unreadable,
            progress,
        })
    }

    /// Brings in reports, chunks and time.
    fn feed(&mut self) {
        if self.cancel.is_set() {
            self.sender.stop(self.clock.now());
        }
        self.sender.expect(self.shared.invited.load(Ordering::Relaxed));
        let max_rate = Rate::from_bits_per_second(self.shared.max_rate.load(Ordering::Relaxed));
        self.sender.set_rate_max(max_rate);
        // One call's worth of reports at a time, so that a flood of them does not stop the data.
        if self.receiving.receive(&self.control).is_ok() {
            let now = self.clock.now();
            self.receiving
                .packets()
                .for_each(|packet| self.sender.handle_packet(now, packet));
        }
        while let Ok(result) = self.results.try_recv() {
            let now = self.clock.now();
            match result {
                Ok(loaded) => self.sender.provide(now, loaded),
                Err((index, error)) => {
                    tracing::error!(error = %chain(&error), "multicast goes on without a chunk");
                    self.unreadable.push(chain(&error));
                    self.sender.provide_failed(now, index);
                }
            }
        }
        self.sender.handle_timeout(self.clock.now());
    }

    /// Carries out what the sender wants.
    fn drain(&mut self, batch: &mut Batch) {
        for _ in 0..BATCHES {
            if !self.sender.poll_transmit(self.clock.now(), batch) {
                break;
            }
            let pieces: Vec<IoSlice<'_>> = batch.pieces().map(IoSlice::new).collect();
            if self.batcher.send(&self.group, &pieces, batch.segment()).is_err() {
                // A link that is down or a full queue is loss like any other: receivers will ask.
                self.unsent += u64::try_from(batch.count()).unwrap_or(0);
            }
        }
        while let Some(load) = self.sender.poll_load() {
            if self.load.try_send(load).is_err() {
                break; // The channel has room for all loads that can run, unless the loaders are gone.
            }
        }
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Joined(id) => tracing::debug!(receiver = id.0, "joined"),
                SenderEvent::Done(id) => tracing::debug!(receiver = id.0, "done"),
                SenderEvent::Silent(id) => {
                    tracing::warn!(receiver = id.0, "silent: the session goes on without it")
                }
                SenderEvent::Parted(id) => {
                    tracing::warn!(
                        receiver = id.0,
                        "follows too slowly: it is sent to another transport"
                    );
                }
                SenderEvent::Tagged => {
                    tracing::warn!("somebody forges data packets: they carry tags from now on")
                }
                SenderEvent::Started => {
                    self.shared.begun.store(true, Ordering::Relaxed);
                    tracing::info!("sending");
                }
                SenderEvent::Finished(reason) => self.reason = reason,
            }
        }
        let now = self.clock.now();
        if self.pictured.is_none_or(|at| now.since(at) >= PICTURE) {
            self.pictured = Some(now);
            self.picture();
        }
    }

    fn picture(&self) {
        let progress = Progress {
            stats: self.sender.stats(),
            rate: Some(self.sender.rate()),
            receivers: self.sender.receivers().collect(),
            unsent: self.unsent,
            offload: self.batcher.offload(),
        };
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = progress;
    }
}

/// An error with its causes, as people read it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
