//! How a node is reached: over which interface, and which of our addresses it knows.

use std::io;
use std::net::{IpAddr, SocketAddr};

use axum::http::StatusCode;
use simulcast_protocol::api::USUAL_MTU;
use simulcast_protocol::units::Rate;
use simulcast_transport::udp::Interface;
use simulcast_transport::udp::route::{Link, link, path_mtu, route_to};

use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::settings::{Multicast, SHORTEST_MTU};
use super::share::Wire;

/// How a node is reached.
#[derive(Debug, Clone)]
pub(in super::super) struct Access {
    /// Index of the interface that leads to it.
    pub(in super::super) index: u32,
    /// That interface.
    pub(in super::super) link: Link,
    /// Bytes of the longest IP packet that is known to pass to the node.
    pub(super) mtu: u32,
    /// What carries its packets.
    pub(super) wire: Wire,
    /// Our address there, which multicast packets come from.
    pub(in super::super) source: IpAddr,
    /// The address that it reaches us under.
    pub(in super::super) local: IpAddr,
    /// Its own.
    pub(super) peer: IpAddr,
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
            mtu: path_mtu(peer).map_or(link.mtu, |path| path.min(link.mtu)),
            wire: Wire::below(route.interface, &link),
            link,
            source: route.local,
            local,
            peer: peer.ip(),
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

impl Multicast {
    /// The longest packets for a way that carries `mtu` bytes. There are few lengths, so that nodes which differ by some
    /// bytes share a session, and nobody can make one begin anew more than twice.
    pub(super) fn rung(&self, mtu: u32) -> Result<u32, Refusal> {
        let rungs = [self.mtu, USUAL_MTU, SHORTEST_MTU];
        let rung = rungs.into_iter().find(|&rung| rung <= mtu.min(self.mtu));
        rung.ok_or_else(|| {
            Refusal::new(
                StatusCode::CONFLICT,
                format!("packets of {mtu} bytes are too short for multicast"),
                "use --transport http",
            )
        })
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

#[cfg(test)]
mod tests {
    use super::super::super::settings::Settings;
    use super::*;

    #[test]
    fn there_are_few_lengths_of_packets() {
        let mut settings = Settings::default().multicast;
        let rung = |settings: &Multicast, mtu| settings.rung(mtu).ok();
        let all = [65_536, 9000, 8999, 1500, 1499, 1280, 1279].map(|mtu| rung(&settings, mtu));
        let expected = [9000, 9000, 1500, 1500, 1280, 1280].map(Some);
        assert_eq!((&all[..6], all[6]), (&expected[..], None));
        settings.mtu = 1500;
        assert_eq!(rung(&settings, 9000), Some(1500));
        settings.mtu = 1400;
        assert_eq!(
            [9000, 1399].map(|mtu| rung(&settings, mtu)),
            [Some(1400), Some(1280)]
        );
    }

    #[test]
    fn addresses_of_ipv4_are_told_from_those_of_ipv6() {
        for (text, expected) in [
            ("[::ffff:10.1.2.3]:7", "10.1.2.3:7"),
            ("10.1.2.3:7", "10.1.2.3:7"),
            ("[fe80::1%3]:7", "[fe80::1%3]:7"),
        ] {
            assert_eq!(canonical(text.parse().unwrap()).to_string(), expected);
        }
    }
}
