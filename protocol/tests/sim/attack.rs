//! Somebody who hears everything and knows no key: repeats, cuts, alters and invents packets.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt};
use simulcast_protocol::multicast::SessionId;
use simulcast_protocol::multicast::packet::{self, Data, Kind};

/// Packets that were heard of late.
#[derive(Default)]
pub(crate) struct Attacker {
    heard: Vec<Vec<u8>>,
    next: usize,
    /// Chunk, symbol and number of the last data packet.
    last: Option<(u32, u16, u64)>,
}

const MEMORY: usize = 256;

impl Attacker {
    pub(crate) fn hear(&mut self, packet: &[u8]) {
        if self.heard.len() < MEMORY {
            self.heard.push(packet.to_vec());
        } else {
            self.heard[self.next % MEMORY] = packet.to_vec();
        }
        self.next += 1;
        if packet::peek(packet).is_ok_and(|(kind, _)| kind == Kind::Data) {
            let data = Data::decode(packet).unwrap();
            self.last = Some((data.chunk, data.symbol, data.tx_seq));
        }
    }

    /// A packet that nobody sent, or not now.
    pub(crate) fn invent(&self, session: SessionId, symbol: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
        let old = if self.heard.is_empty() {
            Vec::new()
        } else {
            self.heard[rng.random_range(0..self.heard.len())].clone()
        };
        match rng.random_range(0..5) {
            0 => old,
            1 => old[..rng.random_range(0..=old.len())].to_vec(),
            2 => Self::alter(old, rng),
            3 => {
                let mut noise = vec![0; rng.random_range(0..200)];
                rng.fill_bytes(&mut noise);
                noise
            }
            _ => Self::forge(session, symbol, rng),
        }
    }

    /// A symbol that is about to be sent, of a chunk that is being sent, with other bytes.
    pub(crate) fn poison(
        &self,
        session: SessionId,
        symbol: usize,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Option<Vec<u8>> {
        let (chunk, number, tx_seq) = self.last?;
        let payload: Vec<u8> = (0..symbol).map(|_| rng.random()).collect();
        let mut packet = Vec::new();
        Data {
            session,
            symbol: number + 1,
            chunk,
            tx_seq: tx_seq + 1,
            payload: &payload,
        }
        .encode(&mut packet);
        Some(packet)
    }

    fn alter(mut packet: Vec<u8>, rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
        for _ in 0..rng.random_range(1..4) {
            if !packet.is_empty() {
                let at = rng.random_range(0..packet.len());
                packet[at] = rng.random();
            }
        }
        packet
    }

    /// A data packet with numbers that might be taken.
    fn forge(session: SessionId, symbol: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<u8> {
        let payload: Vec<u8> = (0..symbol).map(|_| rng.random()).collect();
        let tx_seq = if rng.random() {
            rng.random_range(1..10_000)
        } else {
            rng.random::<u64>().max(1)
        };
        let mut packet = Vec::new();
        let (chunk, number) = (rng.random_range(0..200), rng.random_range(0..600));
        Data {
            session,
            symbol: number,
            chunk,
            tx_seq,
            payload: &payload,
        }
        .encode(&mut packet);
        packet
    }
}
