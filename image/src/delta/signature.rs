//! Signatures: the sums of a basis's blocks.
//!
//! The format is librsync's for MD4 and its first rolling sum: magic, block size and size of the strong sums as
//! big-endian numbers of 4 bytes, then for each block its weak and strong sum.

use fast_rsync::SignatureOptions;

use super::{BASIS_BYTES, DeltaError, ReadAt, WINDOW_BYTES, read_exact_at};

/// librsync's magic number for MD4 sums.
const MAGIC: [u8; 4] = 0x7273_0136_u32.to_be_bytes();

const HEADER_BYTES: usize = 12;

/// Bytes of MD4 that are kept: enough that of 2^19 blocks and 2^35 places none matches by chance, nearly.
const STRONG_BYTES: u32 = 8;

/// A block's weak and strong sum.
const SUMS_BYTES: usize = 4 + STRONG_BYTES as usize;

/// Distinct weak sums that are expected in one bucket when their spread is checked.
const SPREAD: usize = 64;

/// The sums of all blocks of one basis of known size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    basis_bytes: u64,
    block_bytes: u32,
    /// Header and sums, as they are sent.
    encoded: Vec<u8>,
}

/// The block size that a basis of this many bytes has: the power of two at or below its square root, at least 1 KiB
/// and at most 64 KiB. Nobody chooses it, so nobody can choose it badly.
pub fn block_bytes(basis_bytes: u64) -> u32 {
    let bits = basis_bytes.checked_ilog2().unwrap_or(0) / 2;
    1 << bits.clamp(10, 16)
}

/// Sums the first `len` bytes of `basis`, in bounded memory beside the signature itself.
///
/// # Errors
/// [`DeltaError::BasisTooLarge`] above [`BASIS_BYTES`]; [`DeltaError::BasisShort`] and [`DeltaError::ReadBasis`].
pub fn signature(basis: impl ReadAt, len: u64) -> Result<Signature, DeltaError> {
    let shape = Shape::of(len)?;
    let options = SignatureOptions {
        block_size: shape.block_bytes,
        crypto_hash_size: STRONG_BYTES,
    };
    let mut encoded = Vec::with_capacity(shape.encoded_bytes());
    encoded.extend_from_slice(&shape.header());
    let mut window = vec![0; WINDOW_BYTES];
    let mut done = 0;
    while done < len {
        let take = usize::try_from(len - done).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        read_exact_at(&basis, &mut window[..take], done)?;
        let sums = fast_rsync::Signature::calculate(&window[..take], options);
        encoded.extend_from_slice(&sums.serialized()[HEADER_BYTES..]);
        done += take as u64;
    }
    Ok(Signature {
        basis_bytes: len,
        block_bytes: shape.block_bytes,
        encoded,
    })
}

impl Signature {
    /// Takes a signature from the other side, for a basis that is known to have `basis_bytes`.
    ///
    /// # Errors
    /// [`DeltaError::WrongSignature`] unless header and length are exactly those that this size demands, and for sums
    /// that were chosen to make looking them up slow; [`DeltaError::BasisTooLarge`].
    pub fn decode(bytes: Vec<u8>, basis_bytes: u64) -> Result<Self, DeltaError> {
        let shape = Shape::of(basis_bytes)?;
        if !bytes.starts_with(&shape.header()) {
            return Err(DeltaError::WrongSignature("its header is another one"));
        }
        if bytes.len() != shape.encoded_bytes() {
            return Err(DeltaError::WrongSignature("it has another number of blocks"));
        }
        if !well_spread(&bytes[HEADER_BYTES..]) {
            return Err(DeltaError::WrongSignature(
                "its sums are not those of any content",
            ));
        }
        Ok(Self {
            basis_bytes,
            block_bytes: shape.block_bytes,
            encoded: bytes,
        })
    }

    /// How many bytes [`Signature::decode`] takes for a basis of this size, to bound what is read from the other side.
    ///
    /// # Errors
    /// [`DeltaError::BasisTooLarge`].
    pub fn encoded_bytes(basis_bytes: u64) -> Result<usize, DeltaError> {
        Shape::of(basis_bytes).map(|shape| shape.encoded_bytes())
    }

