//! The kernel command line of the mini-kernel: how the boot service tells the installer where it is.
//!
//! The installer has no other configuration, so reading and writing stand side by side and round-trip. There is no
//! secret in it: everybody can read it, on the wire and in `/proc/cmdline`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Mac;

/// Bytes of a kernel command line that is read; kernels take 2,048 to 4,096.
const LINE_BYTES: usize = 16 << 10;

/// Bytes of one value.
const WORD_BYTES: usize = 512;

/// Servers of names, and consoles, that one line may have.
const LIST: usize = 8;

/// Hardware type of Ethernet, which PXELINUX and iPXE put before the address of the card (RFC 1700).
const ETHERNET: &str = "01-";

/// What the installer takes from the kernel command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandLine {
    /// The image server, as in `http://10.0.0.1:9440`: `si.server`.
    pub server: Option<Word>,
    /// The key that signs what the server says, 64 hexadecimal digits: `si.key`.
    pub key: Option<Word>,
    /// The card that the machine booted from: `BOOTIF`.
    pub boot: Option<Mac>,
    /// How that card gets its address: `si.ip`.
    pub address: Addressing,
    /// Tell everything on the console: `si.debug`.
    pub debug: bool,
    /// Stop before this step and open a shell: `si.break`.
    pub break_at: Option<Word>,
    /// Let the operator in, do nothing else: `si.rescue`.
    pub rescue: bool,
    /// Where to talk and to open shells, as in `ttyS0`: `si.console`, each its own.
    pub consoles: Vec<Word>,
}

/// How a card gets its address.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Addressing {
    /// By DHCP.
    #[default]
    Dhcp,
    /// It has this one.
    Static {
        /// The address with the bits of its network.
        address: Subnet,
        /// The way to everywhere else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        gateway: Option<IpAddr>,
        /// Servers of names, at most 8.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        dns: Vec<IpAddr>,
    },
}

/// An address and how many of its bits are its network's: `10.0.0.5/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    address: IpAddr,
    prefix: u8,
}

/// A word of a kernel command line: up to 512 printable ASCII characters, without blanks, quotes and backslashes, so
/// that it can neither end nor begin another one, in the kernel's line or in a boot loader's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

/// A kernel command line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandLineError {
    /// It is longer than any kernel's.
    #[error("the kernel command line has more than 16 KiB")]
    Long,
    /// A value has the wrong form.
    #[error("{name}={value:?} on the kernel command line: {expected}")]
    Value {
        /// The parameter.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A parameter of ours that there is not.
    #[error("{0:?} on the kernel command line is nothing that the installer knows")]
    Unknown(String),
}

/// A text that is no subnet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with the bits of its network: write 10.0.0.5/24")]
pub struct ParseSubnetError(String);

/// A text that is no word of a command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot stand on a kernel command line: use up to 512 printable ASCII characters, no blank, quote, backslash or $"
)]
pub struct ParseWordError(String);

impl CommandLine {
    /// Reads the text of `/proc/cmdline`. What is not ours is passed over; of what is given twice the last counts.
    ///
    /// # Errors
    /// A parameter that begins with `si.` and is unknown, or a value that cannot be used.
    pub fn parse(text: &str) -> Result<Self, CommandLineError> {
        if text.len() > LINE_BYTES {
            return Err(CommandLineError::Long);
        }
        let mut line = Self::default();
        for word in text.split_ascii_whitespace() {
            // The kernel keeps the quotes that a boot loader wrote.
            let word = word.trim_matches('"');
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            line.set(name, value.trim_matches('"'))?;
        }
        Ok(line)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), CommandLineError> {
        match name {
            "si.server" => {
                self.server = Some(read("si.server", value, "an address as in http://10.0.0.1:9440")?)
            }
            "si.key" => {
                let key: Word = read("si.key", value, KEY)?;
                if key.0.len() != 64 || !key.0.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                    return Err(wrong("si.key", value, KEY));
                }
                self.key = Some(key);
            }
            "BOOTIF" => {
                let mac = value
                    .strip_prefix(ETHERNET)
                    .filter(|mac| mac.len() == 17)
                    .unwrap_or(value);
                self.boot = Some(read("BOOTIF", mac, "a card as in 01-52-54-00-12-34-56")?);
            }
            "si.ip" => {
                self.address = read(
                    "si.ip",
                    value,
                    "dhcp, or ADDRESS/BITS,GATEWAY,DNS,... with an empty GATEWAY if there is none",
                )?;
            }
            "si.debug" => self.debug = switch("si.debug", value)?,
            "si.rescue" => self.rescue = switch("si.rescue", value)?,
            "si.break" => self.break_at = Some(read("si.break", value, "the name of a step")?),
            "si.console" => {
                if self.consoles.len() == LIST {
                    return Err(wrong("si.console", value, "at most 8 of them"));
                }
                self.consoles
                    .push(read("si.console", value, "a terminal as in ttyS0")?);
            }
            name if name.starts_with("si.") => {
                return Err(CommandLineError::Unknown(name.chars().take(80).collect()));
            }
            _ => {}
        }
        Ok(())
    }
}

