//! Whole swarms in one process, with a virtual clock and links of a given rate.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::peer::{DropReason, PeerKey};
use super::pieces::PIECE;
use super::wire::{Block, Message, PeerId};
use super::{Bounds, InfoHash, InfoHashes, Output, PieceHash, Pieces, Role, Swarm, info_of};
use crate::id::{ChunkId, ManifestId};
use crate::multicast::{ChunkInfo, ChunkTable};

/// What a link carries in one step of the clock.
const STEP: Duration = Duration::from_millis(10);

const BOUNDS: Bounds = Bounds {
    peers: 64,
    uploads: 4,
    open_chunks: usize::MAX,
};

/// How a machine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Honest,
    /// It sends blocks of noise.
    Garbage,
    /// It takes requests and sends nothing.
    Mute,
    /// A byte a second.
    Trickle,
}

struct Node {
    swarm: Swarm,
    stored: BTreeMap<u32, Vec<u8>>,
    manner: Manner,
    /// Bytes per step that it can send.
    rate: usize,
    budget: usize,
    /// To each other machine, what waits to be sent.
    out: BTreeMap<usize, VecDeque<u8>>,
    complete: Option<Duration>,
    dropped: Vec<(usize, DropReason)>,
}

struct World {
    content: Arc<Vec<Vec<u8>>>,
    pieces: Arc<Pieces>,
    hashes: Arc<InfoHashes>,
    nodes: Vec<Node>,
    start: Instant,
    now: Instant,
}

fn key(node: usize) -> PeerKey {
    PeerKey(u64::try_from(node).unwrap())
}

fn noise(seed: u32, len: u32) -> Vec<u8> {
    let mut state = u64::from(seed) << 20 | 0x9e37_79b9;
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap());
    while bytes.len() < usize::try_from(len).unwrap() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

impl World {
    /// A seed, and members that lack everything, each with a link of `rate` bytes per second.
    fn new(chunks: &[u32], members: usize, rate: usize, bounds: Bounds) -> Self {
        let content: Vec<_> = (0..).zip(chunks).map(|(at, &len)| noise(at, len)).collect();
        let infos = content.iter().map(|bytes| ChunkInfo {
            id: ChunkId::of(&bytes[..8.min(bytes.len())]),
            len: u32::try_from(bytes.len()).unwrap(),
        });
        let table = ChunkTable::new(ManifestId::of(b"v"), infos.collect()).unwrap();
        let pieces = Arc::new(Pieces::new(Arc::new(table)).unwrap());
        let hashes: Vec<u8> = content
            .iter()
            .flat_map(|bytes| PieceHash::of_chunk(bytes))
            .flat_map(|hash| hash.0)
            .collect();
        let hashes = Arc::new(InfoHashes::new(&pieces, hashes).unwrap());
        let start = Instant::now();
        let mut world = Self {
            content: Arc::new(content),
            pieces,
            hashes,
            nodes: Vec::new(),
            start,
            now: start,
        };
        world.add(Role::Seed, rate, bounds);
        for _ in 0..members {
            world.add(Role::Member, rate, bounds);
        }
        world
    }

    fn add(&mut self, role: Role, rate: usize, bounds: Bounds) -> usize {
        let number = self.nodes.len();
        let mut id = [0; 20];
        id[..8].copy_from_slice(&number.to_be_bytes());
        let mut swarm = Swarm::new(
            Arc::clone(&self.pieces),
            Arc::clone(&self.hashes),
            role,
            bounds,
            PeerId(id),
            u64::try_from(number).unwrap() + 7,
        );
        if role == Role::Member {
            (0..self.pieces.table().count()).for_each(|chunk| swarm.lack(chunk, true));
        }
        self.nodes.push(Node {
            swarm,
            stored: BTreeMap::new(),
            manner: Manner::Honest,
            rate: rate / 100,
            budget: 0,
            out: BTreeMap::new(),
            complete: None,
            dropped: Vec::new(),
        });
        number
    }

    fn connect(&mut self, a: usize, b: usize) {
        let id = |number: usize| {
            let mut id = [0; 20];
            id[..8].copy_from_slice(&number.to_be_bytes());
            PeerId(id)
        };
        let address =
            |number: usize| std::net::SocketAddr::from(([10, 0, 0, u8::try_from(number % 250).unwrap()], 9));
        for (from, to, outgoing) in [(a, b, true), (b, a, false)] {
            let known = self.nodes[from]
                .swarm
                .connected(self.now, key(to), address(to), id(to), outgoing);
            assert_eq!(known, Ok(()));
            self.nodes[from].out.insert(to, VecDeque::new());
        }
    }

