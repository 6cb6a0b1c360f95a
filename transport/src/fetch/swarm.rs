//! Peers as a transport: the part that a receiver takes in the swarm of its version, and helping afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crossbeam_channel::{Receiver, RecvTimeoutError, unbounded};
use simulcast_protocol::api::SwarmRequest;
use simulcast_protocol::bittorrent::{Bounds, InfoHash, InfoHashes, Pieces, PiecesError, Role, info_of};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::limits::CHUNK_STORED_BYTES;
use simulcast_protocol::multicast::{ChunkSet, ChunkTable};
use simulcast_protocol::units::Rate;

use super::{Fetch, Notice, Transport};
use crate::bittorrent::{Hub, HubConfig, Keep, Membership, PORT, Spool, SwarmEvent, Torrent};
use crate::http::{Client, HttpError, Retry};

/// How long a stretch is of which the bytes are counted to tell whether peers bring enough.
const STALL: Duration = Duration::from_secs(5);

/// With less in one stretch, HTTP helps, and the tracker is told: 0.8 Mbit/s.
const STALLS: u64 = 512 << 10;

/// With so much in one stretch, it is left to peers again.
const FLOWS: u64 = 8 << 20;

/// Without a piece for so long, peers alone lead nowhere: a server that is started again has come back by then.
const HOPELESS: Duration = Duration::from_secs(120);

/// How often it is looked for chunks that came by other ways.
const LOOK: Duration = Duration::from_millis(200);

/// The announce is made again after so long when it failed.
const AGAIN: Duration = Duration::from_secs(2);

/// The queue to the workers is this full when no more is asked for, and this empty when it is again.
const FULL: (u8, u8) = (160, 96);

/// Bytes of a signature before the hashes.
const SIGNATURE_BYTES: usize = 64;

/// Memory for chunks of which only some pieces came, where they cannot be kept for peers: 16 of the largest.
const OPEN_CHUNKS: usize = 16;

/// How a receiver takes part in a swarm.
#[derive(Debug, Clone, Copy)]
pub struct SwarmOptions {
    /// What it sends at most.
    pub rate: Option<Rate>,
    /// Peers that it is connected to at most.
    pub peers: usize,
    /// Peers that it sends to at a time.
    pub uploads: usize,
    /// Whether it is to bring the version to its site.
    pub relay: bool,
}

/// Everything that is needed to take part.
pub struct SwarmOrder<'a> {
    /// How.
    pub options: SwarmOptions,
    /// Where pieces are kept for peers.
    pub keep: Keep,
    /// Whether a signature says that a torrent is that of the version.
    pub fits: &'a (dyn Fn(&InfoHash, &[u8]) -> bool + Sync),
}

