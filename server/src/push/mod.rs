//! Updating a fleet: nodes are asked what they run, one update pack is made for all their versions, and they are updated in waves.
//!
//! Each node updates itself; it is told to over ssh. Those of a wave ask at the same time, so that they share one multicast session,
//! also those that come from different versions. What became of each is kept in `state.db`, so that an interrupted or stopped
//! push goes on where it was.

mod carry;
mod node;
mod pack;
mod waves;

pub(crate) use carry::{Carried, Order, carry};
pub(crate) use node::{Outcome, Remote, Running};
pub(crate) use pack::prepare;
pub(crate) use waves::{Share, waves};

use serde::{Deserialize, Serialize};

/// How a push is done: what is kept, so that it can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ways {
    /// Nodes that are updated before all others.
    pub(crate) canary: u32,
    /// Nodes that are updated at a time, after the canaries.
    pub(crate) wave: Share,
    /// Nodes that may fail before it stops.
    pub(crate) max_failures: Share,
    /// The image server as nodes reach it; `None` for where ssh comes from.
    pub(crate) server: Option<String>,
    /// The tree on the nodes.
    pub(crate) root: String,
    /// How chunks come.
    pub(crate) transport: String,
    /// Whether an update pack is used.
    pub(crate) pack: bool,
    /// Whether nodes go on where much would be deleted.
    pub(crate) force: bool,
    /// Seconds that a node has.
    pub(crate) timeout: u32,
}
