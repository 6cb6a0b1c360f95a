//! Applying a delta from the other side: streaming, bounded in memory, time and output.

use std::io::{BufReader, Read, Write};

use super::ops::{MAGIC, Op};
use super::{DeltaError, ReadAt, read_exact_at};

/// Bytes that are moved at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// What a delta may cost whoever applies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ApplyLimits {
    /// Bytes of the delta.
    pub delta_bytes: u64,
    /// Copies and literals in it.
    pub operations: u64,
}

impl ApplyLimits {
    /// More than any delta needs that [`super::encode_delta`] makes for a content of `len` bytes: its copies are blocks
    /// of at least 1 KiB, but for one, and between two of them is at most one literal per window.
    pub fn for_content(len: u64) -> Self {
        Self {
            delta_bytes: len.saturating_add(len / 64).saturating_add(64),
            operations: len / 256 + 64,
        }
    }
}

/// Writes the content of `expected_bytes` bytes that `delta` makes out of `basis` to `out`, in bounded memory.
///
/// The caller verifies the content's hash: a delta that is well formed can still make a wrong content.
///
/// # Errors
/// [`DeltaError::WrongDelta`] as soon as the delta exceeds `limits`, makes more or less than `expected_bytes`, or is
/// malformed; [`DeltaError::BasisShort`] when it copies from behind the basis; reading and writing. What was written
/// before an error is worthless.
pub fn apply_delta(
    basis: &impl ReadAt,
    delta: impl Read,
    mut out: impl Write,
    expected_bytes: u64,
    limits: ApplyLimits,
) -> Result<(), DeltaError> {
    let mut delta = BufReader::new(delta.take(limits.delta_bytes));
    let mut magic = [0; 4];
    delta.read_exact(&mut magic).map_err(DeltaError::ReadDelta)?;
    if magic != MAGIC {
        return Err(DeltaError::WrongDelta("it does not begin like one"));
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut left = expected_bytes;
    let mut operations = 0;
    loop {
        let op = Op::read(&mut delta)?;
        let (Op::Literal(len) | Op::Copy { len, .. }) = op else {
            break;
        };
        operations += 1;
        if operations > limits.operations {
            return Err(DeltaError::WrongDelta("more operations than it can need"));
        }
        left = left
            .checked_sub(len)
            .ok_or(DeltaError::WrongDelta("it makes more"))?;
        let mut offset = match op {
            Op::Copy { offset, .. } => Some(offset),
            Op::Literal(_) | Op::End => None,
        };
        let mut rest = len;
        while rest > 0 {
            let take = usize::try_from(rest).map_or(BUFFER_BYTES, |rest| rest.min(BUFFER_BYTES));
            let piece = &mut buffer[..take];
            match &mut offset {
                None => delta.read_exact(piece).map_err(DeltaError::ReadDelta)?,
                Some(at) => {
                    let end = at.checked_add(take as u64).ok_or(DeltaError::BasisShort(*at))?;
                    read_exact_at(basis, piece, *at)?;
                    *at = end;
                }
            }
            out.write_all(piece).map_err(DeltaError::Write)?;
            rest -= take as u64;
        }
    }
    if left > 0 {
        return Err(DeltaError::WrongDelta("it makes less"));
    }
    let mut behind = [0];
    if delta.read(&mut behind).map_err(DeltaError::ReadDelta)? > 0 {
        return Err(DeltaError::WrongDelta("something follows its end"));
    }
    out.flush().map_err(DeltaError::Write)
}
