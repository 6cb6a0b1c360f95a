//! The initramfs as the kernel reads it: a cpio archive of the kind "newc", compressed by zstd.
//!
//! The format is that of the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`: a header of fourteen
//! hexadecimal numbers, the name, the content, each padded to four bytes.

use zstd_safe::CParameter;

use crate::error::PackageError;
use crate::tree::{Node, Tree};

/// The kinds of files in a mode, as in `<linux/stat.h>`.
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DEVICE: u32 = 0o020_000;

/// The name of the last entry.
const TRAILER: &str = "TRAILER!!!";

/// The archive of `tree`. Owners are root, times are 0, and numbers of inodes count from 1, so that equal trees are equal
/// archives.
///
/// # Errors
/// When a file is too long for the format, which is 4 GiB.
pub(crate) fn pack(tree: &Tree) -> Result<Vec<u8>, PackageError> {
    let mut out = Vec::new();
    for (number, (path, node)) in (1..).zip(tree.iter()) {
        let (mode, content, device): (u32, &[u8], _) = match node {
            Node::Directory(mode) => (DIRECTORY | mode, &[], (0, 0)),
            Node::File(mode, content) => (FILE | mode, content, (0, 0)),
            Node::Link(target) => (LINK | 0o777, target.as_bytes(), (0, 0)),
            Node::Device(mode, major, minor) => (DEVICE | mode, &[], (*major, *minor)),
        };
        entry(&mut out, number, path, mode, content, device)?;
    }
    entry(&mut out, 0, TRAILER, 0, &[], (0, 0))?;
    Ok(out)
}

fn entry(
    out: &mut Vec<u8>,
    inode: u32,
    path: &str,
    mode: u32,
    content: &[u8],
    (major, minor): (u32, u32),
) -> Result<(), PackageError> {
    let too_long = || PackageError::malformed(path.as_ref(), "it is too long for an initramfs");
    let size = u32::try_from(content.len()).map_err(|_| too_long())?;
    let name = u32::try_from(path.len() + 1).map_err(|_| too_long())?;
    let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
    out.extend_from_slice(b"070701");
    for number in [inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, name, 0] {
        out.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out);
    out.extend_from_slice(content);
    pad(out);
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Compresses in one frame with a checksum. Level 1 is quick, 19 is small.
///
/// # Errors
/// What zstd says.
pub(crate) fn compress(bytes: &[u8], level: i32) -> Result<Vec<u8>, PackageError> {
    let failed = |code| PackageError::Compress(zstd_safe::get_error_name(code));
    let mut context = zstd_safe::CCtx::create();
    for parameter in [
        CParameter::CompressionLevel(level),
        CParameter::ChecksumFlag(true),
    ] {
        context.set_parameter(parameter).map_err(failed)?;
    }
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    context.compress2(&mut out, bytes).map_err(failed)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut tree = Tree::default();
        tree.put("init", Node::Link("x".to_owned()));
        let packed = pack(&tree).unwrap();
        let expected = "07070100000001\
                        0000a1ff\
                        0000000000000000\
                        00000001\
                        00000000\
                        00000001\
                        00000000000000000000000000000000\
                        00000005\
                        00000000\
                        init\0\0x\0\0\0";
        assert_eq!(
            String::from_utf8_lossy(&packed[..expected.len()]),
            expected,
            "{}",
            packed.len()
        );
        assert!(packed.len().is_multiple_of(4) && packed.ends_with(b"TRAILER!!!\0\0\0\0"));
    }

    #[test]
    fn what_is_compressed_comes_back() {
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let packed = compress(&bytes, 3).unwrap();
        let mut back = Vec::with_capacity(bytes.len());
        zstd_safe::decompress(&mut back, &packed).unwrap();
        assert_eq!(back, bytes);
        assert_eq!(compress(&bytes, 3).unwrap(), packed);
    }
}
