//! One machine in one swarm, as a state machine: what peers send and the time go in; what is to be sent, pieces whose
//! hash is right, and peers that were dropped come out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;

use super::peer::{DropReason, Peer, PeerKey};
use super::picking::Pending;
use super::uploading::Turn;
use super::wire::{Message, PeerId};
use super::{InfoHashes, Pieces};
use crate::multicast::ChunkSet;

/// A peer that was asked and sent no block for so long is dropped.
const SILENT: Duration = Duration::from_secs(15);

/// A connection that nothing was sent on for so long gets a message that says nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A connection that nothing came on for so long is closed.
const IDLE: Duration = Duration::from_secs(180);

/// What a machine does in a swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has everything, and shows each peer other pieces.
    Seed,
    /// It has what it says, and may lack the rest.
    Member,
}

/// How much one machine does at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Peers that it is connected to.
    pub peers: usize,
    /// Peers that it sends to: with few, each gets whole pieces sooner and has something to give to others.
    pub uploads: usize,
    /// Chunks of which it has some pieces and lacks others.
    pub open_chunks: usize,
}

/// What came out.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// A piece, without its padding, that has the right hash. Peers are told of it by [`Swarm::stored`].
    Piece {
        /// Which.
        piece: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A peer is not spoken to any more; its connection is to be closed.
    Dropped {
        /// Its connection.
        key: PeerKey,
        /// Its address.
        address: SocketAddr,
        /// Why.
        reason: DropReason,
    },
}

/// What was counted since the beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Bytes of blocks that were sent.
    pub sent: u64,
    /// Bytes of blocks that came and were lacking.
    pub came: u64,
    /// Bytes of blocks that came and were there already, or belonged to pieces with a wrong hash.
    pub wasted: u64,
}

/// One machine in one swarm.
#[derive(Debug)]
pub struct Swarm {
    pub(super) pieces: Arc<Pieces>,
    pub(super) hashes: Arc<InfoHashes>,
    pub(super) role: Role,
    pub(super) bounds: Bounds,
    id: PeerId,
    pub(super) rng: Xoshiro256PlusPlus,
    pub(super) peers: BTreeMap<PeerKey, Peer>,
    /// How many connected peers have each piece.
    pub(super) owners: Vec<u16>,
    /// What can be sent, what is lacking, and what of that nobody was asked for.
    pub(super) have: ChunkSet,
    pub(super) needed: ChunkSet,
    pub(super) free: ChunkSet,
    pub(super) pending: BTreeMap<u32, Pending>,
    /// Pieces whose bytes came from several peers and had a wrong hash.
    pub(super) suspect: ChunkSet,
    /// Chunks that are begun, with the number of their pieces that came or are on their way.
    pub(super) open: BTreeMap<u32, u32>,
    pub(super) fetching: bool,
    /// For a seed: pieces that nobody has or was shown, and to how many each was shown that lack it.
    pub(super) unshown: ChunkSet,
    pub(super) shows: Vec<u16>,
    pub(super) turns: VecDeque<Turn>,
    pub(super) waiting: VecDeque<PeerKey>,
    pub(super) outputs: VecDeque<Output>,
    pub(super) tally: Tally,
}

impl Swarm {
    /// A machine that has nothing, or as [`Role::Seed`] everything, lacks nothing yet and knows nobody. `id` is unique in
    /// the swarm; `seed` decides what is left to chance.
    pub fn new(
        pieces: Arc<Pieces>,
        hashes: Arc<InfoHashes>,
        role: Role,
        bounds: Bounds,
        id: PeerId,
        seed: u64,
    ) -> Self {
        let count = pieces.count();
        let size = usize::try_from(count).unwrap_or(0);
        let all = |yes: bool| {
            if yes {
                ChunkSet::full(count)
            } else {
                ChunkSet::empty(count)
            }
        };
        Self {
            have: all(role == Role::Seed),
            unshown: all(role == Role::Seed),
            needed: all(false),
            free: all(false),
            suspect: all(false),
            owners: vec![0; size],
            shows: if role == Role::Seed {
                vec![0; size]
            } else {
                Vec::new()
            },
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
            peers: BTreeMap::new(),
            pending: BTreeMap::new(),
            open: BTreeMap::new(),
            fetching: true,
            turns: VecDeque::new(),
            waiting: VecDeque::new(),
            outputs: VecDeque::new(),
            tally: Tally::default(),
            pieces,
            hashes,
            role,
            bounds,
            id,
        }
    }

    /// Says whether a chunk is lacking. What came of it otherwise is forgotten.
    pub fn lack(&mut self, chunk: u32, lacking: bool) {
        self.open.remove(&chunk);
        for piece in self.pieces.of_chunk(chunk) {
            self.withdraw(piece);
            if lacking {
                self.needed.insert(piece);
                self.free.insert(piece);
            } else {
                self.needed.remove(piece);
                self.free.remove(piece);
            }
        }
        let Self { peers, needed, .. } = self;
        if !lacking && needed.is_empty() {
            peers.values_mut().for_each(|peer| peer.want(false));
        }
    }

    /// Says whether pieces are asked for.
    pub fn fetch(&mut self, now: Instant, fetching: bool) {
        self.fetching = fetching;
        self.ask(now);
    }

    /// A piece can be sent from now on: peers are told.
    pub fn stored(&mut self, piece: u32) {
        if self.have.insert(piece) {
            for peer in self.peers.values_mut() {
                peer.say(Message::Have(piece));
            }
        }
    }

