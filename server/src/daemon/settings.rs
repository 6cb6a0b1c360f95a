//! How the daemon is set: built-in values, then `server.toml`, then the command line, each over the one before.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde::Deserialize;
use simulcast_cli::{Exit, Remark};
use simulcast_protocol::api::PORT;
use simulcast_protocol::units::Rate;
use simulcast_transport::fetch::NamedInterface;

/// The name of the file in the configuration directory.
const FILE: &str = "server.toml";

/// Rate of a session unless told otherwise: what nearly every wire carries. Receivers slow it down when they must.
const RATE: Rate = Rate::from_bits_per_second(1_000_000_000);

/// All settings of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where requests are listened for.
    pub(crate) listen: SocketAddr,
    /// How sessions are sent.
    pub(crate) multicast: Multicast,
}

/// How sessions are sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Multicast {
    /// The rate on the wire that a session never passes.
    pub(crate) rate: Rate,
    /// Where sessions are sent; `None` for where the request for one came in.
    pub(crate) interface: Option<NamedInterface>,
    /// The group of the first session, others take the following ones; `None` for one that the store's key chooses.
    pub(crate) group: Option<Ipv4Addr>,
    /// Routers that a packet may pass, plus one.
    pub(crate) ttl: u8,
}

/// What one source says; what it does not say stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Overrides {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) rate: Option<Rate>,
    pub(crate) interface: Option<NamedInterface>,
    pub(crate) group: Option<Ipv4Addr>,
    pub(crate) ttl: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: Option<SocketAddr>,
    multicast: FileMulticast,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileMulticast {
    rate: Option<Rate>,
    interface: Option<NamedInterface>,
    group: Option<Ipv4Addr>,
    ttl: Option<u8>,
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
        let mut settings = Self::default();
        settings.take(file);
        settings.take(command_line);
        settings.check().exit(Exit::Usage)?;
        Ok(settings)
    }

    fn take(&mut self, overrides: Overrides) {
        let Overrides {
            listen,
            rate,
            interface,
            group,
            ttl,
        } = overrides;
        self.listen = listen.unwrap_or(self.listen);
        self.multicast.rate = rate.unwrap_or(self.multicast.rate);
        self.multicast.interface = interface.or(self.multicast.interface.take());
        self.multicast.group = group.or(self.multicast.group);
        self.multicast.ttl = ttl.unwrap_or(self.multicast.ttl);
    }

    fn check(&self) -> Result<()> {
        if let Some(group) = self.multicast.group.filter(|group| !group.is_multicast()) {
            return Err(anyhow!("{group} is no multicast group"))
                .hint("choose one that is yours to use, from 239.255.0.0 to 239.255.255.255 for a site");
        }
        if self.multicast.ttl == 0 {
            return Err(anyhow!("with a ttl of 0 no packet leaves this machine")).hint("use 1 or more");
        }
        Ok(())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT)),
            multicast: Multicast {
                rate: RATE,
                interface: None,
                group: None,
                ttl: 1,
            },
        }
    }
}

/// What the text of a `server.toml` says; else the line, from 1, and what is wrong there.
fn parse(text: &str) -> std::result::Result<Overrides, (usize, String)> {
    let file: File = toml::from_str(text).map_err(|error| {
        let before = error.span().map_or(0, |span| span.start.min(text.len()));
        let line = text.as_bytes()[..before]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
            + 1;
        (line, error.message().trim().to_owned())
    })?;
    Ok(Overrides {
        listen: file.listen,
        rate: file.multicast.rate,
        interface: file.multicast.interface,
        group: file.multicast.group,
        ttl: file.multicast.ttl,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_goes_over_the_defaults_and_the_command_line_over_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let none = Settings::load(directory.path(), Overrides::default()).unwrap();
        assert_eq!(none, Settings::default());
        assert_eq!(none.listen.to_string(), "0.0.0.0:9440");
        let text =
            "listen = \"127.0.0.1:1\"\n[multicast]\nrate = \"400Mbit\"\ninterface = \"br0\"\nttl = 4\n";
        fs::write(directory.path().join(FILE), text).unwrap();
        let command_line = Overrides {
            rate: Some("2Gbit".parse().unwrap()),
            group: Some("239.255.9.9".parse().unwrap()),
            ..Overrides::default()
        };
        let settings = Settings::load(directory.path(), command_line).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:1");
        assert_eq!(
            settings.multicast,
            Multicast {
                rate: "2Gbit".parse().unwrap(),
                interface: Some(NamedInterface::Name("br0".to_owned())),
                group: Some(Ipv4Addr::new(239, 255, 9, 9)),
                ttl: 4,
            }
        );
    }

    #[test]
    fn errors_name_the_line_and_what_is_wrong() {
        for (text, line, part) in [
            ("\nlisten = 7\n", 2, "socket address"),
            ("[multicast]\n\n\nrates = 1\n", 4, "unknown field `rates`"),
            ("[multicast]\nrate = \"fast\"\n", 2, "\"fast\" is not a rate"),
            (
                "[multicast]\ninterface = \"a/b\"\n",
                2,
                "\"a/b\" is no network interface",
            ),
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
        let group = Overrides {
            group: Some(Ipv4Addr::LOCALHOST),
            ..Overrides::default()
        };
        let directory = tempfile::tempdir().unwrap();
        let error = Settings::load(directory.path(), group).unwrap_err();
        assert_eq!(error.to_string(), "127.0.0.1 is no multicast group");
        let ttl = Overrides {
            ttl: Some(0),
            ..Overrides::default()
        };
        assert!(Settings::load(directory.path(), ttl).is_err());
    }
}
