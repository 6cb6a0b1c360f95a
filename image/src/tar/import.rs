//! A tar archive becomes the next version of an image.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::{HOLES, PART_BYTES};

use super::TarError;
use super::member::{Member, What};
use super::oci;
use super::read::Archive;
use super::tree::{Names, Tree};
use super::unpack::Unpacked;
use crate::capture::{
    Import, PackReport, PackSink, Packed, Packer, ScannedContent, ScannedKind, VersionBuilder, abandon,
    with_packer,
};
use crate::fs::Shown;
use crate::manifest::Hole;
use crate::store::{Store, StoreError, StoredVersion};

const PART: u64 = PART_BYTES as u64;

/// Notes that a report keeps; an archive may have a million reasons for one.
const NOTES: usize = 1000;

/// What an import of an archive did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TarReport {
    /// Members of the archive.
    pub members: u64,
    /// Regular files among them.
    pub files: u64,
    /// Bytes of their data, holes left out.
    pub bytes_read: u64,
    /// Members left out by the exclusion list.
    pub excluded: u64,
    /// What was not taken as it stands in the archive, at most a thousand notes.
    pub notes: Vec<String>,
    /// Of the store.
    pub pack: PackReport,
}

/// Makes the archive that `input` gives the next version of an image. Members may come in any order; of several with one
/// path the last counts. `excluded` is asked for every member, with its path below the root and whether it is a
/// directory, and decides for all that is below a directory too. `progress` is told the bytes of data read so far.
///
/// # Errors
/// [`TarError`]; what was packed before it is kept for the next attempt, no version is made.
pub fn import_tar(
    store: &Store,
    input: impl Read,
    import: Import,
    excluded: &dyn Fn(&[u8], bool) -> bool,
    progress: &dyn Fn(u64),
) -> Result<(StoredVersion, TarReport), TarError> {
    take(store, import, excluded, progress, |intake| {
        intake.archive(input).map(drop)
    })
}

/// Makes the container image in the archive `file` the next version of an image: the one called `tag`, or the only one. Its
/// layers are taken one over the other, with the whiteouts of the OCI image specification.
///
/// # Errors
/// [`TarError`]; [`TarError::Oci`] when there is no such image, or a digest is wrong.
pub fn import_oci(
    store: &Store,
    file: &File,
    tag: Option<&str>,
    import: Import,
    excluded: &dyn Fn(&[u8], bool) -> bool,
    progress: &dyn Fn(u64),
) -> Result<(StoredVersion, TarReport), TarError> {
    let layers = oci::layers(file, tag)?;
    take(store, import, excluded, progress, |intake| {
        for layer in &layers {
            intake.tree.next_layer();
            let unpacked = Unpacked::new(layer.open(file)).map_err(TarError::Read)?;
            intake.archive(unpacked)?.into_inner().finish()?;
        }
        Ok(())
    })
}

/// Makes a version of what `feed` takes in.
fn take(
    store: &Store,
    import: Import,
    excluded: &dyn Fn(&[u8], bool) -> bool,
    progress: &dyn Fn(u64),
    feed: impl FnOnce(&mut Intake<'_, '_>) -> Result<(), TarError>,
) -> Result<(StoredVersion, TarReport), TarError> {
    let builder = VersionBuilder::begin(store, &import.image)?;
    let sink = Lift(builder.trusted());
    let fed = with_packer(&sink, import.level, import.threads, |packer| {
        let mut intake = Intake {
            tree: Tree::new(import.created),
            contents: Contents {
                builder: &builder,
                packer,
                packed: HashSet::new(),
                buffer: vec![0; PART_BYTES],
            },
            excluded,
            progress,
            report: TarReport::default(),
        };
        feed(&mut intake)?;
        Ok((intake.tree.into_entries(), intake.report))
    });
    drop(sink);
    match fed {
        Ok((entries, mut report)) => {
            let (version, pack) = builder.publish(entries, import.source, import.created)?;
            report.pack = pack;
            Ok((version, report))
        }
        Err(error) => {
            abandon(builder);
            Err(error)
        }
    }
}

struct Intake<'a, 's> {
    tree: Tree,
    contents: Contents<'a, 's>,
    excluded: &'a dyn Fn(&[u8], bool) -> bool,
    progress: &'a dyn Fn(u64),
    report: TarReport,
}

/// Hands the parts of contents to the packer.
struct Contents<'a, 's> {
    builder: &'a VersionBuilder<'s>,
    packer: &'a mut Packer,
    packed: HashSet<PartId>,
    buffer: Vec<u8>,
}

impl Intake<'_, '_> {
    /// Takes all members of an archive, and gives back what it was read from.
    fn archive<R: Read>(&mut self, input: R) -> Result<R, TarError> {
        let mut archive = Archive::new(input);
        while let Some(member) = archive.next()? {
            self.member(&mut archive, member)?;
        }
        archive.drain()?;
        Ok(archive.into_input())
    }

