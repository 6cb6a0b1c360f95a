//! What a receiver must be told to take part in a session (protocol.md 1.3). It carries keys: private channels only.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::id::{ChunkId, ManifestId};
use crate::multicast::key::{ReceiverId, ReceiverKeys, SessionId, TagKey};
use crate::multicast::limits::{SYMBOL_BYTES_MAX, SYMBOL_BYTES_MIN};

/// An invitation of one receiver to one session. Each receiver, and each start of one, needs its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "Raw")]
pub struct SessionOffer {
    /// Address and port of the group.
    pub group: SocketAddr,
    /// Where reports go.
    pub control: SocketAddr,
    /// The session.
    pub session: SessionId,
    /// The receiver's number in it.
    pub receiver: ReceiverId,
    /// The receiver's keys.
    pub keys: ReceiverKeys,
    /// Bytes of a symbol.
    pub symbol: usize,
    /// The version that is sent.
    pub manifest: ManifestId,
    /// How long the sender may wait for others, once this receiver has joined, before it sends anything: at most
    /// [`WAIT_MAX`].
    pub wait: Duration,
}

/// Longest time that a session may wait for its receivers to be complete: longer than any rack takes to boot, and
/// short enough for somebody to notice that a node is missing.
pub const WAIT_MAX: Duration = Duration::from_secs(6 * 3600);

/// An offer that cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// A later format.
    #[error("session offer of format {0}, but only format {VERSION} is known")]
    Version(u32),
    /// The group's address is not one.
    #[error("{0} is not a multicast group with a port")]
    Group(SocketAddr),
    /// Reports cannot go there.
    #[error("{0} is not an address that reports can be sent to")]
    Control(SocketAddr),
    /// Group and control address are of different families.
    #[error("group and control address are not of the same family")]
    Family,
    /// A symbol size out of bounds.
    #[error("symbols of {0} bytes: an even number from {SYMBOL_BYTES_MIN} to {SYMBOL_BYTES_MAX} is needed")]
    Symbol(usize),
    /// The receiver's number or a key is not hexadecimal of the right length.
    #[error("{0} of the session offer is not hexadecimal of the right length")]
    Hex(&'static str),
}

const VERSION: u32 = 1;

/// The offer as JSON has it: numbers of 64 bits and keys as hexadecimal text.
#[derive(Serialize, Deserialize)]
struct Raw {
    version: u32,
    group: SocketAddr,
    control: SocketAddr,
    session: u32,
    receiver: String,
    group_key: String,
    receiver_key: String,
    symbol: usize,
    manifest: ManifestId,
    #[serde(default)]
    wait_ms: u64,
}

