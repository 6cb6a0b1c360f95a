//! Pushes: updates of many nodes, and what became of each of them.

use rusqlite::{Connection, OptionalExtension, Row, params};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageRef;

use super::record::parse;
use super::{Answer, Durable, State, StateError};
use crate::push::{Outcome, Ways};

/// Pushes that are kept.
const KEPT: u32 = 20;

/// An update of many nodes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Push {
    pub(crate) number: u64,
    /// The version, `NAME@V`.
    pub(crate) image: ImageRef,
    pub(crate) manifest: ManifestId,
    pub(crate) ways: Ways,
    /// In seconds since 1970.
    pub(crate) made: i64,
    /// When nothing was left to be done.
    pub(crate) ended: Option<i64>,
    /// The nodes in the order of their turns.
    pub(crate) nodes: Vec<(NodeName, Outcome)>,
}

impl State {
    /// Notes a new push of all `nodes`, which are pending; the oldest ones are forgotten. Returns its number.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn new_push(
        &self,
        image: &ImageRef,
        manifest: &ManifestId,
        ways: &Ways,
        nodes: &[NodeName],
        now: i64,
    ) -> Answer<u64> {
        let ways = serde_json::to_string(ways).expect("settings become JSON");
        let pending = serde_json::to_string(&Outcome::Pending).expect("an outcome becomes JSON");
        self.change(Durable::Yes, |transaction| {
            transaction.execute(
                "INSERT INTO push (image, manifest, ways, made) VALUES (?1, ?2, ?3, ?4)",
                params![image.to_string(), manifest.to_string(), ways, now],
            )?;
            let number = transaction.last_insert_rowid();
            for (place, node) in (0i64..).zip(nodes) {
                transaction
                    .prepare_cached(
                        "INSERT INTO push_node (number, node, place, outcome, at) VALUES (?1, ?2, ?3, ?4, ?5)",
                    )?
                    .execute(params![number, node.as_str(), place, pending, now])?;
            }
            for (table, column) in [("push_node", "number"), ("push", "number")] {
                let change = format!("DELETE FROM {table} WHERE {column} <= ?1");
                transaction.execute(&change, [number - i64::from(KEPT)])?;
            }
            Ok(number.unsigned_abs())
        })
    }

    /// Notes what became of nodes.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn push_outcomes<'a>(
        &self,
        number: u64,
        outcomes: impl IntoIterator<Item = (&'a NodeName, &'a Outcome)>,
        now: i64,
    ) -> Answer<()> {
        self.change(Durable::Yes, |transaction| {
            for (node, outcome) in outcomes {
                let outcome = serde_json::to_string(outcome).expect("an outcome becomes JSON");
                transaction
                    .prepare_cached(
                        "UPDATE push_node SET outcome = ?3, at = ?4 WHERE number = ?1 AND node = ?2",
                    )?
                    .execute(params![number.cast_signed(), node.as_str(), outcome, now])?;
            }
            Ok(())
        })
    }

    /// Notes that nothing is left to be done.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn end_push(&self, number: u64, now: i64) -> Answer<()> {
        self.change(Durable::Yes, |transaction| {
            transaction.execute(
                "UPDATE push SET ended = ?2 WHERE number = ?1",
                params![number.cast_signed(), now],
            )?;
            Ok(())
        })
    }

    /// The last push, with all its nodes.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn last_push(&self) -> Answer<Option<Push>> {
        self.ask(|connection| {
            let question =
                "SELECT number, image, manifest, ways, made, ended FROM push ORDER BY number DESC LIMIT 1";
            let found = connection
                .query_row(question, [], |row| Ok(push(row)))
                .optional()?;
            let Some(mut push) = found.transpose()? else {
                return Ok(None);
            };
            push.nodes = nodes(connection, push.number)?;
            Ok(Some(push))
        })
    }
}

fn push(row: &Row<'_>) -> Answer<Push> {
    let (image, manifest, ways): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(3)?);
    Ok(Push {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        image: parse(&image, "image")?,
        manifest: parse(&manifest, "identity of a version")?,
        ways: serde_json::from_str(&ways).map_err(|_| StateError::Text(ways, "way of updating nodes"))?,
        made: row.get(4)?,
        ended: row.get(5)?,
        nodes: Vec::new(),
    })
}

fn nodes(connection: &Connection, number: u64) -> Answer<Vec<(NodeName, Outcome)>> {
    let question = "SELECT node, outcome FROM push_node WHERE number = ?1 ORDER BY place";
    let mut statement = connection.prepare_cached(question)?;
    let mut rows = statement.query([number.cast_signed()])?;
    let mut nodes = Vec::new();
    while let Some(row) = rows.next()? {
        let (node, outcome): (String, String) = (row.get(0)?, row.get(1)?);
        let outcome =
            serde_json::from_str(&outcome).map_err(|_| StateError::Text(outcome, "outcome of an update"))?;
        nodes.push((parse(&node, "name of a node")?, outcome));
    }
    Ok(nodes)
}
