//! Writing file contents as their parts arrive, in any order, by several threads.
//!
//! A file of one part is made, written, given its metadata and closed in one go, which is what makes random order as
//! fast as path order. Larger files are kept open, a bounded number of them, until their last part is there.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use simulcast_protocol::limits::PART_BYTES;

use super::places::{Place, Places};
use super::{ApplyError, Limited};
use crate::chunk::Opener;
use crate::fs::{self, Dir, DirCache, Limitation, Shown};
use crate::manifest::{Entry, FileContent, Hole, Kind, Manifest, Segment};

/// Directories that one worker keeps open.
const DIRECTORIES: usize = 256;

/// Large files that are kept open between two of their parts.
const OPEN_FILES: usize = 128;

/// Where files are written.
#[derive(Debug)]
pub(crate) enum Home {
    /// At their own paths below this directory.
    Root(OwnedFd),
    /// In this one directory, each named by its entry's number, to be renamed later.
    Stage(Arc<OwnedFd>),
}

/// Writes the files of a version.
#[derive(Debug)]
pub struct Writer<'m> {
    pub(super) manifest: &'m Manifest,
    pub(super) places: Places,
    home: Home,
    large: Mutex<BTreeMap<u32, Arc<File>>>,
    limited: Mutex<Vec<Limited>>,
}

/// What one thread needs to write.
#[derive(Debug)]
pub struct Worker {
    opener: Opener,
    directories: DirCache,
    last: Option<(u32, Arc<Dir>)>,
}

impl<'m> Writer<'m> {
    pub(crate) fn new(manifest: &'m Manifest, home: Home, wanted: impl Fn(u32) -> bool) -> Self {
        let places = Places::new(manifest, wanted);
        Self {
            manifest,
            places,
            home,
            large: Mutex::default(),
            limited: Mutex::default(),
        }
    }

    /// A worker for one more thread.
    ///
    /// # Errors
    /// [`ApplyError::Io`] when the target's descriptor cannot be copied.
    pub fn worker(&self) -> Result<Worker, ApplyError> {
        let root = match &self.home {
            Home::Root(root) => root.try_clone(),
            Home::Stage(stage) => stage.try_clone(),
        };
        let root = root.map_err(|error| ApplyError::Io("open", String::new(), error))?;
        Ok(Worker {
            opener: Opener::default(),
            directories: DirCache::new(root, DIRECTORIES),
            last: None,
        })
    }

    /// For each chunk of the manifest, whether it holds anything that is still wanted.
    pub fn missing_chunks(&self) -> Vec<bool> {
        self.places.missing_chunks(self.manifest)
    }

    /// Takes a chunk's stored bytes, which a transport has checked against the chunk's name, and writes what is wanted
    /// of it. A chunk that came before changes nothing.
    ///
    /// # Errors
    /// [`ApplyError`]; when the target is full or broken, everything else would fail too.
    pub fn chunk(&self, worker: &mut Worker, index: u32, stored: &mut [u8]) -> Result<(), ApplyError> {
        let chunk = &self.manifest.chunks[index as usize];
        let Worker {
            opener,
            directories,
            last,
        } = worker;
        let mut raw = opener.open_verified(&chunk.handle, stored)?;
        for segment in &chunk.segments {
            let len = match *segment {
                Segment::Dead(len) => len,
                Segment::Part(part) => self.manifest.parts[part as usize].len,
            };
            let (bytes, after) = raw.split_at(len as usize);
            raw = after;
            if let Segment::Part(part) = *segment {
                self.fill(directories, last, part, bytes)?;
            }
        }
        Ok(())
    }

    /// Writes the bytes of a part, which the caller has checked against its hash, wherever it is wanted.
    ///
    /// # Errors
    /// As [`Writer::chunk`].
    pub fn part(&self, worker: &mut Worker, part: u32, bytes: &[u8]) -> Result<(), ApplyError> {
        self.fill(&mut worker.directories, &mut worker.last, part, bytes)
    }

    /// Whether a part is still wanted anywhere.
    pub fn wants(&self, part: u32) -> bool {
        self.places.wants(part)
    }

    /// Whether the file `entry` still waits for parts.
    pub fn is_waiting(&self, entry: u32) -> bool {
        self.places.is_waiting(entry)
    }

    /// What the target could not hold.
    pub fn into_limited(self) -> Vec<Limited> {
        self.limited.into_inner().expect("no holder panics")
    }

