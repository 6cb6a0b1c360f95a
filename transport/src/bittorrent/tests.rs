//! Hubs on the loopback address, with real sockets.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use simulcast_protocol::bittorrent::{HANDSHAKE_BYTES, Handshake, PeerId, PieceHash, info_of};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::limits::PIECE_BYTES;
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};

use super::*;

const CONFIG: HubConfig = HubConfig {
    port: 0,
    any_port: true,
    connections: 64,
    rate: None,
};

const BOUNDS: Bounds = Bounds {
    peers: 32,
    uploads: 4,
    open_chunks: usize::MAX,
};

/// Longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

struct Whole(Vec<Vec<u8>>, Arc<Pieces>);

impl Holder for Whole {
    fn read(&mut self, piece: u32) -> io::Result<Vec<u8>> {
        let (chunk, offset) = self.1.place(piece).unwrap();
        let chunk = &self.0[usize::try_from(chunk).unwrap()];
        let offset = usize::try_from(offset).unwrap();
        Ok(chunk[offset..chunk.len().min(offset + PIECE_BYTES)].to_vec())
    }

    fn take(&mut self, _: u32, _: Vec<u8>) -> io::Result<bool> {
        unreachable!("a seed lacks nothing")
    }

    fn offer(&mut self, _: u32, _: &[u8]) -> Range<u32> {
        0..0
    }
}

fn version(chunks: u8) -> (Vec<Vec<u8>>, Torrent) {
    let content: Vec<Vec<u8>> = (0..chunks)
        .map(|number| noise(number, 900_000 + 1000 * usize::from(number)))
        .collect();
    let infos = content.iter().map(|bytes| ChunkInfo {
        id: ChunkId::of(bytes),
        len: u32::try_from(bytes.len()).unwrap(),
    });
    let table = ChunkTable::new(ManifestId::of(b"v"), infos.collect()).unwrap();
    let pieces = Arc::new(Pieces::new(table.into()).unwrap());
    let hashes = content
        .iter()
        .flat_map(|bytes| PieceHash::of_chunk(bytes))
        .flat_map(|hash| hash.0);
    let hashes = Arc::new(InfoHashes::new(&pieces, hashes.collect()).unwrap());
    let info_hash = InfoHash::of(&info_of(&pieces, &hashes));
    let (role, bounds) = (Role::Member, BOUNDS);
    let torrent = Torrent {
        info_hash,
        pieces,
        hashes,
        role,
        bounds,
    };
    (content, torrent)
}

fn noise(number: u8, len: usize) -> Vec<u8> {
    let mut state = u32::from(number) + 1;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| byte()).collect()
}

/// A hub that has everything.
fn seed(content: &[Vec<u8>], torrent: &Torrent, config: &HubConfig) -> (Hub, Membership) {
    let hub = Hub::start(config).unwrap();
    let role = Role::Seed;
    let torrent = Torrent {
        role,
        ..torrent.clone()
    };
    let whole = Whole(content.to_vec(), Arc::clone(&torrent.pieces));
    let membership = hub.join(torrent, whole, unbounded().0);
    (hub, membership)
}

/// A hub that lacks everything.
fn member(torrent: &Torrent) -> (Hub, Membership, Receiver<SwarmEvent>) {
    let hub = Hub::start(&CONFIG).unwrap();
    let (events, happened) = unbounded();
    let (bytes, file) = (u64::MAX, None);
    let spool = Spool::new(Arc::clone(&torrent.pieces), Keep { bytes, file }, events.clone());
    let membership = hub.join(torrent.clone(), spool, events);
    membership.lack(
        (0..torrent.pieces.table().count())
            .map(|chunk| (chunk, true))
            .collect(),
    );
    (hub, membership, happened)
}

fn at(hub: &Hub) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, hub.port()).into()
}

