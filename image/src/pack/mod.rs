//! Update packs: what moves between versions that the server knows, worked out once.
//!
//! A *record* says how one part of the new version is made: whole, or from an old content that a node has, by a zstd frame
//! with the old content as its prefix, or by a rolling-checksum delta. Records lie in chunks like any content, sealed under the
//! same secret, so every transport carries them. What no record makes cheaper stays in chunks of the new version itself,
//! which the pack *borrows*: so one list of chunks is all that nodes of several old versions need to become the new one.
//!
//! Nothing of a pack is believed: its list is signed and bound to the versions' identities, a chunk is checked against its
//! name, and what a record makes against the hash of the part. Where that fails, as when somebody changed the old file, the
//! part comes in its chunk.
//!
//! The byte format is described in `docs/packs.md`.

mod apply;
mod basis;
mod codec;
mod difference;
mod draft;
mod keep;
mod make;
mod verify;

use simulcast_protocol::id::{ContentId, ManifestId};

pub use apply::{Receiver, Recipe};
pub use keep::PackLease;
pub use make::make;
pub(crate) use verify::verify;

use crate::chunk::ChunkHandle;
use crate::manifest::{Manifest, SigningKey, VerifyingKey};

/// What the signature of a pack is good for.
const CONTEXT: &[u8] = b"simulcast update pack\0";
const SIGNATURE_BYTES: usize = 64;

/// An update pack: its list, without the chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The old versions that it serves, in rising order.
    pub from: Vec<ManifestId>,
    /// The new version.
    pub to: ManifestId,
    /// The old contents that records build on.
    pub bases: Vec<ContentId>,
    /// Its own chunks.
    pub chunks: Vec<PackChunk>,
    /// Chunks of the new version that go as they are, by index, in rising order.
    pub borrowed: Vec<u32>,
}

/// A chunk of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackChunk {
    /// How to open it.
    pub handle: ChunkHandle,
    /// What it holds, in order: their lengths add up to the chunk's raw length.
    pub records: Vec<Record>,
}

/// How one part of the new version is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The part, by its index in the new version.
    pub part: u32,
    /// Its bytes in the chunk; 1 to 4 MiB.
    pub len: u32,
    /// What they are.
    pub form: Form,
}

/// What the bytes of a record are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The part itself.
    Whole,
    /// A zstd frame whose prefix are `len` bytes from `offset` on of the old content `basis`.
    Prefix {
        /// Index in [`Pack::bases`].
        basis: u32,
        /// First byte of the prefix.
        offset: u64,
        /// Bytes of the prefix; 1 to [`PACK_BASIS_BYTES`](simulcast_protocol::limits::PACK_BASIS_BYTES).
        len: u32,
    },
    /// A compressed rolling-checksum delta against the old content `basis`.
    Rolling {
        /// Index in [`Pack::bases`].
        basis: u32,
    },
}

/// A pack with the exact bytes that were signed; its identity is their hash.
#[derive(Debug, Clone)]
pub struct SignedPack {
    /// Names the pack where the identity of a version would stand, as in a multicast session.
    pub id: ManifestId,
    /// The decoded list.
    pub pack: Pack,
    bytes: Vec<u8>,
}

/// A pack is refused.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// It was altered, or another server made it.
    #[error(
        "the update pack's signature does not fit the server's key: it was altered, or another server made it"
    )]
    Signature,
    /// It is of a format that this program does not know.
    #[error("the update pack has format {0}, which this program does not read: a newer Simulcast wrote it")]
    Format(u32),
    /// It is cut short, or goes on behind its end, or a count is over its bound.
    #[error("the update pack is cut short, damaged or too large in its {0} section")]
    Damaged(&'static str),
    /// It contradicts itself or the version that it leads to.
    #[error("the update pack does not fit the version that it leads to: {0}")]
    Unsound(&'static str),
    /// It is for other versions.
    #[error("the update pack is for other versions than those that it was asked for")]
    Foreign,
}

impl Pack {
    /// Names the set of old versions: the version's own identity when it is one alone.
    pub fn source_id(from: &[ManifestId]) -> ManifestId {
        match from {
            [one] => *one,
            many => {
                let mut sorted = many.to_vec();
                sorted.sort_unstable();
                ManifestId::of(&sorted.iter().flat_map(|id| *id.as_bytes()).collect::<Vec<u8>>())
            }
        }
    }

    /// All its chunks in the order in which transports number them: its own, then those that it borrows from `to`.
    pub fn handles<'a>(&'a self, to: &'a Manifest) -> impl Iterator<Item = &'a ChunkHandle> {
        let own = self.chunks.iter().map(|chunk| &chunk.handle);
        own.chain(
            self.borrowed
                .iter()
                .map(|&index| &to.chunks[index as usize].handle),
        )
    }

    /// Bytes of all its chunks as stored and sent.
    pub fn stored_bytes(&self, to: &Manifest) -> u64 {
        self.handles(to).map(|handle| u64::from(handle.stored_len)).sum()
    }

    /// How many records it has.
    pub fn record_count(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.records.len()).sum()
    }
}

impl SignedPack {
    /// Signs a pack.
    pub(crate) fn sign(pack: Pack, key: &SigningKey) -> Self {
        let encoded = codec::encode(&pack);
        let id = ManifestId::of(&encoded);
        let mut bytes = key.sign_bytes(CONTEXT, &encoded).to_vec();
        bytes.extend(encoded);
        Self { id, pack, bytes }
    }

    /// Checks the signature, decodes the list, and checks that it leads to the version `to` with the manifest `manifest`.
    ///
    /// # Errors
    /// [`PackError`]: nothing is decoded before the signature is right.
    pub fn open(
        bytes: Vec<u8>,
        key: &VerifyingKey,
        to: &ManifestId,
        manifest: &Manifest,
    ) -> Result<Self, PackError> {
        let (id, pack) = Self::decode(&bytes, key)?;
        if pack.to != *to {
            return Err(PackError::Foreign);
        }
        codec::check(&pack, manifest)?;
        Ok(Self { id, pack, bytes })
    }

    fn decode(bytes: &[u8], key: &VerifyingKey) -> Result<(ManifestId, Pack), PackError> {
        let (signature, encoded) = bytes
            .split_at_checked(SIGNATURE_BYTES)
            .ok_or(PackError::Signature)?;
        if !key.fits(CONTEXT, encoded, signature) {
            return Err(PackError::Signature);
        }
        Ok((ManifestId::of(encoded), codec::decode(encoded)?))
    }

    /// The signature and the list, as stored and sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
