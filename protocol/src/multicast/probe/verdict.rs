//! Findings out of counts: what is wrong, how it shows, what to do. A pure function of what machines report.

mod group;
mod one;
mod words;

use serde::{Deserialize, Serialize};

use super::report::Report;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Multicast does not work there.
    Error,
    /// It works, but slower than it could, or not for long.
    Warning,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Neither the group's packets nor those to the machine itself arrive.
    NothingArrives,
    /// Those to the machine arrive, the group's do not.
    NotReached,
    /// The group's arrived for a time, and then no more.
    Stopped,
    /// Small packets pass and large ones do not.
    LargeLost,
    /// Several machines lose the same packets of the group.
    LostTogether,
    /// All machines lose about as much of what comes by multicast.
    LostAlike,
    /// Packets of the group are lost, those to the machine are not.
    MulticastLost,
    /// Packets are lost whichever way they come.
    Lost,
    /// Packets are lost only when many come at once.
    BurstsLost,
    /// The machine's own sockets were full.
    SocketDrops,
    /// The network card or its driver dropped packets.
    CardDrops,
    /// Damaged frames came in.
    Damaged,
    /// The link is slower than those of the others.
    SlowLink,
    /// The link is a radio.
    Wireless,
    /// Nobody asks who is a member of which group.
    NoQuerier,
    /// The image server's own kernel did not take packets.
    NotSent,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub kind: Kind,
    /// The machines that it is about, in the order of their reports.
    pub nodes: Vec<String>,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub remedy: String,
}

/// What one machine shows, before it is put together with what others show.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sign {
    kind: Kind,
    /// What tells apart findings of one kind that are not to be put together: sizes, names, who asks.
    detail: String,
    /// The number that differs from machine to machine; 0 where there is none.
    measure: u64,
}

/// Signs that are put together: kind, detail, and whose they are with what measure.
type Group<'a> = (Kind, String, Vec<(&'a Report, u64)>);

/// Loss, in millionths, from which on it is one: of the thousand packets of a short probe, five.
const LOSS_PPM: u64 = 5_000;

/// How long a querier may be silent: it asks every 125 seconds (RFC 2236, 8.2), and we wait a little longer.
pub const QUERIER_SECONDS: u64 = 130;

/// What is wrong with the machines that `reports` are from; the worst first. Machines with the same trouble share a finding.
pub fn judge(reports: &[Report]) -> Vec<Finding> {
    let mut signs: Vec<(&Report, Vec<Sign>)> = reports
        .iter()
        .map(|report| (report, one::signs(report)))
        .collect();
    group::compare(&mut signs);
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (report, sign) in signs
        .iter()
        .flat_map(|(report, signs)| signs.iter().map(move |sign| (*report, sign)))
    {
        let same = groups
            .iter_mut()
            .find(|(kind, detail, _)| (*kind, detail.as_str()) == (sign.kind, &sign.detail));
        match same {
            Some((_, _, members)) => members.push((report, sign.measure)),
            None => groups.push((sign.kind, sign.detail.clone(), vec![(report, sign.measure)])),
        }
    }
    let mut findings: Vec<Finding> = groups
        .iter()
        .map(|(kind, detail, members)| words::finding(*kind, detail, members))
        .collect();
    findings.sort_by_key(|finding| (finding.severity, finding.kind));
    findings
}

#[cfg(test)]
mod tests;
