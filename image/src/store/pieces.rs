//! Hashes of the pieces of a version's torrent, kept beside it.
//!
//! They are made when a chunk is, while its bytes are in memory, and taken over by the versions that keep the chunk: see
//! `simulcast_protocol::bittorrent`. The file is a cache: for a version that has none, because it is older or a capture
//! was resumed, the chunks are read once.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;

use simulcast_protocol::bittorrent::{InfoHash, PieceHash, statement};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::limits::PIECE_BYTES;
use simulcast_protocol::name::{ImageName, Version};

use super::{ChunkStore, Store, StoreError, StoredVersion, write};
use crate::manifest::{Chunk, SIGNATURE_BYTES, VerifyingKey};

/// What a signature of a torrent is good for.
const CONTEXT: &[u8] = b"simulcast torrent\0";

/// Hashes of the pieces of chunks, by chunk.
#[derive(Debug, Default)]
pub(crate) struct ChunkPieces(HashMap<ChunkId, Vec<u8>>);

impl ChunkPieces {
    /// Adds the hashes of a chunk.
    pub(crate) fn add(&mut self, id: ChunkId, hashes: Vec<u8>) {
        self.0.insert(id, hashes);
    }

    /// The hashes of these chunks in their order; `None` when those of one are lacking.
    pub(crate) fn of(&self, chunks: &[Chunk]) -> Option<Vec<u8>> {
        let mut all = Vec::new();
        for chunk in chunks {
            all.extend(self.0.get(&chunk.handle.id)?);
        }
        Some(all)
    }

    /// Adds those that are kept with a version.
    pub(crate) fn add_version(&mut self, chunks: &[Chunk], mut kept: &[u8]) {
        for chunk in chunks {
            let Some((its, rest)) = kept.split_at_checked(bytes_of(chunk)) else {
                return;
            };
            self.0.entry(chunk.handle.id).or_insert_with(|| its.to_vec());
            kept = rest;
        }
    }
}

impl Store {
    /// The hashes of all pieces of a version: 20 bytes for each, in order. Where they are not kept yet, they are made.
    ///
    /// # Errors
    /// [`StoreError`] when the chunks cannot be read.
    pub fn piece_hashes(&self, version: &StoredVersion) -> Result<Vec<u8>, StoreError> {
        let chunks = &version.signed.manifest.chunks;
        if let Some(kept) = self.kept_pieces(version)? {
            return Ok(kept);
        }
        let mut all = Vec::new();
        for chunk in chunks {
            let id = chunk.handle.id;
            let stored = self.chunks().read(&id)?;
            // A hash of wrong bytes would be kept for good.
            if ChunkId::of(&stored) != id {
                return Err(crate::chunk::OpenChunkError::Damaged(id).into());
            }
            all.extend(piece_hashes_of(&stored));
        }
        if let Err(error) = self.keep_pieces(&version.image, version.version, &all) {
            tracing::warn!(%error, "the hashes of the pieces are not kept, and are made again next time");
        }
        Ok(all)
    }

    /// The hashes that are kept with a version, if there are any.
    pub(crate) fn kept_pieces(&self, version: &StoredVersion) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.pieces_path(&version.image, version.version);
        let expected: usize = version.signed.manifest.chunks.iter().map(bytes_of).sum();
        match fs::read(&path) {
            Ok(kept) => Ok((kept.len() == expected).then_some(kept)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::read(&path, error)),
        }
    }

    /// Keeps the hashes of a version's pieces.
    pub(crate) fn keep_pieces(
        &self,
        image: &ImageName,
        version: Version,
        hashes: &[u8],
    ) -> Result<(), StoreError> {
        let path = self.pieces_path(image, version);
        let directory = path.parent().expect("the file lies in a directory");
        fs::create_dir_all(directory).map_err(|error| StoreError::write(directory, error))?;
        write::replace(&path, hashes)
    }

    pub(super) fn pieces_path(&self, image: &ImageName, version: Version) -> PathBuf {
        self.image_directory(image)
            .join("pieces")
            .join(version.to_string())
    }

    /// Signs that a torrent is that of a version.
    pub fn sign_torrent(&self, manifest: &ManifestId, info_hash: &InfoHash) -> [u8; SIGNATURE_BYTES] {
        self.signing_key()
            .sign_bytes(CONTEXT, &statement(manifest, info_hash))
    }
}

impl VerifyingKey {
    /// Whether [`Store::sign_torrent`] with this key made `signature` for the torrent of a version.
    pub fn fits_torrent(&self, manifest: &ManifestId, info_hash: &InfoHash, signature: &[u8]) -> bool {
        self.fits(CONTEXT, &statement(manifest, info_hash), signature)
    }
}

/// The hashes of the pieces of a chunk as it is stored, one after the other.
pub(crate) fn piece_hashes_of(stored: &[u8]) -> Vec<u8> {
    PieceHash::of_chunk(stored).flat_map(|hash| hash.0).collect()
}

/// Bytes that the hashes of a chunk's pieces take.
fn bytes_of(chunk: &Chunk) -> usize {
    (chunk.handle.stored_len as usize).div_ceil(PIECE_BYTES) * 20
}
