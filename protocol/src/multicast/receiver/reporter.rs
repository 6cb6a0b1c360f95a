//! When a receiver speaks, and what it says (protocol.md 5 and 10.3).

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use super::gathering::Gathering;
use crate::multicast::limits::{
    BITMAP_BYTES, CROWD, DONE_REPORTS, FILL_HIGH, LOSS_NOTICED_PPM, NAK_RETRY, NAK_WINDOW, NAKS,
    REPORT_CHUNKS, REPORT_PERIOD_MIN, REPORT_PERIOD_USUAL, URGENT_PERIOD_EACH, URGENT_PERIOD_MIN,
};
use crate::multicast::packet::{Announce, Bitmap, Phase, WHOLE, Want};
use crate::multicast::set::ChunkSet;
use crate::multicast::time::{Time, earlier};

/// Time between two JOINs until an announce is heard.
const JOIN_PERIOD: Duration = Duration::from_millis(500);
/// Time between two reports of the first statement of all that lacks, when it takes several packets.
const FIRST_PERIOD: Duration = Duration::from_millis(20);

/// What the sender said last of how the group is to speak.
#[derive(Debug, Clone, Copy)]
struct Rules {
    report_period: Duration,
    nak_window: Duration,
    expected: u16,
    receivers: u32,
}

#[derive(Debug)]
pub(super) struct Reporter {
    rules: Rules,
    /// Whether an announce was heard.
    heard: bool,
    /// Next report that states the whole, or JOIN.
    regular_at: Time,
    /// Next report because the sender has nothing planned and whole chunks lack.
    idle_at: Option<Time>,
    urgent_at: Option<Time>,
    last: Option<Time>,
    done_left: u32,
    done_at: Option<Time>,
    /// Where the next section begins.
    cursor: u32,
    /// Whether all that lacks was stated once.
    stated: bool,
    fill: u8,
    drops: u64,
    told_drops: u64,
    /// Loss of late, in millionths, and what it was at the last report.
    loss: u64,
    told_loss: u64,
    loss_changed: bool,
}

/// What the next report says about chunks.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) wants: Vec<Want>,
    pub(super) bitmap: Bitmap,
}

impl Reporter {
    pub(super) fn new(first_join: Time) -> Self {
        let rules = Rules {
            report_period: REPORT_PERIOD_USUAL,
            nak_window: NAK_WINDOW.0,
            expected: 1,
            receivers: 1,
        };
        Self {
            rules,
            heard: false,
            regular_at: first_join,
            idle_at: None,
            urgent_at: None,
            last: None,
            done_left: 0,
            done_at: None,
            cursor: 0,
            stated: false,
            fill: 0,
            drops: 0,
            told_drops: 0,
            loss: 0,
            told_loss: 0,
            loss_changed: false,
        }
    }

    /// Whether the next report is a JOIN.
    pub(super) fn joining(&self) -> bool {
        !self.heard
    }

    /// Takes an announce's rules; the first ends joining.
    pub(super) fn on_announce(
        &mut self,
        now: Time,
        announce: &Announce,
        lacks_whole: bool,
        rng: &mut Xoshiro256PlusPlus,
    ) {
        self.rules = Rules {
            report_period: announce.report_period.max(REPORT_PERIOD_MIN),
            nak_window: announce.nak_window.clamp(NAK_WINDOW.0, NAK_WINDOW.1),
            expected: announce.expected_deficit.max(1),
            receivers: announce.receivers.max(1),
        };
        if !self.heard {
            self.heard = true;
            // What the JOIN stated may be older than what was sent since; say it again, with the number heard now.
            self.regular_at = now + spread(self.rules.nak_window, rng);
        }
        match announce.phase {
            Phase::Idle if lacks_whole => {
                let rest = self.last.map_or(now, |last| last + NAK_RETRY.0).max(now);
                let at = rest + spread(self.rules.nak_window, rng);
                self.idle_at = Some(self.idle_at.map_or(at, |old| old.min(at)));
            }
            Phase::Idle | Phase::Sending | Phase::Waiting => self.idle_at = None,
        }
    }

