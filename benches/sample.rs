//! Samples, taken in interleaved pairs, and the figures that are made of them.
//!
//! The machine is never quiet, so each pair measures all sides within a minute of each other and each begins with
//! another side. A ratio is the median of the pairs' ratios: what slowed a whole pair down cancels out in it.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::measure::Usage;

/// One run of one side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    /// Which benchmark.
    pub(crate) bench: &'static str,
    /// Which case of it, where it has several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) case: Option<String>,
    /// Whose run it was: `simulcast` or a peer.
    pub(crate) side: &'static str,
    /// Which pair it belongs to, from 0.
    pub(crate) pair: usize,
    /// Tasks that ran or wanted to on this machine before it, as the kernel's one-minute average.
    pub(crate) load: f64,
    /// Which program of that side, where each has a sample of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) program: Option<String>,
    /// What was measured, by name; the unit is the name's last word.
    pub(crate) values: BTreeMap<&'static str, f64>,
}

/// What one run of one side found: names end in their unit (`wall_s`, `sent_bytes`).
pub(crate) type Values = BTreeMap<&'static str, f64>;

/// The values that every run has.
pub(crate) fn values(usage: Usage) -> Values {
    BTreeMap::from([
        ("wall_s", usage.wall.as_secs_f64()),
        ("cpu_s", usage.cpu.as_secs_f64()),
        ("peak_bytes", float(usage.peak_bytes)),
    ])
}

/// A count as a value.
#[expect(
    clippy::cast_precision_loss,
    reason = "what is measured stays below 2^53, and no figure has more than four digits"
)]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// One side of a benchmark: its name and what measures it once.
pub(crate) type Side<'a> = (&'static str, Box<dyn FnMut() -> Result<Values> + 'a>);

/// Runs every side `pairs` times, in turn, each time beginning with another.
pub(crate) fn interleave(
    bench: &'static str,
    pairs: usize,
    mut sides: Vec<Side<'_>>,
    into: &mut Vec<Sample>,
) -> Result<()> {
    for pair in 0..pairs {
        for turn in 0..sides.len() {
            let index = (pair + turn) % sides.len();
            let (side, measure) = &mut sides[index];
            let load = load_average()?;
            let values = measure().with_context(|| format!("{bench}, pair {pair}, {side}"))?;
            let wall = values.get("wall_s").copied().unwrap_or_default();
            eprintln!("    {bench} pair {} of {pairs}: {side} {wall:.2} s", pair + 1);
            into.push(Sample {
                bench,
                case: None,
                side,
                pair,
                load,
                program: None,
                values,
            });
        }
    }
    Ok(())
}

/// All of one value of one side, by pair.
pub(crate) fn column(samples: &[Sample], side: &str, value: &str) -> Vec<f64> {
    samples
        .iter()
        .filter(|s| s.side == side)
        .filter_map(|s| s.values.get(value).copied())
        .collect()
}

/// The value that as many are below as above; of an even number, the mean of the two in the middle. None of none.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The kernel's one-minute load average (proc(5)).
pub(crate) fn load_average() -> Result<f64> {
    let text = std::fs::read_to_string("/proc/loadavg").context("read the load average")?;
    let first = text.split(' ').next().and_then(|n| n.parse().ok());
    first.context("the kernel's load average is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_side_begins_in_its_turn() {
        let order = std::cell::RefCell::new(Vec::new());
        let side = |name: &'static str| -> Side<'_> {
            let order = &order;
            (
                name,
                Box::new(move || {
                    order.borrow_mut().push(name);
                    Ok(Values::from([("wall_s", 1.0)]))
                }),
            )
        };
        let mut samples = Vec::new();
        interleave("test", 2, vec![side("a"), side("b"), side("c")], &mut samples).unwrap();
        assert_eq!(*order.borrow(), ["a", "b", "c", "b", "c", "a"]);
        assert_eq!(column(&samples, "c", "wall_s"), [1.0, 1.0]);
        assert_eq!(samples[5].pair, 1);
    }

    #[test]
    fn the_median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(&[]), None);
    }
}
