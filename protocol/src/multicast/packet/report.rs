//! What a receiver tells the sender (protocol.md 5): its state, its deficits (NAKs) and what it lacks entirely.

use super::bytes::Writer;
use super::{Kind, Malformed, flagged, read_control_head, set_flag, write_head};
use crate::multicast::key::{ReceiverId, SessionId, TagKey};
use crate::multicast::limits::{BITMAP_BYTES, WANTS};

/// The deficit that says: all of the chunk.
pub const WHOLE: u16 = u16::MAX;

/// A run of neighbouring chunks of which a receiver lacks so many symbols each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want {
    /// First chunk of the run.
    pub first: u32,
    /// Chunks in the run, at least 1.
    pub count: u32,
    /// Symbols that lack to each, at least 1; [`WHOLE`] when the receiver holds none.
    pub deficit: u16,
}

/// Chunks that a receiver lacks entirely, as bits: bit `i % 8` of byte `i / 8` stands for chunk `first + i`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitmap {
    /// Chunk of the first bit.
    pub first: u32,
    /// The bits; 1 to [`BITMAP_BYTES`] bytes, or none when there is no bitmap.
    pub bits: Vec<u8>,
}

/// State of a receiver. A JOIN has the same form as a REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Whether this is a JOIN: the sender answers it with an announce soon.
    pub join: bool,
    /// Whether chunks came in that had not their hash: somebody forges data packets.
    pub poisoned: bool,
    /// The session.
    pub session: SessionId,
    /// Number of this message of this receiver, from 1; the sender takes only rising ones.
    pub seq: u64,
    /// Who speaks.
    pub receiver: ReceiverId,
    /// Highest number of a data packet that it saw or that was announced to it.
    pub tx_seq: u64,
    /// Data packets of this session that it received.
    pub received: u64,
    /// Packets that its socket dropped because its buffer was full.
    pub drops: u64,
    /// Chunks that it still lacks of this session.
    pub missing: u32,
    /// How full the fullest of its queues is, in 255ths.
    pub fill: u8,
    /// Deficits and whole chunks; at most [`WANTS`] runs.
    pub wants: Vec<Want>,
    /// More whole chunks, where runs would take more room.
    pub bitmap: Bitmap,
}

impl Bitmap {
    /// No bitmap.
    pub const NONE: Self = Self {
        first: 0,
        bits: Vec::new(),
    };

    /// The chunks whose bits are set, rising.
    pub fn chunks(&self) -> impl Iterator<Item = u32> + '_ {
        let bits = self.bits.iter().enumerate();
        let set = bits.flat_map(|(at, byte)| {
            (0..8)
                .filter(move |bit| byte >> bit & 1 == 1)
                .map(move |bit| at * 8 + bit)
        });
        set.filter_map(|offset| self.first.checked_add(u32::try_from(offset).ok()?))
    }
}

impl Report {
    /// Whether the receiver needs nothing more from this session.
    pub fn done(&self) -> bool {
        self.missing == 0
    }

    /// Appends the packet with its tag to `packet`, which must be empty.
    pub fn encode(&self, key: &TagKey, packet: &mut Vec<u8>) {
        let mut to = Writer(packet);
        let kind = if self.join { Kind::Join } else { Kind::Report };
        write_head(&mut to, kind, 0, self.session);
        set_flag(to.0, self.poisoned);
        [self.seq, self.receiver.0, self.tx_seq, self.received, self.drops]
            .into_iter()
            .for_each(|n| to.u64(n));
        to.u32(self.missing);
        to.u8(self.fill);
        let (wants, bytes) = (
            self.wants.len().min(WANTS),
            self.bitmap.bits.len().min(BITMAP_BYTES),
        );
        to.u8(u8::try_from(wants).expect("WANTS fits a byte"));
        to.u16(u16::try_from(bytes).expect("BITMAP_BYTES fits two bytes"));
        for want in &self.wants[..wants] {
            to.u32(want.first);
            to.u32(want.count);
            to.u16(want.deficit);
        }
        if bytes > 0 {
            to.u32(self.bitmap.first);
            to.bytes(&self.bitmap.bits[..bytes]);
        }
        key.seal(packet);
    }

    /// The receiver that a packet names, to choose the key that its tag is checked with.
    pub fn peek_receiver(packet: &[u8]) -> Result<ReceiverId, Malformed> {
        let (_, _, mut reader) = read_control_head(packet, &[Kind::Join, Kind::Report])?;
        let _seq = reader.u64()?;
        Ok(ReceiverId(reader.u64()?))
    }

