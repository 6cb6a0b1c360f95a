//! The rate of a session: found between two bounds (protocol.md 9.2).
//!
//! It begins low and grows fast until somebody who counts cannot follow, or the driver cannot send more. From then on
//! it stays just below what was too much, and tries from time to time whether more goes by now. Who counts, and what
//! each can follow, is decided elsewhere.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Time;
use crate::units::Rate;

/// Rate at which a session begins whose maximum is higher. On a network of 10 Mbit/s it costs half a megabyte until the
/// first report; from here to 10 Gbit/s it takes less than a tenth of a second.
pub const START: Rate = Rate::from_bits_per_second(200_000_000);

/// Time between two steps upwards.
const STEP: Duration = Duration::from_millis(10);
/// Time after a cut in which the rate is left alone.
const HOLD: Duration = Duration::from_millis(250);
/// How often it is looked at whether the driver sends what the rate allows.
const LOOK: Duration = Duration::from_millis(50);

/// One step upwards in thousandths of the rate: while nothing was ever too much, far below what was, near it, and while
/// the driver does not even send what the rate allows.
const FAST: u64 = 700;
const FIRM: u64 = 80;
const CAREFUL: u64 = 3;
const LIMITED: u64 = 20;

/// What keeps the rate from being higher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// Nothing yet: it is still being raised.
    Rising,
    /// The maximum that was set.
    Maximum,
    /// The sender, or its own link, cannot send more.
    Sender,
    /// The network carries no more.
    Line,
    /// Receivers cannot take more.
    Receivers,
}

/// How long each bound has held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds([Duration; 5]);

impl Bounds {
    /// How long this one has held.
    pub fn time(&self, bound: Bound) -> Duration {
        self.0[bound as usize]
    }

    /// The one that has held longest.
    pub fn longest(&self) -> Bound {
        use Bound::{Line, Maximum, Receivers, Rising, Sender};
        let all = [Rising, Maximum, Sender, Line, Receivers];
        all.into_iter()
            .max_by_key(|&bound| self.time(bound))
            .unwrap_or(Rising)
    }
}

/// Finds the rate between two bounds.
#[derive(Debug, Clone)]
pub struct RateControl {
    min: u64,
    max: u64,
    current: u64,
    /// The rate that was last too much; `None` while none was.
    ceiling: Option<u64>,
    /// The rate that is not passed until somebody has followed well.
    reach: u64,
    /// Whether anybody has said yet how well it follows.
    heard: bool,
    /// Up to when steps upwards were made.
    stepped: Time,
    /// The last cut.
    cut: Option<Time>,
    /// When it was last looked at what the driver sends, and the time that it had wasted by then.
    looked: (Time, Duration),
    /// Whether the driver sent less than the rate allowed.
    limited: bool,
    /// What the last cut was for.
    cause: Bound,
    bounds: Bounds,
    /// Up to when bounds were counted.
    counted: Time,
}

impl RateControl {
    /// Begins at [`START`], or at `max` when that is less; never goes above `max`, nor below `min`.
    pub fn new(now: Time, min: Rate, max: Rate) -> Self {
        let (min, max) = (min.bits_per_second(), max.bits_per_second());
        Self {
            min: min.min(max),
            max,
            current: START.bits_per_second().clamp(min.min(max), max),
            ceiling: None,
            reach: START.bits_per_second().saturating_mul(2),
            heard: false,
            stepped: now,
            cut: None,
            looked: (now, Duration::ZERO),
            limited: false,
            cause: Bound::Rising,
            bounds: Bounds::default(),
            counted: now,
        }
    }

    /// The rate now.
    pub fn rate(&self) -> Rate {
        Rate::from_bits_per_second(self.current)
    }

    /// Whether anybody has said yet how well it follows: before that the rate is a guess, and most of what is sent may be lost.
    pub fn heard(&self) -> bool {
        self.heard
    }

    /// Changes the bound that is never passed, as when another session begins or ends beside this one.
    pub fn set_max(&mut self, max: Rate) {
        self.max = max.bits_per_second();
        self.min = self.min.min(self.max);
        self.current = self.current.min(self.max);
    }

    /// Somebody followed well what was sent of late. Before that is said again, the rate may become twice as much, less
    /// once something was too much, and little more near that.
    pub fn followed(&mut self) {
        self.heard = true;
        let percent = match self.ceiling {
            None => 200,
            Some(ceiling) if self.current < ceiling / 10 * 9 => 130,
            Some(ceiling) if self.current < ceiling / 10 * 11 => 105,
            Some(_) => 130,
        };
        self.reach = self.reach.max(self.current / 100 * percent);
    }

    /// The queues of somebody who counts can follow no faster than `limit`, at present.
    pub fn cut(&mut self, now: Time, limit: Rate) {
        self.lower(now, limit, self.current, Bound::Receivers);
    }

    /// The lines of those who count carry no more than `limit`.
    pub fn cut_to_line(&mut self, now: Time, limit: Rate) {
        self.lower(now, limit, limit.bits_per_second(), Bound::Line);
    }

    fn lower(&mut self, now: Time, limit: Rate, ceiling: u64, cause: Bound) {
        let limit = limit.bits_per_second().max(self.min);
        self.heard = true;
        if limit < self.current {
            (self.ceiling, self.cause) = (Some(ceiling), cause);
            self.current = limit;
            self.reach = limit;
            (self.stepped, self.cut) = (now, Some(now));
        }
    }

    /// The last cut, from `before`, changed nothing for those who complained: it was not the rate.
    pub fn restore(&mut self, now: Time, before: Rate) {
        self.current = before.bits_per_second().clamp(self.current, self.max);
        self.reach = self.reach.max(self.current);
        (self.ceiling, self.cause, self.stepped, self.cut) = (None, Bound::Rising, now, None);
    }

