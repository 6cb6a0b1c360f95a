//! Pieces out of the chunk store: there is no second copy.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Weak};

use simulcast_protocol::bittorrent::Pieces;
use simulcast_transport::bittorrent::Holder;

use super::super::Daemon;

/// Reads pieces of one version.
pub(super) struct Source {
    /// The daemon holds the swarms, and they must not hold it.
    daemon: Weak<Daemon>,
    pieces: Arc<Pieces>,
    /// The chunk that was read from last: its pieces are mostly asked for together.
    open: Option<(u32, File)>,
}

impl Source {
    pub(super) fn new(daemon: Weak<Daemon>, pieces: Arc<Pieces>) -> Self {
        let open = None;
        Self { daemon, pieces, open }
    }
}

impl Holder for Source {
    fn read(&mut self, piece: u32) -> io::Result<Vec<u8>> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (chunk, offset) = self.pieces.place(piece).ok_or_else(gone)?;
        if self.open.as_ref().is_none_or(|(open, _)| *open != chunk) {
            let daemon = self.daemon.upgrade().ok_or_else(gone)?;
            let id = self.pieces.table().get(chunk).ok_or_else(gone)?.id;
            self.open = Some((chunk, File::open(daemon.store.chunks().path(&id))?));
        }
        let (_, file) = self.open.as_ref().ok_or_else(gone)?;
        let mut bytes = vec![0; usize::try_from(self.pieces.bytes(piece)).unwrap_or(0)];
        file.read_exact_at(&mut bytes, offset.into())?;
        Ok(bytes)
    }

    fn take(&mut self, _: u32, _: Vec<u8>) -> io::Result<bool> {
        // A seed asks for nothing.
        Err(io::ErrorKind::Unsupported.into())
    }

    fn offer(&mut self, _: u32, _: &[u8]) -> Range<u32> {
        0..0
    }
}
