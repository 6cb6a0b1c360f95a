//! The table that a benchmark prints: a line for each figure, with its target where there is one.

use std::fmt::Write as _;

use simulcast_protocol::units::Bytes;

use crate::sample::{Sample, column, median};

/// What a figure counts.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A plain number.
    Number,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.2} s"),
            Self::Bytes => Bytes(whole(value)).to_string(),
            Self::Number => format!("{value:.3}"),
        }
    }
}

/// One line of a table.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    ours: String,
    peer: String,
    ratio: String,
    target: String,
    verdict: &'static str,
}

impl Row {
    /// The same line of a table that has several cases.
    pub(crate) fn of_case(mut self, case: &str) -> Self {
        self.name = format!("{case}: {}", self.name);
        self
    }
}

/// Which two columns of the samples a figure compares.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    /// Its name in the table.
    pub(crate) name: &'static str,
    /// Whose value stands first.
    pub(crate) ours: &'static str,
    /// What it is compared with.
    pub(crate) peer: &'static str,
    /// Which value of the samples.
    pub(crate) value: &'static str,
    /// How it is shown.
    pub(crate) unit: Unit,
    /// The ratio that is not to be exceeded; none when the figure is for information.
    pub(crate) target: Option<f64>,
}

impl Figure {
    /// Its line: both medians, and the median of the pairs' ratios with the smallest and the largest.
    pub(crate) fn row(&self, samples: &[Sample]) -> Row {
        let (ours, peer) = (
            column(samples, self.ours, self.value),
            column(samples, self.peer, self.value),
        );
        let mut ratios: Vec<f64> = ours.iter().zip(&peer).map(|(o, p)| o / p).collect();
        ratios.sort_by(f64::total_cmp);
        let ratio = median(&ratios);
        let shown = match (ratio, ratios.first(), ratios.last()) {
            (Some(ratio), Some(low), Some(high)) => format!("{ratio:.3} ({low:.2}-{high:.2})"),
            _ => "not measured".to_owned(),
        };
        let show = |values: &[f64]| median(values).map_or_else(String::new, |m| self.unit.show(m));
        Row {
            name: self.name.to_owned(),
            ours: show(&ours),
            peer: format!("{} {}", show(&peer), self.peer).trim_start().to_owned(),
            ratio: shown,
            target: self.target.map_or_else(String::new, |t| format!("<= {t:.2}")),
            verdict: verdict(ratio, self.target),
        }
    }
}

/// A line for a value that stands alone and has a bound, such as memory.
pub(crate) fn bounded(name: &str, value: f64, unit: Unit, bound: Option<f64>) -> Row {
    Row {
        name: name.to_owned(),
        ours: unit.show(value),
        peer: String::new(),
        ratio: String::new(),
        target: bound.map_or_else(String::new, |b| format!("<= {}", unit.show(b))),
        verdict: verdict(Some(value), bound),
    }
}

fn verdict(value: Option<f64>, target: Option<f64>) -> &'static str {
    match (value, target) {
        (_, None) => "",
        (Some(value), Some(target)) if value <= target => "PASS",
        _ => "MISS",
    }
}

/// The lines under a title, columns aligned.
pub(crate) fn table(title: &str, rows: &[Row]) -> String {
    let header = [
        "figure",
        "Simulcast",
        "compared with",
        "ratio (range)",
        "target",
        "",
    ]
    .map(str::to_owned);
    let cells = rows.iter().map(|r| {
        let verdict = r.verdict.to_owned();
        [
            r.name.clone(),
            r.ours.clone(),
            r.peer.clone(),
            r.ratio.clone(),
            r.target.clone(),
            verdict,
        ]
    });
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(cells).collect();
    let mut text = format!("{title}\n");
    for line in &lines {
        let mut shown = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
            // Writing to a String cannot fail.
            write!(shown, "  {cell:<width$}").ok();
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// A value that is not negative as a whole number.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, and counts are neither negative nor beyond 2^64"
)]
fn whole(value: f64) -> u64 {
    value.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Values;

    fn sample(side: &'static str, pair: usize, wall: f64) -> Sample {
        Sample {
            bench: "test",
            side,
            pair,
            load: 0.0,
            case: None,
            program: None,
            values: Values::from([("wall_s", wall)]),
        }
    }

    #[test]
    fn a_ratio_is_the_median_of_the_pairs_ratios() {
        // The second pair was twice as slow on both sides; medians of the columns would give another ratio.
        let samples: Vec<Sample> = [(1.0, 2.0), (2.0, 4.0), (1.0, 10.0)]
            .into_iter()
            .enumerate()
            .flat_map(|(pair, (a, b))| [sample("simulcast", pair, a), sample("tar", pair, b)])
            .collect();
        let figure = Figure {
            name: "time",
            ours: "simulcast",
            peer: "tar",
            value: "wall_s",
            unit: Unit::Seconds,
            target: Some(0.5),
        };
        let rows = [
            figure.row(&samples),
            bounded("memory", 300e6, Unit::Bytes, Some(268_435_456.0)),
        ];
        let expected = "capture\n  \
            figure  Simulcast  compared with  ratio (range)      target        \n"
            .to_owned();
        let text = table("capture", &rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0..2].join("\n").trim_end(), expected.trim_end());
        assert_eq!(
            lines[2],
            "  time    1.00 s     4.00 s tar     0.500 (0.10-0.50)  <= 0.50       PASS"
        );
        assert!(
            lines[3].starts_with("  memory  300 MB") || lines[3].starts_with("  memory  300.00 MB"),
            "{}",
            lines[3]
        );
        assert!(lines[3].ends_with("MISS"), "{}", lines[3]);
        let missing = Figure {
            value: "cpu_s",
            ..figure
        }
        .row(&samples);
        assert_eq!(
            (missing.ratio.as_str(), missing.verdict),
            ("not measured", "MISS")
        );
    }
}
