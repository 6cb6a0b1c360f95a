//! What a machine asks for and is told to take part in a probe. The answer carries a key: private channels only.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::schedule::{ROUNDS_PER_SECOND, SECONDS, Schedule, Window};
use crate::id::ChunkId;
use crate::multicast::key::TagKey;

/// Body of `POST /v1/probes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRequest {
    /// How long the machine wants to count.
    pub seconds: u32,
    /// The UDP port on which it counts what comes by unicast.
    pub port: u16,
}

/// An invitation of one machine to a probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct ProbeOffer {
    /// The probe's number.
    pub probe: u32,
    /// Address and port of its group.
    pub group: SocketAddr,
    /// The image server's address, as the machine reaches it: it leads to the interface.
    pub server: IpAddr,
    /// The key of its packets.
    pub key: TagKey,
    /// Which packets it has.
    pub schedule: Schedule,
    /// The rounds that this machine counts.
    pub window: Window,
    /// When the first of them begins.
    pub starts_in: Duration,
}

/// An offer that cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProbeOfferError {
    /// The group's address is not one.
    #[error("{0} is not a multicast group with a port")]
    Group(SocketAddr),
    /// The key is not hexadecimal of the right length.
    #[error("the key of the probe is not 64 hexadecimal digits")]
    Key,
    /// The sizes of packets make no sense.
    #[error("the sizes of the probe's packets are out of bounds")]
    Sizes,
    /// The rounds make no sense.
    #[error("the rounds of the probe are out of bounds")]
    Rounds,
}

#[derive(Serialize, Deserialize)]
struct Raw {
    probe: u32,
    group: SocketAddr,
    server: IpAddr,
    key: String,
    sizes: Vec<u16>,
    first: u32,
    rounds: u32,
    unicast_every: u32,
    starts_in_ms: u32,
}

/// Longest time until the first round.
const START: u32 = 60_000;

impl From<ProbeOffer> for Raw {
    fn from(offer: ProbeOffer) -> Self {
        Self {
            probe: offer.probe,
            group: offer.group,
            server: offer.server,
            // A key is 32 bytes, as a hash is: its text form is the same.
            key: ChunkId::from_bytes(*offer.key.as_bytes()).to_string(),
            sizes: offer.schedule.sizes().to_vec(),
            first: offer.window.first,
            rounds: offer.window.rounds,
            unicast_every: offer.window.unicast_every,
            starts_in_ms: u32::try_from(offer.starts_in.as_millis()).unwrap_or(START),
        }
    }
}

impl TryFrom<Raw> for ProbeOffer {
    type Error = ProbeOfferError;

    fn try_from(raw: Raw) -> Result<Self, ProbeOfferError> {
        if !raw.group.ip().is_multicast() || raw.group.port() == 0 {
            return Err(ProbeOfferError::Group(raw.group));
        }
        let key = raw.key.parse::<ChunkId>().map_err(|_| ProbeOfferError::Key)?;
        let seconds = raw.rounds / ROUNDS_PER_SECOND;
        let whole = raw.rounds.is_multiple_of(ROUNDS_PER_SECOND) && (1..=SECONDS).contains(&seconds);
        let shared = raw.unicast_every == 0
            || (raw.unicast_every <= ROUNDS_PER_SECOND
                && ROUNDS_PER_SECOND.is_multiple_of(raw.unicast_every));
        if !whole || !shared || raw.first.checked_add(raw.rounds).is_none() || raw.starts_in_ms > START {
            return Err(ProbeOfferError::Rounds);
        }
        Ok(Self {
            probe: raw.probe,
            group: raw.group,
            server: raw.server,
            key: TagKey::from_bytes(*key.as_bytes()),
            schedule: Schedule::of(&raw.sizes, raw.group.is_ipv6()).ok_or(ProbeOfferError::Sizes)?,
            window: Window {
                first: raw.first,
                rounds: raw.rounds,
                unicast_every: raw.unicast_every,
            },
            starts_in: Duration::from_millis(raw.starts_in_ms.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn offers_round_trip_and_wrong_ones_are_refused() {
        let offer = ProbeOffer {
            probe: 7,
            group: "239.255.70.1:9480".parse().unwrap(),
            server: "10.0.0.1".parse().unwrap(),
            key: TagKey::from_bytes([5; 32]),
            schedule: Schedule::for_mtu(1500, false),
            window: Window {
                first: 12,
                rounds: 100,
                unicast_every: 4,
            },
            starts_in: Duration::from_millis(750),
        };
        let json = serde_json::to_value(&offer).unwrap();
        assert_eq!(serde_json::from_value::<ProbeOffer>(json.clone()).unwrap(), offer);
        for (field, value, why) in [
            (
                "group",
                json!("10.0.0.1:9480"),
                "10.0.0.1:9480 is not a multicast group with a port",
            ),
            (
                "key",
                json!("00"),
                "the key of the probe is not 64 hexadecimal digits",
            ),
            (
                "sizes",
                json!([]),
                "the sizes of the probe's packets are out of bounds",
            ),
            ("rounds", json!(0), "the rounds of the probe are out of bounds"),
            (
                "rounds",
                json!(36_020),
                "the rounds of the probe are out of bounds",
            ),
            (
                "first",
                json!(u32::MAX),
                "the rounds of the probe are out of bounds",
            ),
            (
                "unicast_every",
                json!(3),
                "the rounds of the probe are out of bounds",
            ),
            (
                "starts_in_ms",
                json!(60_001),
                "the rounds of the probe are out of bounds",
            ),
        ] {
            let mut json = json.clone();
            json[field] = value;
            let error = serde_json::from_value::<ProbeOffer>(json).unwrap_err();
            assert_eq!(error.to_string(), why);
        }
    }
}
