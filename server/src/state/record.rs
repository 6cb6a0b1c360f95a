//! What is known of nodes and their installs, as it is listed and shown.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::Serialize;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::{NodeName, NodeState, What};
use simulcast_protocol::name::{ImageName, Version};

use super::{Answer, Durable, State, StateError};

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Record {
    pub(crate) state: NodeState,
    /// Since when, in seconds since 1970; `None` for a node of which nothing was ever noted.
    pub(crate) since: Option<i64>,
    /// Where it was heard from last.
    pub(crate) address: Option<String>,
    pub(crate) heard: Option<i64>,
    /// The order that it carries out, or carried out last.
    pub(crate) order: Option<OrderRecord>,
}

/// An order, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OrderRecord {
    pub(crate) number: u64,
    pub(crate) image: ImageName,
    pub(crate) version: Version,
    pub(crate) manifest: ManifestId,
    /// In seconds since 1970, as the others.
    pub(crate) made: i64,
    pub(crate) ended: Option<i64>,
    pub(crate) result: Option<Result>,
    /// When the installed system reported.
    pub(crate) up: Option<i64>,
    /// What is being done, or was done last.
    pub(crate) step: Option<String>,
    pub(crate) done_bytes: u64,
    pub(crate) total_bytes: u64,
    /// Boots of the machine in which it was carried out.
    pub(crate) attempts: u32,
}

/// How an order ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Result {
    Installed,
    Failed,
    /// Another order took its place: the machine booted again, or the operator wanted something else.
    GivenUp,
}

/// A step of an install, from what was reported of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Step {
    pub(crate) step: String,
    pub(crate) state: StepState,
    /// Milliseconds since the machine's kernel started.
    pub(crate) began: u64,
    pub(crate) ended: Option<u64>,
    pub(crate) retries: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) detail: String,
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum StepState {
    Running,
    Done,
    Failed,
}

impl Result {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Failed => "failed",
            Self::GivenUp => "given-up",
        }
    }

    fn parse(text: &str) -> Answer<Self> {
        let found = [Self::Installed, Self::Failed, Self::GivenUp]
            .into_iter()
            .find(|r| r.as_str() == text);
        found.ok_or_else(|| StateError::Text(text.to_owned(), "result of an order"))
    }
}

impl Record {
    /// A node of which nothing was ever noted.
    pub(crate) const fn unheard() -> Self {
        Self {
            state: NodeState::Local,
            since: None,
            address: None,
            heard: None,
            order: None,
        }
    }
}

impl OrderRecord {
    /// How far its present step has come, in per cent; `None` when it does not say.
    pub(crate) fn per_cent(&self) -> Option<u64> {
        let done = self.done_bytes.min(self.total_bytes);
        (u128::from(done) * 100)
            .checked_div(u128::from(self.total_bytes))
            .and_then(|part| u64::try_from(part).ok())
    }
}

