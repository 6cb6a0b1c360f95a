//! Whom blocks are sent to, and in which order: a few peers at a time, each for a piece's worth of bytes, then the next.

use std::time::{Duration, Instant};

use super::peer::PeerKey;
use super::swarm::Swarm;
use super::wire::Block;
use crate::limits::PIECE_BYTES;

/// An upload whose connection takes nothing for so long makes room for another.
const STUCK: Duration = Duration::from_secs(1);

/// A peer that is being sent to, and how much since its turn began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) key: PeerKey,
    pub(super) sent: usize,
}

impl Swarm {
    /// The next block to send, to a peer whose connection is `ready` to take it. Its bytes go behind its
    /// [`header`](Self::header).
    pub fn next_upload(&mut self, now: Instant, ready: impl Fn(PeerKey) -> bool) -> Option<(PeerKey, Block)> {
        for _ in 0..self.turns.len() {
            let turn = self.turns.pop_front()?;
            let Some(peer) = self.peers.get(&turn.key).filter(|peer| !peer.requests.is_empty()) else {
                continue;
            };
            let stuck = !ready(turn.key) && now.saturating_duration_since(peer.flushed) >= STUCK;
            if turn.sent >= PIECE_BYTES || stuck {
                self.waiting.push_back(turn.key);
            } else {
                self.turns.push_back(turn);
            }
        }
        for _ in 0..self.waiting.len() {
            if self.turns.len() >= self.bounds.uploads {
                break;
            }
            let key = self.waiting.pop_front()?;
            match self.peers.get(&key) {
                Some(peer) if peer.requests.is_empty() => {}
                Some(_) if ready(key) => self.turns.push_back(Turn { key, sent: 0 }),
                Some(_) => self.waiting.push_back(key),
                None => {}
            }
        }
        let turn = self.turns.iter_mut().find(|turn| ready(turn.key))?;
        let peer = self.peers.get_mut(&turn.key)?;
        let block = peer.requests.pop_front()?;
        let len = usize::try_from(block.len).unwrap_or(0);
        turn.sent += len;
        self.tally.sent += len as u64;
        peer.spoken = now;
        Some((turn.key, block))
    }

    /// What goes before the bytes of a block.
    pub fn header(block: Block) -> [u8; 13] {
        let mut header = [0; 13];
        header[..4].copy_from_slice(&(block.len + 9).to_be_bytes());
        header[4] = 7;
        header[5..9].copy_from_slice(&block.piece.to_be_bytes());
        header[9..].copy_from_slice(&block.begin.to_be_bytes());
        header
    }
}
