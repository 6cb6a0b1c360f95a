//! What the operator says of nodes and groups: `nodes.d/*.toml` and `groups.d/*.toml` in the configuration directory.
//!
//! The files belong to the operator: they may be written by hand, kept in git, or changed by `si-node` and `si-group`,
//! which keep comments and order. An inventory in memory is sound: every key is known, every value has its type, and a
//! name, a MAC and an address appear only once.

mod booting;
mod edit;
mod effective;
mod entry;
mod key;
mod load;
mod value;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use simulcast_protocol::install::{GroupName, Mac, NodeName};
use simulcast_protocol::nodeset::{NodeSet, NodeSetError};

use crate::boot::node::Uuid;

pub(crate) use booting::boot_node;
pub(crate) use edit::{Change, Edit, EditError, Subject};
pub(crate) use effective::{Effective, Origin};
pub(crate) use entry::{Entry, Finish, Kept, NetworkKind, TransportKind};
pub(crate) use key::help as keys_help;
pub(crate) use load::load;
pub(crate) use value::MachineId;
pub(crate) use watch::Watched;

/// Nodes and groups.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inventory {
    nodes: BTreeMap<NodeName, Placed>,
    groups: BTreeMap<GroupName, Placed>,
    macs: BTreeMap<Mac, NodeName>,
    addresses: BTreeMap<IpAddr, NodeName>,
    uuids: BTreeMap<Uuid, NodeName>,
}

/// An entry, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) entry: Entry,
    pub(crate) path: PathBuf,
    /// From 1.
    pub(crate) line: usize,
}

impl Inventory {
    /// All nodes.
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeName, Placed> {
        &self.nodes
    }

    /// All groups that something is said of. `all` need not be among them.
    pub(crate) fn groups(&self) -> &BTreeMap<GroupName, Placed> {
        &self.groups
    }

    /// What is said of a node.
    pub(crate) fn node(&self, name: &NodeName) -> Option<&Entry> {
        self.nodes.get(name).map(|placed| &placed.entry)
    }

    /// The node with one of these cards; the first card that one has decides.
    pub(crate) fn by_mac(&self, macs: impl IntoIterator<Item = Mac>) -> Option<&NodeName> {
        macs.into_iter().find_map(|mac| self.macs.get(&mac))
    }

    /// The nodes of a group; `None` when there is no such group.
    pub(crate) fn members(&self, group: &GroupName) -> Option<BTreeSet<NodeName>> {
        if group.as_str() == GroupName::ALL {
            return Some(self.nodes.keys().cloned().collect());
        }
        self.groups.get(group)?;
        let member =
            |(name, node): (&NodeName, &Placed)| node.entry.groups().contains(group).then(|| name.clone());
        Some(self.nodes.iter().filter_map(member).collect())
    }

    /// The nodes that a text means, which need not be in the inventory.
    ///
    /// # Errors
    /// Those of [`NodeSet::parse`].
    pub(crate) fn set(&self, text: &str) -> Result<NodeSet, NodeSetError> {
        NodeSet::parse(text, &|group| self.members(group))
    }

    /// What holds for a node, its groups taken into account; `None` when there is no such node.
    pub(crate) fn effective(&self, name: &NodeName) -> Option<Effective> {
        let node = self.node(name)?;
        Some(Effective::of(name, node, &self.groups))
    }
}

#[cfg(test)]
mod tests;
