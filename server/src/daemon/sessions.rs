//! Multicast sessions: one for each version that nodes ask for and each interface over which they are reached, started by
//! the first and joined by the others, forgotten when it ends.

pub(super) mod access;
mod share;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use simulcast_image::store::ChunkStore;
use simulcast_protocol::api::{SessionState, SessionStatus};
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::multicast::ChunkTable;
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_transport::multicast::{
    ChunkSource, SendError, SenderConfig, SenderHandle, SenderSession, Summary, symbol_for,
};
use simulcast_transport::udp::route::Link;
use tokio::time::timeout;

use access::Access;
use share::{Wire, share};

use super::Daemon;
use super::answer::{Refusal, chain};
use super::connection::Ends;
use super::settings::{Multicast, Start};
use super::versions::{ServedVersion, blocking};

/// Sessions at a time: each holds [`MEMORY`], and the daemon is to stay below 512 MiB.
const SESSIONS: usize = 6;

/// Bytes of chunks that a session holds: what it sends in turn, and what it reads ahead.
const MEMORY: u64 = 48 << 20;

/// Bytes of an IP packet that every Ethernet carries.
const MTU: u32 = 1500;

/// Ports that are tried: other programs may have some.
const TRIES: usize = 256;

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
    handle: SenderHandle,
    served: Arc<ServedVersion>,
    session: u32,
    interface: String,
    source: IpAddr,
    wire: Wire,
    started: Instant,
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

    /// An offer for a session that runs, if there is one.
    fn join(&self, key: Key, local: IpAddr) -> Option<SessionOffer> {
        self.lock()
            .iter()
            .find(|running| running.serves(key))
            .map(|running| running.offer(local))
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

impl Running {
    /// Whether a receiver can be sent to it: one that is ending would only turn it away.
    fn serves(&self, key: Key) -> bool {
        self.key == key && !self.handle.is_closing()
    }

    /// An offer for a receiver that reaches us under the address `local`.
    fn offer(&self, local: IpAddr) -> SessionOffer {
        let mut offer = self.handle.offer();
        offer.control.set_ip(local);
        offer
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
            group: self.handle.group().to_string(),
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
        let access = Access::to(ends, &self.sessions.settings)?;
        let key = Key {
            manifest,
            interface: access.index,
            ipv6: access.is_ipv6(),
        };
        if let Some(offer) = self.sessions.join(key, access.local) {
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
        blocking(move || daemon.start(key, &access, served)).await
    }

    /// Starts a session, unless somebody else just did.
    fn start(
        self: &Arc<Self>,
        key: Key,
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
        if let Some(running) = running.iter().find(|running| running.serves(key)) {
            return Ok(running.offer(access.local));
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
        let handle = self.sessions.open(access, &taken, &table, Arc::new(source))?;
        let (session, group, image) = (handle.session().0, handle.group(), served.reference());
        let interface = access.link.name.clone();
        tracing::info!(session, %image, %group, %interface, control = %handle.control(), "multicast session opened");
        running.push(Running {
            key,
            handle,
            served,
            session,
            interface,
            source: access.source,
            wire: access.wire.clone(),
            started: Instant::now(),
        });
        self.sessions.share_out(&running);
        let offer = running.last().map(|running| running.offer(access.local));
        Ok(offer.expect("one was just put there"))
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
            receivers = summary.receivers.len(),
            lacking,
            unreadable = summary.unreadable.len(),
            seconds = elapsed.as_secs(),
            "multicast session ended"
        );
    }
}

impl Sessions {
    /// Opens a session on a group and a port that none of `taken` has.
    fn open(
        &self,
        access: &Access,
        taken: &[SocketAddr],
        table: &Arc<ChunkTable>,
        source: Arc<dyn ChunkSource>,
    ) -> Result<SenderHandle, Refusal> {
        let range = if access.is_ipv6() {
            self.settings.groups_v6
        } else {
            self.settings.groups
        };
        let groups: Vec<IpAddr> = taken.iter().map(SocketAddr::ip).collect();
        let group = range.pick(&groups, rand::random()).ok_or_else(|| {
            Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("all multicast groups of {range} are in use"),
                "wait until a session has ended, use --transport http, or give si-server more with --groups",
            )
        })?;
        let ports = self.settings.ports;
        let used_up = || Refusal::trouble(format!("too few of the UDP ports {ports} are free for a session"));
        let symbol = symbol_for(access.link.mtu.min(MTU), access.is_ipv6()).ok_or_else(|| {
            let Link { name, mtu, .. } = &access.link;
            Refusal::new(
                StatusCode::CONFLICT,
                format!("packets over {name} can have {mtu} bytes, too few for multicast"),
                "use --transport http",
            )
        })?;
        let free = |port: &u16| taken.iter().all(|taken| taken.port() != *port);
        let port = ports.for_groups(rand::random()).find(free);
        let group = (group, port.ok_or_else(used_up)?).into();
        for port in ports.for_reports(rand::random()).filter(free).take(TRIES) {
            let config = SenderConfig {
                symbol,
                ..self.config(access, group, port, table)
            };
            match SenderSession::start(config, Arc::clone(&source)) {
                Ok(handle) => return Ok(handle),
                Err(SendError::Socket(error)) if error.source.kind() == ErrorKind::AddrInUse => {}
                Err(error) => {
                    let text = chain(&error);
                    tracing::error!(error = %text, "cannot send by multicast");
                    return Err(Refusal::trouble(text));
                }
            }
        }
        Err(used_up())
    }

    fn config(&self, access: &Access, group: SocketAddr, port: u16, table: &Arc<ChunkTable>) -> SenderConfig {
        // Reports are heard on all addresses: nodes of one interface may know different ones.
        let any: IpAddr = if access.is_ipv6() {
            Ipv6Addr::UNSPECIFIED.into()
        } else {
            Ipv4Addr::UNSPECIFIED.into()
        };
        let control = (any, port).into();
        let usual = SenderConfig::new(access.interface(), group, control, Arc::clone(table));
        let (min_receivers, gather, max_wait) = match self.settings.start {
            Start::First => (usual.min_receivers, usual.gather, usual.max_wait),
            Start::After(wait) => (usual.min_receivers, wait, wait),
            Start::Number(number, wait) => (number, usual.gather, wait),
        };
        SenderConfig {
            rate: access.wire.limit(&self.settings),
            rate_min: self.settings.min_rate,
            ttl: self.settings.ttl.into(),
            dscp: self.settings.dscp.0,
            // An installer on this machine is a receiver like any other.
            loopback: true,
            min_receivers,
            // Who asks for a number or a time has said for whom to wait.
            wait_for_invited: self.settings.start == Start::First,
            gather,
            max_wait,
            memory: MEMORY,
            ..usual
        }
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
