//! The network: what happens to packets on one link. Links make a tree: the sender, switches, receivers.

use std::rc::Rc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use simulcast_protocol::multicast::Time;
use simulcast_protocol::multicast::limits::WIRE_OVERHEAD_BYTES;

/// Packets that travel together: some of one transmission, whose bytes all receivers share.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    bytes: Rc<[u8]>,
    segment: usize,
    /// Which packets of the transmission these are; it has 64 at most.
    mask: u64,
}

/// One direction of a link.
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
    pub(crate) cap: Option<Cap>,
    /// While these last nothing comes through.
    pub(crate) down: Vec<(Duration, Duration)>,
    bad: bool,
    last: Time,
    /// Packets until the next that is lost, where losses are independent.
    gap: Option<u64>,
    free_at: Time,
}

/// What a port carries: what finds no place in the queue before it is lost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cap {
    /// Bits per second, counted on the wire.
    pub(crate) bits: u64,
    /// Bytes of the queue.
    pub(crate) queue: u64,
    /// Bytes that others have in it at most, at random: without them a queue may lose the same packets each time.
    pub(crate) others: u64,
}

impl Cap {
    /// Carries so much, and shares a queue of so many bytes with others who take up to a quarter of it.
    pub(crate) fn shared(bits: u64, queue: u64) -> Option<Self> {
        Some(Self {
            bits,
            queue,
            others: queue / 4,
        })
    }
}

/// How packets get lost.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Loss {
    /// Each alone, with this chance in a million.
    Independent(u32),
    /// In bursts: chance in a million to enter and to leave the state in which all is lost. A quiet [`BURST`] ends it.
    Bursts { enter: u32, leave: u32 },
}

/// Time without packets after which a burst of losses is over.
const BURST: Duration = Duration::from_millis(20);

/// A switch and the link from the one above it; the first of a scenario is the sender's own.
#[derive(Debug, Clone)]
pub(crate) struct Switch {
    pub(crate) above: Option<usize>,
    pub(crate) down: Link,
    pub(crate) up: Link,
}

impl Flight {
    /// All packets of a transmission: `segment` bytes each, the last maybe shorter.
    pub(crate) fn new(bytes: &[u8], segment: usize) -> Self {
        let count = bytes.len().div_ceil(segment.max(1));
        assert!((1..=64).contains(&count), "a transmission has 1 to 64 packets");
        Self {
            bytes: Rc::from(bytes),
            segment,
            mask: u64::MAX >> (64 - count),
        }
    }

    /// One packet.
    pub(crate) fn single(packet: &[u8]) -> Self {
        Self::new(packet, packet.len().max(1))
    }

    /// The packets, in the order of the transmission.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &[u8]> {
        let (bytes, segment) = (&self.bytes, self.segment);
        bits(self.mask).map(move |at| {
            let start = (at * segment).min(bytes.len());
            &bytes[start..(start + segment).min(bytes.len())]
        })
    }

    /// How many packets there are.
    pub(crate) fn count(&self) -> u64 {
        u64::from(self.mask.count_ones())
    }

    /// Bytes of all packets on the wire.
    pub(crate) fn wire(&self) -> u64 {
        let payload: usize = self.packets().map(<[u8]>::len).sum();
        u64::try_from(payload).unwrap() + self.count() * WIRE_OVERHEAD_BYTES
    }

    fn with(&self, mask: u64) -> Self {
        Self {
            bytes: Rc::clone(&self.bytes),
            segment: self.segment,
            mask,
        }
    }
}

