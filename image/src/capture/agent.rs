//! The golden client's side of a capture: scan, hash, and send what the server lacks.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use super::entry::{ScannedContent, ScannedEntry};
use super::memory::Memory;
use super::message::{CAPTURE_PROTOCOL, FromAgent, FromServer, Request, prefix, read_message, write_message};
use super::pack::{PackSink, Packed, Packer, with_packer};
use super::read::{ContentScanner, read_up_to};
use super::scan::{Attempt, ScanError, ScanReport, ScanScope, ScanSink, scan};
use crate::delta::{Signature, encode_part};
use crate::filter::{ExclusionList, Exclusions, FilterError, Side};
use crate::fs::{self, DirCache, FsError, Stat};

/// Entries that are sent together.
const BATCH: usize = 1024;

/// Parts that a batch may name: a large file has many.
const BATCH_PARTS: usize = 1 << 16;

/// Directories that are kept open while files are read a second time.
const DIRECTORIES: usize = 64;

/// The agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The connection to the server is broken.
    #[error("the connection to the image server broke")]
    Connection(#[from] io::Error),
    /// The server ended the connection, or said something unexpected.
    #[error("the image server ended the capture")]
    Ended,
    /// The server is of another version.
    #[error(
        "the image server speaks capture protocol {0}, this agent {CAPTURE_PROTOCOL}: install the same version on both"
    )]
    Protocol(u32),
    /// An exclusion list is wrong.
    #[error(transparent)]
    Exclusions(#[from] FilterError),
    /// The tree cannot be read.
    #[error(transparent)]
    Scan(#[from] ScanError),
}

impl From<FsError> for AgentError {
    fn from(error: FsError) -> Self {
        Self::Scan(error.into())
    }
}

/// How an agent works.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// Threads that compress; at least 1.
    pub threads: usize,
    /// The file in which it remembers what it found, so that the next capture reads only what was changed; `None`
    /// reads everything each time.
    pub memory: Option<PathBuf>,
}

/// Serves one capture on a pair of streams. `facts` goes into the manifest; `closed` gives the mount points below the
/// captured root that are not entered.
///
/// # Errors
/// [`AgentError`]; the server has been told, as far as the connection allows.
pub fn serve_capture(
    mut from: impl Read,
    to: impl Write + Send,
    facts: BTreeMap<String, String>,
    closed: impl FnOnce(&Path) -> HashSet<Vec<u8>>,
    options: &AgentOptions,
) -> Result<ScanReport, AgentError> {
    let to = Mutex::new(to);
    let send = |message: &FromAgent| write_message(&mut *to.lock().expect("no holder panics"), message);
    send(&FromAgent::Hello {
        protocol: CAPTURE_PROTOCOL,
        facts,
    })?;
    flush(&to)?;
    let Some((FromServer::Begin(request), _)) = read_message(&mut from)? else {
        return Err(AgentError::Ended);
    };
    if request.protocol != CAPTURE_PROTOCOL {
        return Err(AgentError::Protocol(request.protocol));
    }
    match capture(&mut from, &to, request, closed, options) {
        Ok((report, memory)) => {
            send(&FromAgent::Done)?;
            flush(&to)?;
            // Otherwise the server says itself what went wrong.
            if let Ok(Some((FromServer::Published(_), _))) = read_message(&mut from) {
                memory.save();
            }
            Ok(report)
        }
        Err(error) => {
            // It may be the connection that is broken: then nobody hears it.
            drop(send(&FromAgent::Failed(crate::chain(&error))));
            drop(flush(&to));
            Err(error)
        }
    }
}

