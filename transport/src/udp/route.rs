//! The way to a peer, as the kernel's routing tables have it: which interface, which address of ours, how large packets
//! may be. Asked by rtnetlink, because no other interface tells the index of the interface for every kind of address.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use socket2::SockRef;

/// The way to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Index of the interface that leads there; for an address of this machine, the one that has it.
    pub interface: u32,
    /// The address that the peer sees us under.
    pub local: IpAddr,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name, as in `eth0.12`.
    pub name: String,
    /// Bytes of the largest IP packet that it sends.
    pub mtu: u32,
    /// Index of the interface that carries it, for a VLAN or a macvlan.
    pub lower: Option<u32>,
}

/// How long the kernel may take to answer; it answers at once.
const ANSWER: Duration = Duration::from_secs(5);

/// Bytes of one answer: a link with all its attributes takes 2 KiB.
const ANSWER_BYTES: usize = 32 << 10;

// Numbers of <linux/netlink.h>, <linux/rtnetlink.h> and <linux/if_link.h>.
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_F_FIB_MATCH: u32 = 0x2000;
const RTN_LOCAL: u8 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_PREFSRC: u16 = 7;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;

/// Bytes of the header of a message, of a route and of a link.
const HEADER: usize = 16;
const ROUTE: usize = 12;
const LINK: usize = 16;

/// The way to `peer`. The port does not matter; the scope of a link-local address does.
///
/// # Errors
/// When there is none, or the kernel cannot be asked.
pub fn route_to(peer: SocketAddr) -> io::Result<Route> {
    let found = ask_route(peer, 0)?;
    let (interface, local) = if found.kind == RTN_LOCAL {
        // A peer on this machine is reached over the loopback interface, but its address belongs to another one.
        (ask_route(peer, RTM_F_FIB_MATCH)?.interface, Some(peer.ip()))
    } else {
        (found.interface, found.source)
    };
    match (interface, local) {
        (Some(interface), Some(local)) => Ok(Route { interface, local }),
        _ => Err(strange()),
    }
}

/// Bytes of the largest IP packet that is known to pass to `peer`: that of the interface, or less where the kernel has
/// learned of a narrower link on the way.
///
/// # Errors
/// When there is no way to it.
pub fn path_mtu(peer: SocketAddr) -> io::Result<u32> {
    let any: IpAddr = if peer.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    // Connecting a UDP socket sends nothing; it looks up the route.
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    let mtu = if peer.is_ipv4() {
        rustix::net::sockopt::ip_mtu(&socket)
    } else {
        rustix::net::sockopt::ipv6_mtu(&socket)
    };
    Ok(mtu?)
}

/// The interface with this index.
///
/// # Errors
/// When there is none, or the kernel cannot be asked.
pub fn link(index: u32) -> io::Result<Link> {
    let mut request = vec![0; LINK];
    request[4..8].copy_from_slice(&index.to_ne_bytes());
    let answer = ask(RTM_GETLINK, request, RTM_NEWLINK)?;
    read_link(answer.get(LINK..).unwrap_or_default()).ok_or_else(strange)
}

/// What an answer says about a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    kind: u8,
    interface: Option<u32>,
    source: Option<IpAddr>,
}

fn ask_route(peer: SocketAddr, flags: u32) -> io::Result<Found> {
    let (family, address, scope) = match peer {
        SocketAddr::V4(v4) => (libc::AF_INET, v4.ip().octets().to_vec(), 0),
        SocketAddr::V6(v6) => (libc::AF_INET6, v6.ip().octets().to_vec(), v6.scope_id()),
    };
    let mut request = vec![0; ROUTE];
    request[0] = u8::try_from(family).map_err(|_| strange())?;
    request[1] = u8::try_from(address.len() * 8).map_err(|_| strange())?;
    request[8..].copy_from_slice(&flags.to_ne_bytes());
    put(&mut request, RTA_DST, &address);
    if scope != 0 {
        put(&mut request, RTA_OIF, &scope.to_ne_bytes());
    }
    read_route(&ask(RTM_GETROUTE, request, RTM_NEWROUTE)?).ok_or_else(strange)
}

fn read_route(answer: &[u8]) -> Option<Found> {
    let (fixed, rest) = answer.split_at_checked(ROUTE)?;
    let mut found = Found {
        kind: fixed[7],
        interface: None,
        source: None,
    };
    for (kind, value) in attributes(rest) {
        match kind {
            RTA_OIF => found.interface = number(value),
            RTA_PREFSRC => found.source = address(value),
            _ => {}
        }
    }
    Some(found)
}