    /// A connection on which handshakes were exchanged. When it is not kept, the reason.
    ///
    /// # Errors
    /// Why it is to be closed.
    pub fn connected(
        &mut self,
        now: Instant,
        key: PeerKey,
        address: SocketAddr,
        id: PeerId,
        outgoing: bool,
    ) -> Result<(), DropReason> {
        if id == self.id {
            return Err(DropReason::Ourselves);
        }
        let other = self.peers.iter().find(|(_, peer)| peer.id == id);
        if let Some((&other, peer)) = other {
            // Both ends keep the one that the machine with the smaller identity made; of two by the same machine, the
            // newer one.
            let maker = |outgoing: bool| if outgoing { self.id } else { id };
            if maker(outgoing) > maker(peer.outgoing) {
                return Err(DropReason::Twice);
            }
            self.drop_peer(other, DropReason::Twice);
        }
        if self.peers.len() >= self.bounds.peers {
            return Err(DropReason::Crowded);
        }
        let mut peer = Peer::new(now, address, id, outgoing, self.pieces.count());
        if self.role == Role::Member && !self.have.is_empty() {
            peer.say(Message::Bitfield(&bits(&self.have)));
        }
        self.peers.insert(key, peer);
        if self.role == Role::Seed {
            self.show(now, key);
        }
        Ok(())
    }

    /// The connection with a peer has ended.
    pub fn closed(&mut self, key: PeerKey) {
        self.forget(key);
    }

    /// Bytes of a peer.
    pub fn receive(&mut self, now: Instant, key: PeerKey, bytes: &[u8]) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.heard = now;
        peer.inbox.extend_from_slice(bytes);
        let inbox = std::mem::take(&mut peer.inbox);
        let mut at = 0;
        loop {
            match Message::decode(&inbox[at..]) {
                Ok(Some((message, took))) => {
                    at += took;
                    if let Err(reason) = self.take(now, key, message) {
                        return self.drop_peer(key, reason);
                    }
                }
                Ok(None) => break,
                Err(error) => return self.drop_peer(key, DropReason::Wire(error)),
            }
        }
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.inbox = inbox;
            peer.inbox.drain(..at);
            self.ask_peer(now, key);
        }
    }

    /// Looks after what is due; called some ten times a second.
    pub fn tick(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (&key, peer) in &mut self.peers {
            peer.incoming.settle(now);
            let whole = peer.has.count() == self.pieces.count();
            let reason = if !peer.asked.is_empty() && now.saturating_duration_since(peer.answered) >= SILENT {
                Some(DropReason::Silent(SILENT))
            } else if now.saturating_duration_since(peer.heard) >= IDLE {
                Some(DropReason::Idle)
            } else if whole && self.needed.is_empty() && peer.requests.is_empty() && peer.outbox.is_empty() {
                Some(DropReason::Done)
            } else {
                None
            };
            if now.saturating_duration_since(peer.spoken) >= KEEP_ALIVE && peer.outbox.is_empty() {
                peer.say(Message::KeepAlive);
            }
            due.extend(reason.map(|reason| (key, reason)));
        }
        for (key, reason) in due {
            self.drop_peer(key, reason);
        }
        if self.role == Role::Seed {
            let keys: Vec<PeerKey> = self.peers.keys().copied().collect();
            keys.into_iter().for_each(|key| self.show(now, key));
        }
        self.ask(now);
    }

    /// What is to be sent to a peer, blocks aside; the driver takes it out.
    pub fn outbox(&mut self, now: Instant, key: PeerKey) -> Option<&mut Vec<u8>> {
        let peer = self.peers.get_mut(&key)?;
        if !peer.outbox.is_empty() {
            peer.spoken = now;
        }
        Some(&mut peer.outbox)
    }

    /// The connection of a peer has taken bytes.
    pub fn flushed(&mut self, now: Instant, key: PeerKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.flushed = now;
        }
    }

    /// What came out since it was asked last.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// How many peers there are.
    pub fn peers(&self) -> usize {
        self.peers.len()
    }

    /// Whether a peer is connected that lacks something.
    pub fn is_wanted(&self) -> bool {
        self.peers
            .values()
            .any(|peer| peer.has.count() < self.pieces.count())
    }

    /// Whether there is a connection with a machine at this address and port, made from here.
    pub fn knows(&self, address: SocketAddr) -> bool {
        self.peers.values().any(|peer| peer.address == address)
    }

    pub(super) fn drop_peer(&mut self, key: PeerKey, reason: DropReason) {
        if let Some(address) = self.forget(key) {
            self.outputs.push_back(Output::Dropped { key, address, reason });
        }
    }

    fn forget(&mut self, key: PeerKey) -> Option<SocketAddr> {
        self.release(key);
        let peer = self.peers.remove(&key)?;
        for piece in peer.has.iter() {
            let owners = &mut self.owners[usize::try_from(piece).unwrap_or(0)];
            *owners = owners.saturating_sub(1);
        }
        if self.role == Role::Seed {
            self.unshow(&peer.shown, &peer.has);
        }
        Some(peer.address)
    }
}

/// A set as a bitfield.
fn bits(set: &ChunkSet) -> Vec<u8> {
    let mut bits = vec![0; usize::try_from(set.size().div_ceil(8)).unwrap_or(0)];
    for index in set.iter() {
        bits[usize::try_from(index / 8).unwrap_or(0)] |= 0x80 >> (index % 8);
    }
    bits
}
