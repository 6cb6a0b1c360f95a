//! `POST /manifests/{id}/files/{entry}/delta`: the deltas of a file that was changed on a node.
//!
//! The body is the signature of what the node has; the answer a sequence of (part number, length, compressed delta), the
//! numbers 32 bits, little-endian. Signatures are hostile input: their form is checked against the length that the node
//! names, and matching has a limit of processor time. One node at a time is served for each processor.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http_body::Frame;
use serde::Deserialize;
use simulcast_image::delta::Signature;
use simulcast_image::store::PartIndex;
use simulcast_image::update::{ROLLING_BYTES, rolling_deltas};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::PART_BYTES;
use simulcast_protocol::name::ImageRef;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;

use super::Daemon;
use super::answer::Refusal;
use super::install::scope::{Caller, foreign};
use super::versions::blocking;

/// Deltas that are made at a time.
const AT_ONCE: usize = 2;

/// Deltas that wait for the connection.
const QUEUED: usize = 4;

/// Bytes of a request: the signature of a file of [`ROLLING_BYTES`].
pub(super) const REQUEST_BYTES: usize = 1 << 20;

/// Nodes that wait for their turn, in front of the limit.
static TURNS: Semaphore = Semaphore::const_new(AT_ONCE);

#[derive(Debug, Deserialize)]
pub(super) struct Wanted {
    /// Length of what the node has.
    basis: u64,
    /// Numbers of the parts that it wants, separated by commas.
    parts: String,
}

/// Answers with the deltas.
pub(super) async fn deltas(
    State(daemon): State<Arc<Daemon>>,
    caller: Caller,
    Path((id, entry)): Path<(String, u32)>,
    Query(wanted): Query<Wanted>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let nonsense = |error: String| Refusal::nonsense(error);
    let id: ManifestId = id.parse().map_err(|error| nonsense(format!("{error}")))?;
    let parts = wanted
        .parts
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<u32>, _>>();
    let parts = parts.map_err(|_| nonsense("parts must be numbers separated by commas".to_owned()))?;
    let most = usize::try_from(ROLLING_BYTES).unwrap_or(usize::MAX) / PART_BYTES * 2;
    if wanted.basis > ROLLING_BYTES || parts.len() > most {
        return Err(nonsense(
            "the file is too large for deltas; fetch its chunks".to_owned(),
        ));
    }
    let signature =
        Signature::decode(body.to_vec(), wanted.basis).map_err(|error| nonsense(error.to_string()))?;
    if !daemon.opens(&caller, &id).await? {
        return Err(foreign());
    }
    let served = daemon.version_by_id(id).await?;
    let served = served.ok_or_else(|| nonsense(format!("there is no version with the manifest {id}")))?;
    let reference = ImageRef {
        name: served.image.clone(),
        version: Some(served.version),
    };
    let turn = TURNS
        .acquire()
        .await
        .map_err(|_| Refusal::trouble("the server is ending".to_owned()))?;
    let stored = {
        let daemon = Arc::clone(&daemon);
        blocking(move || daemon.store.load(&reference)).await?
    };
    let (send, receive) = mpsc::channel::<Bytes>(QUEUED);
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let manifest = &stored.signed.manifest;
        let index = PartIndex::new(manifest);
        let emit = |number: u32, delta: Vec<u8>| {
            let len = u32::try_from(delta.len()).expect("a delta is smaller than its part");
            let message = [&number.to_le_bytes()[..], &len.to_le_bytes()[..], &delta[..]].concat();
            // Nobody takes it any more when the node has hung up.
            send.blocking_send(message.into()).is_ok()
        };
        if let Err(error) = rolling_deltas(&daemon.store, manifest, &index, entry, &signature, &parts, emit) {
            tracing::warn!(image = %stored.reference(), entry, %error, "cannot make deltas");
        }
    });
    Ok(Body::new(Messages(receive)).into_response())
}

/// What a thread sends, as the body of an answer.
#[derive(Debug)]
struct Messages(mpsc::Receiver<Bytes>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(context)
            .map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}
