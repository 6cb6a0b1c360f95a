//! A receiver that hears the sender and gets none of its data: packets that are longer than the usual ones do not pass
//! every switch, and none of them says so.

use std::time::Duration;

use simulcast_protocol::multicast::Time;

/// Data packets that must have been sent before a receiver that got none of them is deaf.
const DEAF_PACKETS: u64 = 100;

/// Looks whether data packets pass, until the first does.
#[derive(Debug)]
pub(super) struct Deaf {
    limit: Duration,
    /// Data packets that came before this session.
    packets: u64,
    /// When the sender was first heard, and what it had sent by then.
    since: Option<(Time, u64)>,
}

impl Deaf {
    /// So long may none come, after the `packets` that came in earlier sessions.
    pub(super) fn new(limit: Duration, packets: u64) -> Self {
        Self {
            limit,
            packets,
            since: None,
        }
    }

    /// Whether it is deaf, once that is known: `packets` came so far, and the sender says that it sent `announced`.
    pub(super) fn look(&mut self, now: Time, packets: u64, announced: Option<u64>) -> Option<bool> {
        if packets > self.packets {
            return Some(false);
        }
        let sent = announced?;
        let (at, before) = *self.since.get_or_insert((now, sent));
        let much = now.since(at) >= self.limit && sent.saturating_sub(before) >= DEAF_PACKETS;
        much.then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_while_much_is_sent_is_deafness() {
        let at = |ms| Time::from_start(Duration::from_millis(ms));
        let mut deaf = Deaf::new(Duration::from_secs(1), 7);
        assert_eq!(deaf.look(at(5_000), 7, None), None, "the sender is not heard");
        assert_eq!(deaf.look(at(5_010), 7, Some(900)), None);
        assert_eq!(deaf.look(at(6_020), 7, Some(999)), None, "it sends little");
        assert_eq!(deaf.look(at(6_000), 7, Some(2_000)), None, "it is too early");
        assert_eq!(deaf.look(at(6_010), 7, Some(1_000)), Some(true));
        assert_eq!(deaf.look(at(6_010), 8, Some(1_000)), Some(false), "one came");
    }
}
