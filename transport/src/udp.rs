//! UDP sockets for multicast: which options they need, and batches that cost one system call.

pub mod batch;
pub mod route;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};

/// Receive buffer of the group's socket: half a second at 1 Gbit/s. Beyond `rmem_max` it takes CAP_NET_ADMIN.
const GROUP_BUFFER: usize = 64 << 20;
/// Receive buffer of the control socket: reports of 16,000 receivers at once.
const CONTROL_BUFFER: usize = 8 << 20;
/// Send buffer of the sender: 8 ms at 1 Gbit/s, 16 as the kernel counts. It is what holds the sender back to its link's own
/// speed, so it must be less than the link's queue takes (4 MiB overran 200 ms of 250 Mbit/s), and what waits in it
/// delays announces. 256 KiB to 4 MiB were equally fast.
const SEND_BUFFER: usize = 1 << 20;

/// A network interface, by its index or by an address of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interface {
    /// Index as `ip link` prints it.
    Index(u32),
    /// One of its addresses. For IPv6 groups the index is needed.
    Address(IpAddr),
    /// Index, and the address that packets are sent from.
    At(u32, IpAddr),
}

/// A step of setting a socket up that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step} for {address}")]
pub struct SocketError {
    /// What was attempted.
    pub step: &'static str,
    /// The address that it is about.
    pub address: SocketAddr,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// How far and whence a sender's packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// Where they leave the machine.
    pub interface: Interface,
    /// Routers that they may pass, plus one: 1 stays in the local network.
    pub ttl: u32,
    /// Whether receivers on this machine, in the same network namespace, get them too.
    pub loopback: bool,
    /// How routers and switches should treat them: a differentiated services code point (RFC 2474), 0 to 63.
    pub dscp: u8,
}

/// A socket that sends to `group`, and to nothing else.
pub fn group_sender(group: SocketAddr, reach: Reach) -> Result<UdpSocket, SocketError> {
    let step = |step, source| SocketError {
        step,
        address: group,
        source,
    };
    let socket = udp_socket(group).map_err(|e| step("open a socket", e))?;
    match (group.is_ipv4(), reach.interface) {
        (true, Interface::Index(index)) => send_over(&socket, index, Ipv4Addr::UNSPECIFIED),
        (true, Interface::At(index, IpAddr::V4(address))) => send_over(&socket, index, address),
        (true, Interface::Address(IpAddr::V4(address))) => socket.set_multicast_if_v4(&address),
        (false, Interface::Index(index) | Interface::At(index, IpAddr::V6(_))) => {
            socket.set_multicast_if_v6(index)
        }
        (_, Interface::Address(_) | Interface::At(..)) => Err(wrong_family()),
    }
    .map_err(|e| step("choose the interface", e))?;
    if group.is_ipv4() {
        socket
            .set_multicast_ttl_v4(reach.ttl)
            .and_then(|()| socket.set_multicast_loop_v4(reach.loopback))
    } else {
        socket
            .set_multicast_hops_v6(reach.ttl)
            .and_then(|()| socket.set_multicast_loop_v6(reach.loopback))
    }
    .map_err(|e| step("set how far packets go", e))?;
    let class = u32::from(reach.dscp) << 2;
    if group.is_ipv4() {
        socket.set_tos_v4(class)
    } else {
        socket.set_tclass_v6(class)
    }
    .map_err(|e| step("set the class of packets", e))?;
    socket
        .set_send_buffer_size(SEND_BUFFER)
        .map_err(|e| step("set the send buffer", e))?;
    socket.connect(&group.into()).map_err(|e| step("connect", e))?;
    Ok(socket.into())
}

