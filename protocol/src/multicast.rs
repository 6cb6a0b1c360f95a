//! Reliable multicast of chunks: one sender, a group of receivers, any order, any time of joining.
//!
//! The rules are written down in `docs/protocol.md`; the code names its clauses. Both ends are values: packets,
//! times and commands go in, packets, a deadline and events come out. After each thing that goes in, drain
//! `poll_transmit`, `poll_timeout` and `poll_event`, in this order.
//!
//! What is absent: sockets, clocks, threads, files. A chunk is an opaque string of bytes with a hash; that it
//! is compressed and encrypted is nothing that this module knows.

pub mod fec;
pub mod key;
pub mod limits;
pub mod membership;
pub mod offer;
pub mod packet;
pub mod probe;
pub mod querier;
pub mod rate;
pub mod receiver;
pub mod sender;
pub mod set;
pub mod stats;
pub mod table;
pub mod time;

mod pace;

pub use fec::{Decoder, Gathered, Parity};
pub use key::{ReceiverId, ReceiverKeys, SessionId, SessionKey, TagKey};
pub use packet::Reason;
pub use receiver::{Receiver, ReceiverConfig, ReceiverEvent};
pub use sender::{Batch, Load, Loaded, Sender, SenderConfig, SenderEvent};
pub use set::ChunkSet;
pub use stats::{ReceiverStats, SenderStats};
pub use table::{ChunkInfo, ChunkTable, Geometry, TableError};
pub use time::Time;
