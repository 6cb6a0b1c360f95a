//! Reading a file's content: once, part by part, holes skipped, every part hashed from the bytes that are handed on.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::{FILE_BYTES, PART_BYTES};

use super::entry::ScannedContent;
use super::scan::ScanError;
use crate::fs::{self, Shown, Stat};
use crate::manifest::Hole;

/// Reads contents; it keeps a buffer of one part.
#[derive(Debug)]
pub(super) struct ContentScanner {
    buffer: Vec<u8>,
}

impl ContentScanner {
    pub(super) fn new() -> Self {
        Self {
            buffer: vec![0; PART_BYTES],
        }
    }

    /// Reads the content of `file`, which the kernel described as `stat`, and hands on each part that is not all zeros:
    /// its offset, hash and bytes. `None` when the file became shorter; with `last`, what there is is taken.
    pub(super) fn scan<E: From<ScanError>>(
        &mut self,
        file: &File,
        stat: &Stat,
        path: &[u8],
        last: bool,
        mut take: impl FnMut(u64, PartId, &[u8]) -> Result<(), E>,
    ) -> Result<Option<ScannedContent>, E> {
        let size = stat.size;
        if size > FILE_BYTES {
            return Err(ScanError::TooLarge(Shown(path).to_string(), size).into());
        }
        let data = fs::data_of(file, stat).map_err(|error| ScanError::from(error.under(path)))?;
        let mut content = ScannedContent {
            size,
            parts: Vec::new(),
            holes: holes_between(&data, size),
        };
        let mut ranges = data.iter().peekable();
        for offset in (0..size).step_by(PART_BYTES) {
            let len =
                usize::try_from((size - offset).min(PART_BYTES as u64)).expect("a part is at most 4 MiB");
            while ranges.next_if(|range| range.end <= offset).is_some() {}
            if ranges
                .peek()
                .is_none_or(|range| range.start >= offset + len as u64)
            {
                content.parts.push(None);
                continue;
            }
            let read = read_up_to(file, &mut self.buffer[..len], offset)
                .map_err(|error| ScanError::Read(Shown(path).to_string(), error))?;
            if read < len && !last {
                return Ok(None);
            }
            let bytes = &self.buffer[..read];
            if bytes.iter().any(|&byte| byte != 0) {
                let id = PartId::of(bytes);
                take(offset, id, bytes)?;
                content.parts.push(Some(id));
            } else if read > 0 {
                content.parts.push(None);
            }
            if read < len {
                content.size = offset + read as u64;
                content.holes.retain(|hole| hole.start + hole.len <= content.size);
                break;
            }
        }
        Ok(Some(content))
    }
}

/// Fills `buffer` from `offset` on as far as the file goes; the number of bytes read.
pub(super) fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn holes_between(data: &[Range<u64>], size: u64) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut at = 0;
    for range in data.iter().cloned().chain(std::iter::once(size..size)) {
        if range.start > at {
            holes.push(Hole {
                start: at,
                len: range.start - at,
            });
        }
        at = range.end.max(at);
    }
    holes
}
