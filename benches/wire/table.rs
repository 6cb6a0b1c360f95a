//! What is printed: a line for each case and side, and under each case the targets that it has.

use std::fmt::Write as _;

use super::options::{Case, Loss, Path, SLOWER};
use crate::sample::{Sample, column, median};

/// Our side's name.
pub(crate) const OURS: &str = "simulcast";
/// The sides that are udpcast.
const UDPCAST: [&str; 2] = ["udpcast", "udpcast --fec"];
/// Payload of a frame on the wire as the shaper counts it: what a packet can carry, by its bytes.
const FULL_FRAME: f64 = 1472.0 / 1514.0;

/// The lines of one case: each side's medians, then targets.
pub(crate) fn case(case: &Case, samples: &[Sample]) -> String {
    let own: Vec<Sample> = of(samples, case);
    let mut sides: Vec<&'static str> = Vec::new();
    for sample in &own {
        if !sides.contains(&sample.side) {
            sides.push(sample.side);
        }
    }
    let header = [
        "",
        "MB/s (range)",
        "s",
        "CPU-s/GB",
        "sender",
        "a receiver",
        "sent/byte",
        "peak MB",
        "complete",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(sides.iter().map(|side| row(side, &own)));
    let mut text = format!("{case}\n{}", align(&rows));
    for target in targets(case, samples) {
        // Writing to a String cannot fail.
        writeln!(text, "    {target}").ok();
    }
    text
}

fn of(samples: &[Sample], case: &Case) -> Vec<Sample> {
    let name = case.to_string();
    samples
        .iter()
        .filter(|sample| sample.case.as_ref() == Some(&name))
        .cloned()
        .collect()
}

fn row(side: &str, own: &[Sample]) -> Vec<String> {
    let all = |value| column(own, side, value);
    let middle = |value, digits: usize| {
        median(&all(value)).map_or_else(|| "-".to_owned(), |m| format!("{m:.digits$}"))
    };
    let speed = all("mb_per_s");
    let range = |pick: fn(f64, f64) -> f64| speed.iter().copied().reduce(pick).unwrap_or_default();
    let speed = median(&speed).map_or_else(
        || "-".to_owned(),
        |m| format!("{m:.0} ({:.0}-{:.0})", range(f64::min), range(f64::max)),
    );
    let peak = |value| all(value).into_iter().fold(0.0, f64::max) / 1e6;
    vec![
        format!("    {side}"),
        speed,
        middle("transfer_s", 2),
        middle("cpu_s_per_gb", 2),
        middle("sender_cpu_s", 2),
        middle("receiver_cpu_s", 2),
        middle("sent_per_byte", 3),
        format!(
            "{:.0}/{:.0}",
            peak("sender_peak_bytes"),
            peak("receiver_peak_bytes")
        ),
        format!(
            "{} of {}",
            all("complete").iter().sum::<f64>(),
            all("receivers").iter().sum::<f64>()
        ),
    ]
}

/// A target and what was reached.
fn verdict(what: &str, value: Option<f64>, good: bool, shown: &str) -> String {
    let word = if good { "PASS" } else { "MISSED" };
    match value {
        Some(value) => format!("{word}  {what}: {value:.3}, target {shown}"),
        None => format!("MISSED  {what}: not measured, target {shown}"),
    }
}

/// A target that is a lower bound.
pub(crate) fn at_least(what: &str, value: Option<f64>, target: f64) -> String {
    verdict(
        what,
        value,
        value.is_some_and(|v| v >= target),
        &format!("at least {target}"),
    )
}

/// A target that is an upper bound.
pub(crate) fn at_most(what: &str, value: Option<f64>, target: f64) -> String {
    verdict(
        what,
        value,
        value.is_some_and(|v| v <= target),
        &format!("at most {target}"),
    )
}

fn targets(case: &Case, samples: &[Sample]) -> Vec<String> {
    let own = of(samples, case);
    let mut lines = vec![at_least("receivers complete", complete(&own), 1.0)];
    if let Some(speed) = speed_target(case).filter(|_| peer_ran(&own)) {
        match best_peer(&own) {
            Some(peer) => lines.push(at_least(
                &format!("speed against {peer}"),
                ratio(&own, peer, "mb_per_s"),
                speed,
            )),
            None => lines.push(format!(
                "PASS  speed: no run of udpcast was complete, target {speed} times its"
            )),
        }
    }
    if case.receivers == 8 && case.rate.is_none() && peer_ran(&own) {
        let best = UDPCAST
            .into_iter()
            .filter_map(|peer| Some((peer, median(&column(&own, peer, "cpu_s_per_gb"))?)))
            .min_by(|a, b| a.1.total_cmp(&b.1));
        let ratio = best.and_then(|(peer, _)| ratio(&own, peer, "cpu_s_per_gb"));
        let what = format!(
            "processor time of all against {}",
            best.map_or("udpcast", |best| best.0)
        );
        lines.push(at_most(&what, ratio, 0.2));
    }
    let ours = |value| median(&column(&own, OURS, value));
    if let (Some(rate), Some(part)) = (case.rate, line_target(case.loss)) {
        #[expect(clippy::cast_precision_loss, reason = "a rate is far below 2^53")]
        let line = rate.bits_per_second() as f64 / 8e6 * FULL_FRAME;
        lines.push(at_least(
            "part of what the line carries",
            ours("mb_per_s").map(|s| s / line),
            part,
        ));
    }
    if case.rate == Some(SLOWER) && case.receivers == 8 {
        let one = of(
            samples,
            &Case {
                receivers: 1,
                ..*case
            },
        );
        let alone = median(&column(&one, OURS, "transfer_s"));
        let times = ours("transfer_s").zip(alone).map(|(many, one)| many / one);
        lines.push(at_most("time against one receiver's", times, 1.02));
    }
    if case.path != Path::Whole && case.loss == Loss::per_cent(1) && case.receivers == 8 {
        lines.push(at_most(
            "bytes sent, IP headers included, per byte",
            ours("ip_per_byte"),
            1.06,
        ));
    }
    lines
}

/// How many times udpcast's speed.
fn speed_target(case: &Case) -> Option<f64> {
    let (none, one, five) = (Loss::NONE, Loss::per_cent(1), Loss::per_cent(5));
    match (case.path, case.receivers, case.loss) {
        (Path::Whole, 8, loss) if loss == none => Some(8.0),
        (Path::Whole, 1, loss) if loss == none => Some(4.0),
        (Path::Segmented, 8, loss) if loss == none || loss == one => Some(3.0),
        (Path::Segmented, 8, loss) if loss == five => Some(5.0),
        _ => None,
    }
}

/// Which part of what the line carries.
fn line_target(loss: Loss) -> Option<f64> {
    match loss {
        Loss::NONE => Some(0.95),
        loss if loss == Loss::per_cent(1) => Some(0.92),
        _ => None,
    }
}

fn complete(own: &[Sample]) -> Option<f64> {
    let sum = |value| column(own, OURS, value).iter().sum::<f64>();
    (sum("receivers") > 0.0).then(|| sum("complete") / sum("receivers"))
}

fn peer_ran(own: &[Sample]) -> bool {
    own.iter().any(|sample| UDPCAST.contains(&sample.side))
}

/// The faster way of udpcast, by its complete runs.
fn best_peer(own: &[Sample]) -> Option<&'static str> {
    UDPCAST
        .into_iter()
        .filter_map(|peer| Some((peer, median(&column(own, peer, "mb_per_s"))?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(peer, _)| peer)
}

/// The median of the pairs' ratios, of the pairs in which both have the value.
fn ratio(own: &[Sample], peer: &str, value: &str) -> Option<f64> {
    let get = |side: &str, pair: usize| {
        let sample = own
            .iter()
            .find(|sample| sample.side == side && sample.pair == pair);
        sample.and_then(|sample| sample.values.get(value).copied())
    };
    let pairs = own.iter().map(|sample| sample.pair + 1).max().unwrap_or(0);
    let ratios: Vec<f64> = (0..pairs)
        .filter_map(|pair| Some(get(OURS, pair)? / get(peer, pair)?))
        .collect();
    median(&ratios)
}

/// Rows with their columns under each other; all but the first to the right.
pub(crate) fn align(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            // Writing to a String cannot fail.
            if column == 0 {
                write!(line, "{cell:<width$}").ok();
            } else {
                write!(line, "  {cell:>width$}").ok();
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::Values;
    use crate::wire::options::Sink;

    fn sample(case: &Case, side: &'static str, pair: usize, speed: Option<f64>) -> Sample {
        let mut values = Values::from([("complete", 8.0), ("receivers", 8.0), ("cpu_s_per_gb", 7.0)]);
        match speed {
            Some(speed) => values.insert("mb_per_s", speed),
            None => values.insert("complete", 7.0),
        };
        Sample {
            bench: "wire",
            case: Some(case.to_string()),
            side,
            pair,
            load: 0.0,
            program: None,
            values,
        }
    }

    #[test]
    fn targets_compare_pairs_with_the_faster_complete_peer() {
        let case = Case {
            receivers: 8,
            loss: Loss::NONE,
            path: Path::Segmented,
            rate: None,
            sink: Sink::Memory,
        };
        let mut samples = vec![
            sample(&case, OURS, 0, Some(90.0)),
            sample(&case, OURS, 1, Some(180.0)),
            sample(&case, "udpcast", 0, Some(30.0)),
            sample(&case, "udpcast", 1, Some(50.0)),
            sample(&case, "udpcast --fec", 0, None),
        ];
        let lines = targets(&case, &samples);
        assert_eq!(lines[0], "PASS  receivers complete: 1.000, target at least 1");
        assert_eq!(lines[1], "PASS  speed against udpcast: 3.300, target at least 3");
        assert!(
            lines[2].starts_with("MISSED  processor time of all"),
            "{}",
            lines[2]
        );
        samples.push(sample(&case, OURS, 2, None));
        assert!(targets(&case, &samples)[0].starts_with("MISSED  receivers complete: 0.958"));
        let text = super::case(&case, &samples);
        assert!(
            text.contains("135 (90-180)") && text.contains("23 of 24"),
            "{text}"
        );
    }

    #[test]
    fn one_receiver_is_what_many_are_compared_with() {
        let many = Case {
            receivers: 8,
            loss: Loss::per_cent(1),
            path: Path::Shaped,
            rate: Some(SLOWER),
            sink: Sink::Memory,
        };
        let one = Case { receivers: 1, ..many };
        let timed = |case, seconds| {
            let mut sample = sample(case, OURS, 0, Some(29.0));
            sample.values.insert("transfer_s", seconds);
            sample.values.insert("ip_per_byte", 1.07);
            sample
        };
        let lines = targets(&many, &[timed(&many, 10.3), timed(&one, 10.0)]);
        assert_eq!(
            lines[1],
            "PASS  part of what the line carries: 0.954, target at least 0.92"
        );
        assert_eq!(
            lines[2],
            "MISSED  time against one receiver's: 1.030, target at most 1.02"
        );
        assert!(
            lines[3].starts_with("MISSED  bytes sent, IP headers"),
            "{}",
            lines[3]
        );
    }

    #[test]
    fn columns_are_aligned() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["bc".to_owned(), "234".to_owned()],
        ];
        assert_eq!(align(&rows), "a     1\nbc  234\n");
    }
}