    fn fill(
        &self,
        directories: &mut DirCache,
        last: &mut Option<(u32, Arc<Dir>)>,
        part: u32,
        bytes: &[u8],
    ) -> Result<(), ApplyError> {
        for place in self.places.take(part) {
            let entry = &self.manifest.entries[place.entry as usize];
            let Kind::File(content) = &entry.kind else {
                unreachable!("only files have places")
            };
            let directory = self.directory(directories, last, entry)?;
            let written = if content.parts().len() == 1 {
                self.whole(&directory, place.entry, content, bytes)
            } else {
                self.piece(&directory, place, content, bytes)
            };
            written.map_err(|error| error.at(self.manifest, place.entry))?;
        }
        Ok(())
    }

    /// The directory in which a file is written.
    fn directory(
        &self,
        directories: &mut DirCache,
        last: &mut Option<(u32, Arc<Dir>)>,
        entry: &Entry,
    ) -> Result<Arc<Dir>, ApplyError> {
        let parent = match self.home {
            Home::Root(_) => entry.parent,
            Home::Stage(_) => 0,
        };
        match last {
            Some((at, directory)) if *at == parent => Ok(Arc::clone(directory)),
            _ => {
                let directory = directories.open(&self.manifest.path(parent))?;
                *last = Some((parent, Arc::clone(&directory)));
                Ok(directory)
            }
        }
    }

    /// The name of a file in its directory.
    fn name(&self, entry: u32) -> std::borrow::Cow<'m, [u8]> {
        match self.home {
            Home::Root(_) => (&self.manifest.entries[entry as usize].name[..]).into(),
            Home::Stage(_) => staged_name(entry).into(),
        }
    }

    /// Writes a file of one part.
    fn whole(&self, dir: &Arc<Dir>, entry: u32, content: &FileContent, bytes: &[u8]) -> Result<(), Failed> {
        let file = fs::create_file(&**dir, &self.name(entry))?;
        if content.holes().is_empty() {
            file.write_all_at(bytes, 0).map_err(Failed::Write)?;
        } else {
            file.set_len(content.size()).map_err(Failed::Write)?;
            write_around(&file, content.holes(), 0, bytes).map_err(Failed::Write)?;
        }
        self.places.done(entry);
        self.finish(dir, entry, &file)
    }

    /// Writes one part of a larger file.
    fn piece(&self, dir: &Arc<Dir>, place: Place, content: &FileContent, bytes: &[u8]) -> Result<(), Failed> {
        let file = self.large_file(dir, place.entry, content)?;
        let offset = u64::from(place.number) * PART_BYTES as u64;
        write_around(&file, content.holes(), offset, bytes).map_err(Failed::Write)?;
        if self.places.done(place.entry) {
            self.large.lock().expect("no holder panics").remove(&place.entry);
            self.finish(dir, place.entry, &file)?;
        }
        Ok(())
    }

    fn large_file(&self, dir: &Arc<Dir>, entry: u32, content: &FileContent) -> Result<Arc<File>, Failed> {
        let mut large = self.large.lock().expect("no holder panics");
        if let Some(file) = large.get(&entry) {
            return Ok(Arc::clone(file));
        }
        let name = self.name(entry);
        let file = match fs::open_existing(&**dir, &name) {
            Ok((file, _)) => file,
            Err(error) if error.is_absent() => {
                let file = fs::create_file(&**dir, &name)?;
                prepare(&file, content).map_err(Failed::Write)?;
                file
            }
            Err(error) => return Err(error.into()),
        };
        if large.len() >= OPEN_FILES {
            // Any will do: it is opened again by name when its next part comes.
            large.pop_first();
        }
        let file = Arc::new(file);
        large.insert(entry, Arc::clone(&file));
        Ok(file)
    }

    /// Gives a complete file its metadata.
    pub(super) fn finish(&self, dir: &Arc<Dir>, entry: u32, file: &File) -> Result<(), Failed> {
        let meta = &self.manifest.entries[entry as usize].meta;
        let limitations = fs::apply_meta_new(file, dir.birth()?, meta)?;
        self.limited(entry, limitations);
        Ok(())
    }

    pub(crate) fn limited(&self, entry: u32, limitations: Vec<Limitation>) {
        if !limitations.is_empty() {
            let path = Shown(&self.manifest.path(entry)).to_string();
            let mut limited = self.limited.lock().expect("no holder panics");
            limited.extend(limitations.into_iter().map(|limitation| Limited {
                path: path.clone(),
                limitation,
            }));
        }
    }

    /// Makes the files that need no part: empty ones and ones of zeros.
    pub(crate) fn files_without_parts(&self, wanted: impl Fn(u32) -> bool) -> Result<(), ApplyError> {
        let mut worker = self.worker()?;
        for (index, content) in self.manifest.files().filter(|&(index, _)| wanted(index)) {
            if content.parts().all(|place| place.part.is_none()) {
                let entry = &self.manifest.entries[index as usize];
                let directory = self.directory(&mut worker.directories, &mut worker.last, entry)?;
                let make = || {
                    let file = fs::create_file(&*directory, &self.name(index))?;
                    prepare(&file, content).map_err(Failed::Write)?;
                    self.finish(&directory, index, &file)
                };
                make().map_err(|error: Failed| error.at(self.manifest, index))?;
            }
        }
        Ok(())
    }
}