impl State {
    /// What is known of one node.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn record(&self, node: &NodeName) -> Answer<Record> {
        self.ask(|connection| record(connection, node))
    }

    /// What is known of all nodes of which something was ever noted.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn records(&self) -> Answer<BTreeMap<NodeName, Record>> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(&format!("{NODES} ORDER BY node.name"))?;
            let mut rows = statement.query([])?;
            let mut records = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, record) = read(row)?;
                records.insert(name, record);
            }
            Ok(records)
        })
    }

    /// A number that is another one whenever somebody has changed something, and the states of all nodes of which something
    /// was ever noted; no states if the number is still `known`.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn states(&self, known: Option<i64>) -> Answer<(i64, Option<BTreeMap<NodeName, NodeState>>)> {
        self.ask(|connection| {
            let number: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
            if known == Some(number) {
                return Ok((number, None));
            }
            let mut statement = connection.prepare_cached("SELECT name, state FROM node")?;
            let mut rows = statement.query([])?;
            let mut states = BTreeMap::new();
            while let Some(row) = rows.next()? {
                let (name, state): (String, String) = (row.get(0)?, row.get(1)?);
                states.insert(parse(&name, "name of a node")?, parse(&state, "state of a node")?);
            }
            Ok((number, Some(states)))
        })
    }

    /// All orders of a node, newest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn orders(&self, node: &NodeName) -> Answer<Vec<OrderRecord>> {
        self.ask(|connection| {
            let question = format!("SELECT {ORDER} FROM orders WHERE node = ?1 ORDER BY number DESC");
            let mut statement = connection.prepare_cached(&question)?;
            let mut rows = statement.query([node.as_str()])?;
            let mut orders = Vec::new();
            while let Some(row) = rows.next()? {
                orders.push(read_order(row, 0)?);
            }
            Ok(orders)
        })
    }

    /// The steps of an order in the last boot of the machine, in the order in which they began.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn steps(&self, order: u64) -> Answer<Vec<Step>> {
        self.ask(|connection| {
            let question = "SELECT at, step, what, detail FROM event WHERE number = ?1
                AND attempt = (SELECT max(attempt) FROM event WHERE number = ?1) ORDER BY place";
            let mut statement = connection.prepare_cached(question)?;
            let mut rows = statement.query([order.cast_signed()])?;
            let mut steps: Vec<Step> = Vec::new();
            while let Some(row) = rows.next()? {
                let (at, step): (i64, String) = (row.get(0)?, row.get(1)?);
                let (what, detail): (String, String) = (row.get(2)?, row.get(3)?);
                note(&mut steps, at.cast_unsigned(), step, &what, detail);
            }
            Ok(steps)
        })
    }

    /// The log of an order; empty when there is none.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn log(&self, order: u64) -> Answer<String> {
        self.ask(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT text FROM log WHERE number = ?1 ORDER BY piece")?;
            let pieces = statement.query_map([order.cast_signed()], |row| row.get::<_, String>(0))?;
            let mut log = String::new();
            for piece in pieces {
                log.push_str(&piece?);
            }
            Ok(log)
        })
    }

    /// The operator decides what becomes of nodes. What they are doing at present loses its right to go on.
    ///
    /// # Errors
    /// [`StateError`]; then nothing was changed.
    pub(crate) fn decide<'a>(
        &self,
        nodes: impl IntoIterator<Item = &'a NodeName>,
        state: NodeState,
        now: i64,
    ) -> Answer<()> {
        self.change(Durable::Yes, |transaction| {
            for node in nodes {
                super::access::end_tokens(transaction, node, now)?;
                transaction
                    .prepare_cached(
                        "UPDATE orders SET ended = ?2, result = 'given-up' WHERE node = ?1 AND result IS NULL",
                    )?
                    .execute(params![node.as_str(), now])?;
                set(transaction, node, state, now)?;
            }
            Ok(())
        })
    }

    /// Forgets all that was noted of nodes.
    ///
    /// # Errors
    /// [`StateError`]; then nothing was changed.
    pub(crate) fn forget<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeName>) -> Answer<()> {
        self.change(Durable::Yes, |transaction| {
            for node in nodes {
                for table in ["event", "log"] {
                    let change = format!(
                        "DELETE FROM {table} WHERE number IN (SELECT number FROM orders WHERE node = ?1)"
                    );
                    transaction.prepare_cached(&change)?.execute([node.as_str()])?;
                }
                for (table, column) in [("orders", "node"), ("token", "node"), ("node", "name")] {
                    let change = format!("DELETE FROM {table} WHERE {column} = ?1");
                    transaction.prepare_cached(&change)?.execute([node.as_str()])?;
                }
            }
            Ok(())
        })
    }
}

/// Sets a node's state, whatever it was.
pub(super) fn set(connection: &Connection, node: &NodeName, state: NodeState, now: i64) -> Answer<()> {
    connection
        .prepare_cached(
            "INSERT INTO node (name, state, since) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET
                since = CASE WHEN state = excluded.state THEN since ELSE excluded.since END, state = excluded.state",
        )?
        .execute(params![node.as_str(), state.as_str(), now])?;
    Ok(())
}

/// What is known of a node, within a transaction or outside of one.
pub(super) fn record(connection: &Connection, node: &NodeName) -> Answer<Record> {
    let mut statement = connection.prepare_cached(&format!("{NODES} WHERE node.name = ?1"))?;
    let mut rows = statement.query([node.as_str()])?;
    match rows.next()? {
        Some(row) => Ok(read(row)?.1),
        None => Ok(Record::unheard()),
    }
}

