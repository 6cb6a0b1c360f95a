//! The code: parity symbols of a chunk, and a chunk from any K of its symbols.

mod cauchy;
mod decoder;
mod planes;

use std::ops::Range;
use std::sync::Arc;

use reed_solomon_simd::ReedSolomonEncoder;

pub use decoder::Decoder;

use crate::limits::PARITY;
use crate::multicast::table::{Geometry, PARITY_SYMBOLS};

/// Bytes of the unit in which the code computes, its shortest symbol: the low bytes of 32 elements, then their high bytes.
const UNIT: usize = 64;

/// All parity symbols of one chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parity {
    symbol: usize,
    bytes: Arc<Vec<u8>>,
}

/// Symbols from which a chunk cannot be made. Only a broken invariant leads here, not what a peer sends.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("chunk {index} cannot be decoded")]
pub struct DecodeError {
    /// Which chunk.
    pub index: u32,
    /// What the code says.
    #[source]
    pub source: reed_solomon_simd::Error,
}

impl Parity {
    /// Makes the parity of a chunk, cut into symbols of `symbol` bytes (even; at most 4,096 of them). One core makes
    /// some 6 GB of chunk a second.
    pub fn of(chunk: &[u8], symbol: usize) -> Result<Self, reed_solomon_simd::Error> {
        let sources = chunk.len().div_ceil(symbol);
        let mut encoder = ReedSolomonEncoder::new(sources, PARITY, symbol)?;
        let mut last = Vec::new();
        for source in chunk.chunks(symbol) {
            if source.len() == symbol {
                encoder.add_original_shard(source)?;
            } else {
                last.extend_from_slice(source);
                last.resize(symbol, 0);
                encoder.add_original_shard(&last)?;
            }
        }
        let mut bytes = Vec::with_capacity(PARITY * symbol);
        encoder
            .encode()?
            .recovery_iter()
            .for_each(|parity| bytes.extend_from_slice(parity));
        let bytes = Arc::new(bytes);
        Ok(Self { symbol, bytes })
    }

    /// Bytes of memory that it takes.
    pub(crate) fn memory(&self) -> usize {
        self.bytes.capacity()
    }

    /// Where parity symbol `index`, from 0, lies.
    pub(crate) fn place(&self, index: u16) -> Option<(&Arc<Vec<u8>>, Range<usize>)> {
        let start = usize::from(index) * self.symbol;
        let range = start..start + self.symbol;
        (range.end <= self.bytes.len()).then_some((&self.bytes, range))
    }

    #[cfg(test)]
    pub(crate) fn get(&self, index: u16) -> Option<&[u8]> {
        self.place(index).map(|(bytes, range)| &bytes[range])
    }
}

/// The symbols of one chunk as they come in. Each is copied once, to its place.
#[derive(Debug, Clone)]
pub(crate) struct Symbols {
    symbol: usize,
    len: usize,
    sources: u16,
    source_count: u16,
    source: Vec<u8>,
    parity: Vec<u8>,
    parity_numbers: Vec<u16>,
    seen: Vec<u64>,
}

impl Symbols {
    /// No symbol yet of this chunk, which must exist; `memory` is used for its bytes.
    pub(crate) fn new(geometry: &Geometry, index: u32, mut memory: Vec<u8>) -> Self {
        let (symbol, sources) = (geometry.symbol_bytes(), geometry.source_symbols(index));
        memory.clear();
        memory.reserve_exact(usize::from(sources) * symbol);
        Self {
            symbol,
            len: geometry.chunk_bytes(index),
            sources,
            source_count: 0,
            source: memory,
            parity: Vec::new(),
            parity_numbers: Vec::new(),
            seen: vec![0; usize::from(sources + PARITY_SYMBOLS).div_ceil(64)],
        }
    }

    /// Takes a symbol: `None` when its number or length is wrong, otherwise whether it was new. No more than K are
    /// kept.
    pub(crate) fn add(&mut self, number: u16, payload: &[u8]) -> Option<bool> {
        let (word, bit) = (usize::from(number / 64), 1u64 << (number % 64));
        if payload.len() != self.symbol || number >= self.sources + PARITY_SYMBOLS {
            return None;
        }
        if self.seen[word] & bit != 0 || self.deficit() == 0 {
            return Some(false);
        }
        self.seen[word] |= bit;
        if number < self.sources {
            self.put(usize::from(number) * self.symbol, payload);
            self.source_count += 1;
        } else {
            let missing = self.growth(number);
            self.parity.reserve_exact(missing);
            self.parity.extend_from_slice(payload);
            self.parity_numbers.push(number - self.sources);
        }
        Some(true)
    }

    /// Puts a source symbol where it belongs. They come in order, but for what is lost or late, so that the buffer grows
    /// with them and is not cleared before.
    fn put(&mut self, start: usize, payload: &[u8]) {
        if start > self.source.len() {
            self.source.resize(start, 0);
        }
        if start == self.source.len() {
            self.source.extend_from_slice(payload);
        } else {
            self.source[start..start + payload.len()].copy_from_slice(payload);
        }
    }

    /// Symbols that lack until the chunk can be made.
    pub(crate) fn deficit(&self) -> u16 {
        let parity = u16::try_from(self.parity_numbers.len()).unwrap_or(u16::MAX);
        self.sources
            .saturating_sub(self.source_count.saturating_add(parity))
    }

