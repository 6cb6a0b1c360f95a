//! What peers say to each other (BEP 3): the handshake, and messages with their length before them.

use super::InfoHash;
use crate::limits::{BLOCK_BYTES, PIECES};

/// Bytes of a handshake.
pub const HANDSHAKE_BYTES: usize = 68;

const PROTOCOL: &[u8; 20] = b"\x13BitTorrent protocol";

/// Bytes of the longest message that is taken: the bitfield of the largest torrent, or a block.
const MESSAGE_BYTES: usize = {
    let bitfield = 1 + PIECES / 8;
    let block = 9 + BLOCK_BYTES;
    if bitfield > block { bitfield } else { block }
};

/// Who a peer says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerId(pub [u8; 20]);

/// The first words of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// Which swarm.
    pub info_hash: InfoHash,
    /// Who speaks.
    pub peer: PeerId,
}

/// One message. Those that are not of BEP 3 itself are [`Message::Other`], and mean nothing here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// Nothing, to keep the connection.
    KeepAlive,
    /// Requests are not answered any more.
    Choke,
    /// Requests are answered.
    Unchoke,
    /// It wants pieces of the receiver's.
    Interested,
    /// It does not.
    NotInterested,
    /// It has a piece.
    Have(u32),
    /// It has these pieces: one bit each, the first in the highest bit.
    Bitfield(&'a [u8]),
    /// It wants a block.
    Request(Block),
    /// A block, with its bytes.
    Piece(u32, u32, &'a [u8]),
    /// It does not want a block any more.
    Cancel(Block),
    /// Something else.
    Other(u8),
}

/// A part of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// Which piece.
    pub piece: u32,
    /// Where in it, in bytes.
    pub begin: u32,
    /// How many bytes.
    pub len: u32,
}

/// What a peer sends is not BitTorrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Something else than a handshake.
    #[error("it speaks another protocol")]
    Protocol,
    /// A message longer than any can be.
    #[error("it sends a message of {0} bytes")]
    Long(u32),
    /// A message whose length does not fit its kind.
    #[error("it sends a message of kind {0} with a wrong length")]
    Length(u8),
}

impl Handshake {
    /// The bytes; no extension is offered.
    pub fn encode(&self) -> [u8; HANDSHAKE_BYTES] {
        let mut bytes = [0; HANDSHAKE_BYTES];
        bytes[..20].copy_from_slice(PROTOCOL);
        bytes[28..48].copy_from_slice(&self.info_hash.0);
        bytes[48..].copy_from_slice(&self.peer.0);
        bytes
    }

    /// What a handshake says.
    ///
    /// # Errors
    /// [`WireError::Protocol`].
    pub fn decode(bytes: &[u8; HANDSHAKE_BYTES]) -> Result<Self, WireError> {
        if !bytes.starts_with(PROTOCOL) {
            return Err(WireError::Protocol);
        }
        let twenty = |at: usize| bytes[at..at + 20].try_into().expect("twenty bytes");
        Ok(Self {
            info_hash: InfoHash(twenty(28)),
            peer: PeerId(twenty(48)),
        })
    }
}

