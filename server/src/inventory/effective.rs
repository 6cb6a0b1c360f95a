//! What holds for a node: what it says itself, else what its groups say, else what is usual.

use std::collections::BTreeMap;

use simulcast_protocol::install::{GroupName, NodeName};

use super::Placed;
use super::entry::Entry;
use super::value::{Text, VariableName};
use crate::boot::args::is_ours;

/// Who says a value.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    Node(NodeName),
    Group(GroupName),
}

/// All that is said for a node, and by whom. What nobody says is not there.
#[derive(Debug, Clone)]
pub(crate) struct Effective {
    /// The values; `groups` are those of the node, `variables` those of all together.
    pub(crate) entry: Entry,
    /// By key, or `variables.NAME`.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// Its groups, those that decide last at the end.
    pub(crate) groups: Vec<GroupName>,
}

impl Effective {
    pub(super) fn of(name: &NodeName, node: &Entry, groups: &BTreeMap<GroupName, Placed>) -> Self {
        let order = ordered(node, groups);
        let mut effective = Self {
            entry: Entry::default(),
            origins: BTreeMap::new(),
            groups: order.clone(),
        };
        for group in order {
            if let Some(placed) = groups.get(&group) {
                effective.take(&placed.entry, &Origin::Group(group));
            }
        }
        // A group's are not the node's.
        effective.entry.priority = None;
        effective.entry.comment = None;
        effective
            .origins
            .retain(|key, _| key != "priority" && key != "comment");
        effective.take(node, &Origin::Node(name.clone()));
        effective
    }

    fn take(&mut self, from: &Entry, origin: &Origin) {
        macro_rules! take {
            ($($key:ident)*) => {$(
                if from.$key.is_some() {
                    self.entry.$key.clone_from(&from.$key);
                    self.origins.insert(stringify!($key).to_owned(), origin.clone());
                }
            )*};
        }
        take!(mac uuid address groups priority comment image layout package network prefix gateway dns domain finish transport relay wipe
            console kernel_args machine_id ssh_host_keys rescue_keys);
        let variables: &BTreeMap<VariableName, Text> = &from.variables;
        for (variable, value) in variables {
            self.entry.variables.insert(variable.clone(), value.clone());
            self.origins
                .insert(format!("variables.{variable}"), origin.clone());
        }
    }
}

impl Effective {
    /// Arguments of its installed kernel, one by one.
    pub(crate) fn kernel_args(&self) -> impl Iterator<Item = String> {
        self.mini_kernel_args().filter(|word| !is_ours(word))
    }

    /// Arguments of its mini-kernel: those of the installed one, and what is for the installer.
    pub(crate) fn mini_kernel_args(&self) -> impl Iterator<Item = String> {
        let console = self
            .entry
            .console
            .iter()
            .map(|console| format!("console={console}"));
        let args = self.entry.kernel_args.iter().flat_map(|args| args.words());
        console.chain(args.map(str::to_owned))
    }
}

/// The groups of a node, those that decide last at the end.
pub(super) fn ordered(node: &Entry, groups: &BTreeMap<GroupName, Placed>) -> Vec<GroupName> {
    let priority = |group: &GroupName| {
        groups
            .get(group)
            .and_then(|placed| placed.entry.priority)
            .unwrap_or(0)
    };
    let mut named: Vec<_> = node.groups().to_vec();
    named.sort_by_key(|group| (priority(group), group.clone()));
    named.dedup();
    // Whatever its priority says: what is set for all gives way to what is set for some.
    let mut ordered = vec![GroupName::all()];
    ordered.extend(named.into_iter().filter(|group| group.as_str() != GroupName::ALL));
    ordered
}
