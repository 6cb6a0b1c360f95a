//! What the sender tells the group (protocol.md 4 and 6): the session's state, its plans, its end.

use std::time::Duration;

use super::bytes::Writer;
use super::{Kind, Malformed, flagged, read_control_head, set_flag, write_head};
use crate::id::ManifestId;
use crate::multicast::key::{ReceiverId, SessionId, TagKey};
use crate::multicast::limits::{CONFIRMED, PARTED, PLANS, UNREADABLE};
use crate::units::Rate;

/// What the sender is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It waits for receivers.
    Waiting,
    /// It sends.
    Sending,
    /// Nothing is planned: whoever still lacks something should say so.
    Idle,
}

/// Symbols that the sender will still send of a chunk: a receiver that lacks no more need not ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Which chunk.
    pub chunk: u32,
    /// How many symbols.
    pub symbols: u16,
}

/// State of the session, sent to the group some 20 times a second.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The session.
    pub session: SessionId,
    /// Number of this announce or FIN in the session; a receiver takes only rising ones.
    pub seq: u64,
    /// The version that is sent.
    pub manifest: ManifestId,
    /// Number of the last data packet; 0 before the first.
    pub tx_seq: u64,
    /// The rate at present, counted on the wire.
    pub rate: Rate,
    /// Receivers that are alive, those that are done among them.
    pub receivers: u32,
    /// Receivers that need nothing more.
    pub done: u32,
    /// Chunks that somebody lacks.
    pub wanted: u32,
    /// Time between two regular reports of one receiver; whole milliseconds up to 65 s.
    pub report_period: Duration,
    /// Time over which receivers spread their NAKs; whole milliseconds up to 65 s.
    pub nak_window: Duration,
    /// The worst deficit that the sender saw of late: who lacks as much asks at once.
    pub expected_deficit: u16,
    /// What the sender is doing.
    pub phase: Phase,
    /// What it will send of chunks in work; at most [`PLANS`].
    pub plans: Vec<Plan>,
    /// Chunks that it cannot read; at most [`UNREADABLE`], by turns when there are more.
    pub unreadable: Vec<u32>,
    /// Stragglers that are to go on by another transport; at most [`PARTED`].
    pub parted: Vec<ReceiverId>,
    /// Receivers of whom was heard of late that they are done; at most [`CONFIRMED`]. They need not say so again.
    pub confirmed: Vec<ReceiverId>,
    /// Whether all data packets carry a tag from now on.
    pub tagged: bool,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nobody that is alive lacks anything that can be sent.
    Done,
    /// It was stopped.
    Stopped,
}

/// End of the session, sent several times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fin {
    /// The session.
    pub session: SessionId,
    /// As in [`Announce::seq`].
    pub seq: u64,
    /// Why.
    pub reason: Reason,
}

impl Announce {
    /// Appends the packet with its tag to `to`, which must be empty.
    pub fn encode(&self, key: &TagKey, packet: &mut Vec<u8>) {
        let mut to = Writer(packet);
        write_head(&mut to, Kind::Announce, 0, self.session);
        set_flag(to.0, self.tagged);
        to.u64(self.seq);
        to.bytes(self.manifest.as_bytes());
        to.u64(self.tx_seq);
        to.u64(self.rate.bits_per_second());
        [self.receivers, self.done, self.wanted]
            .into_iter()
            .for_each(|number| to.u32(number));
        to.u16(millis(self.report_period));
        to.u16(millis(self.nak_window));
        to.u16(self.expected_deficit);
        to.u8(match self.phase {
            Phase::Waiting => 0,
            Phase::Sending => 1,
            Phase::Idle => 2,
        });
        let (plans, unreadable) = (self.plans.len().min(PLANS), self.unreadable.len().min(UNREADABLE));
        let parted = self.parted.len().min(PARTED);
        let confirmed = self.confirmed.len().min(CONFIRMED);
        to.u8(u8::try_from(plans).expect("PLANS fits a byte"));
        to.u8(u8::try_from(unreadable).expect("UNREADABLE fits a byte"));
        to.u8(u8::try_from(parted).expect("PARTED fits a byte"));
        to.u8(u8::try_from(confirmed).expect("CONFIRMED fits a byte"));
        for plan in &self.plans[..plans] {
            to.u32(plan.chunk);
            to.u16(plan.symbols);
        }
        self.unreadable[..unreadable]
            .iter()
            .for_each(|&chunk| to.u32(chunk));
        let named = self.parted[..parted].iter().chain(&self.confirmed[..confirmed]);
        named.for_each(|receiver| to.u64(receiver.0));
        key.seal(packet);
    }

