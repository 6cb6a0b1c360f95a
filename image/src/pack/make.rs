//! Making a pack: for each part that an old version lacks, the cheapest of its record whole, as a difference to what it most likely
//! came from, or the chunk of the new version that holds it.
//!
//! Several threads work on one chunk of the new version each; what they find is put into chunks in the version's order, so the
//! same versions give the same pack. A thread holds some chunks of each version, 16 MiB of old content and a chunk's
//! records.

use std::collections::{BTreeMap, HashSet};

use crossbeam_channel::{Receiver, Sender, bounded};
use simulcast_protocol::id::{ManifestId, PartId};
use simulcast_protocol::limits::{PACK_BASIS_BYTES, PACK_SOURCES};

use super::basis::Names;
use super::draft::{Draft, Found, Piece, PieceKind};
use super::{SignedPack, difference};
use crate::delta::{Signature, WORTHWHILE_BYTES, encode_part, signature};
use crate::manifest::{FileContent, Kind, Manifest, Segment, SignedManifest};
use crate::store::{ChunkStore, ContentReader, PartIndex, PartReader, Store, StoreError};
use crate::update::ROLLING_BYTES;

/// Chunks that a thread may be ahead of the one that is put in next.
const AHEAD_PER_THREAD: usize = 2;

/// Shorter parts go whole: a frame alone takes a dozen bytes, and its record as many in the list.
const WORTH_A_DIFFERENCE: u32 = 100;

/// Makes the pack that leads from any of the versions `from` to `to`, keeps it in the store, and returns it.
///
/// # Errors
/// [`StoreError`]; then there is no pack, and chunks that were written are removed by the next collection.
///
/// # Panics
/// When `from` is empty or has more than [`PACK_SOURCES`] versions.
pub fn make(
    store: &Store,
    from: &[&SignedManifest],
    to: &SignedManifest,
    threads: usize,
) -> Result<SignedPack, StoreError> {
    assert!(
        (1..=PACK_SOURCES).contains(&from.len()),
        "a pack serves 1 to {PACK_SOURCES} versions"
    );
    let _lock = store.lock_for_writing()?;
    let job = Job::new(store, from, &to.manifest);
    let mut sources: Vec<ManifestId> = from.iter().map(|version| version.id).collect();
    sources.sort_unstable();
    sources.dedup();
    let mut draft = Draft::new(store, sources, to.id);
    job.run(threads.max(1), &mut draft)?;
    let pack = draft.finish()?;
    store.chunks().commit()?;
    store.save_pack(pack)
}

/// What is known of the versions before anything is read.
struct Job<'a> {
    store: &'a Store,
    to: &'a Manifest,
    places: PartIndex,
    /// For each part the first file that needs it, and where in it.
    uses: Vec<(u32, u64)>,
    sources: Vec<Source<'a>>,
}

/// An old version.
struct Source<'a> {
    manifest: &'a Manifest,
    places: PartIndex,
    names: Names,
    /// For each part of the new version, whether this one lacks it.
    lacks: Vec<bool>,
}

