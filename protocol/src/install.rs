//! What a machine in the mini-kernel and its image server say to each other over HTTP while it is installed.
//!
//! The machine says what it is ([`Hello`]) and hears who it is and what to do ([`Welcome`]); then it reports each step
//! ([`Event`]). What to do in detail is an order, which the server signs: `simulcast_image::order`.

pub mod cmdline;
mod group;
pub mod limits;
mod mac;
mod node;
mod state;

use serde::{Deserialize, Serialize};

pub use group::{GroupName, ParseGroupNameError};
pub use mac::{Mac, ParseMacError};
pub use node::{NodeName, ParseNodeNameError};
pub use state::{NodeState, ParseNodeStateError};

use crate::api::Token;

/// Body of `POST /v1/install/hello`, the one request that needs no token: what a machine knows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The address of the network card that it booted from.
    pub boot: Mac,
    /// The addresses of all its network cards.
    pub macs: Vec<Mac>,
    /// What DMI says.
    #[serde(default)]
    pub dmi: Dmi,
    /// `bios` or `uefi`.
    pub firmware: String,
    /// As `uname -m` says.
    pub architecture: String,
    /// Processors.
    pub processors: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Its disks.
    pub disks: Vec<Disk>,
}

/// Names that the maker gave to a machine; empty where there are none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dmi {
    /// The maker.
    #[serde(default)]
    pub vendor: String,
    /// The product.
    #[serde(default)]
    pub product: String,
    /// The serial number.
    #[serde(default)]
    pub serial: String,
    /// The UUID, in lower case.
    #[serde(default)]
    pub uuid: String,
}

/// A disk, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Its name in the mini-kernel, as in `sda`.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Its model; empty where there is none.
    #[serde(default)]
    pub model: String,
    /// How it is attached: `sata`, `nvme`, `virtio`.
    #[serde(default)]
    pub bus: String,
}

/// Answer of `POST /v1/install/hello`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "you", rename_all = "kebab-case")]
pub enum Welcome {
    /// No operator has adopted this machine: ask again after this many seconds.
    Unknown {
        /// Seconds to wait before the next question.
        again: u32,
    },
    /// It is this node.
    Node {
        /// Its name.
        name: NodeName,
        /// What it may show to the server until this install has ended. It is for this node alone.
        token: Token,
        /// What it should do.
        action: Action,
    },
}

/// What a machine in the mini-kernel should do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Fetch the order (`GET /v1/install/order`) and carry it out.
    Install,
    /// Start from the local disk: it booted the mini-kernel though it need not.
    Local,
    /// Let the operator in.
    Rescue,
}

/// Body of `POST /v1/install/events`: what has happened since the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    /// The number of the order that is carried out.
    pub order: u64,
    /// Oldest first.
    pub events: Vec<Event>,
}

/// Something that happened during an install.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Number within the order, from 0: one that was sent twice is counted once.
    pub number: u32,
    /// Milliseconds since the machine's kernel started.
    pub at: u64,
    /// The step, as in `partition`.
    pub step: String,
    /// What it did.
    pub what: What,
    /// In words: a device, an error, what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
}

/// What a step did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It began.
    Began,
    /// It has done so many bytes of so many.
    Progress {
        /// Bytes that are done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It has ended well.
    Done,
    /// It failed, and will be tried again.
    Retrying,
    /// It failed for good; the machine waits in rescue.
    Failed,
    /// All steps are done: the machine leaves the mini-kernel now.
    Finished,
    /// The installed system has booted (said by the node's own service, not by the mini-kernel).
    Up,
}
