//! The network: what happens to a packet on its way to one receiver, or back.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use simulcast_protocol::multicast::Time;

/// One direction of one receiver's link.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) loss: Loss,
    pub(crate) delay: Duration,
    /// Added at random to each packet, so packets overtake each other.
    pub(crate) jitter: Duration,
    /// Chance in a million that a packet comes twice.
    pub(crate) duplicate: u32,
    /// Chance in a million that one bit of a packet is flipped behind the check sum.
    pub(crate) corrupt: u32,
    /// Bits per second, and bytes of the queue before it; what does not fit is lost.
    pub(crate) cap: Option<(u64, u64)>,
    /// While it lasts nothing comes through.
    pub(crate) down: Option<(Duration, Duration)>,
    bad: bool,
    free_at: Time,
}

/// How packets get lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// Each alone, with this chance in a million.
    Independent(u32),
    /// In bursts: chance in a million to enter and to leave the state in which all is lost.
    Bursts { enter: u32, leave: u32 },
}

impl Link {
    /// 100 microseconds and nothing else.
    pub(crate) fn clean() -> Self {
        Self {
            loss: Loss::Independent(0),
            delay: Duration::from_micros(100),
            jitter: Duration::ZERO,
            duplicate: 0,
            corrupt: 0,
            cap: None,
            down: None,
            bad: false,
            free_at: Time::ZERO,
        }
    }

    /// Loses each packet with this chance in a million.
    pub(crate) fn lossy(ppm: u32) -> Self {
        Self {
            loss: Loss::Independent(ppm),
            ..Self::clean()
        }
    }

    /// When the packet arrives: not at all, once or twice.
    pub(crate) fn pass(&mut self, now: Time, bytes: usize, rng: &mut Xoshiro256PlusPlus) -> Vec<Time> {
        if self
            .down
            .is_some_and(|(from, to)| (from..to).contains(&now.since_start()))
            || self.lost(rng)
        {
            return Vec::new();
        }
        let Some(sent) = self.queue(now, bytes) else {
            return Vec::new();
        };
        let copies = 1 + usize::from(chance(self.duplicate, rng));
        (0..copies)
            .map(|_| sent + self.delay + self.jitter * rng.random_range(0..=1000) / 1000)
            .collect()
    }

    /// Flips a bit now and then.
    pub(crate) fn spoil(&self, packet: &mut [u8], rng: &mut Xoshiro256PlusPlus) -> bool {
        let spoils = chance(self.corrupt, rng) && !packet.is_empty();
        if spoils {
            let at = rng.random_range(0..packet.len());
            packet[at] ^= 1 << rng.random_range(0..8);
        }
        spoils
    }

    fn lost(&mut self, rng: &mut Xoshiro256PlusPlus) -> bool {
        match self.loss {
            Loss::Independent(ppm) => chance(ppm, rng),
            Loss::Bursts { enter, leave } => {
                self.bad = if self.bad {
                    !chance(leave, rng)
                } else {
                    chance(enter, rng)
                };
                self.bad
            }
        }
    }

    fn queue(&mut self, now: Time, bytes: usize) -> Option<Time> {
        let Some((rate, queue)) = self.cap else {
            return Some(now);
        };
        let waiting = self.free_at.since(now);
        let queued = waiting.as_nanos() * u128::from(rate) / 8_000_000_000;
        if queued > u128::from(queue) {
            return None;
        }
        let nanos = u64::try_from(bytes).unwrap() * 8_000_000_000 / rate;
        self.free_at = self.free_at.max(now) + Duration::from_nanos(nanos);
        Some(self.free_at)
    }
}

pub(crate) fn chance(ppm: u32, rng: &mut Xoshiro256PlusPlus) -> bool {
    ppm > 0 && rng.random_range(0..1_000_000) < ppm
}
