//! What a run came to.

use std::time::Duration;

use simulcast_protocol::multicast::packet::{Report, WHOLE};
use simulcast_protocol::multicast::{ReceiverStats, SenderStats};

use crate::meter::Spent;

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
