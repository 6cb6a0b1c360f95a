//! Values of an entry: types that nothing wrong can be read as.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use simulcast_protocol::name::ImageRef;

use crate::boot;

/// Bytes of one text of the inventory: an ssh key of 16,384 bits has 2,800.
const TEXT_BYTES: usize = 4096;

/// A text that is no value of a key, and what one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub(crate) struct ValueError {
    text: String,
    why: String,
}

fn wrong(text: &str, why: impl Into<String>) -> ValueError {
    ValueError {
        text: text.chars().take(80).collect(),
        why: why.into(),
    }
}

/// An address, with or without the bits of its network part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    pub(crate) prefix: Option<u8>,
}

/// Bits of the network part of an IPv4 or IPv6 address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub(crate) struct Prefix(pub(crate) u8);

/// `NAME` or `NAME@V`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Image(pub(crate) ImageRef);

/// The name of a file in `layouts.d`, without its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct LayoutName(String);

/// A terminal of a kernel, with its speed if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Console(String);

/// A DNS domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Domain(String);

/// One line of text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Text(String);

/// The name of a variable of scripts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct VariableName(String);

/// The machine-id of an installed node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum MachineId {
    /// That of the golden client.
    Keep,
    /// A random one.
    New,
    /// This one: 32 hexadecimal digits.
    Value(String),
}

impl FromStr for Address {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (ip, prefix) = match text.split_once('/') {
            Some((ip, prefix)) => (ip, Some(prefix)),
            None => (text, None),
        };
        let fail = || wrong(text, "is no address: write 10.0.0.11 or 10.0.0.11/24");
        let ip: IpAddr = ip.parse().map_err(|_| fail())?;
        let longest = if ip.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map(|prefix| {
            prefix
                .parse()
                .ok()
                .filter(|&bits: &u8| (1..=longest).contains(&bits))
        });
        let useless =
            ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || ip == Ipv4Addr::BROADCAST;
        match prefix {
            _ if useless => Err(wrong(text, "is an address that no node can have")),
            Some(None) => Err(fail()),
            prefix => Ok(Self {
                ip,
                prefix: prefix.flatten(),
            }),
        }
    }
}

impl FromStr for Image {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let image = text.parse::<ImageRef>();
        image
            .map(Self)
            .map_err(|_| wrong(text, "is no image: write golden01 or golden01@3"))
    }
}

impl FromStr for LayoutName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let name = text.parse::<simulcast_protocol::name::ImageName>();
        let why = "is no name of a layout: use up to 64 letters, digits, '.', '_' or '-', as of a file in layouts.d";
        name.map(|_| Self(text.to_owned())).map_err(|_| wrong(text, why))
    }
}

impl FromStr for Console {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let word = !text.is_empty() && !text.contains(char::is_whitespace);
        let argument = format!("console={text}").parse::<boot::args::KernelArgs>();
        match word && argument.is_ok() {
            true => Ok(Self(text.to_owned())),
            false => Err(wrong(text, "is no console: write ttyS0 or ttyS0,115200")),
        }
    }
}

impl FromStr for Domain {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.starts_with(plain)
                && label.ends_with(plain)
                && label.chars().all(|c| plain(c) || c == '-')
        };
        match text.len() <= 253 && text.split('.').all(label) {
            true => Ok(Self(text.to_owned())),
            false => Err(wrong(
                text,
                "is no domain: write cluster.example.org, in small letters",
            )),
        }
    }
}

impl FromStr for Text {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() > TEXT_BYTES {
            return Err(wrong(text, format!("… is longer than {TEXT_BYTES} bytes")));
        }
        match text.chars().any(char::is_control) {
            true => Err(wrong(
                text,
                "has characters that cannot be printed: write one line of text",
            )),
            false => Ok(Self(text.to_owned())),
        }
    }
}

impl FromStr for VariableName {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let first = |c: char| c.is_ascii_alphabetic() || c == '_';
        let plain = text.len() <= 64
            && text.starts_with(first)
            && text.chars().all(|c| first(c) || c.is_ascii_digit());
        match plain {
            true => Ok(Self(text.to_owned())),
            false => Err(wrong(
                text,
                "is no name of a variable: use letters, digits and '_', beginning with a letter or '_'",
            )),
        }
    }
}

impl FromStr for MachineId {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        match text {
            "keep" => Ok(Self::Keep),
            "new" => Ok(Self::New),
            id if id.len() == 32 && id.chars().all(digit) => Ok(Self::Value(id.to_owned())),
            _ => Err(wrong(
                text,
                "is no machine-id: write new, keep, or 32 hexadecimal digits",
            )),
        }
    }
}

impl TryFrom<u8> for Prefix {
    type Error = ValueError;

    fn try_from(bits: u8) -> Result<Self, ValueError> {
        match bits {
            1..=128 => Ok(Self(bits)),
            _ => Err(wrong(
                &bits.to_string(),
                "is no prefix: write a number from 1 to 128, as in 24",
            )),
        }
    }
}

impl From<Prefix> for u8 {
    fn from(prefix: Prefix) -> Self {
        prefix.0
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix {
            Some(prefix) => write!(f, "{}/{prefix}", self.ip),
            None => self.ip.fmt(f),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::New => "new",
            Self::Value(id) => id,
        })
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

macro_rules! through_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}

as_text!(Console, LayoutName, Domain, Text, VariableName);
through_text!(
    Console,
    Address,
    Image,
    LayoutName,
    Domain,
    Text,
    VariableName,
    MachineId
);
