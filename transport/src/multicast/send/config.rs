//! What a session is to be, how it stands and how it ended.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use simulcast_protocol::limits::{CHUNK_STORED_BYTES, SYMBOL_BYTES, SYMBOLS};
use simulcast_protocol::multicast::limits::{DATA_HEADER_BYTES, SEGMENTS, SYMBOL_BYTES_MAX};
use simulcast_protocol::multicast::sender::Peer;
use simulcast_protocol::multicast::{
    self as protocol, ChunkTable, Geometry, Reason, ReceiverId, SenderStats, SessionId, SessionKey,
    TableError,
};
use simulcast_protocol::units::Rate;

use crate::udp::{Interface, SocketError};

/// What a session is to be. [`SenderConfig::new`] fills in what is usual.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Where the group's packets leave.
    pub interface: Interface,
    /// Address and port of the group.
    pub group: SocketAddr,
    /// Where reports are heard: an address of this machine that receivers reach; port 0 chooses one.
    pub control: SocketAddr,
    /// Number of the session.
    pub session: SessionId,
    /// Secret of the session.
    pub key: SessionKey,
    /// The chunks.
    pub table: Arc<ChunkTable>,
    /// Bytes of a symbol.
    pub symbol: usize,
    /// The rate on the wire that is never passed.
    pub rate: Rate,
    /// The rate below which receivers that cannot follow do not slow the session.
    pub rate_min: Rate,
    /// Routers that packets may pass, plus one.
    pub ttl: u32,
    /// How routers and switches should treat packets: a differentiated services code point, 0 to 63.
    pub dscp: u8,
    /// Whether receivers on this machine, in the same network namespace, get the packets too.
    pub loopback: bool,
    /// Whether segmentation offload is tried.
    pub offload: bool,
    /// Receivers that are waited for before anything is sent.
    pub min_receivers: u32,
    /// Whether everyone who was given an offer is waited for as well.
    pub wait_for_invited: bool,
    /// How long they are waited for, from the first that joins.
    pub max_wait: Duration,
    /// How long others are waited for in any case, from the first that joins.
    pub gather: Duration,
    /// How long the session stays open when nobody joins.
    pub join_wait: Duration,
    /// How long it stays open when nobody lacks anything.
    pub linger: Duration,
    /// Bytes of chunks held in memory.
    pub memory: u64,
}

/// Why a session cannot be started or go on.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A socket cannot be set up.
    #[error("cannot open the multicast session")]
    Socket(#[from] SocketError),
    /// The chunks cannot be cut into symbols of this size.
    #[error("cannot send this version by multicast")]
    Table(#[from] TableError),
    /// A thread cannot be started.
    #[error("cannot start a thread of the multicast session")]
    Thread(#[source] io::Error),
    /// Reports cannot be waited for.
    #[error("cannot wait for reports")]
    Wait(#[source] io::Error),
    /// A thread of the session panicked; its message went to stderr.
    #[error("a thread of the multicast session broke down")]
    Broken,
}

/// How a session stands.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Counters.
    pub stats: SenderStats,
    /// Rate at present; `None` before the first picture.
    pub rate: Option<Rate>,
    /// Receivers that were ever heard.
    pub receivers: BTreeMap<ReceiverId, Peer>,
    /// Packets that the kernel did not take, as when the link is down.
    pub unsent: u64,
    /// Whether segmentation offload is in use.
    pub offload: bool,
}

/// How one receiver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerSummary {
    /// Which receiver.
    pub receiver: ReceiverId,
    /// Chunks that it still lacked when it was last heard.
    pub missing: u32,
}

/// How a session ended.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Why it ended.
    pub reason: Reason,
    /// The last picture.
    pub progress: Progress,
    /// Its receivers.
    pub receivers: Vec<PeerSummary>,
    /// Chunks that could not be sent, with what was wrong.
    pub unreadable: Vec<String>,
}

/// The largest symbol whose packets have at most `mtu` bytes with their IP header; `None` when it would be so small that a
/// chunk had more symbols than it can.
pub fn symbol_for(mtu: u32, ipv6: bool) -> Option<usize> {
    const UDP: usize = 8;
    let headers = DATA_HEADER_BYTES + UDP + if ipv6 { 40 } else { 20 };
    let room = usize::try_from(mtu).ok()?.checked_sub(headers)?;
    let symbol = room.min(SYMBOL_BYTES_MAX) / 2 * 2;
    (symbol * SYMBOLS >= CHUNK_STORED_BYTES).then_some(symbol)
}

impl SenderConfig {
    /// A session of `table` in the local network, with a random number and key, at most 1 Gbit/s.
    pub fn new(interface: Interface, group: SocketAddr, control: SocketAddr, table: Arc<ChunkTable>) -> Self {
        Self {
            interface,
            group,
            control,
            session: SessionId(rand::random()),
            key: SessionKey::from_bytes(rand::random()),
            table,
            symbol: SYMBOL_BYTES,
            rate: Rate::from_bits_per_second(1_000_000_000),
            rate_min: Rate::from_bits_per_second(10_000_000),
            ttl: 1,
            dscp: 0,
            loopback: false,
            offload: true,
            min_receivers: 1,
            wait_for_invited: true,
            max_wait: Duration::from_secs(5),
            gather: Duration::from_millis(250),
            join_wait: Duration::from_secs(60),
            linger: Duration::from_secs(2),
            memory: 128 << 20,
        }
    }
}

impl SenderConfig {
    pub(super) fn state(&self, geometry: Geometry) -> protocol::SenderConfig {
        protocol::SenderConfig {
            session: self.session,
            key: self.key.clone(),
            geometry,
            rate_max: self.rate,
            rate_min: self.rate_min,
            min_receivers: self.min_receivers,
            max_wait: self.max_wait,
            gather: self.gather,
            join_wait: self.join_wait,
            linger: self.linger,
            memory: self.memory,
            max_segments: SEGMENTS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_fill_packets() {
        assert_eq!(symbol_for(1500, false), Some(SYMBOL_BYTES));
        assert_eq!(symbol_for(1500, true), Some(1420));
        assert_eq!(symbol_for(9000, false), Some(SYMBOL_BYTES_MAX));
        assert_eq!(symbol_for(65_536, true), Some(SYMBOL_BYTES_MAX));
        assert_eq!(
            symbol_for(1281, true),
            Some(1200),
            "symbols have an even number of bytes"
        );
        // 4,096 symbols of 1,024 bytes are the longest chunk.
        assert_eq!(symbol_for(1084, false), Some(1024));
        assert_eq!(symbol_for(1083, false), None);
        assert_eq!(symbol_for(0, false), None);
    }
}
