//! How well each receiver follows, who limits the rate, and who is a straggler (protocol.md 9.3 and 9.4).
//!
//! What a receiver could follow is told from its reports: packets that its queues cannot take, and loss in the network
//! as far as it comes from the rate. Whether it does is tried: the rate is cut, and loss that stays is the line's own,
//! for which parity pays. Whoever can follow less than half of what the median receiver can is a straggler: it is not
//! waited for.

use std::collections::BTreeMap;
use std::time::Duration;

use super::follower::{Follower, Sample, Sent, Straggling, Tried};
use super::history::History;
use crate::multicast::key::ReceiverId;
use crate::multicast::limits::{STRAGGLER_CALM, STRAGGLER_LOSS_PPM, STRAGGLER_TIME};
use crate::multicast::packet::Report;
use crate::multicast::time::Time;
use crate::units::Rate;

/// Time in which a cut shows its effect on queues: what is said of them earlier speaks of the old rate.
const CUT_GAP: Duration = Duration::from_millis(40);
/// How long it is remembered which pace the group could keep.
const MEMORY: Duration = Duration::from_secs(60);
/// Share of the cuts of late, in 255ths, at which a receiver must have complained to be blamed for the rate: five in a
/// row make so much.
const BLAMED: u8 = 190;
/// Time in which a cut that is on trial should have shown whether it helps.
const TRIAL: Duration = Duration::from_millis(300);
/// How long others that have as much loss are spared a trial of their own, or two report periods if that is longer.
const LEARNED: Duration = Duration::from_secs(1);

/// What the rate should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advice {
    /// Nothing new.
    Keep,
    /// Somebody followed well.
    Good,
    /// Somebody who counts can follow no faster than this.
    Cut(Rate, Cause),
    /// The last cut was for nothing: back to this.
    Restore(Rate),
}

/// Why somebody cannot follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its line carries so much, and the rest is lost.
    Network,
    /// Its queues fill up.
    Queues,
}

/// The state of the sender when a report came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sending<'a> {
    pub(super) now: Time,
    pub(super) rate: Rate,
    /// Whether nobody has said yet how well it follows this rate.
    pub(super) guessed: bool,
    /// Number of the last data packet.
    pub(super) tx_seq: u64,
    /// When which packet was sent.
    pub(super) history: &'a History,
    /// Bytes of a data packet on the wire.
    pub(super) wire: u64,
}

/// All receivers that lack something, and what they can follow.
#[derive(Debug, Default)]
pub(super) struct Following {
    each: BTreeMap<ReceiverId, Follower>,
    cut: Cut,
    /// The most that was sent of late over half a second, in bits per second, and when.
    best: (u64, Time),
    decided: Time,
    /// Loss that a trial found to be a line's own, and when.
    learned: Option<(u64, Time)>,
    /// How long others that have as much loss are spared a trial of their own.
    spared: Duration,
}

/// The last cut of the rate.
#[derive(Debug, Clone, Copy, Default)]
struct Cut {
    at: Option<Time>,
    /// Packets after this one were sent after the last cut that is, or was, on trial.
    seq: u64,
    /// The rate before it, or before the first of several that are on trial, in bits per second.
    before: u64,
    /// What it is on trial for.
    trial: Option<Sample>,
    /// Whether it is still to be seen if it helps somebody.
    open: bool,
    /// Whether it helped somebody.
    helped: bool,
}

