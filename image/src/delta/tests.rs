//! Tests of [`super`]: that new content comes back, against fast_rsync by itself, and what hostile input does.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::encode::{encode_within, matching_time};
use super::ops::Op;
use super::*;
use crate::testing::noise;

fn sign(basis: &[u8]) -> Signature {
    let made = signature(basis, basis.len() as u64).unwrap();
    assert_eq!(
        Signature::encoded_bytes(basis.len() as u64).unwrap(),
        made.as_bytes().len()
    );
    let decoded = Signature::decode(made.as_bytes().to_vec(), basis.len() as u64).unwrap();
    assert_eq!(decoded, made);
    decoded
}

fn encode(basis: &[u8], new: &[u8]) -> (Vec<u8>, DeltaStats) {
    let mut delta = Vec::new();
    let stats = encode_delta(&sign(basis), new, new.len() as u64, &mut delta).unwrap();
    assert_eq!(stats.delta_bytes, delta.len() as u64);
    assert_eq!(stats.copied_bytes + stats.literal_bytes, new.len() as u64);
    (delta, stats)
}

fn apply(basis: &[u8], delta: &[u8], expected: usize) -> Result<Vec<u8>, DeltaError> {
    let mut out = Vec::new();
    let expected = expected as u64;
    apply_delta(
        &basis,
        delta,
        &mut out,
        expected,
        ApplyLimits::for_content(expected),
    )
    .map(|()| out)
}

/// There and back, by our decoder and by fast_rsync's.
fn round_trip(basis: &[u8], new: &[u8]) -> DeltaStats {
    let (delta, stats) = encode(basis, new);
    assert!(apply(basis, &delta, new.len()).unwrap() == new);
    let mut theirs = Vec::new();
    fast_rsync::apply_limited(basis, &delta, &mut theirs, new.len()).unwrap();
    assert!(theirs == new);
    stats
}

#[test]
fn block_sizes_follow_from_the_size() {
    let sizes = [
        0,
        1,
        1 << 20,
        (1 << 22) - 1,
        1 << 22,
        1 << 26,
        1 << 32,
        BASIS_BYTES,
    ];
    let blocks = sizes.map(block_bytes);
    assert_eq!(blocks, [1024, 1024, 1024, 1024, 2048, 8192, 65536, 65536]);
    assert!(matches!(
        signature(&[][..], BASIS_BYTES + 1),
        Err(DeltaError::BasisTooLarge(_))
    ));
    assert!(matches!(
        Signature::decode(vec![], u64::MAX),
        Err(DeltaError::BasisTooLarge(_))
    ));
}

#[test]
fn a_signature_made_by_windows_is_fast_rsyncs() {
    for len in [0, 1, 1023, 1024, 1025, 3 << 20, (5 << 20) + 7] {
        let basis = noise(len, 1);
        let options = fast_rsync::SignatureOptions {
            block_size: block_bytes(len as u64),
            crypto_hash_size: 8,
        };
        let theirs = fast_rsync::Signature::calculate(&basis, options);
        assert!(sign(&basis).as_bytes() == theirs.serialized(), "{len}");
    }
}

#[test]
fn equal_contents_are_one_copy_whatever_their_size() {
    for len in [1, 100, 1024, 5000, (1 << 20) + 1, (3 << 20) + 12_345] {
        let basis = noise(len, 2);
        let stats = round_trip(&basis, &basis);
        assert_eq!(
            (stats.literal_bytes, stats.copied_bytes),
            (0, len as u64),
            "{len}"
        );
        assert!(stats.delta_bytes <= 11, "{len}: {stats:?}");
    }
}

#[test]
fn changes_cost_about_a_block_each() {
    let basis = noise((8 << 20) + 777, 3);
    let block = u64::from(block_bytes(basis.len() as u64));
    let mut patched = basis.clone();
    patched[5 << 20] ^= 1;
    assert!(round_trip(&basis, &patched).literal_bytes <= block);
    let mut inserted = basis.clone();
    inserted.splice(3_000_001..3_000_001, *b"inserted");
    assert!(round_trip(&basis, &inserted).literal_bytes <= block + 8);
    // Shifted by one byte against all windows: nothing is lost at their borders.
    let shifted = [b"x", basis.as_slice()].concat();
    assert_eq!(round_trip(&basis, &shifted).literal_bytes, 1);
    let cut = &basis[1..];
    assert!(round_trip(&basis, cut).literal_bytes <= block);
    let appended = [basis.as_slice(), &noise(10_000, 4)].concat();
    assert!(round_trip(&basis, &appended).literal_bytes <= block + 10_000);
    assert_eq!(round_trip(&basis, &[]).delta_bytes, 5);
    assert_eq!(round_trip(&[], &basis).literal_bytes, basis.len() as u64);
    assert_eq!(round_trip(&basis, &noise(3 << 20, 5)).copied_bytes, 0);
}

