//! What operators' programs ask about nodes.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use simulcast_protocol::install::NodeName;

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::routes::{Names, parse};
use super::super::versions::blocking;
use super::scope::Caller;
use crate::state::Unknown;
use crate::view::{self, NodeDetails, NodeRow};

/// Answer of `GET /v1/nodes`.
#[derive(Debug, Serialize)]
pub(super) struct Nodes {
    nodes: Vec<NodeRow>,
    /// Machines that no operator has adopted.
    unknown: Vec<Unknown>,
    /// What is wrong with the files of the inventory, when an older state of them is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    broken: Option<String>,
}

pub(super) async fn list(State(daemon): State<Arc<Daemon>>, caller: Caller) -> Result<Json<Nodes>, Refusal> {
    blocking(move || {
        let install = &daemon.install;
        let inventory = install.inventory.get();
        let mut nodes = view::rows(&inventory, &install.state)?;
        nodes.retain(|row| caller.sees_node(&row.name));
        let mut unknown = view::unknown(&inventory, &install.state)?;
        unknown.retain(|_| caller.sees_unknown());
        Ok(Json(Nodes {
            nodes,
            unknown,
            broken: install.inventory.broken(),
        }))
    })
    .await
}

pub(super) async fn show(
    State(daemon): State<Arc<Daemon>>,
    caller: Caller,
    names: Names<String>,
) -> Result<Json<NodeDetails>, Refusal> {
    let name: NodeName = parse(&names?.0)?;
    blocking(move || {
        let install = &daemon.install;
        let details = view::details(&install.inventory.get(), &install.state, &name)?;
        let missing = || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no node {name}"),
                "GET /v1/nodes lists what there is",
            )
        };
        // A node out of sight is as one that is not there.
        let details = details.filter(|_| caller.sees_node(&name));
        details.map(Json).ok_or_else(missing)
    })
    .await
}
