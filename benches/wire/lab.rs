//! A sender and its receivers on a bridge, with the link that a case asks for.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use simulcast_testkit::command::{self, command, run_with_input};
use simulcast_testkit::netns::{Counters, INTERFACE, Namespace, Network, Offload, Snooping};
use simulcast_testkit::run::Run;

use super::options::{Case, Loss, Path};

/// How often the link is looked at until something happens on it.
const LOOK: Duration = Duration::from_micros(500);

/// The machines of one case; they last as long as this.
#[derive(Debug)]
pub(crate) struct Lab {
    run: Run,
    /// The namespace that the bridge is in.
    switch: String,
    /// Who sends.
    pub(crate) sender: Namespace,
    /// Who receives.
    pub(crate) receivers: Vec<Namespace>,
}

impl Lab {
    /// Makes the machines of `case`, and `more` receivers.
    pub(crate) fn new(case: &Case, more: u8) -> Result<Self> {
        let run = Run::start("bench-wire")?;
        let network = Network::new(&run, Snooping::Off)?;
        let sender = network.join("sender", 1)?;
        let receivers = (1..=case.receivers + more)
            .map(|n| network.join(&format!("r{n:02}"), 10 + n))
            .collect::<Result<Vec<_>>>()?;
        let lab = Self {
            sender,
            receivers,
            switch: network.switch().to_owned(),
            run,
        };
        lab.forget_firewall()?;
        if case.path != Path::Whole {
            lab.sender.set_offload(Offload::Segmented)?;
            lab.receivers.iter().try_for_each(Namespace::set_coalescing)?;
        }
        if let Some(rate) = case.rate {
            lab.sender.set_uplink_rate(rate)?;
        }
        lab.lose(case.loss)?;
        Ok(lab)
    }

    /// Where the logs of this case's processes are.
    pub(crate) fn logs(&self) -> Result<PathBuf> {
        self.run.make_dir("logs")
    }

    /// A path of the run.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.run.dir().join(name)
    }

    /// When the sender has sent so many bytes more than `since`; `None` when `stop` is set or it is `until` before.
    pub(crate) fn when_sent(
        &self,
        since: Counters,
        bytes: u64,
        until: Instant,
        stop: &AtomicBool,
    ) -> Result<Option<Instant>> {
        self.sender.enter(|| -> Result<Option<Instant>> {
            while !stop.load(Ordering::Relaxed) && Instant::now() < until {
                if sent_here()?.saturating_sub(since.sent_bytes) >= bytes {
                    return Ok(Some(Instant::now()));
                }
                thread::sleep(LOOK);
            }
            Ok(None)
        })?
    }

    /// Where the kernel has the module br_netfilter, every packet that a bridge forwards also passes the firewall's
    /// hooks. A switch has none, and all sides would pay for it with each packet.
    fn forget_firewall(&self) -> Result<()> {
        let switch = &self.switch;
        let script = "for file in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e \"$file\" ] || echo 0 >\"$file\"; done";
        command::run(command("ip").args(["netns", "exec", switch, "sh", "-c", script]))
            .context("keep the firewall off the bridge")?;
        Ok(())
    }

    /// Each port of the switch drops packets to its receiver, each port others. On the way out of the port, that is
    /// before the receiver's device could put packets together again.
    fn lose(&self, loss: Loss) -> Result<()> {
        if loss == Loss::NONE {
            return Ok(());
        }
        let chain = |receiver: &Namespace| {
            let name = receiver.name();
            format!(
                "chain {name} {{\ntype filter hook egress device \"{name}\" priority 0; policy accept;\n\
                 numgen random mod 1000000 < {} counter drop\n}}\n",
                loss.per_million()
            )
        };
        let chains: String = self.receivers.iter().map(chain).collect();
        let switch = &self.switch;
        let mut nft = command("ip");
        nft.args(["netns", "exec", switch, "nft", "-f", "-"]);
        run_with_input(&mut nft, &format!("table netdev wire {{\n{chains}}}\n")).context("set the loss")?;
        Ok(())
    }
}

/// Bytes that the calling thread's machine has sent.
fn sent_here() -> Result<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/dev").context("read the counters")?;
    parse_sent(&text).context("find the interface's counters")
}

/// The ninth number of the interface's line (proc(5)).
fn parse_sent(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(INTERFACE)?.strip_prefix(':'))?;
    line.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_a_real_file() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
            face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop\n    \
            lo:       0       0    0    0    0     0          0         0        0       0    0    0\n  \
            eth0: 1006       9    0    0    0     0          0         0     2012      18    0    0\n";
        assert_eq!(parse_sent(text), Some(2012));
        assert_eq!(parse_sent("eth01: 1 2 3 4 5 6 7 8 9"), None);
    }
}
