//! A machine in the mini-kernel says what it is, and hears who it is.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use simulcast_protocol::api::Token;
use simulcast_protocol::install::limits::{AGAIN_SECONDS, HELLO_BYTES, MACS};
use simulcast_protocol::install::{Hello, NodeName, Welcome};

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::routes::asked;
use super::super::versions::blocking;
use crate::state::TokenHash;
use crate::text::now;

pub(super) async fn hello(
    State(daemon): State<Arc<Daemon>>,
    Extension(ends): Extension<Ends>,
    request: Request,
) -> Result<Json<Welcome>, Refusal> {
    daemon.counters.requests.add(1);
    if !daemon
        .install
        .limiter
        .allows_address(ends.peer.ip(), Instant::now())
    {
        return Err(too_often("too many machines say hello from this address"));
    }
    let hello: Hello = asked(request, HELLO_BYTES, "no hello").await?;
    blocking(move || daemon.welcome(hello, ends)).await.map(Json)
}

impl Daemon {
    /// What a machine that says hello hears.
    fn welcome(&self, hello: Hello, ends: Ends) -> Result<Welcome, Refusal> {
        let install = &self.install;
        let inventory = install.inventory.get();
        let address = ends.peer.ip().to_canonical().to_string();
        let cards = [hello.boot]
            .into_iter()
            .chain(hello.macs.iter().copied().take(MACS));
        let Some(node) = inventory.by_mac(cards) else {
            tracing::info!(mac = %hello.boot, address, "a machine that is not in the inventory");
            install.state.remember(hello, &address, now())?;
            return Ok(Welcome::Unknown { again: AGAIN_SECONDS });
        };
        self.welcome_node(node, &address)
    }

    fn welcome_node(&self, node: &NodeName, address: &str) -> Result<Welcome, Refusal> {
        if !self.install.limiter.allows_node(node, Instant::now()) {
            return Err(too_often(format!("{node} says hello too often")));
        }
        let token = Token::from_bytes(rand::random());
        let state = self
            .install
            .state
            .welcome(node, TokenHash::of(&token), address, now())?;
        tracing::info!(%node, %state, address, "a node is in the mini-kernel");
        Ok(Welcome::Node {
            name: node.clone(),
            token,
            action: state.action(),
        })
    }
}

fn too_often(error: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::TOO_MANY_REQUESTS, error, "try again in some seconds")
}
