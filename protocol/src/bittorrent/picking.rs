//! What is asked of whom: the rarest pieces first, each of one peer at a time, and of another when it does not come.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::peer::PeerKey;
use super::swarm::Swarm;
use super::wire::{Block, Message};
use crate::limits::BLOCK_BYTES;

/// A piece of which nothing came for so long is asked of another peer that has nothing better to do.
const TAKEN_OVER: Duration = Duration::from_secs(2);

/// Pieces that are looked at for the rarest one, from a random one on: looking at all of a very large version for every
/// piece would take longer than the piece.
const LOOKED_AT: usize = 8192;

/// [`BLOCK_BYTES`] as it is counted on the wire.
pub(super) const BLOCK: u32 = {
    assert!(BLOCK_BYTES <= 1 << 14, "the most that any client answers");
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the line above is the check, and runs at compile time"
    )]
    let block = BLOCK_BYTES as u32;
    block
};

/// A piece on its way.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) bytes: Vec<u8>,
    /// Blocks that came, and blocks that were asked for, one bit each.
    pub(super) came: u32,
    pub(super) asked: u32,
    /// Who is to send it.
    pub(super) owner: Option<PeerKey>,
    /// Who sent some of it.
    pub(super) from: Vec<PeerKey>,
    /// When a block of it came last, or it was begun.
    pub(super) moved: Instant,
}

impl Pending {
    fn new(now: Instant, bytes: u32) -> Self {
        Self {
            bytes: vec![0; usize::try_from(bytes).unwrap_or(0)],
            came: 0,
            asked: 0,
            owner: None,
            from: Vec::new(),
            moved: now,
        }
    }

    /// One bit for every block.
    pub(super) fn all(&self) -> u32 {
        let blocks = self.bytes.len().div_ceil(BLOCK_BYTES);
        u32::try_from((1_u64 << blocks.min(32)) - 1).unwrap_or(u32::MAX)
    }

    /// The first block that nobody was asked for.
    fn unasked(&self, piece: u32) -> Option<Block> {
        let left = self.all() & !self.asked & !self.came;
        if left == 0 {
            return None;
        }
        let begin = left.trailing_zeros() * BLOCK;
        let len = u32::try_from(self.bytes.len()).unwrap_or(0).saturating_sub(begin);
        Some(Block {
            piece,
            begin,
            len: len.min(BLOCK),
        })
    }
}

impl Swarm {
    /// Asks every peer for as much as it can be asked for.
    pub(super) fn ask(&mut self, now: Instant) {
        if !self.fetching || self.needed.is_empty() {
            return;
        }
        let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
        for key in keys {
            self.ask_peer(now, key);
        }
    }

    pub(super) fn ask_peer(&mut self, now: Instant, key: PeerKey) {
        loop {
            let Some(peer) = self.peers.get(&key) else { return };
            if !self.fetching || peer.chokes_us || peer.asked.len() >= peer.window() {
                return;
            }
            let Some(block) = self.next_block(now, key) else {
                return;
            };
            let pending = self.pending.get_mut(&block.piece).expect("its block was chosen");
            pending.asked |= 1 << (block.begin / BLOCK);
            let peer = self.peers.get_mut(&key).expect("it was there above");
            if peer.asked.is_empty() {
                peer.answered = now;
            }
            peer.asked.push_back(block);
            peer.say(Message::Request(block));
        }
    }

    /// The block that a peer is to be asked for next: of the pieces that it sends already, of one that nobody sends any
    /// more, of a new one, or of one that somebody else does not send.
    fn next_block(&mut self, now: Instant, key: PeerKey) -> Option<Block> {
        let own = self.peers[&key].pieces.iter();
        if let Some(block) = own
            .filter_map(|piece| self.pending.get(piece)?.unasked(*piece))
            .next()
        {
            return Some(block);
        }
        let piece = self
            .abandoned(key)
            .or_else(|| self.rarest(now, key))
            .or_else(|| self.take_over(now, key))?;
        let pending = self.pending.get_mut(&piece)?;
        pending.owner = Some(key);
        pending.moved = now;
        self.peers.get_mut(&key)?.pieces.push(piece);
        self.pending[&piece].unasked(piece)
    }

