//! The image server's side of a capture over a connection: what the agent sends becomes the next version.
//!
//! Nothing is believed: parts are checked against their hashes, entries by the checks of the manifest.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::{ENTRIES, FILE_BYTES, HOLES};
use simulcast_protocol::name::ImageName;

use super::entry::{ScannedContent, ScannedEntry, ScannedKind};
use super::import::{CaptureError, CaptureReport, abandon};
use super::message::{CAPTURE_PROTOCOL, FromAgent, FromServer, Request, prefix, read_message, write_message};
use super::pack::{PackSink, Packed, Packer, with_packer};
use super::scan::ScanReport;
use super::version::VersionBuilder;
use crate::delta::{Signature, apply_part, signature};
use crate::manifest::{FileContent, Kind, Manifest};
use crate::store::{ContentReader, PartIndex, Store, StoreError, StoredVersion};

/// Files of the previous version from this size on are offered as bases of deltas. Smaller ones go whole: a round trip
/// and a signature cost more than they save.
const BASIS_FROM: u64 = 1 << 20;

/// What is captured, and how.
#[derive(Debug, Clone)]
pub struct CaptureRequest {
    /// The image that gets a new version.
    pub image: ImageName,
    /// The directory on the golden client.
    pub root: Vec<u8>,
    /// Exclusion lists, the most specific first: text, and where it comes from.
    pub exclusions: Vec<(Vec<u8>, String)>,
    /// zstd level.
    pub level: i32,
    /// Whether files are read although they seem unchanged since the last capture.
    pub reread: bool,
    /// When, in seconds since 1970.
    pub created: i64,
}

/// What went over the connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// Bytes that the golden client sent.
    pub received: u64,
    /// Bytes that it was sent.
    pub sent: u64,
    /// Of those received, bytes of deltas.
    pub deltas: u64,
}

/// Receives one capture from the agent at the other end of a pair of streams.
///
/// # Errors
/// [`CaptureError`]; what arrived is kept for the next attempt, no version is made.
pub fn receive_capture(
    store: &Store,
    from: impl Read,
    to: impl Write,
    request: CaptureRequest,
) -> Result<(StoredVersion, CaptureReport, Moved), CaptureError> {
    let builder = VersionBuilder::begin(store, &request.image)?;
    let sink = builder.untrusted();
    let mut intake = Intake {
        store,
        from: Counting(from, 0),
        to: Counting(to, 0),
        entries: Vec::new(),
        facts: BTreeMap::new(),
        moved: Moved::default(),
    };
    let received = intake.run(&builder, &sink, &request);
    drop(sink);
    let scan = match received {
        Ok(scan) => scan,
        Err(error) => {
            abandon(builder);
            return Err(error);
        }
    };
    let (version, pack) = builder.publish(intake.entries, intake.facts, request.created)?;
    let said = write_message(
        &mut intake.to,
        &FromServer::Published(version.reference().to_string()),
    );
    // The version is made; an agent that has hung up already misses nothing.
    drop(said.and_then(|_| intake.to.flush()));
    let moved = Moved {
        received: intake.from.1,
        sent: intake.to.1,
        ..intake.moved
    };
    Ok((version, CaptureReport { scan, pack }, moved))
}

struct Intake<'s, R, W> {
    store: &'s Store,
    from: Counting<R>,
    to: Counting<W>,
    entries: Vec<ScannedEntry>,
    facts: BTreeMap<String, String>,
    moved: Moved,
}

