//! The tracker of one swarm: who takes part, and who is told of whom.
//!
//! It is the scheduler of the swarm too. Machines are introduced to a few others of their own site, a network prefix, so
//! that no machine has more connections than it can use. At a site that is not the seed's only one machine, its relay, is
//! told of the seed: so the version crosses the way between the sites once. Whoever says that nothing comes any more is
//! told of the seed as well.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::seq::IteratorRandom as _;

use crate::limits::{INTRODUCED_PEERS, TRACKED_PEERS};

/// What belongs to one site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrackerBounds {
    /// Bits of the network prefix of a site, of IPv4 addresses.
    pub site_bits: u8,
    /// The same of IPv6 addresses.
    pub site_bits_v6: u8,
}

/// How one machine stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it lacks something.
    pub lacks: bool,
    /// Whether nothing has come to it for some time.
    pub stalled: bool,
    /// Whether it is to bring the version to its site.
    pub relay: bool,
    /// How long it is believed to be there.
    pub lasts: Duration,
}

/// Whom a machine is told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// Others of its site.
    pub peers: Vec<SocketAddr>,
    /// Whether it is to ask the seed.
    pub seed: bool,
    /// How many have everything; the seed is not counted.
    pub complete: u32,
    /// How many lack something.
    pub incomplete: u32,
}

/// Who takes part in a swarm: one entry for an address, which is bounded by [`TRACKED_PEERS`].
#[derive(Debug)]
pub struct Tracker {
    bounds: TrackerBounds,
    entries: BTreeMap<IpAddr, Entry>,
    joined: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    mark: Mark,
    until: Instant,
    /// Rises with every one that joins.
    order: u64,
}

impl Tracker {
    /// Nobody.
    pub fn new(bounds: TrackerBounds) -> Self {
        Self {
            bounds,
            entries: BTreeMap::new(),
            joined: 0,
        }
    }

    /// Notes how a machine stands, which reached the server at the address `seed`, and tells it of others. When the list
    /// is full, a machine that is not on it is not noted, but told of others all the same.
    pub fn announce(&mut self, now: Instant, mark: Mark, seed: IpAddr, rng: &mut impl Rng) -> Introduction {
        self.expire(now);
        let ip = mark.address.ip();
        let until = now + mark.lasts;
        if let Some(entry) = self.entries.get_mut(&ip) {
            (entry.mark, entry.until) = (mark, until);
        } else if self.entries.len() < TRACKED_PEERS {
            self.joined += 1;
            let order = self.joined;
            self.entries.insert(ip, Entry { mark, until, order });
        }
        let site = self.site(ip);
        let others = self.entries.iter().filter(|&(&other, entry)| {
            // Two machines that lack nothing have nothing to say to each other.
            other != ip && self.site(other) == site && (mark.lacks || entry.mark.lacks)
        });
        let peers = others
            .map(|(_, entry)| entry.mark.address)
            .sample(rng, INTRODUCED_PEERS);
        let home = self.site(seed) == site;
        let lacking = self.entries.values().filter(|entry| entry.mark.lacks).count();
        Introduction {
            peers,
            seed: home || mark.stalled || self.relay(site) == Some(ip),
            complete: count(self.entries.len() - lacking),
            incomplete: count(lacking),
        }
    }

    /// Forgets a machine that goes.
    pub fn gone(&mut self, address: IpAddr) {
        self.entries.remove(&address);
    }

