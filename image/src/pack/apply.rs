//! A node's side: which chunks of a pack it needs, and what their records make.
//!
//! All that it knows of the update is the [`Writer`]: which parts are wanted, and where to put the bytes of one. What a pack does
//! not bring stays wanted, and comes in chunks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use super::{Form, Pack, Record, difference};
use crate::apply::{ApplyError, Worker, Writer, check_content};
use crate::chunk::Opener;
use crate::delta::apply_part;
use crate::fs::{self, DirCache, FsError};
use crate::manifest::{Kind, Manifest, Segment};

/// Directories that one worker keeps open.
const DIRECTORIES: usize = 64;

/// Takes the chunks of a pack.
#[derive(Debug)]
pub struct Receiver<'a, 'm> {
    pack: &'a Pack,
    to: &'m Manifest,
    installed: &'a Manifest,
    root: OwnedFd,
    writer: &'a Writer<'m>,
    /// For each of the pack's old contents, a file of the tree that has it, by its entry in `installed`.
    bases: Vec<Option<u32>>,
    needed: Vec<bool>,
    failed: AtomicU64,
}

/// What one thread needs to take chunks.
#[derive(Debug)]
pub struct Recipe {
    writer: Worker,
    opener: Opener,
    directories: DirCache,
    /// The old content that was read last: a chunk's neighbours often build on the same.
    last: Option<Basis>,
}

#[derive(Debug)]
struct Basis {
    number: u32,
    file: File,
    /// Where the bytes that were read begin.
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a, 'm> Receiver<'a, 'm> {
    /// Looks which old contents the tree below `root` still has, as `installed` says they were, and which chunks of the pack
    /// that makes useful.
    ///
    /// # Errors
    /// [`FsError`] when the tree cannot be read.
    pub fn new(
        pack: &'a Pack,
        to: &'m Manifest,
        installed: &'a Manifest,
        root: OwnedFd,
        writer: &'a Writer<'m>,
    ) -> Result<Self, FsError> {
        let mut receiver = Self {
            pack,
            to,
            installed,
            root,
            writer,
            bases: vec![None; pack.bases.len()],
            needed: vec![false; pack.chunks.len() + pack.borrowed.len()],
            failed: AtomicU64::new(0),
        };
        receiver.find_bases()?;
        receiver.choose();
        Ok(receiver)
    }

    /// Which of its chunks are needed, in the order of [`Pack::handles`].
    pub fn needed(&self) -> &[bool] {
        &self.needed
    }

    /// Stored bytes of the chunks that are needed.
    pub fn bytes(&self) -> u64 {
        let handles = self.pack.handles(self.to).zip(&self.needed);
        handles
            .filter(|(_, needed)| **needed)
            .map(|(handle, _)| u64::from(handle.stored_len))
            .sum()
    }

    /// Records that did not make what they promise: their old files were changed in the meantime.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// What one more thread needs.
    ///
    /// # Errors
    /// [`ApplyError`] when a descriptor cannot be copied.
    pub fn worker(&self) -> Result<Recipe, ApplyError> {
        Ok(Recipe {
            writer: self.writer.worker()?,
            opener: Opener::default(),
            directories: DirCache::new(fs::duplicate(&self.root)?, DIRECTORIES),
            last: None,
        })
    }

