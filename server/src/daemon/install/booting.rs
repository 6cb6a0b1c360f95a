//! What the boot service is told: what each node should boot, by the inventory and its state.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};

use simulcast_protocol::install::{Action, NodeName, NodeState};

use super::super::Daemon;
use super::super::answer::chain;
use crate::boot::node::{BootAction, BootNode};
use crate::inventory::{Effective, Inventory};

/// What was told last, so that nothing is worked out when nothing has changed.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<Option<Last>>);

#[derive(Debug)]
struct Last {
    inventory: Arc<Inventory>,
    number: i64,
    states: BTreeMap<NodeName, NodeState>,
}

impl Daemon {
    /// Tells the boot service what nodes should boot, if that has changed.
    pub(in super::super) fn tell_booting(&self) {
        let install = &self.install;
        let inventory = install.inventory.get();
        let mut told = install.told.0.lock().expect("no holder panics");
        let (number, states) = match install.state.states(told.as_ref().map(|last| last.number)) {
            Ok(answer) => answer,
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "cannot tell what nodes should boot; what was known before holds"
                );
                return;
            }
        };
        if let Some(last) = told
            .as_mut()
            .filter(|last| Arc::ptr_eq(&last.inventory, &inventory))
        {
            last.number = number;
            if states.as_ref().is_none_or(|states| *states == last.states) {
                return;
            }
        }
        let states = states
            .or_else(|| told.take().map(|last| last.states))
            .unwrap_or_default();
        let nodes = inventory.nodes().keys().filter_map(|name| {
            let state = states.get(name).copied().unwrap_or(NodeState::Local);
            boot_node(name, &inventory.effective(name)?, state)
        });
        self.booting.set_nodes(nodes.collect());
        *told = Some(Last {
            inventory,
            number,
            states,
        });
    }
}

/// A node as booting sees it; `None` without a card, by which all boot loaders ask first.
fn boot_node(name: &NodeName, effective: &Effective, state: NodeState) -> Option<BootNode> {
    let entry = &effective.entry;
    let args: Vec<_> = effective.kernel_args().collect();
    Some(BootNode {
        name: name.clone(),
        mac: entry.mac?,
        uuid: entry.uuid.as_ref().and_then(|uuid| uuid.as_ref().parse().ok()),
        address: entry.address.and_then(|address| match address.ip {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        }),
        action: match state.action() {
            Action::Install => BootAction::Install,
            Action::Local => BootAction::Local,
            Action::Rescue => BootAction::Rescue,
        },
        package: entry
            .package
            .as_ref()
            .and_then(|package| package.as_ref().parse().ok()),
        args: args.join(" ").parse().unwrap_or_default(),
    })
}
