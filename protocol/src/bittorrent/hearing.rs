//! What peers say, and what it changes. Nothing of it is believed: places are checked, and bytes against the hash of their
//! piece.

use std::time::Instant;

use super::PieceHash;
use super::peer::{DropReason, PeerKey};
use super::picking::BLOCK;
use super::pieces::PIECE;
use super::swarm::{Output, Role, Swarm};
use super::wire::{Block, Message};
use crate::limits::{BLOCK_BYTES, PEER_REQUESTS};

impl Swarm {
    pub(super) fn take(
        &mut self,
        now: Instant,
        key: PeerKey,
        message: Message<'_>,
    ) -> Result<(), DropReason> {
        let member = self.role == Role::Member;
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        match message {
            Message::KeepAlive | Message::Other(_) => {}
            Message::Choke => {
                peer.chokes_us = true;
                self.release(key);
            }
            Message::Unchoke => {
                peer.chokes_us = false;
                peer.answered = now;
            }
            Message::Interested => {
                peer.wants = true;
                if std::mem::take(&mut peer.choked) {
                    peer.say(Message::Unchoke);
                }
            }
            Message::NotInterested => peer.wants = false,
            Message::Have(piece) => self.has(now, key, piece)?,
            Message::Bitfield(bits) => self.bitfield(now, key, bits)?,
            Message::Request(block) => {
                let visible = self.have.contains(block.piece) && (member || peer.shown.contains(block.piece));
                let inside = block.begin.checked_add(block.len).is_some_and(|end| end <= PIECE);
                if block.len == 0 || block.len > BLOCK || !inside {
                    return Err(DropReason::Greedy);
                }
                if visible && !peer.choked && peer.requests.len() < PEER_REQUESTS {
                    peer.requests.push_back(block);
                    if !self.waiting.contains(&key) && !self.turns.iter().any(|turn| turn.key == key) {
                        self.waiting.push_back(key);
                    }
                }
            }
            Message::Cancel(block) => peer.requests.retain(|asked| *asked != block),
            Message::Piece(piece, begin, bytes) => self.block(now, key, piece, begin, bytes)?,
        }
        Ok(())
    }

    fn bitfield(&mut self, now: Instant, key: PeerKey, bits: &[u8]) -> Result<(), DropReason> {
        let count = self.pieces.count();
        if bits.len() != usize::try_from(count.div_ceil(8)).unwrap_or(0) {
            return Err(DropReason::NoSuchPiece(count));
        }
        for (byte, first) in bits.iter().zip((0_u32..).step_by(8)) {
            for bit in (0..8).filter(|bit| byte & (0x80 >> bit) != 0) {
                self.has(now, key, first + bit)?;
            }
        }
        Ok(())
    }

    /// A peer has a piece.
    fn has(&mut self, now: Instant, key: PeerKey, piece: u32) -> Result<(), DropReason> {
        if piece >= self.pieces.count() {
            return Err(DropReason::NoSuchPiece(piece));
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        if !peer.has.insert(piece) {
            return Ok(());
        }
        let owners = &mut self.owners[usize::try_from(piece).unwrap_or(0)];
        *owners = owners.saturating_add(1);
        if self.needed.contains(piece) {
            peer.want(true);
        }
        if self.role == Role::Seed {
            self.seen_with(now, key, piece);
            self.show(now, key);
        }
        Ok(())
    }

    /// A block of a peer.
    fn block(
        &mut self,
        now: Instant,
        key: PeerKey,
        piece: u32,
        begin: u32,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let Some(peer) = self.peers.get_mut(&key) else {
            return Ok(());
        };
        let asked = |block: &Block| {
            (block.piece, block.begin) == (piece, begin) && usize::try_from(block.len) == Ok(bytes.len())
        };
        let Some(at) = peer.asked.iter().position(asked) else {
            // It was asked for once, and withdrawn; or never: it goes nowhere.
            self.tally.wasted += bytes.len() as u64;
            return if bytes.len() > BLOCK_BYTES {
                Err(DropReason::Greedy)
            } else {
                Ok(())
            };
        };
        peer.asked.remove(at);
        peer.answered = now;
        peer.incoming.add(bytes.len());
        let bit = 1 << (begin / BLOCK);
        let suspect = self.suspect.contains(piece);
        let pending = self.pending.get_mut(&piece);
        let lacking = pending.filter(|p| p.came & bit == 0 && (!suspect || p.owner == Some(key)));
        let Some(pending) = lacking else {
            self.tally.wasted += bytes.len() as u64;
            return Ok(());
        };
        let from = usize::try_from(begin).unwrap_or(usize::MAX);
        pending.bytes[from..from + bytes.len()].copy_from_slice(bytes);
        pending.came |= bit;
        pending.moved = now;
        if !pending.from.contains(&key) {
            pending.from.push(key);
        }
        if pending.came == pending.all() {
            return self.whole(key, piece);
        }
        Ok(())
    }

    /// All blocks of a piece came.
    fn whole(&mut self, key: PeerKey, piece: u32) -> Result<(), DropReason> {
        let Some(pending) = self.pending.get_mut(&piece) else {
            return Ok(());
        };
        let bytes = std::mem::take(&mut pending.bytes);
        let from = std::mem::take(&mut pending.from);
        self.withdraw(piece);
        if self.hashes.get(piece) == Some(PieceHash::of(&bytes)) {
            self.tally.came += bytes.len() as u64;
            self.suspect.remove(piece);
            self.needed.remove(piece);
            let outcome = Output::Piece { piece, bytes };
            self.outputs.push_back(outcome);
            if self.needed.is_empty() {
                self.peers.values_mut().for_each(|peer| peer.want(false));
            }
            return Ok(());
        }
        self.tally.wasted += bytes.len() as u64;
        self.free.insert(piece);
        if let Some((chunk, _)) = self.pieces.place(piece)
            && let Some(begun) = self.open.get_mut(&chunk)
        {
            *begun -= 1;
            if *begun == 0 {
                self.open.remove(&chunk);
            }
        }
        if from == [key] {
            return Err(DropReason::WrongBytes(piece));
        }
        self.suspect.insert(piece);
        Ok(())
    }
}
