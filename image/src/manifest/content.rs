//! The content of a file: its size, the parts it is made of, and where its holes are.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::{ContentId, PartId};
use simulcast_protocol::limits::PART_BYTES;

use super::Part;

/// Separates the hash over many parts from the hash of raw bytes.
const CONTENT_CONTEXT: &str = "simulcast 2026-11-20 content of several parts";

const PART: u64 = PART_BYTES as u64;

/// The content of a regular file.
///
/// It is cut into parts of 4 MiB, the last one shorter. A part of zeros only is not stored: its place is `None`.
/// Holes say which of the zeros take no space on disk; they are a layout hint and no part of the content's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileContent {
    size: u64,
    parts: Parts,
    holes: Box<[Hole]>,
}

/// A range of a file that has no space allocated on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// First byte.
    pub start: u64,
    /// Length in bytes, at least 1.
    pub len: u64,
}

/// Where a part lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartPlace {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u32,
    /// Index in the table of parts; `None` when all its bytes are zero.
    pub part: Option<u32>,
}

/// Most files have one part: those take no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Parts {
    One(Option<u32>),
    Many(Box<[Option<u32>]>),
}

impl FileContent {
    /// A content of `size` bytes with one element of `parts` for each 4 MiB begun, and its holes in order.
    ///
    /// # Panics
    /// When the number of parts does not match the size.
    pub fn new(size: u64, parts: &[Option<u32>], holes: Vec<Hole>) -> Self {
        assert_eq!(
            parts.len() as u64,
            Self::part_count(size),
            "a file of {size} bytes has another number of parts"
        );
        let parts = match parts {
            [] => Parts::One(None),
            [one] => Parts::One(*one),
            many => Parts::Many(many.into()),
        };
        Self {
            size,
            parts,
            holes: holes.into(),
        }
    }

    /// A content of `size` zero bytes without holes.
    pub fn zeros(size: u64) -> Self {
        let count = usize::try_from(Self::part_count(size)).expect("a file's size is bounded");
        Self::new(size, &vec![None; count], Vec::new())
    }

    /// How many parts a file of `size` bytes has.
    pub fn part_count(size: u64) -> u64 {
        size.div_ceil(PART)
    }

    /// The length of the file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The ranges that take no space on disk, in order, not touching.
    pub fn holes(&self) -> &[Hole] {
        &self.holes
    }

    /// Bytes that the file takes on disk: its length without its holes.
    pub fn allocated(&self) -> u64 {
        self.size - self.holes.iter().map(|hole| hole.len).sum::<u64>()
    }

    /// The parts in file order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = PartPlace> {
        self.slots()
            .iter()
            .enumerate()
            .map(|(number, &part)| self.place(number, part))
    }

    /// The part that holds the byte at `offset`; `None` behind the end.
    pub fn part_at(&self, offset: u64) -> Option<PartPlace> {
        let number = usize::try_from(offset / PART)
            .ok()
            .filter(|_| offset < self.size)?;
        Some(self.place(number, self.slots()[number]))
    }

    fn slots(&self) -> &[Option<u32>] {
        match (&self.parts, self.size) {
            (_, 0) => &[],
            (Parts::One(one), _) => std::slice::from_ref(one),
            (Parts::Many(many), _) => many,
        }
    }

    fn place(&self, number: usize, part: Option<u32>) -> PartPlace {
        let offset = number as u64 * PART;
        let len = u32::try_from((self.size - offset).min(PART)).expect("a part is at most 4 MiB");
        PartPlace { offset, len, part }
    }

    /// The identity of the content: the same for the same logical bytes, whatever the holes.
    pub fn id(&self, parts: &[Part]) -> ContentId {
        let ids = self.parts().map(|place| match place.part {
            Some(part) => parts[part as usize].id,
            None => zero_part_id(place.len),
        });
        content_id(self.size, ids)
    }
}

/// The identity of a content of `size` bytes with these parts.
pub(crate) fn content_id(size: u64, mut parts: impl ExactSizeIterator<Item = PartId>) -> ContentId {
    match parts.len() {
        0 => ContentId::of(b""),
        1 => ContentId::from_bytes(*parts.next().expect("its length is 1").as_bytes()),
        _ => {
            let mut hasher = blake3::Hasher::new_derive_key(CONTENT_CONTEXT);
            hasher.update(&size.to_le_bytes());
            for part in parts {
                hasher.update(part.as_bytes());
            }
            ContentId::from_bytes(*hasher.finalize().as_bytes())
        }
    }
}

/// The identity of `len` zero bytes (at most 4 MiB).
pub fn zero_part_id(len: u32) -> PartId {
    static FULL: OnceLock<PartId> = OnceLock::new();
    let hash = |len: u32| PartId::of(&vec![0; len as usize]);
    if len as usize == PART_BYTES {
        *FULL.get_or_init(|| hash(len))
    } else {
        hash(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_the_file() {
        let content = FileContent::new(2 * PART + 5, &[Some(0), None, Some(1)], vec![]);
        let places: Vec<_> = content
            .parts()
            .map(|p| (p.offset, u64::from(p.len), p.part))
            .collect();
        assert_eq!(
            places,
            [(0, PART, Some(0)), (PART, PART, None), (2 * PART, 5, Some(1))]
        );
        assert_eq!(FileContent::new(0, &[], vec![]).parts().len(), 0);
    }

    #[test]
    fn identity_is_of_the_bytes_alone() {
        let part = |bytes: &[u8]| Part {
            id: PartId::of(bytes),
            len: u32::try_from(bytes.len()).unwrap(),
        };
        let parts = [part(b"x"), part(&[0; 9])];
        let hole = vec![Hole { start: 0, len: 9 }];
        assert_eq!(
            FileContent::new(9, &[None], hole).id(&parts),
            FileContent::new(9, &[Some(1)], vec![]).id(&parts)
        );
        assert_eq!(
            FileContent::new(1, &[Some(0)], vec![]).id(&parts),
            ContentId::of(b"x")
        );
        assert_eq!(FileContent::new(0, &[], vec![]).id(&parts), ContentId::of(b""));
        let full = vec![0; PART_BYTES];
        let many = [part(&full), part(b"x")];
        assert_eq!(
            FileContent::new(PART + 1, &[None, Some(1)], vec![]).id(&many),
            FileContent::new(PART + 1, &[Some(0), Some(1)], vec![]).id(&many)
        );
    }
}
