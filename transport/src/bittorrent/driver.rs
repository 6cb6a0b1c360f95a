//! The thread: waits for sockets, the clock and commands, feeds the state machines, and does what they want.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simulcast_protocol::bittorrent::{Handshake, InfoHash, Output, PeerId, PeerKey, Swarm};
use socket2::{Domain, SockRef, Socket, Type};

use super::connection::{Connection, HANDSHAKE, Stage};
use super::dial::Dialled;
use super::hub::{Command, Inner, Shared};
use super::sending::BURST;
use super::{Holder, HubConfig, SwarmEvent, Torrent};

/// How often state machines look after what is due.
const TICK: Duration = Duration::from_millis(100);

/// Bytes that are read at a time.
const READ_BYTES: usize = 128 << 10;

/// Bytes that the kernel holds for one connection: what is small waits behind them.
const SEND_BUFFER: usize = 128 << 10;

/// Calls that wait for an answer.
const CALLS: usize = 16;

/// Connections that one address may have: several clients on one machine, and no more.
const PER_ADDRESS: usize = 8;

/// One swarm.
pub(super) struct Part {
    pub(super) torrent: Torrent,
    pub(super) swarm: Swarm,
    pub(super) holder: Box<dyn Holder>,
    events: Sender<SwarmEvent>,
    shared: Arc<Shared>,
    /// Machines to call.
    addresses: Vec<SocketAddr>,
}

pub(super) struct Driver {
    pub(super) config: HubConfig,
    listener: TcpListener,
    id: PeerId,
    told: Receiver<Command>,
    inner: Arc<Inner>,
    pub(super) parts: BTreeMap<InfoHash, Part>,
    pub(super) connections: BTreeMap<PeerKey, Connection>,
    dialled: Dialled,
    next: u64,
    ticked: Instant,
    /// Bytes that may be sent now, by the rate; below zero when a block went beyond it.
    pub(super) credit: i64,
    /// Blocks can be sent at once.
    pub(super) more: bool,
    pub(super) credited: Instant,
    buffer: Vec<u8>,
}

