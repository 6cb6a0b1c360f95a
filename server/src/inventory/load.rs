//! Reading the inventory, with file and line for whatever is wrong in it.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use simulcast_protocol::install::{GroupName, NodeName};
use toml::Spanned;

use super::key::{KEYS, Of};
use super::{Entry, Inventory, Placed};

/// Directories of the inventory, below the configuration directory.
pub(super) const NODES: &str = "nodes.d";
pub(super) const GROUPS: &str = "groups.d";

/// Bytes of one file: 10,000 nodes take two million.
const FILE_BYTES: u64 = 16 << 20;

/// Texts of files, by path.
pub(super) type Texts = BTreeMap<PathBuf, String>;

/// The inventory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InventoryError {
    /// A directory or file cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// Something in a file is wrong.
    #[error("{}:{line}: {why}", path.display())]
    Wrong {
        path: PathBuf,
        /// From 1.
        line: usize,
        why: String,
    },
}

/// A file of `nodes.d`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Nodes {
    node: BTreeMap<Spanned<String>, Spanned<Entry>>,
}

/// A file of `groups.d`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Groups {
    group: BTreeMap<Spanned<String>, Spanned<Entry>>,
}

/// Reads the inventory below `config`. `changed` has the texts of files that are about to be written, to see whether the
/// whole would still be sound.
///
/// # Errors
/// [`InventoryError`].
pub(crate) fn load(config: &Path, changed: &Texts) -> Result<Inventory, InventoryError> {
    let mut inventory = Inventory::default();
    for (path, text) in texts(&config.join(GROUPS), changed)? {
        let file: Groups = parse(&path, &text)?;
        for (name, entry) in file.group {
            inventory.take_group(
                &Source {
                    path: &path,
                    text: &text,
                },
                name,
                entry,
            )?;
        }
    }
    for (path, text) in texts(&config.join(NODES), changed)? {
        let file: Nodes = parse(&path, &text)?;
        for (name, entry) in file.node {
            inventory.take_node(
                &Source {
                    path: &path,
                    text: &text,
                },
                name,
                entry,
            )?;
        }
    }
    inventory.check_groups()?;
    Ok(inventory)
}

/// The files of a directory that count, by name.
pub(super) fn files(directory: &Path) -> Result<Vec<PathBuf>, InventoryError> {
    let failed = |error| InventoryError::Read(directory.to_owned(), error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn texts(directory: &Path, changed: &Texts) -> Result<Texts, InventoryError> {
    let mut texts = Texts::new();
    for path in files(directory)? {
        let text = read(&path).map_err(|error| InventoryError::Read(path.clone(), error))?;
        texts.insert(path, text);
    }
    let here = changed
        .iter()
        .filter(|(path, _)| path.parent() == Some(directory));
    texts.extend(here.map(|(path, text)| (path.clone(), text.clone())));
    Ok(texts)
}

pub(super) fn read(path: &Path) -> io::Result<String> {
    if fs::metadata(path)?.len() > FILE_BYTES {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "it is too long for an inventory",
        ));
    }
    fs::read_to_string(path)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, InventoryError> {
    let source = Source { path, text };
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        source.wrong(at, error.message().trim())
    })
}

/// The file that is looked at.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn wrong(&self, at: usize, why: impl fmt::Display) -> InventoryError {
        InventoryError::Wrong {
            path: self.path.to_owned(),
            line: self.line(at),
            why: why.to_string(),
        }
    }

    /// The line of a byte, from 1.
    fn line(&self, at: usize) -> usize {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    fn placed(&self, at: usize, entry: Entry) -> Placed {
        Placed {
            entry,
            path: self.path.to_owned(),
            line: self.line(at),
        }
    }

    /// The key of `entry` that only others can have, if it has one.
    fn check_keys(&self, at: usize, entry: &Entry, of: Of) -> Result<(), InventoryError> {
        let has = |name: &str| match name {
            "mac" => entry.mac.is_some(),
            "uuid" => entry.uuid.is_some(),
            "address" => entry.address.is_some(),
            "groups" => entry.groups.is_some(),
            "priority" => entry.priority.is_some(),
            _ => false,
        };
        let foreign = KEYS
            .iter()
            .find(|key| key.of != Of::Both && key.of != of && has(key.name));
        match foreign {
            Some(key) if of == Of::Node => {
                Err(self.wrong(at, format!("{} is a group's, not a node's", key.name)))
            }
            Some(key) => Err(self.wrong(at, format!("{} is a node's, not a group's", key.name))),
            None => Ok(()),
        }
    }
}

