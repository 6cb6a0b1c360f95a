//! What a scan finds: entries that name their content by hash, before it is known which chunks will hold it.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;

use crate::fs::{Device, Meta};
use crate::manifest::{Entry, FileContent, Hole, Kind, Part};

/// One path as it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannedEntry {
    /// Index of its directory among the entries.
    pub parent: u32,
    /// Its name; empty for the root.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: ScannedKind,
    /// Its metadata.
    pub meta: Meta,
}

impl ScannedEntry {
    /// Its content, when it is a file.
    pub fn content(&self) -> Option<&ScannedContent> {
        match &self.kind {
            ScannedKind::File(content) => Some(content),
            _ => None,
        }
    }
}

/// What a scanned path is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ScannedKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(ScannedContent),
    /// A symbolic link with its target.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A further name of the entry with this index.
    HardLink(u32),
}

/// The content of a scanned file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScannedContent {
    /// Its length in bytes.
    pub size: u64,
    /// Its parts of 4 MiB; `None` where all bytes are zero.
    pub parts: Vec<Option<PartId>>,
    /// Its holes.
    pub holes: Vec<Hole>,
}

/// Numbers parts in the order in which entries first need them.
#[derive(Debug, Default)]
pub(super) struct PartTable {
    pub(super) parts: Vec<Part>,
    index: HashMap<PartId, u32>,
}

impl PartTable {
    /// The manifest's entry for a scanned one.
    pub(super) fn entry(&mut self, scanned: ScannedEntry) -> Entry {
        let kind = match scanned.kind {
            ScannedKind::Directory => Kind::Directory,
            ScannedKind::File(content) => Kind::File(self.content(content)),
            ScannedKind::Symlink(target) => Kind::Symlink(target),
            ScannedKind::CharDevice(device) => Kind::CharDevice(device),
            ScannedKind::BlockDevice(device) => Kind::BlockDevice(device),
            ScannedKind::Fifo => Kind::Fifo,
            ScannedKind::Socket => Kind::Socket,
            ScannedKind::HardLink(to) => Kind::HardLink(to),
        };
        Entry {
            parent: scanned.parent,
            name: scanned.name,
            kind,
            meta: scanned.meta,
        }
    }

    fn content(&mut self, content: ScannedContent) -> FileContent {
        let empty = FileContent::zeros(content.size);
        let places: Vec<u32> = empty.parts().map(|place| place.len).collect();
        let ids = content.parts.iter().copied().chain(std::iter::repeat(None));
        let parts: Vec<_> = places
            .iter()
            .zip(ids)
            .map(|(&len, id)| id.map(|id| self.number(id, len)))
            .collect();
        FileContent::new(content.size, &parts, content.holes)
    }

    fn number(&mut self, id: PartId, len: u32) -> u32 {
        let next = u32::try_from(self.parts.len()).expect("parts are bounded");
        *self.index.entry(id).or_insert_with(|| {
            self.parts.push(Part { id, len });
            next
        })
    }

    pub(super) fn find(&self, id: &PartId) -> Option<u32> {
        self.index.get(id).copied()
    }
}