    /// How full the driver's queues are, and how many packets its socket dropped in all.
    pub(super) fn on_load(&mut self, now: Time, fill: u8, drops: u64) {
        self.fill = fill;
        self.drops = self.drops.max(drops);
        if self.fill >= FILL_HIGH || self.drops > self.told_drops {
            self.urge(now);
        } else if !self.loss_changed {
            self.urgent_at = None;
        }
    }

    /// The loss of late, in millionths.
    pub(super) fn on_loss(&mut self, now: Time, loss: u64) {
        self.loss = loss;
        if loss.abs_diff(self.told_loss) > LOSS_NOTICED_PPM && self.heard {
            self.loss_changed = true;
            self.urge(now);
        }
    }

    /// Has a report sent as soon as the group's size allows.
    fn urge(&mut self, now: Time) {
        let gap = URGENT_PERIOD_MIN.max(URGENT_PERIOD_EACH * self.rules.receivers);
        let at = self.last.map_or(now, |last| last + gap);
        self.urgent_at = Some(self.urgent_at.map_or(at, |old| old.min(at)));
    }

    /// All chunks are there: say so a few times.
    pub(super) fn on_done(&mut self, now: Time) {
        if self.done_at.is_none() && self.done_left == 0 {
            // In a crowd a lost last word costs one of many the silence bound, and a thousand of them the return path.
            let few = self.rules.receivers < CROWD;
            self.done_left = if few { DONE_REPORTS.0 } else { DONE_REPORTS.0 / 2 };
            self.done_at = Some(now);
        }
    }

    /// The session is over or all was said: nothing more to say.
    pub(super) fn finish(&mut self) {
        (self.done_left, self.done_at) = (0, None);
    }

    /// Whether the last word was said.
    pub(super) fn said_all(&self) -> bool {
        self.done_at.is_none()
    }

    pub(super) fn fill(&self) -> u8 {
        self.fill
    }

    pub(super) fn drops(&self) -> u64 {
        self.drops
    }

    /// When to ask for a chunk that went quiet with this deficit: the worst first, so that one NAK answers for all.
    pub(super) fn back_off(&self, deficit: u16, rng: &mut Xoshiro256PlusPlus) -> Duration {
        let expected = u64::from(self.rules.expected.max(deficit));
        let wait = 850 * (expected - u64::from(deficit)) / expected + rng.random_range(0..=150);
        self.rules.nak_window * u32::try_from(wait).unwrap_or(1000) / 1000
    }

    /// When the next report goes, if `gathering` still lacks something.
    pub(super) fn due(&self, gathering: &Gathering) -> Option<Time> {
        if gathering.missing().is_empty() {
            return self.done_at;
        }
        let naks = gathering.nak_at().map(|at| at.max(self.nak_earliest()));
        let soon = earlier(earlier(self.idle_at, self.urgent_at), naks.filter(|_| self.heard));
        earlier(soon, Some(self.regular_at))
    }

    /// What to say at `now`, when something is due. NAKs that would be due soon go along.
    pub(super) fn content(&mut self, now: Time, gathering: &mut Gathering) -> Option<Content> {
        if self.due(gathering).is_none_or(|at| at > now) {
            return None;
        }
        let mut wants = Vec::new();
        if gathering.missing().is_empty() {
            self.done_left = self.done_left.saturating_sub(1);
            self.done_at = (self.done_left > 0).then(|| now + DONE_REPORTS.1);
            self.last = Some(now);
            return Some(Content {
                wants,
                bitmap: Bitmap::NONE,
            });
        }
        if self.heard {
            self.naks(now, gathering, &mut wants);
        }
        let mut bitmap = Bitmap::NONE;
        if self.regular_at <= now || self.idle_at.is_some_and(|at| at <= now) {
            let budget = if self.heard { REPORT_CHUNKS } else { usize::MAX };
            bitmap = self.section(gathering.whole(), budget, &mut wants);
            let period = match (self.heard, self.stated) {
                (false, _) => JOIN_PERIOD,
                (true, false) => FIRST_PERIOD,
                (true, true) => self.rules.report_period,
            };
            self.regular_at = now + period;
            self.idle_at = None;
        }
        self.urgent_at = None;
        (self.told_drops, self.told_loss, self.loss_changed) = (self.drops, self.loss, false);
        self.last = Some(now);
        Some(Content { wants, bitmap })
    }

