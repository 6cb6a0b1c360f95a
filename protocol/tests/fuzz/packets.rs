//! Decoders: no bytes make them panic, and what they take encodes to the same bytes again.

use simulcast_protocol::multicast::TagKey;
use simulcast_protocol::multicast::limits::{BITMAP_BYTES, PLANS, UNREADABLE, WANTS};
use simulcast_protocol::multicast::offer::SessionOffer;
use simulcast_protocol::multicast::packet::{Announce, Data, Fin, Report, peek};

fn key() -> TagKey {
    TagKey::from_bytes([7; 32])
}

/// Checks that what was decoded from `body` encodes to it.
fn same(body: &[u8], encode: impl FnOnce(&mut Vec<u8>)) {
    let mut packet = Vec::new();
    encode(&mut packet);
    assert_eq!(
        key().open(&packet),
        Some(body),
        "decoding and encoding lose nothing"
    );
    assert!(peek(body).is_ok(), "what is decoded has a known type");
}

pub(crate) fn announce(body: &[u8]) {
    if let Ok(announce) = Announce::decode(body) {
        assert!(announce.plans.len() <= PLANS && announce.unreadable.len() <= UNREADABLE);
        assert!(announce.done <= announce.receivers && announce.seq > 0);
        same(body, |packet| announce.encode(&key(), packet));
    }
}

pub(crate) fn fin(body: &[u8]) {
    if let Ok(fin) = Fin::decode(body) {
        same(body, |packet| fin.encode(&key(), packet));
    }
}

pub(crate) fn report(body: &[u8]) {
    if let Ok(report) = Report::decode(body) {
        assert!(report.wants.len() <= WANTS && report.bitmap.bits.len() <= BITMAP_BYTES);
        assert_eq!(Report::peek_receiver(body), Ok(report.receiver));
        let bits = report.bitmap.chunks().count();
        assert!(bits <= BITMAP_BYTES * 8);
        same(body, |packet| report.encode(&key(), packet));
    }
}

pub(crate) fn data(packet: &[u8]) {
    if let Ok(data) = Data::decode(packet) {
        let mut again = Vec::new();
        data.encode(&mut again);
        assert_eq!(again, packet, "decoding and encoding lose nothing");
    }
}

pub(crate) fn offer(text: &[u8]) {
    if let Ok(offer) = serde_json::from_slice::<SessionOffer>(text) {
        let again = serde_json::to_string(&offer).expect("an offer has no key that JSON cannot write");
        let again: SessionOffer = serde_json::from_str(&again).expect("what is written can be read");
        assert_eq!(again, offer);
        assert!(offer.group.ip().is_multicast() && offer.symbol.is_multiple_of(2));
    }
}
