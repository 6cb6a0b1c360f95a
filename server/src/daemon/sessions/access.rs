//! How a node is reached: over which interface, and which of our addresses it knows.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::StatusCode;
use simulcast_protocol::units::Rate;
use simulcast_transport::udp::Interface;
use simulcast_transport::udp::route::{Link, link, route_to};

use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::settings::Multicast;
use super::share::Wire;

/// How a node is reached.
#[derive(Debug, Clone)]
pub(in super::super) struct Access {
    /// Index of the interface that leads to it.
    pub(in super::super) index: u32,
    /// That interface.
    pub(in super::super) link: Link,
    /// What carries its packets.
    pub(super) wire: Wire,
    /// Our address there, which multicast packets come from.
    pub(in super::super) source: IpAddr,
    /// The address that it reaches us under.
    pub(in super::super) local: IpAddr,
}

impl Access {
    /// The way to the node at the other end of a connection.
    pub(in super::super) fn to(ends: Ends, settings: &Multicast) -> Result<Self, Refusal> {
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
            wire: Wire::below(route.interface, &link),
            link,
            source: route.local,
            local,
        })
    }

    /// Whether the node is reached by IPv6.
    pub(in super::super) fn is_ipv6(&self) -> bool {
        self.local.is_ipv6()
    }

    /// The speed of what carries its packets, if the kernel knows it.
    pub(in super::super) fn speed(&self) -> Option<Rate> {
        self.wire.speed()
    }

    pub(in super::super) fn interface(&self) -> Interface {
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
