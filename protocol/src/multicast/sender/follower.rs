//! What one receiver's reports say of how it follows (protocol.md 9.3).

use std::time::Duration;

use super::history::History;
use crate::multicast::limits::{
    FILL_FULL, FILL_HIGH, LOSS_NOTICED_PPM, QUEUE_TIME, SAMPLE_PACKETS, SAMPLE_TIME,
};
use crate::multicast::packet::Report;
use crate::multicast::time::Time;

const MILLION: u64 = 1_000_000;

/// Loss that a line may have of itself, in millionths: with more it is of no use, and what it shows is not its nature.
const OWN_LOSS_MOST: u64 = 500_000;

/// Time over which it can be told how fast packets come: in a shorter one they come in the driver's batches.
const PROMPT_TIME: Duration = Duration::from_millis(20);

/// One receiver that lacks something.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Follower {
    /// Where the present sample begins.
    mark: Option<Mark>,
    /// The shortest time for which the first packet that it did not speak of had been on its way.
    least_age: Option<Duration>,
    /// Loss that has nothing to do with the rate, in millionths. Only a trial can raise it: otherwise each try of a higher
    /// rate would, a little.
    pub(super) own_loss: u64,
    /// The last sample, if it showed more loss than that.
    noticed: Option<Sample>,
    /// The sample before a cut that is to show whether its loss comes from the rate.
    trial: Option<Sample>,
    /// Whether the last sample showed that nearly nothing came.
    outage: bool,
    /// What it could follow when it last could not, in bits per second.
    pub(super) limit: Option<u64>,
    /// When it last said so.
    pub(super) limited: Time,
    /// Whether its line carries less than half of what is sent.
    pub(super) far: bool,
    /// Share of the cuts of late for which its queues were a reason, in 255ths.
    pub(super) blame: u8,
    pub(super) straggling: Option<Straggling>,
}

#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Time,
    tx_seq: u64,
    received: u64,
    drops: u64,
}

/// What became of some packets on their way to a receiver.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    /// Loss in the network, in millionths.
    pub(super) loss: u64,
    /// How many packets were sent.
    sent: u64,
    /// How fast, in bits per second.
    rate: u64,
    /// How fast they came, in bits per second.
    arrived: u64,
    /// Over which time that was told.
    span: Duration,
    /// How long the next packet has waited in queues on its way.
    waited: Duration,
}

/// Since when a receiver is a straggler, and when it last showed it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Straggling {
    pub(super) since: Time,
    pub(super) last: Time,
}

/// What became of a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    Nothing,
    /// The loss fell as the rate did.
    Helped,
    /// The loss stayed.
    InVain,
}

impl Sample {
    /// Whether packets came as fast as they were sent, so that more may be sent. Where they seem to wait, it may also be the
    /// report that did.
    pub(super) fn keeps_up(&self) -> bool {
        let wanted = if self.waited > QUEUE_TIME {
            self.rate / 20 * 19
        } else {
            self.rate / 3 * 2
        };
        self.span < PROMPT_TIME || self.arrived >= wanted
    }

    /// The same with what will be lost once the queues on the way are full, if packets wait in them and less than half of what
    /// is sent comes.
    fn foreseen(self) -> Self {
        let part = u128::from(self.arrived) * u128::from(MILLION) / u128::from(self.rate.max(1));
        let part = u64::try_from(part).unwrap_or(MILLION);
        let short = self.waited > QUEUE_TIME && 2 * part < MILLION;
        let loss = if short {
            self.loss.max(MILLION - part)
        } else {
            self.loss
        };
        Self { loss, ..self }
    }
}