    /// Bytes of memory that the buffers take.
    pub(crate) fn memory(&self) -> u64 {
        u64::try_from(self.source.capacity() + self.parity.capacity()).unwrap_or(u64::MAX)
    }

    /// Bytes of memory that taking symbol `number` adds: parity grows by sixteen symbols at a time.
    pub(crate) fn growth(&self, number: u16) -> usize {
        let full = self.parity.len() + self.symbol > self.parity.capacity();
        if number >= self.sources && full {
            16 * self.symbol
        } else {
            0
        }
    }

    /// The memory that its bytes took.
    pub(crate) fn into_memory(self) -> Vec<u8> {
        self.source
    }

    fn has(&self, number: u16) -> bool {
        self.seen[usize::from(number / 64)] & 1 << (number % 64) != 0
    }
}

/// K distinct symbols of a chunk: enough to make it. Nothing is verified yet.
#[derive(Debug, Clone)]
pub struct Gathered {
    index: u32,
    symbols: Symbols,
}

impl Gathered {
    pub(crate) fn new(index: u32, symbols: Symbols) -> Self {
        Self { index, symbols }
    }

    /// Which chunk.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Whether all source symbols came, so that nothing is left to be computed.
    pub fn is_whole(&self) -> bool {
        self.symbols.source_count == self.symbols.sources
    }

    /// As [`decode_with`](Self::decode_with) a decoder that is made for this one chunk.
    pub fn decode(self) -> Result<Vec<u8>, DecodeError> {
        self.decode_with(&mut Decoder::default())
    }

    /// The chunk's bytes; without loss the buffer itself, otherwise some 4 GB a second are decoded where 1 % lacks, 2 where
    /// 5 % do. The caller must check that they have the chunk's hash.
    pub fn decode_with(mut self, decoder: &mut Decoder) -> Result<Vec<u8>, DecodeError> {
        if !self.is_whole() {
            decoder.restore(&mut self.symbols).map_err(|source| DecodeError {
                index: self.index,
                source,
            })?;
        }
        let mut bytes = self.symbols.source;
        bytes.truncate(self.symbols.len);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{ChunkId, ManifestId};
    use crate::multicast::table::{ChunkInfo, ChunkTable};

    fn geometry(len: usize, symbol: usize) -> Geometry {
        let info = ChunkInfo {
            id: ChunkId::of(b""),
            len: u32::try_from(len).unwrap(),
        };
        let table = ChunkTable::new(ManifestId::of(b""), vec![info]).unwrap();
        Geometry::new(Arc::new(table), symbol).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_k_symbols_make_the_chunk(chunk in prop::collection::vec(any::<u8>(), 1..3000), order in any::<prop::sample::Index>(), step in 1usize..400) {
            let geometry = geometry(chunk.len(), 16);
            let parity = Parity::of(&chunk, 16).unwrap();
            let (sources, all) = (geometry.source_symbols(0), geometry.all_symbols(0));
            let mut symbols = Symbols::new(&geometry, 0, Vec::new());
            // A walk over all symbol numbers with a step that is odd to their count visits each, in a mixed order.
            let count = usize::from(all);
            let step = (step..).find(|s| gcd(*s, count) == 1).unwrap();
            let mut at = order.index(count);
            while symbols.deficit() > 0 {
                let number = u16::try_from(at).unwrap();
                let mut payload = if number < sources { chunk[geometry.range(number, chunk.len())].to_vec() } else { parity.get(number - sources).unwrap().to_vec() };
                payload.resize(16, 0);
                prop_assert_eq!(symbols.add(number, &payload), Some(true));
                prop_assert_eq!(symbols.add(number, &payload), Some(false));
                at = (at + step) % count;
            }
            prop_assert_eq!(Gathered::new(0, symbols).decode().unwrap(), chunk);
        }
    }

    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }

    #[test]
    fn wrong_symbols_are_refused_and_change_nothing() {
        let mut symbols = Symbols::new(&geometry(32, 16), 0, Vec::new());
        assert_eq!(symbols.add(258, &[1; 16]), None);
        assert_eq!(symbols.add(0, &[1; 15]), None);
        assert_eq!(symbols.add(65_535, &[1; 16]), None);
        assert_eq!(symbols.deficit(), 2);
    }

    #[test]
    fn the_largest_chunk_is_carried() {
        let chunk: Vec<u8> = (0..4u32 << 20)
            .map(|i| i.to_le_bytes()[1] ^ i.to_le_bytes()[0])
            .collect();
        let geometry = geometry(chunk.len(), 1440);
        let parity = Parity::of(&chunk, 1440).unwrap();
        let mut symbols = Symbols::new(&geometry, 0, Vec::new());
        for number in 256..2912 {
            symbols.add(number, &chunk[geometry.range(number, chunk.len())]);
        }
        (0..256).for_each(|number| _ = symbols.add(2913 + number, parity.get(number).unwrap()));
        assert_eq!(symbols.deficit(), 1);
        symbols.add(5, &chunk[geometry.range(5, chunk.len())]);
        assert_eq!(Gathered::new(0, symbols).decode().unwrap(), chunk);
    }
}
