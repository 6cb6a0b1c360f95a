//! How often strangers may say hello: without a token, nothing else slows them down.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use simulcast_protocol::install::NodeName;

/// Hellos in one go: a rack of machines behind one address, or a machine that tries again.
const BURST: u32 = 64;

/// Time after which one more is allowed. A machine that waits to be adopted asks every five seconds.
const INTERVAL: Duration = Duration::from_millis(100);

/// Hellos of one node in one go, and time for one more: a node says hello once each boot.
const NODE_BURST: u32 = 8;
const NODE_INTERVAL: Duration = Duration::from_secs(2);

/// Addresses and nodes that are remembered; those that have been quiet longest are forgotten first, and quiet is what
/// they are allowed to be.
const REMEMBERED: usize = 16_384;

/// Who said hello how often.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    addresses: Mutex<Buckets<IpAddr>>,
    nodes: Mutex<Buckets<NodeName>>,
}

/// For each, the time at which all of its hellos are forgotten.
type Buckets<K> = BTreeMap<K, Instant>;

impl Limiter {
    /// Whether a machine at this address may say hello now.
    pub(super) fn allows_address(&self, address: IpAddr, now: Instant) -> bool {
        // Whoever has an IPv6 network has all its addresses.
        let address = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
            v4 => v4,
        };
        let mut addresses = self.addresses.lock().expect("no holder panics");
        take(&mut addresses, address, now, BURST, INTERVAL)
    }

    /// Whether a token may be made for this node now.
    pub(super) fn allows_node(&self, node: &NodeName, now: Instant) -> bool {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        take(&mut nodes, node.clone(), now, NODE_BURST, NODE_INTERVAL)
    }
}

fn take<K: Ord>(buckets: &mut Buckets<K>, key: K, now: Instant, burst: u32, interval: Duration) -> bool {
    if buckets.len() >= REMEMBERED {
        buckets.retain(|_, empty| *empty > now);
    }
    if buckets.len() >= REMEMBERED && !buckets.contains_key(&key) {
        return false;
    }
    let empty = buckets.entry(key).or_insert(now);
    let next = (*empty).max(now) + interval;
    let allowed = next.saturating_duration_since(now) <= interval * burst;
    if allowed {
        *empty = next;
    }
    allowed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_then_one_at_a_time() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let address = "10.0.0.1".parse().unwrap();
        let allowed = (0..1000).filter(|_| limiter.allows_address(address, now)).count();
        assert_eq!(allowed, BURST as usize);
        assert!(
            limiter.allows_address("10.0.0.2".parse().unwrap(), now),
            "others are not held up"
        );
        assert!(limiter.allows_address(address, now + INTERVAL));
        assert!(!limiter.allows_address(address, now + INTERVAL));
        let later = now + INTERVAL * BURST * 2;
        let allowed = (0..1000)
            .filter(|_| limiter.allows_address(address, later))
            .count();
        assert_eq!(allowed, BURST as usize);
    }

    #[test]
    fn nobody_gets_more_with_more_addresses_of_a_network_nor_makes_us_remember_without_end() {
        let (limiter, now) = (Limiter::default(), Instant::now());
        let allowed = (0..1000u32)
            .filter(|number| limiter.allows_address(format!("fd00::{number:x}").parse().unwrap(), now))
            .count();
        assert_eq!(allowed, BURST as usize);
        for number in 0..20_000u32 {
            limiter.allows_address(std::net::Ipv4Addr::from(0x0a00_0000 + number).into(), now);
        }
        assert_eq!(limiter.addresses.lock().unwrap().len(), REMEMBERED);
        assert!(limiter.allows_address("10.9.9.9".parse().unwrap(), now + INTERVAL * 2));
        let node = "n1".parse().unwrap();
        assert_eq!(
            (0..100).filter(|_| limiter.allows_node(&node, now)).count(),
            NODE_BURST as usize
        );
    }
}