const KEY: &str = "64 hexadecimal digits";

fn wrong(name: &'static str, value: &str, expected: &'static str) -> CommandLineError {
    CommandLineError::Value {
        name,
        value: value.chars().take(80).collect(),
        expected,
    }
}

fn read<T: FromStr>(name: &'static str, value: &str, expected: &'static str) -> Result<T, CommandLineError> {
    value.parse().map_err(|_| wrong(name, value, expected))
}

fn switch(name: &'static str, value: &str) -> Result<bool, CommandLineError> {
    match value {
        "" | "1" | "yes" => Ok(true),
        "0" | "no" => Ok(false),
        _ => Err(wrong(name, value, "nothing, 0 or 1")),
    }
}

impl fmt::Display for CommandLine {
    /// As it is put on a kernel command line, in a fixed order; what has its usual value is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.server.as_ref().map(|server| format!("si.server={server}")));
        words.extend(self.key.as_ref().map(|key| format!("si.key={key}")));
        words.extend(self.boot.map(|mac| format!("BOOTIF={ETHERNET}{}", mac.dashed())));
        if self.address != Addressing::Dhcp {
            words.push(format!("si.ip={}", self.address));
        }
        words.extend(self.debug.then(|| "si.debug".to_owned()));
        words.extend(self.break_at.as_ref().map(|step| format!("si.break={step}")));
        words.extend(self.rescue.then(|| "si.rescue".to_owned()));
        words.extend(
            self.consoles
                .iter()
                .map(|console| format!("si.console={console}")),
        );
        f.write_str(&words.join(" "))
    }
}

impl FromStr for Addressing {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        if text == "dhcp" {
            return Ok(Self::Dhcp);
        }
        let form = || ParseSubnetError(text.chars().take(80).collect());
        let mut fields = text.split(',');
        let address = fields.next().unwrap_or_default().parse()?;
        let gateway = match fields.next() {
            None | Some("") => None,
            Some(gateway) => Some(gateway.parse().map_err(|_| form())?),
        };
        let dns: Vec<IpAddr> = fields
            .map(|server| server.parse().map_err(|_| form()))
            .collect::<Result<_, _>>()?;
        if dns.len() > LIST {
            return Err(form());
        }
        Ok(Self::Static {
            address,
            gateway,
            dns,
        })
    }
}

impl fmt::Display for Addressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dhcp => f.write_str("dhcp"),
            Self::Static {
                address,
                gateway,
                dns,
            } => {
                write!(f, "{address}")?;
                match gateway {
                    Some(gateway) => write!(f, ",{gateway}")?,
                    None if dns.is_empty() => {}
                    None => f.write_str(",")?,
                }
                dns.iter().try_for_each(|server| write!(f, ",{server}"))
            }
        }
    }
}

impl Subnet {
    /// The address; `None` when its network has not so many bits, or none at all.
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        (1..=most).contains(&prefix).then_some(Self { address, prefix })
    }

    /// The address alone.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// Bits of the network.
    pub fn prefix(self) -> u8 {
        self.prefix
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let digits = prefix.bytes().all(|digit| digit.is_ascii_digit());
            let prefix = if digits { prefix.parse().ok()? } else { return None };
            Self::new(address.parse().ok()?, prefix)
        });
        parsed.ok_or_else(|| ParseSubnetError(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl TryFrom<String> for Subnet {
    type Error = ParseSubnetError;

    fn try_from(text: String) -> Result<Self, ParseSubnetError> {
        text.parse()
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        subnet.to_string()
    }
}

impl Word {
    /// The word as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Word {
    type Err = ParseWordError;

    fn from_str(text: &str) -> Result<Self, ParseWordError> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | '$' | '`');
        if !text.is_empty() && text.len() <= WORD_BYTES && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ParseWordError(text.chars().take(80).collect()))
        }
    }
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[path = "cmdline_tests.rs"]
mod tests;
