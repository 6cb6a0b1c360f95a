//! Where in the tree the bytes of wanted parts lie already.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;

use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use crate::apply::{Worker, Writer, read_exact_or_short};
use crate::fs::{self, DirCache, FsError};
use crate::manifest::Manifest;

use super::UpdateError;

/// Directory and name of a file.
type Path = (Vec<u8>, Vec<u8>);

/// Offset of a part in a file, and its index.
type Found = (u64, u32);

/// Parts of the target version, by hash, and for each the first place in the tree that has it.
#[derive(Debug)]
pub(super) struct Sources {
    index: HashMap<PartId, u32>,
    files: BTreeMap<Path, Vec<Found>>,
    found: Vec<bool>,
}

impl Sources {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let index = (0u32..)
            .zip(&manifest.parts)
            .map(|(index, part)| (part.id, index))
            .collect();
        Self {
            index,
            files: BTreeMap::new(),
            found: vec![false; manifest.parts.len()],
        }
    }

    /// Notes what a file of the tree holds.
    pub(super) fn add(&mut self, directory: &[u8], name: &[u8], parts: &[PartId]) {
        for (number, id) in parts.iter().enumerate() {
            if let Some(&part) = self.index.get(id)
                && !std::mem::replace(&mut self.found[part as usize], true)
            {
                let file = self.files.entry((directory.to_vec(), name.to_vec())).or_default();
                file.push((number as u64 * PART_BYTES as u64, part));
            }
        }
    }

    /// Whether the tree has a part.
    pub(super) fn has(&self, part: u32) -> bool {
        self.found[part as usize]
    }

    /// Writes all parts that the tree has and the writer wants. What turns out not to hold the expected bytes any more is
    /// left to the transports. Returns the bytes that were taken from the tree.
    pub(super) fn fill(
        &self,
        manifest: &Manifest,
        directories: &mut DirCache,
        writer: &Writer<'_>,
        worker: &mut Worker,
    ) -> Result<u64, UpdateError> {
        let mut buffer = vec![0; PART_BYTES];
        let mut taken = 0;
        for ((directory, name), parts) in &self.files {
            let wanted = |part: u32| writer.wants(part);
            if !parts.iter().any(|&(_, part)| wanted(part)) {
                continue;
            }
            let Ok(file) = open(directories, directory, name) else {
                continue;
            };
            for &(offset, part) in parts.iter().filter(|&&(_, part)| wanted(part)) {
                let expected = &manifest.parts[part as usize];
                let bytes = &mut buffer[..expected.len as usize];
                if read_exact_or_short(&file, bytes, offset).unwrap_or(false)
                    && PartId::of(bytes) == expected.id
                {
                    writer.part(worker, part, bytes)?;
                    taken += bytes.len() as u64;
                }
            }
        }
        Ok(taken)
    }
}

fn open(directories: &mut DirCache, directory: &[u8], name: &[u8]) -> Result<File, FsError> {
    Ok(fs::open_read(&*directories.open(directory)?, name)?.0)
}
