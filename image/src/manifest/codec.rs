//! The bytes of a manifest: a magic number, the format version, and four sections (info, entries, parts, chunks), each
//! a zstd frame of postcard-encoded columns. Columns of like values compress a sixth better than rows.
//!
//! Decoding bounds every length before it is allocated, and ends with [`check`](super::check), so that what comes out
//! is sound or refused.

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::{CHUNKS, ENTRIES, FILE_BYTES, MANIFEST_BYTES, PART_BYTES, PARTS};

use super::check::{self, Unsound};
use super::sections::{Handles, read_head, read_section, write_head, write_section};
use super::{Chunk, Entry, FileContent, Hole, Info, Kind, Manifest, Part, Segment};
use crate::fs::{Device, Meta, Timestamp, Xattr};

const MAGIC: [u8; 8] = *b"SIMCAST\0";

/// The format that this code writes and reads. A change that an older reader cannot understand takes the next number.
const FORMAT: u32 = 1;

/// Why bytes are not taken as a manifest.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin like a manifest.
    #[error("the manifest does not begin like one")]
    Magic,
    /// They are of a format that this program does not know.
    #[error("the manifest has format {0}, this program reads format {FORMAT}: a newer Simulcast wrote it")]
    Format(u32),
    /// They end too early, or go on behind the end, or a section is no zstd frame.
    #[error("the manifest is cut short or damaged in its {0} section")]
    Damaged(&'static str),
    /// A count is over its bound.
    #[error("the manifest has more {0} than the {1} that are allowed")]
    TooMany(&'static str, usize),
    /// The tables contradict themselves or each other.
    #[error("the manifest is unsound")]
    Unsound(#[from] Unsound),
}

/// Columns of the entries; those that concern files only have one value a file.
#[derive(Default, Serialize, Deserialize)]
struct Entries {
    /// An entry's index less its parent's; 0 for the root.
    parent_back: Vec<u32>,
    name_len: Vec<u8>,
    names: Vec<u8>,
    kind: Vec<u8>,
    mode: Vec<u16>,
    uid: Vec<u32>,
    gid: Vec<u32>,
    seconds: Vec<i64>,
    nanos: Vec<u32>,
    xattrs: Vec<(u32, Vec<Xattr>)>,
    /// Of symlinks.
    target_len: Vec<u16>,
    targets: Vec<u8>,
    /// Of devices.
    devices: Vec<Device>,
    /// Of hard links: the entry's index less that of its inode.
    link_back: Vec<u32>,
    /// Of files.
    size: Vec<u64>,
    /// Of files, one for each part: 0 for zeros, 1 for the next part that was not named before, else its index + 2.
    part_refs: Vec<u32>,
    /// Of sparse files: its number among the files, and its holes.
    holes: Vec<(u32, Vec<Hole>)>,
}

#[derive(Default, Serialize, Deserialize)]
struct Parts {
    id: Vec<PartId>,
    len: Vec<u32>,
}

#[derive(Default, Serialize, Deserialize)]
struct Chunks {
    handles: Handles,
    segment_count: Vec<u32>,
    /// 0 for dead bytes, 1 for the part after that of the last part segment, else the part's index + 2.
    segments: Vec<u32>,
    dead_len: Vec<u32>,
}

pub(super) fn encode(manifest: &Manifest) -> Vec<u8> {
    let mut out = write_head(MAGIC, FORMAT);
    write_section(&mut out, &manifest.info);
    write_section(&mut out, &Entries::of(&manifest.entries));
    let (id, len) = manifest.parts.iter().map(|part| (part.id, part.len)).unzip();
    write_section(&mut out, &Parts { id, len });
    write_section(&mut out, &Chunks::of(&manifest.chunks));
    out
}

pub(super) fn decode(bytes: &[u8]) -> Result<Manifest, DecodeError> {
    let (format, mut rest) = read_head(bytes, MAGIC).ok_or(DecodeError::Magic)?;
    if format != FORMAT {
        return Err(DecodeError::Format(format));
    }
    let mut budget = MANIFEST_BYTES;
    let info: Info = read_section(&mut rest, &mut budget, "info")?;
    let entries: Entries = read_section(&mut rest, &mut budget, "entries")?;
    let parts: Parts = read_section(&mut rest, &mut budget, "parts")?;
    let chunks: Chunks = read_section(&mut rest, &mut budget, "chunks")?;
    if !rest.is_empty() {
        return Err(DecodeError::Damaged("last"));
    }
    let manifest = Manifest {
        info,
        entries: entries.into_rows()?,
        parts: parts.into_rows()?,
        chunks: chunks.into_rows()?,
    };
    check::check(&manifest)?;
    Ok(manifest)
}

impl Entries {
    fn of(entries: &[Entry]) -> Self {
        let mut columns = Self::default();
        let mut next_part = 0;
        for (index, entry) in (0u32..).zip(entries) {
            columns.parent_back.push(index - entry.parent);
            columns
                .name_len
                .push(u8::try_from(entry.name.len()).expect("a name has at most 255 bytes"));
            columns.names.extend(&entry.name);
            columns.mode.push(entry.meta.mode);
            columns.uid.push(entry.meta.uid);
            columns.gid.push(entry.meta.gid);
            columns.seconds.push(entry.meta.mtime.secs);
            columns.nanos.push(entry.meta.mtime.nanos);
            if !entry.meta.xattrs.is_empty() {
                columns.xattrs.push((index, entry.meta.xattrs.to_vec()));
            }
            columns.push_kind(index, &entry.kind, &mut next_part);
        }
        columns
    }

    fn push_kind(&mut self, index: u32, kind: &Kind, next_part: &mut u32) {
        self.kind.push(match kind {
            Kind::Directory => 0,
            Kind::File(_) => 1,
            Kind::Symlink(_) => 2,
            Kind::CharDevice(_) => 3,
            Kind::BlockDevice(_) => 4,
            Kind::Fifo => 5,
            Kind::Socket => 6,
            Kind::HardLink(_) => 7,
        });
        match kind {
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
            Kind::File(content) => self.push_content(content, next_part),
            Kind::Symlink(target) => {
                self.target_len
                    .push(u16::try_from(target.len()).expect("a target has at most 4,095 bytes"));
                self.targets.extend(target);
            }
            Kind::CharDevice(device) | Kind::BlockDevice(device) => self.devices.push(*device),
            Kind::HardLink(to) => self.link_back.push(index - to),
        }
    }

    fn push_content(&mut self, content: &FileContent, next_part: &mut u32) {
        if !content.holes().is_empty() {
            let file = u32::try_from(self.size.len()).expect("entries are bounded");
            self.holes.push((file, content.holes().to_vec()));
        }
        self.size.push(content.size());
        for place in content.parts() {
            self.part_refs.push(match place.part {
                None => 0,
                Some(part) if part == *next_part => {
                    *next_part += 1;
                    1
                }
                Some(part) => part + 2,
            });
        }
    }

    fn into_rows(self) -> Result<Vec<Entry>, DecodeError> {
        let damaged = || DecodeError::Damaged("entries");
        let count = self.kind.len();
        if count > ENTRIES {
            return Err(DecodeError::TooMany("entries", ENTRIES));
        }
        let columns = [
            self.parent_back.len(),
            self.name_len.len(),
            self.mode.len(),
            self.uid.len(),
            self.gid.len(),
        ];
        if columns
            .iter()
            .chain(&[self.seconds.len(), self.nanos.len()])
            .any(|&len| len != count)
        {
            return Err(damaged());
        }
        let mut rows = Vec::with_capacity(count);
        let mut names = &self.names[..];
        let mut xattrs = self.xattrs.into_iter().peekable();
        let mut kinds = Kinds {
            targets: &self.targets,
            target_len: self.target_len.iter(),
            devices: self.devices.iter(),
            link_back: self.link_back.iter(),
            size: self.size.iter(),
            part_refs: &self.part_refs,
            holes: self.holes.into_iter().peekable(),
            next_part: 0,
            files: 0,
        };
        for (index, row) in (0u32..).zip(0..count) {
            let (name, after) = names
                .split_at_checked(self.name_len[row].into())
                .ok_or_else(damaged)?;
            names = after;
            let meta = Meta {
                mode: self.mode[row],
                uid: self.uid[row],
                gid: self.gid[row],
                mtime: Timestamp {
                    secs: self.seconds[row],
                    nanos: self.nanos[row],
                },
                xattrs: xattrs
                    .next_if(|(at, _)| *at == index)
                    .map(|(_, list)| list)
                    .unwrap_or_default(),
            };
            rows.push(Entry {
                parent: index.checked_sub(self.parent_back[row]).ok_or_else(damaged)?,
                name: name.into(),
                kind: kinds.next(index, self.kind[row]).ok_or_else(damaged)?,
                meta,
            });
        }
        if names.is_empty() && xattrs.next().is_none() && kinds.exhausted() {
            Ok(rows)
        } else {
            Err(damaged())
        }
    }
}

/// The columns that only some kinds have, while they are consumed.
struct Kinds<'a> {
    targets: &'a [u8],
    target_len: std::slice::Iter<'a, u16>,
    devices: std::slice::Iter<'a, Device>,
    link_back: std::slice::Iter<'a, u32>,
    size: std::slice::Iter<'a, u64>,
    part_refs: &'a [u32],
    holes: std::iter::Peekable<std::vec::IntoIter<(u32, Vec<Hole>)>>,
    next_part: u32,
    files: u32,
}

impl Kinds<'_> {
    fn next(&mut self, index: u32, code: u8) -> Option<Kind> {
        Some(match code {
            0 => Kind::Directory,
            1 => Kind::File(self.next_content()?),
            2 => {
                let (target, after) = self.targets.split_at_checked((*self.target_len.next()?).into())?;
                self.targets = after;
                Kind::Symlink(target.into())
            }
            3 => Kind::CharDevice(*self.devices.next()?),
            4 => Kind::BlockDevice(*self.devices.next()?),
            5 => Kind::Fifo,
            6 => Kind::Socket,
            7 => Kind::HardLink(index.checked_sub(*self.link_back.next()?)?),
            _ => return None,
        })
    }

    fn next_content(&mut self) -> Option<FileContent> {
        let size = *self.size.next()?;
        let count = usize::try_from(FileContent::part_count(size.min(FILE_BYTES + 1))).ok()?;
        let (refs, after) = self.part_refs.split_at_checked(count)?;
        self.part_refs = after;
        let parts: Vec<_> = refs.iter().map(|&code| self.part(code)).collect();
        let file = self.files;
        self.files += 1;
        let holes = self
            .holes
            .next_if(|(at, _)| *at == file)
            .map(|(_, holes)| holes)
            .unwrap_or_default();
        (size <= FILE_BYTES).then(|| FileContent::new(size, &parts, holes))
    }

    fn part(&mut self, code: u32) -> Option<u32> {
        match code {
            0 => None,
            1 => {
                self.next_part += 1;
                Some(self.next_part - 1)
            }
            code => Some(code - 2),
        }
    }

    fn exhausted(mut self) -> bool {
        self.targets.is_empty()
            && self.target_len.next().is_none()
            && self.devices.next().is_none()
            && self.link_back.next().is_none()
            && self.size.next().is_none()
            && self.part_refs.is_empty()
            && self.holes.next().is_none()
    }
}

