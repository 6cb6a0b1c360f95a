//! Going on after an interruption: what the target has already, and what must go.

use simulcast_protocol::limits::PART_BYTES;

use super::compare::{Visitor, join};
use super::install::{MARKER, Selection};
use super::places::Place;
use super::writer::Writer;
use super::{ApplyError, check_content};
use crate::filter::Side;
use crate::fs::{self, DirStack, Kind as FsKind, Shown, Stat};
use crate::manifest::{FileContent, Kind};

/// What `mkfs.ext4` leaves in the root of a new file system.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// Marks as filled what is right on disk, and removes what is not.
pub(super) struct Survey<'w, 'm> {
    writer: &'w Writer<'m>,
    selection: &'w Selection,
    buffer: Vec<u8>,
    /// Bytes of content that need not be fetched again.
    pub(super) bytes_found: u64,
}

impl<'w, 'm> Survey<'w, 'm> {
    pub(super) fn new(writer: &'w Writer<'m>, selection: &'w Selection) -> Self {
        Self {
            writer,
            selection,
            buffer: vec![0; PART_BYTES],
            bytes_found: 0,
        }
    }

    /// Keeps a regular file as far as it is right; whether it stays.
    fn file(
        &mut self,
        dir: &DirStack,
        index: u32,
        content: &FileContent,
        size: u64,
    ) -> Result<bool, ApplyError> {
        let manifest = self.writer.manifest;
        let entry = &manifest.entries[index as usize];
        if size != content.size() || content.parts().all(|place| place.part.is_none()) {
            return Ok(false);
        }
        let (file, stat) =
            fs::open_read(dir.current(), &entry.name).map_err(|error| error.under(dir.path()))?;
        let check = check_content(&file, &stat, content, manifest, &mut self.buffer)
            .map_err(|error| error.under(&manifest.path(index)))?;
        let zeros_right = content
            .parts()
            .zip(&check.right)
            .all(|(place, right)| *right || place.part.is_some());
        if !zeros_right || !check.right.contains(&true) || (content.parts().len() == 1 && !check.same) {
            return Ok(false);
        }
        for ((number, place), right) in (0u32..).zip(content.parts()).zip(check.right) {
            if let Some(part) = place.part.filter(|_| right)
                && self.writer.places.found(part, Place { entry: index, number })
            {
                self.writer.places.done(index);
                self.bytes_found += u64::from(place.len);
            }
        }
        if check.same {
            let limitations =
                fs::apply_meta_fd(&file, &entry.meta).map_err(|error| error.under(&manifest.path(index)))?;
            self.writer.limited(index, limitations);
        }
        Ok(true)
    }
}

impl Visitor for Survey<'_, '_> {
    type Error = ApplyError;

    fn skips(&mut self, _side: Side, path: &[u8], _directory: bool) -> bool {
        path == MARKER || path == LOST_AND_FOUND
    }

    fn entry(&mut self, dir: &DirStack, index: u32, found: Option<&Stat>) -> Result<(), ApplyError> {
        let entry = &self.writer.manifest.entries[index as usize];
        let Some(found) = found else { return Ok(()) };
        let stays = match (&entry.kind, found.kind) {
            (Kind::Directory, FsKind::Dir) => true,
            _ if !self.selection.has(index) => false,
            (Kind::File(content), FsKind::File) => self.file(dir, index, content, found.size)?,
            // The rest is made again in no time.
            _ => false,
        };
        if stays {
            return Ok(());
        }
        fs::remove_tree(dir.current(), &entry.name).map_err(|error| error.under(dir.path()).into())
    }

    fn extra(&mut self, dir: &DirStack, name: &[u8], _found: &Stat) -> Result<(), ApplyError> {
        tracing::debug!(path = %Shown(&join(dir.path(), name)), "removing what the version does not have");
        fs::remove_tree(dir.current(), name).map_err(|error| error.under(dir.path()).into())
    }
}
