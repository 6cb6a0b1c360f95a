//! Sets of nodes as ClusterShell and Slurm write them: `node[01-16,20]-ib[0-1]`, `@gpu`, `a,b!c&d^e`.
//!
//! A text is terms with operators between them, worked off from left to right: `,` adds, `!` takes away, `&` keeps what
//! both have, `^` what only one has. A term is a name, a name with ranges in brackets, or `@GROUP`. A range is a number,
//! `FIRST-LAST` or `FIRST-LAST/STEP`; the digits of its first number are the fewest that its names have.
//! Shown, a set is folded into the fewest brackets that its shape allows.

mod fold;
mod term;

use std::collections::BTreeSet;
use std::fmt;

use crate::install::{GroupName, NodeName, ParseGroupNameError, ParseNodeNameError};

/// Nodes that one set may have: fifty times the largest site that we think of, and few enough to be listed.
pub const NODES: usize = 100_000;

/// Bytes of the text of a set: what a command line carries.
const TEXT_BYTES: usize = 128 << 10;

/// Different nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeSet(BTreeSet<NodeName>);

/// A text that is no set of nodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeSetError {
    /// A term is missing between two operators, or at an end.
    #[error(
        "{0:?} is no set of nodes: a name is missing; write node[01-16], @group, or names with commas between"
    )]
    Empty(String),
    /// Brackets that do not match, or stand within each other.
    #[error("{0:?} is no set of nodes: its brackets do not match")]
    Brackets(String),
    /// A range that makes no sense.
    #[error("{0:?} is no range of numbers: write 1-16, 01-16, 0-10/2, or numbers with commas between")]
    Range(String),
    /// More nodes than a set may have.
    #[error("{0:?} are more than {NODES} nodes")]
    TooMany(String),
    /// An operator where only commas can be.
    #[error("{0} cannot stand between these names: use commas")]
    Operator(char),
    /// A name that no node can have.
    #[error(transparent)]
    Name(#[from] ParseNodeNameError),
    /// A name that no group can have.
    #[error(transparent)]
    GroupName(#[from] ParseGroupNameError),
    /// There is no such group.
    #[error("there is no group {0}")]
    NoGroup(GroupName),
}

impl NodeSet {
    /// The set that a text stands for; `group` gives the members of a group.
    ///
    /// # Errors
    /// [`NodeSetError`], which names the part of the text that is wrong.
    pub fn parse(
        text: &str,
        group: &dyn Fn(&GroupName) -> Option<BTreeSet<NodeName>>,
    ) -> Result<Self, NodeSetError> {
        if text.len() > TEXT_BYTES {
            return Err(NodeSetError::TooMany(shortened(text)));
        }
        let mut set = BTreeSet::new();
        for (operator, term) in split(text)? {
            let nodes = match term.strip_prefix('@') {
                Some(name) => {
                    let name = name.parse()?;
                    group(&name).ok_or(NodeSetError::NoGroup(name))?
                }
                None => {
                    let names = term::expand(term)?.into_iter().map(|name| Ok(name.parse()?));
                    names.collect::<Result<_, NodeSetError>>()?
                }
            };
            match operator {
                ',' => set.extend(nodes),
                '!' => set.retain(|node| !nodes.contains(node)),
                '&' => set.retain(|node| nodes.contains(node)),
                _ => set = set.symmetric_difference(&nodes).cloned().collect(),
            }
            if set.len() > NODES {
                return Err(NodeSetError::TooMany(shortened(text)));
            }
        }
        Ok(Self(set))
    }

    /// Its nodes, in the order of their numbers: `node2` before `node10`.
    pub fn names(&self) -> Vec<NodeName> {
        let mut names: Vec<_> = self.0.iter().cloned().collect();
        names.sort_by_cached_key(fold::natural);
        names
    }

    /// Whether a node is in it.
    pub fn contains(&self, node: &NodeName) -> bool {
        self.0.contains(node)
    }

    /// How many nodes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<NodeName> for NodeSet {
    fn from_iter<I: IntoIterator<Item = NodeName>>(names: I) -> Self {
        Self(names.into_iter().collect())
    }
}

impl IntoIterator for NodeSet {
    type Item = NodeName;
    type IntoIter = std::collections::btree_set::IntoIter<NodeName>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&fold::fold(self.0.iter().map(NodeName::as_str)))
    }
}

/// The machines that a text means, in its order and each once, as programs like ssh know them: names of any form with ranges
/// in brackets, `@GROUP`, and commas between.
///
/// # Errors
/// [`NodeSetError`], which names the part of the text that is wrong.
pub fn hosts(
    text: &str,
    group: &dyn Fn(&GroupName) -> Option<BTreeSet<NodeName>>,
) -> Result<Vec<String>, NodeSetError> {
    let (mut hosts, mut seen) = (Vec::new(), BTreeSet::new());
    for (operator, term) in split(text)? {
        if operator != ',' {
            return Err(NodeSetError::Operator(operator));
        }
        let more = match term.strip_prefix('@') {
            Some(_) => NodeSet::parse(term, group)?
                .names()
                .into_iter()
                .map(String::from)
                .collect(),
            None => term::expand(term)?,
        };
        hosts.extend(more.into_iter().filter(|host| seen.insert(host.clone())));
        if hosts.len() > NODES {
            return Err(NodeSetError::TooMany(shortened(text)));
        }
    }
    Ok(hosts)
}

/// The shortest text for machines, however they are called: those whose names differ in numbers share brackets.
pub fn fold<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    fold::fold(names.into_iter())
}

/// The terms of a text, each with the operator before it; the first is added to nothing.
fn split(text: &str) -> Result<Vec<(char, &str)>, NodeSetError> {
    let brackets = || NodeSetError::Brackets(shortened(text));
    let (mut terms, mut operator, mut start, mut inside) = (Vec::new(), ',', 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '[' if !inside => inside = true,
            ']' if inside => inside = false,
            '[' | ']' => return Err(brackets()),
            ',' | '!' | '&' | '^' if !inside => {
                terms.push((operator, text[start..at].trim()));
                (operator, start) = (c, at + 1);
            }
            _ => {}
        }
    }
    if inside {
        return Err(brackets());
    }
    terms.push((operator, text[start..].trim()));
    match terms.iter().any(|(_, term)| term.is_empty()) {
        true => Err(NodeSetError::Empty(shortened(text))),
        false => Ok(terms),
    }
}

/// As much of a text as an error shows.
fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
