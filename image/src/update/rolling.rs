//! Rolling-checksum deltas for files that somebody changed on a node: only the node has the old content, only the
//! server the new one.
//!
//! The node sends the signature of its file, the server answers with deltas of the parts that the node lacks. A delta is
//! asked for only where that spares chunks which nothing else needs.

use std::collections::BTreeSet;

use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use super::{Update, UpdateError};
use crate::apply::Worker;
use crate::delta::{DeltaError, ReadAt, Signature, WORTHWHILE_BYTES, apply_part, encode_part, signature};
use crate::manifest::{FileContent, Kind, Manifest, Segment};
use crate::store::{ContentReader, PartIndex, Store};

/// Larger files go by their parts: one that was changed costs 4 MiB at most, and a signature of such a file as much.
pub const ROLLING_BYTES: u64 = 1 << 30;

/// A file for which a delta is likely to be cheaper than chunks.
#[derive(Debug)]
pub struct Candidate {
    /// Its entry.
    pub entry: u32,
    /// The signature of what stands at its path now.
    pub signature: Signature,
    /// The numbers of the parts that are wanted.
    pub parts: Vec<u32>,
    /// Stored bytes of the chunks that need not be fetched if all parts come as deltas.
    pub spares: u64,
    basis: std::fs::File,
}

impl Update<'_> {
    /// The files for which a delta is likely to be cheaper than the chunks that hold their parts.
    ///
    /// # Errors
    /// [`UpdateError::Fs`] when the tree cannot be read.
    pub fn rolling_candidates(&self) -> Result<Vec<Candidate>, UpdateError> {
        let manifest = self.plan().manifest;
        let altered = self.altered();
        let wanted_by_altered: BTreeSet<u32> = altered
            .iter()
            .flat_map(|&entry| self.wanted_parts(entry))
            .map(|(_, part)| part)
            .collect();
        // What a chunk costs counts only when nothing but altered files needs it.
        let mut cost_of_part = std::collections::BTreeMap::new();
        for chunk in &manifest.chunks {
            let wanted: Vec<u32> = chunk
                .segments
                .iter()
                .filter_map(|segment| match *segment {
                    Segment::Part(part) if self.writer().wants(part) => Some(part),
                    _ => None,
                })
                .collect();
            if wanted.iter().all(|part| wanted_by_altered.contains(part)) {
                let share = u64::from(chunk.handle.stored_len) / (wanted.len().max(1) as u64);
                cost_of_part.extend(wanted.into_iter().map(|part| (part, share)));
            }
        }
        let mut candidates = Vec::new();
        for entry in altered {
            let parts: Vec<_> = self.wanted_parts(entry).collect();
            let spares = parts.iter().filter_map(|(_, part)| cost_of_part.get(part)).sum();
            let (basis, stat) = self.basis(entry)?;
            let sized = (WORTHWHILE_BYTES..=ROLLING_BYTES).contains(&stat.size);
            if !sized || Signature::encoded_bytes(stat.size).is_ok_and(|bytes| bytes as u64 * 2 > spares) {
                continue;
            }
            // A file that changes or shrinks just now goes by chunks.
            if let Ok(signature) = signature(&basis, stat.size) {
                let parts = parts.into_iter().map(|(number, _)| number).collect();
                candidates.push(Candidate {
                    entry,
                    signature,
                    parts,
                    spares,
                    basis,
                });
            }
        }
        Ok(candidates)
    }

    /// Applies one delta that the server sent for a candidate. False when it does not give the wanted bytes, as when the
    /// file was changed meanwhile: then the part comes in its chunk.
    ///
    /// # Errors
    /// [`UpdateError::Apply`] when the part cannot be written.
    pub fn take_delta(
        &self,
        worker: &mut Worker,
        candidate: &Candidate,
        number: u32,
        delta: &[u8],
    ) -> Result<bool, UpdateError> {
        let Some(place) = content(self.plan().manifest, candidate.entry)
            .and_then(|content| content.part_at(u64::from(number) * PART_BYTES as u64))
        else {
            return Ok(false);
        };
        let Some(part) = place.part else { return Ok(false) };
        match apply_part(&candidate.basis, place.len, delta) {
            Ok(bytes) if PartId::of(&bytes) == self.plan().manifest.parts[part as usize].id => {
                self.writer().part(worker, part, &bytes)?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// The parts of a file that are still wanted: number in the file, and index.
    fn wanted_parts(&self, entry: u32) -> impl Iterator<Item = (u32, u32)> {
        let parts = content(self.plan().manifest, entry)
            .into_iter()
            .flat_map(FileContent::parts);
        (0u32..)
            .zip(parts)
            .filter_map(|(number, place)| Some((number, place.part?)))
            .filter(|&(_, part)| self.writer().wants(part))
    }
}

/// The server's side: hands the deltas of the wanted parts of `entry` to `emit`, with their numbers, against the node's
/// signature. Parts for which a delta does not pay are left out.
///
/// # Errors
/// [`DeltaError`] when the store cannot be read; what `emit` returned false for ends it early.
pub fn rolling_deltas(
    store: &Store,
    manifest: &Manifest,
    index: &PartIndex,
    entry: u32,
    signature: &Signature,
    parts: &[u32],
    mut emit: impl FnMut(u32, Vec<u8>) -> bool,
) -> Result<(), DeltaError> {
    let Some(content) = content(manifest, entry) else {
        return Ok(());
    };
    let reader = ContentReader::new(store, manifest, index, content);
    let mut buffer = vec![0; PART_BYTES];
    for &number in parts {
        let Some(place) = content.part_at(u64::from(number) * PART_BYTES as u64) else {
            continue;
        };
        let bytes = &mut buffer[..place.len as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let offset = place.offset + filled as u64;
            match reader.read_at(&mut bytes[filled..], offset) {
                Ok(0) => return Err(DeltaError::NewShort((bytes.len() - filled) as u64)),
                Ok(read) => filled += read,
                Err(error) => return Err(DeltaError::ReadNew(error)),
            }
        }
        if let Some(delta) = encode_part(signature, bytes)
            && !emit(number, delta)
        {
            break;
        }
    }
    Ok(())
}

fn content(manifest: &Manifest, entry: u32) -> Option<&FileContent> {
    match &manifest.entries.get(entry as usize)?.kind {
        Kind::File(content) => Some(content),
        _ => None,
    }
}