#[test]
fn zeros_and_repetitions() {
    let zeros = vec![0; 3 << 20];
    round_trip(&zeros, &zeros);
    round_trip(&zeros, &zeros[..(2 << 20) + 5]);
    let pattern: Vec<u8> = noise(1500, 6).repeat(2000);
    round_trip(&pattern, &pattern[100..]);
    round_trip(&pattern, &zeros);
}

/// A content of 600 MiB that exists only as it is read: a patch in the middle, memory independent of the size.
#[test]
fn larger_than_the_memory_that_is_used() {
    const LEN: u64 = 600 << 20;
    const PATCH: u64 = 400 << 20;
    struct Made {
        at: u64,
        patched: bool,
    }
    /// The eight bytes at a multiple of eight.
    fn word(at: u64, patched: bool) -> [u8; 8] {
        let word = at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at >> 13;
        (if patched && (PATCH..PATCH + 100_000).contains(&at) {
            !word
        } else {
            word
        })
        .to_le_bytes()
    }
    fn fill(buffer: &mut [u8], at: u64, patched: bool) -> usize {
        let len = usize::try_from(LEN - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        assert!(
            at.is_multiple_of(8) && len <= 1 << 20,
            "asked for {len} bytes at {at}"
        );
        for (index, piece) in buffer[..len].chunks_mut(8).enumerate() {
            piece.copy_from_slice(&word(at + index as u64 * 8, patched)[..piece.len()]);
        }
        len
    }
    impl ReadAt for Made {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
            Ok(fill(buffer, offset, self.patched))
        }
    }
    impl Read for Made {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let whole = buffer.len() / 8 * 8;
            if whole == 0 {
                return Ok(0);
            }
            let take = whole.min(1 << 16);
            let len = fill(&mut buffer[..take], self.at, self.patched);
            self.at += len as u64;
            Ok(len)
        }
    }
    /// Compares what is written with what it should be, without keeping it.
    struct Check(u64);
    impl Write for Check {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            for &byte in bytes {
                let at = self.0;
                assert_eq!(
                    byte,
                    word(at & !7, true)[usize::try_from(at & 7).unwrap()],
                    "at byte {at}"
                );
                self.0 += 1;
            }
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let basis = Made {
        at: 0,
        patched: false,
    };
    let signature = signature(&basis, LEN).unwrap();
    let mut delta = Vec::new();
    let stats = encode_delta(&signature, Made { at: 0, patched: true }, LEN, &mut delta).unwrap();
    assert!(stats.literal_bytes <= 100_000 + 2 * 16384, "{stats:?}");
    let mut check = Check(0);
    apply_delta(
        &basis,
        delta.as_slice(),
        &mut check,
        LEN,
        ApplyLimits::for_content(LEN),
    )
    .unwrap();
    assert_eq!(check.0, LEN);
}

#[test]
fn contents_that_are_shorter_than_promised() {
    let basis = noise(5000, 7);
    assert!(matches!(
        signature(basis.as_slice(), 5001),
        Err(DeltaError::BasisShort(5000))
    ));
    let signature = sign(&basis);
    for promised in [5001, 3 << 20] {
        let result = encode_delta(&signature, basis.as_slice(), promised, Vec::new());
        assert!(
            matches!(result, Err(DeltaError::NewShort(left)) if left == promised - 5000),
            "{result:?}"
        );
    }
    // A basis that became shorter on the node.
    let (delta, _) = encode(&basis, &basis);
    assert!(matches!(
        apply(&basis[..4000], &delta, 5000),
        Err(DeltaError::BasisShort(4000))
    ));
}