/// Takes chunks until all are there.
fn complete(content: &[Vec<u8>], membership: &Membership, happened: &Receiver<SwarmEvent>) {
    let mut left: Vec<bool> = vec![true; content.len()];
    while left.contains(&true) {
        if let SwarmEvent::Chunk(index, bytes) = happened.recv_timeout(LIMIT).unwrap() {
            let at = usize::try_from(index).unwrap();
            assert!(bytes == content[at], "chunk {index}");
            left[at] = false;
            membership.lack(vec![(index, false)]);
        }
    }
}

#[test]
fn members_give_each_other_what_they_got_from_the_seed() {
    let (content, torrent) = version(20);
    let (seed, seeding) = seed(&content, &torrent, &CONFIG);
    let members: Vec<_> = (0..3).map(|_| member(&torrent)).collect();
    let everybody: Vec<_> = members
        .iter()
        .map(|(hub, ..)| at(hub))
        .chain([at(&seed)])
        .collect();
    for (hub, membership, _) in &members {
        membership.meet(
            everybody
                .iter()
                .copied()
                .filter(|&other| other != at(hub))
                .collect(),
        );
    }
    for (_, membership, happened) in &members {
        complete(&content, membership, happened);
    }
    // The counters follow ten times a second.
    let begun = Instant::now();
    let sum = |members: &[(Hub, Membership, Receiver<SwarmEvent>)]| {
        members.iter().map(|m| m.1.tally().came).sum::<u64>()
    };
    let total = torrent.pieces.table().bytes();
    while sum(&members) < 3 * total && begun.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(sum(&members), 3 * total);
    let given: u64 = members.iter().map(|m| m.1.tally().sent).sum();
    assert!(
        given > 0 && seeding.tally().sent < 3 * total,
        "{given}, {:?}",
        seeding.tally()
    );
}

#[test]
fn a_rate_is_kept() {
    let (content, torrent) = version(2);
    let rate = Some(Rate::from_bits_per_second(16_000_000));
    let (seed, seeding) = seed(&content, &torrent, &HubConfig { rate, ..CONFIG });
    let (_hub, membership, happened) = member(&torrent);
    let begun = Instant::now();
    membership.meet(vec![at(&seed)]);
    complete(&content, &membership, &happened);
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(800), "{took:?} for 0.9 s of bytes");
    drop(seeding);
}

#[test]
fn whoever_does_not_speak_bittorrent_is_let_go_and_others_are_served() {
    let (content, torrent) = version(2);
    let (seed, _seeding) = seed(&content, &torrent, &CONFIG);
    let other = Handshake {
        info_hash: InfoHash([9; 20]),
        peer: PeerId([9; 20]),
    };
    for words in [
        &b"GET / HTTP/1.1\r\nhost: this is no peer at all, and it says more than 68 bytes\r\n\r\n"[..],
        &other.encode(),
    ] {
        let mut stream = TcpStream::connect(at(&seed)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(words).unwrap();
        let mut answer = Vec::new();
        // Closed with bytes unread is a reset.
        drop(stream.read_to_end(&mut answer));
        assert!(answer.is_empty(), "{answer:?}");
    }
    // A good handshake is answered; what follows it may be anything.
    let mut stream = TcpStream::connect(at(&seed)).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let info_hash = torrent.info_hash;
    stream
        .write_all(&Handshake { info_hash, ..other }.encode())
        .unwrap();
    let mut answer = [0; HANDSHAKE_BYTES];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(Handshake::decode(&answer).unwrap().info_hash, info_hash);
    stream.write_all(&[0xff; 100]).unwrap();
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));

    // It came from this machine, whose address is not spoken to any more: nobody who lies gets a second try.
    let begun = Instant::now();
    let (_hub, membership, happened) = member(&torrent);
    membership.meet(vec![at(&seed)]);
    assert!(
        happened.recv_timeout(Duration::from_secs(1)).is_err(),
        "{:?}",
        begun.elapsed()
    );
}