impl Driver {
    pub(super) fn new(
        config: HubConfig,
        listener: TcpListener,
        id: PeerId,
        told: Receiver<Command>,
        inner: Arc<Inner>,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            listener,
            id,
            told,
            inner,
            parts: BTreeMap::new(),
            connections: BTreeMap::new(),
            dialled: Dialled::default(),
            next: 0,
            ticked: now,
            credit: 0,
            more: false,
            credited: now,
            buffer: vec![0; READ_BYTES],
        }
    }

    /// Works until it is told that it is over.
    pub(super) fn run(&mut self) {
        while !self.inner.over.load(Ordering::Acquire) {
            let ready = match self.wait() {
                Ok(ready) => ready,
                Err(error) => {
                    tracing::error!(%error, "BitTorrent ends: cannot wait for its sockets");
                    return;
                }
            };
            let now = Instant::now();
            while let Ok(command) = self.told.try_recv() {
                self.obey(now, command);
            }
            self.accept(now);
            for key in ready {
                self.read(now, key);
            }
            if now.saturating_duration_since(self.ticked) >= TICK {
                self.ticked = now;
                self.tick(now);
            }
            self.settle(now);
            self.send(now);
        }
    }

    /// Waits for the next thing to do; which connections have something to say.
    fn wait(&self) -> io::Result<Vec<PeerKey>> {
        let waits = |connection: &Connection| {
            let calling = matches!(connection.stage, Stage::Calling(_));
            match connection.has_more() || calling {
                true => PollFlags::IN | PollFlags::OUT,
                false => PollFlags::IN,
            }
        };
        let mut fds = vec![
            PollFd::from_borrowed_fd(self.inner.waker.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(self.listener.as_fd(), PollFlags::IN),
        ];
        let connections = self.connections.values();
        fds.extend(
            connections.map(|connection| PollFd::from_borrowed_fd(connection.as_fd(), waits(connection))),
        );
        let limit = match self.config.rate {
            _ if self.more => Duration::ZERO,
            Some(_) => BURST / 4,
            None => TICK,
        };
        match poll(&mut fds, Timespec::try_from(limit).ok().as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if fds[0].revents().contains(PollFlags::IN) {
            self.inner.waker.clear();
        }
        let keys = self.connections.keys().zip(&fds[2..]);
        Ok(keys
            .filter(|(_, fd)| !fd.revents().is_empty())
            .map(|(&key, _)| key)
            .collect())
    }

    fn obey(&mut self, now: Instant, command: Command) {
        match command {
            Command::Join(torrent, holder, events, shared) => {
                let swarm = Swarm::new(
                    Arc::clone(&torrent.pieces),
                    Arc::clone(&torrent.hashes),
                    torrent.role,
                    torrent.bounds,
                    self.id,
                    rand::random(),
                );
                let part = Part {
                    torrent: *torrent,
                    swarm,
                    holder,
                    events,
                    shared,
                    addresses: Vec::new(),
                };
                self.parts.insert(part.torrent.info_hash, part);
            }
            Command::Leave(info_hash) => {
                self.parts.remove(&info_hash);
                self.connections.retain(|_, connection| match connection.stage {
                    Stage::Calling(of) | Stage::Greeting(Some(of)) | Stage::Peer(of) => of != info_hash,
                    Stage::Greeting(None) => true,
                });
            }
            Command::Peers(info_hash, addresses) => {
                if let Some(part) = self.parts.get_mut(&info_hash) {
                    part.addresses = addresses;
                }
                self.call(now);
            }
            Command::Lack(info_hash, chunks) => {
                if let Some(part) = self.parts.get_mut(&info_hash) {
                    chunks
                        .into_iter()
                        .for_each(|(chunk, lacking)| part.swarm.lack(chunk, lacking));
                }
            }
            Command::Offer(info_hash, chunk, bytes) => {
                if let Some(part) = self.parts.get_mut(&info_hash) {
                    part.swarm.lack(chunk, false);
                    part.holder
                        .offer(chunk, &bytes)
                        .for_each(|piece| part.swarm.stored(piece));
                }
            }
            Command::Fetch(info_hash, fetching) => {
                if let Some(part) = self.parts.get_mut(&info_hash) {
                    part.swarm.fetch(now, fetching);
                }
            }
        }
    }

    /// Lets callers in, as many as there may be.
    fn accept(&mut self, now: Instant) {
        loop {
            let (stream, address) = match self.listener.accept() {
                Ok(accepted) => accepted,
                Err(error) => {
                    if error.kind() != io::ErrorKind::WouldBlock {
                        tracing::debug!(%error, "cannot accept a peer");
                    }
                    return;
                }
            };
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let of_address = self
                .connections
                .values()
                .filter(|c| c.address.ip() == address.ip())
                .count();
            if self.connections.len() >= self.config.connections
                || of_address >= PER_ADDRESS
                || self.dialled.is_banned(now, address.ip())
                || prepare(&stream).is_err()
            {
                continue;
            }
            self.add(Connection::new(now, stream, address, Stage::Greeting(None)));
        }
    }

    fn add(&mut self, connection: Connection) {
        self.next += 1;
        self.connections.insert(PeerKey(self.next), connection);
    }

    /// Calls machines that were named, as far as there is room.
    fn call(&mut self, now: Instant) {
        let greeting = self
            .connections
            .values()
            .filter(|c| !matches!(c.stage, Stage::Peer(_)))
            .count();
        let mut left = CALLS.saturating_sub(greeting);
        let mut calls = Vec::new();
        for (&info_hash, part) in &mut self.parts {
            while left > 0 && part.swarm.peers() < part.torrent.bounds.peers {
                let Some(address) = part.addresses.pop() else {
                    break;
                };
                let known = part.swarm.knows(address);
                if !known && self.dialled.may_call(now, address) {
                    calls.push((info_hash, address));
                    left -= 1;
                }
            }
        }
        for (info_hash, address) in calls {
            if self.connections.len() >= self.config.connections {
                return;
            }
            match dial(address) {
                Ok(stream) => self.add(Connection::new(now, stream, address, Stage::Calling(info_hash))),
                Err(error) => tracing::debug!(%error, %address, "cannot call a peer"),
            }
        }
    }

    /// Takes what a connection has to say.
    fn read(&mut self, now: Instant, key: PeerKey) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        if let Stage::Calling(info_hash) = connection.stage {
            match connection.stream.take_error() {
                Ok(None) if connection.stream.peer_addr().is_ok() => {
                    connection.stage = Stage::Greeting(Some(info_hash));
                    connection.queue(
                        &Handshake {
                            info_hash,
                            peer: self.id,
                        }
                        .encode(),
                    );
                }
                Ok(None) => return,
                Ok(Some(error)) | Err(error) => {
                    tracing::debug!(%error, address = %connection.address, "a peer does not answer");
                    return self.end(key);
                }
            }
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Some(connection) = self.connections.get_mut(&key) {
            match connection.read(&mut buffer) {
                Ok(0) => {}
                Ok(some) => self.take(now, key, &buffer[..some]),
                Err(_) => self.end(key),
            }
        }
        self.buffer = buffer;
    }

    /// Bytes of a connection, of the handshake or behind it.
    fn take(&mut self, now: Instant, key: PeerKey, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(&key) else {
            return;
        };
        let awaited = match connection.stage {
            Stage::Peer(info_hash) => {
                if let Some(part) = self.parts.get_mut(&info_hash) {
                    part.swarm.receive(now, key, bytes);
                }
                return;
            }
            Stage::Greeting(awaited) => awaited,
            Stage::Calling(_) => return,
        };
        let (handshake, took) = match connection.greeted(bytes) {
            Ok(Some(greeted)) => greeted,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, address = %connection.address, "what calls is no peer");
                return self.end(key);
            }
        };
        let info_hash = handshake.info_hash;
        let fits = awaited.is_none_or(|awaited| awaited == info_hash);
        let Some(part) = self.parts.get_mut(&info_hash).filter(|_| fits) else {
            tracing::debug!(address = %connection.address, %info_hash, "a peer of another swarm");
            return self.end(key);
        };
        if awaited.is_none() {
            connection.queue(
                &Handshake {
                    info_hash,
                    peer: self.id,
                }
                .encode(),
            );
        }
        let address = connection.address;
        connection.stage = Stage::Peer(info_hash);
        match part
            .swarm
            .connected(now, key, address, handshake.peer, awaited.is_some())
        {
            Ok(()) => part.swarm.receive(now, key, &bytes[took..]),
            Err(reason) => {
                tracing::debug!(%address, %reason, "a peer is not taken");
                self.end(key);
            }
        }
    }

    fn tick(&mut self, now: Instant) {
        for part in self.parts.values_mut() {
            part.swarm.tick(now);
            *part.shared.tally.lock().expect("no holder panics") = part.swarm.tally();
            let peers = u64::try_from(part.swarm.peers()).unwrap_or(u64::MAX);
            part.shared.peers.store(peers, Ordering::Relaxed);
            part.shared
                .wanted
                .store(part.swarm.is_wanted(), Ordering::Relaxed);
        }
        let late: Vec<PeerKey> = self
            .connections
            .iter()
            .filter(|(_, c)| {
                !matches!(c.stage, Stage::Peer(_)) && now.saturating_duration_since(c.begun) >= HANDSHAKE
            })
            .map(|(&key, _)| key)
            .collect();
        late.into_iter().for_each(|key| self.end(key));
        self.call(now);
    }

    /// Does what the state machines want done, apart from sending.
    fn settle(&mut self, now: Instant) {
        for part in self.parts.values_mut() {
            while let Some(output) = part.swarm.poll() {
                match output {
                    Output::Piece { piece, bytes } => match part.holder.take(piece, bytes) {
                        Ok(true) => part.swarm.stored(piece),
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(%error, piece, "cannot keep a piece: no more are fetched from peers");
                            part.swarm.fetch(now, false);
                        }
                    },
                    Output::Dropped { key, address, reason } => {
                        self.connections.remove(&key);
                        if reason.is_fault() {
                            self.dialled.ban(now, address.ip(), reason);
                            // Who listens no more has everything.
                            part.events
                                .send(SwarmEvent::Dropped(address, reason))
                                .unwrap_or_default();
                        } else {
                            tracing::debug!(%address, %reason, "a peer is left");
                        }
                    }
                }
            }
        }
    }

    /// Ends a connection.
    pub(super) fn end(&mut self, key: PeerKey) {
        if let Some(connection) = self.connections.remove(&key)
            && let Stage::Peer(info_hash) = connection.stage
            && let Some(part) = self.parts.get_mut(&info_hash)
        {
            part.swarm.closed(key);
        }
    }
}

/// Begins to call a machine.
fn dial(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.cloexec().nonblocking(),
        None,
    )?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            return Err(error);
        }
        _ => {}
    }
    let stream = TcpStream::from(socket);
    prepare(&stream)?;
    Ok(stream)
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_send_buffer_size(SEND_BUFFER)
}
