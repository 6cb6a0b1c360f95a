//! What the bytes of manifests and of update packs have in common: a head, sections, and columns of chunks' handles.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::MANIFEST_BYTES;

use super::DecodeError;
use crate::chunk::{ChunkHandle, ChunkKey, Encoding};

/// zstd level of the sections: manifests are small, written once and sent to every node.
const LEVEL: i32 = 9;

/// How many bytes zstd can make of one at most: its smallest block has 4 bytes and stands for 128 KiB (RFC 8878, 3.1.1.2).
const EXPANSION: usize = 1 << 15;

/// The head: a magic number and the number of the format, little-endian.
pub(crate) fn write_head(magic: [u8; 8], format: u32) -> Vec<u8> {
    [&magic[..], &format.to_le_bytes()].concat()
}

/// The number of the format, and what follows; `None` for what does not begin with `magic`.
pub(crate) fn read_head(bytes: &[u8], magic: [u8; 8]) -> Option<(u32, &[u8])> {
    let (format, rest) = bytes.strip_prefix(&magic)?.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*format), rest))
}

/// A section: length of the raw bytes, length of the zstd frame (both little-endian, 32 bits), the frame.
pub(crate) fn write_section<T: Serialize>(out: &mut Vec<u8>, value: &T) {
    let raw = postcard::to_stdvec(value).expect("columns of plain values always encode");
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(raw.len()));
    zstd_safe::compress(&mut frame, &raw, LEVEL).expect("the buffer has the bound's size");
    let len32 = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a section is far below 4 GiB");
    out.extend(len32(&raw).to_le_bytes());
    out.extend(len32(&frame).to_le_bytes());
    out.extend(frame);
}

/// Reads one, and takes its raw length off `budget` before memory is taken for it.
pub(crate) fn read_section<T: DeserializeOwned>(
    rest: &mut &[u8],
    budget: &mut usize,
    name: &'static str,
) -> Result<T, DecodeError> {
    let damaged = || DecodeError::Damaged(name);
    let mut number = || {
        let (bytes, after) = rest.split_first_chunk::<4>().ok_or_else(damaged)?;
        *rest = after;
        Ok::<_, DecodeError>(u32::from_le_bytes(*bytes) as usize)
    };
    let (raw_len, frame_len) = (number()?, number()?);
    *budget = budget
        .checked_sub(raw_len)
        .ok_or(DecodeError::TooMany("bytes", MANIFEST_BYTES))?;
    let (frame, after) = rest.split_at_checked(frame_len).ok_or_else(damaged)?;
    *rest = after;
    // The frame must say its size itself and be able to fill it, so that a lie about `raw_len` allocates nothing.
    if raw_len > frame.len().saturating_mul(EXPANSION) {
        return Err(damaged());
    }
    if zstd_safe::get_frame_content_size(frame).ok().flatten() != Some(raw_len as u64) {
        return Err(damaged());
    }
    let mut raw = Vec::with_capacity(raw_len);
    zstd_safe::decompress(&mut raw, frame).map_err(|_| damaged())?;
    match postcard::take_from_bytes(&raw) {
        Ok((value, [])) => Ok(value),
        _ => Err(damaged()),
    }
}

/// Columns of chunks' handles.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Handles {
    id: Vec<ChunkId>,
    key: Vec<ChunkKey>,
    encoding: Vec<Encoding>,
    stored_len: Vec<u32>,
    raw_len: Vec<u32>,
}

impl Handles {
    pub(crate) fn push(&mut self, handle: &ChunkHandle) {
        self.id.push(handle.id);
        self.key.push(handle.key);
        self.encoding.push(handle.encoding);
        self.stored_len.push(handle.stored_len);
        self.raw_len.push(handle.raw_len);
    }

    pub(crate) fn len(&self) -> usize {
        self.id.len()
    }

    /// The handles; `None` when the columns have different lengths.
    pub(crate) fn into_rows(self) -> Option<Vec<ChunkHandle>> {
        let others = [
            self.key.len(),
            self.encoding.len(),
            self.stored_len.len(),
            self.raw_len.len(),
        ];
        let handle = |row| ChunkHandle {
            id: self.id[row],
            key: self.key[row],
            encoding: self.encoding[row],
            stored_len: self.stored_len[row],
            raw_len: self.raw_len[row],
        };
        let count = self.id.len();
        others
            .iter()
            .all(|&len| len == count)
            .then(|| (0..count).map(handle).collect())
    }
}
