//! Multicast sessions: one for each version that nodes ask for and each interface over which they are reached, started by
//! the first and joined by the others, forgotten when it ends.

pub(super) mod access;
mod members;
mod open;
mod share;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use simulcast_image::store::ChunkStore;
use simulcast_protocol::api::{SessionRequest, SessionState, SessionStatus, USUAL_MTU};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::multicast::ChunkTable;
use simulcast_protocol::multicast::sender::Peer;
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_transport::multicast::{ChunkSource, SenderHandle, Summary};
use tokio::time::timeout;

use access::Access;
use members::{Invited, member};
use share::{Wire, share};

use super::Daemon;
use super::answer::{Refusal, chain};
use super::connection::Ends;
use super::settings::Multicast;
use super::versions::{ServedVersion, blocking};

/// Sessions at a time: each holds 48 MiB of chunks, and the daemon is to stay below 512 MiB.
const SESSIONS: usize = 8;

/// Time that sessions get to tell their receivers of the end: the end is repeated for a second.
const GRACE: Duration = Duration::from_secs(3);

/// The sessions that run.
#[derive(Debug)]
pub(super) struct Sessions {
    settings: Multicast,
    running: Mutex<Vec<Running>>,
    /// The daemon ends: no session is started any more.
    over: AtomicBool,
}

/// Whom one session serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    manifest: ManifestId,
    /// Index of the interface.
    interface: u32,
    /// Whether its packets are of IPv6.
    ipv6: bool,
}

#[derive(Debug)]
struct Running {
    key: Key,
    /// Bytes of its IP packets at most: what everybody could have who was invited before it began.
    mtu: u32,
    handle: SenderHandle,
    served: Arc<ServedVersion>,
    session: u32,
    interface: String,
    source: IpAddr,
    wire: Wire,
    started: Instant,
    invited: Invited,
}

/// Reads a version's chunks for a session.
struct Source {
    daemon: Arc<Daemon>,
    table: Arc<ChunkTable>,
}

impl Sessions {
    pub(super) fn new(settings: Multicast) -> Self {
        Self {
            settings,
            running: Mutex::default(),
            over: AtomicBool::new(false),
        }
    }

    /// How the sessions stand.
    pub(super) fn status(&self) -> Vec<SessionStatus> {
        self.lock().iter().map(Running::status).collect()
    }

    /// How they are sent.
    pub(super) fn settings(&self) -> &Multicast {
        &self.settings
    }

    /// Groups that they have.
    pub(super) fn groups(&self) -> Vec<IpAddr> {
        self.lock()
            .iter()
            .map(|running| running.handle.group().ip())
            .collect()
    }

    /// Interfaces that they are sent over, and the addresses that they are sent from.
    pub(super) fn places(&self) -> Vec<(u32, IpAddr)> {
        let place = |running: &Running| (running.key.interface, running.source);
        self.lock().iter().map(place).collect()
    }

    /// An offer for a session that runs, if there is one whose packets are not longer than `mtu`.
    fn join(&self, key: Key, mtu: u32, access: &Access) -> Option<SessionOffer> {
        let running = self.lock();
        Some(best(&running, key, mtu)?.offer(access))
    }

    /// Takes out the sessions for which `over` says so.
    fn take(&self, over: impl Fn(&SenderHandle) -> bool) -> Vec<Running> {
        self.lock()
            .extract_if(.., |running| over(&running.handle))
            .collect()
    }

    /// Divides each wire between the sessions that run on it. Those that are ending send next to nothing.
    fn share_out(&self, running: &[Running]) {
        let sends = |running: &&Running| !running.handle.is_closing();
        for one in running.iter().filter(sends) {
            let others = running.iter().filter(sends);
            let together = others.filter(|other| other.wire == one.wire).count();
            one.handle
                .set_max_rate(share(one.wire.limit(&self.settings), together));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.running.lock().expect("no holder panics")
    }
}

/// The session with the longest packets of at most `mtu` bytes.
fn best(running: &[Running], key: Key, mtu: u32) -> Option<&Running> {
    running
        .iter()
        .filter(|running| running.serves(key) && running.mtu <= mtu)
        .max_by_key(|running| running.mtu)
}

impl Running {
    /// Whether a receiver can be sent to it: one that is ending would only turn it away.
    fn serves(&self, key: Key) -> bool {
        self.key == key && !self.handle.is_closing()
    }

