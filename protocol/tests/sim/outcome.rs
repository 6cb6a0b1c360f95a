//! What a run came to.

use std::time::Duration;

use simulcast_protocol::multicast::packet::{Report, WHOLE};
use simulcast_protocol::multicast::{Reason, Receiver, ReceiverId, ReceiverStats, Sender, SenderStats, Time};

use crate::meter::Spent;
use crate::node::Node;
use crate::world::World;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) sender: SenderStats,
    /// When the session ended.
    pub(crate) ended: Duration,
    /// When each receiver was complete; `None` for those that died.
    pub(crate) done: Vec<Option<Duration>>,
    pub(crate) receivers: Vec<ReceiverStats>,
    /// Chunks that receivers had to get another way.
    pub(crate) fetched: u64,
    pub(crate) rejected: u64,
    /// What the receivers sent.
    pub(crate) said: Said,
    pub(crate) silent: usize,
    /// When all receivers that live were complete.
    pub(crate) finish: Duration,
    /// Lowest rate that the session had, in bits per second.
    pub(crate) slowest: u64,
    /// What the sender's own calls took.
    pub(crate) spent: Spent,
}

/// What receivers said, by why they said it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) joins: Count,
    pub(crate) naks: Count,
    pub(crate) urgent: Count,
    pub(crate) done: Count,
    pub(crate) regular: Count,
}

/// Packets, and bytes of their UDP payload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
}

impl Said {
    pub(crate) fn count(&mut self, report: &Report, bytes: usize, urgent: bool) {
        let kind = match report {
            _ if report.join => &mut self.joins,
            _ if report.done() => &mut self.done,
            _ if report.wants.iter().any(|want| want.deficit != WHOLE) => &mut self.naks,
            _ if urgent => &mut self.urgent,
            _ => &mut self.regular,
        };
        kind.packets += 1;
        kind.bytes += u64::try_from(bytes).unwrap();
    }

    pub(crate) fn kinds(&self) -> [(&'static str, Count); 5] {
        [
            ("join", self.joins),
            ("nak", self.naks),
            ("urgent", self.urgent),
            ("done", self.done),
            ("regular", self.regular),
        ]
    }

    pub(crate) fn total(&self) -> Count {
        let all = self.kinds();
        Count {
            packets: all.iter().map(|(_, count)| count.packets).sum(),
            bytes: all.iter().map(|(_, count)| count.bytes).sum(),
        }
    }
}

impl Outcome {
    /// When the last of these receivers was complete. All of them must be.
    pub(crate) fn done_of(&self, indexes: impl IntoIterator<Item = usize>) -> Duration {
        let done = indexes
            .into_iter()
            .map(|index| self.done[index].expect("is complete"));
        done.max().unwrap_or_default()
    }
}

impl World {
    pub(crate) fn state(&self) -> String {
        describe(&self.sender, &self.nodes)
    }

    /// The end of a run: everyone is complete or reported.
    pub(crate) fn outcome(self) -> Outcome {
        let state = self.state();
        let (reason, ended) = self
            .finished
            .unwrap_or_else(|| panic!("the session does not end: {state}"));
        let liars = self.nodes.iter().any(|node| node.liar.is_some());
        assert_eq!(reason, if liars { Reason::Stopped } else { Reason::Done });
        let known: Vec<(ReceiverId, u32)> = self
            .sender
            .receivers()
            .map(|(id, peer)| (id, peer.missing))
            .collect();
        for (index, node) in self.nodes.iter().enumerate() {
            let complete = node.done_at.is_some() || node.liar.is_some();
            assert!(
                node.machine.is_none() || complete,
                "receiver {index} is not complete: {state}"
            );
            let lacking = known
                .iter()
                .find(|(id, _)| *id == node.id)
                .map(|(_, missing)| *missing);
            let reported = lacking.is_none_or(|missing| missing > 0 || node.content);
            assert!(
                complete || reported,
                "receiver {index} died, and the sender takes it for complete"
            );
        }
        let done: Vec<_> = self
            .nodes
            .iter()
            .map(|node| node.done_at.map(Time::since_start))
            .collect();
        Outcome {
            sender: self.sender.stats(),
            ended: ended.since_start(),
            finish: done.iter().flatten().max().copied().unwrap_or_default(),
            done,
            receivers: self
                .nodes
                .iter()
                .filter_map(|node| node.machine.as_ref())
                .map(Receiver::stats)
                .collect(),
            fetched: self.nodes.iter().map(|node| node.fetched).sum(),
            rejected: self.nodes.iter().map(|node| node.rejected).sum(),
            said: self.said,
            silent: self.silent.len(),
            slowest: self.slowest,
            spent: self.meter.spent(),
        }
    }
}

/// How both ends stand, for people.
pub(crate) fn describe(sender: &Sender, nodes: &[Node]) -> String {
    let of = |node: &Node| match &node.machine {
        Some(machine) => format!("{} missing {:?}", machine.missing().count(), machine.stats()),
        None => "dead".to_owned(),
    };
    let nodes: Vec<String> = nodes.iter().take(32).map(of).collect();
    format!("{:?}\n{:?}\n{}", sender.stats(), sender.rate(), nodes.join("\n"))
}
