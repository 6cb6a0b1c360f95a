//! Super-seeding (BEP 16): a seed says of few pieces that it has them, to each peer of others, so that every piece leaves
//! it about once and the peers have something to give each other from the beginning.
//!
//! A peer that has got a piece is shown the next one at once. When every piece has left, a peer is shown what it lacks only
//! if nothing has come to it for a while: others can bring it.

use std::time::{Duration, Instant};

use rand::RngExt as _;

use super::peer::PeerKey;
use super::swarm::Swarm;
use super::wire::Message;

/// Pieces that are shown at a time to all peers together, and at least to each.
const SHOWN: (usize, usize) = (24, 2);

/// A peer to which nothing came for so long is shown a piece that others have, too.
const STARVING: Duration = Duration::from_millis(1500);

/// Pieces that are looked at for the rarest.
const LOOKED_AT: usize = 4096;

impl Swarm {
    /// Shows a peer as many pieces as it may see: one after the other of a chunk, so that it soon has whole ones.
    pub(super) fn show(&mut self, now: Instant, key: PeerKey) {
        let lacking = self
            .peers
            .values()
            .filter(|peer| peer.has.count() < self.pieces.count())
            .count();
        let limit = (SHOWN.0 / lacking.max(1)).max(SHOWN.1);
        while let Some(peer) = self.peers.get(&key) {
            let open = usize::try_from(peer.shown_open).unwrap_or(usize::MAX);
            let starving = now.saturating_duration_since(peer.moved) >= STARVING;
            let start = match peer.shown.is_empty() {
                true => self.rng.random_range(0..self.pieces.count().max(1)),
                false => peer.shown_last,
            };
            let fresh = self.unshown.next(start).or_else(|| self.unshown.next(0));
            let chosen = match fresh.filter(|_| open < limit) {
                Some(fresh) => Some(fresh),
                None if starving && open < limit * 4 => self.least_shown(key, start),
                None => None,
            };
            let Some(piece) = chosen else { return };
            let peer = self.peers.get_mut(&key).expect("it was there above");
            peer.moved = now;
            peer.shown_last = piece;
            if peer.shown.insert(piece) {
                peer.shown_open += 1;
                self.shows[usize::try_from(piece).unwrap_or(0)] += 1;
            }
            peer.say(Message::Have(piece));
            self.unshown.remove(piece);
        }
    }

    /// Of the pieces that a peer lacks and was not shown, the one that the fewest have or were shown; those of chunks
    /// of which it has something before all others.
    fn least_shown(&self, key: PeerKey, start: u32) -> Option<u32> {
        let peer = self.peers.get(&key)?;
        let count = self.pieces.count();
        let wrapped = (start..count).chain(0..start).take(LOOKED_AT);
        let lacks = wrapped.filter(|&piece| {
            self.have.contains(piece) && !peer.has.contains(piece) && !peer.shown.contains(piece)
        });
        lacks.min_by_key(|&piece| {
            let at = usize::try_from(piece).unwrap_or(0);
            let chunk = self.pieces.place(piece).map_or(0, |(chunk, _)| chunk);
            let begun = self.pieces.of_chunk(chunk).any(|piece| peer.has.contains(piece));
            (!begun, u32::from(self.owners[at]) + u32::from(self.shows[at]))
        })
    }

    /// A peer has got a piece, from whomever.
    pub(super) fn seen_with(&mut self, now: Instant, key: PeerKey, piece: u32) {
        self.unshown.remove(piece);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.moved = now;
        if peer.shown.contains(piece) {
            peer.shown_open = peer.shown_open.saturating_sub(1);
            let shows = &mut self.shows[usize::try_from(piece).unwrap_or(0)];
            *shows = shows.saturating_sub(1);
        }
    }

    /// A peer is gone, with what it was shown and did not get.
    pub(super) fn unshow(&mut self, shown: &crate::multicast::ChunkSet, has: &crate::multicast::ChunkSet) {
        for piece in shown.iter().filter(|&piece| !has.contains(piece)) {
            let at = usize::try_from(piece).unwrap_or(0);
            self.shows[at] = self.shows[at].saturating_sub(1);
        }
        // What nobody is left with is shown anew.
        for piece in shown.iter().chain(has.iter()) {
            let at = usize::try_from(piece).unwrap_or(0);
            if self.have.contains(piece) && self.owners[at] == 0 && self.shows[at] == 0 {
                self.unshown.insert(piece);
            }
        }
    }
}
