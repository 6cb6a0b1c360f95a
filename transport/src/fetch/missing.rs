//! Which chunks are missing, and who is fetching them.
//!
//! ```text
//! Missing ── claim ──> Claimed ── arrived ──> Here
//!    ^                    │  └─── fail ─────> Failed ── arrived ──> Here
//!    └────── drop ────────┘
//! ```
//! `arrived` leads to `Here` from every state: what has come has come, whoever was to fetch it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use simulcast_protocol::limits::CHUNKS;

/// How long a chunk that multicast is about to deliver is left to it: decoding and checking take milliseconds, waiting
/// for a full queue some more.
const EXPECTED: Duration = Duration::from_secs(2);

/// Chunks that transports without claims are expected to deliver at a time; more are forgotten, which costs at most a
/// chunk that comes twice.
const EXPECTATIONS: usize = 1024;

/// What may be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only chunks that multicast has given up.
    GivenUp,
    /// All that are missing, the last ones first: multicast is bringing the first.
    FromEnd,
    /// All that are missing, in the order of the version.
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
    given_up: VecDeque<u32>,
    /// Nothing before `low` and nothing from `high` on is missing and unclaimed.
    low: usize,
    high: usize,
    expected: BTreeMap<u32, Instant>,
    stopped: bool,
}

impl Missing {
    /// The chunks for which `missing` says so. Nothing may be claimed until a [`Scope`] is opened.
    pub(super) fn new(missing: &[bool]) -> Self {
        assert!(missing.len() <= CHUNKS, "a version has at most 2^20 chunks");
        let state = |&missing: &bool| if missing { State::Missing } else { State::Here };
        let states: Vec<_> = missing.iter().map(state).collect();
        let left = states.iter().filter(|&&state| state == State::Missing).count();
        Self {
            inner: Mutex::new(Inner {
                left: u32::try_from(left).expect("at most 2^20"),
                scope: Scope::GivenUp,
                given_up: VecDeque::new(),
                low: 0,
                high: states.len(),
                expected: BTreeMap::new(),
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

    /// Whether the chunk has not come.
    pub fn is_missing(&self, index: u32) -> bool {
        self.lock().state(index).is_some_and(|state| state != State::Here)
    }

    /// The chunks that have not come, rising.
    pub fn indexes(&self) -> Vec<u32> {
        let inner = self.lock();
        let states = (0u32..).zip(&inner.states);
        states
            .filter(|(_, state)| **state != State::Here)
            .map(|(index, _)| index)
            .collect()
    }

    /// Sets what may be claimed from now on.
    pub fn open(&self, scope: Scope) {
        self.lock().scope = scope;
        self.changed.notify_all();
    }

    /// Multicast will not bring this chunk: it may be claimed whatever the scope.
    pub fn give_up(&self, index: u32) {
        let mut inner = self.lock();
        if inner.state(index) == Some(State::Missing) {
            inner.given_up.push_back(index);
            self.changed.notify_one();
        }
    }

    /// A chunk to fetch; waits until there is one. `None` when nothing is missing any more or the receiver gave up.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let mut inner = self.lock();
        loop {
            if inner.left == 0 || inner.stopped {
                return None;
            }
            let now = Instant::now();
            if let Some(index) = inner.next(now) {
                inner.states[index as usize] = State::Claimed;
                return Some(Claim { missing: self, index });
            }
            let wait = match inner.expected.values().min() {
                Some(&until) => until.saturating_duration_since(now).max(Duration::from_millis(1)),
                None => EXPECTED,
            };
            inner = self
                .changed
                .wait_timeout(inner, wait)
                .expect("no holder panics")
                .0;
        }
    }

    /// Waits until nothing more can come or the receiver gave up, at most for `limit`; whether it is so.
    pub fn wait_over(&self, limit: Duration) -> bool {
        let inner = self.lock();
        let going_on = |inner: &mut Inner| inner.left > 0 && !inner.stopped;
        let waited = self.changed.wait_timeout_while(inner, limit, going_on);
        !waited.expect("no holder panics").1.timed_out()
    }

    /// Whether the chunk is lacking; if so, it is left to whoever asks for a moment.
    pub(super) fn expect(&self, index: u32) -> bool {
        let mut inner = self.lock();
        let lacking = !inner.stopped && inner.state(index).is_some_and(|state| state != State::Here);
        if lacking {
            if inner.expected.len() >= EXPECTATIONS {
                inner.expected.pop_first();
            }
            inner.expected.insert(index, Instant::now() + EXPECTED);
        }
        lacking
    }

    /// Notes that a chunk has come; true the first time, never after [`stop`](Self::stop).
    pub(super) fn arrived(&self, index: u32) -> bool {
        let mut inner = self.lock();
        let lacking = !inner.stopped && inner.state(index).is_some_and(|state| state != State::Here);
        if lacking {
            if inner.states[index as usize] != State::Failed {
                inner.left -= 1;
            }
            inner.states[index as usize] = State::Here;
            inner.expected.remove(&index);
            if inner.left == 0 {
                self.changed.notify_all();
            }
        }
        lacking
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
    fn state(&self, index: u32) -> Option<State> {
        self.states.get(index as usize).copied()
    }

    /// The chunk that should be claimed next.
    fn next(&mut self, now: Instant) -> Option<u32> {
        while let Some(index) = self.given_up.pop_front() {
            if self.state(index) == Some(State::Missing) {
                return Some(index);
            }
        }
        self.expected.retain(|_, until| *until > now);
        while self.low < self.high && self.states[self.low] != State::Missing {
            self.low += 1;
        }
        while self.low < self.high && self.states[self.high - 1] != State::Missing {
            self.high -= 1;
        }
        let free = |&index: &usize| {
            let expected = u32::try_from(index).is_ok_and(|index| self.expected.contains_key(&index));
            self.states[index] == State::Missing && !expected
        };
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