    /// Reads the bytes before the tag.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (_, session, mut reader) = read_control_head(body, &[Kind::Announce])?;
        let seq = reader.u64()?;
        let manifest = ManifestId::from_bytes(reader.array()?);
        let (tx_seq, rate) = (reader.u64()?, reader.u64()?);
        let (receivers, done, wanted) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let report_period = Duration::from_millis(reader.u16()?.into());
        let nak_window = Duration::from_millis(reader.u16()?.into());
        let expected_deficit = reader.u16()?;
        let phase = match reader.u8()? {
            0 => Phase::Waiting,
            1 => Phase::Sending,
            2 => Phase::Idle,
            _ => return Err(Malformed::Field),
        };
        let (plan_count, unreadable_count) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        let (parted_count, confirmed_count) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        let long = plan_count > PLANS
            || unreadable_count > UNREADABLE
            || parted_count > PARTED
            || confirmed_count > CONFIRMED;
        if long || rate == 0 || seq == 0 || done > receivers {
            return Err(Malformed::Field);
        }
        let mut plans = Vec::with_capacity(plan_count);
        for _ in 0..plan_count {
            plans.push(Plan {
                chunk: reader.u32()?,
                symbols: reader.u16()?,
            });
        }
        let mut unreadable = Vec::with_capacity(unreadable_count);
        for _ in 0..unreadable_count {
            unreadable.push(reader.u32()?);
        }
        let mut parted = Vec::with_capacity(parted_count);
        for _ in 0..parted_count {
            parted.push(ReceiverId(reader.u64()?));
        }
        let mut confirmed = Vec::with_capacity(confirmed_count);
        for _ in 0..confirmed_count {
            confirmed.push(ReceiverId(reader.u64()?));
        }
        reader.end()?;
        let rate = Rate::from_bits_per_second(rate);
        Ok(Self {
            session,
            seq,
            manifest,
            tx_seq,
            rate,
            receivers,
            done,
            wanted,
            report_period,
            nak_window,
            expected_deficit,
            phase,
            plans,
            unreadable,
            parted,
            confirmed,
            tagged: flagged(body),
        })
    }
}

impl Fin {
    /// Appends the packet with its tag to `to`, which must be empty.
    pub fn encode(&self, key: &TagKey, packet: &mut Vec<u8>) {
        let mut to = Writer(packet);
        write_head(&mut to, Kind::Fin, 0, self.session);
        to.u64(self.seq);
        to.u8(match self.reason {
            Reason::Done => 0,
            Reason::Stopped => 1,
        });
        key.seal(packet);
    }

    /// Reads the bytes before the tag.
    pub fn decode(body: &[u8]) -> Result<Self, Malformed> {
        let (_, session, mut reader) = read_control_head(body, &[Kind::Fin])?;
        let seq = reader.u64()?;
        let reason = match reader.u8()? {
            0 => Reason::Done,
            1 => Reason::Stopped,
            _ => return Err(Malformed::Field),
        };
        reader.end()?;
        if seq == 0 {
            Err(Malformed::Field)
        } else {
            Ok(Self { session, seq, reason })
        }
    }
}

