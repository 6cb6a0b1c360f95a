//! What one machine counted, as it goes back over HTTP. Numbers come from a peer: nothing about them is certain.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Packets of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Bytes of each IP packet.
    pub bytes: u16,
    /// How many should have come.
    pub sent: u32,
    /// How many came, each counted once.
    pub came: u32,
}

/// What came by one way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Flow {
    /// Packets sent one by one, of each size.
    pub sizes: Vec<Tally>,
    /// Packets of bursts.
    pub bursts: Tally,
    /// Packets sent one by one in each second.
    pub each_second: u32,
    /// How many of them came, second by second.
    pub seconds: Vec<u16>,
    /// The first of them that did not come: 16 times the round, and the number in it.
    pub lost: Vec<u32>,
}

/// A counter of the machine that rose while it counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counter {
    /// Its name, as the kernel or the driver has it.
    pub name: String,
    /// By how much.
    pub by: u64,
}

/// Who asked for members of groups, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The protocol, as in `IGMPv2`.
    pub protocol: String,
    /// Who asked.
    pub from: IpAddr,
}

/// Listening for queries of IGMP or MLD on one interface.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Listening {
    /// For how long; `None` when it was not possible, which takes root.
    pub seconds: Option<u64>,
    /// The last that was heard.
    pub heard: Option<Heard>,
}

/// What the machine itself is like.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// The interface that the group was joined on.
    pub interface: String,
    /// Bytes of the largest IP packet that it takes.
    pub mtu: u32,
    /// Its speed in Mbit/s, where the driver knows it.
    pub speed: Option<u32>,
    /// Whether it is a radio.
    pub wireless: bool,
    /// Packets that its sockets dropped because they were full.
    pub socket_drops: u64,
    /// Counters of errors and drops of the interface and its driver that rose.
    pub counters: Vec<Counter>,
    /// Queries that were heard.
    pub listening: Listening,
}

/// What one machine counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// By multicast.
    pub multicast: Flow,
    /// By unicast.
    pub unicast: Flow,
    /// Packets that were no good ones of this probe.
    pub wrong: u64,
    /// The machine.
    pub machine: Machine,
}

/// What the image server knows of a probe that its other end cannot; its answer to [`Counts`].
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServerSide {
    /// The interface that the probe was sent over.
    pub interface: String,
    /// Its speed in Mbit/s, where the driver knows it.
    pub speed: Option<u32>,
    /// Packets that its own kernel did not take.
    pub unsent: u64,
    /// Queries that were heard there.
    pub listening: Listening,
    /// Whether the image server is the querier there itself.
    pub querier: bool,
}

/// Everything about one machine.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The machine's name.
    pub node: String,
    /// What it counted.
    pub counts: Counts,
    /// What the server knows.
    pub server: ServerSide,
}

impl Tally {
    /// How many did not come.
    pub fn lost(&self) -> u32 {
        self.sent.saturating_sub(self.came)
    }

    /// How many in a million did not come; `None` when none was sent.
    pub fn loss_ppm(&self) -> Option<u64> {
        (self.sent > 0).then(|| u64::from(self.lost()) * 1_000_000 / u64::from(self.sent))
    }

    /// Both together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.max(other.bytes),
            sent: self.sent.saturating_add(other.sent),
            came: self.came.saturating_add(other.came),
        }
    }
}

impl Flow {
    /// All packets that were sent one by one.
    pub fn paced(&self) -> Tally {
        self.sizes.iter().copied().fold(Tally::default(), Tally::with)
    }

    /// All packets.
    pub fn all(&self) -> Tally {
        self.paced().with(self.bursts)
    }
}
