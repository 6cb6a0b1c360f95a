//! A file as the body of an answer, read as fast as the client takes it: no more than one piece is in memory.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

use super::Daemon;

/// Bytes that are read at a time for a few clients, and for many: few calls for a chunk, and at most about 256 MiB for as
/// many clients as may be connected, each with a piece on its way and one being read.
const PIECE: (u64, u64) = (256 << 10, 32 << 10);

/// From how many bodies on they are many.
const MANY: u64 = 128;

/// What is counted while a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Counted {
    /// Bytes, and a chunk at the end.
    Chunk,
    /// Bytes.
    Part,
    /// Nothing.
    Nothing,
}

/// The bytes of a file from `at` to `len`.
#[derive(Debug)]
pub(super) struct FileBody {
    file: Arc<File>,
    at: u64,
    len: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    daemon: Arc<Daemon>,
    counted: Counted,
}

impl FileBody {
    pub(super) fn new(file: Arc<File>, len: u64, daemon: Arc<Daemon>, counted: Counted) -> Self {
        Self::part(file, 0..len, daemon, counted)
    }

    /// These bytes of a file.
    pub(super) fn part(file: Arc<File>, bytes: Range<u64>, daemon: Arc<Daemon>, counted: Counted) -> Self {
        daemon.counters.bodies_begun.add(1);
        Self {
            file,
            at: bytes.start,
            len: bytes.end,
            reading: None,
            daemon,
            counted,
        }
    }

    fn piece(&self) -> u64 {
        let counters = &self.daemon.counters;
        let bodies = counters
            .bodies_begun
            .get()
            .saturating_sub(counters.bodies_ended.get());
        if bodies < MANY { PIECE.0 } else { PIECE.1 }
    }

    fn count(&self, bytes: u64) {
        let counters = &self.daemon.counters;
        if self.counted != Counted::Nothing {
            counters.http_bytes.add(bytes);
        }
        if self.counted == Counted::Chunk {
            counters.http_chunks.add(u64::from(self.at == self.len));
        }
    }
}

impl Drop for FileBody {
    fn drop(&mut self) {
        self.daemon.counters.bodies_ended.add(1);
    }
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let (at, left) = (self.at, self.len - self.at);
        if left == 0 {
            return Poll::Ready(None);
        }
        let (file, piece) = (Arc::clone(&self.file), left.min(self.piece()));
        let reading = self.reading.get_or_insert_with(|| {
            tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; usize::try_from(piece).expect("at most 256 KiB")];
                file.read_exact_at(&mut piece, at)?;
                Ok(piece.into())
            })
        });
        let read = ready!(Pin::new(reading).poll(context));
        self.reading = None;
        let piece: Bytes = read.map_err(io::Error::other).flatten()?;
        self.at += piece.len() as u64;
        self.count(piece.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.at == self.len
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.len - self.at)
    }
}
