//! The data packet (protocol.md 3): one symbol of one chunk.

use super::bytes::{Reader, Writer};
use super::{Kind, Malformed, flagged, peek, set_flag, write_head};
use crate::multicast::key::{DATA_TAG_BYTES, SessionId, TagKey};
use crate::multicast::limits::DATA_HEADER_BYTES;

/// One symbol on its way from the sender to the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data<'a> {
    /// The session.
    pub session: SessionId,
    /// Number of the symbol in its chunk: below K a source symbol, from K on a parity symbol.
    pub symbol: u16,
    /// Index of the chunk in the version's table.
    pub chunk: u32,
    /// Number of this packet in the session, from 1; one more with each packet that is sent.
    pub tx_seq: u64,
    /// The symbol; a last source symbol is filled up with zeros.
    pub payload: &'a [u8],
}

/// Where the tag stands: it fills the header up.
const TAG_AT: usize = DATA_HEADER_BYTES - DATA_TAG_BYTES;
/// What stands there in packets without one.
const NO_TAG: [u8; DATA_TAG_BYTES] = [0; DATA_TAG_BYTES];

impl<'a> Data<'a> {
    /// Appends the packet to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.head());
        to.extend_from_slice(self.payload);
    }

    /// What stands before the payload.
    pub fn head(&self) -> [u8; DATA_HEADER_BYTES] {
        let mut head = Vec::with_capacity(DATA_HEADER_BYTES);
        let mut to = Writer(&mut head);
        write_head(&mut to, Kind::Data, self.symbol, self.session);
        to.u32(self.chunk);
        to.u64(self.tx_seq);
        to.bytes(&NO_TAG);
        head.try_into().expect("the fields fill the header")
    }

    /// Gives a packet a tag: `head` is what [`head`](Self::head) made of it, `payload` the whole symbol in pieces.
    pub fn seal<'p>(
        head: &mut [u8; DATA_HEADER_BYTES],
        payload: impl IntoIterator<Item = &'p [u8]>,
        key: &TagKey,
    ) {
        set_flag(head, true);
        let (front, tag) = head.split_at_mut(TAG_AT);
        tag.copy_from_slice(&key.data_tag(front, payload));
    }

    /// Whether a packet has a tag, and it is right; `None` without one.
    pub fn check(packet: &[u8], key: &TagKey) -> Option<bool> {
        let (head, rest) = packet.split_at_checked(TAG_AT).filter(|_| flagged(packet))?;
        let (tag, payload) = rest.split_first_chunk()?;
        Some(key.is_data_tag(tag, head, [payload]))
    }

    /// Reads a packet; whether a tag is right, and whether chunk, symbol and length fit the session, is for the receiver to
    /// check.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, session) = peek(packet)?;
        if kind != Kind::Data {
            return Err(Malformed::Kind);
        }
        let mut reader = Reader::new(packet);
        let (_, symbol, _) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let (chunk, tx_seq) = (reader.u32()?, reader.u64()?);
        if reader.array()? != NO_TAG && !flagged(packet) || tx_seq == 0 {
            return Err(Malformed::Field);
        }
        Ok(Self {
            session,
            symbol,
            chunk,
            tx_seq,
            payload: reader.rest(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bytes_are_these() {
        let data = Data {
            session: SessionId(0x0403_0201),
            symbol: 0x0605,
            chunk: 0x0a09_0807,
            tx_seq: 0x12,
            payload: b"ab",
        };
        let mut packet = Vec::new();
        data.encode(&mut packet);
        let mut expected = vec![0x11, 0, 5, 6, 1, 2, 3, 4, 7, 8, 9, 10, 0x12, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0; 12]);
        expected.extend(b"ab");
        assert_eq!(packet, expected);
        assert_eq!(packet.len(), crate::multicast::limits::DATA_HEADER_BYTES + 2);
    }

    proptest! {
        #[test]
        fn round_trips(session: u32, symbol: u16, chunk: u32, tx_seq in 1u64.., payload: Vec<u8>) {
            let data = Data { session: SessionId(session), symbol, chunk, tx_seq, payload: &payload };
            let mut packet = Vec::new();
            data.encode(&mut packet);
            prop_assert_eq!(Data::decode(&packet), Ok(data));
        }

        #[test]
        fn tags_tell_every_change(payload: Vec<u8>, at: prop::sample::Index, bit in 0u8..8) {
            let key = TagKey::from_bytes([7; 32]);
            let data = Data { session: SessionId(1), symbol: 2, chunk: 3, tx_seq: 4, payload: &payload };
            let mut packet = Vec::new();
            data.encode(&mut packet);
            prop_assert_eq!(Data::check(&packet, &key), None);
            let (at, mut head) = (at.index(packet.len()), data.head());
            let (front, back) = payload.split_at(at.min(payload.len()));
            Data::seal(&mut head, [front, back], &key);
            packet[..DATA_HEADER_BYTES].copy_from_slice(&head);
            prop_assert_eq!(Data::check(&packet, &key), Some(true));
            prop_assert_eq!(Data::check(&packet, &TagKey::from_bytes([8; 32])), Some(false));
            prop_assert_eq!(Data::decode(&packet), Ok(data));
            packet[at] ^= 1 << bit;
            prop_assert_ne!(Data::check(&packet, &key), Some(true));
        }

        #[test]
        fn never_panics(bytes: Vec<u8>, first in 0u8..0x30) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = first; }
            if let Ok(data) = Data::decode(&bytes) {
                let mut again = Vec::new();
                data.encode(&mut again);
                if flagged(&bytes) {
                    again[1] = 1;
                    again[TAG_AT..DATA_HEADER_BYTES].copy_from_slice(&bytes[TAG_AT..DATA_HEADER_BYTES]);
                }
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
