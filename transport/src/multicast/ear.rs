//! Hearing and asking queries of IGMP and MLD on one interface, by raw sockets. It takes CAP_NET_RAW.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use rustix::net::{RecvFlags, recvfrom};
use simulcast_protocol::multicast::membership::{
    ALL_HOSTS, ALL_NODES, Query, igmp_query, mld_query, parse_igmp, parse_mld,
};
use socket2::{Domain, Protocol, Socket, Type};

/// IGMP's number as a protocol of IP.
const IGMP: i32 = 2;

/// Packets that are looked at before other things get their turn.
const AT_ONCE: usize = 256;

/// Bytes of a packet that are looked at: queries with many sources are longer, and their ends tell nothing.
const BYTES: usize = 2048;

/// Hears queries on one interface.
#[derive(Debug)]
pub(super) struct Ear(Socket);

impl Ear {
    /// Listens on the interface with this name, for MLD if `ipv6` and else for IGMP.
    pub(super) fn open(interface: &str, ipv6: bool) -> io::Result<Self> {
        let (domain, protocol) = if ipv6 {
            (Domain::IPV6, Protocol::ICMPV6)
        } else {
            (Domain::IPV4, Protocol::from(IGMP))
        };
        // Every machine is a member of the groups that general queries go to: nothing is to be joined.
        Ok(Self(raw(domain, protocol, interface)?))
    }

    /// The last query that has come since it was asked last. It does not wait.
    pub(super) fn hear(&self) -> io::Result<Option<Query>> {
        let (mut last, mut buffer) = (None, [0; BYTES]);
        for _ in 0..AT_ONCE {
            let (len, from) = match recvfrom(&self.0, &mut buffer[..], RecvFlags::DONTWAIT) {
                Ok((len, _, from)) => (len, from),
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => break,
                Err(error) => return Err(error.into()),
            };
            let packet = buffer.get(..len).unwrap_or_default();
            let from = from.and_then(|from| SocketAddr::try_from(from).ok());
            let query = match from.map(|from| from.ip()) {
                Some(IpAddr::V6(from)) => parse_mld(packet, from),
                _ => parse_igmp(packet),
            };
            last = query.or(last);
        }
        Ok(last)
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends one general query over an interface, from this address of it.
pub(super) fn ask(interface: &str, index: u32, from: IpAddr, response: Duration) -> io::Result<()> {
    // With the protocol that is none, the kernel takes whole IP packets.
    let whole = Protocol::from(libc::IPPROTO_RAW);
    let (packet, to) = match from {
        IpAddr::V4(from) => (igmp_query(from, response), SocketAddr::from((ALL_HOSTS, 0))),
        IpAddr::V6(from) => {
            let to = std::net::SocketAddrV6::new(ALL_NODES, 0, 0, index);
            (mld_query(from, response), to.into())
        }
    };
    let socket = raw(Domain::for_address(to), whole, interface)?;
    // We know what sessions of ours are members of.
    if to.is_ipv4() {
        socket.set_multicast_loop_v4(false)?;
    } else {
        socket.set_multicast_loop_v6(false)?;
    }
    socket.send_to(&packet, &to.into()).map(drop)
}

/// The link-local address of an interface, which queries of MLD are sent from.
pub(super) fn link_local(index: u32) -> Option<Ipv6Addr> {
    find_link_local(&fs::read_to_string("/proc/net/if_inet6").ok()?, index)
}

/// From lines as `fe80…01 02 40 20 80 eth0`: address, index, bits of the prefix, scope, flags, all hexadecimal.
fn find_link_local(text: &str, index: u32) -> Option<Ipv6Addr> {
    /// The address is not yet known to be the only one of its kind.
    const TENTATIVE: u32 = 0x40;
    let hex = |word: Option<&str>| u32::from_str_radix(word?, 16).ok();
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = u128::from_str_radix(words.next()?, 16).ok()?;
        let address = Ipv6Addr::from_bits(address);
        let (found, _bits, _scope) = (hex(words.next())?, words.next()?, words.next()?);
        let usable = hex(words.next())? & TENTATIVE == 0;
        (found == index && usable && address.is_unicast_link_local()).then_some(address)
    })
}

fn raw(domain: Domain, protocol: Protocol, interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW.cloexec().nonblocking(), Some(protocol))?;
    socket.bind_device(Some(interface.as_bytes()))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_local_address_is_the_settled_one_of_the_interface() {
        let text = "fd770000000000000000000000000001 02 40 00 80     eth0\n\
                    fe80000000000000a8bbccfffeddee01 03 40 20 80     eth1\n\
                    fe80000000000000a8bbccfffeddee02 02 40 20 c0     eth0\n\
                    fe80000000000000a8bbccfffeddee03 02 40 20 80     eth0\n";
        let found = |index| find_link_local(text, index).map(|address| address.to_string());
        assert_eq!(found(2).as_deref(), Some("fe80::a8bb:ccff:fedd:ee03"));
        assert_eq!((found(3).is_some(), found(4)), (true, None));
        assert_eq!(find_link_local("nonsense\nfe80 2\n\n", 2), None);
    }
}
