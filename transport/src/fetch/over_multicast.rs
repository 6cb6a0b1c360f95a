//! Multicast as a transport: take up an offer, receive, and join again when a session ends or its sender is lost.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use simulcast_protocol::api::USUAL_MTU;
use simulcast_protocol::control::SessionOffer;
use simulcast_protocol::multicast::probe::verdict::Finding;

use super::conduct::{Choice, Notice, Order};
use super::interface::{mtu_towards, towards};
use super::{Fetch, Inlet, Transport};
use crate::chunk_bytes::ChunkBytes;
use crate::http::HttpError;
use crate::multicast::probe::why_not_reached;
use crate::multicast::{
    Cancel, ChunkSink, End, Kept, ReceiveError, ReceiverConfig, ReceiverSummary, SinkError, go_on,
};

/// Sessions that may end in a row without having brought anything.
const TRIES: u32 = 3;

/// Longest pause before another session is asked for: a thousand receivers of one that has ended do not ask in the
/// same millisecond.
const PAUSE: Duration = Duration::from_millis(200);

/// Multicast did not bring everything. What came before stays.
#[derive(Debug, thiserror::Error)]
pub enum MulticastError {
    /// The server offers no session.
    #[error("the image server offers no multicast session")]
    Offer(#[source] HttpError),
    /// There is no interface to listen on.
    #[error("cannot find the interface for multicast")]
    Interface(#[source] io::Error),
    /// It cannot be taken part in.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// Not a word of the session was heard.
    #[error("nothing of the multicast session to {0} reaches this machine{why}", why = seen(.1.as_deref()))]
    NotReached(SocketAddr, Option<Box<Finding>>),
    /// Sessions ended, or were lost, before everything had come.
    #[error("the multicast session to {group} ended with {missing} chunks missing")]
    Ended {
        /// The group.
        group: SocketAddr,
        /// How many chunks.
        missing: u32,
    },
    /// It sends packets longer than the usual ones, and none of them comes.
    #[error("the long packets of the multicast session to {0} do not reach this machine")]
    TooLong(SocketAddr),
    /// It follows too slowly, and the others do not wait for it.
    #[error(
        "this machine takes less than half of what the others of the multicast session to {0} take, or loses too much"
    )]
    Parted(SocketAddr),
    /// The sender cannot read some chunks, or sends wrong bytes for them.
    #[error("multicast could not bring {0} chunks")]
    GaveUp(u32),
}

impl MulticastError {
    /// What to do about it; empty when nothing helps.
    pub fn hint(&self) -> String {
        match self {
            Self::Offer(error) => error.hint(),
            Self::Interface(_) => "name the interface with --interface".to_owned(),
            Self::NotReached(_, Some(found)) => found.remedy.clone(),
            Self::NotReached(group, None) => format!(
                "check that no firewall drops UDP to {group} and that switches forward it (IGMP snooping needs a \
                 querier); choose the interface with --interface, or use --transport auto"
            ),
            Self::Receive(_) | Self::Ended { .. } => {
                "start again: only what is missing is fetched; --transport auto fetches the rest by HTTP"
                    .to_owned()
            }
            Self::TooLong(_) => {
                "a switch on the way does not carry jumbo frames; set mtu = 1500 in server.toml of the image server"
                    .to_owned()
            }
            Self::Parted(_) => {
                "look at the speed of its link, at its cable and at its disk; --transport auto fetches the rest by HTTP"
                    .to_owned()
            }
            Self::GaveUp(_) => "run si-fsck on the image server: it names damaged chunks".to_owned(),
        }
    }
}

/// What happened to multicast, for whoever decides which transports help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A session is joined, which may wait so long for others before it sends anything.
    Joined(Duration),
    /// A session has ended too early: others should begin to help.
    Faltered,
}

