//! Where a receiver keeps pieces: until their chunk is whole, and for its peers as long as there is room.
//!
//! What is kept for peers is bounded. It lies in memory, or in a file that has no name any more and so is gone with the
//! process, however that ends. When the room is used up, further chunks are put together in memory and not offered to
//! anybody; nothing that peers were told of is taken back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use crossbeam_channel::Sender;
use simulcast_protocol::bittorrent::{PieceHash, Pieces};
use simulcast_protocol::limits::PIECE_BYTES;

use super::{Holder, SwarmEvent};

/// Where, and how much.
#[derive(Debug)]
pub struct Keep {
    /// Bytes that are kept for peers at most.
    pub bytes: u64,
    /// A file without a name; memory where there is none.
    pub file: Option<File>,
}

/// The pieces of one receiver.
#[derive(Debug)]
pub struct Spool {
    pieces: Arc<Pieces>,
    events: Sender<SwarmEvent>,
    file: Option<File>,
    /// Bytes that may still be promised to chunks.
    room: u64,
    chunks: BTreeMap<u32, Held>,
    memory: BTreeMap<u32, Vec<u8>>,
}

/// A chunk that has begun to come.
#[derive(Debug, Clone, Copy)]
struct Held {
    kept: bool,
    came: u32,
}

impl Spool {
    /// Nothing yet. Chunks that are whole go to `events`.
    pub fn new(pieces: Arc<Pieces>, keep: Keep, events: Sender<SwarmEvent>) -> Self {
        Self {
            pieces,
            events,
            file: keep.file,
            room: keep.bytes,
            chunks: BTreeMap::new(),
            memory: BTreeMap::new(),
        }
    }

    /// Notes that something of a chunk is here, and finds room for it.
    fn begin(&mut self, chunk: u32) -> Held {
        if let Some(held) = self.chunks.get(&chunk) {
            return *held;
        }
        let bytes = self
            .pieces
            .table()
            .get(chunk)
            .map_or(0, |info| u64::from(info.len));
        let kept = bytes <= self.room;
        if kept {
            self.room -= bytes;
        }
        let held = Held { kept, came: 0 };
        self.chunks.insert(chunk, held);
        held
    }

    fn put(&mut self, piece: u32, bytes: Vec<u8>, kept: bool) -> io::Result<()> {
        match &self.file {
            Some(file) if kept => file.write_all_at(&bytes, offset(piece)),
            _ => {
                self.memory.insert(piece, bytes);
                Ok(())
            }
        }
    }

    /// All pieces of a chunk in one; those that are not kept are let go.
    fn whole(&mut self, chunk: u32, kept: bool) -> io::Result<Vec<u8>> {
        let len = self.pieces.table().get(chunk).map_or(0, |info| info.len);
        let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        for piece in self.pieces.of_chunk(chunk) {
            match self.memory.get(&piece) {
                Some(piece) => bytes.extend_from_slice(piece),
                None => bytes.extend(self.read(piece)?),
            }
            if !kept {
                self.memory.remove(&piece);
            }
        }
        Ok(bytes)
    }
}

impl Holder for Spool {
    fn read(&mut self, piece: u32) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.memory.get(&piece) {
            return Ok(bytes.clone());
        }
        let Some(file) = &self.file else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut bytes = vec![0; usize::try_from(self.pieces.bytes(piece)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset(piece))?;
        Ok(bytes)
    }

    fn take(&mut self, piece: u32, bytes: Vec<u8>) -> io::Result<bool> {
        let Some((chunk, _)) = self.pieces.place(piece) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let mut held = self.begin(chunk);
        self.put(piece, bytes, held.kept)?;
        held.came += 1;
        self.chunks.insert(chunk, held);
        let count = self.pieces.of_chunk(chunk).len();
        if usize::try_from(held.came) == Ok(count) {
            let whole = self.whole(chunk, held.kept)?;
            if !held.kept {
                self.chunks.remove(&chunk);
            }
            // Who listens no more has everything.
            self.events
                .send(SwarmEvent::Chunk(chunk, whole))
                .unwrap_or_default();
        }
        Ok(held.kept)
    }

