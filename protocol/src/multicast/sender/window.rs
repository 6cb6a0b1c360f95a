//! The chunks that are being sent, symbol by symbol in turn, and those that are next (protocol.md 8.4).

use std::collections::VecDeque;

use super::store::{Store, Wanted};
use super::wants::{Turn, Wants};
use crate::multicast::limits::{LOADS, WINDOW_BYTES, WINDOW_CHUNKS, WINDOW_REPAIRS};
use crate::multicast::packet::Plan;
use crate::multicast::table::Geometry;

/// A chunk whose symbols are being sent.
#[derive(Debug, Clone, Copy)]
struct Job {
    chunk: u32,
    next: u16,
    left: u16,
    count: u16,
    repair: bool,
    again: bool,
}

/// One symbol to be sent now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pick {
    pub(super) chunk: u32,
    pub(super) symbol: u16,
    /// Whether it is the last of its chunk for now.
    pub(super) last: bool,
    /// Whether it is a source symbol that was sent before.
    pub(super) again: bool,
}

#[derive(Debug, Default)]
pub(super) struct Window {
    repairs: VecDeque<u32>,
    wholes: VecDeque<u32>,
    jobs: VecDeque<Job>,
    /// The whole chunk that began last.
    youngest: Option<u32>,
    bytes: u64,
}

impl Window {
    /// Whether one more repair can be staged.
    pub(super) fn takes_repair(&self) -> bool {
        self.repairs.len() < LOADS
    }

    /// Whether one more whole chunk can be staged.
    pub(super) fn takes_whole(&self) -> bool {
        self.wholes.len() < LOADS
    }

    /// Puts a chunk among the next ones and has it loaded.
    pub(super) fn stage(&mut self, store: &mut Store, wanted: Wanted, repair: bool) {
        store.pin(wanted);
        if repair {
            self.repairs.push_back(wanted.index)
        } else {
            self.wholes.push_back(wanted.index)
        }
    }

    /// Whether a staged chunk might find a place now, `depth` whole chunks at most being sent at a time.
    pub(super) fn has_place(&self, depth: usize) -> bool {
        self.jobs.len() < WINDOW_CHUNKS
            && (!self.repairs.is_empty() || !self.wholes.is_empty() && self.may_begin(depth))
    }

    /// Moves chunks that are loaded into the window while there are places.
    pub(super) fn fill(&mut self, store: &Store, wants: &mut Wants, geometry: &Geometry, depth: usize) {
        while self.jobs.len() < WINDOW_CHUNKS {
            let repairing = self.jobs.iter().filter(|job| job.repair).count();
            let others = !self.wholes.is_empty() || wants.any_whole();
            let may_repair = repairing < if others { WINDOW_REPAIRS } else { WINDOW_CHUNKS };
            let room = WINDOW_BYTES.saturating_sub(self.bytes);
            let empty = self.jobs.is_empty();
            let fits = |chunk: u32| {
                let bytes = u64::try_from(geometry.chunk_bytes(chunk)).unwrap_or(u64::MAX);
                (bytes <= room || empty) && store.ready(chunk, wants.needs_parity(chunk))
            };
            let next_repair = if may_repair {
                self.repairs.iter().position(|&chunk| fits(chunk))
            } else {
                None
            };
            let next = match next_repair {
                Some(at) => self.repairs.remove(at).map(|chunk| (chunk, true)),
                None if !self.may_begin(depth) => return,
                None => {
                    let at = self.wholes.iter().position(|&chunk| fits(chunk));
                    at.and_then(|at| self.wholes.remove(at))
                        .map(|chunk| (chunk, false))
                }
            };
            let Some((chunk, repair)) = next else { return };
            let Turn { first, count, again } = wants.activate(chunk, geometry.source_symbols(chunk));
            if !repair {
                self.youngest = Some(chunk);
            }
            self.jobs.push_back(Job {
                chunk,
                next: first,
                count,
                left: count,
                repair,
                again,
            });
            self.bytes += u64::try_from(geometry.chunk_bytes(chunk)).unwrap_or(0);
        }
    }

    /// Whether another whole chunk may begin: when fewer than `depth` are being sent, and as large a part of the youngest is
    /// on its way. So chunks of equal length end one after the other, and receivers need not check and write all of them at
    /// once.
    fn may_begin(&self, depth: usize) -> bool {
        let wholes = self.jobs.iter().filter(|job| !job.repair).count();
        let youngest = self.jobs.iter().find(|job| Some(job.chunk) == self.youngest);
        let on_its_way =
            |job: &Job| u64::from(job.count - job.left) * u64_from(depth) >= u64::from(job.count);
        wholes < depth && youngest.is_none_or(on_its_way)
    }

    /// The next symbol, of another chunk each time.
    pub(super) fn next(&mut self, geometry: &Geometry) -> Option<Pick> {
        let mut job = self.jobs.pop_front()?;
        let pick = Pick {
            chunk: job.chunk,
            symbol: job.next,
            last: job.left == 1,
            again: job.again,
        };
        if pick.last {
            self.bytes -= u64::try_from(geometry.chunk_bytes(job.chunk)).unwrap_or(0);
        } else {
            job.next += 1;
            job.left -= 1;
            self.jobs.push_back(job);
        }
        Some(pick)
    }

    /// Whether nothing is being sent or about to be.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.repairs.is_empty() && self.wholes.is_empty()
    }

    /// Whether a symbol can be sent now.
    pub(super) fn can_send(&self) -> bool {
        !self.jobs.is_empty()
    }

    /// Chunks that are next, but not yet being sent.
    pub(super) fn staged(&self) -> impl Iterator<Item = u32> + '_ {
        self.repairs.iter().chain(&self.wholes).copied()
    }

    /// Chunks in work, being sent or next.
    pub(super) fn count(&self) -> usize {
        self.jobs.len() + self.repairs.len() + self.wholes.len()
    }

    /// Takes all chunks out, those being sent included, and names them.
    pub(super) fn clear(&mut self) -> Vec<u32> {
        let all = self
            .staged()
            .chain(self.jobs.iter().map(|job| job.chunk))
            .collect();
        *self = Self::default();
        all
    }

    /// Takes one chunk out that cannot be loaded.
    pub(super) fn remove(&mut self, chunk: u32, geometry: &Geometry) {
        self.repairs.retain(|&staged| staged != chunk);
        self.wholes.retain(|&staged| staged != chunk);
        let before = self.jobs.len();
        self.jobs.retain(|job| job.chunk != chunk);
        if self.jobs.len() < before {
            self.bytes -= u64_from(geometry.chunk_bytes(chunk));
        }
    }

    /// What is still to be sent of the chunks in the window.
    pub(super) fn plans(&self) -> impl Iterator<Item = Plan> + '_ {
        self.jobs.iter().map(|job| Plan {
            chunk: job.chunk,
            symbols: job.left,
        })
    }
}

fn u64_from(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
