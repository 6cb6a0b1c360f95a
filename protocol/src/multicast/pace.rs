//! Pacing: when the next batch may go, so that the set rate is never passed (protocol.md 9.1).

use std::time::Duration;

use super::limits::PACING_BURST;
use super::time::Time;
use crate::units::Rate;

/// A token bucket, told as the moment from which on it is not in debt. Over any time `t` it lets through at most
/// `rate x (t + PACING_BURST)` and one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pacer {
    ready_at: Time,
    wasted: Duration,
    resting: bool,
}

impl Pacer {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            ready_at: now,
            wasted: Duration::ZERO,
            resting: true,
        }
    }

    /// From when on the next batch may go.
    pub(crate) fn ready_at(&self) -> Time {
        self.ready_at
    }

    /// Counts `bytes` that go now at `rate`.
    pub(crate) fn spend(&mut self, now: Time, bytes: u64, rate: Rate) {
        let credit = Time::from_start(now.since_start().saturating_sub(PACING_BURST));
        if !std::mem::take(&mut self.resting) {
            self.wasted += credit.since(self.ready_at);
        }
        // One nanosecond more: the time for a batch is rounded down.
        self.ready_at = self.ready_at.max(credit) + rate.time_for(bytes) + Duration::from_nanos(1);
    }

    /// There is nothing to send: until the next batch time passes, and is not wasted.
    pub(crate) fn rest(&mut self) {
        self.resting = true;
    }

    /// Time in which packets might have gone, and the driver came too late for it: it, or the link, cannot do more.
    pub(crate) fn wasted(&self) -> Duration {
        self.wasted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_driver_catches_up_but_never_passes_the_rate() {
        let rate = Rate::from_bits_per_second(8_000_000); // 1,000 bytes a millisecond
        let mut pacer = Pacer::new(Time::ZERO);
        let (mut now, mut sent) = (Time::ZERO, 0u64);
        for step in 0u32..10_000 {
            now = now + Duration::from_micros(u64::from(step * 37 % 1_900));
            while pacer.ready_at() <= now {
                pacer.spend(now, 500, rate);
                sent += 500;
            }
            let micros = u64::try_from((now.since_start() + PACING_BURST).as_micros()).unwrap();
            assert!(sent <= micros + 500, "{sent} bytes after {now:?}");
        }
        let micros = u64::try_from(now.since_start().as_micros()).unwrap();
        assert!(sent + 2_500 >= micros, "the rate is used: {sent} of {micros}");
        assert_eq!(pacer.wasted(), Duration::ZERO);
    }

    #[test]
    fn time_is_wasted_by_a_late_driver_but_not_by_rest() {
        let rate = Rate::from_bits_per_second(8_000_000);
        let at = |ms| Time::from_start(Duration::from_millis(ms));
        let mut pacer = Pacer::new(Time::ZERO);
        pacer.spend(at(0), 1_000, rate);
        pacer.rest();
        pacer.spend(at(50), 1_000, rate);
        assert_eq!(pacer.wasted(), Duration::ZERO);
        pacer.spend(at(61), 1_000, rate);
        let wasted = pacer.wasted();
        assert!(
            wasted < Duration::from_micros(10_100) && wasted > Duration::from_micros(9_900),
            "{wasted:?}"
        );
    }
}