    fn offer(&mut self, chunk: u32, bytes: &[u8]) -> Range<u32> {
        let pieces = self.pieces.of_chunk(chunk);
        let before = self.chunks.get(&chunk).copied();
        let held = self.begin(chunk);
        if before.is_some_and(|before| before.came > 0) || !held.kept {
            // What came of it piece by piece is told piece by piece, and the rest is not worth a second way.
            if !held.kept {
                self.chunks.remove(&chunk);
                pieces.for_each(|piece| drop(self.memory.remove(&piece)));
            }
            return 0..0;
        }
        for (piece, bytes) in pieces.clone().zip(bytes.chunks(PIECE_BYTES)) {
            if self.put(piece, bytes.to_vec(), true).is_err() {
                return pieces.start..piece;
            }
        }
        let came = u32::try_from(pieces.len()).unwrap_or(0);
        self.chunks.insert(chunk, Held { kept: true, came });
        pieces
    }
}

/// Where a piece lies in the file.
fn offset(piece: u32) -> u64 {
    u64::from(piece) * PIECE_BYTES as u64
}

/// Whether `bytes` are those of a piece.
pub(super) fn fits(expected: Option<PieceHash>, bytes: &[u8]) -> bool {
    expected == Some(PieceHash::of(bytes))
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, unbounded};
    use simulcast_protocol::id::{ChunkId, ManifestId};
    use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};

    use super::*;

    const LEN: u32 = 300_000;

    fn spool(bytes: u64, file: bool) -> (Spool, Receiver<SwarmEvent>) {
        let chunk = |number: u8| ChunkInfo {
            id: ChunkId::of(&[number]),
            len: LEN,
        };
        let table = ChunkTable::new(ManifestId::of(b"v"), (0..3).map(chunk).collect()).unwrap();
        let pieces = Arc::new(Pieces::new(table.into()).unwrap());
        let (events, happened) = unbounded();
        let file = file.then(|| tempfile::tempfile().unwrap());
        (Spool::new(pieces, Keep { bytes, file }, events), happened)
    }

    fn piece(number: u8, spool: &Spool) -> Vec<u8> {
        vec![number; usize::try_from(spool.pieces.bytes(number.into())).unwrap()]
    }

    #[test]
    fn chunks_come_out_whole_and_stay_as_far_as_there_is_room() {
        for file in [false, true] {
            let (mut spool, happened) = spool(u64::from(LEN) + 1, file);
            for (number, kept) in [(1_u8, true), (3, false), (0, true), (2, false)] {
                let bytes = piece(number, &spool);
                assert_eq!(spool.take(number.into(), bytes.clone()).unwrap(), kept);
                assert_eq!(
                    spool.read(number.into()).ok(),
                    (kept || number == 3).then_some(bytes)
                );
            }
            for (chunk, first) in [(0, 0), (1, 2)] {
                let whole = [piece(first, &spool), piece(first + 1, &spool)].concat();
                let event = happened.try_recv().unwrap();
                assert!(matches!(event, SwarmEvent::Chunk(index, bytes) if index == chunk && bytes == whole));
            }
            assert!(happened.try_recv().is_err());
            assert!(spool.read(2).is_err(), "what was not kept is gone");
            assert_eq!(spool.memory.len(), if file { 0 } else { 2 });
        }
    }

    #[test]
    fn chunks_that_came_by_another_way_are_kept_too() {
        let (mut spool, happened) = spool(u64::from(LEN) * 2, false);
        assert_eq!(spool.offer(1, &[7; LEN as usize]), 2..4);
        assert_eq!(spool.read(3).unwrap(), vec![7; 300_000 - PIECE_BYTES]);
        let bytes = piece(0, &spool);
        assert!(spool.take(0, bytes).unwrap());
        assert_eq!(
            spool.offer(0, &[7; LEN as usize]),
            0..0,
            "its pieces come already"
        );
        assert_eq!(spool.offer(2, &[7; LEN as usize]), 0..0, "there is no room");
        assert!(happened.try_recv().is_err());
    }
}
