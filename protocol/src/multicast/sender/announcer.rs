//! When the sender tells the group how the session stands, and what it tells (protocol.md 4.2).

use std::collections::{BTreeSet, VecDeque};

use super::SenderConfig;
use super::registry::Registry;
use super::wants::Wants;
use super::window::Window;
use crate::multicast::key::ReceiverId;
use crate::multicast::limits::{
    ANNOUNCE_PERIOD, ANNOUNCE_SOON, CONFIRMED, CONTROL_BYTES, PARTED, PARTED_TIMES, PLANS, UNREADABLE,
    WIRE_OVERHEAD_BYTES,
};
use crate::multicast::packet::{Announce, Fin, Phase, Plan, Reason};
use crate::multicast::time::Time;
use crate::units::Rate;

/// What an announce tells about.
pub(super) struct View<'a> {
    pub(super) config: &'a SenderConfig,
    pub(super) registry: &'a Registry,
    pub(super) wants: &'a Wants,
    pub(super) window: &'a Window,
    pub(super) tx_seq: u64,
    pub(super) rate: Rate,
    pub(super) phase: Phase,
    pub(super) tagged: bool,
}

#[derive(Debug)]
pub(super) struct Announcer {
    seq: u64,
    last: Option<Time>,
    start: Time,
    urgent: bool,
    size: u64,
    unreadable_from: u32,
    /// Stragglers to be told to go, and how often still.
    parted: VecDeque<(ReceiverId, u32)>,
    /// Receivers that said they are done, and have not been told that this was heard.
    confirmed: BTreeSet<ReceiverId>,
}

impl Announcer {
    pub(super) fn new(start: Time) -> Self {
        Self {
            seq: 0,
            last: None,
            start,
            urgent: true,
            size: u64::MAX,
            unreadable_from: 0,
            parted: VecDeque::new(),
            confirmed: BTreeSet::new(),
        }
    }

    /// Something changed that receivers wait for.
    pub(super) fn urge(&mut self) {
        self.urgent = true;
    }

    /// A straggler is to be told to go.
    pub(super) fn part(&mut self, receiver: ReceiverId) {
        if !self.parted.iter().any(|(told, _)| *told == receiver) {
            self.parted.push_back((receiver, PARTED_TIMES));
            self.urgent = true;
        }
    }

    /// A receiver said that it is done: it is to know that this was heard.
    pub(super) fn confirm(&mut self, receiver: ReceiverId) {
        self.confirmed.insert(receiver);
        self.urgent = true;
    }

    /// When the next announce goes. Announces take at most a fiftieth of the rate, however urgent.
    pub(super) fn due(&self, rate: Rate) -> Time {
        let Some(last) = self.last else { return self.start };
        let share = rate.time_for(self.size.saturating_add(WIRE_OVERHEAD_BYTES).saturating_mul(50));
        last + share.max(if self.urgent {
            ANNOUNCE_SOON
        } else {
            ANNOUNCE_PERIOD
        })
    }

    /// Writes an announce.
    pub(super) fn announce(&mut self, now: Time, view: &View<'_>, packet: &mut Vec<u8>) {
        self.seq += 1;
        let geometry = &view.config.geometry;
        let waiting = view
            .window
            .staged()
            .chain(view.wants.repairs())
            .map(|chunk| Plan {
                chunk,
                symbols: view.wants.planned(chunk, geometry.source_symbols(chunk)),
            });
        let in_work = u32::try_from(view.window.count()).unwrap_or(u32::MAX);
        let announce = Announce {
            session: view.config.session,
            seq: self.seq,
            manifest: geometry.table().manifest(),
            tx_seq: view.tx_seq,
            rate: view.rate,
            receivers: view.registry.alive(),
            done: view.registry.done(),
            wanted: view.wants.waiting().saturating_add(in_work),
            report_period: view.registry.report_period(view.rate),
            nak_window: view.registry.nak_window(),
            expected_deficit: view.wants.expected_deficit(),
            phase: view.phase,
            plans: view.window.plans().chain(waiting).take(PLANS).collect(),
            unreadable: self.next_unreadable(view.wants),
            parted: self.next_parted(),
            confirmed: self.next_confirmed(),
            tagged: view.tagged,
        };
        announce.encode(&view.config.key.group(), packet);
        debug_assert!(packet.len() <= CONTROL_BYTES);
        self.size = u64::try_from(packet.len()).unwrap_or(u64::MAX);
        self.last = Some(now);
        self.urgent = !self.confirmed.is_empty();
    }

    /// Writes a FIN.
    pub(super) fn fin(&mut self, config: &SenderConfig, reason: Reason, packet: &mut Vec<u8>) {
        self.seq += 1;
        Fin {
            session: config.session,
            seq: self.seq,
            reason,
        }
        .encode(&config.key.group(), packet);
    }

    fn next_parted(&mut self) -> Vec<ReceiverId> {
        let named: Vec<(ReceiverId, u32)> = self.parted.drain(..self.parted.len().min(PARTED)).collect();
        let again = named.iter().filter(|(_, left)| *left > 1);
        self.parted.extend(again.map(|&(id, left)| (id, left - 1)));
        named.into_iter().map(|(id, _)| id).collect()
    }

    /// Each is named once: who does not hear it says again that it is done.
    fn next_confirmed(&mut self) -> Vec<ReceiverId> {
        std::iter::from_fn(|| self.confirmed.pop_first())
            .take(CONFIRMED)
            .collect()
    }

    /// Chunks that cannot be read, by turns when there are more than one announce names.
    fn next_unreadable(&mut self, wants: &Wants) -> Vec<u32> {
        let all = wants.all_unreadable();
        let rest = all
            .range(self.unreadable_from..)
            .chain(all.range(..self.unreadable_from));
        let named: Vec<u32> = rest.take(UNREADABLE).copied().collect();
        self.unreadable_from = named.last().map_or(0, |last| last + 1);
        named
    }
}