fn read_link(answer: &[u8]) -> Option<Link> {
    let (mut name, mut mtu, mut lower, mut stacked) = (None, None, None, false);
    for (kind, value) in attributes(answer) {
        match kind {
            IFLA_IFNAME => name = text(value),
            IFLA_MTU => mtu = number(value),
            IFLA_LINK => lower = number(value),
            // The link of a veth is its other end, maybe in another namespace; only these lie on the one below.
            IFLA_LINKINFO => {
                stacked = attributes(value)
                    .filter(|(kind, _)| *kind == IFLA_INFO_KIND)
                    .filter_map(|(_, value)| text(value))
                    .any(|kind| kind == "vlan" || kind == "macvlan");
            }
            _ => {}
        }
    }
    Some(Link {
        name: name?,
        mtu: mtu?,
        lower: lower.filter(|_| stacked),
    })
}

/// Sends one request and gives what follows the header of its answer, which must be of type `expected`.
fn ask(kind: u16, body: Vec<u8>, expected: u16) -> io::Result<Vec<u8>> {
    // No protocol is number 0, which is NETLINK_ROUTE.
    let socket = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    SockRef::from(&socket).set_read_timeout(Some(ANSWER))?;
    let sequence: u32 = rand::random();
    let len = u32::try_from(HEADER + body.len()).map_err(|_| strange())?;
    let mut request = Vec::with_capacity(HEADER + body.len());
    request.extend_from_slice(&len.to_ne_bytes());
    request.extend_from_slice(&kind.to_ne_bytes());
    request.extend_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    request.extend_from_slice(&sequence.to_ne_bytes());
    request.extend_from_slice(&[0; 4]);
    request.extend_from_slice(&body);
    send(&socket, &request, SendFlags::empty())?;
    let mut buffer = vec![0; ANSWER_BYTES];
    let (len, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
    buffer.truncate(len);
    let answered = u16_at(&buffer, 4).zip(number(buffer.get(8..12).unwrap_or_default()));
    match answered {
        Some((kind, of)) if of == sequence && kind == expected => {
            Ok(buffer.split_off(HEADER.min(buffer.len())))
        }
        Some((NLMSG_ERROR, of)) if of == sequence => {
            let code = number(buffer.get(HEADER..HEADER + 4).unwrap_or_default());
            let code = code.map_or(0, |code| i32::from_ne_bytes(code.to_ne_bytes()));
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        _ => Err(strange()),
    }
}

/// Adds an attribute.
fn put(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// The attributes in `bytes`, up to the first that cannot be.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (len, kind) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)?);
        let value = bytes.get(4..len)?;
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
        // The two highest bits say how the value is laid out.
        Some((kind & 0x3fff, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(value.try_into().ok()?))
}

fn text(value: &[u8]) -> Option<String> {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8(value[..end].to_vec()).ok()
}

fn address(value: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(value).ok()?));
    v4().or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(value).ok()?)))
}

fn strange() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the kernel's answer about a route makes no sense",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_leads_to_this_machine() {
        let route = route_to("127.0.0.1:9".parse().unwrap()).unwrap();
        assert_eq!(route.local, IpAddr::from([127, 0, 0, 1]));
        let link = link(route.interface).unwrap();
        assert_eq!((link.name.as_str(), link.lower), ("lo", None));
        let mtu = path_mtu("127.0.0.1:9".parse().unwrap()).unwrap();
        assert_eq!(mtu, link.mtu.min(65_535), "no IPv4 packet is longer");
    }

    #[test]
    fn an_interface_that_there_is_not_is_an_error() {
        assert_eq!(link(0x7fff_fff0).unwrap_err().raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn answers_are_read_and_broken_ones_are_not_believed() {
        let mut vlan = Vec::new();
        put(&mut vlan, IFLA_IFNAME, b"eth0.12\0");
        put(&mut vlan, IFLA_MTU, &9000u32.to_ne_bytes());
        put(&mut vlan, IFLA_LINK, &3u32.to_ne_bytes());
        let mut info = Vec::new();
        put(&mut info, IFLA_INFO_KIND, b"vlan\0");
        put(&mut vlan, IFLA_LINKINFO | 0x8000, &info);
        let expected = Link {
            name: "eth0.12".to_owned(),
            mtu: 9000,
            lower: Some(3),
        };
        assert_eq!(read_link(&vlan), Some(expected));
        for cut in 0..vlan.len() {
            assert!(
                read_link(&vlan[..cut]).is_none_or(|link| link.lower.is_none()),
                "cut at {cut}"
            );
        }
        let mut route = vec![0; ROUTE];
        route[7] = 1;
        put(&mut route, RTA_OIF, &7u32.to_ne_bytes());
        put(&mut route, RTA_PREFSRC, &[10, 1, 2, 3]);
        let found = Found {
            kind: 1,
            interface: Some(7),
            source: Some([10, 1, 2, 3].into()),
        };
        assert_eq!(read_route(&route), Some(found));
        assert_eq!(read_route(&route[..11]), None);
        // An attribute that claims to be shorter than its own header ends the reading.
        assert_eq!(attributes(&[3, 0, 4, 0, 0, 0, 0, 0]).count(), 0);
    }
}
