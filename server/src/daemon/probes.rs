//! Probes of multicast: one for each interface over which nodes ask for one, and what comes of them.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use simulcast_protocol::multicast::probe::verdict::judge;
use simulcast_protocol::multicast::probe::{Counts, ProbeOffer, ProbeRequest, Report, ServerSide};
use simulcast_protocol::units::Rate;
use simulcast_transport::multicast::probe::{ProbeConfig, ProbeSender};

use super::Daemon;
use super::answer::{Refusal, chain};
use super::connection::Ends;
use super::sessions::access::Access;

/// Bytes of what one node says it counted: half an hour, second by second, takes 20 kB.
pub(super) const COUNTS_BYTES: usize = 64 << 10;

/// Probes at a time: one for each interface and family, and few servers have more than four of those.
const PROBES: usize = 8;

/// How long it is known of a probe that has ended: nodes say at once what came.
const KEPT: Duration = Duration::from_secs(60);

/// The probes that run, or did of late.
#[derive(Debug, Default)]
pub(super) struct Probes(Mutex<Vec<Running>>);

#[derive(Debug)]
struct Running {
    index: u32,
    ipv6: bool,
    interface: String,
    speed: Option<Rate>,
    source: IpAddr,
    sender: Arc<ProbeSender>,
    over: Option<Instant>,
}

impl Probes {
    /// Interfaces that they are sent over, and the addresses that they are sent from.
    fn places(&self) -> Vec<(u32, IpAddr)> {
        let running = self.lock();
        let sends = running.iter().filter(|probe| !probe.sender.is_over());
        sends.map(|probe| (probe.index, probe.source)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().expect("no holder panics")
    }
}

/// Forgets what ended a while ago.
fn forget(probes: &mut Vec<Running>) {
    for probe in probes.iter_mut().filter(|probe| probe.sender.is_over()) {
        probe.over.get_or_insert_with(Instant::now);
    }
    probes.retain(|probe| probe.over.is_none_or(|over| over.elapsed() < KEPT));
}

impl Daemon {
    /// Takes a node into the probe of its interface, which is started if none runs.
    pub(super) fn probe(&self, request: ProbeRequest, ends: Ends) -> Result<ProbeOffer, Refusal> {
        if request.port == 0 || request.seconds == 0 {
            return Err(Refusal::nonsense(
                "a probe needs a port and a time of a second or more",
            ));
        }
        let access = Access::to(ends, self.sessions.settings())?;
        // Only the machine that asks gets packets: nobody can have others flooded.
        let peer: SocketAddr = match ends.peer.ip().to_canonical() {
            IpAddr::V4(v4) => (v4, request.port).into(),
            IpAddr::V6(_) => {
                let mut peer = ends.peer;
                peer.set_port(request.port);
                peer
            }
        };
        let mut probes = self.probes.lock();
        forget(&mut probes);
        let joined = probes
            .iter()
            .filter(|probe| (probe.index, probe.ipv6) == (access.index, access.is_ipv6()))
            .find_map(|probe| probe.sender.join(peer, access.local, request.seconds));
        if let Some(offer) = joined {
            return Ok(offer);
        }
        if probes.len() >= PROBES {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("{PROBES} probes of multicast are running, and no more can"),
                "try again in a minute",
            ));
        }
        let sender = self.start_probe(&access)?;
        let offer = sender.join(peer, access.local, request.seconds);
        let (probe, group, interface) = (sender.probe(), sender.group(), access.link.name.clone());
        tracing::info!(probe, %group, interface, "probe of multicast begun");
        probes.push(Running {
            index: access.index,
            ipv6: access.is_ipv6(),
            interface,
            speed: access.speed(),
            source: access.source,
            sender: Arc::new(sender),
            over: None,
        });
        drop(probes);
        self.look_after_members();
        offer.ok_or_else(|| Refusal::trouble("a probe of multicast ended before it began"))
    }

    fn start_probe(&self, access: &Access) -> Result<ProbeSender, Refusal> {
        let settings = self.sessions.settings();
        let range = if access.is_ipv6() {
            settings.groups_v6
        } else {
            settings.groups
        };
        // A session that takes the same group later takes no harm: its packets are told apart.
        let group = range.pick(&self.sessions.groups(), rand::random());
        let port = settings.ports.for_groups(rand::random()).next();
        let (Some(group), Some(port)) = (group, port) else {
            return Err(Refusal::new(
                StatusCode::SERVICE_UNAVAILABLE,
                format!("all multicast groups of {range} are in use"),
                "wait until a session has ended, or give si-server more with --groups",
            ));
        };
        let config = ProbeConfig {
            interface: access.interface(),
            source: access.source,
            group: (group, port).into(),
            mtu: access.link.mtu,
            ttl: settings.ttl.into(),
            dscp: settings.dscp.0,
        };
        ProbeSender::start(config).map_err(|error| Refusal::trouble(chain(&error)))
    }

    /// Takes what a node counted, says to the log what is wrong there, and gives what this side knows.
    pub(super) fn probed(&self, probe: u32, counts: Counts, ends: Ends) -> Result<ServerSide, Refusal> {
        let server = {
            let mut probes = self.probes.lock();
            forget(&mut probes);
            let running = probes.iter().find(|running| running.sender.probe() == probe);
            let running = running.ok_or_else(|| {
                let error = format!("there is no probe of multicast with number {probe}");
                Refusal::new(StatusCode::NOT_FOUND, error, "")
            })?;
            let (listening, querier) = self.querying.listening(running.index, running.ipv6);
            let mbit = |rate: Rate| u32::try_from(rate.bits_per_second() / 1_000_000).ok();
            ServerSide {
                interface: running.interface.clone(),
                speed: running.speed.and_then(mbit),
                unsent: running.sender.unsent(),
                listening,
                querier,
            }
        };
        let node = ends.peer.ip().to_canonical();
        let report = Report {
            node: node.to_string(),
            counts,
            server,
        };
        for finding in judge(std::slice::from_ref(&report)) {
            tracing::warn!(%node, seen = finding.seen, remedy = finding.remedy, "trouble with multicast");
        }
        Ok(report.server)
    }

    /// Says where sessions and probes run to who asks for members of groups there.
    pub(super) fn look_after_members(&self) {
        let places = self.sessions.places().into_iter().chain(self.probes.places());
        self.querying.set_sessions(places);
    }
}