impl From<SessionOffer> for Raw {
    fn from(offer: SessionOffer) -> Self {
        // A key is 32 bytes, as a hash is: its text form is the same.
        let hex = |key: &TagKey| ChunkId::from_bytes(*key.as_bytes()).to_string();
        Self {
            version: VERSION,
            group: offer.group,
            control: offer.control,
            session: offer.session.0,
            receiver: format!("{:016x}", offer.receiver.0),
            group_key: hex(&offer.keys.group),
            receiver_key: hex(&offer.keys.own),
            symbol: offer.symbol,
            manifest: offer.manifest,
            wait_ms: u64::try_from(offer.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl TryFrom<Raw> for SessionOffer {
    type Error = OfferError;

    fn try_from(raw: Raw) -> Result<Self, OfferError> {
        let key = |text: &str, what| {
            let bytes = text.parse::<ChunkId>().map_err(|_| OfferError::Hex(what))?;
            Ok(TagKey::from_bytes(*bytes.as_bytes()))
        };
        if raw.version != VERSION {
            return Err(OfferError::Version(raw.version));
        }
        if !raw.group.ip().is_multicast() || raw.group.port() == 0 {
            return Err(OfferError::Group(raw.group));
        }
        if raw.control.ip().is_multicast() || raw.control.ip().is_unspecified() || raw.control.port() == 0 {
            return Err(OfferError::Control(raw.control));
        }
        if raw.group.is_ipv4() != raw.control.is_ipv4() {
            return Err(OfferError::Family);
        }
        if !(SYMBOL_BYTES_MIN..=SYMBOL_BYTES_MAX).contains(&raw.symbol) || !raw.symbol.is_multiple_of(2) {
            return Err(OfferError::Symbol(raw.symbol));
        }
        let digits = raw.receiver.len() == 16 && raw.receiver.bytes().all(|digit| digit.is_ascii_hexdigit());
        let receiver = u64::from_str_radix(&raw.receiver, 16).ok().filter(|_| digits);
        let receiver = ReceiverId(receiver.ok_or(OfferError::Hex("receiver"))?);
        let keys = ReceiverKeys {
            group: key(&raw.group_key, "group_key")?,
            own: key(&raw.receiver_key, "receiver_key")?,
        };
        let (group, control, session) = (raw.group, raw.control, SessionId(raw.session));
        Ok(Self {
            group,
            control,
            session,
            receiver,
            keys,
            symbol: raw.symbol,
            manifest: raw.manifest,
            wait: Duration::from_millis(raw.wait_ms).min(WAIT_MAX),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::multicast::key::SessionKey;

    fn offer() -> SessionOffer {
        SessionOffer {
            group: "239.255.7.7:5000".parse().unwrap(),
            control: "10.0.0.1:5001".parse().unwrap(),
            session: SessionId(0xffff_ffff),
            receiver: ReceiverId(u64::MAX - 1),
            keys: SessionKey::from_bytes([3; 32]).receiver_keys(ReceiverId(u64::MAX - 1)),
            symbol: 1440,
            manifest: ManifestId::of(b"v"),
            wait: Duration::from_millis(5_250),
        }
    }

    #[test]
    fn offers_round_trip_through_json() {
        let text = serde_json::to_string(&offer()).unwrap();
        assert_eq!(serde_json::from_str::<SessionOffer>(&text).unwrap(), offer());
    }

    #[test]
    fn the_wait_is_bounded_and_may_be_left_out() {
        let mut json = serde_json::to_value(offer()).unwrap();
        json["wait_ms"] = serde_json::json!(u64::MAX);
        let read = |json| serde_json::from_value::<SessionOffer>(json).unwrap().wait;
        assert_eq!(read(json.clone()), WAIT_MAX);
        json.as_object_mut().unwrap().remove("wait_ms");
        assert_eq!(read(json), Duration::ZERO);
    }

    #[test]
    fn wrong_offers_say_what_is_wrong() {
        let wrong = [
            (
                "version",
                serde_json::json!(2),
                "session offer of format 2, but only format 1 is known",
            ),
            (
                "group",
                serde_json::json!("10.0.0.1:5000"),
                "10.0.0.1:5000 is not a multicast group with a port",
            ),
            (
                "group",
                serde_json::json!("239.1.1.1:0"),
                "239.1.1.1:0 is not a multicast group with a port",
            ),
            (
                "control",
                serde_json::json!("0.0.0.0:1"),
                "0.0.0.0:1 is not an address that reports can be sent to",
            ),
            (
                "control",
                serde_json::json!("[fe80::1]:1"),
                "group and control address are not of the same family",
            ),
            (
                "symbol",
                serde_json::json!(1441),
                "symbols of 1441 bytes: an even number from 16 to 8896 is needed",
            ),
            (
                "receiver",
                serde_json::json!("+00000000000000f"),
                "receiver of the session offer is not hexadecimal of the right length",
            ),
            (
                "group_key",
                serde_json::json!("00"),
                "group_key of the session offer is not hexadecimal of the right length",
            ),
        ];
        for (field, value, message) in wrong {
            let mut json = serde_json::to_value(offer()).unwrap();
            json[field] = value;
            assert_eq!(
                serde_json::from_value::<SessionOffer>(json)
                    .unwrap_err()
                    .to_string(),
                message
            );
        }
    }
}
