//! Machines that no operator has adopted: those that have said hello and are in no file.

use rusqlite::params;
use serde::Serialize;
use simulcast_protocol::install::limits::{DISKS, MACS, UNKNOWN, WORD_BYTES};
use simulcast_protocol::install::{Hello, Mac};

use super::record::parse;
use super::{Answer, Durable, State, StateError};

/// A machine that no operator has adopted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Unknown {
    pub(crate) mac: Mac,
    /// When it was first and last heard, in seconds since 1970.
    pub(crate) first: i64,
    pub(crate) last: i64,
    /// Where from.
    pub(crate) address: String,
    pub(crate) hello: Hello,
}

impl State {
    /// Remembers a machine; when there are too many, the one that was heard longest ago is forgotten.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn remember(&self, mut hello: Hello, address: &str, now: i64) -> Answer<()> {
        bound(&mut hello);
        let json = serde_json::to_string(&hello).expect("it came as JSON");
        self.change(Durable::Soon, |transaction| {
            transaction
                .prepare_cached(
                    "INSERT INTO unknown (mac, first, last, address, hello) VALUES (?1, ?2, ?2, ?3, ?4)
                     ON CONFLICT (mac) DO UPDATE SET
                        last = excluded.last, address = excluded.address, hello = excluded.hello",
                )?
                .execute(params![hello.boot.to_string(), now, address, json])?;
            transaction
                .prepare_cached(
                    "DELETE FROM unknown WHERE mac IN
                     (SELECT mac FROM unknown ORDER BY last DESC, first DESC LIMIT -1 OFFSET ?1)",
                )?
                .execute([UNKNOWN as i64])?;
            Ok(())
        })
    }

    /// Machines that no operator has adopted, those first that were first heard.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn unknown(&self) -> Answer<Vec<Unknown>> {
        self.ask(|connection| {
            let question = "SELECT mac, first, last, address, hello FROM unknown ORDER BY first, mac";
            let mut statement = connection.prepare_cached(question)?;
            let mut rows = statement.query([])?;
            let mut machines = Vec::new();
            while let Some(row) = rows.next()? {
                let (mac, hello): (String, String) = (row.get(0)?, row.get(4)?);
                machines.push(Unknown {
                    mac: parse(&mac, "address of a network card")?,
                    first: row.get(1)?,
                    last: row.get(2)?,
                    address: row.get(3)?,
                    hello: serde_json::from_str(&hello).map_err(|_| StateError::Text(hello, "hello"))?,
                });
            }
            Ok(machines)
        })
    }

    /// Forgets machines: they were adopted, or the operator does not want to see them.
    ///
    /// # Errors
    /// [`StateError`].
    pub(crate) fn forget_unknown(&self, macs: impl IntoIterator<Item = Mac>) -> Answer<()> {
        self.change(Durable::Yes, |transaction| {
            for mac in macs {
                transaction
                    .prepare_cached("DELETE FROM unknown WHERE mac = ?1")?
                    .execute([mac.to_string()])?;
            }
            Ok(())
        })
    }
}

/// Takes no more from a machine than one has, and nothing that a terminal would obey.
fn bound(hello: &mut Hello) {
    let word = |word: &mut String| {
        *word = word
            .chars()
            .filter(|c| !c.is_control())
            .take(WORD_BYTES)
            .collect();
    };
    hello.macs.truncate(MACS);
    hello.disks.truncate(DISKS);
    for disk in &mut hello.disks {
        [&mut disk.name, &mut disk.model, &mut disk.bus]
            .into_iter()
            .for_each(word);
    }
    let dmi = &mut hello.dmi;
    let words = [&mut dmi.vendor, &mut dmi.product, &mut dmi.serial, &mut dmi.uuid];
    words.into_iter().for_each(word);
    [&mut hello.firmware, &mut hello.architecture]
        .into_iter()
        .for_each(word);
}
