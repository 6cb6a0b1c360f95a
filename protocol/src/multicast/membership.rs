//! Queries of IGMP (RFC 1112, 2236, 3376) and MLD (RFC 2710, 3810): who asks for members of groups.
//!
//! A switch that snoops forwards a group only to ports from which an answer to such a query came of late. Where nobody asks,
//! a session dies after some minutes. Whole IP packets are written, because the Router Alert option (RFC 2113, 2711),
//! without which hosts need not look at them, stands in their headers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// All machines of the network: where general queries go.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// The same of IPv6.
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IGMP: u8 = 2;
const IGMP_QUERY: u8 = 0x11;
const ICMPV6: u8 = 58;
const MLD_QUERY: u8 = 130;
/// IP header with the Router Alert option.
const IPV4_HEADER: usize = 24;
const IGMP_BYTES: usize = 8;
const MLD_BYTES: usize = 24;

/// How a query is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// IGMP of this version, 1 to 3.
    Igmp(u8),
    /// MLD of this version, 1 or 2.
    Mld(u8),
}

/// A query that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query {
    /// How it is written.
    pub protocol: Protocol,
    /// Who asks; the unspecified address for a switch that asks on behalf of nobody (RFC 4541, 2.1.1).
    pub from: IpAddr,
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Igmp(version) => write!(f, "IGMPv{version}"),
            Self::Mld(version) => write!(f, "MLDv{version}"),
        }
    }
}

/// A general query of IGMPv2 as an IP packet, to be answered within `response`, which is told in tenths of a second up to
/// 25.5. Hosts of version 3 answer it too.
pub fn igmp_query(source: Ipv4Addr, response: Duration) -> Vec<u8> {
    let tenths = u8::try_from(response.as_millis() / 100).unwrap_or(u8::MAX).max(1);
    let mut packet = vec![0; IPV4_HEADER + IGMP_BYTES];
    // Version 4, six words; class CS6, as routers use for themselves; TTL 1; Router Alert.
    packet[0] = 0x46;
    packet[1] = 0xc0;
    packet[3] = 32;
    packet[8] = 1;
    packet[9] = IGMP;
    packet[12..16].copy_from_slice(&source.octets());
    packet[16..20].copy_from_slice(&ALL_HOSTS.octets());
    packet[20..24].copy_from_slice(&[0x94, 4, 0, 0]);
    packet[24] = IGMP_QUERY;
    packet[25] = tenths;
    let (header, igmp) = packet.split_at_mut(IPV4_HEADER);
    let sums = (checksum(&[header]), checksum(&[igmp]));
    header[10..12].copy_from_slice(&sums.0.to_be_bytes());
    igmp[2..4].copy_from_slice(&sums.1.to_be_bytes());
    packet
}

/// A general query of MLDv1 as an IPv6 packet from a link-local address, to be answered within `response`, up to a minute.
pub fn mld_query(source: Ipv6Addr, response: Duration) -> Vec<u8> {
    let millis = u16::try_from(response.as_millis()).unwrap_or(u16::MAX).max(1);
    let mut packet = vec![0x60, 0, 0, 0, 0, 32, 0, 1];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&ALL_NODES.octets());
    // Hop-by-hop options: Router Alert for MLD, padding.
    packet.extend_from_slice(&[ICMPV6, 0, 5, 2, 0, 0, 1, 0]);
    let mut mld = [0; MLD_BYTES];
    mld[0] = MLD_QUERY;
    mld[4..6].copy_from_slice(&millis.to_be_bytes());
    let pseudo = [0, 0, 0, 24, 0, 0, 0, ICMPV6];
    let sum = checksum(&[&source.octets(), &ALL_NODES.octets(), &pseudo, &mld]);
    mld[2..4].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&mld);
    packet
}

