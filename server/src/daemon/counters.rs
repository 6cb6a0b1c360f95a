//! What the daemon counts, for its status.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) requests: Counter,
    pub(super) http_chunks: Counter,
    pub(super) http_bytes: Counter,
    pub(super) bodies_begun: Counter,
    pub(super) bodies_ended: Counter,
    pub(super) sessions_ended: Counter,
    pub(super) multicast_bytes_ended: Counter,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, number: u64) {
        self.0.fetch_add(number, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
