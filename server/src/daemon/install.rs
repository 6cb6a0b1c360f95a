//! Installing machines: who they are, what they are to do, what they report.
//!
//! `hello` needs no token: a machine that boots has none. Whoever is on the network of the nodes can say hello in the name
//! of one, so what a node's token opens is what an installing node needs and no more: its own order, its own files, the
//! manifest of its own version.

mod booting;
mod exclusions;
mod hello;
mod limiter;
mod nodes;
mod report;
pub(super) mod scope;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::routing::{get, post};
use simulcast_protocol::install::limits::{EVENTS_BYTES, HELLO_BYTES, LOG_PIECE_BYTES};

use super::Daemon;
use super::answer::{Refusal, chain};
use crate::exclusions::ListError;
use crate::extras::{ExtraError, Extras};
use crate::inventory::Watched;
use crate::order::MakeError;
use crate::state::{State, StateError};
use booting::Told;
use limiter::Limiter;

/// What is known of nodes, and what they are installed with.
#[derive(Debug)]
pub(super) struct Install {
    pub(super) inventory: Watched,
    pub(super) state: State,
    extras: Extras,
    config: PathBuf,
    limiter: Limiter,
    told: Told,
}

impl Install {
    /// Reads the inventory below `config` and opens the state below `state`.
    ///
    /// # Errors
    /// When the state cannot be opened. A broken inventory is only complained of.
    pub(super) fn open(config: &Path, state: &Path) -> Result<Self> {
        let extras = Extras::new(state);
        extras.collect();
        Ok(Self {
            inventory: Watched::new(config),
            state: State::open(state)?,
            extras,
            config: config.to_owned(),
            limiter: Limiter::default(),
            told: Told::default(),
        })
    }
}

/// Routes that need no token.
pub(super) fn open_routes() -> Router<Arc<Daemon>> {
    Router::new().route(
        "/install/hello",
        post(hello::hello).layer(DefaultBodyLimit::max(HELLO_BYTES)),
    )
}

/// Routes that need one: a node's, or an operator's.
pub(super) fn routes() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/install/order", get(report::order))
        .route(
            "/install/events",
            post(report::events).layer(DefaultBodyLimit::max(EVENTS_BYTES)),
        )
        .route(
            "/install/log",
            post(report::log).layer(DefaultBodyLimit::max(LOG_PIECE_BYTES)),
        )
        .route("/install/files/{name}", get(report::file))
        .route("/exclusions/{image}", get(exclusions::exclusions))
        .route("/scripts/update", get(exclusions::scripts))
        .route("/nodes", get(nodes::list))
        .route("/nodes/{name}", get(nodes::show))
}

impl From<StateError> for Refusal {
    fn from(error: StateError) -> Self {
        let text = chain(&error);
        tracing::error!(error = %text, "the state of nodes failed");
        Self::trouble(text)
    }
}

impl From<ListError> for Refusal {
    fn from(error: ListError) -> Self {
        let text = chain(&error);
        tracing::error!(error = %text, "an exclusion list cannot be used");
        Self::new(
            StatusCode::CONFLICT,
            text,
            "mend the list on the image server; nothing is updated without it",
        )
    }
}

impl From<ExtraError> for Refusal {
    fn from(error: ExtraError) -> Self {
        let text = chain(&error);
        tracing::error!(error = %text, "the scripts of updates cannot be used");
        Self::new(
            StatusCode::CONFLICT,
            text,
            "mend it on the image server; nothing is updated without it",
        )
    }
}

impl From<MakeError> for Refusal {
    fn from(error: MakeError) -> Self {
        let (text, hint) = (chain(&error), error.hint());
        tracing::error!(error = %text, hint, "cannot make the order of a node");
        Self::new(StatusCode::CONFLICT, text, hint)
    }
}
