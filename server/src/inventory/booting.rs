//! What the boot service must know of a node.

use std::net::IpAddr;

use simulcast_protocol::install::{Action, NodeName, NodeState};

use super::Effective;
use crate::boot::node::{BootAction, BootNode};

/// A node as booting sees it; `None` without a card, by which all boot loaders ask first.
pub(crate) fn boot_node(name: &NodeName, effective: &Effective, state: NodeState) -> Option<BootNode> {
    let entry = &effective.entry;
    let args: Vec<_> = effective.mini_kernel_args().collect();
    Some(BootNode {
        name: name.clone(),
        mac: entry.mac?,
        uuid: entry.uuid.clone(),
        address: entry.address.and_then(|address| match address.ip {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        action: match state.action() {
            Action::Install => BootAction::Install,
            Action::Local => BootAction::Local,
            Action::Rescue => BootAction::Rescue,
        },
        package: entry.package.clone(),
        args: args.join(" ").parse().unwrap_or_default(),
    })
}
