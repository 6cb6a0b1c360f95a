//! The image server's end: one thread that sends rounds as long as anybody counts them.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{self, Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery};
use simulcast_protocol::multicast::key::{SessionKey, TagKey};
use simulcast_protocol::multicast::packet::{Path, Probe};
use simulcast_protocol::multicast::probe::{
    BURST, BURST_PACKETS, ProbeOffer, ROUND, ROUNDS_PER_SECOND, SECONDS, Schedule, Window,
};
use socket2::SockRef;

use crate::udp::{Interface, Reach, SocketError, group_sender};

/// Rounds between asking and the first that counts: time to join the group, and for switches to learn of it.
const LEAD: u32 = ROUNDS_PER_SECOND;

/// Rounds after the last that counts, so that machines notice its end.
const TAIL: u32 = 4;

/// Rounds that a probe goes on without anybody who counts.
const IDLE: u32 = 2 * ROUNDS_PER_SECOND;

/// Machines that take part at a time.
const MACHINES: usize = 4096;

/// What a probe is to be.
#[derive(Debug, Clone, Copy)]
pub struct ProbeConfig {
    /// Where packets leave.
    pub interface: Interface,
    /// The address that they are sent from.
    pub source: IpAddr,
    /// Address and port of the group.
    pub group: SocketAddr,
    /// Bytes of the largest IP packet that the interface sends.
    pub mtu: u32,
    /// Routers that packets may pass, plus one.
    pub ttl: u32,
    /// How routers and switches should treat packets: a differentiated services code point, 0 to 63.
    pub dscp: u8,
}

/// A probe that runs.
#[derive(Debug)]
pub struct ProbeSender {
    shared: Arc<Shared>,
    group: SocketAddr,
    /// It ends by itself when nobody counts any more.
    _thread: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    probe: u32,
    key: TagKey,
    schedule: Schedule,
    state: Mutex<State>,
    unsent: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    round: u32,
    /// The round after which it ends if nobody counts.
    idle_until: u32,
    members: Vec<(SocketAddr, Window)>,
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl ProbeSender {
    /// Begins to send. Without anybody who [joins](Self::join) it ends after two seconds.
    ///
    /// # Errors
    /// When a socket cannot be set up or no thread be started.
    pub fn start(config: ProbeConfig) -> Result<Self, SocketError> {
        let step = |step, source| SocketError {
            step,
            address: config.group,
            source,
        };
        let reach = Reach {
            interface: config.interface,
            ttl: config.ttl,
            // An installer on this machine is a receiver like any other.
            loopback: true,
            dscp: config.dscp,
        };
        let multicast = group_sender(config.group, reach)?;
        let unicast = UdpSocket::bind((config.source, 0)).map_err(|e| step("bind for unicast", e))?;
        mark(&unicast, config.dscp).map_err(|e| step("set the class of packets", e))?;
        for socket in [&multicast, &unicast] {
            whole_packets(socket).map_err(|e| step("forbid fragments", e))?;
        }
        let shared = Arc::new(Shared {
            probe: rand::random(),
            key: SessionKey::from_bytes(rand::random()).group(),
            schedule: Schedule::for_mtu(config.mtu, config.group.is_ipv6()),
            state: Mutex::new(State {
                idle_until: IDLE,
                ..State::default()
            }),
            unsent: AtomicU64::new(0),
        });
        let rounds = Rounds {
            shared: Arc::clone(&shared),
            multicast,
            unicast,
            packet: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || rounds.run())
            .map_err(|e| step("start a thread", e))?;
        Ok(Self {
            shared,
            group: config.group,
            _thread: thread,
        })
    }

    /// The probe's number.
    pub fn probe(&self) -> u32 {
        self.shared.probe
    }

    /// Its group.
    pub fn group(&self) -> SocketAddr {
        self.group
    }

    /// Takes in a machine that counts for so many seconds, up to half an hour, and hears packets to itself at `peer`;
    /// it reaches us under the address `server`. `None` when the probe is over, or has too many already.
    pub fn join(&self, peer: SocketAddr, server: IpAddr, seconds: u32) -> Option<ProbeOffer> {
        let mut state = self.shared.lock();
        if state.over || state.members.len() >= MACHINES {
            return None;
        }
        let window = Window {
            first: state.round.checked_add(LEAD)?,
            rounds: seconds.clamp(1, SECONDS) * ROUNDS_PER_SECOND,
            unicast_every: Window::unicast_for(state.members.len() + 1),
        };
        state.members.push((peer, window));
        Some(ProbeOffer {
            probe: self.shared.probe,
            group: self.group,
            server,
            key: self.shared.key.clone(),
            schedule: self.shared.schedule.clone(),
            window,
            starts_in: ROUND * LEAD,
        })
    }

    /// Whether it has ended.
    pub fn is_over(&self) -> bool {
        self.shared.lock().over
    }

    /// Packets to the group that the kernel did not take.
    pub fn unsent(&self) -> u64 {
        self.shared.unsent.load(Ordering::Relaxed)
    }
}

/// What the thread owns.
struct Rounds {
    shared: Arc<Shared>,
    multicast: UdpSocket,
    unicast: UdpSocket,
    packet: Vec<u8>,
}

impl Rounds {
    fn run(mut self) {
        let mut due = Instant::now();
        while let Some((round, members)) = self.next_round() {
            self.send_round(round, &members, due);
            // A machine that was stopped for a while goes on from where it was: every round is sent.
            due = (due + ROUND).max(Instant::now().checked_sub(ROUND).unwrap_or(due));
            sleep_until(due);
        }
    }

