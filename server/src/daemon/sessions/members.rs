//! Who takes part in a session, as operators are told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Mutex;

use simulcast_protocol::api::{MemberState, MemberStatus};
use simulcast_protocol::multicast::ReceiverId;
use simulcast_protocol::multicast::limits::RECEIVERS;
use simulcast_protocol::multicast::sender::Peer;

/// The addresses that offers of a session were given to: each start of a receiver has its own number.
#[derive(Debug, Default)]
pub(super) struct Invited(Mutex<BTreeMap<ReceiverId, IpAddr>>);

impl Invited {
    /// An offer was given to this address. Past the receivers that a session can have it is not remembered.
    pub(super) fn note(&self, receiver: ReceiverId, address: IpAddr) {
        let mut addresses = self.0.lock().expect("no holder panics");
        if addresses.len() < RECEIVERS {
            addresses.insert(receiver, address);
        }
    }

    /// Who has this number.
    pub(super) fn address(&self, receiver: ReceiverId) -> Option<IpAddr> {
        self.0.lock().expect("no holder panics").get(&receiver).copied()
    }
}

/// What is told of one receiver.
pub(super) fn member(address: Option<IpAddr>, peer: &Peer) -> MemberStatus {
    let state = match peer {
        Peer { parted: true, .. } => MemberState::Parted,
        Peer { missing: 0, .. } => MemberState::Done,
        Peer { alive: false, .. } => MemberState::Silent,
        _ => MemberState::Receiving,
    };
    MemberStatus {
        address,
        state,
        missing: peer.missing,
        loss_ppm: peer.loss_ppm(),
        drops: peer.drops,
        fill: u8::try_from(u32::from(peer.fill) * 100 / 255).unwrap_or(100),
    }
}
