//! The mark that an install leaves on every disk that it partitions.
//!
//! It lies in the last 4 KiB before the first partition, where no partition table and no boot loader reaches. It says
//! whose disk it is and how far the install came, and holds only as long as the partitions are those that we made: once
//! somebody has changed them, the disk is not ours any more, and not erased unless it is asked for.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::{ContentId, ManifestId};
use simulcast_protocol::install::NodeName;

use super::{Content, Label};

/// Where the mark begins on a disk, in bytes: 4 KiB before the first MiB is over.
pub const MARK_OFFSET: u64 = (1 << 20) - MARK_BYTES as u64;

/// Bytes of a mark: one sector of the largest kind.
pub const MARK_BYTES: usize = 4096;

const MAGIC: &[u8; 16] = b"SIMULCAST DISK 1";
const HASH_BYTES: usize = 32;

/// Where the text begins: behind the magic, its length (4 bytes, little-endian) and the BLAKE3 of the text.
const TEXT: usize = MAGIC.len() + 4 + HASH_BYTES;

/// What we wrote on a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Mark {
    /// Whose it is.
    pub node: NodeName,
    /// What the layout calls the disk.
    pub disk: Label,
    /// The order that was carried out.
    pub order: u64,
    /// The version that was to be installed.
    pub manifest: ManifestId,
    /// Of all that was planned for the machine's disks.
    pub plan: ContentId,
    /// Identity of the partition table, in lower case.
    pub table_id: String,
    /// First byte and number of bytes of each partition.
    pub partitions: BTreeSet<(u64, u64)>,
    /// How far the install came.
    pub stage: Stage,
}

/// How far an install came with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// It has partitions.
    Partitioned,
    /// It has file systems: from here an interrupted install goes on.
    Formatted,
    /// It is complete, and boots.
    Installed,
}

/// A mark that cannot be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the mark of disk {0} needs more than 4 KiB: it has too many partitions")]
pub struct MarkError(Label);

impl Mark {
    /// The 4,096 bytes at [`MARK_OFFSET`].
    ///
    /// # Errors
    /// When there are so many partitions that it has no room.
    pub fn encode(&self) -> Result<Vec<u8>, MarkError> {
        let text = serde_json::to_vec(self).expect("a mark becomes JSON");
        let len = u32::try_from(text.len())
            .ok()
            .filter(|_| TEXT + text.len() <= MARK_BYTES);
        let len = len.ok_or_else(|| MarkError(self.disk.clone()))?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(blake3::hash(&text).as_bytes());
        bytes.extend(text);
        bytes.resize(MARK_BYTES, 0);
        Ok(bytes)
    }

    /// Reads those bytes; `None` when they are no whole mark.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let (hash, rest) = rest.split_first_chunk::<HASH_BYTES>()?;
        let text = rest.get(..usize::try_from(u32::from_le_bytes(*len)).ok()?)?;
        (blake3::hash(text).as_bytes() == hash).then_some(())?;
        serde_json::from_slice(text).ok()
    }

    /// Whether the disk is still as we left it: the same table, the same partitions.
    pub fn holds(&self, found: &Content) -> bool {
        let partitions: BTreeSet<_> = found
            .partitions
            .iter()
            .map(|partition| (partition.start, partition.bytes))
            .collect();
        found
            .table_id
            .as_deref()
            .is_some_and(|id| id.eq_ignore_ascii_case(&self.table_id))
            && partitions == self.partitions
            && found.partitions.len() == self.partitions.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Extent;
    use super::*;

    fn mark() -> Mark {
        Mark {
            node: "node01".parse().unwrap(),
            disk: "system".parse().unwrap(),
            order: 7,
            manifest: ManifestId::of(b"m"),
            plan: ContentId::of(b"p"),
            table_id: "0f".repeat(16),
            partitions: BTreeSet::from([(1 << 20, 1 << 30), (2 << 30, 1 << 30)]),
            stage: Stage::Formatted,
        }
    }

    #[test]
    fn a_mark_round_trips_and_a_damaged_one_is_none() {
        let bytes = mark().encode().unwrap();
        assert_eq!(bytes.len(), MARK_BYTES);
        assert_eq!(Mark::decode(&bytes), Some(mark()));
        for at in [0, 16, 19, 20, 51, 52, 200] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x40;
            assert_eq!(Mark::decode(&damaged), None, "byte {at}");
        }
        for len in [0, 10, 30, 60] {
            assert_eq!(Mark::decode(&bytes[..len]), None);
        }
        let mut large = mark();
        large.partitions = (0..200).map(|n| (n << 40, 1 << 40)).collect();
        assert!(large.encode().is_err());
    }

    #[test]
    fn it_holds_as_long_as_nobody_changed_the_partitions() {
        let extent = |number, start, bytes| Extent {
            number,
            start,
            bytes,
            label: None,
            kind: None,
            id: None,
            signature: None,
        };
        let mut found = Content {
            table: Some("gpt".into()),
            table_id: Some("0F".repeat(16)),
            partitions: vec![extent(1, 1 << 20, 1 << 30), extent(2, 2 << 30, 1 << 30)],
            ..Content::default()
        };
        assert!(mark().holds(&found));
        found.partitions[1].bytes += 512;
        assert!(!mark().holds(&found));
        found.partitions.pop();
        assert!(!mark().holds(&found));
        found.partitions.push(extent(2, 2 << 30, 1 << 30));
        found.table_id = Some("1f".repeat(16));
        assert!(!mark().holds(&found));
    }
}
