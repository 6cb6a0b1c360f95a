//! How a node is reached: over which interface, and which of our addresses it knows.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::StatusCode;
use simulcast_transport::udp::Interface;
use simulcast_transport::udp::route::{Link, link, path_mtu, route_to};

use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::settings::Multicast;
use super::share::Wire;

/// How a node is reached.
#[derive(Debug, Clone)]
pub(super) struct Access {
    /// Index of the interface that leads to it.
    pub(super) index: u32,
    /// That interface.
    pub(super) link: Link,
    /// Bytes of the longest IP packet that is known to pass to the node.
    pub(super) mtu: u32,
    /// What carries its packets.
    pub(super) wire: Wire,
    /// Our address there, which multicast packets come from.
    pub(super) source: IpAddr,
    /// The address that it reaches us under.
    pub(super) local: IpAddr,
    /// Its own.
    pub(super) peer: IpAddr,
}

impl Access {
    /// The way to the node at the other end of a connection.
    pub(super) fn to(ends: Ends, settings: &Multicast) -> Result<Self, Refusal> {
        let (local, peer) = (ends.local.ip().to_canonical(), canonical(ends.peer));
        let route = route_to(peer).map_err(|error| trouble(peer, &error))?;
        let link = link(route.interface).map_err(|error| trouble(peer, &error))?;
        let named = |index| {
            settings
                .interfaces
                .iter()
                .any(|name| name.index().ok() == Some(index))
        };
        if !settings.interfaces.is_empty() && !named(route.interface) {
            return Err(Refusal::new(
                StatusCode::CONFLICT,
                format!(
                    "multicast is not sent over {}, which leads to {}",
                    link.name,
                    peer.ip()
                ),
                "add it to `interfaces` in server.toml of the image server, or use --transport http",
            ));
        }
        Ok(Self {
            index: route.interface,
            mtu: path_mtu(peer).map_or(link.mtu, |path| path.min(link.mtu)),
            wire: Wire::below(route.interface, &link),
            link,
            source: route.local,
            local,
            peer: peer.ip(),
        })
    }

    /// Whether the node is reached by IPv6.
    pub(super) fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }

    pub(super) fn interface(&self) -> Interface {
        Interface::At(self.index, self.source)
    }
}

/// The address as it is on the wire: a socket for both families shows those of IPv4 in another form.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(v4) => (v4, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

fn trouble(peer: SocketAddr, error: &io::Error) -> Refusal {
    Refusal::trouble(format!(
        "cannot find the interface that leads to {}: {error}",
        peer.ip()
    ))
}
