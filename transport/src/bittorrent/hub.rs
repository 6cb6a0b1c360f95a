//! The handle of the thread that looks after all connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, unbounded};
use simulcast_protocol::bittorrent::{InfoHash, PeerId, Tally};
use socket2::{Domain, Socket, Type};

use super::driver::Driver;
use super::{Holder, HubConfig, SwarmEvent, Torrent};
use crate::multicast::wait::Waker;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 256;

/// What the thread is told.
pub(super) enum Command {
    Join(Box<Torrent>, Box<dyn Holder>, Sender<SwarmEvent>, Arc<Shared>),
    Leave(InfoHash),
    Peers(InfoHash, Vec<SocketAddr>),
    Lack(InfoHash, Vec<(u32, bool)>),
    Offer(InfoHash, u32, Vec<u8>),
    Fetch(InfoHash, bool),
}

/// What the thread tells of a swarm.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) tally: Mutex<Tally>,
    pub(super) peers: AtomicU64,
    pub(super) wanted: AtomicBool,
}

/// A thread with its socket. It ends when this is dropped.
#[derive(Debug)]
pub struct Hub {
    inner: Arc<Inner>,
    id: PeerId,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

/// How to reach the thread.
#[derive(Debug)]
pub(super) struct Inner {
    commands: Sender<Command>,
    pub(super) waker: Waker,
    pub(super) over: AtomicBool,
}

/// Part in one swarm; it ends when this is dropped.
#[derive(Debug)]
pub struct Membership {
    inner: Arc<Inner>,
    info_hash: InfoHash,
    shared: Arc<Shared>,
}

impl Hub {
    /// Listens, and begins.
    ///
    /// # Errors
    /// When it cannot listen, or there is no thread.
    pub fn start(config: &HubConfig) -> io::Result<Self> {
        let listener = match listen(config.port) {
            Err(error) if config.any_port && error.kind() == io::ErrorKind::AddrInUse => listen(0)?,
            other => other?,
        };
        let port = listener.local_addr()?.port();
        let (commands, told) = unbounded();
        let inner = Arc::new(Inner {
            commands,
            waker: Waker::new()?,
            over: AtomicBool::new(false),
        });
        let id = identity();
        let mut driver = Driver::new(*config, listener, id, told, Arc::clone(&inner));
        let thread = thread::Builder::new()
            .name("bittorrent".to_owned())
            .spawn(move || driver.run())?;
        Ok(Self {
            inner,
            id,
            port,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who it is to its peers.
    pub fn id(&self) -> PeerId {
        self.id
    }

    /// Takes part in a swarm, with the pieces of `holder`. What happens goes to `events`.
    pub fn join(
        &self,
        torrent: Torrent,
        holder: impl Holder + 'static,
        events: Sender<SwarmEvent>,
    ) -> Membership {
        let info_hash = torrent.info_hash;
        let shared = Arc::new(Shared::default());
        let inner = Arc::clone(&self.inner);
        let membership = Membership {
            inner,
            info_hash,
            shared,
        };
        let shared = Arc::clone(&membership.shared);
        membership.tell(Command::Join(Box::new(torrent), Box::new(holder), events, shared));
        membership
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.inner.over.store(true, Ordering::Release);
        self.inner.waker.wake();
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so.
            drop(thread.join());
        }
    }
}

impl Membership {
    /// Calls these machines, as far as more peers are needed.
    pub fn meet(&self, peers: Vec<SocketAddr>) {
        self.tell(Command::Peers(self.info_hash, peers));
    }

    /// Says of chunks whether they are lacking.
    pub fn lack(&self, chunks: Vec<(u32, bool)>) {
        self.tell(Command::Lack(self.info_hash, chunks));
    }

    /// A chunk came by another way: peers may have it if there is room.
    pub fn offer(&self, chunk: u32, bytes: Vec<u8>) {
        self.tell(Command::Offer(self.info_hash, chunk, bytes));
    }

    /// Says whether pieces are asked for.
    pub fn fetch(&self, fetching: bool) {
        self.tell(Command::Fetch(self.info_hash, fetching));
    }

    /// What was sent and came.
    pub fn tally(&self) -> Tally {
        *self.shared.tally.lock().expect("no holder panics")
    }

    /// How many peers there are.
    pub fn peers(&self) -> u64 {
        self.shared.peers.load(Ordering::Relaxed)
    }

    /// Whether a peer is connected that lacks something.
    pub fn is_wanted(&self) -> bool {
        self.shared.wanted.load(Ordering::Relaxed)
    }

    fn tell(&self, command: Command) {
        // A thread that has ended needs to know nothing.
        drop(self.inner.commands.send(command));
        self.inner.waker.wake();
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.tell(Command::Leave(self.info_hash));
    }
}

/// Listens on a port of all addresses of both families, or of IPv4 where there is no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let bound = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::STREAM.cloexec().nonblocking(), None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok::<_, io::Error>(TcpListener::from(socket))
    };
    match bound(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into()) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => bound(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into()),
        listener => listener,
    }
}

/// A name as BEP 20 writes it: ours, and what is left to chance.
fn identity() -> PeerId {
    let mut id = [0; 20];
    id[..8].copy_from_slice(b"-SI0001-");
    id[8..].copy_from_slice(&rand::random::<[u8; 12]>());
    PeerId(id)
}
