//! Values of settings that no other part knows: ranges of groups and ports, code points, times.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use simulcast_protocol::multicast::offer::WAIT_MAX;
use simulcast_protocol::multicast::querier::QuerierMode;

/// Groups that are looked at before a range counts as used up: more than are taken and reserved together.
const LOOKS: u64 = 1024;

/// A text that is no such value, and what one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} {why}")]
pub(crate) struct ValueError {
    text: String,
    why: &'static str,
}

/// Multicast groups that sessions may have: an address, and how many of its bits are the same for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct GroupRange {
    first: IpAddr,
    prefix: u32,
}

/// UDP ports that sessions may have: the lower half to hear reports on, the upper half for groups. A receiver on this
/// machine, or on that of another image server, must bind the group's port, and could not if reports were heard there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PortRange {
    first: u16,
    last: u16,
}

/// A differentiated services code point (RFC 2474): how routers and switches should treat packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Dscp(pub(crate) u8);

/// A time that people wait, from one millisecond to six hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Wait(pub(crate) Duration);

/// A share in hundredths, less than all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PerCent(pub(crate) u8);

/// When the server asks for members of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Asking(pub(crate) QuerierMode);

impl GroupRange {
    /// Groups in 239.255.64.0/18 (RFC 2365, local scope).
    pub(crate) const IPV4: Self = Self {
        first: IpAddr::V4(Ipv4Addr::new(239, 255, 64, 0)),
        prefix: 18,
    };

    /// Groups of the site that nobody assigned (RFC 4291, 2.7).
    pub(crate) const IPV6: Self = Self {
        first: IpAddr::V6(Ipv6Addr::new(0xff15, 0, 0, 0, 0, 0, 0, 0)),
        prefix: 16,
    };

    /// Whether its groups are of IPv4.
    pub(crate) fn is_ipv4(self) -> bool {
        self.first.is_ipv4()
    }

    /// A group that shares its Ethernet address with none that is `taken`; `random` chooses it.
    pub(crate) fn pick(self, taken: &[IpAddr], random: u64) -> Option<IpAddr> {
        let free =
            |group: &IpAddr| usable(*group) && taken.iter().all(|other| !share_ethernet(*group, *other));
        let size = 1u64 << self.free_bits();
        (0..size.min(LOOKS))
            .map(|step| self.at(random.wrapping_add(step) % size))
            .find(free)
    }

    /// Bits that are free to choose. Of IPv6, only the last 32 reach the Ethernet address.
    fn free_bits(self) -> u32 {
        let bits = if self.is_ipv4() { 32 } else { 128 };
        (bits - self.prefix).min(if self.is_ipv4() { 28 } else { 32 })
    }

    fn at(self, place: u64) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => {
                Ipv4Addr::from_bits(first.to_bits() | u32::try_from(place).unwrap_or(0)).into()
            }
            // The highest bit of the last 32 marks numbers that nobody assigned (RFC 3307, 4.3).
            IpAddr::V6(first) if self.prefix <= 96 => {
                Ipv6Addr::from_bits(first.to_bits() | u128::from(place) | 1 << 31).into()
            }
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits() | u128::from(place)).into(),
        }
    }
}

/// Whether switches treat a group as one of ours: those with the Ethernet addresses of 224.0.0.0/24 go to every port,
/// whoever asked for them (RFC 4541, 2.1.2).
fn usable(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(v4) => v4.to_bits() & 0x7f_ffff > 0xff,
        IpAddr::V6(v6) => v6.to_bits() & 0xffff_ffff > 0xff,
    }
}

/// Whether a network card takes one for the other: of IPv4 the last 23 bits count, of IPv6 the last 32.
fn share_ethernet(one: IpAddr, other: IpAddr) -> bool {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()) & 0x7f_ffff == 0,
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()) & 0xffff_ffff == 0,
        _ => false,
    }
}

impl PortRange {
    /// The ports after that of the interface.
    pub(crate) const DEFAULT: Self = Self {
        first: 9441,
        last: 9504,
    };

    /// Those for reports, from one on that `random` chooses.
    pub(crate) fn for_reports(self, random: u64) -> impl Iterator<Item = u16> {
        rotated(self.first, self.middle(), random)
    }

    /// Those for groups, from one on that `random` chooses.
    pub(crate) fn for_groups(self, random: u64) -> impl Iterator<Item = u16> {
        rotated(self.middle() + 1, self.last, random)
    }

    /// The last of the lower half.
    fn middle(self) -> u16 {
        self.first + (self.last - self.first) / 2
    }
}

fn rotated(first: u16, last: u16, random: u64) -> impl Iterator<Item = u16> {
    let count = u64::from(last - first) + 1;
    (0..count).filter_map(move |step| {
        let place = (random % count + step) % count;
        u16::try_from(u64::from(first) + place).ok()
    })
}

impl fmt::Display for GroupRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

fn wrong(text: &str, why: &'static str) -> ValueError {
    ValueError {
        text: text.chars().take(80).collect(),
        why,
    }
}

impl FromStr for GroupRange {
    type Err = ValueError;

