//! How the daemon is set: built-in values, then `server.toml`, then the command line, each over the one before.

mod bittorrent;
mod values;

use std::fs;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use simulcast_cli::{Exit, Remark};
use simulcast_protocol::multicast::limits::RECEIVERS;
use simulcast_protocol::multicast::querier::{INTERVAL, QuerierMode};
use simulcast_protocol::units::Rate;
use simulcast_transport::fetch::NamedInterface;

use crate::boot::settings::{BootOptions, BootSettings};

pub(crate) use bittorrent::{Bittorrent, BittorrentOptions};
pub(crate) use values::{Asking, Dscp, GroupRange, PerCent, PortRange, Wait};

/// The name of the file in the configuration directory.
pub(super) const FILE: &str = "server.toml";

/// Rate that receivers do not slow a session below unless told otherwise: the slowest wire that still is one today.
const MIN_RATE: Rate = Rate::from_bits_per_second(10_000_000);

/// Longest packets unless told otherwise: what switches for jumbo frames carry.
const MTU: u32 = 9000;

/// The shortest that are worth it, and that every link carries which carries IPv6 (RFC 8200, 5).
pub(crate) const SHORTEST_MTU: u32 = 1280;

/// How long a session waits for a number of receivers unless told otherwise: a rack of machines needs some minutes to
/// start, and one that does not start should not hold up the others for longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// All settings of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where requests are listened for; `None` for the usual port of all addresses.
    pub(crate) listen: Option<SocketAddr>,
    /// How sessions are sent.
    pub(crate) multicast: Multicast,
    /// How versions are offered by BitTorrent.
    pub(crate) bittorrent: Bittorrent,
    /// How machines are booted.
    pub(crate) boot: BootSettings,
}

/// How sessions are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Multicast {
    /// The rate that all sessions on one wire never pass together; `None` for what the wire carries.
    pub(crate) max_rate: Option<Rate>,
    /// The rate below which receivers that cannot follow do not slow a session.
    pub(crate) min_rate: Rate,
    /// The share of the wire that is left to others.
    pub(crate) background: PerCent,
    /// Where sessions may be sent; empty for everywhere.
    pub(crate) interfaces: Vec<NamedInterface>,
    /// Groups that sessions of IPv4 may have.
    pub(crate) groups: GroupRange,
    /// Groups that sessions of IPv6 may have.
    pub(crate) groups_v6: GroupRange,
    /// UDP ports that sessions may have, for groups and for reports.
    pub(crate) ports: PortRange,
    /// Routers that a packet may pass, plus one.
    pub(crate) ttl: u8,
    /// How routers and switches should treat packets.
    pub(crate) dscp: Dscp,
    /// Bytes of the longest packets, where interfaces and nodes can have them.
    pub(crate) mtu: u32,
    /// When a session begins to send.
    pub(crate) start: Start,
    /// Asking for members of groups.
    pub(crate) igmp: Igmp,
}

/// Asking for members of groups, so that switches do not forget them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Igmp {
    /// When it is done.
    pub(crate) querier: QuerierMode,
    /// Time between two queries.
    pub(crate) interval: Duration,
}

/// When a session begins to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// With the first receiver, after a moment for those that were started together with it.
    First,
    /// So long after the first receiver has joined.
    After(Duration),
    /// When so many receivers have joined, at the latest so long after the first of them.
    Number(u32, Duration),
}

/// What one source says; what it does not say stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) multicast: MulticastOptions,
    pub(crate) bittorrent: BittorrentOptions,
    pub(crate) boot: BootOptions,
}

/// How sessions are sent, as the file and the command line say it: one list of names for both.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(deny_unknown_fields, default)]
#[command(next_help_heading = "Multicast sessions")]
pub(crate) struct MulticastOptions {
    /// Rate on the wire that all sessions of an interface together never pass [default: the speed of the interface]
    #[arg(long, alias = "rate", value_name = "RATE")]
    #[serde(alias = "rate")]
    max_rate: Option<Rate>,

    /// Rate below which slow nodes do not slow a session; they are left to HTTP [default: 10Mbit]
    #[arg(long, value_name = "RATE")]
    min_rate: Option<Rate>,

    /// Share of an interface's speed that sessions leave to other traffic [default: 0%]
    #[arg(long, value_name = "PER CENT")]
    background: Option<PerCent>,