fn millis(time: Duration) -> u16 {
    u16::try_from(time.as_millis()).unwrap_or(u16::MAX)
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
        fn announces()(
            session: u32, seq in 1u64.., manifest: [u8; 32], tx_seq: u64, rate in 1u64.., receivers in 0u32..20_000,
            wanted: u32, report_ms: u16, nak_ms: u16, expected_deficit: u16,
            phase in prop::sample::select(vec![Phase::Waiting, Phase::Sending, Phase::Idle]),
            plans in prop::collection::vec((any::<u32>(), any::<u16>()), 0..=PLANS),
            unreadable in prop::collection::vec(any::<u32>(), 0..=UNREADABLE),
            parted in prop::collection::vec(any::<u64>(), 0..=PARTED),
            confirmed in prop::collection::vec(any::<u64>(), 0..=CONFIRMED), tagged: bool,
        ) -> Announce {
            Announce {
                session: SessionId(session), seq, manifest: ManifestId::from_bytes(manifest), tx_seq,
                rate: Rate::from_bits_per_second(rate), receivers, done: receivers / 3, wanted,
                report_period: Duration::from_millis(report_ms.into()), nak_window: Duration::from_millis(nak_ms.into()),
                expected_deficit, phase, unreadable, tagged,
                parted: parted.into_iter().map(ReceiverId).collect(),
                confirmed: confirmed.into_iter().map(ReceiverId).collect(),
                plans: plans.into_iter().map(|(chunk, symbols)| Plan { chunk, symbols }).collect(),
            }
        }
    }

    proptest! {
        #[test]
        fn announces_round_trip(announce in announces()) {
            let mut packet = Vec::new();
            announce.encode(&key(), &mut packet);
            prop_assert!(packet.len() <= CONTROL_BYTES);
            prop_assert_eq!(Announce::decode(key().open(&packet).unwrap()), Ok(announce));
        }

        #[test]
        fn arbitrary_bytes_never_panic(mut body: Vec<u8>, head in prop::sample::select(vec![0x12u8, 0x15])) {
            if body.len() > 4 { body[0] = head; body[1] &= 1; body[2..4].fill(0); }
            if let Ok(announce) = Announce::decode(&body) {
                let mut packet = Vec::new();
                announce.encode(&key(), &mut packet);
                prop_assert_eq!(key().open(&packet).unwrap(), &body[..]);
            }
            let _ = Fin::decode(&body).map(|fin| assert_eq!(fin.session.0.to_le_bytes(), body[4..8]));
        }

        #[test]
        fn a_packet_cut_anywhere_is_refused(announce in announces(), cut in 0usize..1000) {
            let mut packet = Vec::new();
            announce.encode(&key(), &mut packet);
            let body = key().open(&packet).unwrap();
            prop_assert_eq!(Announce::decode(&body[..cut % body.len()]), Err(Malformed::Short));
        }
    }

    #[test]
    fn bytes_are_these() {
        let announce = Announce {
            session: SessionId(1),
            seq: 2,
            manifest: ManifestId::from_bytes([3; 32]),
            tx_seq: 4,
            rate: Rate::from_bits_per_second(5),
            receivers: 7,
            done: 6,
            wanted: 8,
            report_period: Duration::from_millis(9),
            nak_window: Duration::from_millis(10),
            expected_deficit: 11,
            phase: Phase::Idle,
            plans: vec![Plan {
                chunk: 12,
                symbols: 13,
            }],
            unreadable: vec![14],
            parted: vec![ReceiverId(15)],
            confirmed: vec![ReceiverId(16)],
            tagged: true,
        };
        let mut packet = Vec::new();
        announce.encode(&key(), &mut packet);
        let mut expected = vec![0x12, 1, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([3; 32]);
        expected.extend([
            4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 8, 0, 0, 0,
        ]);
        expected.extend([9, 0, 10, 0, 11, 0, 2, 1, 1, 1, 1, 12, 0, 0, 0, 13, 0, 14, 0, 0, 0]);
        expected.extend([15, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0]);
        key().seal(&mut expected);
        assert_eq!(packet, expected);

        let mut packet = Vec::new();
        let fin = Fin {
            session: SessionId(1),
            seq: 2,
            reason: Reason::Stopped,
        };
        fin.encode(&key(), &mut packet);
        let mut expected = vec![0x15, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1];
        key().seal(&mut expected);
        assert_eq!(packet, expected);
        assert_eq!(Fin::decode(key().open(&packet).unwrap()), Ok(fin));
    }
}
