//! Whom to call: addresses that the tracker named, a few at a time, and not those that did not answer or misbehaved.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use simulcast_protocol::bittorrent::DropReason;
use simulcast_protocol::limits::BANNED_PEERS;

/// An address that was called is not called again for so long.
const AGAIN: Duration = Duration::from_secs(5);

/// A peer that sent nothing is left alone for so long: it may have been busy.
const BUSY: Duration = Duration::from_secs(30);

/// A peer that sent wrong bytes is left alone for so long: longer than an install takes.
const BAD: Duration = Duration::from_secs(3600);

/// Addresses that were called, and those that misbehaved.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    called: BTreeMap<SocketAddr, Instant>,
    banned: BTreeMap<IpAddr, Instant>,
}

impl Dialled {
    /// Whether an address may be called now; then it is noted.
    pub(super) fn may_call(&mut self, now: Instant, address: SocketAddr) -> bool {
        self.called
            .retain(|_, at| now.saturating_duration_since(*at) < AGAIN);
        let full = self.called.len() >= BANNED_PEERS;
        if full || self.called.contains_key(&address) || self.is_banned(now, address.ip()) {
            return false;
        }
        self.called.insert(address, now);
        true
    }

    /// Whether an address is not spoken to at present.
    pub(super) fn is_banned(&mut self, now: Instant, ip: IpAddr) -> bool {
        self.banned.retain(|_, until| *until > now);
        self.banned.contains_key(&ip)
    }

    /// Notes that a peer misbehaved.
    pub(super) fn ban(&mut self, now: Instant, ip: IpAddr, reason: DropReason) {
        let time = match reason {
            DropReason::Silent(_) => BUSY,
            _ => BAD,
        };
        if self.banned.len() < BANNED_PEERS {
            self.banned.insert(ip, now + time);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_twice_in_a_row_and_bad_ones_never() {
        let (mut dialled, now) = (Dialled::default(), Instant::now());
        let address: SocketAddr = "10.0.0.1:5".parse().unwrap();
        assert!(dialled.may_call(now, address));
        assert!(!dialled.may_call(now, address));
        assert!(dialled.may_call(now + AGAIN, address));
        dialled.ban(now, address.ip(), DropReason::WrongBytes(1));
        assert!(!dialled.may_call(now + AGAIN * 3, address));
        assert!(dialled.may_call(now + BAD, address));
        dialled.ban(now, address.ip(), DropReason::Silent(AGAIN));
        assert!(!dialled.is_banned(now + BUSY, address.ip()));
    }
}
