//! `GET /packs/{from}/{to}`: the update pack between two versions, made when it is first asked for.
//!
//! One is made at a time, on half of the processors. A request waits for a while; then the answer is 202, and the node asks
//! again or takes chunks of the version.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use simulcast_image::pack;
use simulcast_image::store::StoreError;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::units::Bytes;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::Daemon;
use super::answer::{Refusal, chain};
use super::body::{Counted, FileBody};
use super::install::scope::{Caller, foreign};
use super::routes::{Answer, Names, Ours, parse};
use super::versions::{ServedVersion, blocking};

/// How long a request waits for a pack that is being made: less than clients wait for an answer.
const WAIT: Duration = Duration::from_secs(15);

/// Packs that are being made or wait for their turn: more would only be a list of what nobody waits for any more.
const MAKING: usize = 16;

/// Turns at making one.
static TURNS: Semaphore = Semaphore::const_new(1);

/// From which version, or set of versions, to which.
type Way = (ManifestId, ManifestId);

/// What became of making one; `None` while it is being made. An error as text: several wait for it.
type Made = Option<Result<(), String>>;

/// The packs that are known or being made.
#[derive(Debug, Default)]
pub(super) struct Packs {
    /// The identity of each that was asked for.
    known: Mutex<BTreeMap<Way, ManifestId>>,
    making: Mutex<BTreeMap<Way, watch::Receiver<Made>>>,
}

/// Answers with the pack's list.
pub(super) async fn pack(
    State(daemon): Ours,
    caller: Caller,
    names: Names<(String, String)>,
) -> Answer<Response> {
    let Path((from, to)) = names?;
    let way = (parse(&from)?, parse(&to)?);
    // What a pack holds is content of the later version.
    if !daemon.opens(&caller, &way.1).await? {
        return Err(foreign());
    }
    let Some(served) = daemon.pack(way).await? else {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "making": true }))).into_response());
    };
    let headers = [
        ("content-type", "application/octet-stream"),
        // It holds keys.
        ("cache-control", "no-store"),
    ];
    let body = FileBody::new(Arc::clone(&served.file), served.len, daemon, Counted::Nothing);
    Ok((headers, Body::new(body)).into_response())
}

impl Daemon {
    /// The pack, once it is made; `None` while it is being made.
    async fn pack(self: &Arc<Self>, way: Way) -> Answer<Option<Arc<ServedVersion>>> {
        let known = self.packs.known().get(&way).copied();
        if let Some(served) = known.and_then(|id| self.versions.by_id(&id)) {
            return Ok(Some(served));
        }
        let daemon = Arc::clone(self);
        if let Some(served) = blocking(move || daemon.kept(way)).await? {
            return Ok(Some(served));
        }
        let mut made = self.make(way)?;
        let waited = timeout(WAIT, made.wait_for(Option::is_some)).await;
        match waited.map(|made| made.map(|made| made.clone())) {
            Err(_) => Ok(None),
            Ok(Ok(Some(Err(error)))) => Err(Refusal::trouble(error)),
            Ok(_) => {
                let daemon = Arc::clone(self);
                blocking(move || daemon.kept(way)).await.map_err(Refusal::from)
            }
        }
    }

    /// A pack that is in the store already. A damaged one is made again.
    pub(super) fn kept(&self, way: Way) -> Result<Option<Arc<ServedVersion>>, StoreError> {
        let (from, to) = way;
        if !self.store.pack_path(&from, &to).exists() {
            return Ok(None);
        }
        let Some(to) = self.store.find(&to)? else {
            return Ok(None);
        };
        let signed = match self.store.pack(&from, &to.signed) {
            Err(error @ StoreError::Pack { .. }) => {
                tracing::warn!(error = %chain(&error), "making it again");
                return Ok(None);
            }
            other => other?,
        };
        let Some(signed) = signed else { return Ok(None) };
        let served = self.versions.take_pack(&self.store, &signed, &to)?;
        if served.is_some() {
            let mut known = self.packs.known();
            known.retain(|_, id| self.versions.by_id(id).is_some());
            known.insert(way, signed.id);
        }
        Ok(served)
    }

    /// Has a pack made, unless that is being done.
    fn make(self: &Arc<Self>, way: Way) -> Answer<watch::Receiver<Made>> {
        let mut making = self.packs.making.lock().expect("no holder panics");
        if let Some(made) = making.get(&way) {
            return Ok(made.clone());
        }
        if making.len() >= MAKING {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                format!("{MAKING} update packs are being made or wait for it"),
                "take chunks of the version, or ask again later",
            ));
        }
        let (done, made) = watch::channel(None);
        making.insert(way, made.clone());
        let daemon = Arc::clone(self);
        tokio::spawn(async move {
            let turn = TURNS.acquire().await;
            let maker = Arc::clone(&daemon);
            let result = blocking(move || maker.make_now(way)).await;
            drop(turn);
            daemon.packs.making.lock().expect("no holder panics").remove(&way);
            done.send_replace(Some(result));
        });
        Ok(made)
    }

    fn make_now(&self, (from, to): Way) -> Result<(), String> {
        let find = |id: &ManifestId| {
            let found = self.store.find(id).map_err(|error| chain(&error))?;
            found.ok_or_else(|| format!("there is no version with the manifest {id}"))
        };
        let (from, to) = (find(&from)?, find(&to)?);
        let begun = Instant::now();
        let threads = std::thread::available_parallelism()
            .map_or(1, NonZero::get)
            .div_ceil(2);
        let made = pack::make(&self.store, &[&from.signed], &to.signed, threads);
        let (from, to, seconds) = (from.reference(), to.reference(), begun.elapsed().as_secs_f64());
        match made {
            Ok(made) => {
                let (records, borrowed) = (made.pack.record_count(), made.pack.borrowed.len());
                let bytes: u64 = made
                    .pack
                    .chunks
                    .iter()
                    .map(|chunk| u64::from(chunk.handle.stored_len))
                    .sum();
                let bytes = Bytes(bytes);
                tracing::info!(%from, %to, records, %bytes, borrowed, seconds, "made an update pack");
                Ok(())
            }
            Err(error) => {
                let error = chain(&error);
                tracing::error!(%from, %to, error, "cannot make an update pack");
                Err(error)
            }
        }
    }
}

impl Packs {
    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<Way, ManifestId>> {
        self.known.lock().expect("no holder panics")
    }
}
