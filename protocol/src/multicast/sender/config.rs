//! What a session is to be, and what it tells its driver.

use std::time::Duration;

use crate::multicast::key::{ReceiverId, SessionId, SessionKey};
use crate::multicast::packet::Reason;
use crate::multicast::table::Geometry;
use crate::units::Rate;

/// What a session is to be.
#[derive(Debug, Clone)]
pub struct SenderConfig {
    /// Its number: random.
    pub session: SessionId,
    /// Its secret: random.
    pub key: SessionKey,
    /// Its chunks and how they are cut.
    pub geometry: Geometry,
    /// The rate on the wire that is never passed.
    pub rate_max: Rate,
    /// The rate below which receivers that cannot follow do not slow the session.
    pub rate_min: Rate,
    /// Receivers that are waited for before anything is sent.
    pub min_receivers: u32,
    /// How long they are waited for, from the first that joins.
    pub max_wait: Duration,
    /// How long others are waited for in any case, from the first that joins: machines that are started together do not
    /// join in the same millisecond, and whoever misses the beginning costs a repetition of it.
    pub gather: Duration,
    /// How long the session stays open when nobody joins.
    pub join_wait: Duration,
    /// How long it stays open when nobody lacks anything, for others to join.
    pub linger: Duration,
    /// Bytes of chunks held in memory, as far as those being sent leave a choice.
    pub memory: u64,
    /// Packets in one transmission at most; 1 without segmentation offload.
    pub max_segments: usize,
}

/// What happened, for people and for the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderEvent {
    /// A receiver was heard for the first time, or again after silence.
    Joined(ReceiverId),
    /// A receiver needs nothing more.
    Done(ReceiverId),
    /// A receiver was not heard for the silence bound; nobody waits for it.
    Silent(ReceiverId),
    /// A receiver follows too slowly; it was told to go on by another transport.
    Parted(ReceiverId),
    /// Forged data packets were noticed: from now on all carry tags.
    Tagged,
    /// Sending begins.
    Started,
    /// The session ended: FIN was sent as often as it is.
    Finished(Reason),
}
