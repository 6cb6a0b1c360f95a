//! How a version is cut into pieces. Only [`Pieces`] turns indexes of pieces into places in chunks.

use std::ops::Range;
use std::sync::Arc;

use sha1::{Digest, Sha1};

use crate::limits::{PIECE_BYTES, PIECES};
use crate::multicast::ChunkTable;

/// The SHA-1 of one piece (BEP 3), padding included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PieceHash(pub [u8; 20]);

/// The pieces of one version.
#[derive(Debug, Clone)]
pub struct Pieces {
    table: Arc<ChunkTable>,
    /// The first piece of every chunk, and one more: the number of all.
    first: Vec<u32>,
}

/// A version that no torrent can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version of {0} pieces cannot be a torrent: {PIECES} are the most")]
pub struct PiecesError(u64);

impl PieceHash {
    /// The hash of a piece that holds `bytes`, at most [`PIECE_BYTES`] of them, and zeros behind them.
    pub fn of(bytes: &[u8]) -> Self {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut hasher = Sha1::new();
        hasher.update(bytes);
        let mut left = PIECE_BYTES.saturating_sub(bytes.len());
        while left > 0 {
            let some = left.min(ZEROS.len());
            hasher.update(&ZEROS[..some]);
            left -= some;
        }
        Self(hasher.finalize().into())
    }

    /// The hashes of all pieces of a chunk.
    pub fn of_chunk(stored: &[u8]) -> impl Iterator<Item = Self> + '_ {
        stored.chunks(PIECE_BYTES).map(Self::of)
    }
}

/// Pieces of a chunk of `len` stored bytes.
fn count_of(len: u32) -> u32 {
    len.div_ceil(PIECE)
}

/// [`PIECE_BYTES`] as it is counted on the wire.
pub(super) const PIECE: u32 = {
    assert!(PIECE_BYTES <= 1 << 24, "pieces are counted in 32 bits");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the line above is the check, and runs at compile time"
    )]
    let piece = PIECE_BYTES as u32;
    piece
};

impl Pieces {
    /// The pieces of the chunks in `table`.
    ///
    /// # Errors
    /// [`PiecesError`] when there are more than [`PIECES`].
    pub fn new(table: Arc<ChunkTable>) -> Result<Self, PiecesError> {
        let count: u64 = table.chunks().iter().map(|c| u64::from(count_of(c.len))).sum();
        if count > PIECES as u64 {
            return Err(PiecesError(count));
        }
        let mut first = Vec::with_capacity(table.chunks().len() + 1);
        let mut next = 0;
        first.push(0);
        for chunk in table.chunks() {
            next += count_of(chunk.len);
            first.push(next);
        }
        Ok(Self { table, first })
    }

    /// The chunks.
    pub fn table(&self) -> &Arc<ChunkTable> {
        &self.table
    }

    /// How many pieces there are.
    pub fn count(&self) -> u32 {
        self.first.last().copied().unwrap_or(0)
    }

    /// The pieces of a chunk; none when there is no such chunk.
    pub fn of_chunk(&self, chunk: u32) -> Range<u32> {
        let at = usize::try_from(chunk).unwrap_or(usize::MAX);
        match (
            self.first.get(at),
            at.checked_add(1).and_then(|at| self.first.get(at)),
        ) {
            (Some(&first), Some(&end)) => first..end,
            _ => 0..0,
        }
    }

    /// The chunk that a piece is of, and where in it the piece begins; `None` when there is no such piece.
    pub fn place(&self, piece: u32) -> Option<(u32, u32)> {
        if piece >= self.count() {
            return None;
        }
        let chunk = self.first.partition_point(|&first| first <= piece) - 1;
        let offset = (piece - self.first[chunk]) * PIECE;
        Some((u32::try_from(chunk).ok()?, offset))
    }

    /// Bytes of a piece without its padding: 1 to [`PIECE_BYTES`], 0 when there is no such piece.
    pub fn bytes(&self, piece: u32) -> u32 {
        let Some((chunk, offset)) = self.place(piece) else {
            return 0;
        };
        let len = self.table.get(chunk).map_or(0, |info| info.len);
        len.saturating_sub(offset).min(PIECE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChunkId, ManifestId};
    use crate::multicast::ChunkInfo;

    pub(crate) fn table(lens: &[u32]) -> Arc<ChunkTable> {
        let chunk = |(index, &len): (usize, &u32)| ChunkInfo {
            id: ChunkId::of(&index.to_le_bytes()),
            len,
        };
        let chunks = lens.iter().enumerate().map(chunk).collect();
        Arc::new(ChunkTable::new(ManifestId::of(b"version"), chunks).unwrap())
    }

    #[test]
    fn every_chunk_begins_with_a_piece() {
        let pieces = Pieces::new(table(&[1, PIECE, PIECE + 1, 4 << 20])).unwrap();
        assert_eq!(pieces.count(), 1 + 1 + 2 + 16);
        assert_eq!(pieces.of_chunk(2), 2..4);
        assert_eq!(pieces.of_chunk(4), 0..0);
        assert_eq!(pieces.of_chunk(u32::MAX), 0..0);
        let places: Vec<_> = (0..5).map(|piece| pieces.place(piece)).collect();
        assert_eq!(
            places,
            [
                Some((0, 0)),
                Some((1, 0)),
                Some((2, 0)),
                Some((2, PIECE)),
                Some((3, 0))
            ]
        );
        assert_eq!(
            [0, 1, 2, 3, 19, 20].map(|piece| pieces.bytes(piece)),
            [1, PIECE, PIECE, 1, PIECE, 0]
        );
        assert_eq!(pieces.place(20), None);
    }

    #[test]
    fn the_hash_of_a_piece_covers_its_padding() {
        let mut whole = vec![7; 1000];
        let hash = PieceHash::of(&whole);
        whole.resize(PIECE_BYTES, 0);
        assert_eq!(PieceHash(Sha1::digest(&whole).into()), hash);
        assert_eq!(PieceHash::of_chunk(&[1; PIECE_BYTES + 5]).count(), 2);
    }
}