#[test]
fn only_the_signature_that_the_size_demands_is_taken() {
    let basis = noise(100_000, 8);
    let good = sign(&basis).as_bytes().to_vec();
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        change(&mut bad);
        matches!(
            Signature::decode(bad, 100_000),
            Err(DeltaError::WrongSignature(_))
        )
    };
    assert!(refused(&|bytes| bytes.truncate(11)));
    assert!(refused(&|bytes| bytes.clear()));
    assert!(refused(&|bytes| bytes[3] = 0x37));
    assert!(refused(&|bytes| bytes[4..8].fill(0)));
    assert!(refused(
        &|bytes| bytes[4..8].copy_from_slice(&2048_u32.to_be_bytes())
    ));
    assert!(refused(&|bytes| bytes[8..12].fill(0)));
    assert!(refused(&|bytes| bytes[8..12].fill(0xff)));
    assert!(refused(&|bytes| bytes.truncate(bytes.len() - 1)));
    assert!(refused(&|bytes| bytes.truncate(bytes.len() - 12)));
    assert!(refused(&|bytes| bytes.extend([0; 12])));
    assert!(Signature::decode(good.clone(), 100_353).is_err());
    assert!(Signature::decode(good, 100_352).is_ok());
}

#[test]
fn sums_chosen_to_collide_are_refused_and_regular_ones_are_not() {
    let blocks: usize = 1 << 16;
    let len = blocks as u64 * 65536;
    let header = [
        &0x7273_0136_u32.to_be_bytes()[..],
        &65536_u32.to_be_bytes(),
        &8_u32.to_be_bytes(),
    ]
    .concat();
    let forge = |weak: &mut dyn Iterator<Item = u32>| {
        let mut bytes = header.clone();
        for sum in weak.take(blocks) {
            bytes.extend(sum.to_be_bytes());
            bytes.extend([0; 8]);
        }
        Signature::decode(bytes, len)
    };
    // All in one of 256 parts of the table.
    let mut chosen = (0..=u32::MAX).filter(|&sum| super::signature::scatter(sum) & 0x1_fe00 == 0);
    assert!(matches!(forge(&mut chosen), Err(DeltaError::WrongSignature(_))));
    assert!(forge(&mut (0..)).is_ok());
    assert!(forge(&mut (0..).step_by(65536)).is_ok());
    assert!(forge(&mut std::iter::repeat(7)).is_ok());
}

#[test]
fn a_forged_signature_costs_bounded_time() {
    // The weak sums are genuine and the strong ones are not, and the content repeats itself: every place is a miss.
    let pattern = noise(8192, 9);
    let new = pattern.repeat(8192);
    let basis_bytes = new.len() as u64;
    let mut forged = Vec::new();
    let mut rotated = pattern.clone();
    for _ in 0..8192 {
        rotated.rotate_left(1);
        forged.extend_from_slice(&rotated);
    }
    let mut bytes = signature(forged.as_slice(), basis_bytes)
        .unwrap()
        .as_bytes()
        .to_vec();
    bytes[12..].chunks_mut(12).for_each(|sums| sums[4..].fill(0));
    let forged = Signature::decode(bytes, basis_bytes).unwrap();
    let time = Duration::from_millis(300);
    let started = Instant::now();
    let result = encode_within(time, &forged, new.as_slice(), basis_bytes, std::io::sink());
    assert!(matches!(result, Err(DeltaError::TooSlow)), "{result:?}");
    // One window more than the time given; loaded machines take longer by the clock.
    assert!(started.elapsed().as_secs() < 60);
    assert!(matching_time(0) >= Duration::from_secs(5));
    assert_eq!(matching_time(1_000_000_000), Duration::from_secs(105));
}

#[test]
fn deltas_beyond_their_limits_are_refused() {
    let basis = noise(10_000, 10);
    let delta = |ops: &[(Op, &[u8])]| {
        let mut bytes = ops::MAGIC.to_vec();
        for (op, literal) in ops {
            op.write(&mut bytes).unwrap();
            bytes.extend_from_slice(literal);
        }
        bytes
    };
    let end = (Op::End, &b""[..]);
    let copy = |offset, len| (Op::Copy { offset, len }, &b""[..]);
    assert_eq!(
        apply(&basis, &delta(&[copy(1, 2), (Op::Literal(1), b"x"), end]), 3).unwrap(),
        [basis[1], basis[2], b'x']
    );
    let reason = |bytes: &[u8], expected| match apply(&basis, bytes, expected) {
        Err(DeltaError::WrongDelta(reason)) => reason.to_owned(),
        Err(other) => other.to_string(),
        Ok(_) => panic!("it was taken"),
    };
    assert_eq!(reason(b"rs\x027", 0), "it does not begin like one");
    assert_eq!(reason(&delta(&[copy(0, 4), end]), 3), "it makes more");
    assert_eq!(reason(&delta(&[copy(0, u64::MAX), end]), 3), "it makes more");
    assert_eq!(reason(&delta(&[copy(0, 2), end]), 3), "it makes less");
    assert_eq!(
        reason(&[delta(&[copy(0, 3), end]), vec![1]].concat(), 3),
        "something follows its end"
    );
    assert_eq!(
        reason(&delta(&[(Op::Literal(u64::MAX), b"")]), 3),
        "it makes more"
    );
    assert_eq!(
        reason(&delta(&[copy(0, 1); 100]), 1000),
        "more operations than it can need"
    );
    assert_eq!(reason(&delta(&[copy(0, 3)]), 3), "cannot read the delta");
    assert_eq!(
        reason(&delta(&[(Op::Literal(3), b"ab")]), 3),
        "cannot read the delta"
    );
    assert_eq!(
        reason(&delta(&[copy(9_999, 2), end]), 2),
        "the old content ends at or before byte 10000"
    );
    assert!(reason(&delta(&[copy(u64::MAX, 2), end]), 2).starts_with("the old content ends"));
    let limits = ApplyLimits {
        delta_bytes: 6,
        operations: 10,
    };
    let long = delta(&[(Op::Literal(3), b"abc"), end]);
    assert!(apply_delta(&basis.as_slice(), long.as_slice(), Vec::new(), 3, limits).is_err());
}

