//! The tables, and how they come to be.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::{Answer, StateError};

/// The format that this program writes.
const FORMAT: i64 = 3;

/// How long a command waits for the daemon to end a transaction, and the other way round.
const BUSY: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE node (
    name    TEXT PRIMARY KEY,
    state   TEXT NOT NULL,      -- see NodeState
    since   INTEGER NOT NULL,   -- seconds since 1970, as all times here unless it says otherwise
    current INTEGER,            -- the order that it carries out, or carried out last
    address TEXT,               -- where it was heard from last
    heard   INTEGER
) STRICT;
CREATE TABLE counter (last INTEGER NOT NULL) STRICT;  -- the last number of an order
INSERT INTO counter VALUES (0);
CREATE TABLE orders (
    number    INTEGER PRIMARY KEY,
    node      TEXT NOT NULL,
    image     TEXT NOT NULL,
    version   INTEGER NOT NULL,
    manifest  TEXT NOT NULL,
    made      INTEGER NOT NULL,
    bytes     BLOB NOT NULL,      -- as signed
    files     TEXT NOT NULL,      -- JSON: names of the files that it needs
    ended     INTEGER,
    result    TEXT,               -- installed, failed or given-up
    up        INTEGER,            -- when the installed system reported
    step      TEXT,               -- what is being done, and how far it has come
    done      INTEGER NOT NULL DEFAULT 0,
    total     INTEGER NOT NULL DEFAULT 0,
    latest    INTEGER NOT NULL DEFAULT -1,  -- place of the event that says so
    attempts  INTEGER NOT NULL DEFAULT 1,   -- boots of the machine in which it was carried out
    events    INTEGER NOT NULL DEFAULT 0,
    log_bytes INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX orders_of_node ON orders (node, number);
CREATE TABLE event (
    number   INTEGER NOT NULL,   -- of the order
    attempt  INTEGER NOT NULL,   -- from 1: each boot of the machine counts its events anew
    place    INTEGER NOT NULL,   -- of the event within the attempt
    at       INTEGER NOT NULL,   -- milliseconds since the machine's kernel started
    received INTEGER NOT NULL,
    step     TEXT NOT NULL,
    what     TEXT NOT NULL,
    detail   TEXT NOT NULL,
    PRIMARY KEY (number, attempt, place)
) STRICT, WITHOUT ROWID;
CREATE TABLE log (
    piece    INTEGER PRIMARY KEY,
    number   INTEGER NOT NULL,   -- of the order
    received INTEGER NOT NULL,
    text     TEXT NOT NULL
) STRICT;
CREATE INDEX log_of_order ON log (number, piece);
CREATE TABLE token (
    hash    BLOB PRIMARY KEY,    -- BLAKE3 of the token: the token itself is nowhere
    node    TEXT NOT NULL,
    number  INTEGER,             -- of its order, once it has asked for it
    attempt INTEGER NOT NULL DEFAULT 1,
    made    INTEGER NOT NULL,
    ended   INTEGER              -- since then it may report, and nothing else
) STRICT, WITHOUT ROWID;
CREATE INDEX token_of_node ON token (node, made);
CREATE TABLE unknown (
    mac     TEXT PRIMARY KEY,
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    address TEXT NOT NULL,
    hello   TEXT NOT NULL        -- JSON
) STRICT;
CREATE INDEX unknown_by_time ON unknown (last);
";

/// What format 2 has besides.
const PUSHES: &str = "
CREATE TABLE push (
    number   INTEGER PRIMARY KEY AUTOINCREMENT,
    image    TEXT NOT NULL,      -- NAME@V
    manifest TEXT NOT NULL,
    ways     TEXT NOT NULL,      -- JSON: how it is done
    made     INTEGER NOT NULL,
    ended    INTEGER             -- when nothing was left to be done
) STRICT;
CREATE TABLE push_node (
    number  INTEGER NOT NULL,    -- of the push
    node    TEXT NOT NULL,
    place   INTEGER NOT NULL,    -- whose turn it is first
    outcome TEXT NOT NULL,       -- JSON: what became of it
    at      INTEGER NOT NULL,
    PRIMARY KEY (number, node)
) STRICT, WITHOUT ROWID;
";

/// What format 3 has besides.
const OPERATORS: &str = "
CREATE TABLE operator (
    name    TEXT PRIMARY KEY,
    hash    BLOB NOT NULL UNIQUE,  -- BLAKE3 of the token: the token itself is nowhere
    role    TEXT NOT NULL,
    nodes   TEXT,                  -- the set of nodes that they see; all when NULL, as images
    images  TEXT,                  -- JSON
    made    INTEGER NOT NULL,
    expires INTEGER
) STRICT, WITHOUT ROWID;
";

/// Makes the file where there is none, readable by us alone: orders may hold secrets of the site.
pub(super) fn make(path: &Path) -> Answer<()> {
    let made = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path);
    made.map(drop)
        .map_err(|error| StateError::Make(path.to_owned(), error))
}

pub(super) fn connect(path: &Path) -> Answer<Connection> {
    let connect = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        // What is deleted shall not be found in the file.
        connection.pragma_update(None, "secure_delete", true)?;
        Ok(connection)
    };
    connect().map_err(|error| StateError::Open(path.to_owned(), error))
}

/// Brings the tables to the format that this program knows.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Answer<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    match found {
        FORMAT => {}
        0..FORMAT => {
            for (format, tables) in [(1, TABLES), (2, PUSHES), (3, OPERATORS)] {
                if found < format {
                    transaction.execute_batch(tables)?;
                }
            }
            transaction.pragma_update(None, "user_version", FORMAT)?;
        }
        found => {
            return Err(StateError::Schema {
                path: path.to_owned(),
                found,
                known: FORMAT,
            });
        }
    }
    Ok(transaction.commit()?)
}
