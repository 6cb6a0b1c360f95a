//! What `si-server` and its clients say to each other over HTTP, version 1: paths, headers, JSON bodies, the token.
//!
//! Manifests and chunks travel as their bytes; everything else is JSON. An answer that is not 200 has an
//! [`ErrorBody`]. Unknown fields are ignored, so that a newer server can say more.

mod token;

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use token::{ParseTokenError, Token};

use crate::id::ManifestId;
use crate::multicast::rate::Bound;
use crate::name::{ImageName, Version};

/// Where the interface begins on a server.
pub const ROOT: &str = "/v1";

/// The port that `si-server` listens on unless told otherwise.
pub const PORT: u16 = 9440;

/// Header of a manifest: the number of the version, which `latest` stood for.
pub const VERSION_HEADER: &str = "x-simulcast-version";

/// Header of a manifest: its identity, so that a client that has it already need not read the body.
pub const MANIFEST_HEADER: &str = "x-simulcast-manifest";

/// Bytes of a JSON answer that a client accepts: 10,000 images of 100 versions take less.
pub const JSON_BYTES: usize = 16 << 20;

/// Bytes of a JSON request that the server accepts: an identity and a few settings.
pub const REQUEST_BYTES: usize = 4 << 10;

/// An answer that is not 200: what was wrong and what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What was wrong, in the form of an error message.
    pub error: String,
    /// What to do; empty when nothing helps.
    #[serde(default)]
    pub hint: String,
}

/// Answer of `GET /v1/images`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// All images by name.
    pub images: Vec<Image>,
}

/// An image and its versions; answer of `GET /v1/images/NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The image.
    pub name: ImageName,
    /// Its versions, oldest first.
    pub versions: Vec<Version>,
}

/// Answer of `GET /v1/key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The Ed25519 key that checks the server's manifests: 64 hexadecimal digits.
    pub key: String,
}

/// Body of `POST /v1/sessions`: start or join the multicast session of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRequest {
    /// Which version.
    pub manifest: ManifestId,
    /// Bytes of the largest IP packet that is known to pass between the receiver and the server; when it is not said,
    /// [`USUAL_MTU`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// Body of `POST /v1/swarm`: how a node stands in the swarm of a version. It is the announce of BEP 3 in our own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmRequest {
    /// Which version.
    pub manifest: ManifestId,
    /// TCP port that the node listens on for peers; its address is the one that it speaks from.
    pub port: u16,
    /// Whether it lacks something.
    pub lacks: bool,
    /// Whether nothing has come to it for some seconds.
    #[serde(default)]
    pub stalled: bool,
    /// Whether it is to bring the version to its site.
    #[serde(default)]
    pub relay: bool,
    /// Whether it goes.
    #[serde(default)]
    pub gone: bool,
}

/// Answer of `POST /v1/swarm`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmAnswer {
    /// Nodes to ask; at most [`INTRODUCED_PEERS`](crate::limits::INTRODUCED_PEERS).
    pub peers: Vec<SocketAddr>,
    /// The image server's own seed, if this node is to ask it.
    pub seed: Option<SocketAddr>,
    /// Nodes that lack something, this one among them.
    pub incomplete: u32,
    /// Seconds after which the node says again how it stands.
    pub interval: u32,
}

/// A swarm that the server seeds for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SwarmStatus {
    /// The version, as `NAME@V`.
    pub image: String,
    /// The version's identity.
    pub manifest: ManifestId,
    /// The swarm's, in hexadecimal digits.
    pub info_hash: String,
    /// Machines that have everything, without the server.
    pub complete: u32,
    /// Machines that lack something.
    pub incomplete: u32,
    /// Machines that are connected to the server's seed.
    pub peers: u64,
    /// Bytes of blocks that the server sent.
    pub bytes: u64,
}

/// Bytes of an IP packet that every Ethernet carries.
pub const USUAL_MTU: u32 = 1500;

/// Answer of `GET /v1/status`: counters since the server's start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The server's own version.
    pub software: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Requests answered.
    pub requests: u64,
    /// Chunks that were sent whole over HTTP.
    pub http_chunks: u64,
    /// Bytes of chunks sent over HTTP, those of broken transfers included.
    pub http_bytes: u64,
    /// Sessions that ended.
    pub sessions_ended: u64,
    /// Bytes that ended sessions sent by multicast.
    pub multicast_bytes_ended: u64,
    /// Sessions that run.
    pub sessions: Vec<SessionStatus>,
    /// Bytes of blocks that were sent to peers of swarms that are over.
    #[serde(default)]
    pub swarm_bytes_ended: u64,
    /// Swarms that are seeded.
    #[serde(default)]
    pub swarms: Vec<SwarmStatus>,
}

/// A running multicast session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its number.
    pub session: u32,
    /// The version, as `NAME@V`.
    pub image: String,
    /// The version's identity.
    pub manifest: ManifestId,
    /// What it does.
    pub state: SessionState,
    /// The interface that it is sent over.
    pub interface: String,
    /// Bytes of its IP packets, at most.
    pub mtu: u32,
    /// Its group and port.
    pub group: String,
    /// UDP payload bytes sent so far.
    pub bytes: u64,
    /// Its rate at present, in bits per second on the wire.
    pub rate: u64,
    /// Receivers that were ever heard.
    pub receivers: u64,
    /// Receivers that need nothing more.
    pub done: u64,
    /// Data packets sent so far.
    pub packets: u64,
    /// Of them, those that repaired loss: parity, and what was sent again.
    pub repair: u64,
    /// What has bounded its rate for the longest time.
    pub limited_by: Bound,
    /// Seconds since it started.
    pub seconds: u64,
    /// Those that were heard, one entry each.
    pub members: Vec<MemberStatus>,
}

/// A receiver of a running session, as its last report tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// The address that it asked for its offer from; none when that is not known any more.
    pub address: Option<IpAddr>,
    /// How it stands.
    pub state: MemberState,
    /// Chunks that it lacks.
    pub missing: u32,
    /// Packets that did not come since it joined, in millionths of those that were sent.
    pub loss_ppm: u32,
    /// Packets among them that its socket dropped because it could not take them in time.
    pub drops: u64,
    /// How full the fullest of its queues is, in per cent.
    pub fill: u8,
}

/// How a receiver of a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberState {
    /// It lacks something.
    Receiving,
    /// It lacks nothing more.
    Done,
    /// It was not heard for some seconds.
    Silent,
    /// It was too slow for the others, and sent to another transport.
    Parted,
}

/// What a multicast session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SessionState {
    /// It waits for receivers.
    Waiting,
    /// It sends what is lacking, or waits for somebody to lack something.
    Sending,
    /// It tells its receivers that it is over; nobody is sent to it any more.
    Ending,
}
