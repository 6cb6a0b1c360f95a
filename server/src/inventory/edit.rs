//! Changing the inventory as the commands do: comments, order and whatever else stands in a file survive.
//!
//! An edit is worked out in memory, and the whole inventory is checked as it would be. Only then files are written, each
//! at once. One edit at a time: the directory is locked.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use simulcast_protocol::install::{GroupName, NodeName};
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::key::{self, KEYS, Kind};
use super::load::{GROUPS, InventoryError, NODES, Texts, load};
use super::{Entry, Inventory};
use crate::files;

/// The inventory cannot be changed as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EditError {
    /// There is no such key.
    #[error("there is no key {0:?}; those are {known}", known = known())]
    Key(String),
    /// Neither `KEY=VALUE`.
    #[error("{0:?} sets nothing: write KEY=VALUE, as in image=golden01")]
    Form(String),
    /// The value is none of this key.
    #[error("{key}: {why}")]
    Value { key: String, why: String },
    /// It is there already.
    #[error("{what} is already at {place}")]
    Exists { what: String, place: String },
    /// It is not there.
    #[error("there is no {0}")]
    Missing(String),
    /// The files say something wrong, or would.
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    /// A file is no TOML that can be changed.
    #[error("cannot change {}", .0.display())]
    Parse(PathBuf, #[source] toml_edit::TomlError),
    /// A file cannot be written, or the directory not be locked.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
}

/// What a change is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Subject {
    Node(NodeName),
    Group(GroupName),
}

/// One change of an entry.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// The key, a name within it if it is a table, and the value.
    Set(&'static str, Option<String>, Value),
    /// The key, and a name within it; without one the whole key.
    Unset(&'static str, Option<String>),
}

/// Changes that are worked out and not yet written.
#[derive(Debug)]
pub(crate) struct Edit {
    config: PathBuf,
    before: Inventory,
    documents: BTreeMap<PathBuf, DocumentMut>,
    /// Held until the edit is written or dropped.
    #[expect(dead_code, reason = "the lock lives as long as the edit")]
    lock: File,
}

impl Change {
    /// Reads `KEY=VALUE`.
    ///
    /// # Errors
    /// [`EditError::Form`], [`EditError::Key`], [`EditError::Value`].
    pub(crate) fn set(text: &str) -> Result<Self, EditError> {
        let (name, value) = text
            .split_once('=')
            .ok_or_else(|| EditError::Form(text.chars().take(80).collect()))?;
        Self::set_to(name, value)
    }

    /// Sets the key `name` to what `text` means.
    ///
    /// # Errors
    /// [`EditError::Key`], [`EditError::Value`].
    pub(crate) fn set_to(name: &str, text: &str) -> Result<Self, EditError> {
        let (key, inner) = find(name)?;
        let wrong = |why: &str| EditError::Value {
            key: name.to_owned(),
            why: why.to_owned(),
        };
        let value: Value = match key.kind {
            Kind::Text => text.into(),
            Kind::Flag => text
                .parse::<bool>()
                .map_err(|_| wrong("write true or false"))?
                .into(),
            Kind::Number => text
                .parse::<i64>()
                .map_err(|_| wrong("write a whole number"))?
                .into(),
            Kind::List => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.collect::<Array>().into()
            }
            Kind::Table if inner.is_none() => return Err(wrong("write variables.NAME=VALUE")),
            Kind::Table => text.into(),
        };
        let change = Self::Set(key.name, inner, value);
        // The type that files are read with is asked what it thinks, of this key alone.
        let mut alone = DocumentMut::new();
        change.apply(alone.as_table_mut());
        match toml::from_str::<Entry>(&alone.to_string()) {
            Ok(_) => Ok(change),
            Err(error) => Err(wrong(error.message().trim())),
        }
    }

    /// Reads `KEY`, or `variables.NAME`.
    ///
    /// # Errors
    /// [`EditError::Key`].
    pub(crate) fn unset(name: &str) -> Result<Self, EditError> {
        find(name).map(|(key, inner)| Self::Unset(key.name, inner))
    }

    fn apply(&self, table: &mut dyn TableLike) {
        match self {
            Self::Set(key, None, value) => put(table, key, value),
            Self::Set(key, Some(name), value) => {
                let inner = table.entry(key).or_insert_with(|| Item::Table(Table::new()));
                if let Some(inner) = inner.as_table_like_mut() {
                    put(inner, name, value);
                }
            }
            Self::Unset(key, None) => drop(table.remove(key)),
            Self::Unset(key, Some(name)) => {
                if let Some(inner) = table.get_mut(key).and_then(Item::as_table_like_mut) {
                    inner.remove(name);
                }
            }
        }
    }
}

/// Replaces a value, what stands before and behind it in its line included.
fn put(table: &mut dyn TableLike, key: &str, value: &Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value.clone();
            *old.decor_mut() = decor;
        }
        None => drop(table.insert(key, Item::Value(value.clone()))),
    }
}

fn find(name: &str) -> Result<(&'static key::Key, Option<String>), EditError> {
    let (outer, inner) = match name.split_once('.') {
        Some((outer, inner)) => (outer, Some(inner.to_owned())),
        None => (name, None),
    };
    let unknown = || EditError::Key(name.chars().take(80).collect());
    let key = key::find(outer).ok_or_else(unknown)?;
    match inner.is_none() || key.kind == Kind::Table {
        true => Ok((key, inner)),
        false => Err(unknown()),
    }
}