    fn nak_earliest(&self) -> Time {
        self.last
            .map_or(Time::ZERO, |last| last + self.rules.nak_window / 4)
    }

    fn naks(&self, now: Time, gathering: &mut Gathering, wants: &mut Vec<Want>) {
        let soon = now + self.rules.nak_window / 4;
        for (chunk, open) in gathering.open() {
            if wants.len() < NAKS && open.nak_at.is_some_and(|at| at <= soon) {
                wants.push(Want {
                    first: chunk,
                    count: 1,
                    deficit: open.symbols.deficit(),
                });
                let retry = NAK_RETRY.0 * (1 << open.naks.min(8));
                open.nak_at = Some(now + retry.min(NAK_RETRY.1) + self.rules.nak_window);
                open.naks += 1;
            }
        }
    }

    /// States what lacks entirely from the cursor on, as runs or as a bitmap, whichever reaches further.
    fn section(&mut self, whole: &ChunkSet, budget: usize, wants: &mut Vec<Want>) -> Bitmap {
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        let Some(first) = whole.next(self.cursor) else {
            let wrapped = std::mem::take(&mut self.cursor) > 0;
            self.stated |= wrapped || whole.is_empty();
            return if wrapped {
                self.section(whole, usize::try_from(budget).unwrap_or(0), wants)
            } else {
                Bitmap::NONE
            };
        };
        let (mut runs, mut at, mut left) = (Vec::new(), first, budget);
        while let Some((start, count)) = whole.next_run(at).filter(|_| runs.len() < NAKS && left > 0) {
            let count = count.min(left);
            runs.push(Want {
                first: start,
                count,
                deficit: WHOLE,
            });
            left -= count;
            at = start + count;
        }
        let bits = u32::try_from(BITMAP_BYTES * 8).unwrap_or(0);
        let bitmap_end = first.saturating_add(bits).min(whole.size());
        let all = whole.next(at).is_none();
        let bitmap = if all || at >= bitmap_end {
            wants.extend(runs);
            Bitmap::NONE
        } else {
            at = bitmap_end;
            bitmap_of(whole, first, bitmap_end)
        };
        self.stated |= whole.next(at).is_none();
        self.cursor = if whole.next(at).is_none() { 0 } else { at };
        bitmap
    }
}

fn bitmap_of(whole: &ChunkSet, first: u32, end: u32) -> Bitmap {
    let byte = |start: u32| {
        (0..8)
            .filter(|bit| start + bit < end && whole.contains(start + bit))
            .fold(0, |b, bit| b | 1 << bit)
    };
    Bitmap {
        first,
        bits: (first..end).step_by(8).map(byte).collect(),
    }
}

fn spread(window: Duration, rng: &mut Xoshiro256PlusPlus) -> Duration {
    window * rng.random_range(0..=1000) / 1000
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn sections_together_state_all_that_lacks(size in 1u32..20_000, every in 1u32..40, gaps in prop::collection::vec(0u32..20_000, 0..300)) {
            let mut whole = ChunkSet::empty(size);
            (0..size).filter(|index| index % every == 0).for_each(|index| _ = whole.insert(index));
            gaps.iter().for_each(|&index| _ = whole.remove(index));
            let mut reporter = Reporter::new(Time::ZERO);
            let mut stated = ChunkSet::empty(size);
            let sections = size.div_ceil(u32::try_from(REPORT_CHUNKS).unwrap());
            for _ in 0..sections {
                let mut wants = Vec::new();
                let bitmap = reporter.section(&whole, REPORT_CHUNKS, &mut wants);
                prop_assert!(wants.len() <= NAKS && bitmap.bits.len() <= BITMAP_BYTES);
                for want in wants {
                    (want.first..want.first + want.count).for_each(|index| _ = stated.insert(index));
                }
                bitmap.chunks().for_each(|index| _ = stated.insert(index));
            }
            prop_assert!(reporter.stated);
            prop_assert_eq!(stated, whole);
        }
    }
}
