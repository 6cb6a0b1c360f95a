//! Waiting for a socket, another thread or a deadline, whichever comes first.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use simulcast_protocol::multicast::Time;

/// Longest wait: how late a [`Cancel`] may be noticed.
const LONGEST: Duration = Duration::from_millis(100);

/// Asks a session to end; clones ask the same session.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks. The session ends within about a tenth of a second.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The protocol's time, counted from when this was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn now(&self) -> Time {
        Time::from_start(self.0.elapsed())
    }
}

/// Wakes a thread that waits for a socket.
#[derive(Debug)]
pub(crate) struct Waker(OwnedFd);

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(crate) fn wake(&self) {
        // It fails only when 2^64 wake-ups are pending, and then the thread wakes anyway.
        _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Waits until something can be read from `socket`, someone calls [`wake`](Self::wake), or `deadline`.
    pub(super) fn wait(&self, socket: impl AsFd, clock: &Clock, deadline: Option<Time>) -> io::Result<()> {
        let wait = deadline.map_or(LONGEST, |at| at.since(clock.now()).min(LONGEST));
        let timeout = Timespec::try_from(wait).ok();
        let mut fds = [
            PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
            PollFd::new(&self.0, PollFlags::IN),
        ];
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[1].revents().contains(PollFlags::IN) {
            self.clear();
        }
        Ok(())
    }

    /// Takes note of all wake-ups so far.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read means that nobody woke us after all.
        _ = rustix::io::read(&self.0, &mut count);
    }
}
