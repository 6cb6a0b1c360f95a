//! One transmission, and what it cost: times, processor time, bytes on the link, memory.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use simulcast_testkit::netns::Counters;

use super::lab::Lab;
use crate::measure::{Ended, Running, end_each};
use crate::sample::{Values, float};

/// Bytes on the link that tell that data flow: more than any side needs to find its receivers.
const FLOWING: u64 = 256 << 10;

/// How long a sender may take to end when its receivers have.
const SENDER_LIMIT: Duration = Duration::from_secs(20);

/// Bytes of an Ethernet header, which the counters have and IP has not.
const ETHERNET: u64 = 14;

/// Running processes of one transmission.
#[derive(Debug)]
pub(crate) struct Started {
    /// Who sends.
    pub(crate) sender: Running,
    /// Who receives.
    pub(crate) receivers: Vec<Running>,
    /// Whether receivers run until they are asked to end, when the sender has ended.
    pub(crate) daemons: bool,
}

/// What one transmission came to.
#[derive(Debug)]
pub(crate) struct Trial {
    started: Instant,
    flowing: Option<Instant>,
    /// How each receiver ended; `None` for one that was killed after the time limit.
    pub(crate) ends: Vec<Option<Ended>>,
    sender: Option<Ended>,
    counters: Counters,
    processes: Started,
}

impl Started {
    /// Waits for the ends of sender and receivers, at most until `until`.
    fn end(&mut self, until: Instant) -> Result<(Option<Ended>, Vec<Option<Ended>>)> {
        let sender = std::slice::from_mut(&mut self.sender);
        if self.daemons {
            let sender = end_each(sender, until)?.pop().flatten();
            self.receivers.iter().try_for_each(Running::ask_to_end)?;
            let ends = end_each(&mut self.receivers, Instant::now() + SENDER_LIMIT)?;
            return Ok((sender, ends));
        }
        let ends = end_each(&mut self.receivers, until)?;
        Ok((
            end_each(sender, Instant::now() + SENDER_LIMIT)?.pop().flatten(),
            ends,
        ))
    }
}

impl Trial {
    /// Runs the processes that `start` starts; those that have not ended after `limit` are killed.
    pub(crate) fn run(lab: &Lab, limit: Duration, start: impl FnOnce() -> Result<Started>) -> Result<Self> {
        let (before, stop, started) = (lab.sender.counters()?, AtomicBool::new(false), Instant::now());
        thread::scope(|scope| {
            let watch = scope.spawn(|| lab.when_sent(before, FLOWING, started + limit, &stop));
            let ended = start().and_then(|mut processes| {
                let ends = processes.end(started + limit)?;
                Ok((processes, ends))
            });
            stop.store(true, Ordering::Relaxed);
            let flowing = watch
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            let (processes, (sender, ends)) = ended?;
            Ok(Self {
                started,
                flowing,
                ends,
                sender,
                counters: lab.sender.counters()?.since(before),
                processes,
            })
        })
    }

    /// The sender's process.
    pub(crate) fn sender(&self) -> &Running {
        &self.processes.sender
    }

    /// The receivers' processes, in order.
    pub(crate) fn receivers(&self) -> &[Running] {
        &self.processes.receivers
    }

    /// From the first data on the link until `at`; nothing when none flowed.
    pub(crate) fn transfer(&self, at: Instant) -> Option<Duration> {
        Some(at.saturating_duration_since(self.flowing?))
    }

    /// The figures. `done` has, for each receiver, when it had everything; `None` when it is not known to have.
    pub(crate) fn values(&self, bytes: u64, done: &[Option<Instant>]) -> Result<Values> {
        let payload = float(bytes);
        let (first, last) = (done.iter().flatten().min(), done.iter().flatten().max());
        let complete = done.iter().flatten().count();
        let mut values = Values::from([
            ("complete", float(u64::try_from(complete).context("a count")?)),
            ("receivers", float(u64::try_from(done.len()).context("a count")?)),
            ("sent_per_byte", float(self.counters.sent_bytes) / payload),
            ("ip_per_byte", float(self.ip_bytes()) / payload),
            ("returned_per_byte", float(self.counters.received_bytes) / payload),
        ]);
        let used = self.ends.iter().flatten().map(|end| end.usage);
        let receivers: Duration = used.clone().map(|usage| usage.cpu).sum();
        let peak = used.map(|usage| usage.peak_bytes).max().unwrap_or(0);
        values.insert("receiver_peak_bytes", float(peak));
        // Of a receiver that was killed nobody knows what it used, so the sum would be too small.
        if self.ends.iter().all(Option::is_some) {
            let each = receivers.as_secs_f64() / float(u64::try_from(self.ends.len()).context("a count")?);
            values.insert("receiver_cpu_s", each);
        }
        if let Some(sender) = self.sender {
            values.insert("sender_cpu_s", sender.usage.cpu.as_secs_f64());
            values.insert("sender_peak_bytes", float(sender.usage.peak_bytes));
            if self.ends.iter().all(Option::is_some) {
                let cpu = (receivers + sender.usage.cpu).as_secs_f64();
                values.insert("cpu_s", cpu);
                values.insert("cpu_s_per_gb", cpu / payload * 1e9);
            }
        }
        if let (Some(&first), Some(&last), true) = (first, last, complete == done.len()) {
            let transfer = self.transfer(last).context("nothing was sent")?.as_secs_f64();
            values.insert("wall_s", (last - self.started).as_secs_f64());
            values.insert("transfer_s", transfer);
            values.insert("spread_s", (last - first).as_secs_f64());
            values.insert("mb_per_s", payload / transfer / 1e6);
        }
        Ok(values)
    }

    fn ip_bytes(&self) -> u64 {
        self.counters
            .sent_bytes
            .saturating_sub(ETHERNET * self.counters.sent_packets)
    }
}
