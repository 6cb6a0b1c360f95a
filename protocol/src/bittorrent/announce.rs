//! Announces to the tracker as standard clients make them (BEP 3, BEP 23), and its answers.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{InfoHash, PeerId};
use crate::limits::ANNOUNCE_BYTES;

/// What a client says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    /// Which swarm.
    pub info_hash: InfoHash,
    /// Who it says it is.
    pub peer: PeerId,
    /// Where it listens.
    pub port: u16,
    /// Bytes that it lacks.
    pub left: u64,
    /// Why it says so now.
    pub event: Event,
}

/// Why a client announces itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Event {
    /// It is time to.
    #[default]
    None,
    /// It begins.
    Started,
    /// It has everything now.
    Completed,
    /// It goes.
    Stopped,
}

/// An announce that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// It is longer than any is.
    #[error("an announce has at most {ANNOUNCE_BYTES} bytes")]
    Long,
    /// Something is missing, or makes no sense.
    #[error("the announce has no good {0}")]
    Field(&'static str),
}

impl Announce {
    /// What the query of an announce says. Addresses in it are not looked at: a peer is where it speaks from.
    ///
    /// # Errors
    /// [`AnnounceError`].
    pub fn parse(query: &str) -> Result<Self, AnnounceError> {
        if query.len() > ANNOUNCE_BYTES {
            return Err(AnnounceError::Long);
        }
        let value = |name: &'static str| {
            let found = query
                .split('&')
                .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            found.ok_or(AnnounceError::Field(name))
        };
        let twenty = |name| -> Result<[u8; 20], AnnounceError> {
            let bytes = percent_decoded(value(name)?).and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or(AnnounceError::Field(name))
        };
        let port: u16 = value("port")?.parse().map_err(|_| AnnounceError::Field("port"))?;
        if port == 0 {
            return Err(AnnounceError::Field("port"));
        }
        let event = match value("event").unwrap_or_default() {
            "started" => Event::Started,
            "completed" => Event::Completed,
            "stopped" => Event::Stopped,
            _ => Event::None,
        };
        Ok(Self {
            info_hash: InfoHash(twenty("info_hash")?),
            peer: PeerId(twenty("peer_id")?),
            port,
            left: value("left")?.parse().map_err(|_| AnnounceError::Field("left"))?,
            event,
        })
    }
}

/// The bytes that percent-encoded text stands for; `None` when a percent sign has no two digits behind it.
fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = str::from_utf8(digits)
            .ok()
            .filter(|d| d.bytes().all(|d| d.is_ascii_hexdigit()))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    Some(bytes)
}

/// The answer of a tracker, bencoded, with peers in the compact form (BEP 23, BEP 7).
pub fn announce_answer(complete: u32, incomplete: u32, interval: Duration, peers: &[SocketAddr]) -> Vec<u8> {
    let (mut four, mut six) = (Vec::new(), Vec::new());
    for peer in peers {
        match peer.ip() {
            IpAddr::V4(ip) => {
                four.extend(ip.octets());
                four.extend(peer.port().to_be_bytes());
            }
            IpAddr::V6(ip) => {
                six.extend(ip.octets());
                six.extend(peer.port().to_be_bytes());
            }
        }
    }
    let interval = interval.as_secs();
    let mut answer =
        format!("d8:completei{complete}e10:incompletei{incomplete}e8:intervali{interval}e").into_bytes();
    answer.extend(format!("12:min intervali{interval}e5:peers{}:", four.len()).bytes());
    answer.extend(four);
    if !six.is_empty() {
        answer.extend(format!("6:peers6{}:", six.len()).bytes());
        answer.extend(six);
    }
    answer.push(b'e');
    answer
}

/// The answer to an announce that is refused.
pub fn announce_failure(reason: &str) -> Vec<u8> {
    format!("d14:failure reason{}:{reason}e", reason.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUERY: &str = "info_hash=%124Vx%9A%BC%DE%F1%23Eg%89%AB%CD%EF%124Vx%9A&peer_id=-TR3000-0123456789ab&port=6881\
                         &uploaded=0&downloaded=0&left=727955456&event=started&ip=10.0.0.9&compact=1";

    #[test]
    fn an_announce_is_read_and_its_address_is_not() {
        let announce = Announce::parse(QUERY).unwrap();
        assert_eq!(
            announce.info_hash.to_string(),
            "123456789abcdef123456789abcdef123456789a"
        );
        assert_eq!(announce.peer.0, *b"-TR3000-0123456789ab");
        assert_eq!(
            (announce.port, announce.left, announce.event),
            (6881, 727_955_456, Event::Started)
        );
    }

    #[test]
    fn what_is_no_announce_is_refused_by_the_field() {
        for (find, replace, field) in [
            ("port=6881", "port=0", "port"),
            ("port=6881", "port=65536", "port"),
            ("port=", "prt=", "port"),
            ("left=7", "left=x", "left"),
            ("%9A&", "%9&", "info_hash"),
            ("%9A&", "%+A&", "info_hash"),
            ("89ab&", "89&", "peer_id"),
        ] {
            let query = QUERY.replace(find, replace);
            assert_eq!(
                Announce::parse(&query),
                Err(AnnounceError::Field(field)),
                "{query}"
            );
        }
        assert_eq!(Announce::parse(&"x".repeat(5000)), Err(AnnounceError::Long));
    }

    #[test]
    fn answers_are_those_of_bep_23() {
        let peers = ["1.2.3.4:258".parse().unwrap(), "[::1]:259".parse().unwrap()];
        let answer = announce_answer(1, 2, Duration::from_secs(30), &peers);
        let begin = b"d8:completei1e10:incompletei2e8:intervali30e12:min intervali30e5:peers6:\x01\x02\x03\x04\x01\x02";
        assert!(answer.starts_with(begin));
        assert!(answer.ends_with(b"6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x03e"));
        assert_eq!(announce_failure("no"), b"d14:failure reason2:noe");
    }

    proptest! {
        #[test]
        fn no_query_is_trouble(query in "[a-z_=&%0-9A-F]{0,200}") {
            prop_assert!(Announce::parse(&query).is_err(), "it has no identity of 20 bytes");
        }

        #[test]
        fn bytes_survive_percent_encoding(hash: [u8; 20]) {
            let encoded: String = hash.iter().map(|byte| format!("%{byte:02x}")).collect();
            prop_assert_eq!(percent_decoded(&encoded), Some(hash.to_vec()));
        }
    }
}
