//! The thread that listens for queriers on all interfaces, and is the querier where sessions run and nobody else is.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use simulcast_protocol::multicast::membership::Query;
use simulcast_protocol::multicast::probe::{Heard, Listening};
use simulcast_protocol::multicast::querier::{Querier, QuerierEvent, QuerierMode};

use super::ear::{Ear, ask, link_local};
use super::wait::Clock;
use crate::fetch::NamedInterface;

/// How late it may be noticed that sessions begin or end.
const TICK: Duration = Duration::from_millis(200);

/// How often it is looked for new interfaces.
const SCAN: Duration = Duration::from_secs(5);

/// Interfaces that are listened on: more than a server has that sends images.
const INTERFACES: usize = 64;

/// An interface, by its index, and whether of IPv6.
type Key = (u32, bool);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Querying {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Where sessions run, and the address that they are sent from.
    wanted: BTreeMap<Key, IpAddr>,
    /// What was heard where, and whether we ask there.
    heard: BTreeMap<Key, (Listening, bool)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Querying {
    /// Begins to listen. `interval` is the time between two queries of ours.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(mode: QuerierMode, interval: Duration) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("querier".to_owned())
            .spawn(move || Rounds::new(mode, interval, &theirs).run())?;
        Ok(Self {
            shared,
            thread: Some(thread),
        })
    }

    /// Says where sessions run: indexes of interfaces, and the addresses that they are sent from.
    pub fn set_sessions(&self, sessions: impl Iterator<Item = (u32, IpAddr)>) {
        self.shared.lock().wanted = sessions
            .map(|(index, from)| ((index, from.is_ipv6()), from))
            .collect();
    }

    /// What was heard on an interface, and whether we are the querier there.
    pub fn listening(&self, index: u32, ipv6: bool) -> (Listening, bool) {
        let heard = self.shared.lock().heard.get(&(index, ipv6)).cloned();
        heard.unwrap_or_default()
    }
}

impl Drop for Querying {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // What broke it down was printed when it did.
            drop(thread.join());
        }
    }
}

/// What a query that was heard says of who asks.
pub(super) fn heard(query: Query) -> Heard {
    Heard {
        protocol: query.protocol.to_string(),
        from: query.from,
    }
}

/// One interface and one family.
struct Post {
    name: String,
    ear: Ear,
    querier: Querier,
}

/// What the thread owns.
struct Rounds<'a> {
    mode: QuerierMode,
    interval: Duration,
    shared: &'a Shared,
    clock: Clock,
    posts: BTreeMap<Key, Post>,
    scanned: Option<Instant>,
    /// Why an interface could not be listened on, once it was said.
    refused: bool,
}

impl<'a> Rounds<'a> {
    fn new(mode: QuerierMode, interval: Duration, shared: &'a Shared) -> Self {
        Self {
            mode,
            interval,
            shared,
            clock: Clock::start(),
            posts: BTreeMap::new(),
            scanned: None,
            refused: false,
        }
    }

    fn run(mut self) {
        while !self.shared.over.load(Ordering::Relaxed) {
            if self.scanned.is_none_or(|at| at.elapsed() >= SCAN) {
                self.scan();
            }
            self.wait();
            let wanted = self.shared.lock().wanted.clone();
            let mut heard = BTreeMap::new();
            self.posts.retain(|&key, post| {
                let lives = post.turn(key, wanted.get(&key).copied(), &self.clock);
                if lives {
                    heard.insert(key, post.state(&self.clock));
                }
                lives
            });
            self.shared.lock().heard = heard;
        }
    }

    /// Listens on interfaces that are new.
    fn scan(&mut self) {
        self.scanned = Some(Instant::now());
        for name in multicast_interfaces() {
            let Ok(index) = NamedInterface::Name(name.clone()).index() else {
                continue;
            };
            for ipv6 in [false, true] {
                if self.posts.len() < INTERFACES * 2 && !self.posts.contains_key(&(index, ipv6)) {
                    self.open(name.clone(), (index, ipv6));
                }
            }
        }
    }