    /// Forgets machines that were not heard of for too long.
    pub fn expire(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.until > now);
    }

    /// Whether nobody takes part.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many have everything, and how many do not.
    pub fn counts(&self) -> (u32, u32) {
        let lacking = self.entries.values().filter(|entry| entry.mark.lacks).count();
        (count(self.entries.len() - lacking), count(lacking))
    }

    /// The machine that brings the version to a site: one that is meant to, or the first that came.
    fn relay(&self, site: (bool, u128)) -> Option<IpAddr> {
        let there = self.entries.iter().filter(|&(&ip, _)| self.site(ip) == site);
        let first = there.min_by_key(|(_, entry)| (!entry.mark.relay, entry.order));
        first.map(|(&ip, _)| ip)
    }

    /// The network prefix of an address, and of which family it is.
    fn site(&self, ip: IpAddr) -> (bool, u128) {
        let prefix = |bits: u128, width: u32, kept: u8| {
            let cut = width.saturating_sub(u32::from(kept));
            bits.checked_shr(cut).unwrap_or(0)
        };
        match ip.to_canonical() {
            IpAddr::V4(ip) => (false, prefix(ip.to_bits().into(), 32, self.bounds.site_bits)),
            IpAddr::V6(ip) => (true, prefix(ip.to_bits(), 128, self.bounds.site_bits_v6)),
        }
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const LASTS: Duration = Duration::from_secs(30);

    fn tracker() -> Tracker {
        Tracker::new(TrackerBounds {
            site_bits: 24,
            site_bits_v6: 64,
        })
    }

    fn mark(address: &str) -> Mark {
        Mark {
            address: address.parse().unwrap(),
            lacks: true,
            stalled: false,
            relay: false,
            lasts: LASTS,
        }
    }

    fn told(tracker: &mut Tracker, now: Instant, mark: Mark) -> Introduction {
        let seed = "10.0.0.1".parse().unwrap();
        tracker.announce(now, mark, seed, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn machines_of_one_site_are_told_of_each_other_and_of_the_seed() {
        let (mut tracker, now) = (tracker(), Instant::now());
        let first = told(&mut tracker, now, mark("10.0.0.2:5"));
        assert_eq!((first.peers.len(), first.seed, first.incomplete), (0, true, 1));
        let second = told(&mut tracker, now, mark("10.0.0.3:6"));
        assert_eq!(second.peers, ["10.0.0.2:5".parse().unwrap()]);
        assert!(second.seed);
        // One entry for a machine, whatever it listens on.
        let again = told(&mut tracker, now, mark("10.0.0.2:7"));
        assert_eq!((again.peers.len(), again.incomplete), (1, 2));
        let third = told(&mut tracker, now, mark("10.0.0.3:6"));
        assert_eq!(third.peers, ["10.0.0.2:7".parse().unwrap()]);
    }

    #[test]
    fn of_another_site_one_machine_is_told_of_the_seed() {
        let (mut tracker, now) = (tracker(), Instant::now());
        told(&mut tracker, now, mark("10.0.0.2:5"));
        let first = told(&mut tracker, now, mark("10.9.0.2:5"));
        assert_eq!((first.peers.len(), first.seed), (0, true));
        let second = told(&mut tracker, now, mark("10.9.0.3:5"));
        assert_eq!((second.peers.len(), second.seed), (1, false));
        let stalled = Mark {
            stalled: true,
            ..mark("10.9.0.3:5")
        };
        assert!(told(&mut tracker, now, stalled).seed);
        // One that is meant to be the relay is it from then on.
        let meant = Mark {
            relay: true,
            ..mark("10.9.0.4:5")
        };
        assert!(told(&mut tracker, now, meant).seed);
        assert!(!told(&mut tracker, now, mark("10.9.0.2:5")).seed);
        // It is not heard of any more: the next one takes over.
        tracker.gone("10.9.0.4".parse().unwrap());
        assert!(told(&mut tracker, now, mark("10.9.0.2:5")).seed);
        let later = now + LASTS;
        assert!(told(&mut tracker, later, mark("10.9.0.3:5")).seed);
        assert_eq!(tracker.counts(), (0, 1));
    }

    #[test]
    fn whoever_has_everything_is_told_of_those_who_lack_something_alone() {
        let (mut tracker, now) = (tracker(), Instant::now());
        let whole = |address| Mark {
            lacks: false,
            ..mark(address)
        };
        told(&mut tracker, now, whole("10.0.0.2:5"));
        assert_eq!(told(&mut tracker, now, whole("10.0.0.3:5")).peers, []);
        let lacking = told(&mut tracker, now, mark("10.0.0.4:5"));
        assert_eq!(
            (lacking.peers.len(), lacking.complete, lacking.incomplete),
            (2, 2, 1)
        );
        assert_eq!(told(&mut tracker, now, whole("10.0.0.3:5")).peers.len(), 1);
    }

    #[test]
    fn lists_are_bounded() {
        let (mut tracker, now) = (tracker(), Instant::now());
        for number in 0..30_000_u32 {
            let ip = IpAddr::V4((0x0a00_0000 + number).into());
            let address = SocketAddr::new(ip, 9);
            let mark = Mark {
                address,
                ..mark("10.0.0.1:1")
            };
            // The list is looked through for every answer; a few are enough here.
            if number % 500 == 0 || number > 29_990 {
                let told = told(&mut tracker, now, mark);
                assert!(told.peers.len() <= INTRODUCED_PEERS);
            } else if tracker.entries.len() < TRACKED_PEERS {
                let order = number.into();
                tracker.entries.insert(
                    ip,
                    Entry {
                        mark,
                        until: now + LASTS,
                        order,
                    },
                );
            }
        }
        assert_eq!(tracker.entries.len(), TRACKED_PEERS);
    }
}
