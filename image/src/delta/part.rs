//! Deltas of single parts, compressed, as they travel.

use simulcast_protocol::limits::PART_BYTES;

use super::{ApplyLimits, DeltaError, ReadAt, Signature, apply_delta, encode_delta};
use crate::chunk::DEFAULT_LEVEL;

/// The compressed delta of a part; `None` when more than half of the part is new, for then the part itself, compressed
/// with its neighbours, is likely to be no larger, or when matching takes too long.
pub fn encode_part(signature: &Signature, part: &[u8]) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    let stats = encode_delta(signature, part, part.len() as u64, &mut raw).ok()?;
    if stats.literal_bytes > part.len() as u64 / 2 {
        return None;
    }
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
    zstd_safe::compress(&mut frame, &raw, DEFAULT_LEVEL).ok()?;
    Some(frame)
}

/// The part of `len` bytes that a compressed delta makes out of `basis`. The caller checks its hash.
///
/// # Errors
/// [`DeltaError::WrongDelta`] for what is no delta of such a part; [`DeltaError::ReadBasis`], [`DeltaError::BasisShort`].
pub fn apply_part(basis: &impl ReadAt, len: u32, frame: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let limits = ApplyLimits::for_content(len.into());
    let raw_len = zstd_safe::get_frame_content_size(frame).ok().flatten();
    let raw_len = raw_len.filter(|&raw_len| len as usize <= PART_BYTES && raw_len <= limits.delta_bytes);
    let raw_len = raw_len.and_then(|raw_len| usize::try_from(raw_len).ok());
    let mut raw = Vec::with_capacity(raw_len.ok_or(DeltaError::WrongDelta("it is too long for a part"))?);
    zstd_safe::decompress(&mut raw, frame).map_err(|_| DeltaError::WrongDelta("it does not decompress"))?;
    let mut part = Vec::with_capacity(len as usize);
    apply_delta(basis, &raw[..], &mut part, len.into(), limits)?;
    Ok(part)
}
