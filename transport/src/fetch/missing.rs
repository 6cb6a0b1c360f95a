//! Which chunks are missing, and who is fetching them.
//!
//! ```text
//! Missing ── claim ──> Claimed ── arrived ──> Here
//!    ^                    │  └─── fail ─────> Failed ── arrived ──> Here
//!    └────── drop ────────┘
//! ```
//! `arrived` leads to `Here` from every state: what has come has come, whoever was to fetch it. Only HTTP claims; what
//! multicast brings next is not known exactly, but it goes through the version in rising order, some chunks at a time,
//! so what lies just before its front is left to it.

use std::collections::BTreeSet;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use simulcast_protocol::limits::CHUNKS;
use simulcast_protocol::multicast::ChunkSet;
use simulcast_protocol::multicast::limits::WINDOW_CHUNKS;

/// Chunks before the front of multicast that are left to it: those that are being sent, and those after them.
const LEFT_TO_MULTICAST: usize = 2 * WINDOW_CHUNKS;

/// How long they are left to it when nothing more comes.
const PATIENCE: Duration = Duration::from_secs(2);

/// What may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only what multicast gave up: it brings everything else.
    GivenUp,
    /// All that is missing, the last chunks first: multicast is bringing the first.
    FromEnd,
    /// All that is missing, in the order of the version.
    All,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Here,
    Missing,
    Claimed,
    Failed,
}

/// The missing set of one receiver, shared by all its threads.
#[derive(Debug)]
pub struct Missing {
    inner: Mutex<Inner>,
    changed: Condvar,
}

/// The right and duty to fetch one chunk. Dropped, the chunk is free for others again.
#[derive(Debug)]
pub struct Claim<'m> {
    missing: &'m Missing,
    index: u32,
}

#[derive(Debug)]
struct Inner {
    states: Vec<State>,
    /// How many are missing or claimed.
    left: u32,
    scope: Scope,
    /// Nothing before `low` and nothing from `high` on is missing and unclaimed.
    low: usize,
    high: usize,
    /// Chunks that multicast will not bring.
    given_up: BTreeSet<usize>,
    /// The chunk that multicast brought last, and when.
    front: Option<(usize, Instant)>,
    stopped: bool,
}

impl Missing {
    /// The chunks for which `missing` says so. Nothing may be claimed until a [`Scope`] is opened or multicast gives up
    /// a chunk.
    pub(super) fn new(missing: &[bool]) -> Self {
        assert!(missing.len() <= CHUNKS, "a version has at most 2^20 chunks");
        let state = |&missing: &bool| if missing { State::Missing } else { State::Here };
        let states: Vec<_> = missing.iter().map(state).collect();
        let left = states.iter().filter(|&&state| state == State::Missing).count();
        Self {
            inner: Mutex::new(Inner {
                left: u32::try_from(left).expect("at most 2^20"),
                scope: Scope::GivenUp,
                given_up: BTreeSet::new(),
                low: 0,
                high: states.len(),
                front: None,
                stopped: false,
                states,
            }),
            changed: Condvar::new(),
        }
    }

    /// How many chunks are missing and may still come.
    pub fn left(&self) -> u32 {
        self.lock().left
    }

    /// Whether nothing more can come, or the receiver gave up.
    pub fn is_over(&self) -> bool {
        let inner = self.lock();
        inner.left == 0 || inner.stopped
    }

    /// Whether the receiver gave up.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Whether the chunk has not come, and would be taken.
    pub fn is_missing(&self, index: u32) -> bool {
        let inner = self.lock();
        !inner.stopped && inner.lacks(index)
    }

    /// The chunks that have not come.
    pub fn set(&self) -> ChunkSet {
        let inner = self.lock();
        let size = u32::try_from(inner.states.len()).expect("at most 2^20");
        let mut set = ChunkSet::empty(size);
        for index in (0..size).filter(|&index| inner.lacks(index)) {
            set.insert(index);
        }
        set
    }

    /// Notes that multicast will not bring a chunk: it may be claimed whatever the scope.
    pub(super) fn gave_up(&self, index: u32) {
        let mut inner = self.lock();
        if inner.lacks(index) && inner.given_up.insert(index as usize) {
            self.changed.notify_all();
        }
    }

