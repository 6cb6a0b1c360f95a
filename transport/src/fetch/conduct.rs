//! Which transport runs when.
//!
//! With [`Choice::Auto`] multicast comes first, because its cost does not grow with the number of receivers. HTTP fetches
//! single chunks as soon as multicast gives them up. When multicast does not reach this receiver, stalls, or ends with
//! chunks missing, peers bring the rest, because theirs does hardly grow either; and while they bring nothing, HTTP does.
//! Whatever has begun goes on beside what joins it.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use simulcast_protocol::bittorrent::DropReason;
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::multicast::ChunkTable;

use super::over_multicast::{MulticastError, Sign, over_multicast};
use super::{Fetch, NamedInterface, Scope, SwarmError, SwarmOrder, SwarmPart, Transport, over_http};
use crate::http::{Client, HttpError};
use crate::multicast::Cancel;

/// Time without a chunk by multicast after which HTTP helps. The session is heard, or it would have ended within three
/// seconds; at 20 Mbit/s the sixteen chunks that are sent in turn need up to 25.
const STALL: Duration = Duration::from_secs(15);

/// The queue to the workers is this full when they are what holds multicast up.
const BUSY: u8 = 128;

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Which transports may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Multicast as far as it goes, peers and HTTP for the rest.
    Auto,
    /// Multicast alone.
    Multicast,
    /// HTTP alone.
    Http,
    /// Peers alone.
    Bittorrent,
}

/// A fetch to be done.
pub struct Order<'a> {
    /// The image server.
    pub client: &'a Client,
    /// The chunks of the version.
    pub table: Arc<ChunkTable>,
    /// Which transports may be used.
    pub choice: Choice,
    /// Where multicast is listened for; `None` for where the server is.
    pub interface: Option<NamedInterface>,
    /// An offer of a session that was asked for earlier, so that the sender waits for this receiver.
    pub offer: Option<SessionOffer>,
    /// What is needed to take part in the swarm; none where peers are not to be used.
    pub swarm: Option<SwarmOrder<'a>>,
    /// Connections for HTTP: each is one thread.
    pub connections: usize,
    /// Called when something happens that people want to know. It may be called from any thread.
    pub notice: &'a (dyn Fn(&Notice) + Sync),
}

/// Something that people want to know.
#[derive(Debug)]
pub enum Notice {
    /// A session is joined.
    Joined(SocketAddr),
    /// It was left before everything had come, and is joined again.
    JoiningAgain(MulticastError),
    /// Multicast is left, and why.
    Left(MulticastError),
    /// Multicast cannot bring some chunks, and HTTP fetches them while it goes on.
    HttpRepairs,
    /// Peers begin to help.
    PeersHelp {
        /// Chunks that are missing.
        missing: u32,
    },
    /// Peers bring something again, and HTTP does not help any more.
    PeersAgain,
    /// A peer was dropped through its own fault.
    PeerDropped(SocketAddr, DropReason),
    /// HTTP begins to help.
    HttpHelps {
        /// Chunks that are missing.
        missing: u32,
    },
}

