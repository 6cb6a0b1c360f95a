//! Orders: how they begin, what is reported of them, how they end.

use rusqlite::{Connection, OptionalExtension, params};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::limits::{
    DETAIL_BYTES, KEPT_EVENTS, LOG_BYTES, ORDERS_OF_A_NODE, STEP_BYTES,
};
use simulcast_protocol::install::{Event, NodeName, NodeState, What};
use simulcast_protocol::name::{ImageName, Version};

use super::access::{self, Ordered};
use super::record::{self, word};
use super::{Answer, Bearer, Durable, OrderResult, State};

/// Events beyond [`KEPT_EVENTS`] that are kept when they say how an order ended.
const LAST_WORDS: u32 = 16;

/// An order that is given out.
#[derive(Debug, Clone)]
pub(crate) struct NewOrder {
    pub(crate) number: u64,
    pub(crate) node: NodeName,
    pub(crate) image: ImageName,
    pub(crate) version: Version,
    pub(crate) manifest: ManifestId,
    /// As signed.
    pub(crate) bytes: Vec<u8>,
    /// Names of the files that it needs.
    pub(crate) files: Vec<String>,
}

/// What a token's order is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderOf {
    /// It was given out before: these bytes.
    Given(Vec<u8>),
    /// It is yet to be made, for a node in this state.
    Open(NodeState),
}

