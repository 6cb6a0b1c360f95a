//! What can be said of a node or a group, as a TOML table says it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use simulcast_protocol::install::{GroupName, Mac};

use super::value::{Address, Console, Domain, Image, LayoutName, MachineId, Prefix, Text, VariableName};
use crate::boot::args::KernelArgs;
use crate::boot::node::Uuid;
use crate::boot::package::PackageName;

/// What a table `[node.NAME]` or `[group.NAME]` says. What it does not say comes from groups, or is as usual.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Entry {
    /// Node: the card that it boots from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<Mac>,
    /// Node: what its firmware calls it (SMBIOS), by which some boot loaders ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uuid: Option<Uuid>,
    /// Node: its address; the DHCP service gives it, or it is set on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<Address>,
    /// Node: the groups that it is in, besides `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<Vec<GroupName>>,
    /// Group: whose word counts when groups of a node say different things: the higher number's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) priority: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) comment: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<Image>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) layout: Option<LayoutName>,
    /// The mini-kernel: a directory below `boot/` of the state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) package: Option<PackageName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkKind>,
    /// Bits of the network part of a static address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) prefix: Option<Prefix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gateway: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dns: Option<Vec<IpAddr>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) domain: Option<Domain>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish: Option<Finish>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transport: Option<TransportKind>,
    /// Whether it brings versions to its site, for peers to get them from there alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) relay: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) wipe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) console: Option<Console>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kernel_args: Option<KernelArgs>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) machine_id: Option<MachineId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ssh_host_keys: Option<Kept>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rescue_keys: Option<Vec<Text>>,
    /// For scripts, which see `SI_VAR_NAME`. Those of groups and node are taken together, name by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) variables: BTreeMap<VariableName, Text>,
}

impl Entry {
    /// The groups that it names.
    pub(crate) fn groups(&self) -> &[GroupName] {
        self.groups.as_deref().unwrap_or_default()
    }
}

/// How a node gets its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkKind {
    /// From a DHCP server, each time.
    Dhcp,
    /// It is written into the installed system.
    Static,
}

/// What a node does when it is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Finish {
    Reboot,
    Kexec,
    Poweroff,
    Shell,
}

/// How a node gets the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransportKind {
    Auto,
    Multicast,
    Bittorrent,
    Http,
}

/// Whether something of the golden client stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kept {
    Keep,
    New,
}