impl<'a> Job<'a> {
    fn new(store: &'a Store, from: &[&'a SignedManifest], to: &'a Manifest) -> Self {
        let mut uses = vec![(0, 0); to.parts.len()];
        let mut used = vec![false; to.parts.len()];
        for (entry, content) in to.files() {
            for place in content.parts() {
                if let Some(part) = place.part
                    && !std::mem::replace(&mut used[part as usize], true)
                {
                    uses[part as usize] = (entry, place.offset);
                }
            }
        }
        let source = |version: &&'a SignedManifest| {
            let manifest = &version.manifest;
            let there: HashSet<PartId> = manifest.parts.iter().map(|part| part.id).collect();
            Source {
                manifest,
                places: PartIndex::new(manifest),
                names: Names::new(manifest),
                lacks: to.parts.iter().map(|part| !there.contains(&part.id)).collect(),
            }
        };
        Self {
            store,
            to,
            places: PartIndex::new(to),
            uses,
            sources: from.iter().map(source).collect(),
        }
    }

    /// Has `threads` threads look at all chunks, and gives what they find to `draft` in order.
    fn run(&self, threads: usize, draft: &mut Draft<'_>) -> Result<(), StoreError> {
        let count = u32::try_from(self.to.chunks.len()).expect("chunks are bounded");
        let ahead = u32::try_from(threads * AHEAD_PER_THREAD).unwrap_or(u32::MAX);
        let (give, jobs) = bounded::<u32>(threads * AHEAD_PER_THREAD);
        let (done, found) = bounded(threads * AHEAD_PER_THREAD);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                let (jobs, done) = (jobs.clone(), done.clone());
                scope.spawn(move || self.work(&jobs, &done));
            }
            drop((jobs, done));
            // Dropped at the end, however it comes: threads that wait for a job, or for somebody to take what they found, end.
            let (give, found) = (give, found);
            let (mut given, mut waiting) = (0, BTreeMap::new());
            for next in 0..count {
                while given < count && given - next < ahead {
                    give.send(given)
                        .expect("threads take jobs until there are no more");
                    given += 1;
                }
                let mut this = waiting.remove(&next);
                while this.is_none() {
                    let (index, result) = found.recv().expect("each job is answered");
                    if index == next {
                        this = Some(result);
                    } else {
                        waiting.insert(index, result);
                    }
                }
                draft.take(next, this.expect("it was just found")?)?;
            }
            Ok(())
        })
    }

    fn work(&self, jobs: &Receiver<u32>, done: &Sender<(u32, Result<Found, StoreError>)>) {
        let mut worker = Worker {
            job: self,
            new: PartReader::new(self.store, self.to, &self.places),
            old: self
                .sources
                .iter()
                .map(|source| PartReader::new(self.store, source.manifest, &source.places))
                .collect(),
            prefix: Vec::new(),
            signed: None,
        };
        for index in jobs {
            // Nobody takes it any more when something else failed.
            if done.send((index, worker.chunk(index))).is_err() {
                return;
            }
        }
    }
}

/// What one thread needs.
struct Worker<'a> {
    job: &'a Job<'a>,
    new: PartReader<'a>,
    old: Vec<PartReader<'a>>,
    prefix: Vec<u8>,
    /// The signature of the old content that was used last, by source and entry: a large file's parts follow each other.
    signed: Option<((usize, u32), Option<Signature>)>,
}

