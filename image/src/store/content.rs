//! Reading parts, and the content of a file at any offset, out of the chunks of a version.

use std::io;
use std::sync::Mutex;

use super::{ChunkStore, Store, StoreError};
use crate::chunk::Opener;
use crate::delta::ReadAt;
use crate::manifest::{FileContent, Manifest, Segment};

/// Raw chunks that a reader keeps: parts are mostly wanted in path order, and a chunk's neighbours are soon needed.
const CHUNKS_KEPT: usize = 4;

/// Where the parts of a version lie: for each the chunk, and the offset of its first byte among the chunk's raw bytes.
#[derive(Debug)]
pub struct PartIndex(Vec<(u32, u32)>);

impl PartIndex {
    /// Finds all parts of a version.
    pub fn new(manifest: &Manifest) -> Self {
        let mut places = vec![(0, 0); manifest.parts.len()];
        for (index, chunk) in (0u32..).zip(&manifest.chunks) {
            let mut at = 0;
            for segment in &chunk.segments {
                at += match *segment {
                    Segment::Dead(len) => len,
                    Segment::Part(part) => {
                        places[part as usize] = (index, at);
                        manifest.parts[part as usize].len
                    }
                };
            }
        }
        Self(places)
    }
}

/// The parts of a version, checked against the names of their chunks.
#[derive(Debug)]
pub struct PartReader<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    parts: &'a PartIndex,
    opener: Opener,
    /// Raw chunks, the last used one last.
    kept: Vec<(u32, Vec<u8>)>,
}

impl<'a> PartReader<'a> {
    /// A reader of the parts of `manifest`, whose index is `parts`.
    pub fn new(store: &'a Store, manifest: &'a Manifest, parts: &'a PartIndex) -> Self {
        Self {
            store,
            manifest,
            parts,
            opener: Opener::default(),
            kept: Vec::new(),
        }
    }

    /// The bytes of a part.
    ///
    /// # Errors
    /// [`StoreError::ChunkMissing`], [`StoreError::Chunk`], [`StoreError::Read`].
    pub fn part(&mut self, part: u32) -> Result<&[u8], StoreError> {
        let (chunk, start) = self.parts.0[part as usize];
        let len = self.manifest.parts[part as usize].len as usize;
        match self.kept.iter().position(|(kept, _)| *kept == chunk) {
            Some(at) => self.kept[at..].rotate_left(1),
            None => {
                let handle = &self.manifest.chunks[chunk as usize].handle;
                let mut stored = self.store.chunks().read(&handle.id)?;
                let raw = self.opener.open(handle, &mut stored)?;
                let oldest = (self.kept.len() == CHUNKS_KEPT).then(|| self.kept.remove(0).1);
                let mut buffer = oldest.unwrap_or_default();
                buffer.clear();
                buffer.extend_from_slice(raw);
                self.kept.push((chunk, buffer));
            }
        }
        let (_, raw) = self.kept.last().expect("it was just put there");
        Ok(&raw[start as usize..][..len])
    }
}

/// The content of one file.
#[derive(Debug)]
pub struct ContentReader<'a> {
    content: &'a FileContent,
    parts: Mutex<PartReader<'a>>,
}

impl<'a> ContentReader<'a> {
    /// A reader of `content`, which is one of `manifest`'s.
    pub fn new(
        store: &'a Store,
        manifest: &'a Manifest,
        parts: &'a PartIndex,
        content: &'a FileContent,
    ) -> Self {
        Self {
            content,
            parts: Mutex::new(PartReader::new(store, manifest, parts)),
        }
    }
}

impl ReadAt for ContentReader<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(place) = self.content.part_at(offset) else {
            return Ok(0);
        };
        let inside = usize::try_from(offset - place.offset).expect("a part is at most 4 MiB");
        let len = buffer.len().min(place.len as usize - inside);
        match place.part {
            None => buffer[..len].fill(0),
            Some(part) => {
                let mut parts = self.parts.lock().expect("no holder panics");
                let bytes = parts.part(part).map_err(io::Error::other)?;
                buffer[..len].copy_from_slice(&bytes[inside..inside + len]);
            }
        }
        Ok(len)
    }
}
