//! Writes manifests that the encoder would never write: a second statement of the format, column by column.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fs::{Device, Xattr};
use crate::manifest::{Hole, Info, Manifest};

const LEVEL: i32 = 9;

/// The columns of a manifest, each free to be wrong.
pub(super) struct Forged {
    info: Info,
    pub(super) entries: Entries,
    pub(super) parts: Parts,
    pub(super) chunks: Chunks,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Entries {
    pub(super) parent_back: Vec<u32>,
    pub(super) name_len: Vec<u8>,
    pub(super) names: Vec<u8>,
    pub(super) kind: Vec<u8>,
    pub(super) mode: Vec<u16>,
    uid: Vec<u32>,
    gid: Vec<u32>,
    seconds: Vec<i64>,
    nanos: Vec<u32>,
    pub(super) xattrs: Vec<(u32, Vec<Xattr>)>,
    target_len: Vec<u16>,
    pub(super) targets: Vec<u8>,
    pub(super) devices: Vec<Device>,
    pub(super) link_back: Vec<u32>,
    pub(super) size: Vec<u64>,
    pub(super) part_refs: Vec<u32>,
    pub(super) holes: Vec<(u32, Vec<Hole>)>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Parts {
    id: Vec<[u8; 32]>,
    pub(super) len: Vec<u32>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Chunks {
    id: Vec<[u8; 32]>,
    key: Vec<[u8; 32]>,
    encoding: Vec<u8>,
    stored_len: Vec<u32>,
    pub(super) raw_len: Vec<u32>,
    pub(super) segment_count: Vec<u32>,
    pub(super) segments: Vec<u32>,
    pub(super) dead_len: Vec<u32>,
}

impl Forged {
    /// The columns of a sound manifest, to be changed.
    pub(super) fn of(manifest: &Manifest) -> Self {
        let [info, entries, parts, chunks] = raw_sections(manifest);
        Self {
            info: columns_of(&info),
            entries: columns_of(&entries),
            parts: columns_of(&parts),
            chunks: columns_of(&chunks),
        }
    }

    /// What decoding says of the columns as they are now.
    pub(super) fn decode_error(&self) -> String {
        let sections = [
            postcard::to_stdvec(&self.info).unwrap(),
            postcard::to_stdvec(&self.entries).unwrap(),
            postcard::to_stdvec(&self.parts).unwrap(),
            postcard::to_stdvec(&self.chunks).unwrap(),
        ];
        crate::chain(&Manifest::decode(&assemble(&sections)).unwrap_err())
    }
}

/// The columns of the entries.
pub(super) fn columns(manifest: &Manifest) -> Entries {
    columns_of(&raw_sections(manifest)[1])
}

fn columns_of<T: DeserializeOwned>(raw: &[u8]) -> T {
    let (columns, rest) = postcard::take_from_bytes(raw).unwrap();
    assert!(rest.is_empty());
    columns
}

/// The four sections of a manifest, uncompressed.
pub(super) fn raw_sections(manifest: &Manifest) -> [Vec<u8>; 4] {
    let encoded = manifest.encode();
    let mut rest = &encoded[12..];
    let sections = std::array::from_fn(|_| {
        let (lengths, after) = rest.split_first_chunk::<8>().unwrap();
        let [raw_len, frame_len] = [0, 4].map(|at| {
            let bytes: [u8; 4] = lengths[at..at + 4].try_into().unwrap();
            u32::from_le_bytes(bytes) as usize
        });
        let (frame, after) = after.split_at(frame_len);
        rest = after;
        let mut raw = Vec::with_capacity(raw_len);
        zstd_safe::decompress(&mut raw, frame).unwrap();
        assert_eq!(raw.len(), raw_len);
        raw
    });
    assert!(rest.is_empty());
    sections
}

/// A manifest of these sections.
pub(super) fn assemble(sections: &[Vec<u8>; 4]) -> Vec<u8> {
    let mut bytes = [&b"SIMCAST\0"[..], &1u32.to_le_bytes()].concat();
    for raw in sections {
        let mut frame = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
        zstd_safe::compress(&mut frame, raw, LEVEL).unwrap();
        bytes.extend(len32(raw));
        bytes.extend(len32(&frame));
        bytes.extend(frame);
    }
    bytes
}

pub(super) fn len32(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap().to_le_bytes()
}

/// A zstd frame (RFC 8878) that announces so many bytes and holds one block of 8 raw ones.
pub(super) fn lying_frame(claimed: u32) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd];
    // Single segment, content size in 4 bytes.
    frame.push(0b1010_0000);
    frame.extend(claimed.to_le_bytes());
    // Last block, raw, 8 bytes.
    frame.extend([8 << 3 | 1, 0, 0]);
    frame.extend([0; 8]);
    frame
}