/// The name of an entry in the staging directory.
pub(crate) fn staged_name(entry: u32) -> Vec<u8> {
    entry.to_string().into_bytes()
}

/// A failure that does not know its path yet.
#[derive(Debug)]
pub(super) enum Failed {
    Fs(fs::FsError),
    Write(io::Error),
}

impl From<fs::FsError> for Failed {
    fn from(error: fs::FsError) -> Self {
        Self::Fs(error)
    }
}

impl Failed {
    pub(super) fn at(self, manifest: &Manifest, entry: u32) -> ApplyError {
        let parent = manifest.path(manifest.entries[entry as usize].parent);
        match self {
            Self::Fs(error) => ApplyError::Fs(error.under(&parent)),
            Self::Write(error) => ApplyError::Io("write", Shown(&manifest.path(entry)).to_string(), error),
        }
    }
}

/// Gives a new file its length, and space to the zeros that are no holes.
fn prepare(file: &File, content: &FileContent) -> io::Result<()> {
    if content.size() == 0 {
        return Ok(());
    }
    file.set_len(content.size())?;
    for place in content.parts().filter(|place| place.part.is_none()) {
        for range in data_between(content.holes(), place.offset, place.offset + u64::from(place.len)) {
            allocate(file, range.start, range.end - range.start)?;
        }
    }
    Ok(())
}

fn allocate(file: &File, start: u64, len: u64) -> io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), start, len) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::OPNOTSUPP) => {
            let zeros = vec![0; 1 << 16];
            let mut at = start;
            while at < start + len {
                let step = usize::try_from((start + len - at).min(1 << 16)).expect("at most 64 KiB");
                file.write_all_at(&zeros[..step], at)?;
                at += step as u64;
            }
            Ok(())
        }
        Err(errno) => Err(errno.into()),
    }
}

/// Writes `bytes` at `offset`, leaving the holes alone.
fn write_around(file: &File, holes: &[Hole], offset: u64, bytes: &[u8]) -> io::Result<()> {
    for range in data_between(holes, offset, offset + bytes.len() as u64) {
        let index = |at: u64| usize::try_from(at - offset).expect("a part is at most 4 MiB");
        file.write_all_at(&bytes[index(range.start)..index(range.end)], range.start)?;
    }
    Ok(())
}

/// The ranges of `start..end` that are in no hole.
fn data_between(holes: &[Hole], start: u64, end: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    let first = holes.partition_point(|hole| hole.start + hole.len <= start);
    let inside = holes[first..].iter().take_while(move |hole| hole.start < end);
    let bounds = inside
        .map(|hole| (hole.start, hole.start + hole.len))
        .chain([(end, end)]);
    bounds
        .scan(start, move |at, (hole, after)| {
            let data = *at..hole.min(end);
            *at = after;
            Some(data)
        })
        .filter(|range| range.start < range.end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lies_between_holes() {
        let hole = |start, len| Hole { start, len };
        let data = |holes: &[Hole], start, end| {
            data_between(holes, start, end)
                .map(|data| (data.start, data.end))
                .collect::<Vec<_>>()
        };
        assert_eq!(data(&[], 5, 9), [(5, 9)]);
        assert_eq!(data(&[hole(0, 6), hole(8, 100)], 5, 9), [(6, 8)]);
        assert_eq!(data(&[hole(0, 5), hole(9, 1)], 5, 9), [(5, 9)]);
        assert_eq!(data(&[hole(5, 1), hole(7, 1)], 5, 9), [(6, 7), (8, 9)]);
        assert!(data(&[hole(0, 100)], 5, 9).is_empty());
    }
}