    /// Takes `ADDRESS/BITS`, or an address for this one group.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let fail = |why| Err(wrong(text, why));
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let Ok(first) = address.parse::<IpAddr>() else {
            return fail("is no range of groups: write ADDRESS/BITS, as in 239.255.64.0/18");
        };
        let bits = if first.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(bits), str::parse::<u32>);
        let Some(prefix) = prefix.ok().filter(|&prefix| prefix <= bits) else {
            return fail("is no range of groups: the number of bits behind the / is out of bounds");
        };
        let scope = match first {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.octets()[1] & 0xf),
        };
        // So many bits say that it is multicast, and for IPv6 how far it goes.
        if !first.is_multicast() || prefix < if scope.is_some() { 16 } else { 4 } {
            return fail("are not all multicast groups: use some of 239.0.0.0/8, or of ff15::/16 for IPv6");
        }
        if scope.is_some_and(|scope| scope < 2) {
            return fail(
                "are groups that no packet leaves this machine for: use some of ff15::/16 or ff12::/16",
            );
        }
        let outside = match first {
            IpAddr::V4(v4) => u128::from(v4.to_bits().checked_shl(prefix).unwrap_or(0)),
            IpAddr::V6(v6) => v6.to_bits().checked_shl(prefix).unwrap_or(0),
        };
        if outside != 0 {
            return fail("has bits behind its fixed ones: write the first address of the range");
        }
        let range = Self { first, prefix };
        if range.pick(&[], 0).is_none() {
            return fail("are groups that switches send to every port: use some of 239.255.64.0/18");
        }
        Ok(range)
    }
}

impl FromStr for PortRange {
    type Err = ValueError;

    /// Takes `FIRST-LAST`, two ports at least.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let (first, last) = text.split_once('-').unwrap_or((text, ""));
        let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first < last => Ok(Self { first, last }),
            _ => Err(wrong(
                text,
                "is no range of two ports or more: write FIRST-LAST, as in 9441-9504",
            )),
        }
    }
}

impl FromStr for Dscp {
    type Err = ValueError;

    /// Takes a number, or a name of RFC 2474, 2597, 3246 and 8622.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let digit = |at: usize, bound: std::ops::RangeInclusive<u8>| {
            let digit = text.as_bytes().get(at)?.wrapping_sub(b'0');
            bound.contains(&digit).then_some(digit)
        };
        let (upper, len) = (text.to_ascii_uppercase(), text.len());
        let point = match upper.as_str() {
            "BE" | "DF" => Some(0),
            "LE" => Some(1),
            "EF" => Some(46),
            name if name.starts_with("CS") && len == 3 => digit(2, 0..=7).map(|class| class * 8),
            name if name.starts_with("AF") && len == 4 => digit(2, 1..=4)
                .zip(digit(3, 1..=3))
                .map(|(class, drop)| class * 8 + drop * 2),
            number => number.parse().ok().filter(|&point: &u8| point < 64),
        };
        point.map(Self).ok_or_else(|| {
            wrong(
                text,
                "is no code point: write CS1, AF11, EF, LE or a number below 64",
            )
        })
    }
}

impl FromStr for Wait {
    type Err = ValueError;

    /// Takes a number of seconds, or one with `ms`, `s`, `min` or `h` behind it.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let millis: Option<u64> = match unit {
            "ms" => Some(1),
            "" | "s" => Some(1_000),
            "min" => Some(60_000),
            "h" => Some(3_600_000),
            _ => None,
        };
        let number = digits.parse::<u64>().ok().zip(millis);
        let wait = number
            .and_then(|(number, unit)| number.checked_mul(unit))
            .map(Duration::from_millis);
        wait.filter(|wait| !wait.is_zero() && *wait <= WAIT_MAX)
            .map(Self)
            .ok_or_else(|| wrong(text, "is no time to wait: write 500ms, 90s, 5min or at most 6h"))
    }
}

impl FromStr for PerCent {
    type Err = ValueError;

    /// Takes a number from 0 to 99, with or without `%`.
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let number = text.strip_suffix('%').unwrap_or(text).trim_end();
        let share = number.parse().ok().filter(|&share: &u8| share < 100);
        share
            .map(Self)
            .ok_or_else(|| wrong(text, "is no share: write a number from 0 to 99, as in 20%"))
    }
}

impl FromStr for Asking {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text {
            "auto" => Ok(Self(QuerierMode::Auto)),
            "on" => Ok(Self(QuerierMode::On)),
            "off" => Ok(Self(QuerierMode::Off)),
            _ => Err(wrong(text, "is no answer: write auto, on or off")),
        }
    }
}

macro_rules! from_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = ValueError;

            fn try_from(text: String) -> Result<Self, ValueError> {
                text.parse()
            }
        }
    )*};
}

