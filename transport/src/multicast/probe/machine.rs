//! What the machine itself says of its interface: MTU, speed, radio or not, and counters of errors and drops.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use simulcast_protocol::multicast::probe::{Counter, Machine};

/// Counters of one interface that are kept: drivers with many queues have hundreds.
const COUNTERS: usize = 1024;

/// Counters that are reported.
const REPORTED: usize = 32;

/// An interface before a probe.
#[derive(Debug)]
pub(super) struct Look {
    directory: PathBuf,
    name: String,
    counters: BTreeMap<String, u64>,
}

impl Look {
    /// Looks at an interface; `driver` is what `ethtool -S` says of it.
    pub(super) fn at(name: &str, driver: Option<String>) -> Self {
        let directory = Path::new("/sys/class/net").join(name);
        Self {
            counters: counters(&directory, driver.as_deref()),
            name: name.to_owned(),
            directory,
        }
    }

    /// What it is like, and which counters rose since.
    pub(super) fn again(self, driver: Option<String>) -> Machine {
        let read = |file: &str| fs::read_to_string(self.directory.join(file)).ok();
        let there = |file: &str| self.directory.join(file).exists();
        Machine {
            mtu: read("mtu").and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            // -1 when the driver does not know.
            speed: read("speed")
                .and_then(|text| text.trim().parse().ok())
                .filter(|&speed| speed > 0 && speed < u32::MAX),
            wireless: there("wireless") || there("phy80211"),
            counters: risen(&self.counters, &counters(&self.directory, driver.as_deref())),
            interface: self.name,
            ..Machine::default()
        }
    }
}

/// Counters of trouble that the kernel keeps, and those of the driver.
fn counters(directory: &Path, driver: Option<&str>) -> BTreeMap<String, u64> {
    let mut counters = driver.map(parse_ethtool).unwrap_or_default();
    let statistics = directory.join("statistics");
    let names = fs::read_dir(&statistics).into_iter().flatten();
    for name in names.filter_map(|entry| entry.ok()?.file_name().into_string().ok()) {
        let value = fs::read_to_string(statistics.join(&name));
        if let Some(value) = value.ok().and_then(|text| text.trim().parse().ok()) {
            counters.insert(name, value);
        }
    }
    counters.retain(|name, _| shows_trouble(name));
    counters
}

/// The counters in the output of `ethtool -S`: a heading, then `name: value` a line.
pub fn parse_ethtool(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(':')?;
            Some((name.trim().to_owned(), value.trim().parse().ok()?))
        })
        .take(COUNTERS)
        .collect()
}

/// Whether a counter that rises says that something that came in was lost or damaged. Drivers name them as they like.
pub fn shows_trouble(name: &str) -> bool {
    const IN: [&str; 2] = ["rx", "in_"];
    const TROUBLE: [&str; 13] = [
        "drop",
        "miss",
        "fifo",
        "no_buf",
        "nobuf",
        "no_desc",
        "discard",
        "over_err",
        "overrun",
        "crc",
        "fcs",
        "errors",
        "alloc_fail",
    ];
    // What was dropped because a program said so, and frames that nobody listens for, are no trouble.
    const NONE: [&str; 3] = ["xdp", "nohandler", "csum"];
    let name = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    has(&IN) && has(&TROUBLE) && !has(&NONE)
}

/// Counters that are larger than they were.
fn risen(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> Vec<Counter> {
    let rises = after.iter().filter_map(|(name, after)| {
        let by = after.checked_sub(*before.get(name)?)?;
        (by > 0).then(|| Counter {
            name: name.clone(),
            by,
        })
    });
    rises.take(REPORTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `ethtool -S` of a virtio network card, and lines as e1000e and ixgbe have them.
    const CAPTURED: &str = "NIC statistics:\n     rx_drops: 0\n     rx_xdp_packets: 0\n     rx_xdp_drops: 17\n     \
                            rx_kicks: 7283\n     tx_kicks: 31892\n     rx_missed_errors: 4\n     rx_no_buffer_count: 9\n     \
                            fdir_miss: 5\n     rx_no_dma_resources: 1\n     rx_queue_0_drops: 3\n     broken: x\n";

    #[test]
    fn counters_of_a_driver_are_read_and_those_of_trouble_are_known() {
        let counters = parse_ethtool(CAPTURED);
        assert_eq!(
            (
                counters.len(),
                counters["rx_kicks"],
                counters.contains_key("broken")
            ),
            (10, 7283, false)
        );
        let trouble: Vec<&str> = counters
            .keys()
            .map(String::as_str)
            .filter(|name| shows_trouble(name))
            .collect();
        assert_eq!(
            trouble,
            [
                "rx_drops",
                "rx_missed_errors",
                "rx_no_buffer_count",
                "rx_queue_0_drops"
            ]
        );
        for name in [
            "rx_crc_errors",
            "rx_fifo_errors",
            "rx_dropped",
            "port.rx_discards",
            "in_overrun",
        ] {
            assert!(shows_trouble(name), "{name}");
        }
        for name in [
            "tx_dropped",
            "rx_packets",
            "rx_nohandler",
            "rx_csum_errors",
            "collisions",
        ] {
            assert!(!shows_trouble(name), "{name}");
        }
    }

    #[test]
    fn only_what_rose_is_told() {
        let map = |pairs: &[(&str, u64)]| -> BTreeMap<String, u64> {
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect()
        };
        let before = map(&[("a", 1), ("b", 5), ("c", 7)]);
        // One that began again at 0 and one that is new say nothing.
        let after = map(&[("a", 4), ("b", 5), ("c", 0), ("d", 9)]);
        let expected = Counter {
            name: "a".to_owned(),
            by: 3,
        };
        assert_eq!(risen(&before, &after), [expected]);
    }

    #[test]
    fn the_loopback_interface_is_no_radio_and_has_an_mtu() {
        let machine = Look::at("lo", None).again(None);
        assert_eq!(
            (machine.interface.as_str(), machine.wireless, machine.speed),
            ("lo", false, None)
        );
        assert!(machine.mtu >= 1500, "{}", machine.mtu);
    }
}
