//! Proving that every version can be rebuilt: every signature, every chunk, every part, and every record of every update pack.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;
use simulcast_protocol::id::{ChunkId, ManifestId, PartId};
use simulcast_protocol::name::ImageRef;

use super::{ChunkStore, Store, StoreError};
use crate::chain;
use crate::chunk::{OpenChunkError, Opener};
use crate::fs::Shown;
use crate::manifest::{Chunk, Kind, Manifest, Segment};

/// How many paths a finding names.
const PATHS_SHOWN: usize = 5;

/// What a check of the store found.
#[derive(Debug, Default, Serialize)]
pub struct FsckReport {
    /// Versions whose manifest is sound.
    pub versions: usize,
    /// Update packs whose lists are sound.
    pub packs: usize,
    /// Distinct chunks of versions that were read.
    pub chunks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// What is wrong; empty when every version can be rebuilt.
    pub findings: Vec<Finding>,
}

/// Something that keeps a version from being rebuilt.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Finding {
    /// The version, `NAME@V`, or the update pack, `packs/<from>-<to>`.
    pub version: String,
    /// The chunk, when one is to blame.
    pub chunk: Option<ChunkId>,
    /// What is wrong.
    pub problem: String,
    /// Some of the files that are lost with it.
    pub files: Vec<String>,
    /// How many files are lost.
    pub file_count: usize,
}

struct Version {
    name: String,
    id: ManifestId,
    manifest: Manifest,
}

/// Reads everything that any version needs. `threads` workers share the chunks.
///
/// # Errors
/// [`StoreError::Read`] when the store cannot be listed; damage is a finding, not an error.
pub fn fsck(store: &Store, threads: usize) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport::default();
    let mut versions = Vec::new();
    for image in store.images()? {
        for version in image.versions {
            let reference = ImageRef {
                name: image.name.clone(),
                version: Some(version),
            };
            match store.load(&reference) {
                Ok(stored) => versions.push(Version {
                    name: reference.to_string(),
                    id: stored.signed.id,
                    manifest: stored.signed.manifest,
                }),
                Err(error) => report.findings.push(Finding {
                    version: reference.to_string(),
                    chunk: None,
                    problem: chain(&error),
                    files: Vec::new(),
                    file_count: 0,
                }),
            }
        }
    }
    report.versions = versions.len();
    let mut users: BTreeMap<ChunkId, Vec<(usize, usize)>> = BTreeMap::new();
    for (number, version) in versions.iter().enumerate() {
        for (index, chunk) in version.manifest.chunks.iter().enumerate() {
            report.bytes += if users.contains_key(&chunk.handle.id) {
                0
            } else {
                u64::from(chunk.handle.stored_len)
            };
            users.entry(chunk.handle.id).or_default().push((number, index));
        }
    }
    report.chunks = users.len();
    let users: Vec<_> = users.into_iter().collect();
    let (next, findings) = (AtomicUsize::new(0), Mutex::new(&mut report.findings));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                let mut opener = Opener::default();
                while let Some((id, places)) = users.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for &(version, chunk) in places {
                        let version = &versions[version];
                        if let Err(problem) =
                            check(store, &mut opener, &version.manifest.chunks[chunk], version)
                        {
                            let finding = version.finding(*id, chunk, problem);
                            findings.lock().expect("no holder panics").push(finding);
                        }
                    }
                }
            });
        }
    });
    check_packs(store, &versions, &mut report)?;
    report.findings.sort_unstable();
    Ok(report)
}

/// Carries out every record of every update pack. One whose versions are gone is si-gc's to remove.
fn check_packs(store: &Store, versions: &[Version], report: &mut FsckReport) -> Result<(), StoreError> {
    let find = |id: &ManifestId| versions.iter().find(|version| version.id == *id);
    for path in store.pack_files()? {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let finding = |problem: String| Finding {
            version: format!("packs/{name}"),
            chunk: None,
            problem: format!("{problem}; remove it, and it is made again"),
            files: Vec::new(),
            file_count: 0,
        };
        let Some(pack) = store.read_pack(&path)? else {
            let problem = "it is no update pack of this store, or damaged".to_owned();
            report.findings.push(finding(problem));
            continue;
        };
        let from: Option<Vec<_>> = pack.from.iter().map(|id| Some(&find(id)?.manifest)).collect();
        if let (Some(from), Some(to)) = (from, find(&pack.to)) {
            report.packs += 1;
            if let Some(problem) = crate::pack::verify(store, &pack, &from, &to.manifest) {
                report.findings.push(finding(problem));
            }
        }
    }
    Ok(())
}

fn check(store: &Store, opener: &mut Opener, chunk: &Chunk, version: &Version) -> Result<(), String> {
    let mut stored = store
        .chunks()
        .read(&chunk.handle.id)
        .map_err(|error| chain(&error))?;
    let raw = opener
        .open(&chunk.handle, &mut stored)
        .map_err(|error: OpenChunkError| error.to_string())?;
    let mut at = 0;
    for segment in &chunk.segments {
        match *segment {
            Segment::Dead(len) => at += len as usize,
            Segment::Part(part) => {
                let part = &version.manifest.parts[part as usize];
                let bytes = &raw[at..at + part.len as usize];
                if PartId::of(bytes) != part.id {
                    return Err(format!(
                        "chunk {} holds other bytes than part {}",
                        chunk.handle.id, part.id
                    ));
                }
                at += bytes.len();
            }
        }
    }
    Ok(())
}

impl Version {
    fn finding(&self, id: ChunkId, chunk: usize, problem: String) -> Finding {
        let mut lost = vec![false; self.manifest.parts.len()];
        for segment in &self.manifest.chunks[chunk].segments {
            if let Segment::Part(part) = *segment {
                lost[part as usize] = true;
            }
        }
        let hit = |kind: &Kind| match kind {
            Kind::File(content) => content
                .parts()
                .any(|place| place.part.is_some_and(|part| lost[part as usize])),
            _ => false,
        };
        let files: Vec<u32> = (0u32..)
            .zip(&self.manifest.entries)
            .filter(|(_, entry)| hit(&entry.kind))
            .map(|(i, _)| i)
            .collect();
        let shown = |&index: &u32| format!("/{}", Shown(&self.manifest.path(index)));
        Finding {
            version: self.name.clone(),
            chunk: Some(id),
            problem,
            files: files.iter().take(PATHS_SHOWN).map(shown).collect(),
            file_count: files.len(),
        }
    }
}
