//! Being the querier of a network where nobody else is, and ceasing when somebody with a better right speaks (RFC 2236, 3).
//!
//! A router asks from its first moment; we are a guest, and first listen for as long as any querier would need to be heard.
//! So a network that has one is not disturbed, and one that has none is asked long before a switch forgets its members.

use std::net::IpAddr;
use std::time::Duration;

use super::membership::Query;
use super::time::{Time, earlier};

/// When we are the querier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuerierMode {
    /// While sessions run where nobody else is.
    #[default]
    Auto,
    /// While sessions run, unless one with a lower address is there.
    On,
    /// Never.
    Off,
}

/// Time between two queries unless another is set: half of what RFC 2236 proposes, so that one may be lost.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// Longest time in which hosts answer (RFC 2236, 8.3).
const RESPONSE: Duration = Duration::from_secs(10);

/// Something that people want to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuerierEvent {
    /// We ask from now on.
    Began,
    /// We ask no more: somebody else does.
    Yielded(Query),
    /// We ask no more: no session runs.
    Ended,
}

/// The querier of one interface and one family of addresses. Drain [`poll_transmit`](Self::poll_transmit) and
/// [`poll_event`](Self::poll_event) after each thing that goes in.
#[derive(Debug)]
pub struct Querier {
    mode: QuerierMode,
    interval: Duration,
    started: Time,
    /// The last query of somebody else.
    heard: Option<(Time, Query)>,
    /// Our address there, while sessions run.
    wanted: Option<IpAddr>,
    /// While we are the querier: when the next query is due, and how many went out.
    asking: Option<(Time, u32)>,
    event: Option<QuerierEvent>,
}

impl Querier {
    /// Begins to listen. `interval` is the time between two queries, [`INTERVAL`] by custom.
    pub fn new(now: Time, mode: QuerierMode, interval: Duration) -> Self {
        Self {
            mode,
            interval,
            started: now,
            heard: None,
            wanted: None,
            asking: None,
            event: None,
        }
    }

    /// In which time hosts are to answer our queries.
    pub fn response(&self) -> Duration {
        RESPONSE.min(self.interval / 6)
    }

    /// Time without a query after which there is no other querier (RFC 2236, 8.5): 130 s by custom, for others ask every 125.
    pub fn silence(&self) -> Duration {
        2 * self.interval + self.response()
    }

    /// Says whether sessions run on the interface, and which address of ours they have.
    pub fn want(&mut self, now: Time, address: Option<IpAddr>) {
        self.wanted = address;
        if address.is_none() && self.asking.take().is_some() {
            self.event = Some(QuerierEvent::Ended);
        }
        self.handle_timeout(now);
    }

    /// Takes a query that was heard. Our own are known by their address, and are none.
    pub fn handle_query(&mut self, now: Time, query: Query) {
        if self.wanted == Some(query.from) {
            return;
        }
        self.heard = Some((now, query));
        if self.asking.is_some() && self.is_above(query) {
            self.asking = None;
            self.event = Some(QuerierEvent::Yielded(query));
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.asking.is_none() && self.wanted.is_some() && self.begins_at().is_some_and(|at| now >= at) {
            self.asking = Some((now, 0));
            self.event = Some(QuerierEvent::Began);
        }
    }

    /// The address to send a general query from, when one is due now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<IpAddr> {
        let (due, sent) = self.asking.filter(|(due, _)| *due <= now)?;
        // The second follows soon, should the first be lost (RFC 2236, 8.6).
        let wait = if sent == 0 {
            self.interval / 4
        } else {
            self.interval
        };
        self.asking = Some((due.max(now) + wait, sent.saturating_add(1)));
        self.wanted
    }

    /// When [`handle_timeout`](Self::handle_timeout) or [`poll_transmit`](Self::poll_transmit) has something to do.
    pub fn poll_timeout(&self) -> Option<Time> {
        let begins = self
            .begins_at()
            .filter(|_| self.asking.is_none() && self.wanted.is_some());
        earlier(self.asking.map(|(due, _)| due), begins)
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<QuerierEvent> {
        self.event.take()
    }

    /// Whether we are the querier.
    pub fn is_asking(&self) -> bool {
        self.asking.is_some()
    }

    /// The last query of somebody else, if it is not too long ago, and for how long we have listened.
    pub fn listened(&self, now: Time) -> (Option<Query>, Duration) {
        let fresh = |(at, _): &(Time, Query)| now.since(*at) < self.silence();
        (
            self.heard.filter(fresh).map(|(_, query)| query),
            now.since(self.started),
        )
    }

    /// When we begin to ask if nobody is heard until then.
    fn begins_at(&self) -> Option<Time> {
        let after = |time: Time| time + self.silence();
        match (self.mode, self.heard) {
            (QuerierMode::Off, _) => None,
            (QuerierMode::Auto, None) => Some(after(self.started)),
            (QuerierMode::Auto, Some((at, _))) => Some(after(at).max(after(self.started))),
            (QuerierMode::On, Some((at, query))) if self.is_above(query) => Some(after(at)),
            (QuerierMode::On, _) => Some(self.started),
        }
    }

    /// Whether it is the querier rather than us: the one with the lowest address is (RFC 2236, 3). Nobody's address is
    /// that of a switch which asks only because nobody else does, and takes no part in that (RFC 4541, 2.1.1).
    fn is_above(&self, query: Query) -> bool {
        !query.from.is_unspecified() && self.wanted.is_none_or(|own| query.from < own)
    }
}

#[cfg(test)]
mod tests {
    use super::super::membership::Protocol;
    use super::*;

