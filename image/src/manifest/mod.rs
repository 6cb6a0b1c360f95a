//! The manifest: everything that an image version is, apart from the bytes in its chunks.
//!
//! Three tables refer to each other by index. *Entries* are the paths with all their metadata; a regular file names
//! the *parts* of its content; *chunks* say which parts they hold. A manifest in memory is always sound: names are
//! single path components, a parent is an earlier directory, every part is held by one chunk, every length is within
//! its bound. [`Manifest::decode`] refuses bytes that would say otherwise, so no path in a manifest can leave the target.
//!
//! The byte format is described in `docs/image-format.md`.

mod check;
mod codec;
mod content;
mod sections;
mod signature;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::{ManifestId, PartId};
use simulcast_protocol::name::{ImageName, Version};

pub use check::Unsound;
pub use codec::DecodeError;
pub(crate) use content::content_id;
pub use content::{FileContent, Hole, PartPlace, zero_part_id};
pub(crate) use sections::{Handles, read_head, read_section, write_head, write_section};
pub use signature::{KeyError, SIGNATURE_BYTES, SignatureError, SignedManifest, SigningKey, VerifyingKey};

use crate::chunk::ChunkHandle;
use crate::fs::{self, Device, Meta};

/// An image version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Where it comes from.
    pub info: Info,
    /// All paths, parents before their children, the children of a directory in the order of their names' bytes, each
    /// followed by what is below it. The first is the root directory.
    pub entries: Vec<Entry>,
    /// The distinct parts of all contents, in the order in which `entries` first need them.
    pub parts: Vec<Part>,
    /// The chunks that hold the parts.
    pub chunks: Vec<Chunk>,
}

/// What a manifest tells of its origin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// The image.
    pub image: ImageName,
    /// The version.
    pub version: Version,
    /// When it was captured, in seconds since 1970.
    pub created: i64,
    /// The version that it was made from, if any.
    pub parent: Option<ManifestId>,
    /// Free facts about the source (`host`, `os`, `kernel`, `tool`, …).
    pub source: BTreeMap<String, String>,
}

/// One path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Index of its directory; an entry's own index only for the root.
    pub parent: u32,
    /// Its name in that directory: one path component; empty for the root.
    pub name: Box<[u8]>,
    /// What it is.
    pub kind: Kind,
    /// Mode, owner, time, extended attributes. A hard link has those of the entry that it links to.
    pub meta: Meta,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(FileContent),
    /// A symbolic link with its target's bytes.
    Symlink(Box<[u8]>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket; it is made anew as a node without a listener, as rsync does.
    Socket,
    /// A further name of an earlier entry that is not a directory.
    HardLink(u32),
}

/// Bytes that a chunk holds and files refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The hash of the bytes.
    pub id: PartId,
    /// How many; 1 to 4 MiB.
    pub len: u32,
}

/// A chunk and what lies in it, from its first raw byte to its last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// How to open it.
    pub handle: ChunkHandle,
    /// What it holds, in order; the lengths add up to `handle.raw_len`.
    pub segments: Vec<Segment>,
}

/// A run of raw bytes in a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment {
    /// The part with this index.
    Part(u32),
    /// So many bytes that an earlier version needed and this one does not.
    Dead(u32),
}

impl Manifest {
    /// Encodes the manifest; the same manifest always gives the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes and checks a manifest.
    ///
    /// # Errors
    /// [`DecodeError`] when the bytes are no manifest, of an unknown format, over a bound, or unsound.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode(bytes)
    }

    /// Checks everything that the type promises, as decoding does too.
    ///
    /// # Errors
    /// [`Unsound`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), Unsound> {
        check::check(self)
    }

    /// The path of an entry below the root, without a leading slash; empty for the root itself.
    pub fn path(&self, index: u32) -> Vec<u8> {
        let mut names = Vec::new();
        let mut at = index as usize;
        while at != 0 {
            names.push(&self.entries[at].name[..]);
            at = self.entries[at].parent as usize;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// The entry at a path below the root, names joined by `/`; the empty path is the root.
    pub fn find(&self, path: &[u8]) -> Option<u32> {
        let mut at = 0;
        for name in path.split(|&byte| byte == b'/').filter(|_| !path.is_empty()) {
            let end = self.subtree_end(at);
            let mut child = at + 1;
            while child < end && *self.entries[child as usize].name != *name {
                child = self.subtree_end(child);
            }
            at = Some(child).filter(|&child| child < end)?;
        }
        Some(at)
    }

    /// The entry that carries the inode: the entry itself, or what it is a hard link to.
    pub fn inode(&self, index: u32) -> (u32, &Entry) {
        let entry = &self.entries[index as usize];
        match entry.kind {
            Kind::HardLink(to) => (to, &self.entries[to as usize]),
            _ => (index, entry),
        }
    }

    /// The end of the subtree of entry `index`: the index after its last descendant.
    pub fn subtree_end(&self, index: u32) -> u32 {
        let mut end = index as usize + 1;
        while self.entries.get(end).is_some_and(|entry| entry.parent >= index) {
            end += 1;
        }
        u32::try_from(end).expect("entries are bounded")
    }

    /// Sum of the sizes of all regular files, holes included, hard links counted once.
    pub fn content_bytes(&self) -> u64 {
        self.files().map(|(_, content)| content.size()).sum()
    }

    /// Bytes of all chunks as stored.
    pub fn stored_bytes(&self) -> u64 {
        self.chunks
            .iter()
            .map(|chunk| u64::from(chunk.handle.stored_len))
            .sum()
    }

    /// The regular files with their entry index, hard links left out.
    pub fn files(&self) -> impl Iterator<Item = (u32, &FileContent)> {
        (0u32..)
            .zip(&self.entries)
            .filter_map(|(index, entry)| match &entry.kind {
                Kind::File(content) => Some((index, content)),
                _ => None,
            })
    }
}

impl Kind {
    /// The kind that the kernel has for it; a hard link counts as a file.
    pub fn fs_kind(&self) -> fs::Kind {
        match self {
            Self::Directory => fs::Kind::Dir,
            Self::File(_) | Self::HardLink(_) => fs::Kind::File,
            Self::Symlink(_) => fs::Kind::Symlink,
            Self::CharDevice(_) => fs::Kind::CharDevice,
            Self::BlockDevice(_) => fs::Kind::BlockDevice,
            Self::Fifo => fs::Kind::Fifo,
            Self::Socket => fs::Kind::Socket,
        }
    }

    /// What `mknod` makes it from, for those that it makes.
    pub fn node(&self) -> Option<(fs::Kind, Device)> {
        match self {
            Self::CharDevice(device) | Self::BlockDevice(device) => Some((self.fs_kind(), *device)),
            Self::Fifo | Self::Socket => Some((self.fs_kind(), Device::default())),
            _ => None,
        }
    }

    /// One letter, as `ls -l` shows it.
    pub fn letter(&self) -> char {
        match self {
            Self::Directory => 'd',
            Self::File(_) | Self::HardLink(_) => '-',
            Self::Symlink(_) => 'l',
            Self::CharDevice(_) => 'c',
            Self::BlockDevice(_) => 'b',
            Self::Fifo => 'p',
            Self::Socket => 's',
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
