//! Chunks: the only unit of storing and moving data.
//!
//! A chunk is at most 4 MiB of raw content, compressed on its own, encrypted under a key of its own, and named by
//! the BLAKE3 of the result. Whoever holds only chunks holds ciphertext; keys stand in the manifest.
//!
//! The key is derived from the compressed bytes and a secret of the store, so equal content gives an equal chunk in
//! one store, while nobody without the secret can confirm a guess. A key is used for one text only, so the counter
//! starts at zero.

use ctr::cipher::{KeyIvInit, StreamCipher};
use serde::{Deserialize, Serialize};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::{CHUNK_STORED_BYTES, PART_BYTES};

type Cipher = ctr::Ctr64LE<aes::Aes256>;

/// The zstd level of a usual capture: the best size before time per byte triples.
pub const DEFAULT_LEVEL: i32 = 3;

/// The secret of a store from which chunk keys are derived. 32 random bytes; it never leaves the image server.
#[derive(Clone)]
pub struct ChunkSecret(pub [u8; 32]);

/// The AES-256 key of one chunk.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkKey(pub(crate) [u8; 32]);

/// How a chunk's raw bytes became the bytes that were encrypted. Update packs will add theirs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Encoding {
    /// The raw bytes themselves: zstd gained less than 2 %.
    Raw,
    /// One zstd frame.
    Zstd,
}

/// What is needed to turn a stored chunk back into raw bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChunkHandle {
    /// The chunk's name.
    pub id: ChunkId,
    /// Its key.
    pub key: ChunkKey,
    /// Its encoding.
    pub encoding: Encoding,
    /// Bytes as stored and sent; 1 to [`CHUNK_STORED_BYTES`].
    pub stored_len: u32,
    /// Bytes when opened; 1 to [`PART_BYTES`].
    pub raw_len: u32,
}

/// A chunk could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenChunkError {
    /// Its bytes are not those that its name promises.
    #[error("chunk {0} is damaged: its bytes do not match its name")]
    Damaged(ChunkId),
    /// Name and bytes agree but they do not decompress to what the manifest says.
    #[error("chunk {0} does not decompress to the {1} bytes that the manifest promises")]
    Undecodable(ChunkId, u32),
}

/// Compresses raw bytes; one per thread, since it keeps a context.
pub struct Compressor {
    context: zstd_safe::CCtx<'static>,
    level: i32,
}

/// Opens chunks; one per thread, since it keeps a decompression context and a buffer.
pub struct Opener {
    context: zstd_safe::DCtx<'static>,
    raw: Vec<u8>,
}

impl Compressor {
    /// A compressor at a zstd level (1 to 19; [`DEFAULT_LEVEL`] is usual).
    pub fn new(level: i32) -> Self {
        Self {
            context: zstd_safe::CCtx::create(),
            level,
        }
    }

    /// Compresses `raw` (1 to [`PART_BYTES`] bytes) into `payload`, which is overwritten.
    ///
    /// # Panics
    /// When `raw` is empty or longer than [`PART_BYTES`]: the packer never makes such a chunk.
    pub fn compress(&mut self, raw: &[u8], payload: &mut Vec<u8>) -> Encoding {
        assert!(
            !raw.is_empty() && raw.len() <= PART_BYTES,
            "a chunk holds 1 byte to 4 MiB, not {}",
            raw.len()
        );
        payload.clear();
        payload.reserve(zstd_safe::compress_bound(raw.len()));
        let compressed = self.context.compress(payload, raw, self.level).is_ok();
        if compressed && payload.len() < raw.len() / 50 * 49 {
            return Encoding::Zstd;
        }
        payload.clear();
        payload.extend_from_slice(raw);
        Encoding::Raw
    }
}

impl ChunkSecret {
    /// Encrypts `payload`, which holds `raw_len` bytes encoded as `encoding`, in place: it becomes the stored chunk.
    pub fn seal(&self, encoding: Encoding, raw_len: u32, payload: &mut [u8]) -> ChunkHandle {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[match encoding {
            Encoding::Raw => 0,
            Encoding::Zstd => 1,
        }]);
        let key = ChunkKey(*hasher.update(payload).finalize().as_bytes());
        apply_keystream(&key, payload);
        let stored_len = u32::try_from(payload.len()).expect("a chunk is at most 4 MiB");
        ChunkHandle {
            id: ChunkId::of(payload),
            key,
            encoding,
            stored_len,
            raw_len,
        }
    }
}

impl Default for Opener {
    fn default() -> Self {
        Self {
            context: zstd_safe::DCtx::create(),
            raw: Vec::new(),
        }
    }
}

