//! Verified chunks between transports and workers, bounded in bytes.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Instant;

use super::{Arrived, Stopped, Waits};

/// A queue that holds at most so many bytes, or one chunk if that is longer.
#[derive(Debug)]
pub(super) struct Queue {
    bound: usize,
    inner: Mutex<Inner>,
    room: Condvar,
    filled: Condvar,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: VecDeque<Arrived>,
    bytes: usize,
    closed: bool,
    aborted: bool,
    waits: Waits,
}

impl Queue {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            inner: Mutex::default(),
            room: Condvar::new(),
            filled: Condvar::new(),
        }
    }

    /// Puts a chunk in; waits for room.
    pub(super) fn push(&self, chunk: Arrived) -> Result<(), Stopped> {
        let mut inner = self.lock();
        let full = |inner: &Inner| {
            !inner.chunks.is_empty() && inner.bytes + chunk.bytes.len() > self.bound && !inner.aborted
        };
        if full(&inner) {
            let begun = Instant::now();
            inner = self
                .room
                .wait_while(inner, |inner| full(inner))
                .expect("no holder panics");
            inner.waits.for_workers += begun.elapsed();
        }
        if inner.aborted || inner.closed {
            return Err(Stopped);
        }
        inner.bytes += chunk.bytes.len();
        inner.chunks.push_back(chunk);
        self.filled.notify_one();
        Ok(())
    }

    /// Takes a chunk out; waits for one. `None` when the queue is closed and empty, or aborted.
    pub(super) fn pop(&self) -> Option<Arrived> {
        let mut inner = self.lock();
        let empty = |inner: &Inner| inner.chunks.is_empty() && !inner.closed && !inner.aborted;
        if empty(&inner) {
            let begun = Instant::now();
            inner = self
                .filled
                .wait_while(inner, |inner| empty(inner))
                .expect("no holder panics");
            inner.waits.for_network += begun.elapsed();
        }
        if inner.aborted {
            return None;
        }
        let chunk = inner.chunks.pop_front()?;
        inner.bytes -= chunk.bytes.len();
        // Several may wait for room of different sizes.
        self.room.notify_all();
        Some(chunk)
    }

    /// Nothing more is put in; what is there is still taken out.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.filled.notify_all();
        self.room.notify_all();
    }

    /// Nothing more is put in or taken out.
    pub(super) fn abort(&self) {
        let mut inner = self.lock();
        inner.aborted = true;
        inner.chunks.clear();
        inner.bytes = 0;
        self.filled.notify_all();
        self.room.notify_all();
    }

    pub(super) fn fill(&self) -> u8 {
        let bytes = self.lock().bytes.min(self.bound);
        u8::try_from(bytes * 255 / self.bound.max(1)).unwrap_or(u8::MAX)
    }

    pub(super) fn waits(&self) -> Waits {
        self.lock().waits
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}
