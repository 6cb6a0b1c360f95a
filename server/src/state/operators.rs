//! Operators other than the one who has the token of the state directory: their roles, what they see, and the hashes of
//! their tokens.

use std::fmt;
use std::str::FromStr;

use rusqlite::{OptionalExtension, Row, params};
use serde::Serialize;
use simulcast_protocol::name::ImageName;

use super::record::parse;
use super::{Answer, Durable, State, StateError, TokenHash};

/// Longest name of an operator in bytes.
const NAME_BYTES: usize = 32;

/// What an operator may do. Each role may what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Role {
    /// See nodes, images and sessions
    View,
    /// Have versions with their keys as well, and sessions that send them
    Operate,
    /// Everything
    Admin,
}

/// The name of an operator: 1 to 32 letters, digits, `.`, `_`, `-` or `@`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct OperatorName(String);

/// A text that names no operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an operator's name: use up to 32 letters, digits, '.', '_', '-' or '@'")]
pub(crate) struct ParseOperatorNameError(String);

/// What is known of an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct OperatorRecord {
    pub(crate) name: OperatorName,
    pub(crate) role: Role,
    /// The nodes that they see, as a text whose groups are looked up when it is used; all when there is none.
    pub(crate) nodes: Option<String>,
    /// The images that they see; all when there is none.
    pub(crate) images: Option<Vec<ImageName>>,
    /// Seconds since 1970, as `expires`.
    pub(crate) made: i64,
    /// From then on the token opens nothing.
    pub(crate) expires: Option<i64>,
}

impl Role {
    /// As files and answers write it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Admin => "admin",
        }
    }

    fn parse(text: &str) -> Answer<Self> {
        let mut all = [Self::View, Self::Operate, Self::Admin].into_iter();
        let found = all.find(|role| role.as_str() == text);
        found.ok_or_else(|| StateError::Text(text.to_owned(), "role"))
    }
}

impl FromStr for OperatorName {
    type Err = ParseOperatorNameError;

    fn from_str(text: &str) -> Result<Self, ParseOperatorNameError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_@".contains(c);
        if (1..=NAME_BYTES).contains(&text.len()) && text.chars().all(plain) {
            return Ok(Self(text.to_owned()));
        }
        Err(ParseOperatorNameError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for OperatorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const COLUMNS: &str = "SELECT name, role, nodes, images, made, expires FROM operator";

impl State {
    /// Adds an operator; `false` when there is one of that name, who stays as they are.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn add_operator(&self, operator: &OperatorRecord, token: TokenHash) -> Answer<bool> {
        let images = operator.images.as_ref();
        let images = images.map(|images| serde_json::to_string(images).expect("names are text"));
        self.change(Durable::Yes, |transaction| {
            let added = transaction.execute(
                "INSERT INTO operator (name, hash, role, nodes, images, made, expires)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (name) DO NOTHING",
                params![
                    operator.name.0,
                    token.0,
                    operator.role.as_str(),
                    operator.nodes,
                    images,
                    operator.made,
                    operator.expires
                ],
            )?;
            Ok(added == 1)
        })
    }

    /// Takes an operator's token away; `false` when there is none of that name.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn revoke_operator(&self, name: &OperatorName) -> Answer<bool> {
        self.change(Durable::Yes, |transaction| {
            Ok(transaction.execute("DELETE FROM operator WHERE name = ?1", [&name.0])? == 1)
        })
    }

    /// All operators by name, those whose token has expired as well.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn operators(&self) -> Answer<Vec<OperatorRecord>> {
        self.ask(|connection| {
            let mut statement = connection.prepare_cached(&format!("{COLUMNS} ORDER BY name"))?;
            let rows = statement.query_map([], columns)?;
            rows.map(|row| record(row?)).collect()
        })
    }

    /// The operator who shows a token; `None` when it is nobody's, or has expired.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn operator(&self, token: TokenHash, now: i64) -> Answer<Option<OperatorRecord>> {
        self.ask(|connection| {
            let question = format!("{COLUMNS} WHERE hash = ?1 AND (expires IS NULL OR expires > ?2)");
            let mut statement = connection.prepare_cached(&question)?;
            let found = statement.query_row(params![token.0, now], columns).optional()?;
            found.map(record).transpose()
        })
    }
}

/// An operator as the table has it.
type Columns = (String, String, Option<String>, Option<String>, i64, Option<i64>);

fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok((
        row.get(0)?,
        row.get(1)?,
        row.get(2)?,
        row.get(3)?,
        row.get(4)?,
        row.get(5)?,
    ))
}

fn record((name, role, nodes, images, made, expires): Columns) -> Answer<OperatorRecord> {
    let images = images.map(|text| {
        let names: Option<Vec<String>> = serde_json::from_str(&text).ok();
        let names = names.ok_or_else(|| StateError::Text(text, "list of images"))?;
        names.iter().map(|name| parse(name, "name of an image")).collect()
    });
    Ok(OperatorRecord {
        name: parse(&name, "name of an operator")?,
        role: Role::parse(&role)?,
        nodes,
        images: images.transpose()?,
        made,
        expires,
    })
}
