//! Nodes and groups as `si-node`, `si-group` and `GET /v1/nodes` show them: one JSON for all three.

use std::collections::BTreeMap;

use serde::Serialize;
use simulcast_protocol::install::{GroupName, Mac, NodeName, NodeState};

use crate::inventory::{Entry, Inventory, Origin};
use crate::state::{OrderRecord, Record, State, StateError, Step, Unknown};

/// A node in a list.
#[derive(Debug, Serialize)]
pub(crate) struct NodeRow {
    pub(crate) name: NodeName,
    pub(crate) mac: Option<Mac>,
    pub(crate) groups: Vec<GroupName>,
    /// What it is to have.
    pub(crate) image: Option<String>,
    #[serde(flatten)]
    pub(crate) record: Record,
}

/// All that is known of a node.
#[derive(Debug, Serialize)]
pub(crate) struct NodeDetails {
    pub(crate) name: NodeName,
    /// `FILE:LINE`.
    pub(crate) defined: String,
    /// Its groups, those that decide last at the end.
    pub(crate) groups: Vec<GroupName>,
    /// What holds for it.
    pub(crate) settings: Entry,
    /// Who says so, by key.
    pub(crate) origins: BTreeMap<String, Origin>,
    #[serde(flatten)]
    pub(crate) record: Record,
    /// The steps of its last order.
    pub(crate) steps: Vec<Step>,
    /// All orders that are remembered, newest first.
    pub(crate) orders: Vec<OrderRecord>,
}

/// The nodes of the inventory, with what is known of each.
///
/// # Errors
/// [`StateError`].
pub(crate) fn rows(inventory: &Inventory, state: &State) -> Result<Vec<NodeRow>, StateError> {
    let mut records = state.records()?;
    let rows = inventory.nodes().keys().filter_map(|name| {
        let effective = inventory.effective(name)?;
        Some(NodeRow {
            name: name.clone(),
            mac: effective.entry.mac,
            groups: effective.groups,
            image: effective.entry.image.map(|image| image.to_string()),
            record: records.remove(name).unwrap_or_else(Record::unheard),
        })
    });
    Ok(rows.collect())
}

/// One node; `None` when there is no such node.
///
/// # Errors
/// [`StateError`].
pub(crate) fn details(
    inventory: &Inventory,
    state: &State,
    name: &NodeName,
) -> Result<Option<NodeDetails>, StateError> {
    let (Some(placed), Some(effective)) = (inventory.nodes().get(name), inventory.effective(name)) else {
        return Ok(None);
    };
    let record = state.record(name)?;
    let steps = match &record.order {
        Some(order) => state.steps(order.number)?,
        None => Vec::new(),
    };
    Ok(Some(NodeDetails {
        name: name.clone(),
        defined: placed.place(),
        groups: effective.groups,
        settings: effective.entry,
        origins: effective.origins,
        record,
        steps,
        orders: state.orders(name)?,
    }))
}

/// Machines that no operator has adopted: what was remembered of one that is in the files by now does not count.
///
/// # Errors
/// [`StateError`].
pub(crate) fn unknown(inventory: &Inventory, state: &State) -> Result<Vec<Unknown>, StateError> {
    let mut machines = state.unknown()?;
    machines.retain(|machine| {
        let cards = [machine.mac]
            .into_iter()
            .chain(machine.hello.macs.iter().copied());
        inventory.by_mac(cards).is_none()
    });
    Ok(machines)
}

/// What a node does, in a few words: its state, and the step that it is at.
pub(crate) fn doing(record: &Record) -> String {
    let step = record
        .order
        .as_ref()
        .filter(|_| record.state == NodeState::Installing);
    let Some((step, order)) = step.and_then(|order| Some((order.step.as_ref()?, order))) else {
        return record.state.to_string();
    };
    match order.per_cent() {
        Some(per_cent) => format!("{} ({step} {per_cent}%)", record.state),
        None => format!("{} ({step})", record.state),
    }
}