impl Inventory {
    fn take_group(
        &mut self,
        source: &Source<'_>,
        name: Spanned<String>,
        entry: Spanned<Entry>,
    ) -> Result<(), InventoryError> {
        let at = name.span().start;
        let group: GroupName = name
            .into_inner()
            .parse()
            .map_err(|error| source.wrong(at, error))?;
        source.check_keys(at, entry.as_ref(), Of::Group)?;
        if let Some(other) = self.groups.get(&group) {
            return Err(source.wrong(at, format!("group {group} is already at {}", other.place())));
        }
        self.groups.insert(group, source.placed(at, entry.into_inner()));
        Ok(())
    }

    fn take_node(
        &mut self,
        source: &Source<'_>,
        name: Spanned<String>,
        entry: Spanned<Entry>,
    ) -> Result<(), InventoryError> {
        let at = name.span().start;
        let node: NodeName = name
            .into_inner()
            .parse()
            .map_err(|error| source.wrong(at, error))?;
        source.check_keys(at, entry.as_ref(), Of::Node)?;
        let entry = entry.into_inner();
        if let Some(other) = self.nodes.get(&node) {
            return Err(source.wrong(at, format!("{node} is already at {}", other.place())));
        }
        let taken = |other: &NodeName, what: &dyn fmt::Display| {
            let place = self.nodes.get(other).map_or_else(String::new, Placed::place);
            source.wrong(
                at,
                format!("{node} has {what}, which {other} at {place} has already"),
            )
        };
        let address: Option<IpAddr> = entry.address.map(|address| address.ip);
        if let Some((mac, other)) = entry.mac.and_then(|mac| Some((mac, self.macs.get(&mac)?))) {
            return Err(taken(other, &format_args!("mac {mac}")));
        }
        if let Some((address, other)) =
            address.and_then(|address| Some((address, self.addresses.get(&address)?)))
        {
            return Err(taken(other, &format_args!("address {address}")));
        }
        let uuid = entry.uuid.as_ref();
        if let Some((uuid, other)) = uuid.and_then(|uuid| Some((uuid, self.uuids.get(uuid)?))) {
            return Err(taken(other, &format_args!("uuid {uuid}")));
        }
        self.uuids
            .extend(entry.uuid.clone().map(|uuid| (uuid, node.clone())));
        self.macs.extend(entry.mac.map(|mac| (mac, node.clone())));
        self.addresses
            .extend(address.map(|address| (address, node.clone())));
        self.nodes.insert(node, source.placed(at, entry));
        Ok(())
    }

    /// A node in a group that nobody has heard of is a slip of the pen, and would get the wrong image.
    fn check_groups(&self) -> Result<(), InventoryError> {
        for (node, placed) in &self.nodes {
            let known =
                |group: &&GroupName| group.as_str() == GroupName::ALL || self.groups.contains_key(*group);
            if let Some(group) = placed.entry.groups().iter().find(|group| !known(group)) {
                return Err(InventoryError::Wrong {
                    path: placed.path.clone(),
                    line: placed.line,
                    why: format!("{node} is in group {group}, and there is no such group"),
                });
            }
        }
        Ok(())
    }
}

impl Placed {
    /// `FILE:LINE`.
    pub(crate) fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line)
    }
}