impl State {
    /// The order of who shows a token. A machine that was switched off while it carried one out goes on with that.
    ///
    /// # Errors
    /// [`super::StateError`].
    pub(crate) fn order_of(&self, bearer: &Bearer) -> Answer<OrderOf> {
        self.change(Durable::Soon, |transaction| {
            if let Some(bytes) = given(transaction, bearer)? {
                return Ok(OrderOf::Given(bytes));
            }
            let state = record::state(transaction, &bearer.node)?;
            if !matches!(state, NodeState::Installing | NodeState::Failed) {
                return Ok(OrderOf::Open(state));
            }
            let attempt: Option<(i64, u32)> = transaction
                .prepare_cached(
                    "UPDATE orders SET attempts = attempts + 1, latest = -1, step = NULL, done = 0, total = 0
                     WHERE number = (SELECT current FROM node WHERE name = ?1) AND (result IS NULL OR result = 'failed')
                     RETURNING number, attempts",
                )?
                .query_row([bearer.node.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((number, attempt)) = attempt else {
                return Ok(OrderOf::Open(state));
            };
            transaction
                .prepare_cached("UPDATE token SET number = ?2, attempt = ?3 WHERE hash = ?1")?
                .execute(params![bearer.hash.0, number, attempt])?;
            Ok(given(transaction, bearer)?.map_or(OrderOf::Open(state), OrderOf::Given))
        })
    }

    /// A number that no order has had.
    ///
    /// # Errors
    /// [`super::StateError`].
    pub(crate) fn next_order(&self) -> Answer<u64> {
        self.change(Durable::Soon, |transaction| {
            let number: i64 =
                transaction.query_row("UPDATE counter SET last = last + 1 RETURNING last", [], |row| {
                    row.get(0)
                })?;
            Ok(number.cast_unsigned())
        })
    }

    /// Gives an order to who shows a token, and returns its bytes: those of another one if it got that a moment ago.
    /// Orders of the node that have not ended are given up.
    ///
    /// # Errors
    /// [`super::StateError`].
    pub(crate) fn give(&self, bearer: &Bearer, order: NewOrder, now: i64) -> Answer<Vec<u8>> {
        self.change(Durable::Yes, |transaction| {
            if let Some(bytes) = given(transaction, bearer)? {
                return Ok(bytes);
            }
            let (node, number) = (order.node.as_str(), order.number.cast_signed());
            transaction
                .prepare_cached(
                    "UPDATE orders SET ended = ?2, result = 'given-up' WHERE node = ?1 AND result IS NULL",
                )?
                .execute(params![node, now])?;
            let files = serde_json::to_string(&order.files).expect("strings are JSON");
            transaction
                .prepare_cached(
                    "INSERT INTO orders (number, node, image, version, manifest, made, bytes, files)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                )?
                .execute(params![
                    number,
                    node,
                    order.image.as_str(),
                    order.version.0.get(),
                    order.manifest.to_string(),
                    now,
                    order.bytes,
                    files
                ])?;
            transaction
                .prepare_cached("UPDATE token SET number = ?2 WHERE hash = ?1")?
                .execute(params![bearer.hash.0, number])?;
            if record::state(transaction, &order.node)? == NodeState::Install {
                record::set(transaction, &order.node, NodeState::Installing, now)?;
            }
            transaction
                .prepare_cached("UPDATE node SET current = ?2 WHERE name = ?1")?
                .execute(params![node, number])?;
            forget_old(transaction, &order.node)?;
            Ok(order.bytes)
        })
    }

    /// Takes what is reported of an order. What was reported before counts once.
    ///
    /// # Errors
    /// [`super::StateError`]; then nothing was taken.
    pub(crate) fn report(&self, bearer: &Bearer, order: &Ordered, events: &[Event], now: i64) -> Answer<()> {
        let decides = |event: &Event| matches!(event.what, What::Failed | What::Finished | What::Up);
        let durable = if events.iter().any(decides) {
            Durable::Yes
        } else {
            Durable::Soon
        };
        self.change(durable, |transaction| {
            for event in events {
                match event.what {
                    What::Progress { done, total } => progress(transaction, order, event, done, total)?,
                    what => {
                        if keep(transaction, order, event, decides(event), now)? {
                            act(transaction, bearer, order, event, what, now)?;
                        }
                    }
                }
            }
            transaction
                .prepare_cached("UPDATE node SET heard = ?2 WHERE name = ?1")?
                .execute(params![bearer.node.as_str(), now])?;
            Ok(())
        })
    }

    /// Adds to the log of an order; what is more than a log may have is left out.
    ///
    /// # Errors
    /// [`super::StateError`].
    pub(crate) fn append_log(&self, order: u64, text: &str, now: i64) -> Answer<()> {
        self.change(Durable::Soon, |transaction| {
            let (number, max) = (order.cast_signed(), LOG_BYTES.cast_signed());
            let bytes: Option<i64> = transaction
                .prepare_cached("SELECT log_bytes FROM orders WHERE number = ?1")?
                .query_row([number], |row| row.get(0))
                .optional()?;
            let Some(room) = bytes.map(|bytes| max - bytes).filter(|&room| room > 0) else {
                return Ok(());
            };
            let mut text = text.replace('\0', "\u{fffd}");
            if text.len() as u64 > room.cast_unsigned() {
                cut(&mut text, usize::try_from(room).unwrap_or(0));
                text.push_str("\n[the log is longer than is kept]\n");
            }
            let added = i64::try_from(text.len()).unwrap_or(max);
            transaction
                .prepare_cached("INSERT INTO log (number, received, text) VALUES (?1, ?2, ?3)")?
                .execute(params![number, now, text])?;
            transaction
                .prepare_cached("UPDATE orders SET log_bytes = log_bytes + ?2 WHERE number = ?1")?
                .execute(params![number, added])?;
            Ok(())
        })
    }
}

/// The bytes of the order that a token has already.
fn given(connection: &Connection, bearer: &Bearer) -> Answer<Option<Vec<u8>>> {
    let bytes = connection
        .prepare_cached("SELECT bytes FROM token JOIN orders USING (number) WHERE hash = ?1")?
        .query_row(params![bearer.hash.0], |row| row.get(0))
        .optional()?;
    Ok(bytes)
}

/// How far a step has come; only the latest is kept.
fn progress(connection: &Connection, order: &Ordered, event: &Event, done: u64, total: u64) -> Answer<()> {
    let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    connection
        .prepare_cached(
            "UPDATE orders SET step = ?4, done = ?5, total = ?6, latest = ?3
             WHERE number = ?1 AND attempts = ?2 AND latest < ?3",
        )?
        .execute(params![
            order.number.cast_signed(),
            order.attempt,
            event.number,
            step(event),
            bytes(done),
            bytes(total)
        ])?;
    Ok(())
}

/// Keeps an event; whether it is new.
fn keep(connection: &Connection, order: &Ordered, event: &Event, decides: bool, now: i64) -> Answer<bool> {
    let number = order.number.cast_signed();
    let kept: u32 = connection
        .prepare_cached("SELECT events FROM orders WHERE number = ?1")?
        .query_row([number], |row| row.get(0))?;
    let most = if decides {
        KEPT_EVENTS + LAST_WORDS
    } else {
        KEPT_EVENTS
    };
    if kept >= most {
        return Ok(false);
    }
    let mut detail = event.detail.replace('\0', "\u{fffd}");
    cut(&mut detail, DETAIL_BYTES);
    let at = i64::try_from(event.at).unwrap_or(i64::MAX);
    let new = connection
        .prepare_cached(
            "INSERT INTO event (number, attempt, place, at, received, step, what, detail)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            number,
            order.attempt,
            event.number,
            at,
            now,
            step(event),
            word(event.what),
            detail
        ])?;
    connection
        .prepare_cached("UPDATE orders SET events = events + ?2 WHERE number = ?1")?
        .execute(params![number, new as i64])?;
    Ok(new == 1)
}

/// What follows from an event.
fn act(
    connection: &Connection,
    bearer: &Bearer,
    order: &Ordered,
    event: &Event,
    what: What,
    now: i64,
) -> Answer<()> {
    let (number, node) = (order.number.cast_signed(), &bearer.node);
    let end = |result: OrderResult| -> Answer<()> {
        connection
            .prepare_cached("UPDATE orders SET ended = ?2, result = ?3 WHERE number = ?1")?
            .execute(params![number, now, result.as_str()])?;
        connection
            .prepare_cached("UPDATE node SET current = ?2 WHERE name = ?1")?
            .execute(params![node.as_str(), number])?;
        Ok(())
    };
    // What the operator has decided meanwhile holds.
    let state = record::state(connection, node)?;
    let going_on = !bearer.ended && matches!(state, NodeState::Installing | NodeState::Failed);
    match what {
        What::Began => progress(connection, order, event, 0, 0)?,
        What::Finished if going_on => {
            end(OrderResult::Installed)?;
            record::set(connection, node, NodeState::Installed, now)?;
            access::end_tokens(connection, node, now)?;
        }
        What::Failed if going_on => {
            end(OrderResult::Failed)?;
            record::set(connection, node, NodeState::Failed, now)?;
        }
        What::Up => {
            connection
                .prepare_cached("UPDATE orders SET up = ?2 WHERE number = ?1")?
                .execute(params![number, now])?;
        }
        _ => {}
    }
    Ok(())
}

/// Forgets orders of a node beyond those that are kept.
fn forget_old(connection: &Connection, node: &NodeName) -> Answer<()> {
    let oldest: Option<i64> = connection
        .prepare_cached("SELECT number FROM orders WHERE node = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2")?
        .query_row(params![node.as_str(), ORDERS_OF_A_NODE], |row| row.get(0))
        .optional()?;
    let Some(oldest) = oldest else {
        return Ok(());
    };
    for table in ["event", "log", "orders"] {
        let change = format!(
            "DELETE FROM {table} WHERE number IN (SELECT number FROM orders WHERE node = ?1 AND number <= ?2)"
        );
        connection
            .prepare_cached(&change)?
            .execute(params![node.as_str(), oldest])?;
    }
    Ok(())
}

/// The name of an event's step, as far as one is long.
fn step(event: &Event) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.".contains(*c);
    event.step.chars().filter(plain).take(STEP_BYTES).collect()
}

/// Cuts a text at a character's border.
fn cut(text: &mut String, bytes: usize) {
    let mut at = bytes.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    text.truncate(at);
}
