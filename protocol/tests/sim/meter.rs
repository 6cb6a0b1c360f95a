//! What the sender costs: CPU time of the calls into it, and the memory that it keeps between them.

use std::time::Duration;

use peak_alloc::PeakAlloc;
use rustix::time::{ClockId, clock_gettime};

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// What the sender's calls took so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    /// CPU time of the calls. It is measured, so it differs from run to run; not part of what a seed determines.
    pub(crate) cpu: Duration,
    pub(crate) calls: u64,
    /// Most bytes that stayed allocated after a call, of all that calls allocated. Only right while no other
    /// thread of the process allocates: with one test in a process, as nextest runs them.
    pub(crate) peak: u64,
}

/// Measures calls when it is switched on.
#[derive(Debug)]
pub(crate) struct Meter {
    on: bool,
    kept: i128,
    spent: Spent,
}

impl Meter {
    pub(crate) fn new(on: bool) -> Self {
        Self {
            on,
            kept: 0,
            spent: Spent::default(),
        }
    }

    /// Runs a call into the sender.
    pub(crate) fn run<R>(&mut self, call: impl FnOnce() -> R) -> R {
        if !self.on {
            return call();
        }
        let (cpu, bytes) = (cpu_time(), allocated());
        let result = call();
        self.kept += allocated() - bytes;
        self.spent.cpu += cpu_time().saturating_sub(cpu);
        self.spent.calls += 1;
        self.spent.peak = self.spent.peak.max(u64::try_from(self.kept).unwrap_or(0));
        result
    }

    /// Runs what a driver does for the sender on another thread: what it allocates the sender will keep, the CPU time
    /// is not the sender's.
    pub(crate) fn keep<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let (before, result) = (allocated(), work());
        self.kept += allocated() - before;
        result
    }

    pub(crate) fn spent(&self) -> Spent {
        self.spent
    }
}

fn allocated() -> i128 {
    i128::try_from(ALLOCATED.current_usage()).unwrap()
}

fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap(),
        u32::try_from(now.tv_nsec).unwrap(),
    )
}