    /// An offer for a receiver at the other end of `access`.
    fn offer(&self, access: &Access) -> SessionOffer {
        let mut offer = self.handle.offer();
        offer.control.set_ip(access.local);
        self.invited.note(offer.receiver, access.peer);
        offer
    }

    /// A word to the log.
    fn announce(&self) {
        let [group, control] = self.addresses();
        let (image, interface, mtu) = (self.served.reference(), &self.interface, self.mtu);
        let session = self.session;
        tracing::info!(session, %image, %group, interface, mtu, %control, "multicast session opened");
    }

    /// Its group, and where it hears reports.
    fn addresses(&self) -> [SocketAddr; 2] {
        [self.handle.group(), self.handle.control()]
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
            interface: self.interface.clone(),
            mtu: self.mtu,
            group: self.handle.group().to_string(),
            bytes: progress.stats.bytes,
            rate: progress.rate.map_or(0, Rate::bits_per_second),
            done: done.count() as u64,
            receivers: progress.receivers.len() as u64,
            packets: progress.stats.packets,
            repair: progress.stats.parity + progress.stats.repeated,
            limited_by: progress.stats.bounds.longest(),
            seconds: self.started.elapsed().as_secs(),
            members: progress
                .receivers
                .iter()
                .map(|(id, peer)| member(self.invited.address(*id), peer))
                .collect(),
        }
    }
}

impl Daemon {
    /// An offer for the session of a version; the session is started if none runs.
    pub(super) async fn offer(
        self: &Arc<Self>,
        request: &SessionRequest,
        ends: Ends,
    ) -> Result<SessionOffer, Refusal> {
        let manifest = request.manifest;
        let access = Access::to(ends, &self.sessions.settings)?;
        let key = Key {
            manifest,
            interface: access.index,
            ipv6: access.is_ipv6(),
        };
        let mtu = self
            .sessions
            .settings
            .rung(access.mtu.min(request.mtu.unwrap_or(USUAL_MTU)))?;
        if let Some(offer) = self.sessions.join(key, mtu, &access) {
            return Ok(offer);
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
        blocking(move || daemon.start(key, mtu, &access, served)).await
    }

    /// Starts a session, unless somebody else just did.
    fn start(
        self: &Arc<Self>,
        key: Key,
        mtu: u32,
        access: &Access,
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
        if let Some(running) = best(&running, key, mtu) {
            return Ok(running.offer(access));
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
        let source = Source {
            daemon: Arc::clone(self),
            table: Arc::clone(&table),
        };
        let taken: Vec<SocketAddr> = running.iter().flat_map(Running::addresses).collect();
        let handle = self
            .sessions
            .open(access, mtu, &taken, &table, Arc::new(source))?;
        // Nobody has anything yet of those that wait: together with this receiver they get one with shorter packets.
        for longer in running
            .iter()
            .filter(|running| running.serves(key) && !running.handle.has_begun())
        {
            longer.handle.stop();
        }
        let opened = Running {
            key,
            mtu,
            session: handle.session().0,
            handle,
            served,
            interface: access.link.name.clone(),
            source: access.source,
            wire: access.wire.clone(),
            started: Instant::now(),
            invited: Invited::default(),
        };
        opened.announce();
        let offer = opened.offer(access);
        running.push(opened);
        self.sessions.share_out(&running);
        Ok(offer)
    }

    /// Forgets sessions that have ended, with a word to the log; the others get what those had.
    pub(super) async fn forget_ended(self: &Arc<Self>) {
        let ended = self.sessions.take(SenderHandle::is_finished);
        self.sessions.share_out(&self.sessions.lock());
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
            worst_loss_ppm = summary.progress.receivers.values().map(Peer::loss_ppm).max().unwrap_or(0),
            limited_by = ?stats.bounds.longest(),
            parted = stats.parted,
            receivers = summary.receivers.len(),
            lacking,
            unreadable = summary.unreadable.len(),
            seconds = elapsed.as_secs(),
            "multicast session ended"
        );
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