impl<'a> Message<'a> {
    /// The first message in `bytes` and how many bytes it took; `None` when it has not come whole.
    ///
    /// # Errors
    /// [`WireError`], as soon as its beginning shows it.
    pub fn decode(bytes: &'a [u8]) -> Result<Option<(Self, usize)>, WireError> {
        let Some((length, rest)) = bytes.split_first_chunk() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length);
        let size = usize::try_from(length).unwrap_or(usize::MAX);
        if size > MESSAGE_BYTES {
            return Err(WireError::Long(length));
        }
        if size == 0 {
            return Ok(Some((Self::KeepAlive, 4)));
        }
        let Some(body) = rest.get(..size) else {
            return Ok(None);
        };
        Ok(Some((Self::of(body[0], &body[1..])?, 4 + size)))
    }

    fn of(kind: u8, body: &'a [u8]) -> Result<Self, WireError> {
        let wrong = WireError::Length(kind);
        let number = |at: usize| {
            let four = body.get(at..at + 4).and_then(|four| four.try_into().ok());
            four.map(u32::from_be_bytes).ok_or(wrong)
        };
        let exactly = |len: usize| if body.len() == len { Ok(()) } else { Err(wrong) };
        let block = || {
            exactly(12)?;
            Ok(Block {
                piece: number(0)?,
                begin: number(4)?,
                len: number(8)?,
            })
        };
        Ok(match kind {
            0 => exactly(0).map(|()| Self::Choke)?,
            1 => exactly(0).map(|()| Self::Unchoke)?,
            2 => exactly(0).map(|()| Self::Interested)?,
            3 => exactly(0).map(|()| Self::NotInterested)?,
            4 => exactly(4).and_then(|()| number(0)).map(Self::Have)?,
            5 => Self::Bitfield(body),
            6 => Self::Request(block()?),
            7 => Self::Piece(number(0)?, number(4)?, &body[8..]),
            8 => Self::Cancel(block()?),
            other => Self::Other(other),
        })
    }

    /// Appends the message; of a block only what comes before its bytes when they are empty and `len` says how many
    /// follow.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut put = |kind: u8, numbers: &[u32], rest: &[u8]| {
            let length = 1 + numbers.len() * 4 + rest.len();
            out.extend(u32::try_from(length).unwrap_or(0).to_be_bytes());
            out.push(kind);
            numbers.iter().for_each(|number| out.extend(number.to_be_bytes()));
            out.extend(rest);
        };
        match *self {
            Self::KeepAlive => out.extend([0; 4]),
            Self::Choke => put(0, &[], &[]),
            Self::Unchoke => put(1, &[], &[]),
            Self::Interested => put(2, &[], &[]),
            Self::NotInterested => put(3, &[], &[]),
            Self::Have(piece) => put(4, &[piece], &[]),
            Self::Bitfield(bits) => put(5, &[], bits),
            Self::Request(block) => put(6, &[block.piece, block.begin, block.len], &[]),
            Self::Piece(piece, begin, bytes) => put(7, &[piece, begin], bytes),
            Self::Cancel(block) => put(8, &[block.piece, block.begin, block.len], &[]),
            Self::Other(kind) => put(kind, &[], &[]),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn messages_are_those_of_bep_3() {
        for (message, bytes) in [
            (Message::KeepAlive, &[0, 0, 0, 0][..]),
            (Message::Unchoke, &[0, 0, 0, 1, 1]),
            (Message::Have(258), &[0, 0, 0, 5, 4, 0, 0, 1, 2]),
            (Message::Bitfield(&[0x80]), &[0, 0, 0, 2, 5, 0x80]),
            (
                Message::Request(Block {
                    piece: 1,
                    begin: 2,
                    len: 3,
                }),
                &[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3],
            ),
            (
                Message::Piece(1, 2, b"xy"),
                &[0, 0, 0, 11, 7, 0, 0, 0, 1, 0, 0, 0, 2, b'x', b'y'],
            ),
        ] {
            let mut encoded = Vec::new();
            message.encode(&mut encoded);
            assert_eq!(encoded, bytes);
            assert_eq!(Message::decode(bytes), Ok(Some((message, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(Message::decode(&bytes[..cut]), Ok(None));
            }
        }
        assert_eq!(Message::decode(&[0xff; 5]), Err(WireError::Long(u32::MAX)));
        assert_eq!(Message::decode(&[0, 0, 0, 2, 4, 0]), Err(WireError::Length(4)));
        assert_eq!(
            Message::decode(&[0, 0, 0, 5, 7, 0, 0, 0, 0]),
            Err(WireError::Length(7))
        );
    }

    #[test]
    fn a_handshake_is_68_bytes_and_nothing_else_is_one() {
        let handshake = Handshake {
            info_hash: InfoHash([3; 20]),
            peer: PeerId([4; 20]),
        };
        let mut bytes = handshake.encode();
        assert_eq!(Handshake::decode(&bytes), Ok(handshake));
        bytes[7] ^= 1;
        assert_eq!(Handshake::decode(&bytes), Err(WireError::Protocol));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(Some((message, took))) = Message::decode(&bytes) {
                prop_assert!(took <= bytes.len());
                let mut again = Vec::new();
                message.encode(&mut again);
                if !matches!(message, Message::Other(_)) {
                    prop_assert_eq!(&again[..], &bytes[..took]);
                }
            }
        }
    }
}
