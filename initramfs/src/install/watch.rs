//! The time-out of steps. A step that hangs does so in a system call of a device that does not answer; nothing can be done
//! about it from inside, so the server is told, and PID 1 opens the rescue shell.

use std::process;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use super::reporter::Reporter;
use super::rescue;
use super::step::Step;

/// Ends the program when a step takes too long.
#[derive(Debug)]
pub(super) struct Watch {
    orders: Sender<Option<(Step, Duration)>>,
}

impl Watch {
    /// Begins to watch. It ends with the program, or when it is dropped.
    pub(super) fn start(reporter: Arc<Reporter>) -> Self {
        let (orders, received) = channel::<Option<(Step, Duration)>>();
        thread::spawn(move || {
            let mut expected: Option<(Step, Duration, Instant)> = None;
            loop {
                let wait = expected.map_or(Duration::MAX, |(_, _, at)| {
                    at.saturating_duration_since(Instant::now())
                });
                let order = match wait {
                    Duration::MAX => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    wait => received.recv_timeout(wait),
                };
                match (order, expected) {
                    (Ok(order), _) => {
                        let at = |within| Instant::now().checked_add(within);
                        expected = order.and_then(|(step, within)| Some((step, within, at(within)?)));
                    }
                    (Err(RecvTimeoutError::Timeout), Some((step, within, _))) => {
                        let text = format!(
                            "it was not done within {} s; a device or the network does not answer",
                            within.as_secs()
                        );
                        rescue::failed(&reporter, step.name(), &text);
                        process::exit(1);
                    }
                    _ => return,
                }
            }
        });
        Self { orders }
    }

    /// From now on this step is expected to end within this time.
    pub(super) fn expect(&self, step: Step, within: Duration) {
        self.say(Some((step, within)));
    }

    /// Nothing is expected any more.
    pub(super) fn relax(&self) {
        self.say(None);
    }

    fn say(&self, order: Option<(Step, Duration)>) {
        // The thread ends only with this value, or with the program.
        self.orders.send(order).unwrap_or_default();
    }
}