/// Not all chunks came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Multicast alone was allowed, and failed.
    #[error(transparent)]
    Multicast(#[from] MulticastError),
    /// Peers alone were allowed, and failed.
    #[error(transparent)]
    Swarm(#[from] SwarmError),
    /// Some chunks cannot be had; the others came.
    #[error("{count} of the chunks that are needed cannot be fetched")]
    Chunks {
        /// How many.
        count: usize,
        /// Why one of them cannot.
        source: Box<HttpError>,
    },
}

impl FetchError {
    /// What to do about it; empty when nothing helps.
    pub fn hint(&self) -> String {
        match self {
            Self::Http(error) => error.hint(),
            Self::Multicast(error) => error.hint(),
            Self::Swarm(error) => error.hint(),
            Self::Chunks { source, .. } => source.hint(),
        }
    }
}

/// Runs transports until nothing is missing, or `fetch` is stopped. Workers take the chunks out meanwhile, and get the
/// end when this is over. What is left of the part in the swarm can go on to help others.
///
/// # Errors
/// [`FetchError`]. What came before is handed to the workers.
pub fn conduct(mut order: Order<'_>, fetch: &Fetch) -> Result<Option<Arc<SwarmPart>>, FetchError> {
    let swarm = order.swarm.take();
    let result = match order.choice {
        Choice::Auto => all(&order, fetch, swarm),
        Choice::Bittorrent => from_peers(&order, fetch, swarm),
        Choice::Multicast => over_multicast(&order, fetch, &Cancel::default(), &|_| {})
            .map(|()| None)
            .map_err(FetchError::Multicast),
        Choice::Http => {
            fetch.missing().open(Scope::All);
            over_connections(&order, fetch).map(|()| None)
        }
    };
    fetch.no_more();
    let part = result?;
    let mut failures = fetch.take_failures();
    let count = failures.len();
    match failures.pop() {
        Some((_, source)) => Err(FetchError::Chunks {
            count,
            source: Box::new(source),
        }),
        None => Ok(part),
    }
}

/// Peers alone.
fn from_peers(
    order: &Order<'_>,
    fetch: &Fetch,
    swarm: Option<SwarmOrder<'_>>,
) -> Result<Option<Arc<SwarmPart>>, FetchError> {
    let swarm = swarm.ok_or(SwarmError::NotWanted)?;
    let part = SwarmPart::begin(order.client, &order.table, swarm)?;
    part.run(fetch, order.notice, true, &|_| {})?;
    Ok(Some(Arc::new(part)))
}

/// HTTP on its connections, until nothing is missing.
fn over_connections(order: &Order<'_>, fetch: &Fetch) -> Result<(), FetchError> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..order.connections.max(1))
            .map(|_| scope.spawn(|| over_http(order.client, &order.table, fetch)))
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("it does not panic"));
        let failed = results.filter_map(Result::err).last();
        match failed {
            // One connection can fail when others brought everything.
            Some(error) if !fetch.missing().is_over() => Err(error.into()),
            _ => Ok(()),
        }
    })
}

/// How multicast fares, as the thread that listens tells.
#[derive(Debug, Default)]
struct Watch {
    faltered: AtomicBool,
    /// Until when the session may wait for others.
    waits_until: Mutex<Option<Instant>>,
}

impl Watch {
    fn take(&self, sign: Sign) {
        match sign {
            Sign::Joined(wait) => {
                *self.waits_until.lock().expect("no holder panics") = Instant::now().checked_add(wait);
            }
            Sign::Faltered => self.faltered.store(true, Ordering::Relaxed),
        }
    }

    fn has_faltered(&self) -> bool {
        self.faltered.load(Ordering::Relaxed)
    }

    /// Whether nothing need come yet.
    fn may_wait(&self) -> bool {
        let until = *self.waits_until.lock().expect("no holder panics");
        until.is_some_and(|until| Instant::now() < until)
    }
}

/// Multicast, and peers and HTTP when they are needed.
fn all(
    order: &Order<'_>,
    fetch: &Fetch,
    swarm: Option<SwarmOrder<'_>>,
) -> Result<Option<Arc<SwarmPart>>, FetchError> {
    let (cancel, watch) = (Cancel::default(), Watch::default());
    thread::scope(|scope| {
        let listening = scope.spawn(|| {
            let result = over_multicast(order, fetch, &cancel, &|sign| watch.take(sign));
            if let Err(error) = result {
                (order.notice)(&Notice::Left(error));
            }
            watch.take(Sign::Faltered);
        });
        let watching = scope.spawn(|| {
            // Meanwhile multicast begins: a server may have to make the hashes of an old version first.
            let part = swarm.and_then(|swarm| take_part(order, fetch, swarm));
            if !wait_for_multicast(fetch, &watch) {
                let missing = fetch.missing().left();
                match &part {
                    Some(part) => over_peers(order, fetch, part, missing),
                    None => http_helps(order, fetch, missing),
                }
            }
            part
        });
        let result = help(order, fetch);
        // When HTTP has failed, the others may still bring everything; they end by themselves if they lead nowhere.
        listening.join().expect("it does not panic");
        let part = watching.join().expect("it does not panic");
        match result {
            Err(error) if !fetch.missing().is_over() => Err(error),
            _ => Ok(part),
        }
    })
}

