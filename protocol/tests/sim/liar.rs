//! Receivers with valid keys that lie: what they ask for and claim costs the others as little as may be.

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use simulcast_protocol::multicast::packet::{Bitmap, Report, WHOLE, Want};
use simulcast_protocol::multicast::{ReceiverId, SessionId};

/// What a liar says, a thousand times a second, always with the highest packet number that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// It lacks 192 symbols of every chunk.
    Deficits,
    /// Its queues are full.
    Full,
    /// Its socket drops packets.
    Drops,
    /// It lacks everything.
    Everything,
    /// It lacks nothing, then everything, by turns.
    Flapping,
    /// One of these at random.
    Mixture,
}

/// What a mixture is made of.
const LIES: [Lie; 5] = [
    Lie::Deficits,
    Lie::Full,
    Lie::Drops,
    Lie::Everything,
    Lie::Flapping,
];

/// One lying receiver.
#[derive(Debug)]
pub(crate) struct Liar {
    lie: Lie,
    seq: u64,
}

impl Liar {
    pub(crate) fn new(lie: Lie) -> Self {
        Self { lie, seq: 0 }
    }

    /// What it says next, of a version of `count` chunks.
    pub(crate) fn report(
        &mut self,
        session: SessionId,
        receiver: ReceiverId,
        count: u32,
        rng: &mut Xoshiro256PlusPlus,
    ) -> Report {
        self.seq += 1;
        let truth = Report {
            poisoned: false,
            join: self.seq == 1,
            session,
            seq: self.seq,
            receiver,
            tx_seq: u64::MAX,
            received: 0,
            drops: 0,
            missing: count,
            fill: 0,
            wants: Vec::new(),
            bitmap: Bitmap::NONE,
        };
        let all = |deficit| {
            vec![Want {
                first: 0,
                count,
                deficit,
            }]
        };
        let lie = match self.lie {
            Lie::Mixture => LIES[rng.random_range(0..LIES.len())],
            lie => lie,
        };
        match lie {
            Lie::Deficits => Report {
                wants: all(192),
                ..truth
            },
            Lie::Full => Report { fill: 255, ..truth },
            Lie::Drops => Report {
                drops: self.seq,
                ..truth
            },
            Lie::Everything => Report {
                wants: all(WHOLE),
                ..truth
            },
            Lie::Flapping | Lie::Mixture if self.seq.is_multiple_of(2) => Report { missing: 0, ..truth },
            Lie::Flapping | Lie::Mixture => Report {
                wants: all(WHOLE),
                ..truth
            },
        }
    }
}