impl Following {
    /// Takes a valid report of a receiver that takes part.
    pub(super) fn on_report(&mut self, sending: &Sending<'_>, report: &Report) -> Advice {
        if report.done() {
            self.forget(report.receiver);
            return Advice::Keep;
        }
        let Sending {
            now,
            rate,
            guessed,
            history,
            wire,
            tx_seq,
        } = *sending;
        let (cut, rate, known) = (self.cut, rate.bits_per_second(), self.known_loss(now));
        let sent = Sent {
            history,
            wire,
            tx_seq,
            now: rate,
            guessed,
        };
        let of_other = cut.trial.filter(|_| cut.open);
        let follower = self.each.entry(report.receiver).or_default();
        let (sample, drops) = follower.sample(now, report, cut.seq, sent);
        let tried = sample.map_or(Tried::Nothing, |sample| follower.judge_trial(sample, of_other));
        let queues = follower.queues(report.fill, drops, rate);
        let network = sample.and_then(|sample| follower.network(sample, known));
        let trouble = queues.is_some() || network.is_some();
        let settled = cut.at.is_none_or(|at| now.since(at) >= CUT_GAP);
        // While a cut is on trial, somebody else's ordinary loss waits for what it shows.
        let waits = cut.open && cut.at.is_some_and(|at| now.since(at) < TRIAL);
        let pressing = network.filter(|&limit| !waits || limit < rate / 10 * 8);
        let limit = [queues.filter(|_| settled), pressing].into_iter().flatten().min();
        if let Some(limit) = limit {
            (follower.limit, follower.limited) = (Some(limit), now);
        } else if sample.is_some() && !trouble {
            follower.limit = None;
        }
        if trouble && follower.straggling.is_some() {
            follower.straggle(now);
        }
        match tried {
            Tried::Helped => (self.cut.open, self.cut.helped) = (false, true),
            Tried::InVain => {
                self.cut.open = false;
                self.learned = sample.map(|sample| (sample.loss, now));
            }
            Tried::Nothing => {}
        }
        if limit.is_some() {
            self.decide(sending)
        } else if tried == Tried::InVain && !self.cut.helped && self.nobody_limits() {
            Advice::Restore(Rate::from_bits_per_second(self.cut.before))
        } else if sample.is_some_and(|sample| sample.keeps_up()) && !trouble {
            Advice::Good
        } else {
            Advice::Keep
        }
    }

    /// A receiver lacks nothing more, is silent or has left.
    pub(super) fn forget(&mut self, receiver: ReceiverId) {
        self.each.remove(&receiver);
    }

    /// Whether nobody waits for this receiver at present.
    pub(super) fn is_straggler(&self, receiver: ReceiverId) -> bool {
        self.each
            .get(&receiver)
            .is_some_and(|follower| follower.straggling.is_some())
    }

    /// Looks at everybody: frees stragglers that can follow again, marks those that hold the others back or whose line
    /// loses much more than the others', and names those that were stragglers for too long. These are forgotten. `sent`
    /// is the rate of the last half second, in bits per second, if that much was sent. Reports come every `period`.
    pub(super) fn census(
        &mut self,
        now: Time,
        sent: Option<u64>,
        period: Duration,
    ) -> (Advice, Vec<ReceiverId>) {
        self.spared = 2 * period;
        let advice = self.find_slow(now, sent);
        let mut losses: Vec<u64> = self.each.values().map(|follower| follower.own_loss).collect();
        losses.sort_unstable();
        let usual = losses
            .get(losses.len().saturating_sub(1) / 2)
            .copied()
            .unwrap_or(0);
        for follower in self.each.values_mut() {
            if follower.own_loss > usual + STRAGGLER_LOSS_PPM {
                follower.straggle(now);
            }
            let calm = |straggling: &Straggling| now.since(straggling.last) >= STRAGGLER_CALM.max(2 * period);
            follower.straggling = follower.straggling.filter(|straggling| !calm(straggling));
        }
        if self.each.values().all(|follower| follower.straggling.is_some()) {
            // There is nobody whom they hold back.
            self.each
                .values_mut()
                .for_each(|follower| follower.straggling = None);
        }
        // A line that loses much is no better by another transport: what passes by still counts, and parity brings the
        // rest when the others are done.
        let lossy = |follower: &Follower| follower.own_loss > usual + STRAGGLER_LOSS_PPM;
        let late = |follower: &Follower| {
            let since = follower.straggling.map(|straggling| straggling.since);
            let long = since.is_some_and(|since| now.since(since) >= STRAGGLER_TIME.max(4 * period));
            long && !lossy(follower)
        };
        let parted: Vec<ReceiverId> = self
            .each
            .iter()
            .filter(|(_, f)| late(f))
            .map(|(id, _)| *id)
            .collect();
        parted.iter().for_each(|id| self.forget(*id));
        (advice, parted)
    }

