//! The bytes of a pack's list: a magic number, the format version, and three sections of columns like a manifest's.

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::{ContentId, ManifestId};
use simulcast_protocol::limits::{
    CHUNK_STORED_BYTES, CHUNKS, FILE_BYTES, PACK_BASIS_BYTES, PACK_BYTES, PACK_RECORDS, PACK_SOURCES,
    PART_BYTES,
};

use super::{Form, Pack, PackChunk, PackError, Record};
use crate::manifest::{Handles, Manifest, read_head, read_section, write_head, write_section};

const MAGIC: [u8; 8] = *b"SIMPACK\0";

/// The format that this code writes and reads.
const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Info {
    from: Vec<ManifestId>,
    to: ManifestId,
}

/// Columns of the records, in the order in which they lie in the chunks.
#[derive(Default, Serialize, Deserialize)]
struct Records {
    bases: Vec<ContentId>,
    part: Vec<u32>,
    len: Vec<u32>,
    /// 0 whole, 1 prefix, 2 rolling.
    form: Vec<u8>,
    /// Of those that have one.
    basis: Vec<u32>,
    /// Of prefixes: where the prefix begins, and its length.
    prefix: Vec<(u64, u32)>,
}

#[derive(Default, Serialize, Deserialize)]
struct Chunks {
    handles: Handles,
    record_count: Vec<u32>,
    borrowed: Vec<u32>,
}

pub(super) fn encode(pack: &Pack) -> Vec<u8> {
    let mut out = write_head(MAGIC, FORMAT);
    let (from, to) = (pack.from.clone(), pack.to);
    write_section(&mut out, &Info { from, to });
    let mut records = Records {
        bases: pack.bases.clone(),
        ..Records::default()
    };
    let mut chunks = Chunks {
        borrowed: pack.borrowed.clone(),
        ..Chunks::default()
    };
    for chunk in &pack.chunks {
        chunks.handles.push(&chunk.handle);
        let count = u32::try_from(chunk.records.len()).expect("a record has at least one byte");
        chunks.record_count.push(count);
        chunk.records.iter().for_each(|record| records.push(record));
    }
    write_section(&mut out, &records);
    write_section(&mut out, &chunks);
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Pack, PackError> {
    let (format, mut rest) = read_head(bytes, MAGIC).ok_or(PackError::Damaged("first"))?;
    if format != FORMAT {
        return Err(PackError::Format(format));
    }
    let mut budget = PACK_BYTES;
    let damaged = |name| move |_| PackError::Damaged(name);
    let info: Info = read_section(&mut rest, &mut budget, "info").map_err(damaged("info"))?;
    let records: Records = read_section(&mut rest, &mut budget, "records").map_err(damaged("records"))?;
    let chunks: Chunks = read_section(&mut rest, &mut budget, "chunks").map_err(damaged("chunks"))?;
    let sources = (1..=PACK_SOURCES).contains(&info.from.len()) && info.from.is_sorted_by(|a, b| a < b);
    if !rest.is_empty() || !sources {
        return Err(PackError::Damaged("info"));
    }
    let (bases, rows) = records.into_rows()?;
    let (chunks, borrowed) = chunks.into_rows(&rows)?;
    Ok(Pack {
        from: info.from,
        to: info.to,
        bases,
        chunks,
        borrowed,
    })
}

/// Whether the pack leads to `manifest`: every index is in range, every length within its bound.
pub(super) fn check(pack: &Pack, manifest: &Manifest) -> Result<(), PackError> {
    for record in pack.chunks.iter().flat_map(|chunk| &chunk.records) {
        let part = manifest.parts.get(record.part as usize);
        let part = part.ok_or(PackError::Unsound(
            "it makes a part that the version does not have",
        ))?;
        if record.form == Form::Whole && record.len != part.len {
            return Err(PackError::Unsound(
                "a whole part has another length than the version says",
            ));
        }
    }
    let known = |&index: &u32| (index as usize) < manifest.chunks.len();
    if !pack.borrowed.iter().all(known) || !pack.borrowed.is_sorted_by(|a, b| a < b) {
        return Err(PackError::Unsound(
            "it borrows chunks that the version does not have",
        ));
    }
    Ok(())
}

impl Records {
    fn push(&mut self, record: &Record) {
        self.part.push(record.part);
        self.len.push(record.len);
        self.form.push(match record.form {
            Form::Whole => 0,
            Form::Prefix { basis, offset, len } => {
                self.basis.push(basis);
                self.prefix.push((offset, len));
                1
            }
            Form::Rolling { basis } => {
                self.basis.push(basis);
                2
            }
        });
    }

    fn into_rows(self) -> Result<(Vec<ContentId>, Vec<Record>), PackError> {
        let damaged = || PackError::Damaged("records");
        let count = self.part.len();
        if count > PACK_RECORDS || self.len.len() != count || self.form.len() != count {
            return Err(damaged());
        }
        let (mut bases, mut prefixes) = (self.basis.iter(), self.prefix.iter());
        let mut basis = || {
            let basis = bases.next().copied();
            basis.filter(|&basis| (basis as usize) < self.bases.len())
        };
        let mut rows = Vec::with_capacity(count);
        for row in 0..count {
            let form = match self.form[row] {
                0 => Form::Whole,
                1 => {
                    let &(offset, len) = prefixes.next().ok_or_else(damaged)?;
                    if offset > FILE_BYTES || !(1..=PACK_BASIS_BYTES).contains(&(len as usize)) {
                        return Err(damaged());
                    }
                    let basis = basis().ok_or_else(damaged)?;
                    Form::Prefix { basis, offset, len }
                }
                2 => Form::Rolling {
                    basis: basis().ok_or_else(damaged)?,
                },
                _ => return Err(damaged()),
            };
            let (part, len) = (self.part[row], self.len[row]);
            rows.push(Record { part, len, form });
        }
        if bases.next().is_some() || prefixes.next().is_some() {
            return Err(damaged());
        }
        Ok((self.bases, rows))
    }
}

impl Chunks {
    fn into_rows(self, records: &[Record]) -> Result<(Vec<PackChunk>, Vec<u32>), PackError> {
        let damaged = || PackError::Damaged("chunks");
        let count = self.handles.len();
        if count + self.borrowed.len() > CHUNKS || self.record_count.len() != count {
            return Err(damaged());
        }
        let handles = self.handles.into_rows().ok_or_else(damaged)?;
        let mut rows = Vec::with_capacity(count);
        let mut left = records;
        for (handle, records) in handles.into_iter().zip(self.record_count) {
            let (mine, after) = left.split_at_checked(records as usize).ok_or_else(damaged)?;
            left = after;
            let total: u64 = mine.iter().map(|record| u64::from(record.len)).sum();
            let sound = (1..=PART_BYTES).contains(&(handle.raw_len as usize))
                && (1..=CHUNK_STORED_BYTES).contains(&(handle.stored_len as usize))
                && mine.iter().all(|record| record.len > 0)
                && total == u64::from(handle.raw_len);
            if !sound {
                return Err(damaged());
            }
            let records = mine.to_vec();
            rows.push(PackChunk { handle, records });
        }
        if left.is_empty() {
            Ok((rows, self.borrowed))
        } else {
            Err(damaged())
        }
    }
}
