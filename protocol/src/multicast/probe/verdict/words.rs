//! Findings in words: what was seen, and what to do about it.

use super::super::report::Report;
use super::one::{NOBODY, SOMEBODY};
use super::{Finding, Kind, Severity};

pub(super) fn finding(kind: Kind, detail: &str, members: &[(&Report, u64)]) -> Finding {
    let measures = members.iter().map(|(_, measure)| *measure);
    let range = (measures.clone().min().unwrap_or(0), measures.max().unwrap_or(0));
    Finding {
        severity: severity(kind),
        kind,
        nodes: members.iter().map(|(report, _)| report.node.clone()).collect(),
        seen: seen(kind, detail, range),
        remedy: remedy(kind, detail).to_owned(),
    }
}

fn severity(kind: Kind) -> Severity {
    match kind {
        Kind::NothingArrives | Kind::NotReached | Kind::Stopped | Kind::NotSent => Severity::Error,
        Kind::LargeLost
        | Kind::LostTogether
        | Kind::LostAlike
        | Kind::MulticastLost
        | Kind::Lost
        | Kind::BurstsLost
        | Kind::SocketDrops
        | Kind::CardDrops
        | Kind::Damaged
        | Kind::SlowLink
        | Kind::Wireless
        | Kind::NoQuerier => Severity::Warning,
    }
}

fn seen(kind: Kind, detail: &str, range: (u64, u64)) -> String {
    let (number, loss) = (numbers(range), per_cent(range));
    match kind {
        Kind::NothingArrives => "no UDP packet of the image server arrives, neither by multicast nor to the \
                                 machine itself, though HTTP works"
            .to_owned(),
        Kind::NotReached => format!(
            "packets to the machine itself arrive, those to the multicast group do not{}",
            heard(detail)
        ),
        Kind::Stopped => format!(
            "packets to the multicast group arrived for {number} s and then no more, those to the machine itself \
             did{}",
            heard(detail)
        ),
        Kind::LargeLost => format!("multicast packets of {detail} none does"),
        Kind::LostTogether => {
            format!("{loss} of the packets are lost, and they are the same for these machines")
        }
        Kind::LostAlike => {
            format!("all machines lose about the same share by multicast, {loss}, and none by unicast")
        }
        Kind::MulticastLost => {
            format!("{loss} of the multicast packets are lost, and next to none by unicast")
        }
        Kind::Lost => {
            format!("{loss} of the multicast packets are lost, by unicast about as much or unknown")
        }
        Kind::BurstsLost => {
            format!("{loss} of the packets are lost when 64 come at once, and next to none otherwise")
        }
        Kind::SocketDrops => format!("the socket was full and dropped {number} packets"),
        Kind::CardDrops => format!("the network card's counter {detail} rose by {number}"),
        Kind::Damaged => format!("damaged frames came in: the counter {detail} rose by {number}"),
        Kind::SlowLink => {
            format!("the link of {detail} runs at {number} Mbit/s, less than half of what the others have")
        }
        Kind::Wireless => format!("{detail} is a wireless link"),
        Kind::NoQuerier => format!("nobody asked for members of multicast groups for {number} s"),
        Kind::NotSent => format!("the image server's kernel did not take {number} packets for {detail}"),
    }
}

fn heard(detail: &str) -> &'static str {
    match detail {
        NOBODY => "; nobody asks for members of groups there",
        SOMEBODY => "; somebody asks for members of groups there",
        _ => "",
    }
}

fn remedy(kind: Kind, detail: &str) -> &'static str {
    match kind {
        Kind::NothingArrives => {
            "let UDP from the image server through the firewall of the machine and those between \
             (nft list ruleset)"
        }
        Kind::NotReached => not_reached(detail),
        Kind::Stopped => stopped(detail),
        Kind::LargeLost => {
            "set the MTU of the image server's interface, and of the machine's, to what passes; or raise it on the switches \
             and tunnels between"
        }
        Kind::LostTogether => {
            "look at the link that they share: the image server's own, or the one between two switches (ip -s link, \
             the switch's error counters); lower max_rate in server.toml if it is slower than the others"
        }
        Kind::LostAlike => {
            "storm control on the switch drops multicast beyond a rate: raise its limit for these ports \
             (storm-control multicast), or lower max_rate in server.toml"
        }
        Kind::MulticastLost => {
            "the switch or access point drops multicast at this port: look for storm control, for a rate limit, and for \
             a link in between that carries multicast at a basic rate"
        }
        Kind::Lost => {
            "look at the cable, the duplex setting and the error counters of the machine's port on the switch \
             (ethtool, ip -s link)"
        }
        Kind::BurstsLost => {
            "the buffer of the port in front of the machine is small, or its link slower than the image server's: lower \
             max_rate in server.toml, or give the port more buffer"
        }
        Kind::SocketDrops => {
            "let sockets have more memory: sysctl net.core.rmem_max=67108864, or run as root; see whether other \
             programs take the processor"
        }
        Kind::CardDrops => {
            "make the card's receive ring larger (ethtool -g shows the most, ethtool -G IFACE rx N sets it) and see \
             whether one processor takes all interrupts"
        }
        Kind::Damaged => {
            "replace the cable or the transceiver, and see that both ends agree on speed and duplex"
        }
        Kind::SlowLink => {
            "replace the cable (two pairs alone make 100 Mbit/s) and see that neither end is set to a fixed speed \
             (ethtool IFACE)"
        }
        Kind::Wireless => {
            "use the cable, or --transport http: over radio multicast is sent at the lowest rate and without \
             acknowledgement"
        }
        Kind::NoQuerier => {
            "if a switch snoops there, sessions end for its machines after some minutes: switch a querier on, or leave \
             igmp_querier = \"auto\" in server.toml, with which si-server asks while sessions run"
        }
        Kind::NotSent => {
            "see whether the interface is up and its queue full (ip -s link, tc -s qdisc), and lower max_rate in server.toml"
        }
    }
}

fn not_reached(asking: &str) -> &'static str {
    match asking {
        NOBODY => {
            "the switch snoops and nobody asks: switch a querier on there (ip igmp snooping querier), or set \
             igmp_querier = \"on\" in server.toml"
        }
        SOMEBODY => {
            "look for a firewall on the machine that drops packets to 239.0.0.0/8, name the right interface with \
             --interface, and see in the switch whether the machine's port is a member (show ip igmp snooping groups)"
        }
        _ => {
            "look for a firewall on the machine that drops packets to 239.0.0.0/8, for a switch that snoops without a \
             querier (igmp_querier = \"on\" in server.toml makes si-server be it), and for the wrong interface \
             (--interface)"
        }
    }
}

fn stopped(asking: &str) -> &'static str {
    match asking {
        SOMEBODY => {
            "the switch forgets the machine though it is asked: see that the machine's answers reach it (a firewall may \
             drop IGMP), and that queries come more often than memberships end"
        }
        _ => {
            "the switch forgets members that nobody asks for: switch its querier on (ip igmp snooping querier), or set \
             igmp_querier = \"on\" in server.toml"
        }
    }
}

/// One number, or from the least to the largest.
fn numbers((least, most): (u64, u64)) -> String {
    if least == most {
        least.to_string()
    } else {
        format!("{least} to {most}")
    }
}

/// The same of millionths, in per cent.
fn per_cent((least, most): (u64, u64)) -> String {
    let text = |ppm: u64| format!("{}.{}", ppm / 10_000, ppm % 10_000 / 1_000);
    let (least, most) = (text(least), text(most));
    if least == most {
        format!("{least} %")
    } else {
        format!("{least} to {most} %")
    }
}