    /// The signature as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.encoded
    }

    /// How many bytes the basis has.
    pub fn basis_bytes(&self) -> u64 {
        self.basis_bytes
    }

    /// Bytes of one block, but perhaps the last.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// The signature of the full blocks alone, for matching: a block that is not full cannot be found by rolling.
    pub(super) fn full_blocks(&self) -> Result<fast_rsync::Signature, DeltaError> {
        let mut full = self.encoded.clone();
        if self.tail_bytes() > 0 {
            full.truncate(full.len() - SUMS_BYTES);
        }
        fast_rsync::Signature::deserialize(full).map_err(|_| DeltaError::WrongSignature("it cannot be read"))
    }

    /// Bytes of the last block if that is not full, else 0.
    pub(super) fn tail_bytes(&self) -> usize {
        let tail = self.basis_bytes % u64::from(self.block_bytes);
        usize::try_from(tail).expect("less than a block")
    }

    /// Whether `bytes` have the sums of the last block, which is not full.
    pub(super) fn is_tail(&self, bytes: &[u8]) -> bool {
        if bytes.is_empty() || bytes.len() != self.tail_bytes() {
            return false;
        }
        let options = SignatureOptions {
            block_size: self.block_bytes,
            crypto_hash_size: STRONG_BYTES,
        };
        let sums = fast_rsync::Signature::calculate(bytes, options);
        self.encoded.ends_with(&sums.serialized()[HEADER_BYTES..])
    }
}

/// What the size of a basis says about its signature.
struct Shape {
    block_bytes: u32,
    blocks: usize,
}

impl Shape {
    fn of(basis_bytes: u64) -> Result<Self, DeltaError> {
        if basis_bytes > BASIS_BYTES {
            return Err(DeltaError::BasisTooLarge(basis_bytes));
        }
        let block_bytes = block_bytes(basis_bytes);
        let blocks = basis_bytes.div_ceil(u64::from(block_bytes));
        Ok(Self {
            block_bytes,
            blocks: usize::try_from(blocks).map_err(|_| DeltaError::BasisTooLarge(basis_bytes))?,
        })
    }

    fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&MAGIC);
        header[4..8].copy_from_slice(&self.block_bytes.to_be_bytes());
        header[8..].copy_from_slice(&STRONG_BYTES.to_be_bytes());
        header
    }

    fn encoded_bytes(&self) -> usize {
        HEADER_BYTES + self.blocks * SUMS_BYTES
    }
}

/// Whether the weak sums fall into the buckets of fast_rsync's hash table about evenly.
///
/// Its hash function is fixed, so sums can be chosen that all fall into a few buckets; 2^19 of them would keep us for
/// minutes. Those of a content, even a very regular one, do not: equal sums are one entry, and the function scatters
/// others.
fn well_spread(sums: &[u8]) -> bool {
    let mut weak: Vec<u32> = sums
        .chunks_exact(SUMS_BYTES)
        .map(|sums| u32::from_be_bytes([sums[0], sums[1], sums[2], sums[3]]))
        .collect();
    weak.sort_unstable();
    weak.dedup();
    // The table goes by the lowest bits of a hash, and neighbours in these are neighbours in the table.
    let slots = weak.len().next_power_of_two() as u64 * 2;
    let buckets = (weak.len() / SPREAD).next_power_of_two() as u64;
    let mut filled: Vec<u64> = weak
        .iter()
        .map(|&sum| (scatter(sum) & (slots - 1)) * buckets / slots)
        .collect();
    filled.sort_unstable();
    filled
        .chunk_by(|a, b| a == b)
        .all(|bucket| bucket.len() <= 8 * SPREAD)
}

/// fast_rsync's hash of a weak sum: the last step of xxHash64.
pub(super) fn scatter(sum: u32) -> u64 {
    let mut hash = u64::from(sum);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0x1656_67B1_9E37_79F9);
    hash ^ hash >> 32
}