impl Parts {
    fn into_rows(self) -> Result<Vec<Part>, DecodeError> {
        if self.id.len() > PARTS {
            return Err(DecodeError::TooMany("parts", PARTS));
        }
        let sound = self.id.len() == self.len.len()
            && self
                .len
                .iter()
                .all(|&len| (1..=PART_BYTES).contains(&(len as usize)));
        if !sound {
            return Err(DecodeError::Damaged("parts"));
        }
        Ok(self
            .id
            .into_iter()
            .zip(self.len)
            .map(|(id, len)| Part { id, len })
            .collect())
    }
}

impl Chunks {
    fn of(chunks: &[Chunk]) -> Self {
        let mut columns = Self::default();
        let mut next_part = 0;
        for Chunk { handle, segments } in chunks {
            columns.handles.push(handle);
            columns
                .segment_count
                .push(u32::try_from(segments.len()).expect("a segment has at least one byte"));
            for segment in segments {
                columns.segments.push(match *segment {
                    Segment::Dead(len) => {
                        columns.dead_len.push(len);
                        0
                    }
                    Segment::Part(part) => {
                        let code = if part == next_part { 1 } else { part + 2 };
                        next_part = part + 1;
                        code
                    }
                });
            }
        }
        columns
    }

    fn into_rows(self) -> Result<Vec<Chunk>, DecodeError> {
        let damaged = || DecodeError::Damaged("chunks");
        let count = self.handles.len();
        if count > CHUNKS {
            return Err(DecodeError::TooMany("chunks", CHUNKS));
        }
        if self.segment_count.len() != count {
            return Err(damaged());
        }
        let handles = self.handles.into_rows().ok_or_else(damaged)?;
        let mut rows = Vec::with_capacity(count);
        let (mut codes, mut dead, mut next_part) = (&self.segments[..], self.dead_len.iter(), 0u32);
        for (handle, segments) in handles.into_iter().zip(self.segment_count) {
            let (mine, after) = codes.split_at_checked(segments as usize).ok_or_else(damaged)?;
            codes = after;
            let mut segment = |code: u32| match code {
                0 => dead.next().map(|&len| Segment::Dead(len)),
                code => {
                    let part = if code == 1 { next_part } else { code - 2 };
                    next_part = part.checked_add(1)?;
                    Some(Segment::Part(part))
                }
            };
            let segments = mine
                .iter()
                .map(|&code| segment(code))
                .collect::<Option<_>>()
                .ok_or_else(damaged)?;
            rows.push(Chunk { handle, segments });
        }
        if codes.is_empty() && dead.next().is_none() {
            Ok(rows)
        } else {
            Err(damaged())
        }
    }
}