impl Follower {
    /// The loss in the network since the last sample, and the packets that the socket dropped. There is no loss to tell
    /// while too few packets were sent, or when some of them were sent before packet `cut`, at another rate.
    pub(super) fn sample(
        &mut self,
        now: Time,
        report: &Report,
        cut: u64,
        sent_at: Sent<'_>,
    ) -> (Option<Sample>, u64) {
        // Whoever claims to have seen more than was sent has seen all.
        let tx_seq = report.tx_seq.min(sent_at.tx_seq);
        let waited = self.waited(now, tx_seq, sent_at);
        let here = Mark {
            at: now,
            tx_seq,
            received: report.received,
            drops: report.drops,
        };
        // A receiver that joins counts from the first announce that it hears.
        let Some(mark) = self.mark.filter(|_| !report.join) else {
            self.mark = (!report.join).then_some(here);
            return (None, 0);
        };
        let drops = report.drops.saturating_sub(mark.drops);
        let sent = tx_seq.saturating_sub(mark.tx_seq);
        let early = mark.tx_seq < cut;
        if early && tx_seq >= cut {
            self.mark = Some(here);
            return (None, drops);
        }
        if early || sent < SAMPLE_PACKETS || now.since(mark.at) < SAMPLE_TIME {
            self.mark = Some(Mark {
                drops: here.drops,
                ..mark
            });
            return (None, drops);
        }
        self.mark = Some(here);
        let came = report
            .received
            .saturating_sub(mark.received)
            .saturating_add(drops);
        let sample = Sample {
            loss: sent.saturating_sub(came).saturating_mul(MILLION) / sent,
            sent,
            rate: sent_at.rate(mark.tx_seq, tx_seq),
            arrived: speed(came, sent_at.wire, now.since(mark.at)),
            span: now.since(mark.at),
            waited,
        };
        // Once a rate was found, real loss says more than what seems to wait.
        let sample = if sent_at.guessed {
            sample.foreseen()
        } else {
            sample
        };
        (Some(sample), drops)
    }

    /// Time that the first packet it does not speak of has been on its way, beyond the shortest such time.
    fn waited(&mut self, now: Time, tx_seq: u64, sent_at: Sent<'_>) -> Duration {
        if tx_seq >= sent_at.tx_seq {
            return Duration::ZERO;
        }
        let Some(at) = sent_at.history.time(tx_seq + 1) else {
            return Duration::ZERO;
        };
        let age = now.since(at);
        let least = self.least_age.map_or(age, |least| least.min(age));
        self.least_age = Some(least);
        age.saturating_sub(least)
    }

    /// What its queues can take, if that is less than `rate`.
    pub(super) fn queues(&self, fill: u8, drops: u64, rate: u64) -> Option<u64> {
        let percent = match fill {
            FILL_FULL.. => 50,
            _ if drops > 0 => 75,
            FILL_HIGH.. => 85,
            _ => return None,
        };
        Some(rate / 100 * percent)
    }

    /// What its line can carry, if that is less than was sent; otherwise learns the line's own loss. Up to twice as much
    /// loss as `known`, which others were found to have, is taken for such.
    pub(super) fn network(&mut self, sample: Sample, known: u64) -> Option<u64> {
        let Sample { loss, sent, rate, .. } = sample;
        (self.noticed, self.far) = (None, false);
        // Chance makes small samples of a loss that is below the bound look worse than it.
        let bound = self.own_loss + LOSS_NOTICED_PPM;
        let spread = (bound * MILLION.saturating_sub(bound) / sent.max(1)).isqrt();
        if loss <= bound + 3 * spread {
            self.own_loss = self.own_loss.min((7 * self.own_loss + loss) / 8);
            self.outage = false;
            return None;
        }
        if loss <= (2 * known).min(OWN_LOSS_MOST) {
            self.own_loss = loss;
            return None;
        }
        let came = MILLION.saturating_sub(loss);
        let outage = came < MILLION / 64;
        if outage && !std::mem::replace(&mut self.outage, true) {
            // A line that was down for a moment says nothing of how much it carries.
            return None;
        }
        self.noticed = Some(sample);
        let clean = MILLION - self.own_loss.min(MILLION - 1);
        self.far = came < clean / 2;
        // A little less than it could: what waits in queues on the way must go as well.
        let limit = u128::from(rate) * u128::from(came.max(MILLION / 64)) * 97 / 100 / u128::from(clean);
        Some(u64::try_from(limit).unwrap_or(rate))
    }

