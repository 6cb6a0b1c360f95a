//! Which bytes are still needed where: for every part the places in files that want it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::manifest::{Manifest, Segment};

/// A place that wants a part: the file's entry and the number of the part in that file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) entry: u32,
    pub(super) number: u32,
}

/// The places of all parts, and which of them are filled.
#[derive(Debug)]
pub(super) struct Places {
    /// Of part p: `items[starts[p]..starts[p + 1]]`.
    starts: Vec<u32>,
    items: Vec<Place>,
    filled: Vec<AtomicBool>,
    /// Places that an entry still waits for.
    waiting: Vec<AtomicU32>,
}

impl Places {
    /// The places of the files among `wanted` entries; those of others count as filled.
    pub(super) fn new(manifest: &Manifest, wanted: impl Fn(u32) -> bool) -> Self {
        let mut counts = vec![0u32; manifest.parts.len() + 1];
        let wanted_files = || manifest.files().filter(|(entry, _)| wanted(*entry));
        for (_, content) in wanted_files() {
            for part in content.parts().filter_map(|place| place.part) {
                counts[part as usize + 1] += 1;
            }
        }
        for index in 1..counts.len() {
            counts[index] += counts[index - 1];
        }
        let starts = counts.clone();
        let total = *starts.last().unwrap_or(&0) as usize;
        let mut items = vec![Place { entry: 0, number: 0 }; total];
        let waiting: Vec<_> = manifest.entries.iter().map(|_| AtomicU32::new(0)).collect();
        let mut next = counts;
        for (entry, content) in wanted_files() {
            for (number, place) in (0u32..).zip(content.parts()) {
                if let Some(part) = place.part {
                    items[next[part as usize] as usize] = Place { entry, number };
                    next[part as usize] += 1;
                    waiting[entry as usize].fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let filled = items.iter().map(|_| AtomicBool::new(false)).collect();
        Self {
            starts,
            items,
            filled,
            waiting,
        }
    }

    /// Takes the places of a part that nobody has filled yet; the caller fills them.
    pub(super) fn take(&self, part: u32) -> impl Iterator<Item = Place> {
        self.range(part)
            .filter(|&at| !self.filled[at].swap(true, Ordering::AcqRel))
            .map(|at| self.items[at])
    }

    /// Marks the place of a part as filled, as it was found to be; false when it was already.
    pub(super) fn found(&self, part: u32, place: Place) -> bool {
        let at = self.range(part).find(|&at| self.items[at] == place);
        at.is_some_and(|at| !self.filled[at].swap(true, Ordering::AcqRel))
    }

    /// Notes that one place of `entry` is filled; true for the last one.
    pub(super) fn done(&self, entry: u32) -> bool {
        self.waiting[entry as usize].fetch_sub(1, Ordering::AcqRel) == 1
    }

    /// Whether `entry` waits for parts.
    pub(super) fn is_waiting(&self, entry: u32) -> bool {
        self.waiting[entry as usize].load(Ordering::Acquire) > 0
    }

    /// Whether any place still wants a part.
    pub(super) fn wants(&self, part: u32) -> bool {
        self.range(part)
            .any(|at| !self.filled[at].load(Ordering::Acquire))
    }

    /// For each chunk, whether any of its parts is wanted.
    pub(super) fn missing_chunks(&self, manifest: &Manifest) -> Vec<bool> {
        let wanted = |segment: &Segment| matches!(*segment, Segment::Part(part) if self.wants(part));
        manifest
            .chunks
            .iter()
            .map(|chunk| chunk.segments.iter().any(wanted))
            .collect()
    }

    fn range(&self, part: u32) -> std::ops::Range<usize> {
        self.starts[part as usize] as usize..self.starts[part as usize + 1] as usize
    }
}
