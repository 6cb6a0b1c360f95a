//! The chunks of one receiver: which it lacks, and the symbols of those that are coming in (protocol.md 10.2).
//!
//! Each chunk is in one state: there (had from the start, accepted, or given up), lacked entirely, open (some
//! symbols), or judged (all symbols, its hash being checked).

use std::collections::BTreeMap;

use crate::multicast::fec::{Gathered, Symbols};
use crate::multicast::limits::{OPEN_CHUNKS, REJECTIONS, WINDOW_CHUNKS};
use crate::multicast::set::ChunkSet;
use crate::multicast::stats::ReceiverStats;
use crate::multicast::table::Geometry;
use crate::multicast::time::Time;

/// A chunk of which some symbols came.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) symbols: Symbols,
    /// Number of the last packet that carried a symbol of it.
    pub(super) last_seq: u64,
    /// Whether the sender's last announce planned as many symbols as lack.
    pub(super) planned: bool,
    /// When to ask for the deficit; `None` while symbols come in.
    pub(super) nak_at: Option<Time>,
    /// NAKs sent since the last symbol.
    pub(super) naks: u32,
}

/// What became of a symbol.
#[derive(Debug)]
pub(super) enum Took {
    /// The chunk is complete.
    Gathered(Gathered),
    /// It was kept, or was not needed.
    Nothing,
    /// Its number is not one of this chunk's.
    Wrong,
}

#[derive(Debug)]
pub(super) struct Gathering {
    /// Not there yet.
    missing: ChunkSet,
    /// Lacked entirely.
    whole: ChunkSet,
    open: BTreeMap<u32, Open>,
    /// Bytes of chunks whose hash is being checked.
    judged: BTreeMap<u32, u64>,
    rejections: BTreeMap<u32, u8>,
    memory: u64,
    judged_memory: u64,
    budget: u64,
    /// Memory of chunks that went before.
    spare: Vec<Vec<u8>>,
}

impl Gathering {
    pub(super) fn new(missing: ChunkSet, budget: u64) -> Self {
        let whole = missing.clone();
        let (open, judged, rejections) = Default::default();
        Self {
            missing,
            whole,
            open,
            judged,
            rejections,
            memory: 0,
            judged_memory: 0,
            budget,
            spare: Vec::new(),
        }
    }

    /// Takes one symbol.
    pub(super) fn add(
        &mut self,
        geometry: &Geometry,
        stats: &mut ReceiverStats,
        symbol: &Symbol<'_>,
    ) -> Took {
        let chunk = symbol.chunk;
        if self.whole.contains(chunk) {
            if symbol.number >= geometry.all_symbols(chunk) {
                return Took::Wrong;
            }
            let needed = usize::from(geometry.source_symbols(chunk)) * geometry.symbol_bytes();
            let memory = self.spare_for(needed);
            if !self.make_room(geometry, stats, needed.max(memory.capacity())) {
                self.spare
                    .extend(Some(memory).filter(|memory| memory.capacity() > 0));
                stats.no_room += 1;
                return Took::Nothing;
            }
            self.whole.remove(chunk);
            let symbols = Symbols::new(geometry, chunk, memory);
            self.memory += symbols.memory();
            let open = Open {
                symbols,
                last_seq: symbol.tx_seq,
                planned: false,
                nak_at: None,
                naks: 0,
            };
            self.open.insert(chunk, open);
        }
        let grows = symbol.number >= geometry.source_symbols(chunk);
        if grows && !self.grow_room(stats, symbol) {
            stats.no_room += 1;
            return Took::Nothing;
        }
        let Some(open) = self.open.get_mut(&chunk) else {
            stats.unneeded += 1;
            return Took::Nothing;
        };
        let before = open.symbols.memory();
        match open.symbols.add(symbol.number, symbol.payload) {
            None => return Took::Wrong,
            Some(true) => stats.symbols += 1,
            Some(false) => stats.unneeded += 1,
        }
        self.memory = self.memory - before + open.symbols.memory();
        stats.memory_peak = stats.memory_peak.max(self.memory);
        open.last_seq = open.last_seq.max(symbol.tx_seq);
        (open.nak_at, open.naks) = (None, 0);
        if open.symbols.deficit() > 0 {
            return Took::Nothing;
        }
        let Some(open) = self.open.remove(&chunk) else {
            return Took::Nothing;
        };
        self.judged.insert(chunk, open.symbols.memory());
        self.judged_memory += open.symbols.memory();
        Took::Gathered(Gathered::new(chunk, open.symbols))
    }

    /// The chunk has its hash and is kept; false when it was not being judged.
    pub(super) fn accept(&mut self, chunk: u32) -> bool {
        let judged = self.unjudge(chunk);
        if judged {
            self.missing.remove(chunk);
        }
        judged
    }

    /// The chunk has not its hash: all symbols are gone. Tells whether it is given up, `None` when it was not being
    /// judged.
    pub(super) fn reject(&mut self, chunk: u32) -> Option<bool> {
        if !self.unjudge(chunk) {
            return None;
        }
        let count = self.rejections.entry(chunk).or_default();
        *count += 1;
        let given_up = *count >= REJECTIONS;
        if given_up {
            self.missing.remove(chunk);
        } else if self.missing.contains(chunk) {
            self.whole.insert(chunk);
        }
        Some(given_up)
    }

