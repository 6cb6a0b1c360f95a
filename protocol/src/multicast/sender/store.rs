//! Chunks that the sender holds: loaded by the driver ahead of the wire, kept for repairs, bounded (protocol.md 8.5).

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

use crate::id::ChunkId;
use crate::multicast::fec::Parity;
use crate::multicast::limits::LOADS;

/// A wish of the sender to its driver: bring this chunk, with its parity if that is asked for. It may be answered on
/// any thread, with [`Load::run`].
#[derive(Debug, Clone)]
pub struct Load {
    index: u32,
    id: ChunkId,
    len: usize,
    symbol: usize,
    parity: bool,
    bytes: Option<Arc<Vec<u8>>>,
}

/// A chunk in memory, verified.
#[derive(Debug, Clone)]
pub struct Loaded {
    index: u32,
    bytes: Arc<Vec<u8>>,
    parity: Option<Parity>,
}

/// A chunk that cannot be sent. The sender goes on without it and tells the receivers.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("chunk {index} ({id}) cannot be read")]
    Read {
        /// Its place in the table.
        index: u32,
        /// Its name.
        id: ChunkId,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its bytes have not its hash, or not its length.
    #[error("chunk {index} ({id}) is damaged: its bytes have another hash")]
    Damaged {
        /// Its place in the table.
        index: u32,
        /// Its name.
        id: ChunkId,
    },
    /// The code refused it.
    #[error("parity of chunk {index} cannot be made")]
    Parity {
        /// Its place in the table.
        index: u32,
        /// What the code says.
        #[source]
        source: reed_solomon_simd::Error,
    },
}

impl Load {
    /// Which chunk is wanted.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Brings the chunk: reads it with `read` unless the sender still holds it, checks its hash, and makes the parity
    /// if that is wanted.
    pub fn run(&self, read: impl FnOnce(u32) -> std::io::Result<Vec<u8>>) -> Result<Loaded, LoadError> {
        let (index, id) = (self.index, self.id);
        let bytes = match &self.bytes {
            Some(bytes) => Arc::clone(bytes),
            None => {
                let bytes = read(index).map_err(|source| LoadError::Read { index, id, source })?;
                if bytes.len() != self.len || ChunkId::of(&bytes) != id {
                    return Err(LoadError::Damaged { index, id });
                }
                Arc::new(bytes)
            }
        };
        let parity = self.parity.then(|| Parity::of(&bytes, self.symbol)).transpose();
        let parity = parity.map_err(|source| LoadError::Parity { index, source })?;
        Ok(Loaded { index, bytes, parity })
    }
}

impl Loaded {
    /// Which chunk this is.
    pub fn index(&self) -> u32 {
        self.index
    }
}

#[derive(Debug)]
struct Entry {
    bytes: Arc<Vec<u8>>,
    parity: Option<Parity>,
    used: u64,
}

/// What is known of a chunk that is wanted, to make a [`Load`] of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    pub(super) index: u32,
    pub(super) id: ChunkId,
    pub(super) len: usize,
    pub(super) symbol: usize,
    pub(super) parity: bool,
}

#[derive(Debug)]
pub(super) struct Store {
    entries: BTreeMap<u32, Entry>,
    pinned: BTreeSet<u32>,
    queue: VecDeque<Wanted>,
    running: BTreeMap<u32, Wanted>,
    held: u64,
    peak: u64,
    budget: u64,
    clock: u64,
}

impl Store {
    pub(super) fn new(budget: u64) -> Self {
        let (entries, pinned, queue, running) = Default::default();
        Self {
            entries,
            pinned,
            queue,
            running,
            held: 0,
            peak: 0,
            budget,
            clock: 0,
        }
    }

    /// Keeps a chunk from now until it is released; loads what is not there.
    pub(super) fn pin(&mut self, wanted: Wanted) {
        self.clock += 1;
        self.pinned.insert(wanted.index);
        if let Some(entry) = self.entries.get_mut(&wanted.index) {
            entry.used = self.clock;
        }
        if !self.ready(wanted.index, wanted.parity) {
            self.queue.push_back(wanted);
        }
    }

    /// Lets a chunk go; it stays as long as there is room.
    pub(super) fn release(&mut self, index: u32) {
        self.queue.retain(|wanted| wanted.index != index);
        self.pinned.remove(&index);
        self.evict();
    }

    /// Whether a chunk is there, with its parity if `parity`.
    pub(super) fn ready(&self, index: u32, parity: bool) -> bool {
        self.entries
            .get(&index)
            .is_some_and(|entry| !parity || entry.parity.is_some())
    }

    /// The next load for the driver; at most [`LOADS`] run at a time.
    pub(super) fn poll_load(&mut self) -> Option<Load> {
        if self.running.len() >= LOADS {
            return None;
        }
        // A chunk that is on its way already is asked for again when it has come without its parity.
        let next = self
            .queue
            .iter()
            .position(|wanted| !self.running.contains_key(&wanted.index))?;
        let wanted = self.queue.remove(next)?;
        self.running.insert(wanted.index, wanted);
        let bytes = self
            .entries
            .get(&wanted.index)
            .map(|entry| Arc::clone(&entry.bytes));
        let Wanted {
            index,
            id,
            len,
            symbol,
            parity,
        } = wanted;
        Some(Load {
            index,
            id,
            len,
            symbol,
            parity,
            bytes,
        })
    }

    /// Takes what a load brought; false when nobody asked for it.
    pub(super) fn provide(&mut self, loaded: Loaded) -> bool {
        if self.running.remove(&loaded.index).is_none() {
            return false;
        }
        self.clock += 1;
        let new = Entry {
            bytes: loaded.bytes,
            parity: None,
            used: self.clock,
        };
        let entry = match self.entries.entry(loaded.index) {
            Place::Occupied(there) => there.into_mut(),
            Place::Vacant(place) => {
                self.held += size(new.bytes.len());
                place.insert(new)
            }
        };
        if let (None, Some(parity)) = (&entry.parity, loaded.parity) {
            self.held += size(parity.memory());
            entry.parity = Some(parity);
        }
        self.peak = self.peak.max(self.held);
        self.evict();
        true
    }

    /// Takes that a load failed; false when nobody asked for it.
    pub(super) fn failed(&mut self, index: u32) -> bool {
        self.queue.retain(|wanted| wanted.index != index);
        self.running.remove(&index).is_some()
    }

    /// The bytes of a chunk that is there.
    pub(super) fn bytes(&self, index: u32) -> Option<&Arc<Vec<u8>>> {
        self.entries.get(&index).map(|entry| &entry.bytes)
    }

    /// Where parity symbol `number` of a chunk lies, if it is there.
    pub(super) fn parity(&self, index: u32, number: u16) -> Option<(&Arc<Vec<u8>>, Range<usize>)> {
        self.entries.get(&index)?.parity.as_ref()?.place(number)
    }

    /// Most bytes held so far.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    fn evict(&mut self) {
        while self.held > self.budget {
            let free = self
                .entries
                .iter()
                .filter(|(index, _)| !self.pinned.contains(index));
            let Some(oldest) = free.min_by_key(|(_, entry)| entry.used).map(|(index, _)| *index) else {
                return;
            };
            if let Some(entry) = self.entries.remove(&oldest) {
                self.held -= size(entry.bytes.len() + entry.parity.map_or(0, |parity| parity.memory()));
            }
        }
    }
}

fn size(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