    /// Who counts, and what they can follow.
    fn decide(&mut self, sending: &Sending<'_>) -> Advice {
        let Sending {
            now, rate, tx_seq, ..
        } = *sending;
        // Everybody is looked at: with thousands of receivers not for each report of thousands.
        let gap = Duration::from_micros(2) * u32::try_from(self.each.len()).unwrap_or(u32::MAX);
        if gap > Duration::from_micros(100) && now.since(self.decided) < gap {
            return Advice::Keep;
        }
        self.decided = now;
        // What nobody says again counts no more.
        let old = LEARNED.max(self.spared);
        let stale = |follower: &&mut Follower| now.since(follower.limited) > old;
        self.each
            .values_mut()
            .filter(stale)
            .for_each(|follower| follower.limit = None);
        let limited = self.each.values().filter(|follower| follower.limit.is_some());
        let most = 2 * limited.count() > self.each.len();
        let slow = if most { self.median_limit() / 2 } else { 0 };
        let mut target = rate.bits_per_second();
        for follower in self.each.values_mut() {
            let Some(limit) = follower.limit else { continue };
            if limit < slow || follower.far && !most {
                follower.straggle(now);
            } else if most && follower.own_loss < STRAGGLER_LOSS_PPM {
                // It was the first to say what most say by now.
                follower.straggling = None;
            }
            if follower.straggling.is_none() {
                target = target.min(limit);
            }
        }
        if target >= rate.bits_per_second() {
            return Advice::Keep;
        }
        let mut trial = None;
        for follower in self.each.values_mut() {
            trial = follower.begin_trial().or(trial);
        }
        self.cut.at = Some(now);
        let open = trial.is_some();
        if open {
            let chain = self.cut.open && !self.cut.helped;
            self.cut = Cut {
                at: Some(now),
                seq: tx_seq,
                before: if chain {
                    self.cut.before
                } else {
                    rate.bits_per_second()
                },
                trial,
                open,
                helped: false,
            };
        } else {
            self.each.values_mut().for_each(Follower::blame);
        }
        let cause = if open { Cause::Network } else { Cause::Queues };
        Advice::Cut(Rate::from_bits_per_second(target), cause)
    }

    /// What the median receiver can follow, in bits per second, when most have said what they can.
    fn median_limit(&self) -> u64 {
        let mut limits: Vec<u64> = self.each.values().filter_map(|follower| follower.limit).collect();
        limits.sort_unstable_by(|a, b| b.cmp(a));
        let unlimited = self.each.len() - limits.len();
        let median = self.each.len().saturating_sub(1) / 2;
        limits.get(median.saturating_sub(unlimited)).copied().unwrap_or(0)
    }

    /// Marks those whose queues have held the rate below half of what it was of late, if they are a minority. For the
    /// others the rate may be as high again.
    fn find_slow(&mut self, now: Time, sent: Option<u64>) -> Advice {
        let Some(sent) = sent else { return Advice::Keep };
        if sent >= self.best.0 || now.since(self.best.1) > MEMORY {
            self.best = (sent, now);
        }
        let blamed = self
            .each
            .values()
            .filter(|follower| follower.blame > BLAMED / 2)
            .count();
        if sent < self.best.0 / 2 && 2 * blamed <= self.each.len() {
            let unmarked =
                |follower: &&mut Follower| follower.blame > BLAMED && follower.straggling.is_none();
            let guilty: Vec<&mut Follower> = self.each.values_mut().filter(unmarked).collect();
            let any = !guilty.is_empty();
            guilty.into_iter().for_each(|follower| follower.straggle(now));
            if any && self.nobody_limits() {
                return Advice::Restore(Rate::from_bits_per_second(self.best.0));
            }
        }
        Advice::Keep
    }

    /// Loss that was lately found to have nothing to do with the rate, in millionths.
    fn known_loss(&self, now: Time) -> u64 {
        let lately = self
            .learned
            .filter(|(_, at)| now.since(*at) < self.spared.max(LEARNED));
        lately.map_or(0, |(loss, _)| loss)
    }

    fn nobody_limits(&self) -> bool {
        self.each
            .values()
            .all(|follower| follower.limit.is_none() || follower.straggling.is_some())
    }
}

#[cfg(test)]
#[path = "following_tests.rs"]
mod tests;