/// A node's state.
pub(super) fn state(connection: &Connection, node: &NodeName) -> Answer<NodeState> {
    let text: Option<String> = connection
        .prepare_cached("SELECT state FROM node WHERE name = ?1")?
        .query_row([node.as_str()], |row| row.get(0))
        .optional()?;
    text.map_or(Ok(NodeState::Local), |text| parse(&text, "state of a node"))
}

pub(super) fn parse<T: std::str::FromStr>(text: &str, what: &'static str) -> Answer<T> {
    text.parse().map_err(|_| StateError::Text(text.to_owned(), what))
}

/// The columns of an order, as [`read_order`] takes them.
const ORDER: &str = "orders.number, orders.image, orders.version, orders.manifest, orders.made, orders.ended, \
    orders.result, orders.up, orders.step, orders.done, orders.total, orders.attempts";

/// The columns of a node, and those of its order behind.
const NODES: &str = "SELECT node.name, node.state, node.since, node.address, node.heard, orders.number, orders.image, \
    orders.version, orders.manifest, orders.made, orders.ended, orders.result, orders.up, orders.step, orders.done, \
    orders.total, orders.attempts FROM node LEFT JOIN orders ON orders.number = node.current";

fn read(row: &Row<'_>) -> Answer<(NodeName, Record)> {
    let (name, state): (String, String) = (row.get(0)?, row.get(1)?);
    let has_order = row.get::<_, Option<i64>>(5)?.is_some();
    let record = Record {
        state: parse(&state, "state of a node")?,
        since: row.get(2)?,
        address: row.get(3)?,
        heard: row.get(4)?,
        order: if has_order {
            Some(read_order(row, 5)?)
        } else {
            None
        },
    };
    Ok((parse(&name, "name of a node")?, record))
}

fn read_order(row: &Row<'_>, from: usize) -> Answer<OrderRecord> {
    let (image, version): (String, u32) = (row.get(from + 1)?, row.get(from + 2)?);
    let (manifest, result): (String, Option<String>) = (row.get(from + 3)?, row.get(from + 6)?);
    let number = |column: usize| row.get::<_, i64>(from + column).map(i64::cast_unsigned);
    Ok(OrderRecord {
        number: number(0)?,
        image: parse(&image, "name of an image")?,
        version: Version::new(version).ok_or_else(|| StateError::Text(version.to_string(), "version"))?,
        manifest: parse(&manifest, "identity of a version")?,
        made: row.get(from + 4)?,
        ended: row.get(from + 5)?,
        result: result.map(|result| Result::parse(&result)).transpose()?,
        up: row.get(from + 7)?,
        step: row.get(from + 8)?,
        done_bytes: number(9)?,
        total_bytes: number(10)?,
        attempts: row.get(from + 11)?,
    })
}

/// The word for what a step did.
pub(super) const fn word(what: What) -> &'static str {
    match what {
        What::Began => "began",
        What::Progress { .. } => "progress",
        What::Done => "done",
        What::Retrying => "retrying",
        What::Failed => "failed",
        What::Finished => "finished",
        What::Up => "up",
    }
}

/// Adds one event to the steps so far.
fn note(steps: &mut Vec<Step>, at: u64, step: String, what: &str, detail: String) {
    let running = |known: &&mut Step| known.step == step && known.state == StepState::Running;
    match (what, steps.iter_mut().rev().find(running)) {
        ("began", None) => steps.push(Step {
            step,
            state: StepState::Running,
            began: at,
            ended: None,
            retries: 0,
            detail,
        }),
        ("retrying", Some(known)) => (known.retries, known.detail) = (known.retries + 1, detail),
        ("done", Some(known)) => {
            (known.state, known.ended) = (StepState::Done, Some(at));
            if !detail.is_empty() {
                known.detail = detail;
            }
        }
        ("failed", Some(known)) => {
            (known.state, known.ended, known.detail) = (StepState::Failed, Some(at), detail);
        }
        _ => {}
    }
}
