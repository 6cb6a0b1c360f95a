//! BitTorrent: the sockets and the clock that drive `simulcast_protocol::bittorrent`.
//!
//! A [`Hub`] is one thread that looks after all connections of all swarms of a machine: the image server's, which seeds
//! what it serves, or a receiver's. Where pieces come from and go to is a [`Holder`]'s business: a seed reads the chunk
//! store, a receiver has a [`Spool`].

mod connection;
mod dial;
mod driver;
mod hub;
mod sending;
mod spool;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use simulcast_protocol::bittorrent::{Bounds, DropReason, InfoHash, InfoHashes, Pieces, Role};
use simulcast_protocol::units::Rate;

pub use hub::{Hub, Membership};
pub use spool::{Keep, Spool};

/// The TCP port that machines listen on for peers unless told otherwise.
pub const PORT: u16 = 9505;

/// How a hub works.
#[derive(Debug, Clone, Copy)]
pub struct HubConfig {
    /// Where it listens; when the port is taken and `any_port` says so, on another one.
    pub port: u16,
    /// Whether another port will do.
    pub any_port: bool,
    /// Connections of all swarms together.
    pub connections: usize,
    /// What it sends at most, all swarms together.
    pub rate: Option<Rate>,
}

/// A torrent and what this machine does with it.
#[derive(Debug, Clone)]
pub struct Torrent {
    /// Its swarm.
    pub info_hash: InfoHash,
    /// How it is cut.
    pub pieces: Arc<Pieces>,
    /// What its pieces hash to.
    pub hashes: Arc<InfoHashes>,
    /// What this machine does.
    pub role: Role,
    /// How much of it at a time.
    pub bounds: Bounds,
}

/// Where the pieces of a torrent are.
pub trait Holder: Send {
    /// A piece that can be sent, without its padding.
    ///
    /// # Errors
    /// When it cannot be read; then whoever asked for it gets no answer.
    fn read(&mut self, piece: u32) -> io::Result<Vec<u8>>;

    /// Takes a piece whose hash is right. Whether it can be read from now on.
    ///
    /// # Errors
    /// When it cannot be kept; then it is as if it had not come.
    fn take(&mut self, piece: u32, bytes: Vec<u8>) -> io::Result<bool>;

    /// Takes a chunk that came by another way. The pieces of it that can be read from now on.
    fn offer(&mut self, chunk: u32, bytes: &[u8]) -> std::ops::Range<u32>;
}

/// What happens in a swarm.
#[derive(Debug)]
pub enum SwarmEvent {
    /// All pieces of a chunk came. Its own hash is not checked yet.
    Chunk(u32, Vec<u8>),
    /// A peer was dropped through its own fault.
    Dropped(SocketAddr, DropReason),
}