/// The query in an IPv4 packet, if it is a sound one.
pub fn parse_igmp(packet: &[u8]) -> Option<Query> {
    let first = *packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || header < 20 || *packet.get(9)? != IGMP {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let total = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    let igmp = packet.get(header..total)?;
    if igmp.len() < IGMP_BYTES || igmp[0] != IGMP_QUERY || checksum(&[igmp]) != 0 {
        return None;
    }
    let version = match (igmp.len(), igmp[1]) {
        (IGMP_BYTES, 0) => 1,
        (IGMP_BYTES, _) => 2,
        _ => 3,
    };
    Some(Query {
        protocol: Protocol::Igmp(version),
        from: source.into(),
    })
}

/// The query in an ICMPv6 message, whose check sum the kernel has looked at, from this address.
pub fn parse_mld(message: &[u8], from: Ipv6Addr) -> Option<Query> {
    let query = message.len() >= MLD_BYTES && message[0] == MLD_QUERY && message[1] == 0;
    // Others are no routers of this link (RFC 3810, 5.1.14).
    (query && from.is_unicast_link_local()).then_some(Query {
        protocol: Protocol::Mld(if message.len() == MLD_BYTES { 1 } else { 2 }),
        from: from.into(),
    })
}

/// The Internet check sum (RFC 1071) of pieces that have an even number of bytes each, save the last.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let words = pieces.iter().flat_map(|piece| piece.chunks(2));
    let sum: u64 = words
        .map(|word| u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0)))
        .sum();
    let mut folded = sum;
    while folded > 0xffff {
        folded = (folded & 0xffff) + (folded >> 16);
    }
    !u16::try_from(folded).expect("it was folded into 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_of_igmp_is_what_the_standard_says() {
        let packet = igmp_query([10, 77, 0, 1].into(), Duration::from_secs(10));
        let expected = [
            0x46, 0xc0, 0, 32, 0, 0, 0, 0, 1, 2, 0x39, 0xc9, 10, 77, 0, 1, 224, 0, 0, 1, 0x94, 4, 0, 0, 0x11,
            100, 0xee, 0x9b, 0, 0, 0, 0,
        ];
        assert_eq!(packet, expected);
        let query = Query {
            protocol: Protocol::Igmp(2),
            from: [10, 77, 0, 1].into(),
        };
        assert_eq!(parse_igmp(&packet), Some(query));
        assert_eq!(igmp_query([0; 4].into(), Duration::ZERO)[25], 1);
        assert_eq!(igmp_query([0; 4].into(), Duration::MAX)[25], 255);
    }

    #[test]
    fn versions_are_told_by_length_and_code() {
        let query = |igmp: &[u8]| {
            let mut igmp = igmp.to_vec();
            let sum = checksum(&[&igmp]);
            igmp[2..4].copy_from_slice(&sum.to_be_bytes());
            let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 224, 0, 0, 1];
            packet[3] += u8::try_from(igmp.len()).unwrap();
            packet.extend(igmp);
            parse_igmp(&packet).map(|query| (query.protocol.to_string(), query.from))
        };
        let any = IpAddr::from([0, 0, 0, 0]);
        assert_eq!(
            query(&[0x11, 0, 0, 0, 0, 0, 0, 0]),
            Some(("IGMPv1".to_owned(), any))
        );
        assert_eq!(
            query(&[0x11, 9, 0, 0, 239, 1, 2, 3]),
            Some(("IGMPv2".to_owned(), any))
        );
        assert_eq!(
            query(&[0x11, 9, 0, 0, 0, 0, 0, 0, 2, 125, 0, 0]),
            Some(("IGMPv3".to_owned(), any))
        );
        assert_eq!(query(&[0x16, 0, 0, 0, 239, 1, 2, 3]), None, "a report");
    }

    #[test]
    fn what_is_broken_is_no_query() {
        let good = igmp_query([10, 77, 0, 1].into(), Duration::from_secs(10));
        for cut in 0..good.len() {
            assert_eq!(parse_igmp(&good[..cut]), None, "cut at {cut}");
        }
        for at in 24..32 {
            let mut broken = good.clone();
            broken[at] ^= 4;
            assert_eq!(parse_igmp(&broken), None, "byte {at}");
        }
        for first in 0..=255 {
            let mut strange = good.clone();
            strange[0] = first;
            strange[2] = 0xff;
            assert_eq!(parse_igmp(&strange), None);
        }
    }

    #[test]
    fn a_query_of_mld_has_its_check_sum_and_its_alert() {
        let source: Ipv6Addr = "fe80::1".parse().unwrap();
        let packet = mld_query(source, Duration::from_secs(10));
        assert_eq!(
            (packet.len(), packet[6], packet[7], &packet[40..48]),
            (72, 0, 1, &[58, 0, 5, 2, 0, 0, 1, 0][..])
        );
        let (addresses, mld) = (&packet[8..40], &packet[48..]);
        assert_eq!(checksum(&[addresses, &[0, 0, 0, 24, 0, 0, 0, 58], mld]), 0);
        let query = |from: &str| parse_mld(mld, from.parse().unwrap()).map(|query| query.protocol);
        assert_eq!(
            (query("fe80::1"), query("fd77::1")),
            (Some(Protocol::Mld(1)), None)
        );
        assert_eq!(parse_mld(&mld[..23], source), None);
        let longer = [mld, &[0; 4]].concat();
        assert_eq!(parse_mld(&longer, source).unwrap().protocol, Protocol::Mld(2));
    }
}
