//! One peer as the swarm sees it.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::wire::{Block, Message, PeerId, WireError};
use crate::limits::BLOCK_BYTES;
use crate::multicast::ChunkSet;

/// Blocks that are asked of a peer at a time until it is known how fast it is, and at least.
const WINDOW_MIN: u64 = 8;

/// Blocks that are asked of the fastest peer at a time: 4 MiB.
const WINDOW_MAX: u64 = 256;

/// What is asked of a peer at a time is what it sends in so long. More would only wait at its end, and make pieces of
/// which others have none yet come later.
const WINDOW_TIME_MS: u64 = 300;

/// A connection, as its driver numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerKey(pub u64);

/// Why a peer is not spoken to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropReason {
    /// A piece of its did not have the hash that it should.
    WrongBytes(u32),
    /// It did not send a block that it was asked for.
    Silent(Duration),
    /// It does not speak BitTorrent.
    Wire(WireError),
    /// It spoke of a piece that there is not.
    NoSuchPiece(u32),
    /// It asked for, or sent, more than a block, or something behind the end of a piece.
    Greedy,
    /// Neither lacks anything.
    Done,
    /// There is another connection with it.
    Twice,
    /// It is ourselves.
    Ourselves,
    /// There are as many peers as there may be.
    Crowded,
    /// It was not heard of for long.
    Idle,
}

impl DropReason {
    /// Whether it is the peer's fault, so that it is not connected to again.
    pub fn is_fault(&self) -> bool {
        matches!(
            self,
            Self::WrongBytes(_) | Self::Silent(_) | Self::Wire(_) | Self::NoSuchPiece(_) | Self::Greedy
        )
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WrongBytes(piece) => write!(f, "it sent wrong bytes for piece {piece}"),
            Self::Silent(time) => write!(
                f,
                "it sent nothing of what it was asked for in {} s",
                time.as_secs()
            ),
            Self::Wire(error) => error.fmt(f),
            Self::NoSuchPiece(piece) => write!(f, "it spoke of piece {piece}, which there is not"),
            Self::Greedy => f.write_str("it asked for or sent more than a block"),
            Self::Done => f.write_str("neither lacks anything"),
            Self::Twice => f.write_str("there is another connection with it"),
            Self::Ourselves => f.write_str("it is this machine"),
            Self::Crowded => f.write_str("there are enough peers"),
            Self::Idle => f.write_str("it was not heard of for long"),
        }
    }
}

/// How fast something goes, over the last second or two.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meter {
    bytes: u64,
    since: Instant,
    /// Bytes per second.
    pub(super) rate: u64,
}

impl Meter {
    fn new(now: Instant) -> Self {
        Self {
            bytes: 0,
            since: now,
            rate: 0,
        }
    }

    pub(super) fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// Takes what was counted into the rate, every 100 ms or so.
    pub(super) fn settle(&mut self, now: Instant) {
        let millis = u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX);
        if millis >= 100 {
            let fresh = self.bytes * 1000 / millis;
            // What it can do shows at once, that it can less only after a while.
            self.rate = fresh.max((self.rate * 7 + fresh) / 8);
            (self.bytes, self.since) = (0, now);
        }
    }
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    pub(super) id: PeerId,
    pub(super) outgoing: bool,
    /// What it has, as it says.
    pub(super) has: ChunkSet,
    /// What it was told that we have, by a seed that shows one piece after the other.
    pub(super) shown: ChunkSet,
    /// How many of those it lacks.
    pub(super) shown_open: u32,
    /// The piece that it was shown last.
    pub(super) shown_last: u32,
    /// When it last got something, or was shown something beyond what nobody else had.
    pub(super) moved: Instant,
    pub(super) inbox: Vec<u8>,
    pub(super) outbox: Vec<u8>,
    pub(super) chokes_us: bool,
    pub(super) choked: bool,
    pub(super) wants: bool,
    pub(super) wanted: bool,
    /// What it was asked for and did not send yet.
    pub(super) asked: VecDeque<Block>,
    /// Pieces that it is to send.
    pub(super) pieces: Vec<u32>,
    /// What it asks for.
    pub(super) requests: VecDeque<Block>,
    /// When it last sent a block, or was first asked after it had sent all.
    pub(super) answered: Instant,
    pub(super) heard: Instant,
    pub(super) spoken: Instant,
    /// When its connection last took bytes.
    pub(super) flushed: Instant,
    pub(super) incoming: Meter,
}

impl Peer {
    pub(super) fn new(now: Instant, address: SocketAddr, id: PeerId, outgoing: bool, pieces: u32) -> Self {
        Self {
            address,
            id,
            outgoing,
            has: ChunkSet::empty(pieces),
            shown: ChunkSet::empty(pieces),
            shown_open: 0,
            shown_last: 0,
            moved: now,
            inbox: Vec::new(),
            outbox: Vec::new(),
            chokes_us: true,
            choked: true,
            wants: false,
            wanted: false,
            asked: VecDeque::new(),
            pieces: Vec::new(),
            requests: VecDeque::new(),
            answered: now,
            heard: now,
            spoken: now,
            flushed: now,
            incoming: Meter::new(now),
        }
    }

    /// Appends a message to what is sent to it.
    pub(super) fn say(&mut self, message: Message<'_>) {
        message.encode(&mut self.outbox);
    }

    /// Blocks that may be asked of it at a time.
    pub(super) fn window(&self) -> usize {
        let blocks = self.incoming.rate * WINDOW_TIME_MS / 1000 / (BLOCK_BYTES as u64);
        usize::try_from(blocks.clamp(WINDOW_MIN, WINDOW_MAX)).unwrap_or(1)
    }

    /// Says whether we want something of it, if it does not know.
    pub(super) fn want(&mut self, wanted: bool) {
        if self.wanted != wanted {
            self.wanted = wanted;
            self.say(if wanted {
                Message::Interested
            } else {
                Message::NotInterested
            });
        }
    }
}
