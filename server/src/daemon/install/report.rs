//! What an installing node asks for, and what it reports.

use std::fs::File;
use std::io::ErrorKind;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use simulcast_protocol::id::ContentId;
use simulcast_protocol::install::limits::{EVENTS, EVENTS_BYTES, LOG_PIECE_BYTES};
use simulcast_protocol::install::{Events, NodeState, What};

use super::super::Daemon;
use super::super::answer::{Refusal, chain};
use super::super::body::{Counted, FileBody};
use super::super::connection::Ends;
use super::super::routes::{Names, asked, body, parse};
use super::super::versions::blocking;
use super::scope::{Caller, foreign};
use crate::order::{self, MakeError, Place, Source};
use crate::state::{Bearer, NewOrder, OrderOf, Ordered};
use crate::text::now;

type Ours = State<Arc<Daemon>>;

/// The order of the node that asks. It is made when it is first asked for; asked for again, it is the same.
pub(super) async fn order(State(daemon): Ours, caller: Caller) -> Result<Response, Refusal> {
    let bearer = Arc::clone(caller.node()?);
    let before = {
        let (daemon, bearer) = (Arc::clone(&daemon), Arc::clone(&bearer));
        blocking(move || daemon.install.state.order_of(&bearer)).await?
    };
    let bytes = match before {
        OrderOf::Given(bytes) => bytes,
        OrderOf::Open(state) => daemon.make_order(bearer, state).await?,
    };
    let headers = [
        ("content-type", "application/octet-stream"),
        ("cache-control", "no-store"),
    ];
    Ok((headers, bytes).into_response())
}

impl Daemon {
    async fn make_order(self: &Arc<Self>, bearer: Arc<Bearer>, state: NodeState) -> Result<Vec<u8>, Refusal> {
        let node = bearer.node.clone();
        if matches!(state, NodeState::Installed | NodeState::Local) {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                format!("{node} is not to be installed: its state is {state}"),
                format!("on the image server, si-install {node} has it installed"),
            ));
        }
        let gone = || {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no node {node} any more"),
                "",
            )
        };
        let inventory = self.install.inventory.get();
        let effective = inventory.effective(&node).ok_or_else(gone)?;
        let served = self
            .version(order::wanted(&node, &effective)?.clone())
            .await
            .map_err(MakeError::Store)?;
        let daemon = Arc::clone(self);
        blocking(move || {
            let install = &daemon.install;
            let source = Source {
                image: served.image.clone(),
                version: served.version,
                manifest: served.id,
                machine: served.machine.clone(),
            };
            let place = Place {
                config: &install.config,
                extras: &install.extras,
            };
            let number = install.state.next_order()?;
            let order = order::make(number, &node, &effective, &source, place)?;
            let bytes = order::sign(&order, daemon.store.signing_key())?;
            tracing::info!(%node, order = number, image = %served.reference(), "a node gets its order");
            let new = NewOrder {
                number,
                files: order::files(&order),
                node: order.node,
                image: order.image,
                version: order.version,
                manifest: order.manifest,
                bytes,
            };
            Ok(install.state.give(&bearer, new, now())?)
        })
        .await
    }
}

/// Takes events of the node's own order. What came before counts once.
pub(super) async fn events(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    caller: Caller,
    request: Request,
) -> Result<(), Refusal> {
    let bearer = Arc::clone(caller.node()?);
    let events: Events = asked(request, EVENTS_BYTES, "no report of events").await?;
    if events.events.len() > EVENTS {
        return Err(Refusal::nonsense(format!("a report has at most {EVENTS} events")));
    }
    let order = own(&bearer)?.clone();
    if order.number != events.order {
        return Err(foreign());
    }
    blocking(move || {
        daemon
            .install
            .state
            .report(&bearer, &order, &events.events, now())?;
        let address = ends.peer.ip().to_canonical().to_string();
        daemon.install.state.is_at(&bearer.node, &address)?;
        tell(&bearer, &events);
        // It may restart at once.
        daemon.tell_booting();
        Ok(())
    })
    .await
}

/// One line in the log for what the operator wants to know.
fn tell(bearer: &Bearer, events: &Events) {
    let (node, order) = (&bearer.node, events.order);
    for event in &events.events {
        let (step, detail) = (event.step.escape_debug(), event.detail.escape_debug());
        match event.what {
            What::Failed => {
                tracing::error!(%node, order, %step, %detail, "an install failed; si-node log tells more")
            }
            What::Retrying => tracing::warn!(%node, order, %step, %detail, "a step is tried again"),
            What::Finished => tracing::info!(%node, order, "a node is installed"),
            What::Up => tracing::info!(%node, order, "an installed node is up"),
            What::Began | What::Done | What::Progress { .. } => {}
        }
    }
}

/// Adds to the log of the node's own order.
pub(super) async fn log(State(daemon): Ours, caller: Caller, request: Request) -> Result<(), Refusal> {
    let bearer = Arc::clone(caller.node()?);
    let text = body(request, LOG_PIECE_BYTES).await?;
    let number = own(&bearer)?.number;
    blocking(move || {
        let text = String::from_utf8_lossy(&text);
        Ok(daemon.install.state.append_log(number, &text, now())?)
    })
    .await
}

/// A file that the node's own order needs.
pub(super) async fn file(
    State(daemon): Ours,
    caller: Caller,
    names: Names<String>,
) -> Result<Response, Refusal> {
    let bearer = Arc::clone(caller.node()?);
    let Path(name) = names?;
    let hash: ContentId = parse(&name)?;
    if !own(&bearer)?.files.contains(&hash.to_string()) {
        return Err(foreign());
    }
    let path = daemon.install.extras.path(&hash);
    let opened = blocking(move || File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)))).await;
    let (len, file) = opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Refusal::new(
            StatusCode::NOT_FOUND,
            format!("file {hash} is not kept any more"),
            "si-install gives the node a new order",
        ),
        _ => Refusal::trouble(format!("cannot read file {hash}: {}", chain(&error))),
    })?;
    let body = FileBody::new(Arc::new(file), len, daemon, Counted::Nothing);
    Ok((
        [
            ("content-type", "application/octet-stream"),
            ("cache-control", "no-store"),
        ],
        Body::new(body),
    )
        .into_response())
}

/// The order that the node has got.
fn own(bearer: &Bearer) -> Result<&Ordered, Refusal> {
    bearer.order.as_ref().ok_or_else(|| {
        Refusal::new(
            StatusCode::CONFLICT,
            format!("{} has no order yet", bearer.node),
            "GET /v1/install/order gives it one",
        )
    })
}