    /// The number of the round, and who counts it; `None` at the end.
    fn next_round(&self) -> Option<(u32, Vec<(SocketAddr, Window)>)> {
        let mut state = self.shared.lock();
        let round = state.round;
        state
            .members
            .retain(|(_, window)| round < window.end().saturating_add(TAIL));
        if !state.members.is_empty() {
            state.idle_until = round.saturating_add(IDLE);
        }
        if round >= state.idle_until || round == u32::MAX {
            state.over = true;
            return None;
        }
        state.round += 1;
        Some((round, state.members.clone()))
    }

    fn send_round(&mut self, round: u32, members: &[(SocketAddr, Window)], due: Instant) {
        let schedule = self.shared.schedule.clone();
        if Window::multicast_burst(round) {
            (0..BURST_PACKETS).for_each(|index| self.send_group(round, BURST, index));
        }
        for (peer, window) in members {
            if window.unicast_burst(round) {
                (0..BURST_PACKETS).for_each(|index| self.send_one(*peer, round, BURST, index));
            }
        }
        let pause = ROUND / (schedule.paced_count() + 1);
        for (place, (train, index)) in (1u32..).zip(schedule.paced()) {
            sleep_until(due + pause * place);
            self.send_group(round, train, index);
            let theirs = members.iter().filter(|(_, window)| window.unicast(round));
            theirs.for_each(|(peer, _)| self.send_one(*peer, round, train, index));
        }
    }

    fn send_group(&mut self, round: u32, train: u8, index: u8) {
        self.encode(Path::Multicast, round, train, index);
        if let Err(error) = self.multicast.send(&self.packet) {
            tracing::debug!(%error, round, train, "probe packet not sent");
            self.shared.unsent.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send_one(&mut self, peer: SocketAddr, round: u32, train: u8, index: u8) {
        self.encode(Path::Unicast, round, train, index);
        // What cannot be sent to a machine is lost on its way there: it is counted at the other end.
        if let Err(error) = self.unicast.send_to(&self.packet, peer) {
            tracing::trace!(%error, %peer, "probe packet not sent");
        }
    }

    fn encode(&mut self, path: Path, round: u32, train: u8, index: u8) {
        let probe = Probe {
            path,
            probe: self.shared.probe,
            round,
            train,
            index,
        };
        let len = self.shared.schedule.payload(train).unwrap_or(0);
        probe.encode(&self.shared.key, len, &mut self.packet);
    }
}

fn sleep_until(due: Instant) {
    std::thread::sleep(
        due.saturating_duration_since(Instant::now())
            .min(Duration::from_secs(1)),
    );
}

/// Has packets marked as those of sessions are.
fn mark(socket: &UdpSocket, dscp: u8) -> io::Result<()> {
    let (socket_ref, class) = (SockRef::from(socket), u32::from(dscp) << 2);
    if socket.local_addr()?.is_ipv4() {
        socket_ref.set_tos_v4(class)
    } else {
        socket_ref.set_tclass_v6(class)
    }
}

/// Forbids fragments, whatever was learned of narrower links: that is to be found out.
fn whole_packets(socket: &UdpSocket) -> io::Result<()> {
    if socket.local_addr()?.is_ipv4() {
        sockopt::set_ip_mtu_discover(socket, Ipv4PathMtuDiscovery::PROBE)?;
    } else {
        sockopt::set_ipv6_mtu_discover(socket, Ipv6PathMtuDiscovery::PROBE)?;
    }
    Ok(())
}
