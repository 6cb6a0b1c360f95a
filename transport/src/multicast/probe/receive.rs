//! A machine's end: join the group, count what comes by either way, look at the machine's own counters.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt;
use simulcast_protocol::multicast::packet::Path;
use simulcast_protocol::multicast::probe::{
    Counts, Gathering, Listening, ProbeOffer, ProbeRequest, ROUND, Report,
};
use socket2::{Domain, Protocol, Socket, Type};

use super::machine::Look;
use crate::fetch::NamedInterface;
use crate::http::{Client, HttpError};
use crate::multicast::ear::Ear;
use crate::multicast::querier::heard;
use crate::udp::batch::Receiving;
use crate::udp::route::{link, route_to};
use crate::udp::{Interface, SocketError, group_receiver};

/// Longest wait for packets: how late it may be noticed that nobody wants to know.
const TICK: Duration = Duration::from_millis(100);

/// How long packets may be late.
const LATE: Duration = Duration::from_secs(2);

/// Receive buffer for what comes to the machine itself: twenty bursts, as a busy machine may be late.
const BUFFER: usize = 8 << 20;

/// Calls for packets in a row before other things get their turn.
const BATCHES: usize = 64;

/// A probe that could not be done.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The server does not take part.
    #[error("cannot probe multicast with the image server")]
    Server(#[from] HttpError),
    /// There is no interface to listen on.
    #[error("cannot find the interface for multicast")]
    Interface(#[source] io::Error),
    /// A socket cannot be set up.
    #[error("cannot listen to the probe")]
    Socket(#[from] SocketError),
    /// There is no UDP port to count what comes to the machine itself.
    #[error("cannot open a UDP port")]
    Port(#[source] io::Error),
    /// Packets cannot be received.
    #[error("cannot receive packets")]
    Receive(#[source] io::Error),
    /// Nobody wants to know any more.
    #[error("the probe was broken off")]
    Cancelled,
}

/// Probes multicast between the image server and this machine.
pub struct Prober<'a> {
    /// The image server.
    pub client: &'a Client,
    /// Where multicast is listened for; `None` for where the server is.
    pub interface: Option<&'a NamedInterface>,
    /// For how long, from one second to half an hour.
    pub seconds: u32,
    /// Counters of an interface's driver, by the interface's name, as text of `ethtool -S`.
    pub driver: &'a dyn Fn(&str) -> Option<String>,
    /// Called when the probe begins.
    pub begun: &'a dyn Fn(&ProbeOffer),
    /// Whether nobody wants to know any more.
    pub cancelled: &'a dyn Fn() -> bool,
}

impl Prober<'_> {
    /// Takes part in a probe and tells the server what came. The report has no name of the machine yet.
    ///
    /// # Errors
    /// [`ProbeError`].
    pub fn run(&self) -> Result<Report, ProbeError> {
        let unicast = unicast_port().map_err(ProbeError::Port)?;
        let port = unicast.local_addr().map_err(ProbeError::Port)?.port();
        let request = ProbeRequest {
            seconds: self.seconds,
            port,
        };
        let offer = self.client.probe(&request)?;
        (self.begun)(&offer);
        let probe = offer.probe;
        let counts = self.count(offer, &unicast)?;
        let server = self.client.probed(probe, &counts)?;
        Ok(Report {
            node: String::new(),
            counts,
            server,
        })
    }

    fn count(&self, offer: ProbeOffer, unicast: &UdpSocket) -> Result<Counts, ProbeError> {
        let (interface, index) = self.place(&offer).map_err(ProbeError::Interface)?;
        let name = link(index).map_err(ProbeError::Interface)?.name;
        let group = group_receiver(offer.group, interface)?;
        // Not every process may listen to queries; then it is left to the server's own ear.
        let ear = Ear::open(&name, offer.group.is_ipv6()).ok();
        let look = Look::at(&name, (self.driver)(&name));
        let begun = Instant::now();
        let until = begun + offer.starts_in + ROUND * offer.window.rounds + LATE;
        let mut ends = [
            (Path::Multicast, group, Receiving::new()),
            (
                Path::Unicast,
                unicast.try_clone().map_err(ProbeError::Port)?,
                Receiving::new(),
            ),
        ];
        let (mut gathering, mut query) = (Gathering::new(offer), None);
        while Instant::now() < until && !gathering.is_over() {
            if (self.cancelled)() {
                return Err(ProbeError::Cancelled);
            }
            wait(&ends).map_err(ProbeError::Receive)?;
            for (path, socket, receiving) in &mut ends {
                take(*path, socket, receiving, &mut gathering).map_err(ProbeError::Receive)?;
            }
            // An interface that goes down is heard no more, and what was heard before stays.
            query = ear.as_ref().and_then(|ear| ear.hear().ok().flatten()).or(query);
        }
        let mut machine = look.again((self.driver)(&name));
        machine.socket_drops = drops(&mut ends);
        machine.listening = Listening {
            seconds: ear.as_ref().map(|_| begun.elapsed().as_secs()),
            heard: query.map(heard),
        };
        Ok(Counts {
            multicast: gathering.flow(Path::Multicast),
            unicast: gathering.flow(Path::Unicast),
            wrong: gathering.wrong(),
            machine,
        })
    }

    /// The interface to listen on, and its index.
    fn place(&self, offer: &ProbeOffer) -> io::Result<(Interface, u32)> {
        if let Some(named) = self.interface {
            return Ok((named.resolve()?, named.index()?));
        }
        let route = route_to((offer.server, offer.group.port()).into())?;
        Ok((Interface::At(route.interface, route.local), route.interface))
    }
}

impl std::fmt::Debug for Prober<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober")
            .field("server", self.client.server())
            .field("interface", &self.interface)
            .field("seconds", &self.seconds)
            .finish_non_exhaustive()
    }
}

type End = (Path, UdpSocket, Receiving);

fn wait(ends: &[End]) -> io::Result<()> {
    let mut fds: Vec<PollFd<'_>> = ends
        .iter()
        .map(|(_, socket, _)| PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN))
        .collect();
    match poll(&mut fds, Timespec::try_from(TICK).ok().as_ref()) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn take(
    path: Path,
    socket: &UdpSocket,
    receiving: &mut Receiving,
    gathering: &mut Gathering,
) -> io::Result<()> {
    for _ in 0..BATCHES {
        let more = receiving.receive(socket)?;
        receiving
            .packets()
            .for_each(|packet| gathering.handle_packet(path, packet));
        if !more {
            break;
        }
    }
    Ok(())
}

/// What the sockets dropped; nothing where the kernel cannot tell (before 4.12).
fn drops(ends: &mut [End]) -> u64 {
    let ends = ends.iter_mut().map(|(_, socket, receiving)| {
        // A kernel that cannot tell leaves the count at 0.
        drop(receiving.look(&*socket));
        receiving.drops()
    });
    ends.sum()
}

/// A port of all addresses of this machine, of both families where there are both.
fn unicast_port() -> io::Result<UdpSocket> {
    let open = |domain, address: SocketAddr| {
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.bind(&address.into())?;
        // As much room as the group's socket has, or as the system gives: the two are compared.
        if sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER).is_err() {
            socket.set_recv_buffer_size(BUFFER)?;
        }
        socket.set_nonblocking(true)?;
        io::Result::Ok(UdpSocket::from(socket))
    };
    open(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, 0).into())
        .or_else(|_| open(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, 0).into()))
}
