//! Telling the image server and the console what happens.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use simulcast_protocol::install::{Event, Events, What};
use simulcast_transport::http::{Client, Retry};

/// Events that wait for the server; of more the oldest go.
const WAITING: usize = 500;

/// Events of one request: with their texts they stay well below what a server takes.
const BATCH: usize = 20;

/// Bytes of an event's text.
const DETAIL_BYTES: usize = 1500;

/// Bytes of the log that are kept, and of those that are sent at once.
const LOG_BYTES: usize = 256 << 10;

/// Time between two reports of how far a step is.
const OFTEN: Duration = Duration::from_secs(2);

/// How long a server that could not be reached is left alone by what is said on the way.
const SILENCE: Duration = Duration::from_secs(15);

/// For events on the way: one try, so that a server that is away holds nothing up.
const ONCE: Retry = Retry {
    tries: 1,
    pause: Duration::from_millis(100),
};

/// What is known, from all threads.
#[derive(Debug, Default)]
pub(crate) struct Reporter {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    server: Option<(Client, u64)>,
    next: u32,
    waiting: VecDeque<Event>,
    log: VecDeque<u8>,
    sent: usize,
    progress: Option<Instant>,
    /// When the server could not be reached last.
    silent: Option<Instant>,
    step: String,
    keys: Vec<String>,
}

impl Reporter {
    fn state(&self) -> MutexGuard<'_, State> {
        // What a thread that panicked left is still the truth.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on events go to this server, as those of this order. Numbers go on after `first`, because a machine that
    /// starts again counts anew.
    pub(crate) fn connect(&self, client: Client, order: u64) {
        let mut state = self.state();
        // Milliseconds since the clock's beginning in steps of a quarter second: larger after every start.
        let seconds = clock_gettime(ClockId::Realtime).tv_sec;
        let base = u32::try_from(seconds.rem_euclid(1 << 29)).unwrap_or(0) * 4;
        state.next = state.next.max(base);
        let mut number = state.next;
        for event in &mut state.waiting {
            event.number = number;
            number += 1;
        }
        state.next = number;
        state.server = Some((client, order));
        state.silent = None;
    }

    /// From now on these ssh keys open the machine when it waits in rescue.
    pub(crate) fn let_in(&self, keys: &[String]) {
        self.state().keys = keys.to_vec();
    }

    /// Whose ssh keys open the machine in rescue.
    pub(crate) fn keys(&self) -> Vec<String> {
        self.state().keys.clone()
    }

    /// Writes a line to the console and to the log.
    pub(crate) fn say(&self, line: &str) {
        eprintln!("{line}");
        let mut state = self.state();
        state.log.extend(line.bytes().chain([b'\n']));
        let over = state.log.len().saturating_sub(LOG_BYTES);
        state.log.drain(..over);
        state.sent = state.sent.saturating_sub(over);
    }

    /// Tells what a step does.
    pub(crate) fn tell(&self, step: &str, what: What, detail: &str) {
        let mut state = self.state();
        step.clone_into(&mut state.step);
        state.push(step, what, detail);
        drop(state);
        self.flush_now();
    }

    /// Tells how far the present step is, now and then.
    pub(crate) fn progress(&self, done: u64, total: u64) {
        let mut state = self.state();
        if state.progress.is_some_and(|last| last.elapsed() < OFTEN) {
            return;
        }
        state.progress = Some(Instant::now());
        let step = state.step.clone();
        state.push(&step, What::Progress { done, total }, "");
        drop(state);
        self.flush_now();
    }

    /// Sends all that waits, and the new part of the log, patiently: at the end, when nothing else is to be done.
    pub(crate) fn finish(&self) -> bool {
        self.send_log();
        self.flush(Retry::PATIENT)
    }

    /// Sends what waits, unless the server was silent just now: asking it in vain holds up the step itself.
    fn flush_now(&self) {
        if self.state().silent.is_none_or(|since| since.elapsed() > SILENCE) {
            let heard = self.flush(ONCE);
            self.state().silent = (!heard).then(Instant::now);
        }
    }

    /// Sends what waits; whether nothing waits any more.
    fn flush(&self, retry: Retry) -> bool {
        loop {
            let (client, events) = {
                let state = self.state();
                let Some((client, order)) = &state.server else {
                    return false;
                };
                if state.waiting.is_empty() {
                    return true;
                }
                let events = Events {
                    order: *order,
                    events: state.waiting.iter().take(BATCH).cloned().collect(),
                };
                (client.with_retry(retry), events)
            };
            if let Err(error) = client.events(&events) {
                tracing::debug!(%error, "an event waits");
                return false;
            }
            let last = events.events.last().map_or(0, |event| event.number);
            // One that was dropped or sent meanwhile by another thread is gone already.
            self.state().waiting.retain(|event| event.number > last);
        }
    }

    fn send_log(&self) {
        let (client, text) = {
            let state = self.state();
            let Some((client, _)) = &state.server else { return };
            let new: Vec<u8> = state.log.iter().skip(state.sent).copied().collect();
            (client.with_retry(Retry::BRIEF), new)
        };
        for piece in text.chunks(32 << 10) {
            if let Err(error) = client.log(&String::from_utf8_lossy(piece)) {
                eprintln!("the log could not be sent to the server: {error}");
                return;
            }
            self.state().sent += piece.len();
        }
    }
}

impl State {
    fn push(&mut self, step: &str, what: What, detail: &str) {
        let at = clock_gettime(ClockId::Boottime);
        let at =
            u64::try_from(at.tv_sec).unwrap_or(0) * 1000 + u64::try_from(at.tv_nsec).unwrap_or(0) / 1_000_000;
        let mut end = detail.len().min(DETAIL_BYTES);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        self.waiting.push_back(Event {
            number: self.next,
            at,
            step: step.to_owned(),
            what,
            detail: detail[..end].to_owned(),
        });
        self.next += 1;
        if self.waiting.len() > WAITING {
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_numbered() {
        let reporter = Reporter::default();
        for _ in 0..WAITING + 3 {
            reporter.tell("disks", What::Began, &"ä".repeat(2000));
        }
        let state = reporter.state();
        assert_eq!(state.waiting.len(), WAITING);
        assert_eq!(state.waiting[0].number, 3);
        assert_eq!(state.waiting[0].detail.len(), DETAIL_BYTES);
        drop(state);
        reporter.say(&"x".repeat(2 * LOG_BYTES));
        assert_eq!(reporter.state().log.len(), LOG_BYTES);
        // Nobody to tell is no error, but it is not told either.
        assert!(!reporter.finish());
    }
}