/// Takes part in the swarm: what other transports bring is offered to it from now on.
fn take_part(order: &Order<'_>, fetch: &Fetch, swarm: SwarmOrder<'_>) -> Option<Arc<SwarmPart>> {
    let begun = SwarmPart::begin(order.client, &order.table, swarm);
    let part = begun.inspect_err(|error| tracing::info!(error = %Chain(error), "no part in the swarm"));
    let part = Arc::new(part.ok()?);
    fetch.share_with(&part);
    Some(part)
}

/// Lets HTTP fetch everything.
fn http_helps(order: &Order<'_>, fetch: &Fetch, missing: u32) {
    (order.notice)(&Notice::HttpHelps { missing });
    fetch.missing().open(Scope::FromEnd);
}

/// Peers, the server's seed among them, and HTTP while they bring nothing: the bytes of either come from the same server
/// in the end, and by way of peers they leave it once.
fn over_peers(order: &Order<'_>, fetch: &Fetch, part: &SwarmPart, missing: u32) {
    (order.notice)(&Notice::PeersHelp { missing });
    let stalled = |stalled: bool| {
        if stalled {
            http_helps(order, fetch, fetch.missing().left());
        } else {
            (order.notice)(&Notice::PeersAgain);
            fetch.missing().open(Scope::GivenUp);
        }
    };
    if let Err(error) = part.run(fetch, order.notice, false, &stalled) {
        tracing::info!(%error, "the swarm is left");
        http_helps(order, fetch, fetch.missing().left());
    }
}

/// HTTP for what multicast gives up, as soon as it does, and for everything once a scope is opened.
fn help(order: &Order<'_>, fetch: &Fetch) -> Result<(), FetchError> {
    let missing = fetch.missing();
    if !missing.wait_for_work(false) {
        return Ok(());
    }
    if !missing.is_open() {
        (order.notice)(&Notice::HttpRepairs);
        match over_connections(order, fetch) {
            // A server that does not answer now may do so when multicast falters.
            Err(_) if !missing.is_open() => {}
            result => return result,
        }
        if !missing.wait_for_work(true) {
            return Ok(());
        }
    }
    over_connections(order, fetch)
}

/// Waits while multicast does what it should; true when nothing is missing any more.
fn wait_for_multicast(fetch: &Fetch, watch: &Watch) -> bool {
    let begun = fetch.tally(Transport::Multicast).chunks;
    let mut last = (Instant::now(), begun);
    loop {
        if fetch.missing().wait_over(LOOK) {
            return true;
        }
        let chunks = fetch.tally(Transport::Multicast).chunks;
        let waits = chunks == begun && watch.may_wait();
        if chunks != last.1 || fetch.fill() >= BUSY || waits {
            last = (Instant::now(), chunks);
        }
        if watch.has_faltered() || last.0.elapsed() >= STALL {
            return false;
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Joined(group) => write!(f, "joined the multicast session to {group}"),
            Self::JoiningAgain(error) => {
                write_chain(f, error)?;
                f.write_str("; joining again")
            }
            Self::Left(error) => {
                f.write_str("multicast is left: ")?;
                write_chain(f, error)
            }
            Self::PeersHelp { missing } => write!(f, "peers bring what is missing: {missing} chunks"),
            Self::PeersAgain => f.write_str("peers bring chunks again; HTTP is left"),
            Self::PeerDropped(address, reason) => write!(f, "peer {address} is left: {reason}"),
            Self::HttpRepairs => f.write_str("HTTP fetches chunks that multicast could not bring"),
            Self::HttpHelps { missing } => write!(f, "HTTP fetches what is missing: {missing} chunks"),
        }
    }
}

impl fmt::Debug for Order<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Order")
            .field("manifest", &self.table.manifest())
            .field("choice", &self.choice)
            .field("interface", &self.interface)
            .field("connections", &self.connections)
            .finish_non_exhaustive()
    }
}

/// An error with its causes: `a: b: c`.
fn write_chain(f: &mut fmt::Formatter<'_>, error: &dyn Error) -> fmt::Result {
    write!(f, "{error}")?;
    let mut cause = error.source();
    while let Some(next) = cause {
        write!(f, ": {next}")?;
        cause = next.source();
    }
    Ok(())
}

/// The same as a value.
struct Chain<'e>(&'e dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_chain(f, self.0)
    }
}
