//! What a file of the tree holds: known from what was installed, or read and hashed.

use std::fs::File;

use rustix::io::Errno;
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use crate::apply::{read_exact_or_short, subtree_ends};
use crate::fs::{self, Act, FsError, Stat};
use crate::manifest::{FileContent, Kind, Manifest, zero_part_id};

/// The parts of a file, by hash; zeros by theirs.
pub(super) type Parts = Vec<PartId>;

/// The version that was installed last, to spare hashing: a file whose length and time are still those of that version
/// has its content, as rsync assumes too.
#[derive(Debug)]
pub(super) struct Installed<'a> {
    manifest: &'a Manifest,
    ends: Vec<u32>,
    /// The entry that the last path was found at, with that path: paths come in order.
    last: (u32, Vec<u8>),
}

impl<'a> Installed<'a> {
    pub(super) fn new(manifest: &'a Manifest) -> Self {
        Self {
            manifest,
            ends: subtree_ends(manifest),
            last: (0, Vec::new()),
        }
    }

    /// The content of the file at `path` in `directory`, if it has not been touched since.
    pub(super) fn content(&mut self, directory: &[u8], name: &[u8], found: &Stat) -> Option<&'a FileContent> {
        let index = self
            .directory(directory)
            .and_then(|directory| self.child(directory, name))?;
        let (_, inode) = self.manifest.inode(index);
        match &inode.kind {
            Kind::File(content) if content.size() == found.size && inode.meta.mtime == found.meta.mtime => {
                Some(content)
            }
            _ => None,
        }
    }

    /// The parts of one of its contents.
    pub(super) fn parts(&self, content: &FileContent) -> Parts {
        let part = |part: Option<u32>, len| {
            part.map_or_else(|| zero_part_id(len), |p| self.manifest.parts[p as usize].id)
        };
        content.parts().map(|place| part(place.part, place.len)).collect()
    }

    /// The identity of a content.
    pub(super) fn is_same(&self, content: &FileContent, target: &Manifest, wanted: &FileContent) -> bool {
        content.size() == wanted.size() && content.id(&self.manifest.parts) == wanted.id(&target.parts)
    }

    fn directory(&mut self, path: &[u8]) -> Option<u32> {
        if self.last.1 == path {
            return Some(self.last.0);
        }
        let mut at = 0;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            at = self.child(at, name)?;
        }
        self.last = (at, path.to_vec());
        Some(at)
    }

    /// The child of a directory with this name. Siblings are skipped subtree by subtree.
    fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let end = self.ends[directory as usize];
        let mut at = directory + 1;
        while at < end {
            match self.manifest.entries[at as usize].name[..].cmp(name) {
                std::cmp::Ordering::Less => at = self.ends[at as usize],
                std::cmp::Ordering::Equal => return Some(at),
                std::cmp::Ordering::Greater => return None,
            }
        }
        None
    }
}

/// Reads and hashes a file, part by part; holes are not read. `buffer` has the length of a part.
pub(super) fn hash(file: &File, stat: &Stat, buffer: &mut [u8]) -> Result<Parts, FsError> {
    let data = fs::data_of(file, stat)?;
    let mut ranges = data.iter().peekable();
    let mut parts = Vec::new();
    for offset in (0..stat.size).step_by(PART_BYTES) {
        let len =
            usize::try_from((stat.size - offset).min(PART_BYTES as u64)).expect("a part is at most 4 MiB");
        while ranges.next_if(|range| range.end <= offset).is_some() {}
        if ranges
            .peek()
            .is_none_or(|range| range.start >= offset + len as u64)
        {
            parts.push(zero_part_id(u32::try_from(len).expect("a part is at most 4 MiB")));
            continue;
        }
        let bytes = &mut buffer[..len];
        let whole = read_exact_or_short(file, bytes, offset).map_err(|error| {
            FsError::new(Act::Read, b"", Errno::from_io_error(&error).unwrap_or(Errno::IO))
        })?;
        if !whole {
            // It became shorter just now; what was read is all that it can be a source of.
            break;
        }
        parts.push(PartId::of(bytes));
    }
    Ok(parts)
}
