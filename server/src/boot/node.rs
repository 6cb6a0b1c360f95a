//! Nodes as booting sees them: who they are, and what they should boot.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use simulcast_protocol::install::{Mac, NodeName};

use super::args::KernelArgs;
use super::package::PackageName;

/// A node, as whoever keeps the inventory tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BootNode {
    /// Its name, which DHCP gives it too.
    pub(crate) name: NodeName,
    /// The card that it boots from.
    pub(crate) mac: Mac,
    /// What its firmware calls it, where that is known.
    pub(crate) uuid: Option<Uuid>,
    /// The address that DHCP gives it; another one of the range if there is none.
    pub(crate) address: Option<Ipv4Addr>,
    /// What it should boot.
    pub(crate) action: BootAction,
    /// The mini-kernel for it; the usual one if there is none.
    pub(crate) package: Option<PackageName>,
    /// What its kernel command line has besides.
    pub(crate) args: KernelArgs,
}

/// What a machine should boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BootAction {
    /// The mini-kernel, which asks the server what to do: installs, or says what the machine is.
    Install,
    /// Its local disk.
    Local,
    /// The mini-kernel, which lets the operator in.
    Rescue,
}

/// What firmware calls a machine (SMBIOS), in small letters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Uuid(String);

/// All nodes, by everything that a boot loader may ask for them by.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Nodes {
    nodes: Vec<BootNode>,
    by_mac: BTreeMap<Mac, usize>,
    by_uuid: BTreeMap<Uuid, usize>,
    by_address: BTreeMap<Ipv4Addr, usize>,
}

impl Nodes {
    /// These nodes. Of two that claim the same card, identifier or address, the first has it.
    pub(crate) fn new(nodes: Vec<BootNode>) -> Self {
        let mut all = Self::default();
        for (index, node) in nodes.iter().enumerate() {
            all.by_mac.entry(node.mac).or_insert(index);
            if let Some(uuid) = &node.uuid {
                all.by_uuid.entry(uuid.clone()).or_insert(index);
            }
            if let Some(address) = node.address {
                all.by_address.entry(address).or_insert(index);
            }
        }
        all.nodes = nodes;
        all
    }

    /// All of them, in the order that they were given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &BootNode> {
        self.nodes.iter()
    }

    /// The node that asks.
    pub(crate) fn find(&self, who: &Asking) -> Option<&BootNode> {
        let index = match who {
            Asking::Card(mac) => self.by_mac.get(mac),
            Asking::Machine(uuid) => self.by_uuid.get(uuid),
            Asking::Address(address) => self.by_address.get(address),
            Asking::Prefix(_) | Asking::Anybody => None,
        };
        self.nodes.get(*index?)
    }
}

/// How a boot loader says who it is, in the name of the file that it asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asking {
    /// By its card: `01-52-54-00-12-34-56`.
    Card(Mac),
    /// By its firmware's identifier.
    Machine(Uuid),
    /// By its address, in eight hexadecimal digits: `0A00000B`.
    Address(Ipv4Addr),
    /// By the first digits of its address, which it has with others: `0A0000`.
    Prefix(AddressPrefix),
    /// Not at all: `default`.
    Anybody,
}

/// The first of the eight hexadecimal digits of an address, at least one and not all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressPrefix(String);

/// A text that names no machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NobodyError;

impl FromStr for Asking {
    type Err = NobodyError;

    /// Takes the names that PXELINUX tries, one after the other: it asks by a prefix of its address when nothing was there for
    /// the machine itself, and by ever shorter ones until `default`.
    fn from_str(text: &str) -> Result<Self, NobodyError> {
        if text == "default" {
            return Ok(Self::Anybody);
        }
        if let Some(mac) = text.strip_prefix("01-") {
            return mac.parse().map(Self::Card).map_err(|_| NobodyError);
        }
        if (1..=8).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            if text.len() < 8 {
                return Ok(Self::Prefix(AddressPrefix(text.to_ascii_uppercase())));
            }
            let address = u32::from_str_radix(text, 16).map_err(|_| NobodyError)?;
            return Ok(Self::Address(address.into()));
        }
        text.parse().map(Self::Machine).map_err(|_| NobodyError)
    }
}

/// A text that is no UUID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no UUID: write 32 hexadecimal digits as 8-4-4-4-12")]
pub(crate) struct UuidError(String);

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        let ok = text.len() == 36
            && text.char_indices().all(|(at, c)| match at {
                8 | 13 | 18 | 23 => c == '-',
                _ => c.is_ascii_hexdigit(),
            });
        ok.then(|| Self(text.to_ascii_lowercase()))
            .ok_or_else(|| UuidError(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for Uuid {
    type Error = UuidError;

    fn try_from(text: String) -> Result<Self, UuidError> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Asking {
    /// As PXELINUX writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Card(mac) => write!(f, "01-{}", mac.dashed()),
            Self::Machine(uuid) => uuid.fmt(f),
            Self::Address(address) => write!(f, "{:08X}", u32::from(*address)),
            Self::Prefix(prefix) => f.write_str(&prefix.0),
            Self::Anybody => f.write_str("default"),
        }
    }
}

#[cfg(test)]
pub(crate) fn sample(name: &str, last: u8, action: BootAction) -> BootNode {
    BootNode {
        name: name.parse().unwrap(),
        mac: format!("52:54:00:00:00:{last:02x}").parse().unwrap(),
        uuid: format!("0000abcd-0000-0000-0000-0000000000{last:02x}")
            .parse()
            .ok(),
        address: Some(Ipv4Addr::new(10, 0, 0, last)),
        action,
        package: None,
        args: KernelArgs::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_pxelinux_tries_finds_its_node() {
        let nodes = Nodes::new(vec![
            sample("node01", 11, BootAction::Install),
            sample("node02", 12, BootAction::Local),
            sample("double", 11, BootAction::Rescue),
        ]);
        for (text, name) in [
            ("01-52-54-00-00-00-0b", Some("node01")),
            ("01-52-54-00-00-00-0C", Some("node02")),
            ("0000ABCD-0000-0000-0000-00000000000c", Some("node02")),
            ("0A00000B", Some("node01")),
            ("0a00000c", Some("node02")),
            ("0A00000F", None),
            ("01-52-54-00-00-00-ff", None),
            ("default", None),
        ] {
            let who: Asking = text.parse().unwrap();
            let found = nodes.find(&who).map(|node| node.name.as_str());
            assert_eq!(found, name, "{text}");
            assert_eq!(who.to_string().to_lowercase(), text.to_lowercase());
        }
    }

    #[test]
    fn what_names_nobody_is_refused() {
        for text in [
            "",
            "0A00000B0",
            "0G",
            "01-",
            "01-zz",
            "Default",
            "../x",
            "0000abcd-0000-0000-0000-0000000000zz",
        ] {
            assert_eq!(text.parse::<Asking>(), Err(NobodyError), "{text:?}");
        }
    }
}