    /// Everybody knows everybody.
    fn mesh(&mut self) {
        for a in 0..self.nodes.len() {
            for b in 0..a {
                self.connect(a, b);
            }
        }
    }

    fn bytes(&self, node: usize, block: Block) -> Vec<u8> {
        let len = usize::try_from(block.len).unwrap();
        let begin = usize::try_from(block.begin).unwrap();
        match self.nodes[node].manner {
            Manner::Garbage => return vec![0xee; len],
            Manner::Honest | Manner::Mute | Manner::Trickle => {}
        }
        let mut piece = match self.nodes[node].stored.get(&block.piece) {
            Some(stored) => stored.clone(),
            None => {
                let (chunk, offset) = self.pieces.place(block.piece).unwrap();
                let chunk = &self.content[usize::try_from(chunk).unwrap()];
                let from = usize::try_from(offset).unwrap();
                chunk[from..chunk.len().min(from + usize::try_from(PIECE).unwrap())].to_vec()
            }
        };
        piece.resize(usize::try_from(PIECE).unwrap(), 0);
        piece[begin..begin + len].to_vec()
    }

    fn step(&mut self) {
        self.now += STEP;
        let now = self.now;
        for node in 0..self.nodes.len() {
            self.nodes[node].swarm.tick(now);
            self.drain(node);
            self.send(node);
        }
    }

    /// Takes out what a machine says.
    fn drain(&mut self, node: usize) {
        while let Some(output) = self.nodes[node].swarm.poll() {
            match output {
                Output::Piece { piece, bytes } => {
                    let wanted = self.bytes(
                        0,
                        Block {
                            piece,
                            begin: 0,
                            len: u32::try_from(bytes.len()).unwrap(),
                        },
                    );
                    assert!(bytes == wanted, "a wrong byte came out");
                    self.nodes[node].stored.insert(piece, bytes);
                    self.nodes[node].swarm.stored(piece);
                    let (chunk, _) = self.pieces.place(piece).unwrap();
                    if self
                        .pieces
                        .of_chunk(chunk)
                        .all(|piece| self.nodes[node].stored.contains_key(&piece))
                    {
                        self.nodes[node].swarm.lack(chunk, false);
                    }
                    let count = usize::try_from(self.pieces.count()).unwrap();
                    if self.nodes[node].stored.len() == count {
                        self.nodes[node].complete = Some(self.now - self.start);
                    }
                }
                Output::Dropped { key, reason, .. } => {
                    let other = usize::try_from(key.0).unwrap();
                    self.nodes[node].dropped.push((other, reason));
                    self.nodes[node].out.remove(&other);
                    self.nodes[other]
                        .swarm
                        .closed(PeerKey(u64::try_from(node).unwrap()));
                    self.nodes[other].out.remove(&node);
                }
            }
        }
    }

    /// Sends as much as its link carries.
    fn send(&mut self, node: usize) {
        let now = self.now;
        let others: Vec<usize> = self.nodes[node].out.keys().copied().collect();
        for &other in &others {
            let Some(outbox) = self.nodes[node].swarm.outbox(now, key(other)) else {
                continue;
            };
            let said = std::mem::take(outbox);
            self.nodes[node].out.get_mut(&other).unwrap().extend(said);
        }
        loop {
            let room = |out: &BTreeMap<usize, VecDeque<u8>>, key: PeerKey| {
                out.get(&usize::try_from(key.0).unwrap())
                    .is_some_and(|out| out.len() < 256 << 10)
            };
            if self.nodes[node].manner == Manner::Mute {
                break;
            }
            let Node { swarm, out, .. } = &mut self.nodes[node];
            let Some((PeerKey(to), block)) = swarm.next_upload(now, |key| room(out, key)) else {
                break;
            };
            let bytes = self.bytes(node, block);
            let out = self.nodes[node]
                .out
                .get_mut(&usize::try_from(to).unwrap())
                .unwrap();
            out.extend(Swarm::header(block));
            out.extend(bytes);
        }
        let waiting = self.nodes[node]
            .out
            .values()
            .filter(|out| !out.is_empty())
            .count();
        let trickles = self.nodes[node].manner == Manner::Trickle;
        self.nodes[node].budget = self.nodes[node].rate;
        let share = self.nodes[node].budget / waiting.max(1);
        for other in others {
            let Some(out) = self.nodes[node].out.get_mut(&other) else {
                continue;
            };
            let mut some = out.len().min(share.max(1));
            if trickles && out.len() > 4000 {
                some = usize::from((now - self.start).as_millis() % 1000 < 10);
            }
            if some == 0 {
                continue;
            }
            let bytes: Vec<u8> = out.drain(..some).collect();
            self.nodes[node].swarm.flushed(now, key(other));
            self.nodes[other].swarm.receive(now, key(node), &bytes);
            self.drain(other);
        }
    }

