//! The rate of a session: cut when receivers say that they cannot follow, raised again when they can (protocol.md 9.2).
//!
//! Network loss does not count here: parity pays for it. Finding the rate of a network by itself is for another
//! implementation of this type's three methods.

use std::time::Duration;

use super::time::Time;
use crate::units::Rate;

/// What one report says about keeping up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How full the receiver's fullest queue is, in 255ths.
    pub fill: u8,
    /// Packets that its socket dropped since its last report.
    pub drops: u64,
}

/// Finds the rate between two bounds.
#[derive(Debug, Clone)]
pub struct RateControl {
    min: u64,
    max: u64,
    current: u64,
    /// The rate at which receivers last could not follow.
    ceiling: u64,
    /// Last cut, or last step upwards after it.
    changed_at: Time,
    cut_at: Option<Time>,
}

/// A receiver whose queues are as full as this (30 %) says so at once, and slows the sender.
pub const FILL_HIGH: u8 = 77;
/// With queues as full as this (70 %) it is about to lose what comes.
const FILL_FULL: u8 = 179;

/// Rate at which a session begins whose maximum is higher: what machines of today can take.
const START: u64 = 1_000_000_000;

/// Time in which one cut shows its effect: reports that come earlier speak of the old rate.
const CUT_GAP: Duration = Duration::from_millis(20);
/// Time without complaint after which the rate rises again, and the time between two steps upwards.
const HOLD: Duration = Duration::from_millis(100);
const STEP: Duration = Duration::from_millis(10);

impl RateControl {
    /// Begins at `max`, or at 1 Gbit/s when that is more; never goes above `max`, nor below `min`.
    pub fn new(now: Time, min: Rate, max: Rate) -> Self {
        let max = max.bits_per_second();
        let min = min.bits_per_second().min(max);
        Self {
            min,
            max,
            current: max.min(START),
            ceiling: max,
            changed_at: now,
            cut_at: None,
        }
    }

    /// The rate now.
    pub fn rate(&self) -> Rate {
        Rate::from_bits_per_second(self.current)
    }

    /// Takes what a receiver says.
    pub fn on_report(&mut self, now: Time, sample: Sample) {
        let keep = match sample.fill {
            FILL_FULL.. => 50,
            _ if sample.drops > 0 => 75,
            FILL_HIGH.. => 88,
            _ => return,
        };
        if self.cut_at.is_some_and(|cut| now.since(cut) < CUT_GAP) {
            return;
        }
        self.ceiling = self.current;
        self.current = (self.current / 100 * keep).max(self.min);
        self.changed_at = now;
        self.cut_at = Some(now);
    }

    /// Takes that time passed: 3 % faster every 10 ms up to nine tenths of what was too much, then 0.3 %.
    pub fn on_time(&mut self, now: Time) {
        if self.current == self.max || self.cut_at.is_some_and(|cut| now.since(cut) < HOLD) {
            self.changed_at = now;
            return;
        }
        while now.since(self.changed_at) >= STEP && self.current < self.max {
            self.changed_at = self.changed_at + STEP;
            let permille = if self.current < self.ceiling / 10 * 9 {
                30
            } else {
                3
            };
            self.current = (self.current + self.current / 1000 * permille + 1).min(self.max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(bits: u64) -> Rate {
        Rate::from_bits_per_second(bits)
    }

    #[test]
    fn drops_and_full_queues_cut_once_per_gap() {
        let mut control = RateControl::new(Time::ZERO, rate(1_000), rate(1_000_000));
        let at = |ms| Time::from_start(Duration::from_millis(ms));
        control.on_report(at(0), Sample { fill: 76, drops: 0 });
        assert_eq!(control.rate(), rate(1_000_000));
        control.on_report(at(1), Sample { fill: 77, drops: 0 });
        control.on_report(at(2), Sample { fill: 255, drops: 9 });
        assert_eq!(control.rate(), rate(880_000));
        control.on_report(at(21), Sample { fill: 0, drops: 1 });
        assert_eq!(control.rate(), rate(660_000));
    }

    #[test]
    fn the_rate_stays_between_its_bounds_and_recovers() {
        let mut control = RateControl::new(Time::ZERO, rate(100_000), rate(1_000_000));
        let at = |ms| Time::from_start(Duration::from_millis(ms));
        (0..100).for_each(|n| control.on_report(at(n * 20), Sample { fill: 255, drops: 1 }));
        assert_eq!(control.rate(), rate(100_000));
        let mut last = control.rate();
        for ms in 1_980..20_000 {
            control.on_time(at(ms));
            assert!(control.rate() >= last && control.rate() <= rate(1_000_000));
            assert!(
                ms >= 2_080 || control.rate() == rate(100_000),
                "holds before it rises"
            );
            last = control.rate();
        }
        assert_eq!(last, rate(1_000_000));
    }
}
