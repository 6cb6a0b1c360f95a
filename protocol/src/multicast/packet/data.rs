//! The data packet (protocol.md 3): one symbol of one chunk.

use super::bytes::{Reader, Writer};
use super::{Kind, Malformed, peek, write_head};
use crate::multicast::key::SessionId;

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

/// Room for the tag of data packets. It is zero as long as data packets are not tagged.
const TAG: [u8; 12] = [0; 12];

impl<'a> Data<'a> {
    /// Appends the packet to `to`.
    pub fn encode(&self, to: &mut Vec<u8>) {
        let mut to = Writer(to);
        write_head(&mut to, Kind::Data, self.symbol, self.session);
        to.u32(self.chunk);
        to.u64(self.tx_seq);
        to.bytes(&TAG);
        to.bytes(self.payload);
    }

    /// Reads a packet; whether chunk, symbol and length fit the session is for the receiver to check.
    pub fn decode(packet: &'a [u8]) -> Result<Self, Malformed> {
        let (kind, session) = peek(packet)?;
        if kind != Kind::Data {
            return Err(Malformed::Kind);
        }
        let mut reader = Reader::new(packet);
        let (_, symbol, _) = (reader.u16()?, reader.u16()?, reader.u32()?);
        let (chunk, tx_seq) = (reader.u32()?, reader.u64()?);
        if reader.array()? != TAG || tx_seq == 0 {
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
        fn never_panics(bytes: Vec<u8>, first in 0u8..0x30) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() { *byte = first; }
            if let Ok(data) = Data::decode(&bytes) {
                let mut again = Vec::new();
                data.encode(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
