//! Which nodes are updated when, and how many may fail: pure arithmetic.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use simulcast_protocol::install::NodeName;

/// A number of nodes, or so many per cent of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) enum Share {
    Number(u32),
    PerCent(u32),
}

impl Share {
    /// How many of `total` nodes are at most meant.
    pub(crate) fn of(self, total: usize) -> usize {
        match self {
            Self::Number(number) => usize::try_from(number).unwrap_or(usize::MAX),
            Self::PerCent(part) => total * usize::try_from(part).unwrap_or(100) / 100,
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let share = match text.strip_suffix('%') {
            Some(number) => number.parse().ok().filter(|&part| part <= 100).map(Self::PerCent),
            None => text.parse().ok().map(Self::Number),
        };
        share.ok_or_else(|| "use a number of nodes, as in 4, or a share of them, as in 25%".to_owned())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::PerCent(part) => write!(f, "{part}%"),
        }
    }
}

impl From<Share> for String {
    fn from(share: Share) -> Self {
        share.to_string()
    }
}

impl TryFrom<String> for Share {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Divides nodes into waves: the canaries, then the others `wave` at a time, at least one. `total` nodes are what per cent are of.
pub(crate) fn waves(nodes: &[NodeName], canary: u32, wave: Share, total: usize) -> Vec<Vec<NodeName>> {
    let canaries = usize::try_from(canary).unwrap_or(usize::MAX).min(nodes.len());
    let (first, others) = nodes.split_at(canaries);
    let rest = others.chunks(wave.of(total).max(1));
    [first]
        .into_iter()
        .filter(|wave| !wave.is_empty())
        .chain(rest)
        .map(<[NodeName]>::to_vec)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(nodes: usize, canary: u32, wave: &str) -> Vec<usize> {
        let names: Vec<NodeName> = (0..nodes)
            .map(|n| format!("node{n:04}").parse().unwrap())
            .collect();
        let waves = waves(&names, canary, wave.parse().unwrap(), nodes);
        assert_eq!(waves.concat(), names, "each once, in order");
        waves.iter().map(Vec::len).collect()
    }

    #[test]
    fn canaries_come_first_and_then_equal_waves() {
        assert_eq!(sizes(10, 0, "100%"), [10]);
        assert_eq!(sizes(10, 1, "25%"), [1, 2, 2, 2, 2, 1]);
        assert_eq!(sizes(10, 1, "4"), [1, 4, 4, 1]);
        assert_eq!(sizes(3, 5, "1"), [3]);
        assert_eq!(sizes(3, 0, "1%"), [1, 1, 1]);
        assert!(sizes(0, 1, "1").is_empty());
    }

    #[test]
    fn shares_are_numbers_or_per_cent() {
        assert_eq!("2%".parse::<Share>().unwrap().of(149), 2);
        assert_eq!("3".parse::<Share>().unwrap().of(1), 3);
        for wrong in ["", "%", "101%", "-1", "1.5", "x"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }
}
