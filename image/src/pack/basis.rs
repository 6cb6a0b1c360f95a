//! Which old content a new file most likely came from: the one at the same path; else at the same path but for the digits in it,
//! as of a new version of a library or a kernel; else of the same name but for the digits, anywhere. Of several, the one that is
//! nearest in size.

use std::collections::HashMap;

use crate::manifest::{Kind, Manifest};

/// A path, or what is left of it, hashed: a collision only costs a worse basis.
type Key = u64;

/// Files of one old version, found by path and by what their paths have in common.
#[derive(Debug)]
pub(super) struct Names {
    by_path: HashMap<Key, u32>,
    /// By path without digits, and by name without digits: sizes and entries, in rising order.
    alike: HashMap<Key, Vec<(u64, u32)>>,
}

impl Names {
    pub(super) fn new(manifest: &Manifest) -> Self {
        let mut names = Self {
            by_path: HashMap::new(),
            alike: HashMap::new(),
        };
        for index in 0u32..u32::try_from(manifest.entries.len()).expect("entries are bounded") {
            let (inode, entry) = manifest.inode(index);
            let Kind::File(content) = &entry.kind else {
                continue;
            };
            if content.size() == 0 {
                continue;
            }
            let path = manifest.path(index);
            names.by_path.insert(key(b"path", &path), inode);
            for alike in [shape_key(&path), name_key(&path)] {
                let files = names.alike.entry(alike).or_default();
                files.push((content.size(), inode));
            }
        }
        names.alike.values_mut().for_each(|files| files.sort_unstable());
        names
    }

    /// The entry whose content is most like a file of `size` bytes at `path`.
    pub(super) fn find(&self, path: &[u8], size: u64) -> Option<u32> {
        let same = self.by_path.get(&key(b"path", path)).copied();
        same.or_else(|| self.nearest(shape_key(path), size))
            .or_else(|| self.nearest(name_key(path), size))
    }

    fn nearest(&self, alike: Key, size: u64) -> Option<u32> {
        let files = self.alike.get(&alike)?;
        let above = files.partition_point(|&(other, _)| other < size);
        let around = files[above.saturating_sub(1)..].iter().take(2);
        around
            .min_by_key(|(other, _)| other.abs_diff(size))
            .map(|&(_, entry)| entry)
    }
}

fn shape_key(path: &[u8]) -> Key {
    key(b"shape", &shape(path))
}

fn name_key(path: &[u8]) -> Key {
    let name = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    key(b"name", &shape(&path[name..]))
}

/// The path with one digit for each run of digits.
fn shape(path: &[u8]) -> Vec<u8> {
    let mut shape = Vec::with_capacity(path.len());
    for &byte in path {
        let byte = if byte.is_ascii_digit() { b'0' } else { byte };
        if byte != b'0' || shape.last() != Some(&b'0') {
            shape.push(byte);
        }
    }
    shape
}

fn key(kind: &[u8], bytes: &[u8]) -> Key {
    let hash = blake3::Hasher::new()
        .update(kind)
        .update(b"\0")
        .update(bytes)
        .finalize();
    Key::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_do_not_count() {
        assert_eq!(shape(b"lib/modules/6.1.0-50/a.ko"), b"lib/modules/0.0.0-0/a.ko");
        assert_eq!(shape_key(b"lib/6.1.0-9/a"), shape_key(b"lib/6.12.0-10/a"));
        assert_eq!(name_key(b"usr/lib/libc.so.6"), name_key(b"lib/libc.so.12"));
        assert_ne!(name_key(b"usr/lib/libc.so.6"), shape_key(b"libc.so.6"));
    }
}