/// A socket that gets what is sent to `group` on one interface, and nothing else.
pub fn group_receiver(group: SocketAddr, interface: Interface) -> Result<UdpSocket, SocketError> {
    let step = |step, source| SocketError {
        step,
        address: group,
        source,
    };
    let socket = udp_socket(group).map_err(|e| step("open a socket", e))?;
    socket
        .set_reuse_address(true)
        .map_err(|e| step("share the port", e))?;
    let scoped = match (group, interface) {
        // A link-local group is one of an interface, and which that is only this machine knows.
        (SocketAddr::V6(mut v6), Interface::Index(index) | Interface::At(index, _)) => {
            v6.set_scope_id(index);
            SocketAddr::V6(v6)
        }
        _ => group,
    };
    socket.bind(&scoped.into()).map_err(|e| step("bind", e))?;
    // Without this a socket gets every group that any program of the machine has joined.
    let all = if group.is_ipv4() {
        socket.set_multicast_all_v4(false)
    } else {
        socket.set_multicast_all_v6(false)
    };
    all.map_err(|e| step("restrict the socket to its group", e))?;
    match (group.ip(), interface) {
        (IpAddr::V4(ip), Interface::Index(index) | Interface::At(index, _)) => {
            socket.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Index(index))
        }
        (IpAddr::V4(ip), Interface::Address(IpAddr::V4(address))) => {
            socket.join_multicast_v4_n(&ip, &InterfaceIndexOrAddress::Address(address))
        }
        (IpAddr::V6(ip), Interface::Index(index) | Interface::At(index, _)) => {
            socket.join_multicast_v6(&ip, index)
        }
        (_, Interface::Address(_)) => Err(wrong_family()),
    }
    .map_err(|e| step("join the group", e))?;
    enlarge(&socket, GROUP_BUFFER).map_err(|e| step("set the receive buffer", e))?;
    batch::prepare_receiving(&socket);
    socket
        .set_nonblocking(true)
        .map_err(|e| step("make the socket non-blocking", e))?;
    Ok(socket.into())
}

/// The socket on which a sender hears its receivers.
pub fn control_listener(address: SocketAddr) -> Result<UdpSocket, SocketError> {
    let step = |step, source| SocketError {
        step,
        address,
        source,
    };
    let socket = udp_socket(address).map_err(|e| step("open a socket", e))?;
    socket.bind(&address.into()).map_err(|e| step("bind", e))?;
    enlarge(&socket, CONTROL_BUFFER).map_err(|e| step("set the receive buffer", e))?;
    socket
        .set_nonblocking(true)
        .map_err(|e| step("make the socket non-blocking", e))?;
    Ok(socket.into())
}

/// A socket that speaks to the sender's control address.
pub fn control_speaker(control: SocketAddr) -> Result<UdpSocket, SocketError> {
    let step = |step, source| SocketError {
        step,
        address: control,
        source,
    };
    let socket = udp_socket(control).map_err(|e| step("open a socket", e))?;
    socket.connect(&control.into()).map_err(|e| step("connect", e))?;
    socket
        .set_nonblocking(true)
        .map_err(|e| step("make the socket non-blocking", e))?;
    Ok(socket.into())
}

/// Bytes of the socket's receive buffer, as the kernel counts them.
pub fn receive_buffer(socket: &UdpSocket) -> io::Result<usize> {
    SockRef::from(socket).recv_buffer_size()
}

fn udp_socket(like: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(like),
        Type::DGRAM.cloexec(),
        Some(Protocol::UDP),
    )?;
    if like.is_ipv6() {
        // Otherwise an IPv6 session would take the port of all IPv4 addresses as well.
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Sends multicast over the interface with this index, from this address, or from one that the kernel chooses.
fn send_over(socket: &Socket, index: u32, address: Ipv4Addr) -> io::Result<()> {
    let group = Ipv4Addr::UNSPECIFIED;
    Ok(rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
        socket, &group, &address, index,
    )?)
}

/// Sets the receive buffer: past the system's maximum where we may, up to it where we may not.
fn enlarge(socket: &Socket, bytes: usize) -> io::Result<()> {
    match rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes) {
        Ok(()) => Ok(()),
        Err(_) => socket.set_recv_buffer_size(bytes),
    }
}

fn wrong_family() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "the interface's address is of another family than the group's",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_of_the_wrong_family_is_refused_by_name() {
        let group = "239.255.0.1:4000".parse().unwrap();
        let interface = Interface::Address("::1".parse().unwrap());
        let error = group_receiver(group, interface).unwrap_err();
        assert_eq!(error.to_string(), "cannot join the group for 239.255.0.1:4000");
    }

    #[test]
    fn a_port_that_is_taken_is_named() {
        let first = control_listener("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let error = control_listener(address).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot bind for {address}"));
    }
}
