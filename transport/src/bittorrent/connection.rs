//! One connection: the handshake, and bytes that wait to be sent.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use simulcast_protocol::bittorrent::{HANDSHAKE_BYTES, Handshake, InfoHash};

/// Time to connect and to exchange handshakes.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(5);

/// Bytes that wait to be sent before blocks are added: four blocks.
const ENOUGH: usize = 64 << 10;

/// Bytes that may wait to be sent at all: what peers are told is small, unless they never take it.
const TOO_MUCH: usize = 4 << 20;

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// We called, and nobody has answered yet.
    Calling(InfoHash),
    /// The handshake of the other end is awaited; the swarm is known if we called.
    Greeting(Option<InfoHash>),
    /// It is a peer of a swarm.
    Peer(InfoHash),
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) address: SocketAddr,
    pub(super) stage: Stage,
    pub(super) begun: Instant,
    greeting: Vec<u8>,
    out: Vec<u8>,
    sent: usize,
    /// The piece that is being sent, so that it is read once for its sixteen blocks.
    pub(super) piece: Option<(u32, Vec<u8>)>,
}

impl Connection {
    pub(super) fn new(now: Instant, stream: TcpStream, address: SocketAddr, stage: Stage) -> Self {
        Self {
            stream,
            address,
            stage,
            begun: now,
            greeting: Vec::new(),
            out: Vec::new(),
            sent: 0,
            piece: None,
        }
    }

    /// Whether we called.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Takes over what a swarm wants to say.
    pub(super) fn append(&mut self, said: &mut Vec<u8>) {
        self.out.append(said);
    }

    /// Whether it takes further blocks.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() - self.sent < ENOUGH
    }

    /// Whether something waits to be sent.
    pub(super) fn has_more(&self) -> bool {
        self.out.len() > self.sent
    }

    /// Sends what can be sent; whether it was anything.
    ///
    /// # Errors
    /// When the connection has ended, or the other end takes nothing of what it is told.
    pub(super) fn flush(&mut self) -> io::Result<bool> {
        let before = self.sent;
        while self.sent < self.out.len() {
            match self.stream.write(&self.out[self.sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(some) => self.sent += some,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let moved = self.sent > before;
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > TOO_MUCH / 8 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        if self.out.len() - self.sent > TOO_MUCH {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(moved)
    }

    /// Reads what has come into `buffer`; 0 when there is nothing.
    ///
    /// # Errors
    /// When the connection has ended.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            other => other,
        }
    }

    /// Takes bytes before the handshake is whole. When it is, it and how many of `bytes` belonged to it.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn greeted(&mut self, bytes: &[u8]) -> io::Result<Option<(Handshake, usize)>> {
        let lacking = HANDSHAKE_BYTES - self.greeting.len();
        let took = lacking.min(bytes.len());
        self.greeting.extend_from_slice(&bytes[..took]);
        let Ok(whole) = <&[u8; HANDSHAKE_BYTES]>::try_from(&self.greeting[..]) else {
            return Ok(None);
        };
        let handshake = Handshake::decode(whole).map_err(io::Error::other)?;
        Ok(Some((handshake, took)))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
