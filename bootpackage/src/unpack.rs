//! Modules, firmware and packages as distributions ship them: plain, or compressed by xz or zstd.

use std::fs;
use std::io::Read;
use std::path::Path;

use crate::error::PackageError;

/// Bytes that one module or firmware file has at most: the largest is 60 MB with its debugging data.
const FILE_BYTES: u64 = 256 << 20;

/// The name of a file without the suffix of its compression.
pub(crate) fn plain_name(name: &str) -> &str {
    name.strip_suffix(".xz")
        .or_else(|| name.strip_suffix(".zst"))
        .unwrap_or(name)
}

/// The content of a file, decompressed by what its name says.
///
/// # Errors
/// When it cannot be read or decompressed, or is longer than such a file can be.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, PackageError> {
    let packed = fs::read(path).map_err(PackageError::read(path))?;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let plain = match extension {
        Some("xz") => limited(liblzma::read::XzDecoder::new(&packed[..])),
        Some("zst") => limited(Zstd::new(&packed)),
        _ => Ok(packed),
    };
    plain.map_err(|error| PackageError::malformed(path, format!("it cannot be decompressed: {error}")))
}

fn limited(from: impl Read) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    from.take(FILE_BYTES + 1).read_to_end(&mut plain)?;
    if plain.len() as u64 > FILE_BYTES {
        return Err(std::io::Error::other("it is too long"));
    }
    Ok(plain)
}

/// Reads what zstd frames hold.
pub(crate) struct Zstd<'a> {
    context: zstd_safe::DCtx<'static>,
    from: zstd_safe::InBuffer<'a>,
    open: bool,
}

impl<'a> Zstd<'a> {
    pub(crate) fn new(packed: &'a [u8]) -> Self {
        Self {
            context: zstd_safe::DCtx::create(),
            from: zstd_safe::InBuffer::around(packed),
            open: false,
        }
    }
}

impl Read for Zstd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            let mut out = zstd_safe::OutBuffer::around(buffer);
            let before = self.from.pos();
            let hint = self
                .context
                .decompress_stream(&mut out, &mut self.from)
                .map_err(|code| std::io::Error::other(zstd_safe::get_error_name(code)))?;
            let written = out.pos();
            if written > 0 {
                self.open = hint != 0;
                return Ok(written);
            }
            if self.from.pos() == before {
                // No progress: either all is read, or a frame is cut short.
                let cut =
                    self.open || hint != 0 && self.from.pos() > 0 && self.from.pos() < self.from.src.len();
                return if cut {
                    Err(std::io::ErrorKind::UnexpectedEof.into())
                } else {
                    Ok(0)
                };
            }
            self.open = hint != 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn all_three_forms_are_read_and_cut_ones_refused() {
        let directory = tempfile::tempdir().unwrap();
        let plain: Vec<u8> = (0..300_000_u32).flat_map(u32::to_be_bytes).collect();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(&plain).unwrap();
        let xz = xz.finish().unwrap();
        let zst = crate::archive::compress(&plain, 1).unwrap();
        for (name, packed) in [("a.ko", &plain), ("a.ko.xz", &xz), ("a.ko.zst", &zst)] {
            let path = directory.path().join(name);
            fs::write(&path, packed).unwrap();
            assert!(read(&path).unwrap() == plain, "{name}");
            assert_eq!(plain_name(name), "a.ko");
            if name != "a.ko" {
                fs::write(&path, &packed[..packed.len() / 2]).unwrap();
                assert!(
                    matches!(read(&path), Err(PackageError::Malformed { .. })),
                    "{name}"
                );
            }
        }
    }
}