    /// Goes on until all honest members have everything; how long that took.
    fn run(&mut self, limit: Duration) -> Duration {
        let lacking = |world: &Self| {
            let mut members = world
                .nodes
                .iter()
                .skip(1)
                .filter(|node| node.manner == Manner::Honest);
            members.any(|node| node.complete.is_none())
        };
        while lacking(self) {
            let left: Vec<_> = self.nodes.iter().map(|node| node.stored.len()).collect();
            assert!(self.now - self.start < limit, "pieces so far: {left:?}");
            self.step();
        }
        self.now - self.start
    }

    /// Bytes of the version, once.
    fn total(&self) -> u64 {
        self.pieces.table().bytes()
    }
}

/// 16 chunks of about 1.6 MiB: some 110 pieces, a tenth of it padding.
const CHUNKS: [u32; 16] = [
    1_700_000,
    1_500_000,
    4 << 20,
    1_600_000,
    9,
    1_234_567,
    2_000_000,
    1_700_000,
    1_500_000,
    1_600_000,
    PIECE,
    1_234_567,
    2_000_000,
    1_700_000,
    1_500_000,
    1_600_000,
];

#[test]
fn eight_members_take_little_more_than_one_copy_from_the_seed() {
    let mut world = World::new(&CHUNKS, 8, 12_500_000, BOUNDS);
    world.mesh();
    let took = world.run(Duration::from_secs(60));
    let sent = world.nodes[0].swarm.tally().sent;
    let copies = sent * 100 / world.total();
    assert!(
        (95..=125).contains(&copies),
        "{copies} hundredths of a copy in {took:?}"
    );
    let ideal = Duration::from_secs_f64(world.total() as f64 / 12_500_000.0);
    assert!(
        took < ideal * 2,
        "{took:?}, where one transmission takes {ideal:?}"
    );
}

#[test]
fn one_member_takes_one_copy_as_fast_as_its_link() {
    let mut world = World::new(&CHUNKS, 1, 12_500_000, BOUNDS);
    world.mesh();
    let took = world.run(Duration::from_secs(60));
    assert_eq!(
        world.nodes[0].swarm.tally().sent,
        world.total(),
        "no padding is sent"
    );
    let ideal = Duration::from_secs_f64(world.total() as f64 / 12_500_000.0);
    assert!(took < ideal * 5 / 4, "{took:?}, where the link takes {ideal:?}");
}

#[test]
fn members_go_on_without_the_seed_when_they_hold_every_piece_together() {
    let mut world = World::new(&CHUNKS, 4, 12_500_000, BOUNDS);
    world.mesh();
    while world.nodes[0].swarm.unshown.count() > 0 || world.nodes[0].swarm.tally().sent < world.total() {
        world.step();
    }
    for _ in 0..30 {
        world.step();
    }
    for member in 1..5 {
        world.nodes[member].swarm.closed(key(0));
        world.nodes[member].out.remove(&0);
    }
    world.nodes[0].out.clear();
    world.run(Duration::from_secs(60));
}

#[test]
fn bad_peers_are_dropped_by_name_and_cost_no_byte() {
    let mut world = World::new(&CHUNKS[..6], 5, 12_500_000, BOUNDS);
    for (node, manner) in [(3, Manner::Garbage), (4, Manner::Mute), (5, Manner::Trickle)] {
        world.nodes[node].manner = manner;
        // It says that it has everything.
        (0..world.pieces.count()).for_each(|piece| world.nodes[node].swarm.stored(piece));
        (0..world.pieces.table().count()).for_each(|chunk| world.nodes[node].swarm.lack(chunk, false));
    }
    world.mesh();
    world.run(Duration::from_secs(120));
    let dropped = &world.nodes[1].dropped;
    let of = |node: usize| {
        dropped
            .iter()
            .find(|(other, _)| *other == node)
            .map(|(_, reason)| *reason)
    };
    assert!(matches!(of(3), Some(DropReason::WrongBytes(_))), "{dropped:?}");
    for node in [4, 5] {
        // When everything came before its time was over, it was merely left.
        assert!(
            matches!(of(node), Some(DropReason::Silent(_) | DropReason::Done) | None),
            "{dropped:?}"
        );
    }
    assert!(
        of(1).is_none() && of(2).is_none_or(|reason| reason == DropReason::Done),
        "{dropped:?}"
    );
}