    /// Takes a chunk's stored bytes, which a transport has checked against the chunk's name, and writes what is wanted of what
    /// its records make.
    ///
    /// # Errors
    /// [`ApplyError`]; when the target is full or broken, everything else would fail too.
    pub fn chunk(&self, recipe: &mut Recipe, index: u32, stored: &mut [u8]) -> Result<(), ApplyError> {
        let Some(chunk) = self.pack.chunks.get(index as usize) else {
            let borrowed = self.pack.borrowed[index as usize - self.pack.chunks.len()];
            return self.writer.chunk(&mut recipe.writer, borrowed, stored);
        };
        let Recipe {
            writer,
            opener,
            directories,
            last,
        } = recipe;
        let mut raw = opener.open_verified(&chunk.handle, stored)?;
        for record in &chunk.records {
            let (bytes, after) = raw.split_at(record.len as usize);
            raw = after;
            if !self.usable(record) || !self.writer.wants(record.part) {
                continue;
            }
            let made = self.make(directories, last, record, bytes);
            match made {
                Some(made) if PartId::of(&made) == self.to.parts[record.part as usize].id => {
                    self.writer.part(writer, record.part, &made)?;
                }
                _ => {
                    self.failed.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn make(
        &self,
        directories: &mut DirCache,
        last: &mut Option<Basis>,
        record: &Record,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let len = self.to.parts[record.part as usize].len;
        match record.form {
            Form::Whole => Some(bytes.to_vec()),
            Form::Prefix {
                basis,
                offset,
                len: prefix,
            } => {
                let basis = self.basis(directories, last, basis)?;
                if basis.offset != offset || basis.bytes.len() != prefix as usize {
                    basis.bytes.resize(prefix as usize, 0);
                    basis.offset = offset;
                    if basis.file.read_exact_at(&mut basis.bytes, offset).is_err() {
                        basis.bytes.clear();
                        return None;
                    }
                }
                difference::decode(&basis.bytes, bytes, len)
            }
            Form::Rolling { basis } => {
                let basis = self.basis(directories, last, basis)?;
                apply_part(&basis.file, len, bytes).ok()
            }
        }
    }

    /// The open file of an old content; `None` when it is gone.
    fn basis<'l>(
        &self,
        directories: &mut DirCache,
        last: &'l mut Option<Basis>,
        number: u32,
    ) -> Option<&'l mut Basis> {
        if last.as_ref().is_none_or(|last| last.number != number) {
            let entry = self.bases[number as usize]?;
            let (file, _) = self.open(directories, entry).ok()?;
            let bytes = last.take().map_or_else(Vec::new, |last| last.bytes);
            *last = Some(Basis {
                number,
                file,
                offset: u64::MAX,
                bytes,
            });
        }
        last.as_mut()
    }

    fn open(&self, directories: &mut DirCache, entry: u32) -> Result<(File, fs::Stat), FsError> {
        let entry = &self.installed.entries[entry as usize];
        let directory = directories.open(&self.installed.path(entry.parent))?;
        fs::open_read(&*directory, &entry.name)
    }

    fn usable(&self, record: &Record) -> bool {
        match record.form {
            Form::Whole => true,
            Form::Prefix { basis, .. } | Form::Rolling { basis } => self.bases[basis as usize].is_some(),
        }
    }

    /// Finds files of the tree that still have the old contents which wanted parts build on.
    fn find_bases(&mut self) -> Result<(), FsError> {
        let mut wanted = HashSet::new();
        for record in self.pack.chunks.iter().flat_map(|chunk| &chunk.records) {
            if let Form::Prefix { basis, .. } | Form::Rolling { basis } = record.form
                && self.writer.wants(record.part)
            {
                wanted.insert(basis);
            }
        }
        let by_id: HashMap<_, u32> = (0u32..)
            .zip(&self.pack.bases)
            .filter(|(number, _)| wanted.contains(number))
            .map(|(number, id)| (*id, number))
            .collect();
        let mut directories = DirCache::new(fs::duplicate(&self.root)?, DIRECTORIES);
        let mut buffer = vec![0; PART_BYTES];
        for (entry, content) in self.installed.files() {
            if let Some(&number) = by_id.get(&content.id(&self.installed.parts))
                && self.bases[number as usize].is_none()
                && self.is_intact(&mut directories, entry, &mut buffer)
            {
                self.bases[number as usize] = Some(entry);
            }
        }
        Ok(())
    }

    /// Whether a file has the content that was installed: by its length and time, or else by reading it.
    fn is_intact(&self, directories: &mut DirCache, index: u32, buffer: &mut [u8]) -> bool {
        let entry = &self.installed.entries[index as usize];
        let Kind::File(content) = &entry.kind else {
            return false;
        };
        // What cannot be opened or read is no basis.
        let Ok((file, stat)) = self.open(directories, index) else {
            return false;
        };
        if stat.size != content.size() {
            return false;
        }
        stat.meta.mtime == entry.meta.mtime
            || check_content(&file, &stat, content, self.installed, buffer).is_ok_and(|check| check.same)
    }

    /// Chooses the chunks that are needed: for each wanted part those of its smallest record that can be carried out, else the
    /// chunk that holds it whole.
    fn choose(&mut self) {
        let mut chosen: BTreeMap<u32, (u32, usize)> = BTreeMap::new();
        for (index, chunk) in self.pack.chunks.iter().enumerate() {
            for record in &chunk.records {
                if self.usable(record) && self.writer.wants(record.part) {
                    let best = chosen.entry(record.part).or_insert((record.len, index));
                    *best = (*best).min((record.len, index));
                }
            }
        }
        for index in chosen.values().map(|&(_, index)| index) {
            self.needed[index] = true;
        }
        for (number, &borrowed) in self.pack.borrowed.iter().enumerate() {
            let holds = |segment: &Segment| match *segment {
                Segment::Part(part) => self.writer.wants(part) && !chosen.contains_key(&part),
                Segment::Dead(_) => false,
            };
            if self.to.chunks[borrowed as usize].segments.iter().any(holds) {
                self.needed[self.pack.chunks.len() + number] = true;
            }
        }
    }
}
