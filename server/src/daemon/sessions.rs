//! Multicast sessions: one for each version that nodes ask for and each of our addresses that they ask on, started by
//! the first and joined by the others, forgotten when it ends.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use simulcast_image::manifest::VerifyingKey;
use simulcast_image::store::ChunkStore;
use simulcast_protocol::api::{SessionState, SessionStatus};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::multicast::ChunkTable;
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_transport::multicast::{
    ChunkSource, SendError, SenderConfig, SenderHandle, SenderSession, Summary,
};
use simulcast_transport::udp::Interface;
use tokio::time::timeout;

use super::Daemon;
use super::answer::{Refusal, chain};
use super::connection::Ends;
use super::settings::Multicast;
use super::versions::{ServedVersion, blocking};

/// Sessions at a time: each holds [`MEMORY`], and the daemon is to stay below 512 MiB.
const SESSIONS: usize = 6;

/// Bytes of chunks that a session holds: what it sends in turn, and what it reads ahead.
const MEMORY: u64 = 48 << 20;

/// The port of the first session, for the group and for reports; others take the following ones.
const FIRST_PORT: u16 = 9441;

/// Ports that are tried: other programs may have some.
const PLACES: u16 = 64;

/// The groups of which a store's key chooses one, from 239.255.64.0 on (RFC 2365, local scope).
const GROUPS: (u32, u32) = (0xefff_4000, 1 << 14);

/// Time that sessions get to tell their receivers of the end: the end is repeated for a second.
const GRACE: Duration = Duration::from_secs(3);

/// The sessions that run.
#[derive(Debug)]
pub(super) struct Sessions {
    settings: Multicast,
    /// The group of the first session.
    base: Ipv4Addr,
    running: Mutex<Vec<Running>>,
    /// The daemon ends: no session is started any more.
    over: AtomicBool,
}

/// What one session serves.
type Key = (ManifestId, IpAddr);

#[derive(Debug)]
struct Running {
    key: Key,
    handle: SenderHandle,
    served: Arc<ServedVersion>,
    session: u32,
    group: SocketAddr,
    place: u16,
    started: Instant,
}

/// Reads a version's chunks for a session.
struct Source {
    daemon: Arc<Daemon>,
    table: Arc<ChunkTable>,
}

impl Sessions {
    pub(super) fn new(settings: Multicast, key: &VerifyingKey) -> Self {
        // Servers side by side have different keys, so their groups differ without anybody's help.
        let chosen = ManifestId::of(key.to_string().as_bytes());
        let [a, b, ..] = *chosen.as_bytes();
        let offset = u32::from(u16::from_le_bytes([a, b])) % (GROUPS.1 - u32::from(PLACES));
        Self {
            base: settings.group.unwrap_or(Ipv4Addr::from_bits(GROUPS.0 + offset)),
            settings,
            running: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// How the sessions stand.
    pub(super) fn status(&self) -> Vec<SessionStatus> {
        self.lock().iter().map(Running::status).collect()
    }

    /// An offer for a session that runs, if there is one.
    fn join(&self, key: &Key) -> Option<SessionOffer> {
        self.lock()
            .iter()
            .find(|running| running.serves(key))
            .map(|running| running.handle.offer())
    }

    /// Takes out the sessions for which `over` says so.
    fn take(&self, over: impl Fn(&SenderHandle) -> bool) -> Vec<Running> {
        self.lock()
            .extract_if(.., |running| over(&running.handle))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().expect("no holder panics")
    }
}

impl Running {
    /// Whether a receiver can be sent to it: one that is ending would only turn it away.
    fn serves(&self, key: &Key) -> bool {
        self.key == *key && !self.handle.is_closing()
    }

    fn status(&self) -> SessionStatus {
        let progress = self.handle.stats();
        let done = progress.receivers.values().filter(|peer| peer.missing == 0);
        let state = match (self.handle.is_closing(), self.handle.has_begun()) {
            (true, _) => SessionState::Ending,
            (false, true) => SessionState::Sending,
            (false, false) => SessionState::Waiting,
        };
        SessionStatus {
            session: self.session,
            image: self.served.reference().to_string(),
            manifest: self.served.id,
            state,
            group: self.group.to_string(),
            bytes: progress.stats.bytes,
            rate: progress.rate.map_or(0, Rate::bits_per_second),
            done: done.count() as u64,
            receivers: progress.receivers.len() as u64,
            seconds: self.started.elapsed().as_secs(),
        }
    }
}

impl Daemon {
    /// An offer for the session of a version; the session is started if none runs.
    pub(super) async fn offer(
        self: &Arc<Self>,
        manifest: ManifestId,
        ends: Ends,
    ) -> Result<SessionOffer, Refusal> {
        let local = ends.local.ip().to_canonical();
        let key = (manifest, local);
        if let Some(offer) = self.sessions.join(&key) {
            return Ok(offer);
        }
        if !local.is_ipv4() {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                "multicast sessions go by IPv4, and the request came by IPv6",
                "use an IPv4 address of the image server, or --transport http",
            ));
        }
        self.forget_ended().await;
        let served = self.version_by_id(manifest).await?.ok_or_else(|| {
            Refusal::new(
                StatusCode::NOT_FOUND,
                format!("there is no version with manifest {manifest}"),
                "GET /v1/images lists what there is",
            )
        })?;
        let daemon = Arc::clone(self);
        blocking(move || daemon.start(key, served)).await
    }