    /// Reads the bytes before the tag. Whether the chunks exist is for the sender to check.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (kind, session, mut reader) = read_control_head(body, &[Kind::Join, Kind::Report])?;
        let (seq, receiver) = (reader.u64()?, ReceiverId(reader.u64()?));
        let (tx_seq, received, drops) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (missing, fill) = (reader.u32()?, reader.u8()?);
        let (want_count, bytes) = (usize::from(reader.u8()?), usize::from(reader.u16()?));
        if want_count > WANTS || bytes > BITMAP_BYTES || seq == 0 {
            return Err(Malformed::Field);
        }
        let mut wants = Vec::with_capacity(want_count);
        for _ in 0..want_count {
            let want = Want {
                first: reader.u32()?,
                count: reader.u32()?,
                deficit: reader.u16()?,
            };
            if want.count == 0 || want.deficit == 0 || want.first.checked_add(want.count).is_none() {
                return Err(Malformed::Field);
            }
            wants.push(want);
        }
        let bitmap = match bytes {
            0 => Bitmap::NONE,
            _ => Bitmap {
                first: reader.u32()?,
                bits: reader.take(bytes)?.to_vec(),
            },
        };
        reader.end()?;
        let join = kind == Kind::Join;
        Ok(Self {
            join,
            poisoned: flagged(body),
            session,
            seq,
            receiver,
            tx_seq,
            received,
            drops,
            missing,
            fill,
            wants,
            bitmap,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::multicast::limits::CONTROL_BYTES;

    fn key() -> TagKey {
        TagKey::from_bytes([9; 32])
    }

    prop_compose! {
        fn reports()(
            join: bool, poisoned: bool, session: u32, seq in 1u64.., receiver: u64, tx_seq: u64, received: u64, drops: u64,
            missing: u32, fill: u8, first: u32,
            wants in prop::collection::vec((0u32..1 << 31, 1u32..1 << 20, 1u16..), 0..=WANTS),
            mut bits in prop::collection::vec(any::<u8>(), 0..=BITMAP_BYTES),
        ) -> Report {
            // What a receiver builds fits one packet: many runs or a bitmap, not both.
            if wants.len() > WANTS / 2 { bits.clear(); }
            let bitmap = if bits.is_empty() { Bitmap::NONE } else { Bitmap { first, bits } };
            Report {
                join, poisoned, session: SessionId(session), seq, receiver: ReceiverId(receiver), tx_seq, received, drops,
                missing, fill, bitmap,
                wants: wants.into_iter().map(|(first, count, deficit)| Want { first, count, deficit }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn reports_round_trip(report in reports()) {
            let mut packet = Vec::new();
            report.encode(&key(), &mut packet);
            prop_assert!(packet.len() <= CONTROL_BYTES, "{} bytes", packet.len());
            prop_assert_eq!(Report::peek_receiver(&packet), Ok(report.receiver));
            prop_assert_eq!(Report::decode(key().open(&packet).unwrap()), Ok(report));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut body: Vec<u8>) {
            if body.len() > 4 { body[0] = 0x14; body[1] &= 1; body[2..4].fill(0); }
            if let Ok(report) = Report::decode(&body) {
                let mut packet = Vec::new();
                report.encode(&key(), &mut packet);
                prop_assert_eq!(key().open(&packet).unwrap(), &body[..]);
            }
        }

        #[test]
        fn a_packet_cut_anywhere_is_refused(report in reports(), cut in 0usize..2000) {
            let mut packet = Vec::new();
            report.encode(&key(), &mut packet);
            let body = key().open(&packet).unwrap();
            prop_assert_eq!(Report::decode(&body[..cut % body.len()]), Err(Malformed::Short));
        }
    }

    #[test]
    fn bytes_are_these() {
        let report = Report {
            join: true,
            poisoned: true,
            session: SessionId(1),
            seq: 2,
            receiver: ReceiverId(3),
            tx_seq: 4,
            received: 5,
            drops: 6,
            missing: 7,
            fill: 8,
            wants: vec![Want {
                first: 9,
                count: 10,
                deficit: WHOLE,
            }],
            bitmap: Bitmap {
                first: 11,
                bits: vec![0b101],
            },
        };
        assert_eq!(report.bitmap.chunks().collect::<Vec<_>>(), [11, 13]);
        let mut packet = Vec::new();
        report.encode(&key(), &mut packet);
        let mut expected = vec![0x13, 1, 0, 0, 1, 0, 0, 0];
        for number in 2u64..=6 {
            expected.extend(number.to_le_bytes());
        }
        expected.extend([
            7, 0, 0, 0, 8, 1, 1, 0, 9, 0, 0, 0, 10, 0, 0, 0, 255, 255, 11, 0, 0, 0, 5,
        ]);
        key().seal(&mut expected);
        assert_eq!(packet, expected);
    }
}