    const OWN: [u8; 4] = [10, 0, 0, 5];

    fn at(seconds: u64) -> Time {
        Time::from_start(Duration::from_secs(seconds))
    }

    fn query(last: u8) -> Query {
        let from = if last == 0 { [0; 4] } else { [10, 0, 0, last] };
        Query {
            protocol: Protocol::Igmp(2),
            from: from.into(),
        }
    }

    /// One that has listened since 0, with sessions since 100 s.
    fn querier(mode: QuerierMode) -> Querier {
        let mut querier = Querier::new(at(0), mode, INTERVAL);
        querier.want(at(100), Some(OWN.into()));
        querier
    }

    /// Runs it from one second to another; when it sent.
    fn sent(querier: &mut Querier, seconds: std::ops::Range<u64>) -> Vec<u64> {
        let mut sent = Vec::new();
        for second in seconds {
            querier.handle_timeout(at(second));
            if let Some(from) = querier.poll_transmit(at(second)) {
                assert_eq!(from, IpAddr::from(OWN));
                sent.push(second);
            }
        }
        sent
    }

    #[test]
    fn where_nobody_is_heard_it_asks_while_sessions_run() {
        let mut querier = querier(QuerierMode::Auto);
        assert_eq!(querier.poll_timeout(), Some(at(130)));
        assert_eq!(sent(&mut querier, 100..300), [130, 145, 205, 265]);
        assert_eq!(querier.poll_event(), Some(QuerierEvent::Began));
        querier.want(at(300), None);
        assert_eq!(
            (querier.poll_event(), querier.poll_timeout()),
            (Some(QuerierEvent::Ended), None)
        );
        assert_eq!(sent(&mut querier, 300..600), [0u64; 0]);
        querier.want(at(600), Some(OWN.into()));
        assert_eq!(
            sent(&mut querier, 600..620),
            [600, 615],
            "it has listened all the time"
        );
    }

    #[test]
    fn where_somebody_is_heard_it_is_silent_until_he_is() {
        let mut querier = querier(QuerierMode::Auto);
        querier.handle_query(at(120), query(9));
        assert_eq!(
            querier.listened(at(121)),
            (Some(query(9)), Duration::from_secs(121))
        );
        assert_eq!(sent(&mut querier, 120..245), [0u64; 0]);
        querier.handle_query(at(245), query(0));
        assert_eq!(
            sent(&mut querier, 245..380),
            [375],
            "a switch that asks for nobody asks too"
        );
        assert_eq!(querier.listened(at(380)).0, None);
    }

    #[test]
    fn one_with_a_lower_address_takes_over_and_one_with_a_higher_does_not() {
        for mode in [QuerierMode::Auto, QuerierMode::On] {
            let mut querier = querier(mode);
            sent(&mut querier, 100..200);
            assert_eq!(querier.poll_event(), Some(QuerierEvent::Began));
            for other in [9, 0] {
                querier.handle_query(at(200), query(other));
                assert_eq!((querier.is_asking(), querier.poll_event()), (true, None));
            }
            querier.handle_query(at(210), query(5));
            assert!(querier.is_asking(), "that was our own");
            querier.handle_query(at(220), query(4));
            assert_eq!(querier.poll_event(), Some(QuerierEvent::Yielded(query(4))));
            assert_eq!(sent(&mut querier, 220..400), [350, 365], "he fell silent at 220");
        }
    }

    #[test]
    fn it_does_as_it_is_told() {
        assert_eq!(sent(&mut querier(QuerierMode::Off), 100..600), [0u64; 0]);
        let mut on = querier(QuerierMode::On);
        assert_eq!(on.poll_event(), Some(QuerierEvent::Began));
        assert_eq!(sent(&mut on, 100..120), [100, 115]);
        let quick = Querier::new(at(0), QuerierMode::Auto, Duration::from_secs(3));
        assert_eq!(
            (quick.response(), quick.silence()),
            (Duration::from_millis(500), Duration::from_millis(6500))
        );
    }
}
