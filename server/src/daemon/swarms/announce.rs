//! How our own nodes take part: they say how they stand, and get the hashes of the pieces with our signature.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use simulcast_protocol::api::{REQUEST_BYTES, SwarmAnswer, SwarmRequest};
use simulcast_protocol::bittorrent::Mark;
use simulcast_protocol::id::ManifestId;

use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::install::scope::{Caller, foreign};
use super::super::routes::{Answer, Names, Ours, asked, parse};

/// How often a node says how it stands. A thousand nodes are 200 small requests in a second.
const INTERVAL: u32 = 5;

/// How long it is believed to be there when it says nothing.
const LASTS: Duration = Duration::from_secs(20);

/// `POST /v1/swarm`.
pub(in super::super) async fn announce(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    caller: Caller,
    request: Request,
) -> Answer<Json<SwarmAnswer>> {
    let said: SwarmRequest = asked(request, REQUEST_BYTES, "no announce").await?;
    if !daemon.opens(&caller, &said.manifest).await? {
        return Err(foreign());
    }
    if said.port == 0 {
        return Err(Refusal::nonsense("no peer listens on port 0"));
    }
    let swarm = daemon.swarm(said.manifest).await?;
    // Where a node is nobody tells but the connection that it speaks on.
    let address = SocketAddr::new(ends.peer.ip().to_canonical(), said.port);
    let local = ends.local.ip().to_canonical();
    if said.gone {
        swarm.tracker().gone(address.ip());
        return Ok(Json(SwarmAnswer {
            peers: Vec::new(),
            seed: None,
            incomplete: swarm.tracker().counts().1,
            interval: INTERVAL,
        }));
    }
    let told = swarm.announced(
        Mark {
            address,
            lacks: said.lacks,
            stalled: said.stalled,
            relay: said.relay,
            lasts: LASTS,
        },
        local,
    );
    let seed = SocketAddr::new(local, daemon.swarms.hub()?.port());
    Ok(Json(SwarmAnswer {
        peers: told.peers,
        seed: (told.seed && said.lacks).then_some(seed),
        incomplete: told.incomplete,
        interval: INTERVAL,
    }))
}

/// `GET /v1/manifests/ID/pieces`: a signature, and 20 bytes for every piece.
pub(in super::super) async fn pieces(
    State(daemon): Ours,
    caller: Caller,
    names: Names<String>,
) -> Answer<Response> {
    let id: ManifestId = parse(&names?.0)?;
    if !daemon.opens(&caller, &id).await? {
        return Err(foreign());
    }
    let swarm = daemon.swarm(id).await?;
    let body = [&swarm.signature[..], swarm.torrent.hashes.bytes()].concat();
    Ok(([("content-type", "application/octet-stream")], body).into_response())
}
