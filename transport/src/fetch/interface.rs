//! Network interfaces as people name them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::Deserialize;
use socket2::{Domain, Protocol, Socket, Type};

use crate::http::ServerUrl;
use crate::udp::Interface;
use crate::udp::route::{link, path_mtu, route_to};

/// An interface by its name or one of its addresses.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NamedInterface {
    /// One of its addresses.
    Address(IpAddr),
    /// Its name.
    Name(String),
}

/// A text that names no interface.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no network interface: give its name, as in eth0, or one of its addresses")]
pub struct ParseInterfaceError(String);

impl NamedInterface {
    /// The interface as sockets take it.
    ///
    /// # Errors
    /// When there is no interface of that name.
    pub fn resolve(&self) -> io::Result<Interface> {
        Ok(match self {
            Self::Address(address) => Interface::At(self.index()?, *address),
            Self::Name(_) => Interface::Index(self.index()?),
        })
    }

    /// Its index.
    ///
    /// # Errors
    /// When there is no interface of that name, or none with that address.
    pub fn index(&self) -> io::Result<u32> {
        match self {
            Self::Address(address) => {
                let route = route_to((*address, 0).into())?;
                let ours = route.local == *address;
                ours.then_some(route.interface)
                    .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
            }
            Self::Name(name) => {
                let socket = Socket::new(Domain::IPV4, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
                Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
            }
        }
    }
}

/// Bytes of the largest IP packet that is known to pass from `server` to this machine, over `interface` if one is named;
/// `None` when nobody knows.
pub fn mtu_towards(server: &ServerUrl, interface: Option<&NamedInterface>) -> Option<u32> {
    let own = match interface {
        Some(named) => link(named.index().ok()?).ok()?.mtu,
        None => u32::MAX,
    };
    let paths = server.addresses().ok()?.into_iter().map(path_mtu);
    let path = paths.filter_map(Result::ok).min()?;
    Some(path.min(own))
}

/// The interface over which `peer` is reached, and the address that this machine has on it.
///
/// # Errors
/// When there is no route to `peer`.
pub(super) fn towards(peer: SocketAddr) -> io::Result<Interface> {
    let route = route_to(peer)?;
    Ok(Interface::At(route.interface, route.local))
}

impl FromStr for NamedInterface {
    type Err = ParseInterfaceError;

    fn from_str(text: &str) -> Result<Self, ParseInterfaceError> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        // What Linux takes as the name of an interface.
        let name = (1..16).contains(&text.len())
            && !matches!(text, "." | "..")
            && text
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if name {
            Ok(Self::Name(text.to_owned()))
        } else {
            Err(ParseInterfaceError(text.chars().take(80).collect()))
        }
    }
}

impl TryFrom<String> for NamedInterface {
    type Error = ParseInterfaceError;

    fn try_from(text: String) -> Result<Self, ParseInterfaceError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart_and_nonsense_is_refused() {
        assert_eq!("eth0.12".parse(), Ok(NamedInterface::Name("eth0.12".to_owned())));
        let address = "10.1.2.3".parse().unwrap();
        assert_eq!("10.1.2.3".parse(), Ok(NamedInterface::Address(address)));
        for text in ["", ".", "..", "a/b", "a b", "a:b", "sixteen-letters-"] {
            let refused = text.parse::<NamedInterface>();
            assert_eq!(refused, Err(ParseInterfaceError(text.to_owned())));
        }
    }

    #[test]
    fn interfaces_are_found() {
        let name = NamedInterface::Name("lo".to_owned());
        let loopback = name.resolve().unwrap();
        assert!(matches!(loopback, Interface::Index(index) if index > 0));
        assert!(NamedInterface::Name("none-such0".to_owned()).resolve().is_err());
        let towards = towards("127.0.0.1:9".parse().unwrap()).unwrap();
        let server = "http://127.0.0.1".parse().unwrap();
        assert_eq!(mtu_towards(&server, None), mtu_towards(&server, Some(&name)));
        assert_eq!(mtu_towards(&"no-such-name.invalid".parse().unwrap(), None), None);
        let Interface::Index(index) = loopback else {
            panic!("{loopback:?}")
        };
        assert_eq!(towards, Interface::At(index, [127, 0, 0, 1].into()));
    }
}