fn capture(
    from: &mut impl Read,
    to: &Mutex<impl Write + Send>,
    request: Request,
    closed: impl FnOnce(&Path) -> HashSet<Vec<u8>>,
    options: &AgentOptions,
) -> Result<(ScanReport, Memory), AgentError> {
    let lists = request
        .exclusions
        .iter()
        .map(|(text, origin)| ExclusionList::parse(text, origin).map(Arc::new));
    let exclusions = Exclusions::new(lists.collect::<Result<Vec<_>, _>>()?);
    let excluded = |path: &[u8], directory| exclusions.decide(Side::Sender, path, directory).excluded;
    let path = Path::new(std::ffi::OsStr::from_bytes(&request.root)).to_owned();
    let closed = closed(&path);
    let root = fs::open_root(&path)?;
    let sink = Connection(to);
    let memory = Memory::load(options.memory.as_deref(), request.reread);
    with_packer(&sink, request.level, options.threads, |packer| {
        let mut remote = Remote {
            to,
            packer,
            known: request.known.into_iter().collect(),
            bases: request.bases.into_iter().collect(),
            sent: HashSet::new(),
            batch: Vec::new(),
            batch_parts: 0,
            entries: 0,
            file: None,
            held_back: Vec::new(),
            memory,
            reading: None,
        };
        let scope = ScanScope {
            excluded: &excluded,
            closed: &closed,
        };
        let report = scan(fs::duplicate(&root)?, &scope, &mut remote)?;
        remote.send_batch()?;
        remote.send(&FromAgent::Scanned(report.clone()))?;
        remote.deltas(from, root)?;
        Ok((report, remote.memory))
    })
}

/// A file whose parts were not sent, because a delta may do.
#[derive(Debug, Default)]
struct HeldBack {
    directory: Vec<u8>,
    name: Vec<u8>,
    entry: u32,
    basis_len: u64,
    /// Offset and hash of the parts that the server lacks.
    parts: BTreeMap<u64, PartId>,
}

struct Remote<'a, W> {
    to: &'a Mutex<W>,
    packer: &'a mut Packer,
    known: HashSet<u64>,
    bases: BTreeMap<Vec<u8>, u64>,
    sent: HashSet<PartId>,
    batch: Vec<ScannedEntry>,
    batch_parts: usize,
    entries: u32,
    file: Option<HeldBack>,
    held_back: Vec<HeldBack>,
    memory: Memory,
    /// The file that is being read, as it was when that began.
    reading: Option<(Vec<u8>, Stat)>,
}

impl<W: Write + Send> ScanSink for Remote<'_, W> {
    type Error = AgentError;

    fn file(&mut self, directory: &[u8], name: &[u8], stat: &Stat) -> Attempt {
        let path = crate::apply::join(directory, name);
        let there = |content: &&ScannedContent| {
            content
                .parts
                .iter()
                .flatten()
                .all(|part| self.known.contains(&prefix(part)))
        };
        let remembered = self.memory.recall(&path, stat).filter(there).cloned();
        self.file = self
            .bases
            .get(&path)
            .filter(|_| remembered.is_none())
            .map(|&basis_len| HeldBack {
                directory: directory.to_vec(),
                name: name.to_vec(),
                entry: self.entries,
                basis_len,
                parts: BTreeMap::new(),
            });
        self.reading = Some((path, stat.clone()));
        remembered.map_or(Attempt::Read, Attempt::Known)
    }

    fn lacks(&mut self, part: &PartId, offset: u64) -> bool {
        if self.known.contains(&prefix(part)) || self.sent.contains(part) {
            return false;
        }
        if let Some(file) = &mut self.file {
            file.parts.insert(offset, *part);
            return false;
        }
        self.sent.insert(*part)
    }

    fn part(&mut self, id: PartId, bytes: &[u8]) -> Result<(), AgentError> {
        // When the packer has stopped, the connection's error is what the caller gets.
        if self.packer.add(id, bytes) {
            Ok(())
        } else {
            Err(AgentError::Ended)
        }
    }

    fn entry(&mut self, entry: ScannedEntry) -> Result<(), AgentError> {
        if let (Some((path, stat)), Some(content)) = (self.reading.take(), entry.content()) {
            self.memory.remember(path, &stat, content);
        }
        self.held_back
            .extend(self.file.take().filter(|file| !file.parts.is_empty()));
        self.entries += 1;
        self.batch_parts += entry
            .content()
            .map_or(0, |content| content.parts.len() + content.holes.len());
        self.batch.push(entry);
        if self.batch.len() >= BATCH || self.batch_parts >= BATCH_PARTS {
            self.send_batch()
        } else {
            Ok(())
        }
    }
}