    fn open(&mut self, name: String, key: Key) {
        match Ear::open(&name, key.1) {
            Ok(ear) => {
                let querier = Querier::new(self.clock.now(), self.mode, self.interval);
                self.posts.insert(key, Post { name, ear, querier });
            }
            // Machines without IPv6 have nothing to listen for there.
            Err(_) if key.1 => {}
            Err(error) => {
                if !self.refused && self.mode != QuerierMode::Off {
                    tracing::warn!(%error, interface = name, "cannot listen for IGMP queries, nor be the querier; that takes root");
                }
                self.refused = true;
            }
        }
    }

    /// Waits until something is heard, or for a moment.
    fn wait(&self) {
        let mut fds: Vec<PollFd<'_>> = self
            .posts
            .values()
            .map(|post| PollFd::from_borrowed_fd(post.ear.as_fd(), PollFlags::IN))
            .collect();
        let tick = Timespec::try_from(TICK).ok();
        if poll(&mut fds, tick.as_ref()).is_err() {
            std::thread::sleep(TICK);
        }
    }
}

impl Post {
    /// Hears what came, asks when it is time; false when the interface is gone.
    fn turn(&mut self, key: Key, session: Option<IpAddr>, clock: &Clock) -> bool {
        let now = clock.now();
        match self.ear.hear() {
            Ok(Some(query)) => self.querier.handle_query(now, query),
            Ok(None) => {}
            // The interface is down, or is not there any more: it is listened on again when it is found.
            Err(_) => return false,
        }
        // Queries of MLD come from a link-local address, whichever one the session has.
        let own = session.and_then(|address| match address {
            IpAddr::V4(_) => Some(address),
            IpAddr::V6(_) => link_local(key.0).map(IpAddr::from),
        });
        self.querier.want(now, own);
        if let Some(from) = self.querier.poll_transmit(now)
            && let Err(error) = ask(&self.name, key.0, from, self.querier.response())
        {
            tracing::warn!(%error, interface = self.name, "cannot send a query for members of groups");
        }
        let protocol = if key.1 { "MLD" } else { "IGMP" };
        let interface = &self.name;
        match self.querier.poll_event() {
            Some(QuerierEvent::Began) => {
                tracing::info!(
                    interface,
                    protocol,
                    "nobody else asks for members of groups: being the querier"
                );
            }
            Some(QuerierEvent::Yielded(query)) => {
                tracing::info!(interface, protocol, to = %query.from, "another querier is there: being it no more");
            }
            Some(QuerierEvent::Ended) => {
                tracing::info!(interface, protocol, "no session runs: being the querier no more");
            }
            None => {}
        }
        true
    }

    fn state(&self, clock: &Clock) -> (Listening, bool) {
        let (query, since) = self.querier.listened(clock.now());
        let listening = Listening {
            seconds: Some(since.as_secs()),
            heard: query.map(heard),
        };
        (listening, self.querier.is_asking())
    }
}

/// Interfaces that are up and can do multicast, but for those that lead nowhere.
fn multicast_interfaces() -> Vec<String> {
    let Ok(all) = fs::read_dir("/sys/class/net") else {
        return Vec::new();
    };
    let names = all.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter(|name| {
            let flags = fs::read_to_string(format!("/sys/class/net/{name}/flags"));
            flags.is_ok_and(|flags| is_multicast(&flags))
        })
        .collect()
}

/// From the flags of an interface as the kernel prints them, `0x1003`.
fn is_multicast(flags: &str) -> bool {
    // Numbers of <linux/if.h>: IFF_UP, IFF_LOOPBACK, IFF_MULTICAST.
    const UP: u32 = 1;
    const LOOPBACK: u32 = 8;
    const MULTICAST: u32 = 0x1000;
    let number = flags.trim().strip_prefix("0x").unwrap_or_default();
    let flags = u32::from_str_radix(number, 16).unwrap_or(0);
    flags & (UP | LOOPBACK | MULTICAST) == UP | MULTICAST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interfaces_that_are_up_and_lead_somewhere_are_listened_on() {
        let found = ["0x1003\n", "0x1002\n", "0x9\n", "0x1009\n", "0x83", "", "1003"].map(is_multicast);
        assert_eq!(found, [true, false, false, false, false, false, false]);
    }

    #[test]
    fn it_starts_ends_and_knows_nothing_of_interfaces_that_there_are_not() {
        let querying = Querying::start(QuerierMode::Off, Duration::from_secs(60)).unwrap();
        assert_eq!(querying.listening(0x7fff_fff0, false), Default::default());
    }
}
