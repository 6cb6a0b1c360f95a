//! What became of nodes: `state.db` in the state directory, an SQLite database.
//!
//! The daemon and the commands have it open at the same time. Every change is one transaction, so that a crash leaves the
//! old state or the new; the changes that decide what a node does when it boots next are on disk before they are answered.
//! What is kept is bounded: unknown machines, orders of a node, events and log of an order.

mod access;
mod operators;
mod orders;
mod pushes;
mod record;
mod schema;
mod unknown;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub(crate) use access::{Bearer, Ordered, TokenHash};
pub(crate) use operators::{OperatorName, OperatorRecord, Role};
pub(crate) use orders::{NewOrder, OrderOf};
pub(crate) use pushes::Push;
pub(crate) use record::{OrderRecord, Record, Result as OrderResult, Step, StepState};
pub(crate) use unknown::Unknown;

/// The name of the file in the state directory.
const FILE: &str = "state.db";

/// The state cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StateError {
    /// The file cannot be made or opened.
    #[error("cannot open {}", .0.display())]
    Open(PathBuf, #[source] rusqlite::Error),
    /// The file cannot be made.
    #[error("cannot make {}", .0.display())]
    Make(PathBuf, #[source] std::io::Error),
    /// It is that of another program, or of a later version.
    #[error("{} has format {found}, and this program knows formats up to {known}", path.display())]
    Schema { path: PathBuf, found: i64, known: i64 },
    /// A question or a change failed.
    #[error("the database of nodes failed")]
    Sql(#[from] rusqlite::Error),
    /// A text in it is none that we write.
    #[error("the database of nodes holds {0:?}, which is no {1}")]
    Text(String, &'static str),
}

type Answer<T> = Result<T, StateError>;

/// The open database.
#[derive(Debug)]
pub(crate) struct State {
    writing: Mutex<Connection>,
    /// Does not wait for who writes.
    reading: Mutex<Connection>,
}

/// How far a change must have come before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durable {
    /// On disk: after a power cut it still holds.
    Yes,
    /// A power cut may take the last second's: reports that say how far something has come.
    Soon,
}

impl State {
    /// Opens the database below the directory `state`, making it where there is none.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn open(state: &Path) -> Answer<Self> {
        let path = state.join(FILE);
        std::fs::create_dir_all(state).map_err(|error| StateError::Make(path.clone(), error))?;
        schema::make(&path)?;
        let mut writing = schema::connect(&path)?;
        schema::migrate(&mut writing, &path)?;
        let reading = schema::connect(&path)?;
        Ok(Self {
            writing: Mutex::new(writing),
            reading: Mutex::new(reading),
        })
    }

    /// The state of a server that has none yet: nothing was ever noted of any node.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn empty() -> Answer<Self> {
        let path = Path::new(":memory:");
        let connect = || -> Answer<Connection> {
            let mut connection = Connection::open_in_memory()?;
            schema::migrate(&mut connection, path)?;
            Ok(connection)
        };
        Ok(Self {
            writing: Mutex::new(connect()?),
            reading: Mutex::new(connect()?),
        })
    }

    /// Whether the directory `state` has a database.
    pub(crate) fn is_there(state: &Path) -> bool {
        state.join(FILE).try_exists().unwrap_or(true)
    }

    /// Asks something.
    fn ask<T>(&self, ask: impl FnOnce(&Connection) -> Answer<T>) -> Answer<T> {
        ask(&lock(&self.reading))
    }

    /// Changes something, all or nothing.
    fn change<T>(&self, durable: Durable, change: impl FnOnce(&Transaction<'_>) -> Answer<T>) -> Answer<T> {
        let mut connection = lock(&self.writing);
        let synchronous = match durable {
            Durable::Yes => "FULL",
            Durable::Soon => "NORMAL",
        };
        connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = change(&transaction)?;
        transaction.commit()?;
        Ok(done)
    }
}

fn lock(connection: &Mutex<Connection>) -> MutexGuard<'_, Connection> {
    // A transaction that was given up in a panic was rolled back.
    connection
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
