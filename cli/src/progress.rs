//! How far a command has come: a bar, plain lines, or lines of JSON.

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::Serialize;
use simulcast_protocol::units::Bytes;

use crate::console::talk;

/// Characters of the bar.
const BAR: u64 = 24;

/// How far something is. Totals that nobody knows are `None`, and left out of the JSON.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Chunks done.
    pub chunks_done: u64,
    /// Chunks in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunks_total: Option<u64>,
    /// Bytes done.
    pub bytes_done: u64,
    /// Bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_total: Option<u64>,
}

/// Shows an [`Amount`] now and then. May be told from many threads and as often as they like.
#[derive(Debug)]
pub struct Progress {
    what: String,
    style: Style,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Bar,
    Lines,
    Json,
}

#[derive(Debug)]
struct State {
    begun: Instant,
    shown: Instant,
    latest: Amount,
    /// Whether a bar stands on the terminal's last line.
    on_line: bool,
}

#[derive(Serialize)]
struct Event {
    event: &'static str,
    #[serde(flatten)]
    amount: Amount,
}

impl Style {
    /// Time between two showings.
    fn interval(self) -> Duration {
        match self {
            Self::Bar => Duration::from_millis(100),
            Self::Lines => Duration::from_secs(5),
            Self::Json => Duration::from_millis(500),
        }
    }
}

impl Progress {
    pub(crate) fn new(what: &str, style: Style) -> Self {
        let now = Instant::now();
        Self {
            what: what.to_owned(),
            style,
            state: Mutex::new(State {
                begun: now,
                shown: now,
                latest: Amount::default(),
                on_line: false,
            }),
        }
    }

    /// Says how far it is now.
    pub fn set(&self, amount: Amount) {
        self.update(|latest| *latest = amount);
    }

    /// Changes what was said last; for threads that each add their own share.
    pub fn update(&self, change: impl FnOnce(&mut Amount)) {
        let mut state = self.state.lock().expect("no holder panics");
        change(&mut state.latest);
        if state.shown.elapsed() >= self.style.interval() {
            state.shown = Instant::now();
            self.show(&mut state);
        }
    }

    /// Shows the end as it was said last. Without it the last showing may be missing, as is right after a failure.
    pub fn finish(self) {
        let mut state = self.state.lock().expect("no holder panics");
        // What was over in no time needs no plain line.
        if self.style != Style::Lines || state.begun.elapsed() >= self.style.interval() {
            self.show(&mut state);
        }
    }

    fn show(&self, state: &mut State) {
        let amount = state.latest;
        match self.style {
            Style::Bar => {
                // The cursor stays at the end of the bar, so that the next one replaces it.
                write!(io::stderr(), "\r\x1b[K{}", self.text(state)).unwrap_or_default();
                state.on_line = true;
            }
            Style::Lines => talk(self.text(state)),
            Style::Json => {
                let event = Event {
                    event: "progress",
                    amount,
                };
                let line = serde_json::to_string(&event).expect("numbers always encode");
                // A reader that has gone shows when the result is written; progress alone does not end the work.
                writeln!(io::stdout(), "{line}").unwrap_or_default();
            }
        }
    }

    fn text(&self, state: &State) -> String {
        let Amount {
            chunks_done,
            chunks_total,
            bytes_done,
            bytes_total,
        } = state.latest;
        let mut text = format!("{}:", self.what);
        if let Some(total) = bytes_total.filter(|&total| total > 0) {
            let done = bytes_done.min(total);
            let share =
                |of: u64| u64::try_from(u128::from(done) * u128::from(of) / u128::from(total)).unwrap_or(of);
            if self.style == Style::Bar {
                let full = share(BAR);
                let mark = |from: u64, to: u64, mark: &str| (from..to).map(|_| mark).collect::<String>();
                text.push_str(&format!(" [{}{}]", mark(0, full, "#"), mark(full, BAR, ".")));
            }
            text.push_str(&format!(" {} %", share(100)));
        }
        if chunks_done > 0 || chunks_total.is_some() {
            let total = chunks_total
                .map(|total| format!(" of {total}"))
                .unwrap_or_default();
            text.push_str(&format!(" {chunks_done}{total} chunks,"));
        }
        let total = bytes_total
            .map(|total| format!(" of {}", Bytes(total)))
            .unwrap_or_default();
        text.push_str(&format!(" {}{total}", Bytes(bytes_done)));
        let millis = state.begun.elapsed().as_millis().max(1);
        let rate = u64::try_from(u128::from(bytes_done) * 1000 / millis).unwrap_or(u64::MAX);
        text.push_str(&format!(", {}/s", Bytes(rate)));
        text
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // What is said next, an error perhaps, begins on a line of its own.
        if self.state.get_mut().is_ok_and(|state| state.on_line) {
            talk("");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(style: Style, amount: Amount) -> String {
        let progress = Progress::new("golden01@1", style);
        let mut state = progress.state.lock().unwrap();
        state.latest = amount;
        let text = progress.text(&state);
        text.rsplit_once(", ").unwrap().0.to_owned()
    }

    #[test]
    fn bars_and_lines_say_the_same() {
        let amount = Amount {
            chunks_done: 3,
            chunks_total: Some(6),
            bytes_done: 500,
            bytes_total: Some(1000),
        };
        assert_eq!(
            text(Style::Bar, amount),
            "golden01@1: [############............] 50 % 3 of 6 chunks, 500 B of 1.00 kB"
        );
        assert_eq!(
            text(Style::Lines, amount),
            "golden01@1: 50 % 3 of 6 chunks, 500 B of 1.00 kB"
        );
    }

    #[test]
    fn totals_may_be_unknown_exceeded_or_zero() {
        let amount = |bytes_done, bytes_total| Amount {
            bytes_done,
            bytes_total,
            ..Amount::default()
        };
        assert_eq!(text(Style::Lines, amount(7, None)), "golden01@1: 7 B");
        assert_eq!(text(Style::Lines, amount(0, Some(0))), "golden01@1: 0 B of 0 B");
        assert_eq!(
            text(Style::Lines, amount(9, Some(8))),
            "golden01@1: 100 % 9 B of 8 B"
        );
    }

    #[test]
    fn json_has_the_documented_fields() {
        let event = |amount| {
            serde_json::to_string(&Event {
                event: "progress",
                amount,
            })
            .unwrap()
        };
        let amount = Amount {
            chunks_done: 1,
            chunks_total: Some(2),
            bytes_done: 3,
            bytes_total: Some(4),
        };
        assert_eq!(
            event(amount),
            r#"{"event":"progress","chunks_done":1,"chunks_total":2,"bytes_done":3,"bytes_total":4}"#
        );
        assert_eq!(
            event(Amount::default()),
            r#"{"event":"progress","chunks_done":0,"bytes_done":0}"#
        );
    }
}