impl Worker<'_> {
    fn chunk(&mut self, index: u32) -> Result<Found, StoreError> {
        let chunk = &self.job.to.chunks[index as usize];
        let (stored, raw) = (
            u64::from(chunk.handle.stored_len),
            u64::from(chunk.handle.raw_len),
        );
        let (mut pieces, mut cost) = (Vec::new(), 0);
        for segment in &chunk.segments {
            let Segment::Part(part) = *segment else { continue };
            if !self.job.sources.iter().any(|source| source.lacks[part as usize]) {
                continue;
            }
            // What the part takes among its neighbours, compressed with them.
            let len = self.job.to.parts[part as usize].len;
            let whole = (stored * u64::from(len)).div_ceil(raw);
            let differences = self.differences(part)?;
            let bytes = |pieces: &[Piece]| pieces.iter().map(|piece| piece.bytes.len() as u64).sum::<u64>();
            match differences {
                Some(differences) if bytes(&differences) < whole => {
                    cost += bytes(&differences);
                    pieces.extend(differences);
                }
                _ => {
                    cost += whole;
                    pieces.push(Piece {
                        part,
                        kind: PieceKind::Whole,
                        bytes: self.new.part(part)?.to_vec(),
                    });
                }
            }
        }
        Ok(if pieces.is_empty() {
            Found::Nothing
        } else if cost * 20 >= stored * 19 {
            Found::Borrowed
        } else {
            Found::Records(pieces)
        })
    }

    /// A difference to each of the old contents that the part may have come from; `None` when an old version that lacks it has
    /// no such content.
    fn differences(&mut self, part: u32) -> Result<Option<Vec<Piece>>, StoreError> {
        let job = self.job;
        let (entry, at) = job.uses[part as usize];
        let Kind::File(wanted) = &job.to.entries[entry as usize].kind else {
            return Ok(None);
        };
        if job.to.parts[part as usize].len < WORTH_A_DIFFERENCE {
            return Ok(None);
        }
        let path = job.to.path(entry);
        let (mut pieces, mut seen) = (Vec::new(), HashSet::new());
        for (number, source) in job.sources.iter().enumerate() {
            if !source.lacks[part as usize] {
                continue;
            }
            let Some(old) = source.names.find(&path, wanted.size()) else {
                return Ok(None);
            };
            let Kind::File(content) = &source.manifest.entries[old as usize].kind else {
                return Ok(None);
            };
            let basis = content.id(&source.manifest.parts);
            if seen.insert(basis) {
                let bytes = self.new.part(part)?.to_vec();
                let Some(piece) = self.difference(part, &bytes, at, (number, old), content)? else {
                    return Ok(None);
                };
                pieces.push(piece);
            }
        }
        Ok(Some(pieces))
    }

    /// The cheapest difference of a part, which lies at `at` in its file, to one old content.
    fn difference(
        &mut self,
        part: u32,
        bytes: &[u8],
        at: u64,
        (number, old): (usize, u32),
        content: &FileContent,
    ) -> Result<Option<Piece>, StoreError> {
        let basis = content.id(&self.job.sources[number].manifest.parts);
        let (offset, len) = window(content.size(), at, bytes.len() as u64);
        read_range(&mut self.old[number], content, offset, len, &mut self.prefix)?;
        let prefix = difference::encode(&self.prefix, bytes).map(|bytes| {
            let kind = PieceKind::Prefix { basis, offset, len };
            Piece { part, kind, bytes }
        });
        // What the prefix does not reach, a delta may.
        let far =
            u64::from(len) < content.size() && (WORTHWHILE_BYTES..=ROLLING_BYTES).contains(&content.size());
        let rolling = if far {
            self.rolling(bytes, (number, old), content)?
        } else {
            None
        };
        let rolling = rolling.map(|bytes| {
            let kind = PieceKind::Rolling { basis };
            Piece { part, kind, bytes }
        });
        Ok([prefix, rolling]
            .into_iter()
            .flatten()
            .min_by_key(|piece| piece.bytes.len()))
    }

    fn rolling(
        &mut self,
        bytes: &[u8],
        of: (usize, u32),
        content: &FileContent,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if self.signed.as_ref().is_none_or(|(signed, _)| *signed != of) {
            let source = &self.job.sources[of.0];
            let reader = ContentReader::new(self.job.store, source.manifest, &source.places, content);
            self.signed = Some((of, signature(&reader, content.size()).ok()));
        }
        let signature = self.signed.as_ref().and_then(|(_, signature)| signature.as_ref());
        Ok(signature.and_then(|signature| encode_part(signature, bytes)))
    }
}

/// The range of an old content of `size` bytes that a part of `len` bytes at `at` is held against: all of it, or what lies around
/// its place.
fn window(size: u64, at: u64, len: u64) -> (u64, u32) {
    let most = PACK_BASIS_BYTES as u64;
    let before = (most - len.min(most)) / 2;
    let offset = at.saturating_sub(before).min(size.saturating_sub(most));
    let len = (size - offset).min(most);
    (offset, u32::try_from(len).expect("it is bounded"))
}

/// Reads a range of a content, which has it.
pub(super) fn read_range(
    reader: &mut PartReader<'_>,
    content: &FileContent,
    offset: u64,
    len: u32,
    into: &mut Vec<u8>,
) -> Result<(), StoreError> {
    into.clear();
    while into.len() < len as usize {
        let at = offset + into.len() as u64;
        let place = content.part_at(at).expect("the range lies within the content");
        let inside = usize::try_from(at - place.offset).expect("a part is at most 4 MiB");
        let take = (place.len as usize - inside).min(len as usize - into.len());
        match place.part {
            None => into.resize(into.len() + take, 0),
            Some(part) => into.extend_from_slice(&reader.part(part)?[inside..inside + take]),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use simulcast_protocol::limits::PART_BYTES;

    use super::*;

    #[test]
    fn a_window_lies_around_its_place_and_within_the_content() {
        let most = PACK_BASIS_BYTES as u64;
        let part = PART_BYTES as u64;
        let full = u32::try_from(most).unwrap();
        assert_eq!(window(1000, 5000, 10), (0, 1000));
        assert_eq!(window(most, 0, part), (0, full));
        assert_eq!(window(100 << 20, 0, part), (0, full));
        assert_eq!(window(100 << 20, 40 << 20, part), (34 << 20, full));
        assert_eq!(window(100 << 20, 400 << 20, part), ((100 << 20) - most, full));
    }
}