    /// Starts a session, unless somebody else just did.
    fn start(
        self: &Arc<Self>,
        key: (ManifestId, IpAddr),
        served: Arc<ServedVersion>,
    ) -> Result<SessionOffer, Refusal> {
        let table = served.table.clone().ok_or_else(|| {
            Refusal::new(
                StatusCode::CONFLICT,
                format!("{} has no chunks to send", served.reference()),
                "",
            )
        })?;
        let mut running = self.sessions.lock();
        if let Some(running) = running.iter().find(|running| running.serves(&key)) {
            return Ok(running.handle.offer());
        }
        if self.sessions.over.load(Ordering::Relaxed) {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "the image server is ending",
                "try again when it runs",
            ));
        }
        if running.len() >= SESSIONS {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{SESSIONS} multicast sessions are running, and no more can"),
                "wait until one has ended, or use --transport http",
            ));
        }
        let source = Arc::new(Source {
            daemon: Arc::clone(self),
            table: Arc::clone(&table),
        });
        let taken: Vec<u16> = running.iter().map(|running| running.place).collect();
        for place in (0..PLACES).filter(|place| !taken.contains(place)) {
            let config = self.sessions.config(place, key.1, &table)?;
            let (session, group) = (config.session.0, config.group);
            match SenderSession::start(config, Arc::clone(&source) as Arc<dyn ChunkSource>) {
                Ok(handle) => {
                    let image = served.reference();
                    tracing::info!(session, %image, %group, control = %handle.control(), "multicast session opened");
                    let offer = handle.offer();
                    let started = Instant::now();
                    running.push(Running {
                        key,
                        handle,
                        served,
                        session,
                        group,
                        place,
                        started,
                    });
                    return Ok(offer);
                }
                Err(SendError::Socket(error)) if error.source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    let text = chain(&error);
                    tracing::error!(error = %text, "cannot send by multicast");
                    return Err(Refusal::trouble(text));
                }
            }
        }
        let last = FIRST_PORT + PLACES - 1;
        Err(Refusal::trouble(format!(
            "UDP ports {FIRST_PORT} to {last} are all in use"
        )))
    }

    /// Forgets sessions that have ended, with a word to the log.
    pub(super) async fn forget_ended(self: &Arc<Self>) {
        let ended = self.sessions.take(SenderHandle::is_finished);
        self.conclude(ended).await;
    }

    /// Ends all sessions; their receivers are told.
    pub(super) async fn end_sessions(self: &Arc<Self>) {
        // Receivers that are told of the end ask again at once.
        self.sessions.over.store(true, Ordering::Relaxed);
        let running = self.sessions.take(|handle| {
            handle.stop();
            true
        });
        if timeout(GRACE, self.conclude(running)).await.is_err() {
            tracing::info!("some sessions did not end in time");
        }
    }

    async fn conclude(self: &Arc<Self>, ended: Vec<Running>) {
        for running in ended {
            let daemon = Arc::clone(self);
            blocking(move || {
                let image = running.served.reference();
                let (session, started) = (running.session, running.started);
                match running.handle.join() {
                    Ok(summary) => daemon.note(session, &image.to_string(), started.elapsed(), &summary),
                    Err(error) => {
                        tracing::error!(session, %image, error = %chain(&error), "multicast session failed")
                    }
                }
            })
            .await;
        }
    }

    /// What a session came to, for the counters and the log.
    fn note(&self, session: u32, image: &str, elapsed: Duration, summary: &Summary) {
        let stats = &summary.progress.stats;
        self.counters.sessions_ended.add(1);
        self.counters.multicast_bytes_ended.add(stats.bytes);
        let lacking = summary.receivers.iter().filter(|peer| peer.missing > 0).count();
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1);
        tracing::info!(
            session,
            image,
            reason = ?summary.reason,
            sent = %Bytes(stats.bytes),
            per_second = %Bytes(stats.bytes.saturating_mul(1000) / millis),
            packets = stats.packets,
            parity = stats.parity,
            repeated = stats.repeated,
            receivers = summary.receivers.len(),
            lacking,
            unreadable = summary.unreadable.len(),
            seconds = elapsed.as_secs(),
            "multicast session ended"
        );
    }
}

impl Sessions {
    fn config(&self, place: u16, local: IpAddr, table: &Arc<ChunkTable>) -> Result<SenderConfig, Refusal> {
        let interface = match &self.settings.interface {
            None => Interface::Address(local),
            Some(named) => named.resolve().map_err(|error| {
                Refusal::trouble(format!(
                    "cannot find the interface {named:?} for multicast: {error}"
                ))
            })?,
        };
        let group = Ipv4Addr::from_bits(self.base.to_bits().wrapping_add(u32::from(place)));
        if !group.is_multicast() {
            return Err(Refusal::trouble(format!(
                "{group} is no multicast group: --group leaves too few for the sessions that run"
            )));
        }
        let port = FIRST_PORT + place;
        let table = Arc::clone(table);
        Ok(SenderConfig {
            rate: self.settings.rate,
            ttl: self.settings.ttl.into(),
            // An installer on this machine is a receiver like any other.
            loopback: true,
            memory: MEMORY,
            ..SenderConfig::new(interface, (group, port).into(), (local, port).into(), table)
        })
    }
}

impl ChunkSource for Source {
    fn read(&self, index: u32) -> io::Result<Vec<u8>> {
        let info = self.table.get(index).ok_or(ErrorKind::NotFound)?;
        self.daemon
            .store
            .chunks()
            .read(&info.id)
            .map_err(io::Error::other)
    }
}