impl<R: Read, W: Write> Intake<'_, R, W> {
    fn run<S: PackSink<Error = StoreError>>(
        &mut self,
        builder: &VersionBuilder<'_>,
        sink: &S,
        request: &CaptureRequest,
    ) -> Result<ScanReport, CaptureError> {
        self.hello()?;
        let previous = builder.previous().map(|previous| &previous.signed.manifest);
        self.begin(builder, previous, request)?;
        let scan = loop {
            match self.next()? {
                FromAgent::Entries(batch) => self.entries(batch)?,
                FromAgent::Chunk(packed) => sink.take(packed)?,
                FromAgent::Scanned(report) => break report,
                other => return Err(unexpected(&other)),
            }
        };
        let lifted = Lifted(sink);
        with_packer(&lifted, request.level, 1, |packer| {
            self.complete(sink, packer, previous)
        })?;
        Ok(scan)
    }

    fn hello(&mut self) -> Result<(), CaptureError> {
        match self.next()? {
            FromAgent::Hello {
                protocol: CAPTURE_PROTOCOL,
                facts,
            } => {
                self.facts = facts;
                Ok(())
            }
            FromAgent::Hello { protocol, .. } => Err(CaptureError::Protocol(protocol)),
            other => Err(unexpected(&other)),
        }
    }

    fn begin(
        &mut self,
        builder: &VersionBuilder<'_>,
        previous: Option<&Manifest>,
        request: &CaptureRequest,
    ) -> Result<(), CaptureError> {
        let mut known: Vec<u64> = builder.known().map(prefix).collect();
        known.sort_unstable();
        let bases = previous.map(|manifest| {
            let large = manifest
                .files()
                .filter(|(_, content)| content.size() >= BASIS_FROM);
            large
                .map(|(entry, content)| (manifest.path(entry), content.size()))
                .collect()
        });
        self.say(&FromServer::Begin(Request {
            protocol: CAPTURE_PROTOCOL,
            root: request.root.clone(),
            exclusions: request.exclusions.clone(),
            level: request.level,
            reread: request.reread,
            known,
            bases: bases.unwrap_or_default(),
        }))
    }

    fn entries(&mut self, batch: Vec<ScannedEntry>) -> Result<(), CaptureError> {
        if self.entries.len() + batch.len() > ENTRIES {
            return Err(CaptureError::Agent(
                "it sends more entries than a version can hold".to_owned(),
            ));
        }
        for entry in &batch {
            entry.content().map_or(Ok(()), check_content)?;
        }
        self.entries.extend(batch);
        Ok(())
    }

    /// After the scan: files whose parts were held back.
    fn complete<S: PackSink<Error = StoreError>>(
        &mut self,
        sink: &S,
        packer: &mut Packer,
        previous: Option<&Manifest>,
    ) -> Result<(), CaptureError> {
        let index = previous.map(PartIndex::new);
        let mut basis: Option<ContentReader<'_>> = None;
        loop {
            match self.next()? {
                FromAgent::Want(path) => {
                    let found = previous.zip(index.as_ref()).and_then(|(manifest, index)| {
                        let content = file_at(manifest, &path)?;
                        Some((
                            ContentReader::new(self.store, manifest, index, content),
                            content.size(),
                        ))
                    });
                    let sums = found
                        .as_ref()
                        .and_then(|(reader, len)| signature(reader, *len).ok());
                    basis = found.map(|(reader, _)| reader);
                    self.say(&FromServer::Signature(
                        sums.as_ref().map(|sums| Signature::as_bytes(sums).to_vec()),
                    ))?;
                }
                FromAgent::Delta { part, len, delta } => {
                    self.moved.deltas += delta.len() as u64;
                    let basis = basis.as_ref().ok_or_else(wrong_delta)?;
                    let bytes = apply_part(basis, len, &delta).map_err(|_| wrong_delta())?;
                    if PartId::of(&bytes) != part {
                        return Err(StoreError::WrongPart.into());
                    }
                    if !packer.add(part, &bytes) {
                        return Ok(());
                    }
                }
                FromAgent::Chunk(packed) => sink.take(packed)?,
                FromAgent::Changed(entry, content) => {
                    check_content(&content)?;
                    match self.entries.get_mut(entry as usize).map(|entry| &mut entry.kind) {
                        Some(ScannedKind::File(old)) => *old = content,
                        _ => return Err(CaptureError::Agent("it changes what is no file".to_owned())),
                    }
                }
                FromAgent::Done => return Ok(()),
                other => return Err(unexpected(&other)),
            }
        }
    }

    fn next(&mut self) -> Result<FromAgent, CaptureError> {
        match read_message(&mut self.from) {
            Ok(Some((message, _))) => Ok(message),
            Ok(None) => Err(CaptureError::Connection(io::ErrorKind::UnexpectedEof.into())),
            Err(error) => Err(CaptureError::Connection(error)),
        }
    }

    fn say(&mut self, message: &FromServer) -> Result<(), CaptureError> {
        let said = write_message(&mut self.to, message).and_then(|_| self.to.flush());
        said.map_err(CaptureError::Connection)
    }
}

/// The content of the file at `path`, if the version has one there.
fn file_at<'m>(manifest: &'m Manifest, path: &[u8]) -> Option<&'m FileContent> {
    let (_, entry) = manifest.inode(manifest.find(path)?);
    match &entry.kind {
        Kind::File(content) => Some(content),
        _ => None,
    }
}

/// Refuses a content whose parts do not fit its size, before anything is made from it.
fn check_content(content: &ScannedContent) -> Result<(), CaptureError> {
    let fits = content.size <= FILE_BYTES
        && content.parts.len() as u64 == FileContent::part_count(content.size)
        && content.holes.len() <= HOLES;
    if fits {
        Ok(())
    } else {
        Err(CaptureError::Agent(
            "it sends a file whose parts do not fit its size".to_owned(),
        ))
    }
}

fn wrong_delta() -> CaptureError {
    CaptureError::Agent("it sends a delta that cannot be applied".to_owned())
}

fn unexpected(message: &FromAgent) -> CaptureError {
    CaptureError::Agent(match message {
        FromAgent::Failed(why) => why.clone(),
        _ => "it sends something out of turn".to_owned(),
    })
}

/// A sink of the store whose errors are a capture's.
struct Lifted<'a, S>(&'a S);

impl<S: PackSink<Error = StoreError>> PackSink for Lifted<'_, S> {
    type Error = CaptureError;

    fn take(&self, packed: Packed) -> Result<(), CaptureError> {
        Ok(self.0.take(packed)?)
    }
}

/// Counts the bytes that pass.
struct Counting<T>(T, u64);

impl<T: Read> Read for Counting<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        self.1 += read as u64;
        Ok(read)
    }
}

impl<T: Write> Write for Counting<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1 += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