    /// Send multicast only over this interface, by name or address; may be given several times [default: the one
    /// over which the node is reached]
    #[arg(long = "interface", value_name = "NAME|ADDR")]
    interfaces: Vec<NamedInterface>,

    /// Take multicast groups from this range; may be given once for IPv4 and once for IPv6 [default:
    /// 239.255.64.0/18 and ff15::/16]
    #[arg(long, value_name = "ADDR/BITS")]
    groups: Vec<GroupRange>,

    /// Take UDP ports of sessions from this range, its lower half for reports, the upper one for groups [default:
    /// 9441-9504]
    #[arg(long, value_name = "FIRST-LAST")]
    ports: Option<PortRange>,

    /// Routers that multicast packets may pass, plus one [default: 1]
    #[arg(long, value_name = "N")]
    ttl: Option<u8>,

    /// Mark multicast packets with this code point, as in CS1, AF11, LE or 8 [default: 0]
    #[arg(long, value_name = "DSCP")]
    dscp: Option<Dscp>,

    /// Longest packets in bytes, where the interface and the nodes can have them; 1500 forbids jumbo frames [default:
    /// 9000]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,

    /// Begin to send when so many nodes have joined a session [default: with the first]
    #[arg(long, value_name = "N")]
    min_receivers: Option<u32>,

    /// Begin to send this long after the first node has joined, however many there are; without --min-receivers,
    /// always wait so long [default: 5min with --min-receivers]
    #[arg(long, value_name = "TIME")]
    max_wait: Option<Wait>,

    /// Ask for members of multicast groups while sessions run (IGMP and MLD), so that switches do not forget them: where
    /// nobody else does (auto), at once (on), or not (off) [default: auto]
    #[arg(long, value_name = "WHEN")]
    igmp_querier: Option<Asking>,

    /// Time between two of these queries [default: 60s]
    #[arg(long, value_name = "TIME")]
    igmp_interval: Option<Wait>,
}

impl Settings {
    /// The settings by `server.toml` in `directory`, if it is there, and the command line.
    ///
    /// # Errors
    /// When the file cannot be read or says something unknown or impossible, with file and line: [`Exit::Usage`].
    pub(crate) fn load(directory: &Path, command_line: Overrides) -> Result<Self> {
        let path = directory.join(FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("cannot read {}", path.display()))
                    .exit(Exit::Usage);
            }
        };
        let file = parse(&text)
            .map_err(|(line, why)| anyhow!("{}:{line}: {why}", path.display()))
            .exit(Exit::Usage)?;
        let mut settings = Self {
            boot: file.boot.clone().check()?,
            bittorrent: file.bittorrent.check().exit(Exit::Usage)?,
            ..Self::default()
        };
        settings.take(file);
        settings.take(command_line);
        settings.check().exit(Exit::Usage)?;
        Ok(settings)
    }

    fn take(&mut self, overrides: Overrides) {
        let Overrides {
            listen, multicast, ..
        } = overrides;
        self.listen = listen.or(self.listen);
        let settings = &mut self.multicast;
        settings.max_rate = multicast.max_rate.or(settings.max_rate);
        settings.min_rate = multicast.min_rate.unwrap_or(settings.min_rate);
        settings.background = multicast.background.unwrap_or(settings.background);
        if !multicast.interfaces.is_empty() {
            settings.interfaces = multicast.interfaces;
        }
        for range in multicast.groups {
            if range.is_ipv4() {
                settings.groups = range;
            } else {
                settings.groups_v6 = range;
            }
        }
        settings.ports = multicast.ports.unwrap_or(settings.ports);
        settings.ttl = multicast.ttl.unwrap_or(settings.ttl);
        settings.dscp = multicast.dscp.unwrap_or(settings.dscp);
        settings.mtu = multicast.mtu.unwrap_or(settings.mtu);
        settings.start = settings
            .start
            .with(multicast.min_receivers, multicast.max_wait.map(|Wait(wait)| wait));
        settings.igmp.querier = multicast
            .igmp_querier
            .map_or(settings.igmp.querier, |Asking(mode)| mode);
        settings.igmp.interval = multicast
            .igmp_interval
            .map_or(settings.igmp.interval, |Wait(wait)| wait);
    }

    fn check(&self) -> Result<()> {
        let Multicast {
            min_rate, max_rate, ..
        } = self.multicast;
        // What nobody asked for gives way without a word.
        let asked = min_rate != MIN_RATE;
        if let Some(max_rate) = max_rate.filter(|&max_rate| min_rate > max_rate && asked) {
            return Err(anyhow!("min_rate {min_rate} is more than max_rate {max_rate}"))
                .hint("the lower one is where slow nodes stop to slow a session; set both");
        }
        if self.multicast.ttl == 0 {
            return Err(anyhow!("with a ttl of 0 no packet leaves this machine")).hint("use 1 or more");
        }
        let mtu = self.multicast.mtu;
        if mtu < SHORTEST_MTU {
            return Err(anyhow!("packets of {mtu} bytes are too short for multicast"))
                .hint("leave mtu at 9000, or set 1500 if switches do not carry jumbo frames");
        }
        if let Start::Number(number, _) = self.multicast.start
            && !(1..=RECEIVERS).contains(&(number as usize))
        {
            return Err(anyhow!("a session cannot wait for {number} receivers"))
                .hint(format!("give a number from 1 to {RECEIVERS}"));
        }
        Ok(())
    }
}

