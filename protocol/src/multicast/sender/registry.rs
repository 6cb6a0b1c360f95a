//! Who takes part: one small record for each receiver that was ever heard (protocol.md 8.2).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::multicast::key::ReceiverId;
use crate::multicast::limits::{
    NAK_WINDOW, NAK_WINDOW_RECEIVERS, RECEIVERS, REPORT_PERIOD_MIN, REPORT_PERIOD_USUAL, REPORT_RATE,
    REPORTS_PER_SECOND, SILENCE_MIN,
};
use crate::multicast::packet::Report;
use crate::multicast::time::Time;
use crate::units::Rate;

/// What the sender knows of one receiver: what its last report said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Whether it was heard within the silence bound.
    pub alive: bool,
    /// Whether it was a straggler, and sent to another transport.
    pub parted: bool,
    /// Chunks that it lacks.
    pub missing: u32,
    /// Data packets that it received.
    pub received: u64,
    /// Packets that its socket dropped.
    pub drops: u64,
    /// How full its fullest queue is, in 255ths.
    pub fill: u8,
    /// When it was first heard.
    pub joined: Time,
    /// When it was last heard.
    pub heard: Time,
    last_seq: u64,
    /// The packets sent, and received, when it was first heard and knew of any.
    first: Option<(u64, u64)>,
    /// Highest packet number that it saw or that was announced to it.
    tx_seq: u64,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// The first of this receiver, or the first after silence.
    Joined,
    /// It said for the first time that it needs nothing more.
    Done,
    /// An ordinary report.
    Known,
    /// It is a straggler that was told to go.
    Parted,
    /// Its number was taken before.
    Replayed,
    /// There are too many receivers already.
    Crowd,
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    peers: BTreeMap<ReceiverId, Peer>,
    alive: u32,
    done: u32,
}

impl Registry {
    /// Takes a verified report.
    pub(super) fn on_report(&mut self, now: Time, report: &Report) -> Heard {
        let Some(old) = self.peers.get(&report.receiver).copied() else {
            if self.peers.len() >= RECEIVERS {
                return Heard::Crowd;
            }
            self.put(report.receiver, None, Peer::new(now, None, report));
            return Heard::Joined;
        };
        // Whoever said that it is done has nothing more to ask for under this number.
        if report.seq <= old.last_seq || old.missing == 0 && !report.done() {
            return Heard::Replayed;
        }
        if old.parted && !report.done() {
            self.put(
                report.receiver,
                Some(old),
                Peer {
                    last_seq: report.seq,
                    ..old
                },
            );
            return Heard::Parted;
        }
        self.put(report.receiver, Some(old), Peer::new(now, Some(&old), report));
        match (old.alive, old.missing > 0 && report.done()) {
            (_, true) => Heard::Done,
            (false, false) => Heard::Joined,
            (true, false) => Heard::Known,
        }
    }

    /// Nobody waits for this receiver any more: it was told to go.
    pub(super) fn part(&mut self, id: ReceiverId) {
        if let Some(old) = self.peers.get(&id).copied() {
            let parted = Peer {
                alive: false,
                parted: true,
                ..old
            };
            self.put(id, Some(old), parted);
        }
    }

    /// Marks as silent whoever was not heard for the silence bound, and names those that still lacked something;
    /// the others left because they were done.
    pub(super) fn expire(&mut self, now: Time) -> Vec<ReceiverId> {
        let bound = self.silence();
        let late = |peer: &Peer| peer.alive && now.since(peer.heard) > bound;
        let silent: Vec<ReceiverId> = self
            .peers
            .iter()
            .filter(|(_, p)| late(p))
            .map(|(id, _)| *id)
            .collect();
        for id in &silent {
            let old = self.peers[id];
            self.put(*id, Some(old), Peer { alive: false, ..old });
        }
        silent
            .into_iter()
            .filter(|id| self.peers[id].missing > 0)
            .collect()
    }

    fn put(&mut self, id: ReceiverId, old: Option<Peer>, new: Peer) {
        let counts = |peer: &Peer| (u32::from(peer.alive), u32::from(peer.alive && peer.missing == 0));
        let (alive, done) = old.as_ref().map_or((0, 0), counts);
        let (alive_now, done_now) = counts(&new);
        self.alive = self.alive - alive + alive_now;
        self.done = self.done - done + done_now;
        self.peers.insert(id, new);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ReceiverId, Peer)> + '_ {
        self.peers.iter().map(|(id, peer)| (*id, *peer))
    }

    pub(super) fn ever(&self) -> bool {
        !self.peers.is_empty()
    }

    pub(super) fn alive(&self) -> u32 {
        self.alive
    }

    pub(super) fn done(&self) -> u32 {
        self.done
    }

    /// Receivers that are alive and lack something.
    pub(super) fn lacking(&self) -> u32 {
        self.alive - self.done
    }

    /// Time between two regular reports of one receiver, so that all together stay within their budget.
    pub(super) fn report_period(&self, rate: Rate) -> Duration {
        let few = REPORT_PERIOD_MIN * self.alive.max(1);
        if rate >= REPORT_RATE && few < REPORT_PERIOD_USUAL {
            few
        } else {
            self.longest_report_period()
        }
    }

    /// The same at any rate at most.
    fn longest_report_period(&self) -> Duration {
        let shared = Duration::from_millis(u64::from(self.alive) * 1000 / u64::from(REPORTS_PER_SECOND));
        shared.clamp(REPORT_PERIOD_USUAL, Duration::from_secs(65))
    }

    /// How long a receiver may be unheard before it counts as silent.
    pub(super) fn silence(&self) -> Duration {
        SILENCE_MIN.max(3 * self.longest_report_period())
    }

    /// Time over which receivers spread their NAKs, growing with their number.
    pub(super) fn nak_window(&self) -> Duration {
        let (small, large) = NAK_WINDOW;
        small + (large - small) * self.alive.min(NAK_WINDOW_RECEIVERS) / NAK_WINDOW_RECEIVERS
    }
}

impl Peer {
    /// Packets sent since it was first heard that did not come, in millionths of them; those that its socket dropped
    /// among them.
    pub fn loss_ppm(&self) -> u32 {
        let Some((tx_seq, received)) = self.first else {
            return 0;
        };
        let sent = self.tx_seq.saturating_sub(tx_seq);
        let lost = sent.saturating_sub(self.received.saturating_sub(received));
        let share = u128::from(lost) * 1_000_000 / u128::from(sent.max(1));
        u32::try_from(share).unwrap_or(1_000_000)
    }

    fn new(now: Time, old: Option<&Self>, report: &Report) -> Self {
        Self {
            alive: true,
            parted: false,
            missing: report.missing,
            received: report.received,
            drops: report.drops,
            fill: report.fill,
            joined: old.map_or(now, |old| old.joined),
            heard: now,
            last_seq: report.seq,
            first: old
                .and_then(|old| old.first)
                .or((!report.join).then_some((report.tx_seq, report.received))),
            tx_seq: report.tx_seq,
        }
    }
}
