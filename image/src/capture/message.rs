//! What the agent on a golden client and the image server say to each other, over any pair of byte streams.
//!
//! A message is a postcard value in a frame: length (32 bits, little-endian) of what follows, one byte that says whether
//! it is compressed, the bytes. Lengths are bounded before anything is allocated.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;

use super::entry::{ScannedContent, ScannedEntry};
use super::pack::Packed;
use super::scan::ScanReport;

/// The first thing that either side says; both must agree.
pub const CAPTURE_PROTOCOL: u32 = 2;

/// Bytes of one message, and of what one decompresses to. The largest are chunks (4 MiB), batches of entries (the few
/// with many parts are large) and signatures (6 MiB).
const MESSAGE_BYTES: usize = 64 << 20;

/// Below this size compressing a message is not worth it.
const COMPRESS_FROM: usize = 1 << 10;

/// zstd level of compressed messages.
const LEVEL: i32 = 3;

/// What the server says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromServer {
    /// Capture this.
    Begin(Request),
    /// The signature of the previous content of the file that was asked for; `None` when there is none after all.
    Signature(Option<Vec<u8>>),
    /// The version is made.
    Published(String),
}

/// What a capture leaves out, and what the server has already.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Request {
    /// Of the server's program; see [`CAPTURE_PROTOCOL`].
    pub protocol: u32,
    /// The directory to capture, usually `/`.
    pub root: Vec<u8>,
    /// Exclusion lists, the most specific first: text, and where it comes from.
    pub exclusions: Vec<(Vec<u8>, String)>,
    /// zstd level.
    pub level: i32,
    /// Whether files are read although they seem unchanged since the last capture.
    pub reread: bool,
    /// The first eight bytes of the hash of every part that the server has.
    pub known: Vec<u64>,
    /// Large files of the previous version, with their length then: deltas can be made against them.
    pub bases: Vec<(Vec<u8>, u64)>,
}

/// What the agent says.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum FromAgent {
    /// Facts about the golden client, for the manifest.
    Hello {
        /// Of the agent's program; see [`CAPTURE_PROTOCOL`].
        protocol: u32,
        /// Host name, operating system, kernel, ….
        facts: BTreeMap<String, String>,
    },
    /// Entries, in order.
    Entries(Vec<ScannedEntry>),
    /// A chunk with parts that the server lacks.
    Chunk(Packed),
    /// All entries were sent. What follows completes files whose parts were held back for a delta.
    Scanned(ScanReport),
    /// Wants the signature of the previous content of the file at this path.
    Want(Vec<u8>),
    /// A part, as a delta against the content whose signature came last.
    Delta {
        /// The part.
        part: PartId,
        /// Its length.
        len: u32,
        /// The delta, as zstd frame.
        delta: Vec<u8>,
    },
    /// A file changed after it was scanned: this is its content now.
    Changed(u32, ScannedContent),
    /// That was all.
    Done,
    /// The capture cannot go on.
    Failed(String),
}

/// The first eight bytes of a part's hash, as [`Request::known`] has them.
pub(super) fn prefix(part: &PartId) -> u64 {
    let (first, _) = part
        .as_bytes()
        .split_first_chunk::<8>()
        .expect("a hash has 32 bytes");
    u64::from_le_bytes(*first)
}

/// Writes one message and returns how many bytes it took.
///
/// # Errors
/// What the stream says.
pub(super) fn write_message<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<u64> {
    let raw = postcard::to_stdvec(message).map_err(io::Error::other)?;
    let mut body = vec![0];
    // Chunks are compressed already: a second time costs more than it gains, and zstd notices that quickly.
    if raw.len() >= COMPRESS_FROM {
        body = Vec::with_capacity(zstd_safe::compress_bound(raw.len()) + 1);
        zstd_safe::compress(&mut body, &raw, LEVEL)
            .map_err(|code| io::Error::other(zstd_safe::get_error_name(code)))?;
        body.insert(0, 1);
    }
    if body.len() > raw.len() || body.len() == 1 {
        body.clear();
        body.push(0);
        body.extend_from_slice(&raw);
    }
    let len = u32::try_from(body.len())
        .ok()
        .filter(|&len| len as usize <= MESSAGE_BYTES);
    let len = len.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "a message would be too long"))?;
    to.write_all(&len.to_le_bytes())?;
    to.write_all(&body)?;
    Ok(u64::from(len) + 4)
}

/// Reads one message and returns it with the number of bytes that it took; `None` at the end of the stream.
///
/// # Errors
/// What the stream says; `InvalidData` for what is no message or too long.
pub(super) fn read_message<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<Option<(T, u64)>> {
    let invalid = |what: &'static str| io::Error::new(ErrorKind::InvalidData, what);
    let mut len = [0; 4];
    match from.read(&mut len[..1])? {
        0 => return Ok(None),
        _ => from.read_exact(&mut len[1..])?,
    }
    let len = u32::from_le_bytes(len) as usize;
    if !(1..=MESSAGE_BYTES).contains(&len) {
        return Err(invalid(
            "a message has an impossible length: is something else printed on that connection?",
        ));
    }
    // Memory grows with what arrives, not with what is promised.
    let mut body = Vec::new();
    from.take(len as u64).read_to_end(&mut body)?;
    if body.len() < len {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let message = match body.split_first() {
        Some((0, raw)) => postcard::from_bytes(raw).ok(),
        Some((1, frame)) => decompress(frame).and_then(|raw| postcard::from_bytes(&raw).ok()),
        _ => None,
    };
    let message = message.ok_or_else(|| invalid("a message cannot be decoded"))?;
    Ok(Some((message, len as u64 + 4)))
}

fn decompress(frame: &[u8]) -> Option<Vec<u8>> {
    let len = zstd_safe::get_frame_content_size(frame).ok()??;
    let len = usize::try_from(len).ok().filter(|&len| len <= MESSAGE_BYTES)?;
    let mut raw = Vec::with_capacity(len);
    zstd_safe::decompress(&mut raw, frame).ok()?;
    Some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip() {
        let mut stream = Vec::new();
        let paths: Vec<Vec<u8>> = vec![
            b"short".to_vec(),
            vec![b'x'; 100_000],
            (0..=255).cycle().take(5000).collect(),
        ];
        for path in &paths {
            write_message(&mut stream, &FromAgent::Want(path.clone())).unwrap();
        }
        assert!(stream.len() < 8000);
        let mut from = &stream[..];
        for path in &paths {
            let Some((FromAgent::Want(read), _)) = read_message(&mut from).unwrap() else {
                panic!()
            };
            assert_eq!(read, *path);
        }
        assert!(read_message::<FromAgent>(&mut from).unwrap().is_none());
    }

    #[test]
    fn what_is_no_message_is_refused_without_allocating() {
        for bytes in [
            &b"Welcome to golden01\n"[..],
            &[0; 4],
            &[255; 9],
            &[9, 0, 0, 0, 1],
            &[2, 0, 0, 0, 7, 7],
        ] {
            assert!(read_message::<FromAgent>(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