fn known() -> String {
    let names: Vec<_> = KEYS.iter().map(|key| key.name).collect();
    names.join(", ")
}

impl Subject {
    fn directory(&self) -> &'static str {
        match self {
            Self::Node(_) => NODES,
            Self::Group(_) => GROUPS,
        }
    }

    /// The file that commands put new ones into.
    fn file(&self) -> &'static str {
        match self {
            Self::Node(_) => "nodes.toml",
            Self::Group(_) => "groups.toml",
        }
    }

    fn table(&self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Group(_) => "group",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Node(name) => name.as_str(),
            Self::Group(name) => name.as_str(),
        }
    }

    fn shown(&self) -> String {
        format!("{} {}", self.table(), self.name())
    }

    /// Where it stands.
    fn place<'a>(&self, inventory: &'a Inventory) -> Option<&'a super::Placed> {
        match self {
            Self::Node(name) => inventory.nodes.get(name),
            Self::Group(name) => inventory.groups.get(name),
        }
    }
}

impl Edit {
    /// Locks the configuration and reads it.
    ///
    /// # Errors
    /// [`EditError::Write`], [`EditError::Inventory`]: what is broken is not changed.
    pub(crate) fn begin(config: &Path) -> Result<Self, EditError> {
        let failed = |error: io::Error| EditError::Write(config.to_owned(), error);
        fs::create_dir_all(config).map_err(failed)?;
        let lock = File::open(config).map_err(failed)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| failed(errno.into()))?;
        Ok(Self {
            config: config.to_owned(),
            before: load(config, &Texts::new())?,
            documents: BTreeMap::new(),
            lock,
        })
    }

    /// The inventory as it was.
    pub(crate) fn before(&self) -> &Inventory {
        &self.before
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// [`EditError::Exists`], [`EditError::Parse`].
    pub(crate) fn add(&mut self, subject: &Subject, changes: &[Change]) -> Result<(), EditError> {
        if let Some(placed) = subject.place(&self.before) {
            return Err(EditError::Exists {
                what: subject.shown(),
                place: placed.place(),
            });
        }
        let path = self.config.join(subject.directory()).join(subject.file());
        let entries = entries(self.document(&path)?, subject);
        let mut table = Table::new();
        changes.iter().for_each(|change| change.apply(&mut table));
        entries.insert(subject.name(), Item::Table(table));
        Ok(())
    }

    /// Changes an entry.
    ///
    /// # Errors
    /// [`EditError::Missing`], [`EditError::Parse`].
    pub(crate) fn change(&mut self, subject: &Subject, changes: &[Change]) -> Result<(), EditError> {
        let missing = || EditError::Missing(subject.shown());
        let path = subject.place(&self.before).ok_or_else(missing)?.path.clone();
        let entries = entries(self.document(&path)?, subject);
        let entry = entries
            .get_mut(subject.name())
            .and_then(Item::as_table_like_mut)
            .ok_or_else(missing)?;
        changes.iter().for_each(|change| change.apply(entry));
        Ok(())
    }

    /// Removes an entry.
    ///
    /// # Errors
    /// [`EditError::Missing`], [`EditError::Parse`].
    pub(crate) fn remove(&mut self, subject: &Subject) -> Result<(), EditError> {
        let missing = || EditError::Missing(subject.shown());
        let path = subject.place(&self.before).ok_or_else(missing)?.path.clone();
        let entries = entries(self.document(&path)?, subject);
        entries.remove(subject.name()).map(drop).ok_or_else(missing)
    }

    /// Checks the whole as it would be, and gives it back.
    ///
    /// # Errors
    /// [`EditError::Inventory`].
    pub(crate) fn check(&self) -> Result<Inventory, EditError> {
        Ok(load(&self.config, &self.texts())?)
    }

    /// Checks, then writes what has changed.
    ///
    /// # Errors
    /// [`EditError::Inventory`]: then nothing was written. [`EditError::Write`].
    pub(crate) fn write(self) -> Result<Inventory, EditError> {
        let after = self.check()?;
        for (path, text) in self.texts() {
            files::replace(&path, text.as_bytes()).map_err(|error| EditError::Write(path.clone(), error))?;
        }
        Ok(after)
    }

    fn texts(&self) -> Texts {
        self.documents
            .iter()
            .map(|(path, document)| (path.clone(), document.to_string()))
            .collect()
    }

    fn document(&mut self, path: &Path) -> Result<&mut DocumentMut, EditError> {
        if !self.documents.contains_key(path) {
            let text = match super::load::read(path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
                Err(error) => return Err(InventoryError::Read(path.to_owned(), error).into()),
            };
            let document = text
                .parse()
                .map_err(|error| EditError::Parse(path.to_owned(), error))?;
            self.documents.insert(path.to_owned(), document);
        }
        Ok(self.documents.get_mut(path).expect("it was just put there"))
    }
}

/// The table of all nodes, or of all groups.
fn entries<'a>(document: &'a mut DocumentMut, subject: &Subject) -> &'a mut dyn TableLike {
    let mut fresh = Table::new();
    // Without a line `[node]` of its own.
    fresh.set_implicit(true);
    let item = document.entry(subject.table()).or_insert(Item::Table(fresh));
    item.as_table_like_mut()
        .expect("the file was read as an inventory, where it is a table")
}
