//! How much each session may send: sessions on one wire share it.

use std::fs;
use std::path::Path;

use simulcast_protocol::units::Rate;
use simulcast_transport::udp::route::{Link, link};

use super::super::settings::Multicast;

/// What a wire is taken for whose speed nobody knows, and on which no rate is set: the fastest that is usual. The rate is
/// found below it.
const UNKNOWN: Rate = Rate::from_bits_per_second(10_000_000_000);

/// Interfaces that may lie on each other: a macvlan on a VLAN on a VLAN is the most that anybody has.
const DEPTH: usize = 8;

/// What carries an interface's packets in the end: for a VLAN the interface below it. Sessions on the same one share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wire {
    index: u32,
    name: String,
}

impl Wire {
    /// The wire of the interface with this index.
    pub(super) fn below(index: u32, first: &Link) -> Self {
        let mut wire = Self {
            index,
            name: first.name.clone(),
        };
        let mut lower = first.lower;
        for _ in 0..DEPTH {
            // One that is gone, or in another namespace, is not ours to look after.
            let Some((index, below)) = lower.and_then(|index| Some((index, link(index).ok()?))) else {
                break;
            };
            lower = below.lower;
            wire = Self {
                index,
                name: below.name,
            };
        }
        wire
    }

    /// What all sessions on it may send together.
    pub(super) fn limit(&self, settings: &Multicast) -> Rate {
        limit(settings, self.speed())
    }

    /// Its speed, if the kernel knows it.
    pub(super) fn speed(&self) -> Option<Rate> {
        let path = Path::new("/sys/class/net").join(&self.name).join("speed");
        parse_speed(&fs::read_to_string(path).ok()?)
    }
}

/// What each of `sessions` on a wire may send of what all of them may.
pub(super) fn share(limit: Rate, sessions: usize) -> Rate {
    Rate::from_bits_per_second(limit.bits_per_second() / (sessions as u64).max(1))
}

fn limit(settings: &Multicast, speed: Option<Rate>) -> Rate {
    let wire = speed.or(settings.max_rate).unwrap_or(UNKNOWN).bits_per_second();
    let ours = wire / 100 * u64::from(100 - settings.background.0);
    Rate::from_bits_per_second(
        settings
            .max_rate
            .map_or(ours, |max| ours.min(max.bits_per_second())),
    )
}

/// Megabits per second; -1 or 2^32 - 1 when the driver does not know.
fn parse_speed(text: &str) -> Option<Rate> {
    let mbit: u64 = text
        .trim()
        .parse()
        .ok()
        .filter(|&mbit| mbit > 0 && mbit < 10_000_000)?;
    Some(Rate::from_bits_per_second(mbit * 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::super::super::settings::{PerCent, Settings};
    use super::*;

    fn mbit(number: u64) -> Rate {
        Rate::from_bits_per_second(number * 1_000_000)
    }

    #[test]
    fn the_limit_is_that_of_the_wire_less_what_others_get_and_never_more_than_was_set() {
        let limit = |max: Option<u64>, background, speed: Option<u64>| {
            let mut settings = Settings::default().multicast;
            (settings.max_rate, settings.background) = (max.map(mbit), PerCent(background));
            super::limit(&settings, speed.map(mbit))
        };
        assert_eq!(limit(None, 0, None), UNKNOWN);
        assert_eq!(limit(None, 0, Some(100)), mbit(100));
        assert_eq!(limit(None, 30, Some(1000)), mbit(700));
        assert_eq!(limit(Some(400), 30, Some(1000)), mbit(400));
        assert_eq!(limit(Some(900), 30, Some(1000)), mbit(700));
        assert_eq!(
            limit(Some(400), 25, None),
            mbit(300),
            "what was set stands for the wire"
        );
        assert_eq!(share(mbit(900), 3), mbit(300));
        assert_eq!(share(mbit(900), 0), mbit(900));
    }

    #[test]
    fn speeds_are_those_that_drivers_know() {
        assert_eq!(parse_speed("1000\n"), Some(mbit(1000)));
        for text in ["-1\n", "0", "4294967295\n", "", "fast"] {
            assert_eq!(parse_speed(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_interface_of_its_own_is_its_own_wire() {
        let lo = link(1).unwrap();
        assert_eq!(
            Wire::below(1, &lo),
            Wire {
                index: 1,
                name: lo.name.clone()
            }
        );
    }
}
