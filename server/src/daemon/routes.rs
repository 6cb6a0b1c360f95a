//! The interface, version 1: which path does what. The bodies are those of `simulcast_protocol::api`.

use std::fs::File;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::rejection::PathRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::de::DeserializeOwned;
use simulcast_image::store::StoreError;
use simulcast_protocol::api::{
    Image, Images, Key, MANIFEST_HEADER, REQUEST_BYTES, ROOT, SessionRequest, Status, VERSION_HEADER,
};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::CHUNK_STORED_BYTES;
use simulcast_protocol::multicast::probe::{Counts, ProbeOffer, ProbeRequest, ServerSide};
use simulcast_protocol::name::{ImageName, ImageRef, Version};
use tokio::time::timeout;

use super::Daemon;
use super::answer::Refusal;
use super::body::{Counted, FileBody};
use super::connection::Ends;
use super::install::scope::{Caller, foreign};
use super::versions::blocking;
use super::{boot, deltas, install, metrics, packs, probes, swarms};

/// Time for the body of a request to come.
const BODY: Duration = Duration::from_secs(10);

pub(super) type Answer<T> = Result<T, Refusal>;
pub(super) type Ours = State<Arc<Daemon>>;
pub(super) type Names<T> = Result<Path<T>, PathRejection>;

/// All routes. Each needs a token, but for those of boot loaders, and of machines that have none yet.
pub(super) fn router(daemon: Arc<Daemon>) -> Router {
    let routes = Router::new()
        .route("/key", get(key))
        .route("/status", get(status))
        .route("/metrics", get(metrics::metrics))
        .route("/targets", get(metrics::targets))
        .route("/images", get(images))
        .route("/images/{name}", get(image))
        .route("/images/{name}/{version}/manifest", get(manifest))
        .route("/chunks/{id}", get(chunk))
        .route("/packs/{from}/{to}", get(packs::pack))
        .route("/sessions", post(session))
        .route("/probes", post(probe))
        .route(
            "/probes/{probe}/counts",
            post(probed).layer(DefaultBodyLimit::max(probes::COUNTS_BYTES)),
        )
        .route(
            "/manifests/{id}/files/{entry}/delta",
            post(deltas::deltas).layer(DefaultBodyLimit::max(deltas::REQUEST_BYTES)),
        )
        .merge(swarms::routes())
        .merge(install::routes());
    let closed = Router::new()
        .nest(ROOT, routes)
        .fallback(async || Refusal::new(StatusCode::NOT_FOUND, "there is no such path", ""))
        .method_not_allowed_fallback(async || {
            Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not do that", "")
        })
        .layer(from_fn_with_state(Arc::clone(&daemon), authorised));
    let booting = boot::router().layer(from_fn_with_state(Arc::clone(&daemon), told));
    let open = Router::new()
        .nest(ROOT, install::open_routes())
        .merge(swarms::open_routes())
        .merge(booting);
    open.merge(closed).with_state(daemon)
}

/// Has boot loaders answered by what is so now: an operator who has just said what a node is to do may have switched it on.
async fn told(State(daemon): Ours, request: Request, next: Next) -> Response {
    blocking(move || daemon.tell_booting()).await;
    next.run(request).await
}

/// Lets only requests with a token through that opens what they ask for.
async fn authorised(State(daemon): Ours, mut request: Request, next: Next) -> Response {
    daemon.counters.requests.add(1);
    let header = request.headers().get(header::AUTHORIZATION).cloned();
    let caller = match &header {
        Some(value) => daemon.caller(value.as_bytes()).await,
        None => Ok(None),
    };
    let error = match caller {
        Ok(Some(caller)) if caller.may(request.method(), request.uri().path()) => {
            request.extensions_mut().insert(caller);
            return next.run(request).await;
        }
        Ok(Some(_)) => return foreign().into_response(),
        Err(refusal) => return refusal.into_response(),
        Ok(None) if header.is_some() => "the token is wrong",
        Ok(None) => "a token is needed",
    };
    let hint =
        "send Authorization: Bearer TOKEN with the token in keys/token of the server's state directory";
    Refusal::new(StatusCode::UNAUTHORIZED, error, hint).into_response()
}

async fn key(State(daemon): Ours) -> Json<Key> {
    let key = daemon.store.verifying_key().to_string();
    Json(Key { key })
}

async fn status(State(daemon): Ours, caller: Caller) -> Json<Status> {
    Json(status_for(&daemon, &caller))
}

/// What the server does, as far as the caller sees the images that it sends.
pub(super) fn status_for(daemon: &Daemon, caller: &Caller) -> Status {
    let sees = |reference: &str| {
        let reference = reference.parse::<ImageRef>();
        reference.is_ok_and(|reference| caller.sees_image(&reference.name))
    };
    let (mut sessions, mut swarms) = (daemon.sessions.status(), daemon.swarms.status());
    sessions.retain(|session| sees(&session.image));
    swarms.retain(|swarm| sees(&swarm.image));
    let counters = &daemon.counters;
    Status {
        software: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_seconds: daemon.started.elapsed().as_secs(),
        requests: counters.requests.get(),
        http_chunks: counters.http_chunks.get(),
        http_bytes: counters.http_bytes.get(),
        sessions_ended: counters.sessions_ended.get(),
        multicast_bytes_ended: counters.multicast_bytes_ended.get(),
        sessions,
        swarm_bytes_ended: daemon.swarms.bytes_ended(),
        swarms,
    }
}