    /// Waits until there is something to claim, or would be if nobody had claimed it; with `opened`, until a scope was
    /// opened. False when nothing is missing any more or the receiver gave up.
    pub(super) fn wait_for_work(&self, opened: bool) -> bool {
        let idle = |inner: &mut Inner| {
            let work = inner.scope != Scope::GivenUp || !opened && !inner.given_up.is_empty();
            !work && inner.left > 0 && !inner.stopped
        };
        let inner = self
            .changed
            .wait_while(self.lock(), idle)
            .expect("no holder panics");
        inner.left > 0 && !inner.stopped
    }

    /// Whether more may be claimed than what multicast gave up.
    pub(super) fn is_open(&self) -> bool {
        self.lock().scope != Scope::GivenUp
    }

    /// Sets what may be claimed from now on.
    pub fn open(&self, scope: Scope) {
        self.lock().scope = scope;
        self.changed.notify_all();
    }

    /// A chunk to fetch; waits until there is one. `None` when nothing is missing any more or the receiver gave up.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let mut inner = self.lock();
        loop {
            if inner.left == 0 || inner.stopped {
                return None;
            }
            if let Some(index) = inner.next(Instant::now()) {
                inner.states[index as usize] = State::Claimed;
                return Some(Claim { missing: self, index });
            }
            inner = self
                .changed
                .wait_timeout(inner, PATIENCE)
                .expect("no holder panics")
                .0;
        }
    }

    /// Waits until nothing more can come or the receiver gave up, at most for `limit`; whether it is so.
    pub fn wait_over(&self, limit: Duration) -> bool {
        let going_on = |inner: &mut Inner| inner.left > 0 && !inner.stopped;
        let waited = self.changed.wait_timeout_while(self.lock(), limit, going_on);
        !waited.expect("no holder panics").1.timed_out()
    }

    /// Notes that a chunk has come; true the first time, never after [`stop`](Self::stop).
    pub(super) fn arrived(&self, index: u32, by_multicast: bool) -> bool {
        let mut inner = self.lock();
        if by_multicast {
            inner.front = Some((index as usize, Instant::now()));
        }
        let taken = !inner.stopped && inner.lacks(index);
        if taken {
            if inner.states[index as usize] != State::Failed {
                inner.left -= 1;
            }
            inner.states[index as usize] = State::Here;
            if inner.left == 0 {
                self.changed.notify_all();
            }
        }
        taken
    }

    pub(super) fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("no holder panics")
    }
}

impl Inner {
    fn lacks(&self, index: u32) -> bool {
        self.states
            .get(index as usize)
            .is_some_and(|&state| state != State::Here)
    }

    /// The chunk that should be claimed next.
    fn next(&mut self, now: Instant) -> Option<u32> {
        while self.low < self.high && self.states[self.low] != State::Missing {
            self.low += 1;
        }
        while self.low < self.high && self.states[self.high - 1] != State::Missing {
            self.high -= 1;
        }
        // Claimed ones are few, and may be given back.
        let unclaimed = |index: &&usize| self.states[**index] != State::Claimed;
        while let Some(&index) = self.given_up.iter().find(unclaimed) {
            if self.states[index] == State::Missing {
                return u32::try_from(index).ok();
            }
            self.given_up.remove(&index);
        }
        let coming = match self.front {
            Some((front, at)) if now.saturating_duration_since(at) < PATIENCE => {
                front..front + LEFT_TO_MULTICAST
            }
            _ => 0..0,
        };
        let free = |&index: &usize| self.states[index] == State::Missing && !coming.contains(&index);
        let found = match self.scope {
            Scope::GivenUp => None,
            Scope::All => (self.low..self.high).find(free),
            Scope::FromEnd => (self.low..self.high).rev().find(free),
        };
        found.and_then(|index| u32::try_from(index).ok())
    }
}

impl Claim<'_> {
    /// Which chunk.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Nobody else need try: the chunk cannot be had. It is still taken if it comes.
    pub(super) fn fail(self) {
        let mut inner = self.missing.lock();
        if inner.states[self.index as usize] == State::Claimed {
            inner.states[self.index as usize] = State::Failed;
            inner.left -= 1;
            if inner.left == 0 {
                self.missing.changed.notify_all();
            }
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut inner = self.missing.lock();
        let index = self.index as usize;
        if inner.states[index] == State::Claimed {
            inner.states[index] = State::Missing;
            inner.low = inner.low.min(index);
            inner.high = inner.high.max(index + 1);
            self.missing.changed.notify_one();
        }
    }
}