/// Takes part in sessions until nothing is missing or they lead nowhere. `tell` is called with what happens.
pub(super) fn over_multicast(
    order: &Order<'_>,
    fetch: &Fetch,
    cancel: &Cancel,
    tell: &dyn Fn(Sign),
) -> Result<(), MulticastError> {
    let mut fruitless = 0;
    let (mut early, mut kept) = (order.offer.clone(), None);
    let mut mtu = mtu_towards(order.client.server(), order.interface.as_ref());
    loop {
        let manifest = order.table.manifest();
        let offer = match early.take() {
            Some(offer) => offer,
            None => order
                .client
                .session(manifest, mtu)
                .map_err(MulticastError::Offer)?,
        };
        tell(Sign::Joined(offer.wait));
        let before = fetch.tally(Transport::Multicast).chunks;
        let announces = kept.as_ref().map_or(0, Kept::announces);
        let summary = take_part(order, fetch, &offer, &mut kept, cancel);
        if fetch.missing().is_over() || cancel.is_set() {
            return Ok(());
        }
        let summary = summary?;
        let brought = fetch.tally(Transport::Multicast).chunks > before;
        let (group, missing) = (offer.group, summary.missing.count());
        let error = match summary.end {
            End::Complete => return Err(MulticastError::GaveUp(missing)),
            // Others go on with the session; HTTP does not hold them back.
            End::Parted if order.choice == Choice::Auto => return Err(MulticastError::Parted(group)),
            End::Parted => MulticastError::Parted(group),
            End::Silent if summary.stats.announces == announces => MulticastError::NotReached(group, None),
            End::Deaf => {
                mtu = mtu.map(|mtu| mtu.min(USUAL_MTU));
                MulticastError::TooLong(group)
            }
            End::Silent | End::Gone | End::Finished(_) | End::Cancelled => {
                MulticastError::Ended { group, missing }
            }
        };
        fruitless = if brought { 0 } else { fruitless + 1 };
        if fruitless >= TRIES {
            return Err(diagnosed(error, order, fetch, cancel));
        }
        // That a session is over, or a server that is started again, is no bad sign: there is a new one.
        let good = match summary.end {
            End::Finished(_) | End::Gone | End::Deaf => fruitless <= 1,
            End::Silent => brought,
            End::Complete | End::Parted | End::Cancelled => false,
        };
        if !good {
            tell(Sign::Faltered);
        }
        (order.notice)(&Notice::JoiningAgain(error));
        if fetch
            .missing()
            .wait_over(PAUSE * rand::rng().random_range(0..=100) / 100)
        {
            return Ok(());
        }
    }
}

/// The error, with what a short probe found about it.
fn diagnosed(error: MulticastError, order: &Order<'_>, fetch: &Fetch, cancel: &Cancel) -> MulticastError {
    let MulticastError::NotReached(group, None) = error else {
        return error;
    };
    let over = || cancel.is_set() || fetch.missing().is_over();
    let found = why_not_reached(order.client, order.interface.as_ref(), &over);
    MulticastError::NotReached(group, found.map(Box::new))
}

/// What was found, as it stands behind an error.
fn seen(finding: Option<&Finding>) -> String {
    finding.map_or_else(String::new, |finding| format!(" ({})", finding.seen))
}

fn take_part(
    order: &Order<'_>,
    fetch: &Fetch,
    offer: &SessionOffer,
    kept: &mut Option<Kept>,
    cancel: &Cancel,
) -> Result<ReceiverSummary, MulticastError> {
    let config = aim(order, offer).map_err(MulticastError::Interface)?;
    (order.notice)(&Notice::Joined(offer.group));
    let sink = fetch.inlet(Transport::Multicast);
    let (table, missing) = (Arc::clone(&order.table), fetch.missing().set());
    Ok(go_on(&config, table, missing, kept, &sink, cancel)?)
}

/// How this machine takes part in the session that is offered.
fn aim(order: &Order<'_>, offer: &SessionOffer) -> io::Result<ReceiverConfig> {
    let (interface, index) = match &order.interface {
        Some(named) => (named.resolve()?, Some(named.index()?)),
        None => (towards(offer.control)?, None),
    };
    let mut config = ReceiverConfig::new(interface, offer);
    if let (SocketAddr::V6(control), Some(index)) = (&mut config.control, index)
        && control.ip().is_unicast_link_local()
    {
        // Which interface such an address belongs to only this machine knows.
        control.set_scope_id(index);
    }
    Ok(config)
}

impl ChunkSink for Inlet<'_> {
    fn wanted(&self, index: u32) -> bool {
        Inlet::wanted(self, index)
    }

    fn deliver(&self, index: u32, bytes: ChunkBytes) -> Result<(), SinkError> {
        Inlet::deliver(self, index, bytes).map_err(|stopped| SinkError {
            index,
            source: Box::new(stopped),
        })
    }

    fn gave_up(&self, index: u32) {
        Inlet::gave_up(self, index);
    }

    fn fill(&self) -> u8 {
        Inlet::fill(self)
    }
}
