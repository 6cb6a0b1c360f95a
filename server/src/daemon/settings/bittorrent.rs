//! `[bittorrent]` of `server.toml`.

use anyhow::{Result, anyhow};
use serde::Deserialize;
use simulcast_cli::Remark;
use simulcast_protocol::units::Rate;
use simulcast_transport::bittorrent::PORT;

/// Connections unless told otherwise: with more, each gets little, and the others give more than the server could.
const CONNECTIONS: usize = 256;

/// The most that can be asked for: each is a file descriptor.
const CONNECTIONS_MAX: usize = 10_000;

/// Peers that are sent to at a time unless told otherwise.
const UPLOADS: usize = 8;

/// How versions are offered by BitTorrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bittorrent {
    /// Whether they are.
    pub(crate) enabled: bool,
    /// Where peers are listened for; another port when this one is taken and nobody asked for it.
    pub(crate) port: u16,
    /// Whether somebody asked for the port.
    pub(crate) asked: bool,
    /// What is sent at most.
    pub(crate) rate: Option<Rate>,
    /// Connections at a time.
    pub(crate) connections: usize,
    /// Peers that are sent to at a time.
    pub(crate) uploads: usize,
    /// Bits of the network prefix that nodes of one site share, of IPv4 and of IPv6 addresses.
    pub(crate) site_bits: (u8, u8),
}

/// The same as the file says it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BittorrentOptions {
    enabled: Option<bool>,
    port: Option<u16>,
    rate: Option<Rate>,
    connections: Option<usize>,
    uploads: Option<usize>,
    site_bits: Option<u8>,
    site_bits_v6: Option<u8>,
}

impl BittorrentOptions {
    /// The settings, if they are possible.
    pub(super) fn check(&self) -> Result<Bittorrent> {
        let settings = Bittorrent {
            enabled: self.enabled.unwrap_or(true),
            port: self.port.unwrap_or(PORT),
            asked: self.port.is_some(),
            rate: self.rate,
            connections: self.connections.unwrap_or(CONNECTIONS),
            uploads: self.uploads.unwrap_or(UPLOADS),
            site_bits: (self.site_bits.unwrap_or(24), self.site_bits_v6.unwrap_or(64)),
        };
        for (name, number, most) in [
            ("connections", settings.connections, CONNECTIONS_MAX),
            ("uploads", settings.uploads, settings.connections),
        ] {
            if !(1..=most).contains(&number) {
                return Err(anyhow!("[bittorrent] {name} = {number} is not possible"))
                    .hint(format!("give a number from 1 to {most}, or enabled = false"));
            }
        }
        let (four, six) = settings.site_bits;
        if four > 32 || six > 128 {
            return Err(anyhow!(
                "[bittorrent] an address has no {} bits",
                if four > 32 { four } else { six }
            ))
            .hint("site_bits is 0 to 32, and site_bits_v6 0 to 128; 0 makes everything one site");
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(text: &str) -> Result<Bittorrent, String> {
        let options: BittorrentOptions = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        options.check().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_possible_is_taken_and_the_rest_refused() {
        let usual = checked("").unwrap();
        assert_eq!(
            (usual.enabled, usual.port, usual.site_bits),
            (true, PORT, (24, 64))
        );
        let text = "enabled = false\nport = 7\nrate = \"1Gbit\"\nconnections = 9\nuploads = 9\nsite_bits = 0";
        let asked = checked(text).unwrap();
        assert_eq!(
            (asked.enabled, asked.port, asked.asked, asked.uploads),
            (false, 7, true, 9)
        );
        assert_eq!(asked.rate, "1Gbit".parse().ok());
        for (text, why) in [
            ("uploads = 0", "[bittorrent] uploads = 0 is not possible"),
            ("connections = 2", "[bittorrent] uploads = 8 is not possible"),
            (
                "connections = 10001",
                "[bittorrent] connections = 10001 is not possible",
            ),
            ("site_bits = 33", "[bittorrent] an address has no 33 bits"),
            ("site_bits_v6 = 129", "[bittorrent] an address has no 129 bits"),
        ] {
            assert_eq!(checked(text), Err(why.to_owned()));
        }
        assert!(
            checked("ports = 1")
                .unwrap_err()
                .contains("unknown field `ports`")
        );
    }
}
