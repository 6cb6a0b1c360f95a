//! What a session sends: the chunks of one version, and how each is cut into symbols.

use std::ops::Range;

use crate::id::{ChunkId, ManifestId};
use crate::limits::{CHUNK_STORED_BYTES, CHUNKS, PARITY, SYMBOLS};
use crate::multicast::limits::{SYMBOL_BYTES_MAX, SYMBOL_BYTES_MIN};

/// One chunk of a version, as both ends know it before the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkInfo {
    /// BLAKE3 of its stored bytes.
    pub id: ChunkId,
    /// Its stored bytes: 1 to [`CHUNK_STORED_BYTES`].
    pub len: u32,
}

/// The chunks of one version in their order; a chunk's place here is its index on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkTable {
    manifest: ManifestId,
    chunks: Vec<ChunkInfo>,
}

/// A table, or a session's geometry, that the protocol cannot carry.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// No chunk, or more than [`CHUNKS`].
    #[error("{0} chunks cannot be sent in one session: 1 to {CHUNKS} can")]
    Count(usize),
    /// A chunk that is empty or too long.
    #[error("chunk {index} has {len} bytes: 1 to {CHUNK_STORED_BYTES} can be sent")]
    Length {
        /// Which chunk.
        index: usize,
        /// Its stored bytes.
        len: u32,
    },
    /// A symbol size that is odd or out of bounds.
    #[error(
        "symbols of {0} bytes cannot be sent: an even number from {SYMBOL_BYTES_MIN} to {SYMBOL_BYTES_MAX} can"
    )]
    Symbol(usize),
    /// A chunk of more symbols than the code takes.
    #[error("chunk {index} would have {symbols} symbols of {symbol} bytes: {SYMBOLS} are the most")]
    Symbols {
        /// Which chunk.
        index: usize,
        /// How many symbols it would have.
        symbols: usize,
        /// Bytes of one symbol.
        symbol: usize,
    },
}

impl ChunkTable {
    /// The table of the version `manifest`. Fails when there are too few or too many chunks or one has a length out
    /// of bounds.
    pub fn new(manifest: ManifestId, chunks: Vec<ChunkInfo>) -> Result<Self, TableError> {
        if chunks.is_empty() || chunks.len() > CHUNKS {
            return Err(TableError::Count(chunks.len()));
        }
        let wrong = |info: &ChunkInfo| {
            !usize::try_from(info.len).is_ok_and(|n| (1..=CHUNK_STORED_BYTES).contains(&n))
        };
        match chunks.iter().position(wrong) {
            Some(index) => Err(TableError::Length {
                index,
                len: chunks[index].len,
            }),
            None => Ok(Self { manifest, chunks }),
        }
    }

    /// The version whose chunks these are.
    pub fn manifest(&self) -> ManifestId {
        self.manifest
    }

    /// All chunks in order.
    pub fn chunks(&self) -> &[ChunkInfo] {
        &self.chunks
    }

    /// The chunk with this index, if there is one.
    pub fn get(&self, index: u32) -> Option<ChunkInfo> {
        self.chunks.get(usize::try_from(index).ok()?).copied()
    }

    /// How many chunks there are: 1 to [`CHUNKS`].
    pub fn count(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("new() refuses more than 2^20 chunks")
    }

    /// Stored bytes of all chunks together.
    pub fn bytes(&self) -> u64 {
        self.chunks.iter().map(|info| u64::from(info.len)).sum()
    }
}

/// A table cut into symbols of one size. Only this type turns chunk indexes and symbol numbers into byte ranges.
#[derive(Debug, Clone)]
pub struct Geometry {
    table: std::sync::Arc<ChunkTable>,
    symbol: usize,
}

impl Geometry {
    /// Cuts `table` into symbols of `symbol` bytes (even, because the code works on 16-bit words).
    pub fn new(table: std::sync::Arc<ChunkTable>, symbol: usize) -> Result<Self, TableError> {
        if !(SYMBOL_BYTES_MIN..=SYMBOL_BYTES_MAX).contains(&symbol) || !symbol.is_multiple_of(2) {
            return Err(TableError::Symbol(symbol));
        }
        let symbols = |info: &ChunkInfo| usize::try_from(info.len).unwrap_or(usize::MAX).div_ceil(symbol);
        match table.chunks.iter().position(|info| symbols(info) > SYMBOLS) {
            Some(index) => Err(TableError::Symbols {
                index,
                symbols: symbols(&table.chunks[index]),
                symbol,
            }),
            None => Ok(Self { table, symbol }),
        }
    }