    /// The chunk is not needed any more. True when it was missing.
    pub(super) fn have(&mut self, chunk: u32) -> bool {
        self.whole.remove(chunk);
        if let Some(open) = self.open.remove(&chunk) {
            self.memory -= open.symbols.memory();
        }
        self.missing.remove(chunk)
    }

    /// Takes memory of a chunk that went before. The oldest is given back to the system when there is much of it.
    pub(super) fn give(&mut self, memory: Vec<u8>) {
        if self.spare.len() == WINDOW_CHUNKS {
            self.spare.remove(0);
        }
        self.spare.push(memory);
    }

    /// Memory for so many bytes from what is spare, if there is some that is not much larger; otherwise none.
    fn spare_for(&mut self, bytes: usize) -> Vec<u8> {
        let fits = |memory: &Vec<u8>| (bytes..=bytes + bytes / 4).contains(&memory.capacity());
        let found = self.spare.iter().position(fits);
        found.map_or_else(Vec::new, |found| self.spare.swap_remove(found))
    }

    /// Another session with its own packet numbers begins; symbols stay.
    pub(super) fn restart(&mut self) {
        for open in self.open.values_mut() {
            (open.last_seq, open.planned, open.nak_at, open.naks) = (0, false, None, 0);
        }
    }

    /// Chunks that are not there yet.
    pub(super) fn missing(&self) -> &ChunkSet {
        &self.missing
    }

    /// Chunks of which no symbol is there.
    pub(super) fn whole(&self) -> &ChunkSet {
        &self.whole
    }

    /// Chunks of which some symbols are there.
    pub(super) fn open(&mut self) -> impl Iterator<Item = (u32, &mut Open)> {
        self.open.iter_mut().map(|(chunk, open)| (*chunk, open))
    }

    /// When the first NAK is due.
    pub(super) fn nak_at(&self) -> Option<Time> {
        self.open.values().filter_map(|open| open.nak_at).min()
    }

    /// How much of the memory is taken by chunks whose hash is being checked, in 255ths.
    pub(super) fn fill(&self) -> u8 {
        let share = self.judged_memory.saturating_mul(255) / self.budget.max(1);
        u8::try_from(share).unwrap_or(u8::MAX)
    }

    fn unjudge(&mut self, chunk: u32) -> bool {
        let Some(bytes) = self.judged.remove(&chunk) else {
            return false;
        };
        self.memory -= bytes;
        self.judged_memory -= bytes;
        true
    }

    /// Makes room for another parity symbol of an open chunk: the other chunk with the largest deficit goes. So the
    /// chunk that needs least is always completed.
    fn grow_room(&mut self, stats: &mut ReceiverStats, symbol: &Symbol<'_>) -> bool {
        let growth = self
            .open
            .get(&symbol.chunk)
            .map_or(0, |open| open.symbols.growth(symbol.number));
        while growth > 0 && self.memory + u64_from(growth) > self.budget {
            let others = self.open.iter().filter(|(chunk, _)| **chunk != symbol.chunk);
            let Some((_, victim)) = others.map(|(chunk, open)| (open.symbols.deficit(), *chunk)).max() else {
                return self.judged.is_empty();
            };
            self.evict(stats, victim);
        }
        true
    }

    fn evict(&mut self, stats: &mut ReceiverStats, chunk: u32) {
        if let Some(open) = self.open.remove(&chunk) {
            self.memory -= open.symbols.memory();
            self.give(open.symbols.into_memory());
            self.whole.insert(chunk);
            stats.evicted += 1;
        }
    }

    /// Makes room for a new chunk. When the budget is used up, of the chunks that are not being sent now the one
    /// with the largest deficit goes, if more than a quarter of it lacks; otherwise the new one must wait, because
    /// fetching the rest of the old one costs less than fetching the new one again.
    fn make_room(&mut self, geometry: &Geometry, stats: &mut ReceiverStats, bytes: usize) -> bool {
        let new = u64_from(bytes);
        while self.open.len() >= OPEN_CHUNKS || self.memory + new > self.budget {
            if self.memory == 0 {
                return true; // One chunk is always taken, however small the budget.
            }
            let quiet = self.open.iter().filter(|(_, open)| open.nak_at.is_some());
            let victim = quiet.map(|(chunk, open)| (open.symbols.deficit(), *chunk)).max();
            let much = |&(deficit, chunk): &(u16, u32)| deficit > geometry.source_symbols(chunk) / 4;
            let Some((_, chunk)) = victim.filter(much) else {
                return false;
            };
            self.evict(stats, chunk);
        }
        true
    }
}

/// A symbol as it came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol<'a> {
    pub(super) chunk: u32,
    pub(super) number: u16,
    pub(super) tx_seq: u64,
    pub(super) payload: &'a [u8],
}

fn u64_from(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