#[test]
fn with_little_memory_few_chunks_are_begun_at_a_time() {
    let bounds = Bounds {
        open_chunks: 3,
        ..BOUNDS
    };
    let mut world = World::new(&CHUNKS, 2, 12_500_000, bounds);
    world.mesh();
    while world.nodes[1].complete.is_none() || world.nodes[2].complete.is_none() {
        world.step();
        assert!(world.nodes[1].swarm.open.len() <= 3);
        assert!(world.now - world.start < Duration::from_secs(60));
    }
}

#[test]
fn a_crowd_of_two_hundred_is_served_by_few_uploads() {
    let mut world = World::new(&CHUNKS[..4], 200, 12_500_000, Bounds { peers: 256, ..BOUNDS });
    // As the tracker introduces them: each to a few of those that came before it, the seed among the first.
    for node in 1..201_usize {
        if node <= 32 {
            world.connect(node, 0);
        }
        for other in 1..=8_usize {
            let to = (other * 7919 + 13) % node;
            if to > 0 && !world.nodes[node].out.contains_key(&to) {
                world.connect(node, to);
            }
        }
    }
    let took = world.run(Duration::from_secs(60));
    let copies = world.nodes[0].swarm.tally().sent * 100 / world.total();
    assert!(copies <= 400, "{copies} hundredths of a copy in {took:?}");
}

#[test]
fn nonsense_ends_a_connection_and_nothing_else() {
    let mut world = World::new(&CHUNKS[..2], 1, 1_000_000, BOUNDS);
    for (said, reason) in [
        (
            vec![0, 0, 0, 5, 4, 0xff, 0xff, 0xff, 0xff],
            DropReason::NoSuchPiece(u32::MAX),
        ),
        (
            vec![0, 0, 0, 2, 5, 0],
            DropReason::NoSuchPiece(world.pieces.count()),
        ),
        (vec![0, 0, 0, 3, 5, 0xff, 0xff], DropReason::NoSuchPiece(13)),
        (
            vec![0, 0, 0, 13, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0],
            DropReason::Greedy,
        ),
        (
            vec![0, 0, 0, 13, 6, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1],
            DropReason::Greedy,
        ),
    ] {
        let now = world.now;
        let member = &mut world.nodes[1].swarm;
        let address = "10.0.0.9:9".parse().unwrap();
        member
            .connected(now, PeerKey(9), address, PeerId([9; 20]), false)
            .unwrap();
        member.receive(now, PeerKey(9), &said);
        let dropped = Output::Dropped {
            key: PeerKey(9),
            address,
            reason,
        };
        assert_eq!(member.poll(), Some(dropped), "{said:?}");
        assert_eq!(member.peers(), 0);
    }
    // What was not asked for goes nowhere.
    let now = world.now;
    let member = &mut world.nodes[1].swarm;
    member
        .connected(
            now,
            PeerKey(9),
            "10.0.0.9:9".parse().unwrap(),
            PeerId([9; 20]),
            false,
        )
        .unwrap();
    let mut unasked = Vec::new();
    Message::Piece(0, 0, &[1; 100]).encode(&mut unasked);
    member.receive(now, PeerKey(9), &unasked);
    assert_eq!((member.poll(), member.tally().wasted), (None, 100));
}

#[test]
fn of_two_connections_both_ends_keep_the_same() {
    let mut world = World::new(&[5], 2, 1000, BOUNDS);
    let now = world.now;
    let address = "10.0.0.9:9".parse().unwrap();
    let (small, large) = (PeerId([0; 20]), PeerId([0xff; 20]));
    let swarm = &mut world.nodes[1].swarm;
    // Made by us, whose identity is smaller: it stays.
    swarm.connected(now, PeerKey(5), address, large, true).unwrap();
    assert_eq!(
        swarm.connected(now, PeerKey(6), address, large, false),
        Err(DropReason::Twice)
    );
    // Made by the other, whose identity is smaller: it takes the place of ours.
    swarm.connected(now, PeerKey(7), address, small, true).unwrap();
    swarm.connected(now, PeerKey(8), address, small, false).unwrap();
    assert!(matches!(
        swarm.poll(),
        Some(Output::Dropped {
            key: PeerKey(7),
            reason: DropReason::Twice,
            ..
        })
    ));
}

#[test]
fn the_same_chunks_always_make_the_same_swarm() {
    let world = World::new(&CHUNKS, 0, 1, BOUNDS);
    let info = info_of(&world.pieces, &world.hashes);
    assert_eq!(
        InfoHash::of(&info),
        InfoHash::of(&info_of(&world.pieces, &world.hashes))
    );
    let mut other = world.hashes.bytes().to_vec();
    other[3] ^= 1;
    let other = InfoHashes::new(&world.pieces, other).unwrap();
    assert_ne!(InfoHash::of(&info), InfoHash::of(&info_of(&world.pieces, &other)));
}