impl<W: Write + Send> Remote<'_, W> {
    fn send(&self, message: &FromAgent) -> Result<(), AgentError> {
        write_message(&mut *self.to.lock().expect("no holder panics"), message)?;
        Ok(())
    }

    fn send_batch(&mut self) -> Result<(), AgentError> {
        self.batch_parts = 0;
        let batch = std::mem::take(&mut self.batch);
        self.send(&FromAgent::Entries(batch))
    }

    /// Sends the parts that were held back: as deltas against what the server has of the file, or whole.
    fn deltas(&mut self, from: &mut impl Read, root: OwnedFd) -> Result<(), AgentError> {
        let mut directories = DirCache::new(root, DIRECTORIES);
        for mut held in std::mem::take(&mut self.held_back) {
            held.parts.retain(|_, part| !self.sent.contains(part));
            if held.parts.is_empty() {
                continue;
            }
            self.send(&FromAgent::Want(crate::apply::join(&held.directory, &held.name)))?;
            flush(self.to)?;
            let Some((FromServer::Signature(signature), _)) = read_message(from)? else {
                return Err(AgentError::Ended);
            };
            let signature = signature.and_then(|bytes| Signature::decode(bytes, held.basis_len).ok());
            let file = fs::open_read(&*directories.open(&held.directory)?, &held.name);
            match file {
                Ok((file, _)) => self.held_back_file(&held, &file, signature.as_ref())?,
                Err(error) if error.is_absent() => self.changed(&held, ScannedContent::default())?,
                Err(error) => return Err(error.under(&held.directory).into()),
            }
        }
        Ok(())
    }

    fn held_back_file(
        &mut self,
        held: &HeldBack,
        file: &File,
        signature: Option<&Signature>,
    ) -> Result<(), AgentError> {
        let mut buffer = vec![0; PART_BYTES];
        for (&offset, &part) in &held.parts {
            let read = read_up_to(file, &mut buffer, offset)?;
            let bytes = &buffer[..read];
            if PartId::of(bytes) != part {
                // It changed after the scan: what it is now goes whole.
                let stat = fs::stat_fd(file)?;
                let content = ContentScanner::new().scan(file, &stat, &held.name, true, |_, id, bytes| {
                    let lacks = !self.known.contains(&prefix(&id)) && self.sent.insert(id);
                    if lacks { self.part(id, bytes) } else { Ok(()) }
                })?;
                let content = content.unwrap_or_default();
                return self.changed(held, content);
            }
            if !self.sent.insert(part) {
                continue;
            }
            match signature.and_then(|signature| encode_part(signature, bytes)) {
                Some(delta) => {
                    let len = u32::try_from(read).expect("a part is at most 4 MiB");
                    self.send(&FromAgent::Delta { part, len, delta })?;
                }
                None => self.part(part, bytes)?,
            }
        }
        Ok(())
    }

    fn changed(&self, held: &HeldBack, content: ScannedContent) -> Result<(), AgentError> {
        self.send(&FromAgent::Changed(held.entry, content))
    }
}

/// Sends packed chunks.
struct Connection<'a, W>(&'a Mutex<W>);

impl<W: Write + Send> PackSink for Connection<'_, W> {
    type Error = AgentError;

    fn take(&self, packed: Packed) -> Result<(), AgentError> {
        write_message(
            &mut *self.0.lock().expect("no holder panics"),
            &FromAgent::Chunk(packed),
        )?;
        Ok(())
    }
}

fn flush(to: &Mutex<impl Write>) -> io::Result<()> {
    to.lock().expect("no holder panics").flush()
}