async fn images(State(daemon): Ours, caller: Caller) -> Answer<Json<Images>> {
    let mut images = blocking(move || daemon.store.images()).await?;
    images.retain(|summary| caller.sees_image(&summary.name));
    let image = |summary: simulcast_image::store::ImageSummary| Image {
        name: summary.name,
        versions: summary.versions,
    };
    Ok(Json(Images {
        images: images.into_iter().map(image).collect(),
    }))
}

async fn image(State(daemon): Ours, names: Names<String>) -> Answer<Json<Image>> {
    let name: ImageName = parse(&names?.0)?;
    let versions = {
        let name = name.clone();
        blocking(move || daemon.store.versions(&name)).await?
    };
    if versions.is_empty() {
        return Err(StoreError::NoImage(name).into());
    }
    Ok(Json(Image { name, versions }))
}

async fn manifest(State(daemon): Ours, names: Names<(String, String)>) -> Answer<Response> {
    let Path((name, version)) = names?;
    let version = match version.as_str() {
        "latest" => None,
        number => Some(parse::<Version>(number)?),
    };
    let name = parse(&name)?;
    let served = daemon.version(ImageRef { name, version }).await?;
    let headers = [
        (VERSION_HEADER, served.version.to_string()),
        (MANIFEST_HEADER, served.id.to_string()),
        ("content-type", "application/octet-stream".to_owned()),
        // `latest` moves on, and the bytes hold keys.
        ("cache-control", "no-store".to_owned()),
    ];
    let body = FileBody::new(Arc::clone(&served.file), served.len, daemon, Counted::Nothing);
    Ok((headers, Body::new(body)).into_response())
}

async fn chunk(State(daemon): Ours, names: Names<String>) -> Answer<Response> {
    let id: ChunkId = parse(&names?.0)?;
    daemon.versions.chunk_asked(&id);
    let path = daemon.store.chunks().path(&id);
    let opened = blocking(move || File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)))).await;
    let (len, file) = match opened {
        Ok(opened) => opened,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::ChunkMissing(id).into());
        }
        Err(source) => {
            let path = daemon.store.chunks().path(&id);
            return Err(StoreError::Read { path, source }.into());
        }
    };
    if len > CHUNK_STORED_BYTES as u64 {
        return Err(Refusal::trouble(format!(
            "chunk {id} is longer than a chunk can be: {len} bytes"
        )));
    }
    let headers = [
        ("content-type", "application/octet-stream".to_owned()),
        ("etag", format!("\"{id}\"")),
        // The name is the hash of the bytes, which are ciphertext: any cache may keep them for ever.
        ("cache-control", "public, max-age=31536000, immutable".to_owned()),
    ];
    let body = FileBody::new(Arc::new(file), len, daemon, Counted::Chunk);
    Ok((headers, Body::new(body)).into_response())
}

async fn session(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    caller: Caller,
    request: Request,
) -> Answer<Json<SessionOffer>> {
    let request: SessionRequest = asked(request, REQUEST_BYTES, "no request for a session").await?;
    if !daemon.opens(&caller, &request.manifest).await? {
        return Err(foreign());
    }
    daemon.offer(&request, ends).await.map(Json)
}

async fn probe(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    request: Request,
) -> Answer<Json<ProbeOffer>> {
    let asked: ProbeRequest = asked(request, REQUEST_BYTES, "no request for a probe").await?;
    blocking(move || daemon.probe(asked, ends)).await.map(Json)
}

async fn probed(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    names: Names<String>,
    request: Request,
) -> Answer<Json<ServerSide>> {
    let probe = parse(&names?.0)?;
    let counts: Counts = asked(request, probes::COUNTS_BYTES, "no result of a probe").await?;
    blocking(move || daemon.probed(probe, counts, ends))
        .await
        .map(Json)
}

/// The body of a request as JSON, which must come soon and be of at most `bytes`.
pub(super) async fn asked<T: DeserializeOwned>(request: Request, bytes: usize, wrong: &str) -> Answer<T> {
    let body = body(request, bytes).await?;
    serde_json::from_slice(&body).map_err(|error| Refusal::nonsense(format!("the body is {wrong}: {error}")))
}

/// The body of a request, which must come soon and be of at most `bytes`.
pub(super) async fn body(request: Request, bytes: usize) -> Answer<Bytes> {
    let body = timeout(BODY, to_bytes(request.into_body(), bytes)).await;
    body.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the body of the request did not come",
            "",
        )
    })?
    .map_err(|error| Refusal::nonsense(format!("the body cannot be read: {error}")))
}

/// What a part of a path means. Names and identities are types that nothing else can be built as, so that no path leads
/// out of the store.
pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(text: &str) -> Answer<T> {
    text.parse()
        .map_err(|error: T::Err| Refusal::nonsense(error.to_string()))
}

impl From<PathRejection> for Refusal {
    fn from(rejection: PathRejection) -> Self {
        Self::nonsense(rejection.body_text())
    }
}
