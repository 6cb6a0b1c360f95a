//! The one missing set of a receiver, and the transports that make it smaller.
//!
//! A [`Fetch`] knows which chunks of a version a receiver still lacks. Transports fill it through an [`Inlet`] each, in
//! any order, at the same time, a chunk more than once if it happens so; workers take the verified chunks out of a
//! queue that is bounded in bytes. No transport knows what a file is, and the workers do not know which transport
//! brought a chunk.

mod conduct;
mod interface;
mod missing;
mod over_http;
mod over_multicast;
mod queue;
mod swarm;

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

pub use conduct::{Choice, FetchError, Notice, Order, conduct};
pub use interface::{NamedInterface, ParseInterfaceError, mtu_towards};
pub use missing::{Claim, Missing, Scope};
pub use over_http::over_http;
pub use over_multicast::MulticastError;
pub use swarm::{Helper, SwarmError, SwarmOptions, SwarmOrder, SwarmPart};

use crate::chunk_bytes::ChunkBytes;
use crate::http::HttpError;
use queue::Queue;

/// Chunks that may be refused before everything stops: one damaged chunk must not cost the others, a store that is
/// gone must not be asked for a million.
const FAILURES: usize = 16;

/// A way for chunks to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// A multicast session.
    Multicast,
    /// Requests to the image server.
    Http,
    /// Peers of a swarm, the image server's seed among them.
    Bittorrent,
}

/// A chunk whose bytes match its name.
#[derive(Debug)]
pub struct Arrived {
    /// Its index in the version.
    pub index: u32,
    /// Its bytes as stored and sent.
    pub bytes: ChunkBytes,
}

/// Nothing is taken any more: what is wanted has come, or the receiver gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the receiver takes no more chunks")]
pub struct Stopped;

/// What one transport brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Chunks that were lacking.
    pub chunks: u64,
    /// Their bytes as stored and sent.
    pub bytes: u64,
    /// Chunks that had come already.
    pub duplicates: u64,
}

/// What held a fetch up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Waits {
    /// Time that workers waited for chunks, all workers together.
    pub for_network: Duration,
    /// Time that transports waited for workers, all threads together.
    pub for_workers: Duration,
}

/// Chunks on their way from transports to workers.
#[derive(Debug)]
pub struct Fetch {
    missing: Missing,
    queue: Queue,
    wanted: u32,
    queued: AtomicU32,
    counters: [Counters; 3],
    failures: Mutex<Vec<(u32, HttpError)>>,
    /// The swarm that gets chunks that other transports bring.
    swarm: OnceLock<Arc<SwarmPart>>,
}

/// The end of a [`Fetch`] that one transport fills.
#[derive(Debug, Clone, Copy)]
pub struct Inlet<'f> {
    fetch: &'f Fetch,
    transport: Transport,
}

#[derive(Debug, Default)]
struct Counters {
    chunks: AtomicU64,
    bytes: AtomicU64,
    duplicates: AtomicU64,
}

impl Fetch {
    /// A fetch of the chunks for which `missing` says so. At most `queue_bytes` of chunks wait for workers, or one
    /// chunk if that is longer.
    ///
    /// # Panics
    /// When there are more chunks than [`CHUNKS`](simulcast_protocol::limits::CHUNKS).
    pub fn new(missing: &[bool], queue_bytes: usize) -> Self {
        let missing = Missing::new(missing);
        let fetch = Self {
            queue: Queue::new(queue_bytes),
            wanted: missing.left(),
            missing,
            queued: AtomicU32::new(0),
            counters: Default::default(),
            failures: Mutex::default(),
            swarm: OnceLock::new(),
        };
        if fetch.wanted == 0 {
            fetch.queue.close();
        }
        fetch
    }

    /// What is missing, and who fetches it.
    pub fn missing(&self) -> &Missing {
        &self.missing
    }