    /// The table.
    pub fn table(&self) -> &ChunkTable {
        &self.table
    }

    /// Bytes of one symbol.
    pub fn symbol_bytes(&self) -> usize {
        self.symbol
    }

    /// Bytes of every data packet of the session.
    pub fn packet_bytes(&self) -> usize {
        super::limits::DATA_HEADER_BYTES + self.symbol
    }

    /// Bytes that a data packet takes on an Ethernet wire, as the rate counts them (protocol.md 9.1).
    pub fn wire_bytes(&self) -> u64 {
        u64::try_from(self.packet_bytes()).unwrap_or(u64::MAX) + super::limits::WIRE_OVERHEAD_BYTES
    }

    /// Stored bytes of a chunk; 0 when there is no such chunk.
    pub fn chunk_bytes(&self, index: u32) -> usize {
        self.table
            .get(index)
            .map_or(0, |info| usize::try_from(info.len).unwrap_or(0))
    }

    /// Source symbols of a chunk, K: 1 to [`SYMBOLS`]; 0 when there is no such chunk.
    pub fn source_symbols(&self, index: u32) -> u16 {
        let symbols = self.chunk_bytes(index).div_ceil(self.symbol);
        u16::try_from(symbols).expect("new() refuses chunks of more than 4,096 symbols")
    }

    /// All symbols of a chunk, source and parity; 0 when there is no such chunk.
    pub fn all_symbols(&self, index: u32) -> u16 {
        match self.source_symbols(index) {
            0 => 0,
            source => source + PARITY_SYMBOLS,
        }
    }

    /// Where source symbol `symbol` stands in a chunk of `len` bytes; the last may be shorter than a symbol.
    pub(crate) fn range(&self, symbol: u16, len: usize) -> Range<usize> {
        let start = (usize::from(symbol) * self.symbol).min(len);
        start..(start + self.symbol).min(len)
    }
}

/// [`PARITY`] as it is counted in packets.
pub(crate) const PARITY_SYMBOLS: u16 = {
    assert!(PARITY <= 1 << 12, "symbol numbers are 16 bits on the wire");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the line above is the check, and runs at compile time"
    )]
    let parity = PARITY as u16;
    parity
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn table(lens: &[u32]) -> Result<ChunkTable, TableError> {
        let info = |&len| ChunkInfo {
            id: ChunkId::of(b""),
            len,
        };
        ChunkTable::new(ManifestId::of(b"v"), lens.iter().map(info).collect())
    }

    #[test]
    fn chunks_are_cut_into_symbols_with_a_short_last_one() {
        let geometry = Geometry::new(Arc::new(table(&[1, 1440, 1441, 4 << 20]).unwrap()), 1440).unwrap();
        let counts: Vec<u16> = (0..5).map(|index| geometry.source_symbols(index)).collect();
        assert_eq!(counts, [1, 1, 2, 2913, 0]);
        assert_eq!(geometry.range(1, 1441), 1440..1441);
        assert_eq!(geometry.all_symbols(0), 257);
        assert_eq!(geometry.all_symbols(9), 0);
    }

    #[test]
    fn what_cannot_be_sent_is_refused() {
        assert_eq!(table(&[]), Err(TableError::Count(0)));
        assert_eq!(table(&[3, 0]), Err(TableError::Length { index: 1, len: 0 }));
        assert_eq!(
            table(&[(4 << 20) + 1]),
            Err(TableError::Length {
                index: 0,
                len: (4 << 20) + 1
            })
        );
        let whole = Arc::new(table(&[4 << 20]).unwrap());
        for symbol in [0, 14, 1441, 8898] {
            assert_eq!(
                Geometry::new(Arc::clone(&whole), symbol).unwrap_err(),
                TableError::Symbol(symbol)
            );
        }
        let error = Geometry::new(whole, 1000).unwrap_err();
        assert_eq!(
            error,
            TableError::Symbols {
                index: 0,
                symbols: 4195,
                symbol: 1000
            }
        );
    }
}
