//! PROBE: a numbered packet that finds out what reaches a machine. It is of no session, and no receiver takes it.

use super::{Malformed, Reader, VERSION, Writer};
use crate::multicast::key::{TAG_BYTES, TagKey};

/// Type of the packet, in the low half of its first byte.
const TYPE: u8 = 6;

/// Bytes of everything but the padding: the shortest packet.
pub const PROBE_BYTES: usize = 16 + TAG_BYTES;

/// By which way a packet was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// To the group.
    Multicast,
    /// To one machine.
    Unicast,
}

/// What a packet says of itself; the rest of it is padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Probe {
    /// By which way it was sent.
    pub path: Path,
    /// Which probe it belongs to.
    pub probe: u32,
    /// The round that it was sent in.
    pub round: u32,
    /// Which of the trains of that round.
    pub train: u8,
    /// Its number in the train.
    pub index: u8,
}

impl Probe {
    /// Writes a packet of `len` bytes, tag included, in place of what `to` holds. `len` is at least [`PROBE_BYTES`].
    pub fn encode(&self, key: &TagKey, len: usize, to: &mut Vec<u8>) {
        to.clear();
        let mut writer = Writer(to);
        writer.u8(VERSION << 4 | TYPE);
        writer.u8(match self.path {
            Path::Multicast => 0,
            Path::Unicast => 1,
        });
        writer.u8(self.train);
        writer.u8(self.index);
        writer.u32(self.probe);
        writer.u32(self.round);
        // The packet's own length: one that was cut short on its way has a wrong tag, and says so here too.
        writer.u32(u32::try_from(len).unwrap_or(u32::MAX));
        to.resize(len.max(PROBE_BYTES) - TAG_BYTES, 0);
        key.seal(to);
    }

    /// Reads a packet whose tag is right.
    ///
    /// # Errors
    /// What is wrong with it; a wrong tag is [`Malformed::Field`].
    pub fn decode(key: &TagKey, packet: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader::new(packet);
        let first = reader.u8()?;
        if first >> 4 != VERSION {
            return Err(Malformed::Version);
        }
        if first & 0xf != TYPE {
            return Err(Malformed::Kind);
        }
        if packet.len() < PROBE_BYTES {
            return Err(Malformed::Short);
        }
        key.open(packet).ok_or(Malformed::Field)?;
        let path = match reader.u8()? {
            0 => Path::Multicast,
            1 => Path::Unicast,
            _ => return Err(Malformed::Field),
        };
        let (train, index) = (reader.u8()?, reader.u8()?);
        let (probe, round) = (reader.u32()?, reader.u32()?);
        if usize::try_from(reader.u32()?) != Ok(packet.len()) {
            return Err(Malformed::Length);
        }
        Ok(Self {
            path,
            probe,
            round,
            train,
            index,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multicast::key::SessionKey;
    use crate::multicast::packet::peek;

    #[test]
    fn packets_round_trip_and_any_change_is_noticed() {
        let key = SessionKey::from_bytes([9; 32]).group();
        let probe = Probe {
            path: Path::Unicast,
            probe: 0xdead_beef,
            round: 70_000,
            train: 3,
            index: 63,
        };
        let mut packet = Vec::new();
        for len in [PROBE_BYTES, 100, 1472] {
            probe.encode(&key, len, &mut packet);
            assert_eq!(packet.len(), len);
            assert_eq!(Probe::decode(&key, &packet), Ok(probe));
            assert_eq!(peek(&packet), Err(Malformed::Kind), "no session takes it");
        }
        probe.encode(&key, 100, &mut packet);
        for at in 0..packet.len() {
            let mut forged = packet.clone();
            forged[at] ^= 0x80;
            assert!(Probe::decode(&key, &forged).is_err(), "byte {at}");
            assert!(Probe::decode(&key, &packet[..at]).is_err(), "cut at {at}");
        }
        packet.push(0);
        assert!(Probe::decode(&key, &packet).is_err());
    }
}
