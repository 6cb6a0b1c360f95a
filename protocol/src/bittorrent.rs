//! BitTorrent (BEP 3), without sockets and clocks: the torrent of a version, the messages of peers, the state machine of
//! one machine in one swarm, and the tracker.
//!
//! A version is one torrent, whose files are its chunks. Every chunk begins with a piece of its own, so that the hashes
//! of its pieces belong to the chunk and not to the version: they are made once, when the chunk is, and serve every
//! version that keeps it. What is left of a chunk's last piece is padding (BEP 47), which our own machines never send.
//!
//! [`Swarm`] is driven as the multicast state machines are: bytes and time go in, bytes, pieces and reasons come out.

mod announce;
mod hearing;
mod metainfo;
mod peer;
mod picking;
mod pieces;
mod showing;
mod swarm;
#[cfg(test)]
mod swarm_tests;
mod tracker;
mod uploading;
mod wire;

pub use announce::{Announce, AnnounceError, Event, announce_answer, announce_failure};
pub use metainfo::{InfoHash, InfoHashes, info_of, metainfo, statement};
pub use peer::{DropReason, PeerKey};
pub use pieces::{PieceHash, Pieces, PiecesError};
pub use swarm::{Bounds, Output, Role, Swarm, Tally};
pub use tracker::{Introduction, Mark, Tracker, TrackerBounds};
pub use wire::{Block, HANDSHAKE_BYTES, Handshake, Message, PeerId, WireError};