/// How to make two contents that share pieces: what deltas are for.
#[derive(Debug, Clone)]
struct Related {
    basis_bytes: usize,
    seed: u64,
    /// Where a piece of the basis begins, how long it is, and how much new stands behind it.
    pieces: Vec<(usize, usize, usize)>,
}

impl Related {
    fn any() -> impl Strategy<Value = Self> {
        let pieces = proptest::collection::vec((0usize..60_000, 0usize..8_000, 0usize..1_500), 0..8);
        (0usize..60_000, any::<u64>(), pieces).prop_map(|(basis_bytes, seed, pieces)| Self {
            basis_bytes,
            seed,
            pieces,
        })
    }

    fn make(&self) -> (Vec<u8>, Vec<u8>) {
        let basis = noise(self.basis_bytes, self.seed);
        let mut new = Vec::new();
        for (index, &(start, len, fresh)) in self.pieces.iter().enumerate() {
            let start = start.min(basis.len());
            new.extend_from_slice(&basis[start..(start + len).min(basis.len())]);
            new.extend(noise(fresh, !self.seed ^ index as u64));
        }
        (basis, new)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn new_content_comes_back(related in Related::any()) {
        let (basis, new) = related.make();
        let ours = round_trip(&basis, &new);
        // fast_rsync by itself: we match as much, but cut a literal once or twice, and apply what it makes.
        let sums = sign(&basis);
        let theirs = fast_rsync::Signature::deserialize(sums.as_bytes().to_vec()).unwrap();
        let mut delta = Vec::new();
        fast_rsync::diff(&theirs.index(), &new, &mut delta).unwrap();
        prop_assert!(ours.delta_bytes <= delta.len() as u64 + 16, "{ours:?} against {}", delta.len());
        prop_assert!(apply(&basis, &delta, new.len()).unwrap() == new);
    }

    #[test]
    fn a_spoiled_delta_never_panics_nor_makes_too_much(
        related in Related::any(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (basis, new) = related.make();
        let (mut delta, _) = encode(&basis, &new);
        for (index, byte) in changes {
            let at = index.index(delta.len());
            delta[at] = byte;
        }
        delta.truncate(cut.index(delta.len()) + 1);
        let mut out = Vec::new();
        let len = new.len() as u64;
        let result = apply_delta(&basis.as_slice(), delta.as_slice(), &mut out, len, ApplyLimits::for_content(len));
        prop_assert!(out.len() <= new.len());
        prop_assert!(result.is_err() || out.len() == new.len());
    }

    #[test]
    fn a_spoiled_signature_never_panics_and_makes_a_delta_that_ends(
        related in Related::any(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..40),
    ) {
        let (basis, new) = related.make();
        let mut bytes = sign(&basis).as_bytes().to_vec();
        for (index, byte) in changes {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(signature) = Signature::decode(bytes, basis.len() as u64) {
            let mut delta = Vec::new();
            encode_delta(&signature, new.as_slice(), new.len() as u64, &mut delta).unwrap();
            apply(&basis, &delta, new.len()).unwrap();
        }
    }

    #[test]
    fn no_bytes_are_a_delta_that_panics(delta in proptest::collection::vec(any::<u8>(), 0..300), len in 0usize..3000) {
        let mut bytes = ops::MAGIC.to_vec();
        bytes.extend(delta);
        let _refused_or_not = apply(&[7; 1000], &bytes, len);
    }
}