/// A receiver cannot take part in the swarm, or it did not bring everything.
#[derive(Debug, thiserror::Error)]
pub enum SwarmError {
    /// The server offers no swarm.
    #[error("the image server offers no swarm")]
    Offer(#[source] HttpError),
    /// Peers are not to be used.
    #[error("peers are not to be used")]
    NotWanted,
    /// What it offers is not the torrent of the version.
    #[error("what the image server offers is not the torrent of this version: its signature is wrong")]
    Forged,
    /// The version has too many pieces.
    #[error(transparent)]
    Pieces(#[from] PiecesError),
    /// There is no socket or no thread.
    #[error("cannot listen for peers")]
    Listen(#[source] io::Error),
    /// Nothing came for long.
    #[error("no peer has brought anything for {} s, and {missing} chunks are missing", HOPELESS.as_secs())]
    Hopeless {
        /// How many chunks.
        missing: u32,
    },
}

impl SwarmError {
    /// What to do about it; empty when nothing helps.
    pub fn hint(&self) -> String {
        match self {
            Self::Offer(error) => error.hint(),
            Self::Forged => {
                "do not trust what answers as the image server; check --server and --server-key".to_owned()
            }
            Self::NotWanted | Self::Pieces(_) => "use --transport multicast or http".to_owned(),
            Self::Listen(_) => "look for what uses up this machine's sockets".to_owned(),
            Self::Hopeless { .. } => format!(
                "check that no firewall drops TCP port {PORT} of the image server and between nodes; --transport auto \
                 fetches the rest by HTTP"
            ),
        }
    }
}

/// Part in the swarm of one version. Dropped, it is left.
#[derive(Debug)]
pub struct SwarmPart {
    client: Client,
    table: Arc<ChunkTable>,
    options: SwarmOptions,
    events: Receiver<SwarmEvent>,
    /// Bytes of chunks that came by other ways that may still be kept.
    room: AtomicI64,
    membership: Membership,
    hub: Hub,
}

/// A finished receiver that gives others what they lack. Dropped, it is left.
#[derive(Debug)]
pub struct Helper {
    over: Arc<AtomicBool>,
    needed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    part: Arc<SwarmPart>,
}

impl SwarmPart {
    /// Prepares to take part: nobody is told yet.
    ///
    /// # Errors
    /// [`SwarmError`].
    pub fn begin(
        client: &Client,
        table: &Arc<ChunkTable>,
        order: SwarmOrder<'_>,
    ) -> Result<Self, SwarmError> {
        let pieces = Pieces::new(Arc::clone(table))?;
        let manifest = table.manifest();
        let mut bytes = client
            .pieces(manifest, pieces.count())
            .map_err(SwarmError::Offer)?;
        if bytes.len() < SIGNATURE_BYTES {
            return Err(SwarmError::Forged);
        }
        let hashes = bytes.split_off(SIGNATURE_BYTES);
        let hashes = InfoHashes::new(&pieces, hashes).ok_or(SwarmError::Forged)?;
        // The torrent is made here, out of the signed manifest: that its name is signed makes the hashes right.
        let info_hash = InfoHash::of(&info_of(&pieces, &hashes));
        if !(order.fits)(&info_hash, &bytes) {
            return Err(SwarmError::Forged);
        }
        let options = order.options;
        let config = HubConfig {
            port: PORT,
            any_port: true,
            connections: options.peers * 2,
            rate: options.rate,
        };
        let hub = Hub::start(&config).map_err(SwarmError::Listen)?;
        let all = order.keep.bytes >= table.bytes();
        let torrent = Torrent {
            info_hash,
            pieces: Arc::new(pieces),
            hashes: Arc::new(hashes),
            role: Role::Member,
            bounds: Bounds {
                peers: options.peers,
                uploads: options.uploads,
                open_chunks: if all { usize::MAX } else { OPEN_CHUNKS },
            },
        };
        let (happened, events) = unbounded();
        // What a file holds is for what peers bring: of other ways the target's disk has enough to do.
        let room = if order.keep.file.is_some() {
            0
        } else {
            order.keep.bytes
        };
        let spool = Spool::new(Arc::clone(&torrent.pieces), order.keep, happened.clone());
        Ok(Self {
            client: client.with_retry(Retry {
                tries: 1,
                ..Retry::BRIEF
            }),
            table: Arc::clone(table),
            options,
            membership: hub.join(torrent, spool, happened),
            events,
            room: AtomicI64::new(i64::try_from(room).unwrap_or(i64::MAX)),
            hub,
        })
    }

    /// A chunk came by another way: it is kept for peers while there is room.
    pub(super) fn offer(&self, chunk: u32, bytes: &[u8]) {
        let len = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        if self.room.fetch_sub(len, Ordering::Relaxed) >= len {
            self.membership.offer(chunk, bytes.to_vec());
        }
    }

    /// Bytes that peers were sent.
    pub fn sent(&self) -> u64 {
        self.membership.tally().sent
    }

    /// Says how this machine stands, and calls those that it is told of; the time until it should be said again, and how
    /// many lack something.
    fn announce(&self, lacks: bool, stalled: bool, gone: bool) -> Result<(Duration, u32), HttpError> {
        let answer = self.client.swarm(&SwarmRequest {
            manifest: self.manifest(),
            port: self.hub.port(),
            lacks,
            stalled,
            relay: self.options.relay,
            gone,
        })?;
        if !gone {
            let peers: Vec<SocketAddr> = answer.seed.into_iter().chain(answer.peers).collect();
            self.membership.meet(peers);
        }
        Ok((
            Duration::from_secs(answer.interval.clamp(1, 60).into()),
            answer.incomplete,
        ))
    }

    fn manifest(&self) -> ManifestId {
        self.table.manifest()
    }

    /// Fetches what is missing from peers until nothing is, or `fetch` ends. `stalled` is told when nothing comes any more,
    /// and when it does again.
    ///
    /// # Errors
    /// [`SwarmError::Hopeless`] when `alone` and nothing comes for long.
    pub(super) fn run(
        &self,
        fetch: &Fetch,
        notice: &(dyn Fn(&Notice) + Sync),
        alone: bool,
        stalled: &dyn Fn(bool),
    ) -> Result<(), SwarmError> {
        let (over, stuck) = (AtomicBool::new(false), AtomicBool::new(false));
        thread::scope(|scope| {
            // A server that does not answer must not hold up what peers bring.
            let announcing = scope.spawn(|| self.keep_announcing(&over, &stuck));
            let result = self.take(fetch, notice, alone, &|is| {
                stuck.store(is, Ordering::Release);
                if is {
                    // Who can help is to know now, not in some seconds.
                    announcing.thread().unpark();
                }
                stalled(is);
            });
            over.store(true, Ordering::Release);
            announcing.thread().unpark();
            result
        })
    }

    /// Says how this machine stands, again and again.
    fn keep_announcing(&self, over: &AtomicBool, stalled: &AtomicBool) {
        while !over.load(Ordering::Acquire) {
            let pause = match self.announce(true, stalled.load(Ordering::Acquire), false) {
                Ok((interval, _)) => interval,
                Err(error) => {
                    tracing::debug!(%error, "the tracker does not answer");
                    AGAIN
                }
            };
            thread::park_timeout(pause);
        }
    }

    /// Takes what comes.
    fn take(
        &self,
        fetch: &Fetch,
        notice: &(dyn Fn(&Notice) + Sync),
        alone: bool,
        stalled: &dyn Fn(bool),
    ) -> Result<(), SwarmError> {
        let mut lacking = fetch.missing().set();
        self.membership
            .lack(lacking.iter().map(|chunk| (chunk, true)).collect());
        let mut watch = Watch::new(Instant::now(), self.membership.tally().came);
        let (mut looked, mut paused) = (Instant::now(), false);
        while !fetch.missing().is_over() {
            match self.events.recv_timeout(LOOK) {
                Ok(SwarmEvent::Chunk(chunk, bytes)) => self.arrived(fetch, &mut lacking, chunk, bytes),
                Ok(SwarmEvent::Dropped(address, reason)) => notice(&Notice::PeerDropped(address, reason)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => thread::sleep(LOOK),
            }
            if looked.elapsed() < LOOK {
                continue;
            }
            looked = Instant::now();
            self.withdraw(fetch, &mut lacking);
            let fill = fetch.fill();
            let pause = fill > if paused { FULL.1 } else { FULL.0 };
            if pause != paused {
                paused = pause;
                self.membership.fetch(!paused);
            }
            if watch.look(looked, self.membership.tally().came, paused) {
                stalled(watch.stalled);
            }
            if alone && watch.since.elapsed() >= HOPELESS {
                let missing = fetch.missing().left();
                return Err(SwarmError::Hopeless { missing });
            }
        }
        Ok(())
    }

    /// A chunk whose pieces all came: it is what its name says, or other ways are to bring it.
    fn arrived(&self, fetch: &Fetch, lacking: &mut ChunkSet, chunk: u32, bytes: Vec<u8>) {
        lacking.remove(chunk);
        self.membership.lack(vec![(chunk, false)]);
        let inlet = fetch.inlet(Transport::Bittorrent);
        let good = self.table.get(chunk).is_some_and(|info| {
            bytes.len() <= CHUNK_STORED_BYTES
                && usize::try_from(info.len) == Ok(bytes.len())
                && ChunkId::of(&bytes) == info.id
        });
        if good {
            // An error says that the receiver gave up, and so will the next look.
            inlet.deliver(chunk, bytes).unwrap_or_default();
        } else {
            tracing::error!(chunk, "the hashes of its pieces are right and its own is not");
            inlet.gave_up(chunk);
        }
    }

    /// Asks no more for what came by other ways.
    fn withdraw(&self, fetch: &Fetch, lacking: &mut ChunkSet) {
        let here: Vec<u32> = lacking
            .iter()
            .filter(|&chunk| !fetch.missing().is_missing(chunk))
            .collect();
        if !here.is_empty() {
            here.iter().for_each(|&chunk| _ = lacking.remove(chunk));
            self.membership
                .lack(here.into_iter().map(|chunk| (chunk, false)).collect());
        }
    }
}

/// Whether pieces come, and fast enough that nobody else need help.
#[derive(Debug)]
struct Watch {
    /// Bytes that had come when something came last, and when.
    came: u64,
    since: Instant,
    /// Bytes that had come when the present stretch of [`STALL`] began.
    stretch: (u64, Instant),
    stalled: bool,
}

impl Watch {
    fn new(now: Instant, came: u64) -> Self {
        Self {
            came,
            since: now,
            stretch: (came, now),
            stalled: false,
        }
    }

    /// Looks at what came so far; whether that changed how it stands.
    fn look(&mut self, now: Instant, came: u64, paused: bool) -> bool {
        if came != self.came || paused {
            (self.came, self.since) = (came, now);
        }
        if paused {
            self.stretch = (came, now);
        }
        let (before, begun) = self.stretch;
        if now.saturating_duration_since(begun) < STALL {
            return false;
        }
        self.stretch = (came, now);
        let stalled = came - before < if self.stalled { FLOWS } else { STALLS };
        std::mem::replace(&mut self.stalled, stalled) != stalled
    }
}

impl Helper {
    /// Goes on giving what `part` has, until it is dropped.
    pub fn start(part: Arc<SwarmPart>) -> Self {
        let (over, needed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
        let thread = {
            let (part, over, needed) = (Arc::clone(&part), Arc::clone(&over), Arc::clone(&needed));
            let help = move || help(&part, &over, &needed);
            thread::Builder::new().name("helper".to_owned()).spawn(help).ok()
        };
        Self {
            over,
            needed,
            thread,
            part,
        }
    }

    /// Waits as long as others lack something, at most for `limit`; bytes that peers were sent so far.
    pub fn linger(&self, limit: Duration) -> u64 {
        let begun = Instant::now();
        while self.thread.is_some() && self.needed.load(Ordering::Acquire) && begun.elapsed() < limit {
            thread::sleep(LOOK);
        }
        self.part.sent()
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

/// Announces itself as one who has everything, and calls those who lack something.
fn help(part: &SwarmPart, over: &AtomicBool, needed: &AtomicBool) {
    while !over.load(Ordering::Acquire) {
        let pause = match part.announce(false, false, false) {
            Ok((interval, incomplete)) => {
                needed.store(incomplete > 0 || part.membership.is_wanted(), Ordering::Release);
                // The last ones are soon done, and whoever waits for them need not wait for longer.
                interval.min(AGAIN)
            }
            Err(error) => {
                tracing::debug!(%error, "the tracker does not answer");
                needed.store(part.membership.is_wanted(), Ordering::Release);
                AGAIN
            }
        };
        thread::park_timeout(pause);
    }
    if let Err(error) = part.announce(false, false, true) {
        tracing::debug!(%error, "the tracker is not told that this machine goes");
    }
}

impl fmt::Debug for SwarmOrder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SwarmOrder");
        shown
            .field("options", &self.options)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_that_bring_too_little_are_helped_until_they_bring_much() {
        let begun = Instant::now();
        let at = |stretches: u32| begun + STALL * stretches;
        let mut watch = Watch::new(begun, 0);
        assert!(!watch.look(at(1) - LOOK, 0, false), "it is too early to tell");
        assert!(!watch.look(at(1), STALLS, false) && !watch.stalled);
        assert!(watch.look(at(2), STALLS * 2 - 1, false) && watch.stalled);
        assert!(!watch.look(at(3), STALLS + FLOWS, false) && watch.stalled);
        assert!(watch.look(at(4), STALLS + FLOWS * 2, false) && !watch.stalled);
        // When the workers are what holds it up, nobody could help.
        assert!(!watch.look(at(5), STALLS + FLOWS * 2, true) && !watch.stalled);
        assert_eq!(watch.since, at(5));
    }
}