    /// A piece on its way that has no owner.
    fn abandoned(&self, key: PeerKey) -> Option<u32> {
        let has = &self.peers[&key].has;
        let orphan = |(&piece, pending): (&u32, &Pending)| {
            (pending.owner.is_none() && has.contains(piece)).then_some(piece)
        };
        self.pending.iter().find_map(orphan)
    }

    /// The piece of those that are needed that the fewest peers have, put among those on their way.
    fn rarest(&mut self, now: Instant, key: PeerKey) -> Option<u32> {
        let count = self.pieces.count();
        let start = self.rng.random_range(0..count.max(1));
        let has = &self.peers[&key].has;
        // As many chunks as may be open at a time are: only their pieces are begun.
        let full = self.open.len() >= self.bounds.open_chunks;
        let may_begin = |piece: u32| {
            !full
                || self
                    .pieces
                    .place(piece)
                    .is_some_and(|(chunk, _)| self.open.contains_key(&chunk))
        };
        let mut best: Option<(u32, u16)> = None;
        let from = |first: u32| {
            let free = &self.free;
            std::iter::successors(free.next(first), |&piece| free.next(piece + 1))
        };
        for piece in from(start)
            .chain(from(0).take_while(|&piece| piece < start))
            .take(LOOKED_AT)
        {
            let rarity = self.owners[usize::try_from(piece).unwrap_or(0)];
            if best.is_none_or(|(_, least)| rarity < least) && has.contains(piece) && may_begin(piece) {
                best = Some((piece, rarity));
                if rarity <= 1 {
                    break;
                }
            }
        }
        let (piece, _) = best?;
        self.free.remove(piece);
        let (chunk, _) = self.pieces.place(piece)?;
        *self.open.entry(chunk).or_insert(0) += 1;
        self.pending
            .insert(piece, Pending::new(now, self.pieces.bytes(piece)));
        Some(piece)
    }

    /// A piece that another peer does not send, or sends much more slowly than this one could.
    fn take_over(&mut self, now: Instant, key: PeerKey) -> Option<u32> {
        let peer = &self.peers[&key];
        // One that has something to send goes on with it.
        if !peer.asked.is_empty() {
            return None;
        }
        let stuck = |(&piece, pending): (&u32, &Pending)| {
            let owner = pending.owner.filter(|&owner| owner != key)?;
            let idle = now.saturating_duration_since(pending.moved);
            let slow = self
                .peers
                .get(&owner)
                .is_none_or(|owner| owner.incoming.rate.saturating_mul(8) < peer.incoming.rate);
            let late = idle >= TAKEN_OVER || slow && idle >= TAKEN_OVER / 8;
            (late && peer.has.contains(piece)).then_some((idle, piece, owner))
        };
        let (_, piece, owner) = self.pending.iter().filter_map(stuck).max()?;
        if let Some(owner) = self.peers.get_mut(&owner) {
            owner.pieces.retain(|&its| its != piece);
        }
        let pending = self.pending.get_mut(&piece)?;
        pending.asked = 0;
        if self.suspect.contains(piece) {
            // Its bytes are to come from one peer alone, so that it is known whose they are.
            pending.came = 0;
            pending.from.clear();
        }
        Some(piece)
    }

    /// A peer is gone, or answers nothing: what it was to send is free for others.
    pub(super) fn release(&mut self, key: PeerKey) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.asked.clear();
        for piece in std::mem::take(&mut peer.pieces) {
            if let Some(pending) = self.pending.get_mut(&piece) {
                pending.owner = None;
                pending.asked = 0;
            }
        }
    }

    /// A piece is not needed of anybody any more.
    pub(super) fn withdraw(&mut self, piece: u32) {
        if self.pending.remove(&piece).is_none() {
            return;
        }
        for peer in self.peers.values_mut() {
            peer.pieces.retain(|&its| its != piece);
            let mut kept = std::mem::take(&mut peer.asked);
            kept.retain(|block| {
                let other = block.piece != piece;
                if !other {
                    Message::Cancel(*block).encode(&mut peer.outbox);
                }
                other
            });
            peer.asked = kept;
        }
    }
}