    fn member<R: Read>(&mut self, archive: &mut Archive<R>, member: Member) -> Result<(), TarError> {
        let Member {
            path,
            what,
            meta,
            notes,
        } = member;
        self.report.members += 1;
        if let What::Other(why) = what {
            self.note(&path, why);
            return Ok(());
        }
        let names = Names::of(&path)?;
        if self.tree.whiteout(&names) {
            return Ok(());
        }
        let directory = matches!(what, What::Directory);
        if !names.names.is_empty() && (self.excluded)(&names.path(), directory) {
            self.report.excluded += 1;
            return Ok(());
        }
        if names.absolute {
            self.note(&path, "begins with a slash, which is left out");
        }
        notes.into_iter().for_each(|note| self.note(&path, note));
        let kind = match what {
            What::Directory => return self.tree.directory(&names, meta),
            What::HardLink(target) => {
                if self.tree.link(&names, &Names::of(&target)?)? {
                    return Ok(());
                }
                return Err(TarError::Link(
                    Shown(&path).to_string(),
                    Shown(&target).to_string(),
                ));
            }
            What::File { size, extents } => ScannedKind::File(self.content(archive, size, extents)?),
            What::Symlink(target) => ScannedKind::Symlink(target.into()),
            What::CharDevice(device) => ScannedKind::CharDevice(device),
            What::BlockDevice(device) => ScannedKind::BlockDevice(device),
            What::Fifo => ScannedKind::Fifo,
            What::Other(_) => unreachable!("noted above"),
        };
        self.tree.other(&names, kind, meta)
    }

    /// Reads a file's data part by part.
    fn content<R: Read>(
        &mut self,
        archive: &mut Archive<R>,
        size: u64,
        extents: Option<Vec<Range<u64>>>,
    ) -> Result<ScannedContent, TarError> {
        self.report.files += 1;
        let whole = || std::iter::once(0..size).collect();
        let holes = extents
            .as_deref()
            .map(|extents| holes(extents, size))
            .unwrap_or_default();
        let extents: Vec<_> = extents.unwrap_or_else(whole);
        let mut content = ScannedContent {
            size,
            parts: Vec::new(),
            holes,
        };
        let mut next = 0;
        for offset in (0..size).step_by(PART_BYTES) {
            let end = size.min(offset + PART);
            let index = |at: u64| usize::try_from(at - offset).expect("a part is at most 4 MiB");
            let mut used = 0;
            while let Some(extent) = extents.get(next).filter(|extent| extent.start < end) {
                let (from, to) = (extent.start.max(offset), extent.end.min(end));
                if used == 0 {
                    self.contents.buffer[..index(from)].fill(0);
                } else {
                    self.contents.buffer[used..index(from)].fill(0);
                }
                used = index(to);
                archive.read_data(&mut self.contents.buffer[index(from)..used])?;
                self.report.bytes_read += to - from;
                if extent.end > end {
                    break;
                }
                next += 1;
            }
            content.parts.push(if used == 0 {
                None
            } else {
                self.contents.buffer[used..index(end)].fill(0);
                self.contents.part(index(end))?
            });
            (self.progress)(self.report.bytes_read);
        }
        Ok(content)
    }

    fn note(&mut self, path: &[u8], why: &'static str) {
        tracing::debug!(member = %Shown(path), why, "a member is not taken as it stands");
        if self.report.notes.len() < NOTES {
            self.report.notes.push(format!("{} {why}", Shown(path)));
        }
    }
}

impl Contents<'_, '_> {
    /// Takes the part at the start of the buffer; `None` for zeros.
    fn part(&mut self, len: usize) -> Result<Option<PartId>, TarError> {
        let bytes = &self.buffer[..len];
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let id = PartId::of(bytes);
        if !self.builder.has(&id) && self.packed.insert(id) && !self.packer.add(id, bytes) {
            // The packer stops only for its sink's error, and that is what the caller gets instead of this one.
            return Err(StoreError::WrongPart.into());
        }
        Ok(Some(id))
    }
}

/// What lies between extents; of more than a manifest holds the largest.
fn holes(extents: &[Range<u64>], size: u64) -> Vec<Hole> {
    let mut holes = Vec::new();
    let mut at = 0;
    for extent in extents.iter().cloned().chain(std::iter::once(size..size)) {
        if extent.start > at {
            let len = extent.start - at;
            holes.push(Hole { start: at, len });
        }
        at = extent.end;
    }
    if holes.len() > HOLES {
        holes.sort_unstable_by_key(|hole| std::cmp::Reverse(hole.len));
        holes.truncate(HOLES);
        holes.sort_unstable_by_key(|hole| hole.start);
    }
    holes
}

/// A sink of the store whose errors are ours.
struct Lift<S>(S);

impl<S: PackSink<Error = StoreError>> PackSink for Lift<S> {
    type Error = TarError;

    fn take(&self, packed: Packed) -> Result<(), TarError> {
        Ok(self.0.take(packed)?)
    }
}
