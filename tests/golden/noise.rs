//! Content that does not compress and is the same in every run.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

/// `len` bytes that follow from `seed`, as a reader.
pub fn reader(seed: &str, len: u64) -> io::Take<blake3::OutputReader> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().take(len)
}

/// `len` bytes that follow from `seed`.
pub fn bytes(seed: &str, len: usize) -> Vec<u8> {
    let mut data = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(seed.as_bytes());
    hasher.finalize_xof().fill(&mut data);
    data
}

/// Writes a file of `len` such bytes.
///
/// # Errors
/// When it cannot be written.
pub fn file(path: &Path, seed: &str, len: u64) -> Result<()> {
    let write = || -> io::Result<()> {
        let mut out = io::BufWriter::with_capacity(1 << 20, File::create(path)?);
        io::copy(&mut reader(seed, len), &mut out)?;
        out.flush()
    };
    write().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_follows_from_its_seed_alone() {
        let mut read = Vec::new();
        reader("a", 100_000).read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes("a", 100_000));
        assert_ne!(bytes("a", 64), bytes("b", 64));
    }
}