from_text!(GroupRange, PortRange, Dscp, Wait, PerCent, Asking);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_picked_from_the_range_and_never_share_an_ethernet_address() {
        let range: GroupRange = "239.255.64.0/18".parse().unwrap();
        assert_eq!(
            (range, range.to_string().as_str()),
            (GroupRange::IPV4, "239.255.64.0/18")
        );
        assert_eq!(range.pick(&[], 0).unwrap().to_string(), "239.255.64.0");
        assert_eq!(
            range.pick(&[], (1 << 14) + 5).unwrap().to_string(),
            "239.255.64.5"
        );
        let taken = ["239.255.64.5".parse().unwrap(), "225.127.64.6".parse().unwrap()];
        assert_eq!(range.pick(&taken, 5).unwrap().to_string(), "239.255.64.7");
        let two: GroupRange = "239.1.2.4/31".parse().unwrap();
        let taken = ["239.1.2.4", "239.1.2.5"].map(|text| text.parse().unwrap());
        assert_eq!(two.pick(&taken[..1], 6).unwrap().to_string(), "239.1.2.5");
        assert_eq!(two.pick(&taken, 6), None);
        // x.0.0.y and x.128.0.y go to every port.
        let wide: GroupRange = "239.0.0.0/8".parse().unwrap();
        assert_eq!(wide.pick(&[], 7).unwrap().to_string(), "239.0.1.0");
        let single: GroupRange = "239.9.9.9".parse().unwrap();
        assert_eq!(single.pick(&[], 99).unwrap().to_string(), "239.9.9.9");
    }

    #[test]
    fn ipv6_groups_are_transient_ones_with_random_ends() {
        assert_eq!("ff15::/16".parse(), Ok(GroupRange::IPV6));
        let picked = |range: GroupRange, random| range.pick(&[], random).unwrap().to_string();
        assert_eq!(picked(GroupRange::IPV6, 0x1234_5678), "ff15::9234:5678");
        assert_eq!(picked("ff12::/16".parse().unwrap(), u64::MAX), "ff12::ffff:ffff");
        assert_eq!(
            picked("ff15::8000:4400/120".parse().unwrap(), 0x1ff),
            "ff15::8000:44ff"
        );
        let taken = ["ff12::9234:5678".parse().unwrap()];
        let other = GroupRange::IPV6.pick(&taken, 0x1234_5678).unwrap();
        assert_eq!(
            other.to_string(),
            "ff15::9234:5679",
            "they share 33:33:92:34:56:78"
        );
    }

    #[test]
    fn ranges_that_cannot_be_are_refused_with_the_reason() {
        for (text, part) in [
            ("here", "is no range of groups"),
            ("239.255.0.0/33", "out of bounds"),
            ("239.255.0.0/", "out of bounds"),
            ("10.0.0.0/8", "are not all multicast groups"),
            ("224.0.0.0/3", "are not all multicast groups"),
            ("ff00::/8", "are not all multicast groups"),
            ("ff11::/16", "no packet leaves this machine"),
            ("239.255.64.1/18", "write the first address"),
            ("ff15::1/16", "write the first address"),
            ("224.0.0.0/24", "send to every port"),
        ] {
            let error = text.parse::<GroupRange>().unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(text), "{text}: {error}");
        }
    }

    #[test]
    fn ports_begin_anywhere_and_each_comes_once() {
        let range: PortRange = "7-12".parse().unwrap();
        assert_eq!(range.for_reports(1).collect::<Vec<_>>(), [8, 9, 7]);
        assert_eq!(range.for_groups(5).collect::<Vec<_>>(), [12, 10, 11]);
        let two: PortRange = "80-81".parse().unwrap();
        assert_eq!(two.to_string(), "80-81");
        assert_eq!(
            (two.for_reports(9).last(), two.for_groups(9).last()),
            (Some(80), Some(81))
        );
        let all: PortRange = "1-65535".parse().unwrap();
        assert_eq!(all.for_reports(u64::MAX).chain(all.for_groups(7)).count(), 65_535);
        for text in ["", "7", "0-9", "9-7", "7-7", "1-65536", "a-b", "-", "1-2-3"] {
            assert!(text.parse::<PortRange>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn code_points_shares_and_times_are_read() {
        for (text, point) in [
            ("CS1", 8),
            ("cs7", 56),
            ("AF11", 10),
            ("af43", 38),
            ("EF", 46),
            ("LE", 1),
            ("63", 63),
        ] {
            assert_eq!(text.parse(), Ok(Dscp(point)), "{text}");
        }
        for text in ["", "CS8", "AF51", "AF14", "64", "-1", "CSx", "AF1", "best"] {
            assert!(text.parse::<Dscp>().is_err(), "{text:?}");
        }
        for (text, millis) in [
            ("250ms", 250),
            ("90", 90_000),
            ("90s", 90_000),
            ("5min", 300_000),
            ("6h", 21_600_000),
        ] {
            assert_eq!(text.parse(), Ok(Wait(Duration::from_millis(millis))), "{text}");
        }
        assert_eq!(
            ["20%", "20", "20 %"].map(str::parse),
            [const { Ok(PerCent(20)) }; 3]
        );
        for text in ["", "100%", "-1", "2.5", "%"] {
            assert!(text.parse::<PerCent>().is_err(), "{text:?}");
        }
        for text in ["", "0", "7h", "1d", "-1s", "1.5s", "99999999999999999999h", "1 s"] {
            assert!(text.parse::<Wait>().is_err(), "{text:?}");
        }
    }
}
