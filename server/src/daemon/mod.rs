//! `si-server`: gives versions to nodes, by HTTP and by multicast.
//!
//! The control plane runs on tokio: requests, the list of versions that are being asked for, the list of sessions. The
//! data of a multicast session is sent by threads of its own. The daemon changes nothing in the store but its cache of update
//! packs; it protects what is being sent from removal.

mod answer;
mod body;
mod boot;
mod connection;
mod counters;
mod deltas;
mod install;
mod metrics;
mod packs;
mod probes;
mod routes;
mod sessions;
mod settings;
mod slow;
mod swarms;
mod token;
mod versions;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sd_notify::NotifyState;
use simulcast_cli::{Console, Exit};
use simulcast_image::store::Store;
use simulcast_protocol::api::{PORT, Token};
use simulcast_transport::multicast::querier::Querying;
use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

pub(crate) use settings::{MulticastOptions, Overrides, Settings};

use crate::boot::service::Booting;
use crate::boot::supervise;
use counters::Counters;
use install::Install;
use packs::Packs;
use probes::Probes;
use sessions::Sessions;
use settings::Igmp;
use swarms::Swarms;
use versions::Versions;

/// How often it is looked for sessions that have ended, and versions that nobody asks for any more.
const EXPIRY: Duration = Duration::from_secs(1);

/// Threads that carry the control plane. Chunks over HTTP are copied by them as well.
const THREADS: usize = 4;

/// Connections that wait to be accepted: a thousand nodes may ask in the same moment.
const BACKLOG: i32 = 1024;

/// Threads that read files. More would only queue up before the same disks.
const READERS: usize = 64;

/// What all requests share.
#[derive(Debug)]
struct Daemon {
    store: Store,
    token: Token,
    booting: Arc<Booting>,
    versions: Versions,
    packs: Packs,
    sessions: Sessions,
    swarms: Swarms,
    probes: Probes,
    querying: Querying,
    counters: Counters,
    install: Install,
    started: Instant,
}

/// Serves the store below `state`, and the nodes of the inventory below `config`, until SIGTERM or SIGINT.
///
/// # Errors
/// When the store cannot be opened or the address cannot be listened on.
pub(crate) fn run(state: &Path, config: &Path, settings: Settings, console: &Console) -> Result<Exit> {
    let _guard = simulcast_cli::interrupt::Guard::new();
    raise_file_limit();
    let store = Store::open(state).with_context(|| format!("cannot open the store {}", state.display()))?;
    let token = token::obtain(&state.join("keys").join("token"))?;
    let install = Install::open(config, state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .max_blocking_threads(READERS)
        .thread_name("http")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let Igmp { querier, interval } = settings.multicast.igmp;
    let listener = {
        let _entered = runtime.enter();
        listener(settings.listen)?
    };
    let address = listener
        .local_addr()
        .context("cannot tell the address listened on")?;
    let key = store.verifying_key().to_string();
    let booting = Arc::new(Booting::new(state, settings.boot, key, address.port()));
    let querying = Querying::start(querier, interval).context("cannot start a thread")?;
    let daemon = Arc::new(Daemon {
        probes: Probes::default(),
        querying,
        sessions: Sessions::new(settings.multicast),
        swarms: Swarms::start(settings.bittorrent)?,
        booting,
        store,
        token,
        versions: Versions::default(),
        packs: Packs::default(),
        counters: Counters::default(),
        install,
        started: Instant::now(),
    });
    daemon.tell_booting();
    runtime.block_on(serve(daemon, listener, console))?;
    // What still reads a file for a client that has gone need not be waited for.
    runtime.shutdown_background();
    Ok(Exit::Done)
}

async fn serve(daemon: Arc<Daemon>, listener: TcpListener, console: &Console) -> Result<()> {
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?,
    );
    let address = listener
        .local_addr()
        .context("cannot tell the address listened on")?;
    let (close, closing) = watch::channel(false);
    let file = console.options().config.join(settings::FILE);
    let booting = supervise::start(Arc::clone(&daemon.booting), &file, closing.clone()).await?;
    let accepting = tokio::spawn(connection::accept(listener, Arc::clone(&daemon), closing));
    let expiring = tokio::spawn(expire(Arc::clone(&daemon)));
    let state = daemon.store.root().display();
    console.line(format_args!(
        "si-server: ready on http://{address}, state in {state}"
    ))?;
    // Whoever started us without systemd does not listen.
    if let Err(error) = sd_notify::notify(&[NotifyState::Ready]) {
        tracing::warn!(%error, "cannot tell systemd that the server is ready");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    expiring.abort();
    close.send_replace(true);
    let (accepted, ()) = tokio::join!(accepting, daemon.end_sessions());
    if let Some(booting) = booting {
        booting
            .await
            .context("the task that looks after dnsmasq failed")?;
    }
    accepted.context("the listening task failed")
}

/// Listens on `address`, or on the usual port of all addresses of both families, or of IPv4 where there is no IPv6.
fn listener(address: Option<SocketAddr>) -> Result<TcpListener> {
    let any = (Ipv6Addr::UNSPECIFIED, PORT).into();
    let address = address.unwrap_or_else(|| match Socket::new(Domain::IPV6, Type::STREAM, None) {
        Ok(_) => any,
        Err(_) => (Ipv4Addr::UNSPECIFIED, PORT).into(),
    });
    let listen = || {
        let socket = Socket::new(
            Domain::for_address(address),
            Type::STREAM.cloexec().nonblocking(),
            None,
        )?;
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            socket.set_only_v6(false)?;
        }
        // A server that is started again need not wait for connections of the one before.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        TcpListener::from_std(socket.into())
    };
    listen().with_context(|| format!("cannot listen on {address}"))
}

async fn expire(daemon: Arc<Daemon>) {
    let mut interval = tokio::time::interval(EXPIRY);
    loop {
        interval.tick().await;
        daemon.forget_ended().await;
        daemon.swarms.expire(Instant::now());
        daemon.versions.expire(Instant::now());
        daemon.look_after_members();
        let telling = Arc::clone(&daemon);
        versions::blocking(move || telling.tell_booting()).await;
    }
}

/// Each connection is a file descriptor, and a common soft limit is 1,024.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::warn!(%error, "cannot raise the limit of open files; at most {:?} connections", limit.current);
    }
}
