//! Packets that go together, as the pieces of memory that they are made of: a symbol is sent from where its chunk lies.

use std::ops::Range;
use std::sync::Arc;

use crate::multicast::limits::{DATA_HEADER_BYTES, SYMBOL_BYTES_MAX};

/// What fills up a last symbol.
pub(super) static ZEROS: [u8; SYMBOL_BYTES_MAX] = [0; SYMBOL_BYTES_MAX];

/// Packets of equal length for the group, in their order. It holds the chunks that its symbols lie in, until the next ones
/// are asked for.
#[derive(Debug, Default)]
pub struct Batch {
    segment: usize,
    /// The headers of data packets, or one control packet.
    heads: Vec<u8>,
    payloads: Vec<Payload>,
}

/// The symbol of a data packet.
#[derive(Debug)]
struct Payload {
    bytes: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Batch {
    /// Bytes of each packet.
    pub fn segment(&self) -> usize {
        self.segment
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        if self.payloads.is_empty() {
            usize::from(!self.heads.is_empty())
        } else {
            self.payloads.len()
        }
    }

    /// The pieces of all packets, one behind the other. A packet ends where a piece ends.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let control = if self.payloads.is_empty() {
            &*self.heads
        } else {
            &[]
        };
        let data = self.heads.chunks_exact(DATA_HEADER_BYTES).zip(&self.payloads);
        let data = data.flat_map(|(head, payload)| {
            let symbol = &payload.bytes[payload.range.clone()];
            let rest = self.segment.saturating_sub(head.len() + symbol.len());
            [head, symbol, &ZEROS[..rest]]
        });
        std::iter::once(control)
            .chain(data)
            .filter(|piece| !piece.is_empty())
    }

    /// The packets in one piece, one behind the other, in `to`, which is cleared before: for whoever cannot send pieces.
    pub fn copy_to(&self, to: &mut Vec<u8>) {
        to.clear();
        self.pieces().for_each(|piece| to.extend_from_slice(piece));
    }

    /// Empties it, for data packets of `segment` bytes.
    pub(super) fn begin(&mut self, segment: usize) {
        self.heads.clear();
        self.payloads.clear();
        self.segment = segment;
    }

    /// Empties it, and lets `write` put one control packet into it.
    pub(super) fn control(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        self.begin(0);
        write(&mut self.heads);
        self.segment = self.heads.len();
    }

    /// Appends a data packet: its header, and its symbol, which is filled up with zeros.
    pub(super) fn push(&mut self, head: &[u8; DATA_HEADER_BYTES], bytes: &Arc<Vec<u8>>, range: Range<usize>) {
        self.heads.extend_from_slice(head);
        let bytes = Arc::clone(bytes);
        self.payloads.push(Payload { bytes, range });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_packets_of_equal_length() {
        let bytes = Arc::new((0..10).collect::<Vec<u8>>());
        let mut batch = Batch::default();
        assert_eq!((batch.count(), batch.pieces().count()), (0, 0));
        batch.begin(36);
        batch.push(&[1; 32], &bytes, 0..4);
        batch.push(&[2; 32], &bytes, 8..10);
        assert_eq!((batch.count(), batch.segment()), (2, 36));
        assert_eq!(
            batch.pieces().map(<[u8]>::len).collect::<Vec<_>>(),
            [32, 4, 32, 2, 2]
        );
        let mut whole = vec![9];
        batch.copy_to(&mut whole);
        let (first, second) = whole.split_at(36);
        assert_eq!((&first[..32], &first[32..]), (&[1; 32][..], &[0, 1, 2, 3][..]));
        assert_eq!((&second[..32], &second[32..]), (&[2; 32][..], &[8, 9, 0, 0][..]));
        batch.control(|packet| packet.extend(b"announce"));
        assert_eq!((batch.count(), batch.segment()), (1, 8));
        assert_eq!(batch.pieces().collect::<Vec<_>>(), [b"announce"]);
    }
}
