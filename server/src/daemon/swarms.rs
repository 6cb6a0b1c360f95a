//! Swarms: for each version that nodes want by BitTorrent a tracker, and a seed that reads the chunk store.
//!
//! The tracker says who is told of whom (`protocol/src/bittorrent/tracker.rs`); our nodes announce themselves with their
//! token ([`announce`]), standard clients with the pass in the URL of their torrent ([`standard`]). A swarm is forgotten
//! when nobody has taken part for a while, and begins anew with the next announce, also of a server that was started
//! again.

mod announce;
mod source;
mod standard;
mod web_seed;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use axum::http::StatusCode;
use axum::routing::{get, post};
use crossbeam_channel::unbounded;
use simulcast_image::store::StoreError;
use simulcast_protocol::api::SwarmStatus;
use simulcast_protocol::bittorrent::{
    Bounds, InfoHash, InfoHashes, Introduction, Mark, Pieces, Role, Tracker,
};
use simulcast_protocol::bittorrent::{TrackerBounds, info_of};
use simulcast_protocol::id::ManifestId;
use simulcast_transport::bittorrent::{Hub, HubConfig, Membership, Torrent};

use super::Daemon;
use super::answer::Refusal;
use super::settings::Bittorrent;
use super::versions::{ServedVersion, blocking};
use source::Source;

pub(super) use standard::routes as open_routes;

/// How long a swarm stays without anybody in it.
const KEPT: Duration = Duration::from_secs(60);

/// Swarms at a time: each is a list of machines, and hashes of 20 bytes for 256 KiB of its version.
const SWARMS: usize = 64;

/// The swarms, and the thread that seeds.
#[derive(Debug)]
pub(super) struct Swarms {
    settings: Bittorrent,
    hub: Option<Hub>,
    running: Mutex<BTreeMap<ManifestId, Arc<Swarm>>>,
    /// Held while one begins: a thousand nodes that ask at once cost one reading of hashes.
    beginning: tokio::sync::Mutex<()>,
    bytes_ended: super::counters::Counter,
}

/// One swarm.
#[derive(Debug)]
pub(super) struct Swarm {
    served: Arc<ServedVersion>,
    torrent: Torrent,
    /// The info dictionary.
    info: Vec<u8>,
    signature: [u8; 64],
    membership: Membership,
    tracker: Mutex<Tracker>,
    used: Mutex<Instant>,
}

/// Routes that need a token.
pub(super) fn routes() -> axum::Router<Arc<Daemon>> {
    axum::Router::new()
        .route("/swarm", post(announce::announce))
        .route("/manifests/{id}/pieces", get(announce::pieces))
        .route("/images/{name}/{version}/torrent", get(standard::torrent))
}

impl Swarms {
    /// Listens for peers, if it is to.
    ///
    /// # Errors
    /// When the port that was asked for is taken, or there is no thread.
    pub(super) fn start(settings: Bittorrent) -> Result<Self> {
        let config = HubConfig {
            port: settings.port,
            any_port: !settings.asked,
            connections: settings.connections,
            rate: settings.rate,
        };
        let started = settings.enabled.then(|| Hub::start(&config)).transpose();
        let hub =
            started.with_context(|| format!("cannot listen for peers on TCP port {}", settings.port))?;
        Ok(Self {
            settings,
            hub,
            running: Mutex::default(),
            beginning: tokio::sync::Mutex::default(),
            bytes_ended: super::counters::Counter::default(),
        })
    }

    /// How they stand.
    pub(super) fn status(&self) -> Vec<SwarmStatus> {
        self.lock().values().map(|swarm| swarm.status()).collect()
    }

    /// Bytes that were sent in swarms that are over.
    pub(super) fn bytes_ended(&self) -> u64 {
        self.bytes_ended.get()
    }