    /// Takes that time passed, of which the driver has let `wasted` go by so far in which packets might have been sent.
    pub fn on_time(&mut self, now: Time, wasted: Duration) {
        self.look(now, wasted);
        if self.current >= self.max || self.cut.is_some_and(|cut| now.since(cut) < HOLD) {
            self.stepped = now;
            return;
        }
        while now.since(self.stepped) >= STEP && self.current < self.max {
            self.stepped = self.stepped + STEP;
            let permille = match self.ceiling {
                _ if self.limited => LIMITED,
                None => FAST,
                Some(ceiling) if self.current < ceiling / 10 * 9 => FIRM,
                Some(ceiling) if self.current < ceiling / 10 * 11 => CAREFUL,
                // It was too much once, and is no more.
                Some(_) => FIRM,
            };
            let next = self.current.saturating_add(self.current / 1000 * permille + 1);
            self.current = next.min(self.max).min(self.reach.max(self.current));
        }
    }

    /// What keeps the rate from being higher now.
    pub fn bound(&self) -> Bound {
        match self.cause {
            _ if self.current >= self.max => Bound::Maximum,
            _ if self.limited => Bound::Sender,
            cause => cause,
        }
    }

    /// Counts the time that passed in which something was sent towards what bounded it.
    pub fn count(&mut self, now: Time, sending: bool) {
        let passed = now.since(std::mem::replace(&mut self.counted, now));
        if sending {
            self.bounds.0[self.bound() as usize] += passed;
        }
    }

    /// How long each bound has held while something was sent.
    pub fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Keeps the rate near what the driver really sends: otherwise a cut would be none.
    fn look(&mut self, now: Time, wasted: Duration) {
        let span = now.since(self.looked.0);
        if span < LOOK {
            return;
        }
        let lost = wasted.saturating_sub(self.looked.1).min(span);
        self.looked = (now, wasted);
        // A fifth of the time wasted may be chance; what remains gets a quarter on top, to find out whether more goes.
        self.limited = lost * 5 > span;
        if self.limited {
            let sent = (span - lost).as_micros() * 5 / 4;
            let scaled = u128::from(self.current) * sent / span.as_micros().max(1);
            let scaled = u64::try_from(scaled).unwrap_or(self.current);
            self.current = scaled.clamp(self.min, self.current);
            self.stepped = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: u64 = 1_000_000;

    fn rate(bits: u64) -> Rate {
        Rate::from_bits_per_second(bits)
    }

    fn at(ms: u64) -> Time {
        Time::from_start(Duration::from_millis(ms))
    }

    fn control(max: u64) -> RateControl {
        RateControl::new(Time::ZERO, rate(MBIT), rate(max * MBIT))
    }

    /// Time passes, and everybody follows.
    fn rise(control: &mut RateControl, span: std::ops::Range<u64>) {
        for ms in span {
            control.followed();
            control.on_time(at(ms), Duration::ZERO);
        }
    }

    #[test]
    fn it_reaches_ten_gigabits_in_150_ms_and_never_passes_the_maximum() {
        let mut control = control(10_000);
        assert_eq!(control.rate(), START);
        control.on_time(at(100), Duration::ZERO);
        assert_eq!(control.rate(), rate(400 * MBIT), "nobody has followed yet");
        rise(&mut control, 100..250);
        assert_eq!(control.rate(), rate(10_000 * MBIT));
        control.set_max(rate(300 * MBIT));
        control.on_time(at(300), Duration::ZERO);
        assert_eq!(control.rate(), rate(300 * MBIT));
    }

    #[test]
    fn after_a_cut_it_holds_then_rises_fast_to_nine_tenths_and_slowly_past_them() {
        let mut control = control(10_000);
        rise(&mut control, 0..200);
        control.cut(at(200), rate(1_000 * MBIT));
        control.cut(at(200), rate(2_000 * MBIT));
        control.on_time(at(449), Duration::ZERO);
        assert_eq!(
            control.rate(),
            rate(1_000 * MBIT),
            "a higher limit is none, and it holds"
        );
        rise(&mut control, 449..800);
        let nine = control.rate().bits_per_second();
        assert!((9_000 * MBIT..9_900 * MBIT).contains(&nine), "{nine}");
        rise(&mut control, 800..900);
        let later = control.rate().bits_per_second();
        assert!((nine..nine / 100 * 104).contains(&later), "{later} after {nine}");
    }

    #[test]
    fn a_cut_for_nothing_is_taken_back_at_once_and_none_goes_below_the_minimum() {
        let mut control = control(10_000);
        let before = control.rate();
        control.cut(at(1), rate(1));
        assert_eq!(control.rate(), rate(MBIT));
        control.restore(at(2), before);
        assert_eq!(control.rate(), before);
    }

    #[test]
    fn it_stays_near_what_the_driver_sends() {
        let mut control = control(100_000);
        let mut wasted = Duration::ZERO;
        for ms in 1..2_000u64 {
            // The driver sends 2 Gbit/s at most.
            let over = control.rate().bits_per_second().saturating_sub(2_000 * MBIT);
            wasted += Duration::from_millis(1) * u32::try_from(over / MBIT).unwrap()
                / u32::try_from(control.rate().bits_per_second() / MBIT).unwrap();
            control.followed();
            control.on_time(at(ms), wasted);
            let found = (2_000 * MBIT..3_000 * MBIT).contains(&control.rate().bits_per_second());
            assert!(ms < 200 || found, "{:?} at {ms}", control.rate());
        }
    }
}
