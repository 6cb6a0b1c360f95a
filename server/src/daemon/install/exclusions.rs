//! What a node is told for an update: `GET /exclusions/IMAGE?node=NAME`, what it is to leave alone, and
//! `GET /scripts/update`, what it is to run.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use serde::Deserialize;
use simulcast_protocol::exclusion::{NodeLists, UpdateScripts};
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageName;

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::routes::{Names, parse};
use super::super::versions::blocking;
use super::scope::{Caller, foreign};
use crate::exclusions::of_node;
use crate::extras::script_texts;

/// Whom the lists are for.
#[derive(Debug, Deserialize)]
pub(super) struct For {
    node: Option<NodeName>,
}

pub(super) async fn exclusions(
    State(daemon): State<Arc<Daemon>>,
    caller: Caller,
    names: Names<String>,
    asked: Result<Query<For>, QueryRejection>,
) -> Result<Json<NodeLists>, Refusal> {
    let Path(image) = names?;
    let image: ImageName = parse(&image)?;
    let Query(asked) = asked.map_err(|error| Refusal::nonsense(error.body_text()))?;
    if asked.node.as_ref().is_some_and(|node| !caller.sees_node(node)) {
        return Err(foreign());
    }
    let lists = blocking(move || {
        let install = &daemon.install;
        of_node(
            &install.config,
            &install.inventory.get(),
            &image,
            asked.node.as_ref(),
        )
    });
    Ok(Json(lists.await?))
}

pub(super) async fn scripts(State(daemon): State<Arc<Daemon>>) -> Result<Json<UpdateScripts>, Refusal> {
    let scripts = blocking(move || {
        let of = |name| script_texts(&daemon.install.config.join("scripts").join(name));
        Ok::<_, Refusal>(UpdateScripts {
            pre: of("pre-update.d")?,
            post: of("post-update.d")?,
        })
    });
    Ok(Json(scripts.await?))
}