impl Link {
    /// Carries all at once.
    pub(crate) fn clean() -> Self {
        Self {
            loss: Loss::Independent(0),
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            duplicate: 0,
            corrupt: 0,
            cap: None,
            down: Vec::new(),
            bad: false,
            last: Time::ZERO,
            gap: None,
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

    /// Whether nothing comes through now.
    pub(crate) fn is_down(&self, now: Time) -> bool {
        let now = now.since_start();
        self.down.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    /// What of the flight arrives at the other end, and when: added to `out`.
    pub(crate) fn pass(
        &mut self,
        now: Time,
        flight: &Flight,
        rng: &mut Xoshiro256PlusPlus,
        out: &mut Vec<(Time, Flight)>,
    ) {
        if self.is_down(now) {
            return;
        }
        let mask = self.survivors(now, flight.mask, rng);
        if mask == 0 {
            return;
        }
        let plain = self.cap.is_none() && self.jitter.is_zero() && self.duplicate == 0 && self.corrupt == 0;
        if plain {
            return out.push((now + self.delay, flight.with(mask)));
        }
        for at in bits(mask) {
            let one = flight.with(1 << at);
            let Some(sent) = self.queue(now, one.wire(), rng) else {
                continue;
            };
            for _ in 0..1 + usize::from(chance(self.duplicate, rng)) {
                let wait = self.delay + self.jitter * rng.random_range(0..=1000) / 1000;
                let packet = self.spoil(&one, rng).unwrap_or_else(|| one.clone());
                join(out, sent + wait, packet);
            }
        }
    }

    fn survivors(&mut self, now: Time, mask: u64, rng: &mut Xoshiro256PlusPlus) -> u64 {
        let mut left = mask;
        match self.loss {
            Loss::Independent(0) => {}
            Loss::Independent(ppm) => {
                let mut gap = self.gap.unwrap_or_else(|| draw_gap(ppm, rng));
                for at in bits(mask) {
                    if gap == 0 {
                        left &= !(1 << at);
                        gap = draw_gap(ppm, rng);
                    } else {
                        gap -= 1;
                    }
                }
                self.gap = Some(gap);
            }
            Loss::Bursts { enter, leave } => {
                self.bad &= now.since(self.last) < BURST;
                self.last = now;
                for at in bits(mask) {
                    self.bad = if self.bad {
                        !chance(leave, rng)
                    } else {
                        chance(enter, rng)
                    };
                    left &= !(u64::from(self.bad) << at);
                }
            }
        }
        left
    }

    fn queue(&mut self, now: Time, bytes: u64, rng: &mut Xoshiro256PlusPlus) -> Option<Time> {
        let Some(Cap { bits, queue, others }) = self.cap else {
            return Some(now);
        };
        let waiting = self.free_at.since(now);
        let queued = waiting.as_nanos() * u128::from(bits) / 8_000_000_000;
        let others = if others > 0 {
            rng.random_range(0..others)
        } else {
            0
        };
        if queued + u128::from(bytes + others) > u128::from(queue) {
            return None;
        }
        self.free_at = self.free_at.max(now) + Duration::from_nanos(bytes * 8_000_000_000 / bits);
        Some(self.free_at)
    }

    /// The packet with one bit flipped, now and then.
    fn spoil(&self, one: &Flight, rng: &mut Xoshiro256PlusPlus) -> Option<Flight> {
        if !chance(self.corrupt, rng) {
            return None;
        }
        let mut packet = one.packets().next()?.to_vec();
        let at = rng.random_range(0..packet.len());
        packet[at] ^= 1 << rng.random_range(0..8);
        Some(Flight::single(&packet))
    }
}

impl Switch {
    /// Below another one, over links that do nothing.
    pub(crate) fn below(above: usize) -> Self {
        Self {
            above: Some(above),
            down: Link::clean(),
            up: Link::clean(),
        }
    }

    /// The sender's own: 100 microseconds each way.
    pub(crate) fn root() -> Self {
        let link = Link {
            delay: Duration::from_micros(100),
            ..Link::clean()
        };
        Self {
            above: None,
            down: link.clone(),
            up: link,
        }
    }
}

/// Adds a packet to those that arrive at the same moment, as long as they stay in order.
fn join(out: &mut Vec<(Time, Flight)>, time: Time, packet: Flight) {
    match out.last_mut() {
        Some((at, last))
            if *at == time && Rc::ptr_eq(&last.bytes, &packet.bytes) && last.mask < packet.mask =>
        {
            last.mask |= packet.mask;
        }
        _ => out.push((time, packet)),
    }
}

fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = usize::try_from(mask.trailing_zeros())
            .ok()
            .filter(|_| mask != 0)?;
        mask &= mask - 1;
        Some(at)
    })
}

/// Packets that come through before the next one is lost: drawn once for each loss, not for each packet.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the quotient is not negative, and a gap beyond 2^64 packets is never reached"
)]
fn draw_gap(ppm: u32, rng: &mut Xoshiro256PlusPlus) -> u64 {
    let lost = f64::from(ppm.min(999_999)) / 1e6;
    let uniform = 1.0 - rng.random::<f64>();
    (uniform.ln() / (1.0 - lost).ln()) as u64
}

/// Whether something happens that happens with this chance in a million.
pub(crate) fn chance(ppm: u32, rng: &mut Xoshiro256PlusPlus) -> bool {
    ppm > 0 && rng.random_range(0..1_000_000) < ppm
}
