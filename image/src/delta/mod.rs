//! Rolling-checksum deltas: the difference to a content that only the other side knows.
//!
//! Who has the old content (the basis) sends its [`Signature`]; who has the new one answers with a delta: copies out
//! of the basis, and literals. The formats are librsync's, and so is the matching, by `fast_rsync`; around it stands
//! what it leaves to its callers:
//!
//! - Whole slices only: here signatures are made, deltas found and applied window by window, so that memory does not
//!   depend on the size of a file (but a signature's on the basis: 12 bytes and at most 75 bytes of index a block).
//! - It trusts signatures: a block size of 0 panics or never ends, forged sums cost hours. Here the size of the basis
//!   dictates block size and count, nothing else is accepted, and the time for finding matches is bounded.
//! - The last block of a basis, which is usually not full, never matches. Here it does, at the end of the new content.
//!
//! Block sums are weak (32 bits) and strong (64 bits of MD4): enough to find matches, not to trust them. Whoever
//! applies a delta must verify the result by its BLAKE3 hash, and fetch the content whole if that is wrong.
//!
//! A delta is not always smaller than the content, and says nothing that equal hashes do not say cheaper: compare
//! hashes first, use deltas from [`WORTHWHILE_BYTES`], and take the content whole where [`DeltaStats`] says so.

mod apply;
mod encode;
mod ops;
mod part;
mod signature;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use apply::{ApplyLimits, apply_delta};
pub use encode::{DeltaStats, encode_delta};
pub use part::{apply_part, encode_part};
pub use signature::{Signature, block_bytes, signature};

/// Below this size a delta costs more than it saves: a signature, a round trip, and blocks of a kilobyte.
pub const WORTHWHILE_BYTES: u64 = 16 << 10;

/// The largest basis that has a signature: 2^19 blocks of 64 KiB, whose index takes about 40 MB. Larger contents go by
/// their parts of 4 MiB, of which the unchanged ones are known by their hashes.
pub const BASIS_BYTES: u64 = 32 << 30;

/// Bytes of new content that are held against a signature at a time, and bytes of a basis that are summed at a time.
/// It is a multiple of every block size.
const WINDOW_BYTES: usize = 1 << 20;

/// Something that can be read at any offset: a file, a slice, a content in a store.
pub trait ReadAt {
    /// Reads up to `buffer.len()` bytes from `offset`; 0 at the end.
    ///
    /// # Errors
    /// As the medium has them.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|at| self.get(at..))
            .unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl<T: ReadAt + ?Sized> ReadAt for &T {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        (**self).read_at(buffer, offset)
    }
}

/// Why a signature or delta could not be made, read or applied.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The basis is larger than [`BASIS_BYTES`].
    #[error("the old content has {0} bytes, more than rolling checksums are made for")]
    BasisTooLarge(u64),
    /// The basis could not be read.
    #[error("cannot read the old content at byte {offset}")]
    ReadBasis {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// The basis ends before the size that it should have, or a delta copies from behind its end.
    #[error("the old content ends at or before byte {0}")]
    BasisShort(u64),
    /// The new content could not be read.
    #[error("cannot read the new content")]
    ReadNew(#[source] io::Error),
    /// The new content ends before the size that was promised.
    #[error("the new content ends {0} bytes early")]
    NewShort(u64),
    /// The delta could not be read, or ends early.
    #[error("cannot read the delta")]
    ReadDelta(#[source] io::Error),
    /// The delta, or what it makes, could not be written.
    #[error("cannot write")]
    Write(#[source] io::Error),
    /// A signature is not what the size of its basis demands.
    #[error("this is no signature of the old content: {0}")]
    WrongSignature(&'static str),
    /// A delta is not what its limits allow.
    #[error("this is no delta for the content wanted: {0}")]
    WrongDelta(&'static str),
    /// Finding matches took longer than a genuine signature can cause.
    #[error("matching took too long: the signature is forged, or the content matches almost everywhere")]
    TooSlow,
}

/// Fills `buffer` from `offset` on.
fn read_exact_at(from: &impl ReadAt, mut buffer: &mut [u8], mut offset: u64) -> Result<(), DeltaError> {
    while !buffer.is_empty() {
        match from.read_at(buffer, offset) {
            Ok(0) => return Err(DeltaError::BasisShort(offset)),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(source) => return Err(DeltaError::ReadBasis { offset, source }),
        }
    }
    Ok(())
}
