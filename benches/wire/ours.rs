//! Our side: the library's sender and receivers, each in a process of its own.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::wait;

use super::data::Data;
use super::lab::Lab;
use super::options::{Plan, Sink};
use super::part::{Received, Sent};
use super::trial::{Started, Trial};
use crate::measure::{Running, start};
use crate::sample::Values;

/// The file of offers, in the run's directory.
const OFFERS: &str = "offers";
/// How long a sender may take to make its offers.
const OFFERS_LIMIT: Duration = Duration::from_secs(20);

/// What is needed to start our processes for one case.
#[derive(Debug)]
pub(crate) struct Ours<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) lab: &'a Lab,
    pub(crate) data: &'a Data,
    pub(crate) sink: Sink,
    /// Where files are written.
    pub(crate) dir: PathBuf,
}

impl Ours<'_> {
    /// One transmission to all machines of the case.
    pub(crate) fn measure(&self) -> Result<Values> {
        let count = self.lab.receivers.len();
        let trial = Trial::run(self.lab, self.plan.limit(), || {
            let sender = self.start_sender(count, count)?;
            let receivers = (0..count)
                .map(|number| self.start_receiver(number))
                .collect::<Result<_>>()?;
            Ok(Started {
                sender,
                receivers,
                daemons: false,
            })
        })?;
        let done = self.done(&trial)?;
        self.tell(&trial);
        let mut values = trial.values(self.data.bytes, &done)?;
        values.insert("repair_per_packet", self.repair(&trial));
        Ok(values)
    }

    /// Starts the sender, which waits for `receivers` of those that get one of its `offers`; returns when these are made.
    pub(crate) fn start_sender(&self, receivers: usize, offers: usize) -> Result<Running> {
        let to = self.lab.path(OFFERS);
        crate::stage::remove(&to)?;
        let mut command = own(&self.lab.sender)?;
        command.arg("wire-send").arg("--data").arg(&self.data.file);
        command.arg("--table").arg(&self.data.table).arg("--to").arg(&to);
        command.args(["--address", self.lab.sender.address()]);
        command.args(["--rate", &self.plan.max_rate.to_string()]);
        command.args([
            "--receivers",
            &receivers.to_string(),
            "--offers",
            &offers.to_string(),
        ]);
        let running = start("sender", &mut command, &self.lab.logs()?)?;
        wait::until("the sender's offers", OFFERS_LIMIT, || {
            Ok(to.exists().then_some(()))
        })
        .with_context(|| running.log_tail())?;
        Ok(running)
    }

    /// Starts a receiver with the offer of its number.
    pub(crate) fn start_receiver(&self, number: usize) -> Result<Running> {
        let machine = self
            .lab
            .receivers
            .get(number)
            .context("a machine for each receiver")?;
        let mut command = own(machine)?;
        command.arg("wire-receive").arg("--table").arg(&self.data.table);
        command.args(["--address", machine.address(), "--number", &number.to_string()]);
        command.arg("--offers").arg(self.lab.path(OFFERS));
        if let Some(target) = self.target(number) {
            command.arg("--target").arg(target);
        }
        start(machine.name(), &mut command, &self.lab.logs()?)
    }

    /// When each receiver had everything, as far as it did and what it wrote is what was sent.
    pub(crate) fn done(&self, trial: &Trial) -> Result<Vec<Option<Instant>>> {
        let mut done = Vec::new();
        for (number, (end, receiver)) in trial.ends.iter().zip(trial.receivers()).enumerate() {
            let received = serde_json::from_str::<Received>(&receiver.stdout()).ok();
            let whole = received.is_some_and(|received| received.missing == 0);
            match end {
                Some(end) if whole && end.status.success() => {
                    // A wrong byte past the library's own check would be a fault of ours: no figure counts then.
                    self.target(number)
                        .map_or(Ok(()), |target| self.data.require_copy(&target))?;
                    done.push(Some(end.at));
                }
                _ => {
                    eprintln!("    NOT COMPLETE{}", receiver.log_tail());
                    done.push(None);
                }
            }
            if let Some(target) = self.target(number) {
                // It may not be there when the receiver failed.
                fs::remove_file(target).ok();
            }
        }
        Ok(done)
    }

    /// Prints what both ends counted, if that is wanted.
    pub(crate) fn tell(&self, trial: &Trial) {
        if !self.plan.verbose {
            return;
        }
        if let Some(sent) = sent(trial) {
            eprintln!(
                "      sender: {} packets, {} of them repair, last rate {} Mbit/s, offload {}, lacking {}; {}",
                sent.packets,
                sent.repair,
                sent.rate / 1_000_000,
                sent.offload,
                sent.lacking,
                not_zero(&sent.counters)
            );
        }
        for receiver in trial.receivers() {
            if let Ok(got) = serde_json::from_str::<Received>(&receiver.stdout()) {
                eprintln!(
                    "      receiver: {}, missing {}, {} packets dropped by the socket; {}",
                    got.end,
                    got.missing,
                    got.drops,
                    not_zero(&got.counters)
                );
            }
        }
    }

    fn target(&self, number: usize) -> Option<PathBuf> {
        (self.sink == Sink::File).then(|| self.dir.join(format!("got.{number}")))
    }

    #[expect(clippy::cast_precision_loss, reason = "packets of one run stay below 2^53")]
    fn repair(&self, trial: &Trial) -> f64 {
        sent(trial).map_or(0.0, |sent| sent.repair as f64 / sent.packets.max(1) as f64)
    }
}

fn sent(trial: &Trial) -> Option<Sent> {
    serde_json::from_str(&trial.sender().stdout()).ok()
}

/// This program on a machine.
fn own(machine: &Namespace) -> Result<Command> {
    Ok(machine.command(std::env::current_exe().context("find this program")?))
}

/// Counters without those that are zero.
fn not_zero(counters: &str) -> String {
    let counters = counters.replace(" }", "").replace("{ ", "");
    let counted = counters.split(", ").filter(|counter| !counter.ends_with(": 0"));
    counted.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::not_zero;

    #[test]
    fn what_is_zero_is_left_out() {
        let counters = "Stats { packets: 10, naks: 0, refused: Refused { tag: 0, kind: 0 } }";
        assert_eq!(not_zero(counters), "Stats packets: 10");
    }
}