impl Start {
    /// The same with what one source says about it.
    fn with(self, number: Option<u32>, wait: Option<Duration>) -> Self {
        match (self, number, wait) {
            (start, None, None) => start,
            (_, Some(number), Some(wait)) | (Self::Number(number, _), None, Some(wait)) => {
                Self::Number(number, wait)
            }
            (Self::After(wait) | Self::Number(_, wait), Some(number), None) => Self::Number(number, wait),
            (Self::First, Some(number), None) => Self::Number(number, PATIENCE),
            (Self::First | Self::After(_), None, Some(wait)) => Self::After(wait),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            bittorrent: BittorrentOptions::default()
                .check()
                .expect("the built-in values are possible"),
            boot: BootSettings::default(),
            multicast: Multicast {
                max_rate: None,
                min_rate: MIN_RATE,
                background: PerCent::default(),
                interfaces: Vec::new(),
                groups: GroupRange::IPV4,
                groups_v6: GroupRange::IPV6,
                ports: PortRange::DEFAULT,
                ttl: 1,
                dscp: Dscp::default(),
                mtu: MTU,
                start: Start::First,
                igmp: Igmp {
                    querier: QuerierMode::Auto,
                    interval: INTERVAL,
                },
            },
        }
    }
}

/// What the text of a `server.toml` says; else the line, from 1, and what is wrong there.
fn parse(text: &str) -> std::result::Result<Overrides, (usize, String)> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..before]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        (line, error.message().trim().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_says_what_is_usual() {
        let shipped = include_str!("../../../packaging/server.toml");
        let load = |text: &str| {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(FILE), text).unwrap();
            Settings::load(directory.path(), Overrides::default()).unwrap()
        };
        assert_eq!(load(shipped), Settings::default());
        // Words behind # have a blank before them.
        let usual = shipped.lines().map(|line| match line.strip_prefix('#') {
            Some(value) if value.starts_with(char::is_alphabetic) => format!("{value}\n"),
            _ => format!("{line}\n"),
        });
        let usual: String = usual.collect();
        assert!(usual.contains("\nttl = 1\n"));
        assert_eq!(load(&usual), Settings::default());
        let all = load(&usual.replace("\n## ", "\n"));
        assert!(all.listen.is_some() && all.multicast.max_rate.is_some());
    }

    #[test]
    fn the_file_goes_over_the_defaults_and_the_command_line_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let none = Settings::load(directory.path(), Overrides::default()).unwrap();
        assert_eq!(none, Settings::default());
        let text = "listen = \"127.0.0.1:1\"\n[multicast]\nrate = \"400Mbit\"\nmin_rate = \"1Mbit\"\nbackground = \"20%\"\ninterfaces = [\"br0\", \"10.1.2.3\"]\n\
                    ttl = 4\nports = \"7-8\"\nigmp_querier = \"on\"\nigmp_interval = \"30s\"\nmax_wait = \"30s\"\ngroups = [\"239.1.0.0/16\", \"ff12::/16\"]\n";
        fs::write(directory.path().join(FILE), text).unwrap();
        let command_line = Overrides {
            multicast: MulticastOptions {
                max_rate: Some("2Gbit".parse().unwrap()),
                groups: vec!["239.255.9.0/24".parse().unwrap()],
                dscp: Some(Dscp(8)),
                min_receivers: Some(12),
                ..MulticastOptions::default()
            },
            ..Overrides::default()
        };
        let settings = Settings::load(directory.path(), command_line).unwrap();
        assert_eq!(settings.listen, Some("127.0.0.1:1".parse().unwrap()));
        let address = [10, 1, 2, 3].into();
        assert_eq!(
            settings.multicast,
            Multicast {
                max_rate: Some("2Gbit".parse().unwrap()),
                min_rate: "1Mbit".parse().unwrap(),
                background: PerCent(20),
                interfaces: vec![
                    NamedInterface::Name("br0".to_owned()),
                    NamedInterface::Address(address)
                ],
                groups: "239.255.9.0/24".parse().unwrap(),
                groups_v6: "ff12::/16".parse().unwrap(),
                ports: "7-8".parse().unwrap(),
                ttl: 4,
                dscp: Dscp(8),
                mtu: MTU,
                start: Start::Number(12, Duration::from_secs(30)),
                igmp: Igmp {
                    querier: QuerierMode::On,
                    interval: Duration::from_secs(30),
                },
            }
        );
    }

    #[test]
    fn a_number_and_a_time_to_wait_go_together() {
        let (time, other) = (Duration::from_secs(7), Duration::from_secs(9));
        let number = |wait| Start::Number(3, wait);
        assert_eq!(Start::First.with(None, None), Start::First);
        assert_eq!(Start::First.with(Some(3), None), number(PATIENCE));
        assert_eq!(Start::First.with(None, Some(time)), Start::After(time));
        assert_eq!(Start::After(time).with(Some(3), None), number(time));
        assert_eq!(number(time).with(None, Some(other)), number(other));
        assert_eq!(Start::Number(9, time).with(Some(3), None), number(time));
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong() {
        for (text, line, part) in [
            ("\nlisten = 7\n", 2, "socket address"),
            ("[multicast]\n\n\nrates = 1\n", 4, "unknown field `rates`"),
            ("[multicast]\nrate = \"fast\"\n", 2, "\"fast\" is not a rate"),
            (
                "[multicast]\ninterfaces = [\"a/b\"]\n",
                2,
                "\"a/b\" is no network interface",
            ),
            (
                "[multicast]\ngroups = [\"239.0.0.0/3\"]\n",
                2,
                "\"239.0.0.0/3\" are not all multicast groups",
            ),
            ("[multicast]\nbackground = \"100%\"\n", 2, "\"100%\" is no share"),
            ("[multicast]\nports = \"0-9\"\n", 2, "is no range of two ports"),
            ("[multicast]\ndscp = \"best\"\n", 2, "\"best\" is no code point"),
            ("[multicast]\nmax_wait = \"7h\"\n", 2, "\"7h\" is no time to wait"),
            ("[multicast]\nigmp_querier = \"yes\"\n", 2, "\"yes\" is no answer"),
            ("[multicast]\nttl = 256\n", 2, "256"),
            ("listen", 1, "key"),
        ] {
            let (found, why) = parse(text).unwrap_err();
            assert_eq!(found, line, "{text:?}: {why}");
            assert!(why.contains(part), "{text:?}: {why}");
        }
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "x = 1\n").unwrap();
        let error = Settings::load(directory.path(), Overrides::default()).unwrap_err();
        let path = directory.path().join(FILE);
        assert!(
            error
                .to_string()
                .starts_with(&format!("{}:1: unknown field", path.display()))
        );
    }

    #[test]
    fn impossible_values_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let refused = |multicast| {
            let overrides = Overrides {
                multicast,
                ..Overrides::default()
            };
            Settings::load(directory.path(), overrides)
                .unwrap_err()
                .to_string()
        };
        let ttl = MulticastOptions {
            ttl: Some(0),
            ..MulticastOptions::default()
        };
        assert_eq!(refused(ttl), "with a ttl of 0 no packet leaves this machine");
        let slow = MulticastOptions {
            max_rate: Some("5Mbit".parse().unwrap()),
            min_rate: Some("6Mbit".parse().unwrap()),
            ..MulticastOptions::default()
        };
        assert_eq!(refused(slow), "min_rate 6Mbit is more than max_rate 5Mbit");
        let short = MulticastOptions {
            mtu: Some(1100),
            ..MulticastOptions::default()
        };
        assert_eq!(
            refused(short),
            "packets of 1100 bytes are too short for multicast"
        );
        let crowd = MulticastOptions {
            min_receivers: Some(16_385),
            ..MulticastOptions::default()
        };
        assert_eq!(refused(crowd), "a session cannot wait for 16385 receivers");
    }
}