    /// Forgets those in which nobody takes part any more.
    pub(super) fn expire(&self, now: Instant) {
        self.lock().retain(|_, swarm| {
            let mut tracker = swarm.tracker();
            tracker.expire(now);
            if !tracker.is_empty() || swarm.membership.peers() > 0 {
                swarm.touch(now);
            }
            let used = *swarm.used.lock().expect("no holder panics");
            let stays = now.saturating_duration_since(used) < KEPT;
            if !stays {
                self.bytes_ended.add(swarm.membership.tally().sent);
                tracing::info!(image = %swarm.served.reference(), "the swarm is over");
            }
            stays
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ManifestId, Arc<Swarm>>> {
        self.running.lock().expect("no holder panics")
    }

    fn find(&self, id: &ManifestId) -> Option<Arc<Swarm>> {
        let found = self.lock().get(id).map(Arc::clone)?;
        found.touch(Instant::now());
        Some(found)
    }

    fn hub(&self) -> Result<&Hub, Refusal> {
        self.hub.as_ref().ok_or_else(|| {
            Refusal::new(
                StatusCode::CONFLICT,
                "this server offers nothing by BitTorrent",
                "set enabled = true under [bittorrent] in its server.toml",
            )
        })
    }
}

impl Daemon {
    /// The swarm of a version; begun if there is none.
    async fn swarm(self: &Arc<Self>, id: ManifestId) -> Result<Arc<Swarm>, Refusal> {
        self.swarms.hub()?;
        if let Some(swarm) = self.swarms.find(&id) {
            return Ok(swarm);
        }
        let _beginning = self.swarms.beginning.lock().await;
        if let Some(swarm) = self.swarms.find(&id) {
            return Ok(swarm);
        }
        let served = self.version_by_id(id).await?.ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no version {id}"),
                "GET /v1/images lists what there is",
            )
        })?;
        if self.swarms.lock().len() >= SWARMS {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{SWARMS} versions are being shared already"),
                "try again when some are done; HTTP works meanwhile",
            ));
        }
        let daemon = Arc::clone(self);
        let swarm = blocking(move || daemon.begin_swarm(served)).await?;
        tracing::info!(image = %swarm.served.reference(), info_hash = %swarm.torrent.info_hash, "seeding");
        self.swarms.lock().insert(id, Arc::clone(&swarm));
        Ok(swarm)
    }

    /// Begins to seed a version.
    fn begin_swarm(self: &Arc<Self>, served: Arc<ServedVersion>) -> Result<Arc<Swarm>, Refusal> {
        let hub = self.swarms.hub()?;
        let none = || {
            Refusal::new(
                StatusCode::CONFLICT,
                "a version without content needs no swarm",
                "",
            )
        };
        let table = served.table.as_ref().ok_or_else(none)?;
        let pieces = Pieces::new(Arc::clone(table)).map_err(|error| {
            Refusal::new(StatusCode::CONFLICT, error.to_string(), "use multicast or HTTP")
        })?;
        let stored = self.store.load(&served.reference())?;
        // The version may have another name by now.
        if stored.signed.id != served.id {
            return Err(StoreError::NoImage(served.image.clone()).into());
        }
        let hashes = self.store.piece_hashes(&stored)?;
        let wrong = || Refusal::trouble("the hashes of the version's pieces are not as many as its pieces");
        let hashes = InfoHashes::new(&pieces, hashes).ok_or_else(wrong)?;
        let info = info_of(&pieces, &hashes);
        let settings = &self.swarms.settings;
        let torrent = Torrent {
            info_hash: InfoHash::of(&info),
            pieces: Arc::new(pieces),
            hashes: Arc::new(hashes),
            role: Role::Seed,
            bounds: Bounds {
                peers: settings.connections,
                uploads: settings.uploads,
                open_chunks: usize::MAX,
            },
        };
        let source = Source::new(Arc::downgrade(self), Arc::clone(&torrent.pieces));
        // A seed drops peers, and nobody need hear of it.
        let membership = hub.join(torrent.clone(), source, unbounded().0);
        let (site_bits, site_bits_v6) = settings.site_bits;
        Ok(Arc::new(Swarm {
            signature: self.store.sign_torrent(&served.id, &torrent.info_hash),
            tracker: Mutex::new(Tracker::new(TrackerBounds {
                site_bits,
                site_bits_v6,
            })),
            used: Mutex::new(Instant::now()),
            served,
            torrent,
            info,
            membership,
        }))
    }
}

impl Swarm {
    /// Notes how a machine stands that reached the server at `local`, and tells it of others.
    fn announced(&self, mark: Mark, local: IpAddr) -> Introduction {
        self.tracker()
            .announce(Instant::now(), mark, local, &mut rand::rng())
    }

    fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().expect("no holder panics")
    }

    fn touch(&self, now: Instant) {
        *self.used.lock().expect("no holder panics") = now;
    }

    fn status(&self) -> SwarmStatus {
        let (complete, incomplete) = self.tracker().counts();
        SwarmStatus {
            image: self.served.reference().to_string(),
            manifest: self.served.id,
            info_hash: self.torrent.info_hash.to_string(),
            complete,
            incomplete,
            peers: self.membership.peers(),
            bytes: self.membership.tally().sent,
        }
    }
}
