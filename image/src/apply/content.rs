//! Comparing the content of a file on disk with what a manifest says, part by part.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use rustix::io::Errno;
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use crate::fs::{self, Act, FsError, Stat};
use crate::manifest::{FileContent, Manifest};

/// What a comparison found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Check {
    /// For each part of the content, whether the file has it in its place.
    pub(crate) right: Vec<bool>,
    /// Whether the length is right as well.
    pub(crate) same: bool,
}

/// Reads the file and compares it with `content`; its holes are not read. `buffer` has the length of a part.
pub(crate) fn check_content(
    file: &File,
    stat: &Stat,
    content: &FileContent,
    manifest: &Manifest,
    buffer: &mut [u8],
) -> Result<Check, FsError> {
    let data = fs::data_of(file, stat)?;
    let mut ranges = data.iter().peekable();
    let mut right = Vec::with_capacity(content.parts().len());
    for place in content.parts() {
        let end = place.offset + u64::from(place.len);
        while ranges.next_if(|range| range.end <= place.offset).is_some() {}
        let hole = ranges.peek().is_none_or(|range| range.start >= end);
        right.push(if end > stat.size {
            false
        } else if hole {
            place.part.is_none()
        } else {
            let bytes = &mut buffer[..place.len as usize];
            let whole = read_exact_or_short(file, bytes, place.offset);
            whole.map_err(|error| {
                FsError::new(Act::Read, b"", Errno::from_io_error(&error).unwrap_or(Errno::IO))
            })? && match place.part {
                Some(part) => PartId::of(bytes) == manifest.parts[part as usize].id,
                None => bytes.iter().all(|&byte| byte == 0),
            }
        });
    }
    let same = stat.size == content.size() && right.iter().all(|&right| right);
    Ok(Check { right, same })
}

/// Fills `buffer` from `offset` on; false when the file ends before.
pub(crate) fn read_exact_or_short(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<bool> {
    debug_assert!(buffer.len() <= PART_BYTES, "files are read part by part");
    match file.read_exact_at(buffer, offset) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}
