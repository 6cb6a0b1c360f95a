//! Tokens of nodes. A token is known by its hash alone; it belongs to one node and, once that has asked for it, to one
//! order. When an install has ended, its tokens may report for another month: a report whose answer was lost comes
//! again, and the installed system says that it is up, also one that was switched off first.

use rusqlite::{Connection, OptionalExtension, params};
use simulcast_protocol::api::Token;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::{NodeName, NodeState};
use simulcast_protocol::name::{ImageName, Version};

use super::record::{parse, state};
use super::{Answer, Durable, State, StateError};

/// Tokens of a node that hold at a time. More than one: whoever says hello in a node's name, as everybody on its
/// network can, does not take away the right of the node itself to go on.
const AT_A_TIME: u32 = 4;

/// Seconds that a token may report after its install has ended: a node may be switched off then, and used later.
pub(super) const REPORTING: i64 = 30 * 24 * 3600;

/// What a token is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TokenHash(pub(super) [u8; 32]);

impl TokenHash {
    /// That of a token.
    pub(crate) fn of(token: &Token) -> Self {
        Self(*blake3::hash(token.reveal().as_bytes()).as_bytes())
    }
}

/// Who shows a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) hash: TokenHash,
    pub(crate) node: NodeName,
    /// Its order, once it has asked for it.
    pub(crate) order: Option<Ordered>,
    /// Whether its install has ended, so that it may report and nothing else.
    pub(crate) ended: bool,
}

/// The order that a token belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ordered {
    pub(crate) number: u64,
    /// Which boot of the machine this is that carries it out, from 1.
    pub(crate) attempt: u32,
    pub(crate) image: ImageName,
    pub(crate) version: Version,
    pub(crate) manifest: ManifestId,
    /// Names of the files that it needs.
    pub(crate) files: Vec<String>,
}

impl State {
    /// A node has said hello from `address`: remembers its token, and says what it should do.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn welcome(
        &self,
        node: &NodeName,
        token: TokenHash,
        address: &str,
        now: i64,
    ) -> Answer<NodeState> {
        self.change(Durable::Soon, |transaction| {
            let execute = |change: &str, values: &[&dyn rusqlite::ToSql]| -> Answer<usize> {
                Ok(transaction.prepare_cached(change)?.execute(values)?)
            };
            execute("DELETE FROM token WHERE ended < ?1", &[&(now - REPORTING)])?;
            execute(
                "INSERT INTO token (hash, node, made) VALUES (?1, ?2, ?3)",
                &[&token.0, &node.as_str(), &now],
            )?;
            execute(
                "DELETE FROM token WHERE ended IS NULL AND node = ?1 AND hash NOT IN
                 (SELECT hash FROM token WHERE node = ?1 AND ended IS NULL ORDER BY made DESC, hash = ?3 DESC LIMIT ?2)",
                &[&node.as_str(), &AT_A_TIME, &token.0],
            )?;
            execute(
                "INSERT INTO node (name, state, since, address, heard) VALUES (?1, 'local', ?3, ?2, ?3)
                 ON CONFLICT (name) DO UPDATE SET address = excluded.address, heard = excluded.heard",
                &[&node.as_str(), &address, &now],
            )?;
            state(transaction, node)
        })
    }

    /// Who shows a token; `None` when nobody has it any more.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn bearer(&self, hash: TokenHash, now: i64) -> Answer<Option<Bearer>> {
        self.ask(|connection| {
            let found = connection
                .prepare_cached(
                    "SELECT token.node, token.ended, orders.number, token.attempt, orders.image, orders.version,
                        orders.manifest, orders.files FROM token LEFT JOIN orders ON orders.number = token.number
                     WHERE hash = ?1 AND (token.ended IS NULL OR token.ended >= ?2)",
                )?
                .query_row(params![hash.0, now - REPORTING], |row| {
                    let order: Option<i64> = row.get(2)?;
                    let order = match order {
                        Some(number) => Some(Columns {
                            number,
                            attempt: row.get(3)?,
                            image: row.get(4)?,
                            version: row.get(5)?,
                            manifest: row.get(6)?,
                            files: row.get(7)?,
                        }),
                        None => None,
                    };
                    Ok((row.get::<_, String>(0)?, row.get::<_, Option<i64>>(1)?, order))
                })
                .optional()?;
            let Some((node, ended, order)) = found else {
                return Ok(None);
            };
            Ok(Some(Bearer {
                hash,
                node: parse(&node, "name of a node")?,
                order: order.map(ordered).transpose()?,
                ended: ended.is_some(),
            }))
        })
    }
}

/// An order as the tables have it.
struct Columns {
    number: i64,
    attempt: u32,
    image: String,
    version: u32,
    manifest: String,
    files: String,
}

fn ordered(row: Columns) -> Answer<Ordered> {
    let version = Version::new(row.version);
    Ok(Ordered {
        number: row.number.cast_unsigned(),
        attempt: row.attempt,
        image: parse(&row.image, "name of an image")?,
        version: version.ok_or_else(|| StateError::Text(row.version.to_string(), "version"))?,
        manifest: parse(&row.manifest, "identity of a version")?,
        files: serde_json::from_str(&row.files).map_err(|_| StateError::Text(row.files, "list of files"))?,
    })
}

/// The install of a node has ended: its tokens may only report.
pub(super) fn end_tokens(connection: &Connection, node: &NodeName, now: i64) -> Answer<()> {
    connection
        .prepare_cached("UPDATE token SET ended = ?2 WHERE node = ?1 AND ended IS NULL")?
        .execute(params![node.as_str(), now])?;
    Ok(())
}
