//! One receiver that is unlike the others: it joins at half time, or its port has a tenth of the rate. What does it
//! cost the others, and what becomes of it?

use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use simulcast_protocol::units::Rate;

use super::lab::Lab;
use super::options::{SLOWER, Scenario};
use super::ours::Ours;
use super::table::{at_least, at_most};
use super::trial::{Started, Trial};
use super::{WITH, WITHOUT};
use crate::sample::{Sample, Values, column, float, median};

/// Receivers beside the odd one.
pub(crate) const OTHERS: u8 = 4;

/// How much longer than the others the odd one is waited for.
const PATIENCE: u32 = 2;

impl Ours<'_> {
    /// One transmission with the odd one, which is the lab's last machine, or without it.
    pub(crate) fn measure_odd(&self, scenario: Scenario, odd: bool) -> Result<Values> {
        let (all, others) = (self.lab.receivers.len(), usize::from(OTHERS));
        let waited = if odd && scenario == Scenario::Slow {
            all
        } else {
            others
        };
        let mut since = Duration::ZERO;
        let trial = Trial::run(self.lab, self.limit(), || {
            let before = self.lab.sender.counters()?;
            let offers = if odd { all } else { others };
            let sender = self.start_sender(waited, offers)?;
            let start = |numbers: std::ops::Range<usize>| numbers.map(|number| self.start_receiver(number));
            let mut receivers = start(0..waited).collect::<Result<Vec<_>>>()?;
            if odd && scenario == Scenario::Late {
                let begun = Instant::now();
                // It joins when half of the data have been sent, whatever happens meanwhile.
                let (half, never) = (self.data.bytes / 2, AtomicBool::new(false));
                self.lab.when_sent(before, half, begun + self.limit(), &never)?;
                since = begun.elapsed();
                receivers.push(self.start_receiver(others)?);
            }
            Ok(Started {
                sender,
                receivers,
                daemons: false,
            })
        })?;
        let done = self.done(&trial)?;
        self.tell(&trial);
        let (rest, last) = done.split_at(others);
        let mut values = trial.values(self.data.bytes, &done)?;
        let at = |done: Option<Instant>| Some(trial.transfer(done?)?.as_secs_f64());
        if let Some(time) = at(rest
            .iter()
            .copied()
            .collect::<Option<Vec<_>>>()
            .and_then(|all| all.into_iter().max()))
        {
            values.insert("others_s", time);
        }
        if let Some(time) = at(last.first().copied().flatten()) {
            values.insert("odd_s", time);
        }
        values.insert("joined_s", since.as_secs_f64());
        values.insert(
            "others_complete",
            float(u64::try_from(rest.iter().flatten().count()).context("a count")?),
        );
        Ok(values)
    }

    /// Twice what the line needs, and what is waited for at each end.
    fn limit(&self) -> Duration {
        SLOWER.time_for(self.data.bytes) * (1 + PATIENCE) + Duration::from_secs(15)
    }
}

/// Makes the last machine the odd one of a scenario.
pub(crate) fn prepare(lab: &Lab, scenario: Scenario) -> Result<()> {
    let last = lab.receivers.last().context("there are receivers")?;
    if scenario == Scenario::Slow {
        last.set_downlink_rate(Rate::from_bits_per_second(SLOWER.bits_per_second() / 10))?;
    }
    Ok(())
}

/// What a scenario's samples say, with its targets.
pub(crate) fn table(scenario: Scenario, case: &str, samples: &[Sample]) -> Result<String> {
    let own: Vec<Sample> = samples
        .iter()
        .filter(|sample| sample.case.as_deref() == Some(case))
        .cloned()
        .collect();
    let pairs = |value: &str, of: fn(&Values) -> Option<f64>| -> Vec<f64> {
        column(&own, WITHOUT, value)
            .iter()
            .zip(own.iter().filter(|sample| sample.side == WITH))
            .filter_map(|(alone, with)| Some(of(&with.values)? / alone))
            .collect()
    };
    let cost = median(&pairs("others_s", |with| with.get("others_s").copied()));
    let behind = median(&pairs("others_s", |with| {
        Some(with.get("odd_s")? - with.get("others_s")?)
    }));
    let (title, bound) = match scenario {
        Scenario::Late => ("one of 5 receivers joins at half time", 1.03),
        Scenario::Slow | Scenario::Matrix => ("one of 5 receivers has a port of a tenth of the rate", 1.05),
    };
    let mut lines = vec![
        format!("{title}, at {SLOWER}/s"),
        at_most("    the others' time against their time alone", cost, bound),
    ];
    let of = |side, value| column(&own, side, value);
    let others: f64 = of(WITH, "others_complete").iter().sum();
    let all = float(u64::try_from(of(WITH, "others_complete").len()).context("a count")?) * f64::from(OTHERS);
    lines.push(at_least("    others complete", Some(others / all), 1.0));
    match scenario {
        Scenario::Late => lines.push(at_most(
            "    it ends after the others, in times of a transmission",
            behind,
            0.5,
        )),
        Scenario::Slow | Scenario::Matrix => lines.push(format!(
            "    it was complete in {} of {} runs{}",
            of(WITH, "odd_s").len(),
            of(WITH, "complete").len(),
            behind.map_or_else(String::new, |times| format!(
                ", {times:.2} times of a transmission after the others"
            ))
        )),
    }
    for side in [WITHOUT, WITH] {
        let shown = |value| median(&of(side, value)).map_or_else(|| "-".to_owned(), |m| format!("{m:.2}"));
        lines.push(format!(
            "    {side}: others {} s, CPU {} s, sent {} bytes per byte",
            shown("others_s"),
            shown("cpu_s"),
            shown("sent_per_byte")
        ));
    }
    Ok(lines.join("\n") + "\n")
}