impl Opener {
    /// Turns the stored bytes of `chunk` into its raw bytes, checking them against its name first.
    /// `stored` is decrypted in place and is of no use afterwards.
    ///
    /// # Errors
    /// [`OpenChunkError`] when the bytes are damaged or are not what the manifest promises.
    pub fn open(&mut self, chunk: &ChunkHandle, stored: &mut [u8]) -> Result<&[u8], OpenChunkError> {
        if stored.len() != chunk.stored_len as usize || ChunkId::of(stored) != chunk.id {
            return Err(OpenChunkError::Damaged(chunk.id));
        }
        self.open_verified(chunk, stored)
    }

    /// The same for bytes whose name has been checked already, as a transport does before it delivers them.
    ///
    /// # Errors
    /// [`OpenChunkError::Undecodable`] when the bytes are not what the manifest promises.
    pub fn open_verified(&mut self, chunk: &ChunkHandle, stored: &mut [u8]) -> Result<&[u8], OpenChunkError> {
        apply_keystream(&chunk.key, stored);
        self.decode(chunk.encoding, chunk.raw_len, stored)
            .ok_or(OpenChunkError::Undecodable(chunk.id, chunk.raw_len))
    }

    /// Turns a payload back into `raw_len` raw bytes; `None` when it is something else or over a bound.
    pub fn decode(&mut self, encoding: Encoding, raw_len: u32, payload: &[u8]) -> Option<&[u8]> {
        if raw_len as usize > PART_BYTES || payload.len() > CHUNK_STORED_BYTES {
            return None;
        }
        self.raw.clear();
        match encoding {
            Encoding::Raw => self.raw.extend_from_slice(payload),
            Encoding::Zstd => {
                self.raw.reserve_exact(raw_len as usize);
                self.context.decompress(&mut self.raw, payload).ok()?;
            }
        }
        (self.raw.len() == raw_len as usize).then_some(&self.raw[..])
    }
}

fn apply_keystream(key: &ChunkKey, bytes: &mut [u8]) {
    Cipher::new(&key.0.into(), &[0; 16].into()).apply_keystream(bytes);
}

impl std::fmt::Debug for ChunkSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkSecret(..)")
    }
}

impl std::fmt::Debug for ChunkKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ChunkKey(..)")
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor")
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(raw: &[u8]) -> (ChunkHandle, Vec<u8>) {
        seal_with(&ChunkSecret([7; 32]), raw)
    }

    fn seal_with(secret: &ChunkSecret, raw: &[u8]) -> (ChunkHandle, Vec<u8>) {
        let mut stored = Vec::new();
        let encoding = Compressor::new(DEFAULT_LEVEL).compress(raw, &mut stored);
        let chunk = secret.seal(encoding, u32::try_from(raw.len()).unwrap(), &mut stored);
        (chunk, stored)
    }

    #[test]
    fn equal_content_gives_an_equal_chunk_and_reveals_nothing() {
        let raw = b"the same bytes ".repeat(1000);
        let ((one, stored), (two, _)) = (seal(&raw), seal(&raw));
        assert_eq!(one, two);
        assert_eq!(one.encoding, Encoding::Zstd);
        assert!(stored.len() < 200);
        assert_ne!(seal_with(&ChunkSecret([8; 32]), &raw).0.id, one.id);
    }

    #[test]
    fn a_flipped_bit_or_a_cut_is_noticed() {
        let (chunk, stored) = seal(&b"0123456789".repeat(500));
        let mut flipped = stored.clone();
        flipped[3] ^= 1;
        for bad in [&mut flipped[..], &mut stored.clone()[..stored.len() - 1], &mut []] {
            assert!(matches!(
                Opener::default().open(&chunk, bad),
                Err(OpenChunkError::Damaged(_))
            ));
        }
    }

    #[test]
    fn a_manifest_that_lies_about_the_length_is_noticed() {
        let (mut chunk, stored) = seal(&b"0123456789".repeat(500));
        for raw_len in [1, 4999, 5001, u32::MAX] {
            chunk.raw_len = raw_len;
            let mut opener = Opener::default();
            let result = opener.open(&chunk, &mut stored.clone()).map(<[u8]>::len);
            assert!(matches!(result, Err(OpenChunkError::Undecodable(..))));
        }
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens(raw in proptest::collection::vec(any::<u8>(), 1..5000), times in 1usize..20) {
            let raw = raw.repeat(times);
            let (chunk, mut stored) = seal(&raw);
            prop_assert!(stored.len() <= raw.len());
            let mut opener = Opener::default();
            prop_assert_eq!(opener.open(&chunk, &mut stored).unwrap(), &raw[..]);
        }
    }
}
