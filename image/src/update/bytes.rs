//! Where the bytes of a plan's new files come from.

use serde::Serialize;

use super::plan::{Action, Plan};
use super::rolling::ROLLING_BYTES;
use crate::delta::WORTHWHILE_BYTES;
use crate::manifest::{Kind, Segment};

/// Bytes by source, as far as a plan knows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BytesBySource {
    /// Of content, that this tree has somewhere.
    pub local: u64,
    /// Of chunks as stored, that are to be fetched when nothing cheaper is found.
    pub chunks: u64,
    /// How many chunks these are.
    pub chunk_count: u64,
    /// Of those, what is needed only by files that were changed on this machine: a rolling delta may do for it.
    pub rolling: u64,
}

impl Plan<'_> {
    /// Bytes by source.
    pub fn bytes_by_source(&self) -> BytesBySource {
        let manifest = self.manifest;
        let mut altered = vec![false; manifest.entries.len()];
        for &index in &self.altered {
            altered[index as usize] = true;
        }
        // Of each part: whether it is wanted, and whether by more than files that were changed here.
        let mut wanted = vec![(false, false); manifest.parts.len()];
        let mut bytes = BytesBySource {
            local: self.summary().local_bytes,
            ..BytesBySource::default()
        };
        for (index, action) in self.actions() {
            let Kind::File(content) = &manifest.entries[index as usize].kind else {
                continue;
            };
            if action != Action::Write {
                continue;
            }
            let rolls =
                altered[index as usize] && (WORTHWHILE_BYTES..=ROLLING_BYTES).contains(&content.size());
            for part in content.parts().filter_map(|place| place.part) {
                if !self.sources.has(part) {
                    let wanted = &mut wanted[part as usize];
                    *wanted = (true, wanted.1 || !rolls);
                }
            }
        }
        for chunk in &manifest.chunks {
            let parts = chunk.segments.iter().filter_map(|segment| match *segment {
                Segment::Part(part) => Some(wanted[part as usize]),
                Segment::Dead(_) => None,
            });
            let (needed, otherwise) =
                parts.fold((false, false), |all, part| (all.0 || part.0, all.1 || part.1));
            if needed {
                let stored = u64::from(chunk.handle.stored_len);
                bytes.chunks += stored;
                bytes.chunk_count += 1;
                bytes.rolling += if otherwise { 0 } else { stored };
            }
        }
        bytes
    }
}
