//! What the boot service is told: what each node should boot, by the inventory and its state.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use simulcast_protocol::install::{NodeName, NodeState};

use super::super::Daemon;
use super::super::answer::chain;
use crate::inventory::{Inventory, boot_node};

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