    /// The rate is being cut because of queues: notes whether its own are a reason.
    pub(super) fn blame(&mut self) {
        let reason = if self.limit.is_some() { 255 } else { 0 };
        let blame = (3 * u16::from(self.blame) + reason) / 4;
        self.blame = u8::try_from(blame).unwrap_or(u8::MAX);
    }

    /// The rate is being cut: the sample that this receiver noticed loss in, if the cut is on trial for that.
    pub(super) fn begin_trial(&mut self) -> Option<Sample> {
        let counts = self.straggling.is_none() && self.limit.is_some();
        let noticed = self.noticed.take().filter(|_| counts);
        self.trial = noticed.or(self.trial);
        noticed
    }

    /// Tells from the first sample after a cut whether the cut helped. If the line carried all it could before, it does
    /// so still, and the loss is what goes beyond that; otherwise the loss has stayed as it was. Whoever was not asked
    /// can tell no more than that another's loss, `of_other`, has stayed, if its own is like that.
    pub(super) fn judge_trial(&mut self, after: Sample, of_other: Option<Sample>) -> Tried {
        let own = self.trial.take();
        let alike = of_other.filter(|other| after.loss >= other.loss / 2);
        let Some(before) = own.or(alike) else {
            return Tried::Nothing;
        };
        let carried = u128::from(before.rate) * u128::from(MILLION.saturating_sub(before.loss))
            / u128::from(after.rate.max(1));
        let carried = u64::try_from(carried).unwrap_or(MILLION).min(MILLION);
        let full = (MILLION - carried).max(self.own_loss);
        let stayed = after.loss > full.midpoint(before.loss.max(full));
        if !stayed {
            return if own.is_some() {
                Tried::Helped
            } else {
                Tried::Nothing
            };
        }
        // More than before is no loss that stayed: queues on the way were still filling then.
        let same = after.loss <= before.loss + before.loss / 4 + LOSS_NOTICED_PPM;
        if same && after.loss <= OWN_LOSS_MOST {
            self.own_loss = after.loss;
            Tried::InVain
        } else {
            Tried::Nothing
        }
    }

    /// It is a straggler now, if it was none.
    pub(super) fn straggle(&mut self, now: Time) {
        let since = self.straggling.map_or(now, |straggling| straggling.since);
        self.straggling = Some(Straggling { since, last: now });
    }
}

/// Bits per second of so many packets of `wire` bytes each.
fn speed(packets: u64, wire: u64, span: Duration) -> u64 {
    let bits = u128::from(packets) * u128::from(wire) * 8;
    u64::try_from(bits * 1_000_000 / span.as_micros().max(1)).unwrap_or(u64::MAX)
}

/// How fast packets were sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'a> {
    pub(super) history: &'a History,
    /// Bytes of a packet on the wire.
    pub(super) wire: u64,
    /// Number of the last packet.
    pub(super) tx_seq: u64,
    /// The rate now, in bits per second: for what was sent too long ago, or in no time.
    pub(super) now: u64,
    /// Whether nobody has said yet how well it follows this rate.
    pub(super) guessed: bool,
}

impl Sent<'_> {
    fn rate(&self, from: u64, to: u64) -> u64 {
        self.history.rate(from, to, self.wire).unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_in_a_small_sample_is_no_trouble_and_much_loss_in_it_is() {
        let noticed = |sent, lost: u64| {
            let sample = Sample {
                loss: lost * MILLION / sent,
                sent,
                rate: 1_000_000_000,
                arrived: 1_000_000_000,
                span: SAMPLE_TIME,
                waited: Duration::ZERO,
            };
            Follower::default().network(sample, 0).is_some()
        };
        // A line that loses one in a hundred: once in a thousand samples of 200 it loses seven, of 830 eighteen.
        assert!(!noticed(200, 7) && !noticed(830, 18));
        assert!(noticed(200, 12) && noticed(830, 34) && noticed(100_000, 2_200));
    }
}
