//! The run loops of multicast: threads that bring packets, time and chunks to the state machines of
//! `simulcast_protocol::multicast` and carry out what they say.
//!
//! A sender is one thread for the network and a few that read chunks ahead of it. A receiver is the calling thread
//! for the network and a few that decode, verify and deliver. Between them stand bounded queues; the protocol
//! bounds what is under way, so nobody ever blocks the network's thread.

mod ear;
pub mod probe;
pub mod querier;
mod receive;
mod send;
pub(crate) mod wait;

pub use receive::{
    ChunkSink, End, Kept, ReceiveError, ReceiverConfig, ReceiverSummary, SinkError, go_on, receive,
};
pub use send::{
    ChunkSource, PeerSummary, Progress, SendError, SenderConfig, SenderHandle, SenderSession, Summary,
    symbol_for,
};
pub use wait::Cancel;
