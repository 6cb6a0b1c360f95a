//! What a receiver must know, how receiving can fail and how it ended.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::SYMBOL_BYTES;
use simulcast_protocol::multicast::{
    self as protocol, ChunkSet, Geometry, Reason, ReceiverId, ReceiverKeys, ReceiverStats, SessionId,
    TableError,
};

use crate::udp::{Interface, SocketError};

/// A chunk that could not be put where it belongs.
#[derive(Debug, thiserror::Error)]
#[error("cannot take chunk {index}")]
pub struct SinkError {
    /// Which chunk.
    pub index: u32,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What a receiver must know to take part. [`ReceiverConfig::new`] fills in what is usual.
#[derive(Debug, Clone)]
pub struct ReceiverConfig {
    /// Where the group is joined.
    pub interface: Interface,
    /// Address and port of the group.
    pub group: SocketAddr,
    /// Where reports go.
    pub control: SocketAddr,
    /// The session.
    pub session: SessionId,
    /// This receiver's number in it.
    pub receiver: ReceiverId,
    /// Its keys.
    pub keys: ReceiverKeys,
    /// Bytes of a symbol.
    pub symbol: usize,
    /// The version that the session sends.
    pub manifest: ManifestId,
    /// Bytes of chunk buffers: from 64 MiB on the receiver can follow any sender.
    pub memory: u64,
    /// Threads that decode, verify and deliver.
    pub workers: usize,
    /// Time without a word of the sender after which it counts as lost.
    pub silence: Duration,
    /// Time after which it ends when data is sent and none comes; `None` for never.
    pub deaf_after: Option<Duration>,
    /// The first word comes at random within this time.
    pub join_spread: Duration,
}

/// Why receiving failed. What was delivered before stays delivered.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// A socket cannot be set up.
    #[error("cannot join the multicast session")]
    Socket(#[from] SocketError),
    /// The table does not fit the session.
    #[error("cannot receive this version by multicast")]
    Table(#[from] TableError),
    /// The session sends another version than the table is of.
    #[error("the session sends version {session}, not {table}")]
    Version {
        /// What it sends.
        session: ManifestId,
        /// What is wanted.
        table: ManifestId,
    },
    /// The set of missing chunks is not of this table.
    #[error("the set of missing chunks counts {set} chunks, the version {table}")]
    Missing {
        /// Size of the set.
        set: u32,
        /// Chunks of the table.
        table: u32,
    },
    /// A chunk could not be taken.
    #[error("cannot store what multicast brought")]
    Sink(#[source] SinkError),
    /// Packets cannot be received.
    #[error("cannot receive packets")]
    Receive(#[source] io::Error),
    /// A worker panicked; its message went to stderr.
    #[error("a thread of the multicast session broke down")]
    Broken,
}

/// How receiving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All is there, except for chunks given up to another transport.
    Complete,
    /// The sender ended the session.
    Finished(Reason),
    /// Nothing was heard of the sender for the configured time.
    Silent,
    /// The sender's machine has closed the port for reports, and nothing is heard of the sender: it was killed, or the offer
    /// was of a session that is over.
    Gone,
    /// The sender is heard, but none of its data packets: they are too long for some link on the way.
    Deaf,
    /// This receiver follows too slowly, and the sender does not wait for it.
    Parted,
    /// The caller asked for it.
    Cancelled,
}

/// What receiving came to.
#[derive(Debug, Clone)]
pub struct ReceiverSummary {
    /// How it ended.
    pub end: End,
    /// Chunks that are still missing, those given up included.
    pub missing: ChunkSet,
    /// Counters.
    pub stats: ReceiverStats,
    /// Packets that the socket dropped.
    pub drops: u64,
}

/// Packets longer than the usual ones do not pass everywhere; a hundred of them and a second tell.
const DEAF: Duration = Duration::from_secs(1);

impl ReceiverConfig {
    /// Takes up an offer on `interface`.
    pub fn new(interface: Interface, offer: &SessionOffer) -> Self {
        Self {
            interface,
            group: offer.group,
            control: offer.control,
            session: offer.session,
            receiver: offer.receiver,
            keys: offer.keys.clone(),
            symbol: offer.symbol,
            manifest: offer.manifest,
            memory: 96 << 20,
            workers: 2,
            silence: Duration::from_secs(3),
            deaf_after: (offer.symbol > SYMBOL_BYTES).then_some(DEAF),
            join_spread: Duration::from_millis(50),
        }
    }

    pub(super) fn state(&self, geometry: Geometry) -> protocol::ReceiverConfig {
        protocol::ReceiverConfig {
            session: self.session,
            receiver: self.receiver,
            keys: self.keys.clone(),
            geometry,
            memory: self.memory,
            silence: self.silence,
            join_spread: self.join_spread,
        }
    }
}
