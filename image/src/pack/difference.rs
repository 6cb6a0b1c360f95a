//! The difference between two contents as a zstd frame that has the old one as its prefix.
//!
//! A frame is decoded into a buffer of exactly the length that is wanted, and what comes out is checked by its caller: neither a
//! forged frame nor a wrong prefix can do more than give wrong bytes.

use simulcast_protocol::limits::{PACK_BASIS_BYTES, PART_BYTES};
use zstd_safe::{CCtx, CParameter, DCtx, SafeResult};

use crate::chunk::DEFAULT_LEVEL;

/// From this length on matches far away are looked for as well: the usual tables of this level forget what is further back.
const LONG: usize = 1 << 20;

/// The frame that makes `part` with `prefix`, both within their bounds; `None` when zstd has no memory.
///
/// # Panics
/// When `part` or `prefix` is longer than its bound, which its maker never asks for.
pub(super) fn encode(prefix: &[u8], part: &[u8]) -> Option<Vec<u8>> {
    assert!(prefix.len() <= PACK_BASIS_BYTES && part.len() <= PART_BYTES);
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(part.len()));
    // A context cannot outlive its prefix, so there is one for each.
    compress(prefix, part, &mut frame).ok()?;
    Some(frame)
}

fn compress(prefix: &[u8], part: &[u8], frame: &mut Vec<u8>) -> SafeResult {
    let mut context = CCtx::create();
    let both = prefix.len() + part.len();
    let window = both.next_power_of_two().ilog2().max(10);
    context.set_parameter(CParameter::CompressionLevel(DEFAULT_LEVEL))?;
    context.set_parameter(CParameter::WindowLog(window))?;
    if both >= LONG {
        context.set_parameter(CParameter::EnableLongDistanceMatching(true))?;
    }
    context.ref_prefix(prefix)?;
    context.compress2(frame, part)
}

/// The `len` bytes that a frame makes with `prefix`; `None` when it makes something else.
pub(super) fn decode(prefix: &[u8], frame: &[u8], len: u32) -> Option<Vec<u8>> {
    if len as usize > PART_BYTES {
        return None;
    }
    let mut part = Vec::with_capacity(len as usize);
    let mut context = DCtx::create();
    context.ref_prefix(prefix).ok()?;
    context.decompress(&mut part, frame).ok()?;
    (part.len() == len as usize).then_some(part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::noise;

    #[test]
    fn an_insertion_costs_little_wherever_the_old_bytes_lie() {
        let prefix = noise(PACK_BASIS_BYTES, 1);
        for start in [0, 5_000_000, 12_000_000] {
            let mut part = prefix[start..start + PART_BYTES - 100].to_vec();
            part.splice(70_000..70_000, noise(100, 2));
            let frame = encode(&prefix, &part).unwrap();
            assert!(frame.len() < 10_000, "{} bytes at {start}", frame.len());
            let len = u32::try_from(part.len()).unwrap();
            assert_eq!(decode(&prefix, &frame, len).unwrap(), part);
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_decodes_and_nothing_else_does(
            prefix in proptest::collection::vec(any::<u8>(), 0..3000),
            part in proptest::collection::vec(any::<u8>(), 1..3000),
            flip in any::<prop::sample::Index>(),
        ) {
            let mut frame = encode(&prefix, &part).unwrap();
            let len = u32::try_from(part.len()).unwrap();
            prop_assert_eq!(decode(&prefix, &frame, len), Some(part));
            prop_assert_eq!(decode(&prefix, &frame, len - 1), None);
            let at = flip.index(frame.len());
            frame[at] ^= 0x55;
            // Anything of the right length, or nothing: the caller looks at the hash.
            prop_assert!(decode(&prefix, &frame, len).is_none_or(|made| made.len() == len as usize));
        }
    }
}
