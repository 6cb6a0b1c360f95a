//! Putting a pack together: what was found for each chunk of the new version becomes records in chunks, in order.

use std::collections::HashMap;

use simulcast_protocol::id::{ContentId, ManifestId};
use simulcast_protocol::limits::PART_BYTES;

use super::{Form, Pack, PackChunk, Record};
use crate::chunk::{Compressor, DEFAULT_LEVEL};
use crate::store::{ChunkStore, Store, StoreError};

/// What is done about one chunk of the new version.
pub(super) enum Found {
    /// Nobody lacks anything of it.
    Nothing,
    /// It goes as it is.
    Borrowed,
    /// What is lacked of it goes as records.
    Records(Vec<Piece>),
}

/// A record that has no place yet.
pub(super) struct Piece {
    pub(super) part: u32,
    pub(super) kind: PieceKind,
    pub(super) bytes: Vec<u8>,
}

/// What the bytes of one are.
#[derive(Clone, Copy)]
pub(super) enum PieceKind {
    Whole,
    Prefix { basis: ContentId, offset: u64, len: u32 },
    Rolling { basis: ContentId },
}

/// A pack that is being put together.
pub(super) struct Draft<'a> {
    store: &'a Store,
    compressor: Compressor,
    pack: Pack,
    bases: HashMap<ContentId, u32>,
    /// Whole parts compress among themselves; differences are compressed already.
    wholes: Filling,
    differences: Filling,
}

/// A chunk that is being filled.
#[derive(Default)]
struct Filling {
    raw: Vec<u8>,
    records: Vec<Record>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(store: &'a Store, from: Vec<ManifestId>, to: ManifestId) -> Self {
        Self {
            store,
            compressor: Compressor::new(DEFAULT_LEVEL),
            pack: Pack {
                from,
                to,
                bases: Vec::new(),
                chunks: Vec::new(),
                borrowed: Vec::new(),
            },
            bases: HashMap::new(),
            wholes: Filling::default(),
            differences: Filling::default(),
        }
    }

    pub(super) fn take(&mut self, index: u32, found: Found) -> Result<(), StoreError> {
        match found {
            Found::Nothing => {}
            Found::Borrowed => self.pack.borrowed.push(index),
            Found::Records(pieces) => {
                for piece in pieces {
                    self.put(&piece)?;
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, piece: &Piece) -> Result<(), StoreError> {
        let form = match piece.kind {
            PieceKind::Whole => Form::Whole,
            PieceKind::Prefix { basis, offset, len } => Form::Prefix {
                basis: self.basis(basis),
                offset,
                len,
            },
            PieceKind::Rolling { basis } => Form::Rolling {
                basis: self.basis(basis),
            },
        };
        let record = Record {
            part: piece.part,
            len: u32::try_from(piece.bytes.len()).expect("a record is no longer than its part"),
            form,
        };
        let filling = match form {
            Form::Whole => &mut self.wholes,
            Form::Prefix { .. } | Form::Rolling { .. } => &mut self.differences,
        };
        let full = if filling.raw.len() + piece.bytes.len() <= PART_BYTES {
            None
        } else if piece.bytes.len() >= PART_BYTES / 2 {
            // It stands alone, so that the open one goes on filling.
            let mut alone = Filling::default();
            alone.push(record, &piece.bytes);
            return self.seal(&alone);
        } else {
            Some(std::mem::take(filling))
        };
        filling.push(record, &piece.bytes);
        full.map_or(Ok(()), |full| self.seal(&full))
    }

    fn basis(&mut self, content: ContentId) -> u32 {
        let bases = &mut self.pack.bases;
        *self.bases.entry(content).or_insert_with(|| {
            bases.push(content);
            u32::try_from(bases.len() - 1).expect("contents are bounded")
        })
    }

    fn seal(&mut self, filling: &Filling) -> Result<(), StoreError> {
        if filling.raw.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::new();
        let encoding = self.compressor.compress(&filling.raw, &mut payload);
        let raw_len = u32::try_from(filling.raw.len()).expect("a chunk is at most 4 MiB");
        let handle = self.store.secret().seal(encoding, raw_len, &mut payload);
        self.store.chunks().write(&handle.id, &payload)?;
        let records = filling.records.clone();
        self.pack.chunks.push(PackChunk { handle, records });
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Pack, StoreError> {
        for filling in [
            std::mem::take(&mut self.wholes),
            std::mem::take(&mut self.differences),
        ] {
            self.seal(&filling)?;
        }
        Ok(self.pack)
    }
}

impl Filling {
    fn push(&mut self, record: Record, bytes: &[u8]) {
        self.raw.extend_from_slice(bytes);
        self.records.push(record);
    }
}
