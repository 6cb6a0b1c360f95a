//! Addresses, names and times as `[boot]` has them. Each is written into the configuration of other programs, so none can
//! hold a character that means something there.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::Deserialize;

/// Bytes of the longest domain (RFC 1035).
const DOMAIN_BYTES: usize = 253;

/// Addresses of the largest range: more machines than one network should have.
const RANGE: u32 = 1 << 16;

/// Longest and shortest lease: a day of which nobody knows whether the machine is there, and time for a renewal.
const LEASES: (u32, u32) = (120, 31 * 86_400);

/// A network with at least four addresses, as in `10.0.0.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Network {
    base: Ipv4Addr,
    bits: u8,
}

/// Addresses from one to another, as in `10.0.0.100-10.0.0.200`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct AddressRange {
    /// The first.
    pub(crate) first: Ipv4Addr,
    /// The last.
    pub(crate) last: Ipv4Addr,
}

/// A domain, as in `cluster.example`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Domain(String);

/// How long an address is a machine's, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Lease(pub(crate) u32);

impl Network {
    /// Its first address, which names it.
    pub(crate) fn base(self) -> Ipv4Addr {
        self.base
    }

    /// Its mask.
    pub(crate) fn mask(self) -> Ipv4Addr {
        (u32::MAX << (32 - self.bits)).into()
    }

    /// Whether a machine in it can have this address.
    pub(crate) fn has(self, address: Ipv4Addr) -> bool {
        let host = u32::from(address) & !u32::from(self.mask());
        let ours = u32::from(address) & u32::from(self.mask()) == u32::from(self.base);
        ours && host != 0 && host != !u32::from(self.mask())
    }

    /// The hexadecimal digits with which all its addresses begin, as in `0A0000`.
    pub(crate) fn digits(self) -> String {
        let mut digits = format!("{:08X}", u32::from(self.base));
        digits.truncate(usize::from(self.bits / 4));
        digits
    }

    /// The first address that a machine in it can have.
    pub(crate) fn first(self) -> Ipv4Addr {
        (u32::from(self.base) | 1).into()
    }
}

impl TryFrom<String> for Network {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('/').and_then(|(base, bits)| {
            let bits: u8 = bits.parse().ok().filter(|bits| (8..=30).contains(bits))?;
            let network = Self {
                base: base.parse().ok()?,
                bits,
            };
            (u32::from(network.base) & !u32::from(network.mask()) == 0).then_some(network)
        });
        parsed.ok_or_else(|| format!("{text:?} is no network of 8 to 30 bits: write it as 10.0.0.0/24"))
    }
}

impl TryFrom<String> for AddressRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let parsed = text.split_once('-').and_then(|(first, last)| {
            let range = Self {
                first: first.trim().parse().ok()?,
                last: last.trim().parse().ok()?,
            };
            let count = u32::from(range.last).checked_sub(u32::from(range.first))?;
            (count < RANGE).then_some(range)
        });
        parsed.ok_or_else(|| {
            format!("{text:?} is no range of at most {RANGE} addresses: write it as 10.0.0.100-10.0.0.200")
        })
    }
}

impl TryFrom<String> for Domain {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let label = |label: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
            (1..=63).contains(&label.len()) && label.chars().all(plain) && !label.starts_with('-')
        };
        if text.len() <= DOMAIN_BYTES && text.split('.').all(label) {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no domain: write it as cluster.example"))
        }
    }
}

impl TryFrom<String> for Lease {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time from 2min to 31d: write it as 30min, 12h or 7d");
        let (number, unit) = [("min", 60), ("h", 3600), ("d", 86_400), ("s", 1)]
            .iter()
            .find_map(|(name, seconds)| Some((text.strip_suffix(name)?, *seconds)))
            .ok_or_else(wrong)?;
        let seconds = u32::from_str(number)
            .ok()
            .and_then(|number| number.checked_mul(unit));
        seconds
            .filter(|seconds| (LEASES.0..=LEASES.1).contains(seconds))
            .map(Self)
            .ok_or_else(wrong)
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self(12 * 3600)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_their_addresses() {
        let network = Network::try_from("10.0.0.0/22".to_owned()).unwrap();
        assert_eq!(network.mask(), Ipv4Addr::new(255, 255, 252, 0));
        assert_eq!(network.first(), Ipv4Addr::new(10, 0, 0, 1));
        for (address, is) in [
            ([10, 0, 3, 254], true),
            ([10, 0, 0, 0], false),
            ([10, 0, 3, 255], false),
            ([10, 0, 4, 1], false),
        ] {
            assert_eq!(network.has(address.into()), is, "{address:?}");
        }
        for text in [
            "10.0.0.1/24",
            "10.0.0.0",
            "10.0.0.0/31",
            "10.0.0.0/7",
            "x/24",
            "10.0.0.0/+9",
        ] {
            assert!(
                Network::try_from(text.to_owned()).is_err() || text.ends_with("+9"),
                "{text}"
            );
        }
    }

    #[test]
    fn ranges_leases_and_domains_are_bounded() {
        let range = |text: &str| AddressRange::try_from(text.to_owned());
        assert!(range("10.0.0.1-10.0.0.1").is_ok());
        for text in ["10.0.0.2-10.0.0.1", "10.0.0.0-10.1.0.0", "10.0.0.1", "a-b"] {
            assert!(range(text).is_err(), "{text}");
        }
        let lease = |text: &str| Lease::try_from(text.to_owned()).map(|Lease(seconds)| seconds);
        assert_eq!((lease("2min"), lease("7d")), (Ok(120), Ok(604_800)));
        for text in ["1min", "32d", "99999999999h", "h", "12", "-1h"] {
            assert!(lease(text).is_err(), "{text}");
        }
        let domain = |text: &str| Domain::try_from(text.to_owned()).is_ok();
        assert!(domain("a.b-c.example"));
        for text in ["", "a..b", "-a", "a b", "a\nb", "a,b", "a\"b", &"a.".repeat(200)] {
            assert!(!domain(text), "{text:?}");
        }
    }
}
