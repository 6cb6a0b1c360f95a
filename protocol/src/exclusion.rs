//! What the server tells a node for an update, besides the version: exclusion lists and scripts.

use serde::{Deserialize, Serialize};

use crate::install::NodeName;

/// Bytes of one exclusion list: 10,000 rules of a hundred characters each.
pub const EXCLUSION_BYTES: usize = 1 << 20;

/// Lists that a node gets at most: its own, those of its groups, the image's, and what the site has for all.
pub const EXCLUSION_LISTS: usize = 256;

/// One list: its text, and what errors and explanations call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListText {
    /// Its file below the configuration directory of the server, as in `exclude.d/group/gpu.exclude`.
    pub origin: String,
    /// Its lines.
    pub text: String,
}

/// Answer of `GET /v1/exclusions/IMAGE`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeLists {
    /// The node that they are for; `None` when none was named, or the server knows no such node: then the lists of
    /// groups and nodes are not among them.
    pub node: Option<NodeName>,
    /// The lists, the most specific first.
    pub lists: Vec<ListText>,
}

/// Answer of `GET /v1/scripts/update`: what the site runs on a node around an update, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateScripts {
    /// Before anything is changed: `scripts/pre-update.d`.
    pub pre: Vec<Script>,
    /// When all is in place: `scripts/post-update.d`.
    pub post: Vec<Script>,
}

/// A script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// Its file name, as in `10drain`.
    pub name: String,
    /// Its text, which begins with the interpreter.
    pub text: String,
}
