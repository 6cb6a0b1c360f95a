//! Reading the content of a file of a version at any offset, out of its chunks.

use std::io;
use std::sync::Mutex;

use super::{ChunkStore, Store, StoreError};
use crate::chunk::Opener;
use crate::delta::ReadAt;
use crate::manifest::{FileContent, Manifest, Segment};

/// Raw chunks that a reader keeps: a window that crosses from one part to the next needs two.
const CHUNKS_KEPT: usize = 2;

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

/// The content of one file.
#[derive(Debug)]
pub struct ContentReader<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    parts: &'a PartIndex,
    content: &'a FileContent,
    /// Raw chunks, the last used one last.
    kept: Mutex<Vec<(u32, Vec<u8>)>>,
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
            store,
            manifest,
            parts,
            content,
            kept: Mutex::default(),
        }
    }

    /// Hands the raw bytes of a chunk to `use_them`.
    fn with_chunk<T>(&self, index: u32, use_them: impl FnOnce(&[u8]) -> T) -> Result<T, StoreError> {
        let mut kept = self.kept.lock().expect("no holder panics");
        match kept.iter().position(|(kept, _)| *kept == index) {
            Some(at) => kept[at..].rotate_left(1),
            None => {
                let handle = &self.manifest.chunks[index as usize].handle;
                let mut stored = self.store.chunks().read(&handle.id)?;
                let raw = Opener::default().open(handle, &mut stored)?.to_vec();
                if kept.len() == CHUNKS_KEPT {
                    kept.remove(0);
                }
                kept.push((index, raw));
            }
        }
        let (_, raw) = kept.last().expect("it was just put there");
        Ok(use_them(raw))
    }
}

impl ReadAt for ContentReader<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(place) = self.content.part_at(offset) else {
            return Ok(0);
        };
        let inside = usize::try_from(offset - place.offset).expect("a part is at most 4 MiB");
        let len = buffer.len().min(place.len as usize - inside);
        let Some(part) = place.part else {
            buffer[..len].fill(0);
            return Ok(len);
        };
        let (chunk, at) = self.parts.0[part as usize];
        let start = at as usize + inside;
        self.with_chunk(chunk, |raw| {
            buffer[..len].copy_from_slice(&raw[start..start + len])
        })
        .map_err(io::Error::other)?;
        Ok(len)
    }
}
