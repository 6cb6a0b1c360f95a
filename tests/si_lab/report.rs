//! What the demonstration says: a line when a step begins and ends, and a table of all at the end.

use std::time::{Duration, Instant};

use simulcast_protocol::units::Bytes;

/// One row of the table.
#[derive(Debug)]
struct Row {
    what: String,
    took: Option<Duration>,
    wire: Option<u64>,
    note: String,
}

/// The rows so far, and what was found wrong.
#[derive(Debug, Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
    faults: Vec<String>,
}

/// The clock of a step that has begun.
#[derive(Debug)]
pub(crate) struct Step {
    what: String,
    start: Instant,
}

impl Report {
    /// Begins a step; `what` is its row's name.
    pub(crate) fn begin(&self, what: &str) -> Step {
        eprintln!("==> {what}");
        Step {
            what: what.to_owned(),
            start: Instant::now(),
        }
    }

    /// Ends a step: `wire` is what the machine in question sent, headers included.
    pub(crate) fn end(&mut self, step: Step, wire: Option<u64>, note: String) {
        let took = step.start.elapsed();
        let sent = wire.map_or_else(String::new, |bytes| format!("{} sent, ", Bytes(bytes)));
        eprintln!("    {:.1} s, {sent}{note}", took.as_secs_f64());
        self.rows.push(Row {
            what: step.what,
            took: Some(took),
            wire,
            note,
        });
    }

    /// Adds a row that is no step.
    pub(crate) fn add(&mut self, what: &str, wire: Option<u64>, note: String) {
        self.rows.push(Row {
            what: what.to_owned(),
            took: None,
            wire,
            note,
        });
    }

    /// Takes down what two trees differ in. Nothing is good; anything makes the demonstration fail at its end.
    pub(crate) fn judge(&mut self, what: &str, differences: &[String]) {
        if differences.is_empty() {
            return;
        }
        let shown = differences
            .iter()
            .take(10)
            .map(|d| format!("\n    {d}"))
            .collect::<String>();
        let fault = format!("{what}: {} difference(s){shown}", differences.len());
        eprintln!("    WRONG: {fault}");
        self.faults.push(fault);
    }

    /// What was found wrong so far.
    pub(crate) fn faults(&self) -> &[String] {
        &self.faults
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let header = ["step", "time", "sent", ""].map(str::to_owned);
        let cells = self.rows.iter().map(|row| {
            let took = row
                .took
                .map_or_else(String::new, |t| format!("{:.1} s", t.as_secs_f64()));
            let wire = row
                .wire
                .map_or_else(String::new, |bytes| Bytes(bytes).to_string());
            [row.what.clone(), took, wire, row.note.clone()]
        });
        let lines: Vec<[String; 4]> = std::iter::once(header).chain(cells).collect();
        let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
        let (what, took, wire) = (width(0), width(1), width(2));
        let line = |l: &[String; 4]| {
            format!("{:<what$}  {:>took$}  {:>wire$}  {}", l[0], l[1], l[2], l[3])
                .trim_end()
                .to_owned()
                + "\n"
        };
        lines.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_aligned_and_faults_are_kept() {
        let mut report = Report::default();
        report.add("capture", Some(1_234_567), "golden01@1".to_owned());
        report.add("a longer step", None, String::new());
        assert_eq!(
            report.table(),
            "step           time     sent\ncapture              1.23 MB  golden01@1\na longer step\n"
        );
        report.judge("node01", &[]);
        assert!(report.faults().is_empty());
        report.judge("node02", &[">fc etc/passwd".to_owned()]);
        assert_eq!(report.faults(), ["node02: 1 difference(s)\n    >fc etc/passwd"]);
    }
}
