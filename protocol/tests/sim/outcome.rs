//! What a run came to.

use std::time::Duration;

use simulcast_protocol::multicast::{ReceiverStats, SenderStats};

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
    /// Packets and bytes that receivers sent.
    pub(crate) reports: u64,
    pub(crate) report_bytes: u64,
    pub(crate) silent: usize,
    /// When all receivers that live were complete.
    pub(crate) finish: Duration,
}