    /// The end that a transport fills.
    pub fn inlet(&self, transport: Transport) -> Inlet<'_> {
        Inlet {
            fetch: self,
            transport,
        }
    }

    /// The next chunk for a worker; waits for it. `None` when all that can come has come, or after
    /// [`stop`](Self::stop).
    pub fn next(&self) -> Option<Arrived> {
        self.queue.pop()
    }

    /// Ends everything: transports and workers find out with their next step.
    pub fn stop(&self) {
        self.missing.stop();
        self.queue.abort();
    }

    /// Says that no transport is left: workers take what is queued and end.
    pub fn no_more(&self) {
        self.queue.close();
    }

    /// What a transport brought so far.
    pub fn tally(&self, transport: Transport) -> Tally {
        let counters = &self.counters[place(transport)];
        Tally {
            chunks: counters.chunks.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            duplicates: counters.duplicates.load(Ordering::Relaxed),
        }
    }

    /// What held it up so far.
    pub fn waits(&self) -> Waits {
        self.queue.waits()
    }

    /// How full the queue to the workers is, in 255ths.
    pub fn fill(&self) -> u8 {
        self.queue.fill()
    }

    /// Chunks that no transport could bring so far, with the reason for each. They are taken out.
    pub fn take_failures(&self) -> Vec<(u32, HttpError)> {
        let mut failures = std::mem::take(&mut *self.failures.lock().expect("no holder panics"));
        failures.retain(|(index, _)| self.missing.is_missing(*index));
        failures
    }

    /// Has a swarm offered what other transports bring from now on.
    fn share_with(&self, swarm: &Arc<SwarmPart>) {
        // There is one swarm of a version, and it is begun once.
        self.swarm.set(Arc::clone(swarm)).unwrap_or_default();
    }

    /// Notes that a chunk cannot be had; `Err` with the error when that is one too many.
    fn failed(&self, claim: Claim<'_>, error: HttpError) -> Result<(), HttpError> {
        let mut failures = self.failures.lock().expect("no holder panics");
        if failures.len() >= FAILURES {
            return Err(error);
        }
        failures.push((claim.index(), error));
        claim.fail();
        Ok(())
    }
}

impl Inlet<'_> {
    /// Whether the chunk is still lacking.
    pub fn wanted(&self, index: u32) -> bool {
        self.fetch.missing.is_missing(index)
    }

    /// Takes a chunk whose bytes the transport has checked against its name. Waits while the queue is full. A chunk
    /// that came before is counted and dropped.
    ///
    /// # Errors
    /// [`Stopped`] when nothing is taken any more.
    pub fn deliver(&self, index: u32, bytes: impl Into<ChunkBytes>) -> Result<(), Stopped> {
        let bytes = bytes.into();
        let counters = &self.fetch.counters[place(self.transport)];
        if !self
            .fetch
            .missing
            .arrived(index, self.transport == Transport::Multicast)
        {
            counters.duplicates.fetch_add(1, Ordering::Relaxed);
            return if self.fetch.missing.is_stopped() {
                Err(Stopped)
            } else {
                Ok(())
            };
        }
        counters.chunks.fetch_add(1, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        // A worker decrypts them where they are, so it is now or never.
        if let Some(swarm) = self
            .fetch
            .swarm
            .get()
            .filter(|_| self.transport != Transport::Bittorrent)
        {
            swarm.offer(index, &bytes);
        }
        self.fetch.queue.push(Arrived { index, bytes })?;
        // Whoever puts in the last one closes, not whoever took it off the missing set: that may be another thread.
        if self.fetch.queued.fetch_add(1, Ordering::AcqRel) + 1 == self.fetch.wanted {
            self.fetch.queue.close();
        }
        Ok(())
    }

    /// The transport will not bring the chunk: others may fetch it at once.
    pub fn gave_up(&self, index: u32) {
        self.fetch.missing.gave_up(index);
    }

    /// How full the queue to the workers is, in 255ths: the transport should slow down well before it is full.
    pub fn fill(&self) -> u8 {
        self.fetch.queue.fill()
    }
}

fn place(transport: Transport) -> usize {
    match transport {
        Transport::Multicast => 0,
        Transport::Http => 1,
        Transport::Bittorrent => 2,
    }
}

#[cfg(test)]
mod tests;
