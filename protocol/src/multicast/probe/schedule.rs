//! Which packets each round of a probe has.

use std::time::Duration;

/// Time between two rounds.
pub const ROUND: Duration = Duration::from_millis(50);

/// Rounds in a second.
pub const ROUNDS_PER_SECOND: u32 = 20;

/// Packets of each size in one round, one after the other with a pause before each.
pub const EACH: u8 = 2;

/// Packets of a burst, sent without a pause: 96 kB at an MTU of 1500, a quarter of what the shared buffer of a small switch
/// holds, and what a session's sender may send at once at 1 Gbit/s.
pub const BURST_PACKETS: u8 = 64;

/// The train that is a burst; others are the index of a size.
pub const BURST: u8 = u8::MAX;

/// Sizes of one probe at most: with [`EACH`] of them a round's packets fit a bitmap of 16 bits.
pub const SIZES: usize = 6;

/// Longest time that one machine may take part: a membership that nobody asks for ends after 260 s (RFC 2236, 8.4), and
/// twice that and more is asked for by nobody.
pub const SECONDS: u32 = 1800;

/// Rounds from one burst to the next.
const BURST_EVERY: u32 = 10;

/// Bytes of the IP packets that everybody wants to know about: tiny, the least that IPv6 demands, what tunnels leave,
/// Ethernet's.
const USUAL: [u16; 4] = [128, 1280, 1400, 1500];

/// The largest IP packet that is tried: jumbo frames.
const JUMBO: u16 = 9000;

/// Machines that get packets by unicast in every round. With more, each gets them in some of the rounds only.
const FULL: usize = 16;

/// Sizes of a probe: bytes of IP packets, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    sizes: Vec<u16>,
    headers: u16,
}

/// The rounds that one machine counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The first.
    pub first: u32,
    /// How many: whole seconds.
    pub rounds: u32,
    /// It gets packets by unicast in one of so many rounds: a divisor of [`ROUNDS_PER_SECOND`]; 0 for never.
    pub unicast_every: u32,
}

impl Schedule {
    /// What is tried over an interface with this MTU.
    pub fn for_mtu(mtu: u32, ipv6: bool) -> Self {
        let most = u16::try_from(mtu).unwrap_or(JUMBO).min(JUMBO);
        let mut sizes: Vec<u16> = USUAL.into_iter().filter(|&size| size < most).collect();
        // An interface that takes less than the least packet takes nothing.
        sizes.push(most.max(USUAL[0]));
        Self {
            sizes,
            headers: headers(ipv6),
        }
    }

    /// Takes sizes that a peer names: one to [`SIZES`], ascending, from 128 to 9,000 bytes.
    pub fn of(sizes: &[u16], ipv6: bool) -> Option<Self> {
        let ascend = sizes.windows(2).all(|pair| pair[0] < pair[1]);
        let bounded = sizes.iter().all(|size| (USUAL[0]..=JUMBO).contains(size));
        (ascend && bounded && (1..=SIZES).contains(&sizes.len())).then(|| Self {
            sizes: sizes.to_vec(),
            headers: headers(ipv6),
        })
    }

    /// Bytes of the IP packets of each size.
    pub fn sizes(&self) -> &[u16] {
        &self.sizes
    }

    /// Bytes of the IP packets of a burst: the largest of an ordinary Ethernet.
    pub fn burst_size(&self) -> u16 {
        let ordinary = self.sizes.iter().rev().find(|&&size| size <= 1500);
        *ordinary.unwrap_or(&self.sizes[0])
    }

    /// Bytes of the UDP payload of a train's packets; `None` when there is no such train.
    pub fn payload(&self, train: u8) -> Option<usize> {
        let size = match train {
            BURST => self.burst_size(),
            _ => *self.sizes.get(usize::from(train))?,
        };
        Some(usize::from(size - self.headers))
    }

    /// Packets of one round that are sent one by one, as trains and numbers.
    pub fn paced(&self) -> impl Iterator<Item = (u8, u8)> {
        let trains = u8::try_from(self.sizes.len()).expect("at most SIZES");
        (0..EACH).flat_map(move |index| (0..trains).map(move |train| (train, index)))
    }

    /// How many those are.
    pub fn paced_count(&self) -> u32 {
        u32::from(EACH) * u32::try_from(self.sizes.len()).expect("at most SIZES")
    }
}

impl Window {
    /// How often one of so many machines gets packets by unicast, so that all together take no more than 16 in every round would.
    pub fn unicast_for(machines: usize) -> u32 {
        let divisors = [1, 2, 4, 5, 10, 20];
        let found = divisors
            .into_iter()
            .find(|&every| machines <= FULL * usize::try_from(every).unwrap_or(1));
        found.unwrap_or(0)
    }

    /// The first round after it.
    pub fn end(&self) -> u32 {
        self.first.saturating_add(self.rounds)
    }

    /// Whether the round is one of it.
    pub fn has(&self, round: u32) -> bool {
        (self.first..self.end()).contains(&round)
    }

    /// Whether a round has a burst to the group.
    pub fn multicast_burst(round: u32) -> bool {
        round.is_multiple_of(BURST_EVERY)
    }

    /// Whether a round has packets by unicast.
    pub fn unicast(&self, round: u32) -> bool {
        self.has(round) && self.unicast_every > 0 && (round - self.first).is_multiple_of(self.unicast_every)
    }

    /// Whether a round has a burst by unicast. It is not in the rounds in which the group has one.
    pub fn unicast_burst(&self, round: u32) -> bool {
        let turn = || (round - self.first) / self.unicast_every;
        self.unicast(round) && !Self::multicast_burst(round) && turn() % BURST_EVERY == BURST_EVERY / 2
    }
}

fn headers(ipv6: bool) -> u16 {
    8 + if ipv6 { 40 } else { 20 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_that_the_interface_takes() {
        let sizes = |mtu| Schedule::for_mtu(mtu, false).sizes().to_vec();
        assert_eq!(sizes(1500), [128, 1280, 1400, 1500]);
        assert_eq!(sizes(1450), [128, 1280, 1400, 1450]);
        assert_eq!(sizes(9000), [128, 1280, 1400, 1500, 9000]);
        assert_eq!(sizes(65_536), [128, 1280, 1400, 1500, 9000]);
        assert_eq!(sizes(100), [128]);
        let jumbo = Schedule::for_mtu(9000, true);
        assert_eq!(
            (jumbo.payload(4), jumbo.payload(BURST), jumbo.payload(5)),
            (Some(8952), Some(1452), None)
        );
        assert_eq!(jumbo.paced().count(), 10);
        assert_eq!(Schedule::of(jumbo.sizes(), true), Some(jumbo));
        for wrong in [
            &[][..],
            &[100],
            &[1500, 1500],
            &[9001],
            &[200, 201, 202, 203, 204, 205, 206],
        ] {
            assert_eq!(Schedule::of(wrong, false), None, "{wrong:?}");
        }
    }

    #[test]
    fn many_machines_share_what_is_sent_by_unicast() {
        let every = [1, 16, 17, 64, 320, 321].map(Window::unicast_for);
        assert_eq!(every, [1, 1, 2, 4, 20, 0]);
        let window = |unicast_every| Window {
            first: 7,
            rounds: 200,
            unicast_every,
        };
        let count = |every| {
            let window = window(every);
            let rounds = (0..300).filter(|&round| window.unicast(round)).count();
            let bursts = (0..300).filter(|&round| window.unicast_burst(round)).count();
            (rounds, bursts)
        };
        assert_eq!((count(1), count(4), count(0)), ((200, 20), (50, 5), (0, 0)));
    }
}
