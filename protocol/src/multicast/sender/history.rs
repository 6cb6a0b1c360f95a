//! When which packet was sent: what a receiver says of a range of packets can be told as a rate, however late it says it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::multicast::time::Time;

/// Time between two notes.
const EVERY: Duration = Duration::from_millis(5);
/// What counts as lately.
const LATELY: Duration = Duration::from_millis(500);
/// Notes that are kept: those of the last five seconds while packets are sent.
const NOTES: usize = 1_000;

/// Notes of packet numbers and times, both rising.
#[derive(Debug, Default)]
pub(super) struct History {
    notes: VecDeque<(u64, Time)>,
}

impl History {
    /// Packets up to `tx_seq` were sent by `now`.
    pub(super) fn note(&mut self, now: Time, tx_seq: u64) {
        if self.notes.back().is_some_and(|&(_, at)| now.since(at) < EVERY) {
            return;
        }
        if self.notes.len() == NOTES {
            self.notes.pop_front();
        }
        self.notes.push_back((tx_seq, now));
    }

    /// Bits per second at which the packets after `from` up to `to` were sent, each of `wire` bytes on the wire. `None`
    /// when they were sent too long ago, or within less time than is noted.
    pub(super) fn rate(&self, from: u64, to: u64, wire: u64) -> Option<u64> {
        let span = self.time(to)?.since(self.time(from)?);
        if span < EVERY {
            return None;
        }
        let bits = u128::from(to.saturating_sub(from)) * u128::from(wire) * 8;
        u64::try_from(bits * 1_000_000 / span.as_micros().max(1)).ok()
    }

    /// Bits per second over the last half second, as [`rate`](Self::rate) counts; `None` when nothing was noted so long ago.
    pub(super) fn lately(&self, now: Time, wire: u64) -> Option<u64> {
        let &(last, _) = self.notes.back()?;
        let old = self.notes.iter().rev().find(|(_, at)| now.since(*at) >= LATELY)?;
        let span = now.since(old.1).as_micros().max(1);
        let bits = u128::from(last - old.0) * u128::from(wire) * 8;
        u64::try_from(bits * 1_000_000 / span).ok()
    }

    /// When packet `seq` was sent, by its neighbours among the notes.
    pub(super) fn time(&self, seq: u64) -> Option<Time> {
        let after = self.notes.partition_point(|&(noted, _)| noted < seq);
        let &(high, late) = self.notes.get(after).or(self.notes.back())?;
        if high <= seq {
            return Some(late);
        }
        let &(low, early) = self.notes.get(after.checked_sub(1)?)?;
        let gap = late.since(early).as_nanos() * u128::from(seq - low) / u128::from(high - low);
        Some(early + Duration::from_nanos(u64::try_from(gap).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_range_is_that_at_which_it_was_sent() {
        let at = |ms| Time::from_start(Duration::from_millis(ms));
        let mut history = History::default();
        for ms in 0..1_000u64 {
            history.note(
                at(ms),
                if ms < 500 {
                    ms * 10
                } else {
                    5_000 + (ms - 500) * 40
                },
            );
        }
        assert_eq!(history.rate(1_000, 3_000, 1_000), Some(80_000_000));
        assert_eq!(history.rate(9_000, 11_000, 1_000), Some(320_000_000));
        assert_eq!(history.rate(7_000, 7_010, 1_000), None, "too short");
        assert_eq!(
            history.lately(at(1_000), 1_000).map(|rate| rate / 10_000_000),
            Some(31)
        );
        for ms in 1_000..7_000u64 {
            history.note(at(ms), 25_000 + (ms - 1_000));
        }
        assert_eq!(history.rate(1_000, 3_000, 1_000), None, "forgotten");
    }
}
