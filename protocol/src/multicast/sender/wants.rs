//! What somebody lacks: for each chunk the worst deficit, and in which order it is answered (protocol.md 8.3).
//!
//! Wants are kept for all receivers together, so they take the same room for one receiver as for ten thousand. A
//! want lives on because receivers repeat it; one that nobody repeats expires, and with it what a dead receiver
//! lacked.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::multicast::limits::{AGGREGATION, CROWD, PARITY_DEFICIT, UNASKED};
use crate::multicast::packet::WHOLE;
use crate::multicast::set::ChunkSet;
use crate::multicast::table::PARITY_SYMBOLS;
use crate::multicast::time::Time;

/// Where a chunk stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody is known to lack it.
    Free,
    /// Somebody lacks all of it, or too much for parity: it waits for its place in a round.
    Whole,
    /// Somebody lacks some symbols: NAKs are collected until they are answered.
    Repair,
    /// It is being loaded, to be sent next; wants still add up.
    Staged,
    /// Its symbols are being sent.
    Active,
    /// The driver could not read it.
    Unreadable,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    state: State,
    /// Worst deficit; 0 when nobody is known to lack anything.
    deficit: u16,
    next_parity: u16,
    /// Source symbols of it, once somebody asked.
    sources: u16,
    /// Times that it was asked for since it was last sent: how many want it, and for how long.
    asks: u16,
    /// Who asked since then: a bit for each of 32 classes of receivers.
    askers: u32,
    /// Whether its source symbols were all sent once.
    sent: bool,
    /// Parity symbols that follow the source symbols unasked.
    unasked: u16,
    asked_at: Time,
    /// Number of the last packet that carried a symbol of it.
    last_seq: u64,
}

/// What became of a want.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It counts.
    Taken,
    /// It was written before the chunk was last sent, or while it is being sent.
    Stale,
    /// The chunk cannot be read; announces say so.
    Unreadable,
}

/// Which symbols of a chunk are sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// First symbol.
    pub(super) first: u16,
    /// How many, at least one.
    pub(super) count: u16,
    /// Whether these are source symbols that were sent before.
    pub(super) again: bool,
}

/// A receiver's want for one chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask {
    pub(super) chunk: u32,
    pub(super) deficit: u16,
    /// Highest packet number that the receiver had seen when it wrote this.
    pub(super) tx_seq: u64,
    /// The receiver's class, as a bit.
    pub(super) class: u32,
}

#[derive(Debug)]
pub(super) struct Wants {
    slots: Vec<Slot>,
    whole: ChunkSet,
    round: VecDeque<u32>,
    repairs: BTreeSet<(Time, u32)>,
    unreadable: BTreeSet<u32>,
    expected: u16,
    expired: u64,
    /// Parity sent unasked with chunks that are sent whole, in 65,536ths of their source symbols.
    unasked: u32,
    /// Receivers that lack something.
    lacking: u32,
}

impl Wants {
    pub(super) fn new(chunks: u32) -> Self {
        let slot = Slot {
            state: State::Free,
            deficit: 0,
            next_parity: 0,
            sources: 0,
            asks: 0,
            askers: 0,
            sent: false,
            unasked: 0,
            asked_at: Time::ZERO,
            last_seq: 0,
        };
        Self {
            slots: vec![slot; usize::try_from(chunks).expect("a table has at most 2^20 chunks")],
            whole: ChunkSet::empty(chunks),
            round: VecDeque::new(),
            repairs: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            expected: 1,
            expired: 0,
            unasked: 0,
            lacking: 0,
        }
    }

    /// So many receivers lack something. From [`CROWD`] on hardly a chunk reaches everybody at once: parity for what the
    /// worst of them usually lacks goes along unasked, which costs what the answer would, and spares a thousand NAKs.
    pub(super) fn set_receivers(&mut self, receivers: u32) {
        self.lacking = receivers;
    }

    /// Takes a want for a chunk of `sources` source symbols. The chunk must exist.
    pub(super) fn ask(&mut self, now: Time, ask: Ask, sources: u16) -> Answer {
        let lacking = self.lacking;
        let slot = self.slot(ask.chunk);
        if slot.state == State::Unreadable {
            return Answer::Unreadable;
        }
        if slot.state == State::Active || ask.tx_seq < slot.last_seq {
            return Answer::Stale;
        }
        slot.sources = sources;
        let deficit = if ask.deficit >= sources {
            WHOLE
        } else {
            ask.deficit
        };
        slot.asked_at = now;
        slot.asks = slot.asks.saturating_add(1);
        slot.askers |= ask.class;
        slot.deficit = slot.deficit.max(deficit);
        // What takes all source symbols waits for its round when a minority lacks it: others lack chunks entirely, and
        // whoever joins late lacks most of sixteen that are under way. When most lack it, it goes at once, or they
        // would have to keep what they have of too many chunks.
        let later = slot.deficit > PARITY_DEFICIT
            && (slot.deficit == WHOLE || 2 * slot.askers.count_ones() <= lacking.min(32));
        if slot.state == State::Free || slot.state == State::Whole && !later {
            slot.state = if later { State::Whole } else { State::Repair };
            if later {
                self.whole.insert(ask.chunk);
            } else {
                self.whole.remove(ask.chunk);
                self.repairs.insert((now + AGGREGATION, ask.chunk));
            }
        }
        Answer::Taken
    }

    /// The repair that was asked for first, once its NAKs are collected; it is staged with this.
    pub(super) fn next_repair(&mut self, now: Time) -> Option<u32> {
        let (due, chunk) = *self.repairs.first()?;
        if due > now {
            return None;
        }
        self.repairs.remove(&(due, chunk));
        self.slot(chunk).state = State::Staged;
        Some(chunk)
    }

    /// The next chunk of the round that somebody lacks entirely; it is staged with this. A round holds what was
    /// wanted when it began, what most want first, in the table's order otherwise.
    pub(super) fn next_whole(&mut self, now: Time, expiry: Duration) -> Option<u32> {
        let unasked = self.unasked;
        loop {
            if self.round.is_empty() {
                let mut round: Vec<u32> = self.whole.iter().collect();
                // Whole powers of two, so that a few asks more do not turn reading in order into reading at random.
                round.sort_by_key(|&chunk| std::cmp::Reverse(self.slot(chunk).asks.checked_ilog2()));
                self.round = round.into();
            }
            let chunk = self.round.pop_front()?;
            let slot = self.slot(chunk);
            if slot.state != State::Whole {
                continue;
            }
            let stale = now.since(slot.asked_at) > expiry;
            (slot.state, slot.deficit) = if stale {
                (State::Free, 0)
            } else {
                (State::Staged, slot.deficit)
            };
            if !stale && slot.deficit == WHOLE && !slot.sent && slot.next_parity == 0 {
                slot.unasked = u16::try_from((unasked * u32::from(slot.sources)) >> 16)
                    .unwrap_or(0)
                    .min(UNASKED);
            }
            self.whole.remove(chunk);
            if !stale {
                return Some(chunk);
            }
            self.expired += 1;
        }
    }

    /// Whether parity of a staged chunk will be sent.
    pub(super) fn needs_parity(&self, chunk: u32) -> bool {
        self.slots[at(chunk)].unasked > 0 || self.by_parity(chunk)
    }

    /// Whether a staged chunk will be answered by parity symbols alone.
    fn by_parity(&self, chunk: u32) -> bool {
        let slot = &self.slots[at(chunk)];
        slot.deficit <= PARITY_DEFICIT && with_reserve(slot.deficit) <= PARITY_SYMBOLS - slot.next_parity
    }

    /// Begins to send a staged chunk of `sources` source symbols.
    pub(super) fn activate(&mut self, chunk: u32, sources: u16) -> Turn {
        let parity = self.by_parity(chunk);
        let slot = self.slot(chunk);
        let deficit = std::mem::take(&mut slot.deficit);
        slot.state = State::Active;
        (slot.asks, slot.askers) = (0, 0);
        if parity {
            let before = slot.next_parity;
            let (first, count) = (sources + before, with_reserve(deficit));
            slot.next_parity += count;
            self.expected = deficit.max(self.expected - self.expected / 8).max(1);
            let right = (u32::from(before + deficit) << 16) / u32::from(sources.max(1));
            // Of a chunk of a few symbols the answer can be more than the chunk; as much again is the most for all.
            self.unasked += right.min(1 << 16).saturating_sub(self.unasked) / 8;
            return Turn {
                first,
                count,
                again: false,
            };
        }
        if deficit <= PARITY_DEFICIT {
            // Parity ran out: after the source symbols it begins again, so a full cycle offers every symbol there is.
            slot.next_parity = 0;
        }
        let again = std::mem::replace(&mut slot.sent, true);
        let unasked = std::mem::take(&mut slot.unasked);
        slot.next_parity = slot.next_parity.max(unasked);
        self.unasked = if self.lacking >= CROWD {
            self.unasked - self.unasked / 64
        } else {
            0
        };
        Turn {
            first: 0,
            count: sources + unasked,
            again,
        }
    }

    /// Notes that packet `seq` carried a symbol of an active chunk, and whether that was its last.
    pub(super) fn sent(&mut self, chunk: u32, seq: u64, last: bool) {
        let slot = self.slot(chunk);
        slot.last_seq = seq;
        if last {
            slot.state = State::Free;
        }
    }

    /// Gives up a chunk that cannot be read.
    pub(super) fn unreadable(&mut self, chunk: u32) {
        self.slot(chunk).state = State::Unreadable;
        self.slot(chunk).deficit = 0;
        self.whole.remove(chunk);
        self.repairs.retain(|(_, repair)| *repair != chunk);
        self.unreadable.insert(chunk);
    }

    /// Chunks that cannot be read.
    pub(super) fn all_unreadable(&self) -> &BTreeSet<u32> {
        &self.unreadable
    }

    /// Forgets all wants, those of the chunks in `window` included.
    pub(super) fn clear(&mut self, window: &[u32]) {
        let repairs = std::mem::take(&mut self.repairs);
        let whole: Vec<u32> = self.whole.iter().collect();
        let all = repairs
            .into_iter()
            .map(|(_, chunk)| chunk)
            .chain(whole)
            .chain(window.iter().copied());
        for chunk in all {
            self.whole.remove(chunk);
            let slot = self.slot(chunk);
            (slot.state, slot.deficit) = (State::Free, 0);
        }
        self.round.clear();
    }

    /// Worst deficit of a chunk that waits, in symbols.
    pub(super) fn planned(&self, chunk: u32, sources: u16) -> u16 {
        match self.slots[at(chunk)].deficit {
            WHOLE => sources,
            deficit => deficit,
        }
    }

    /// Chunks whose NAKs are being collected.
    pub(super) fn repairs(&self) -> impl Iterator<Item = u32> + '_ {
        self.repairs.iter().map(|(_, chunk)| *chunk)
    }

    /// When the next repair is due.
    pub(super) fn due(&self) -> Option<Time> {
        self.repairs.first().map(|(due, _)| *due)
    }

    /// Chunks that wait, entirely lacked or to be repaired.
    pub(super) fn waiting(&self) -> u32 {
        self.whole.count() + u32::try_from(self.repairs.len()).unwrap_or(u32::MAX)
    }

    /// Whether chunks wait that somebody lacks entirely.
    pub(super) fn any_whole(&self) -> bool {
        !self.whole.is_empty()
    }

    /// The worst deficit seen of late.
    pub(super) fn expected_deficit(&self) -> u16 {
        self.expected
    }

    /// Wants that expired so far.
    pub(super) fn expired(&self) -> u64 {
        self.expired
    }

    fn slot(&mut self, chunk: u32) -> &mut Slot {
        &mut self.slots[at(chunk)]
    }
}

/// A deficit with one symbol in 32 more, against loss of the repair itself.
fn with_reserve(deficit: u16) -> u16 {
    deficit.saturating_add(deficit / 32)
}

fn at(chunk: u32) -> usize {
    usize::try_from(chunk).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn ms(ms: u64) -> Time {
        Time::from_start(Duration::from_millis(ms))
    }

    fn ask(chunk: u32, deficit: u16, tx_seq: u64) -> Ask {
        Ask {
            chunk,
            deficit,
            tx_seq,
            class: 1,
        }
    }

    #[test]
    fn the_worst_deficit_is_answered_once_after_the_aggregation() {
        let mut wants = Wants::new(4);
        for deficit in [3, 40, 7] {
            assert_eq!(wants.ask(ms(0), ask(2, deficit, 9), 1000), Answer::Taken);
        }
        assert_eq!(wants.next_repair(ms(3)), None);
        assert_eq!(wants.next_repair(ms(4)), Some(2));
        assert_eq!(
            wants.activate(2, 1000),
            Turn {
                first: 1000,
                count: 41,
                again: false
            }
        );
        wants.sent(2, 50, true);
        assert_eq!(wants.ask(ms(5), ask(2, 5, 49), 1000), Answer::Stale);
        assert_eq!(wants.ask(ms(5), ask(2, 5, 50), 1000), Answer::Taken);
        assert_eq!(wants.next_repair(ms(9)), Some(2));
        assert_eq!(
            wants.activate(2, 1000),
            Turn {
                first: 1041,
                count: 5,
                again: false
            }
        );
    }

    #[test]
    fn large_deficits_and_exhausted_parity_bring_source_symbols() {
        let mut wants = Wants::new(1);
        let mut turn = |deficit| {
            wants.ask(ms(0), ask(0, deficit, u64::MAX), 1000);
            let chunk = wants
                .next_repair(ms(4))
                .or_else(|| wants.next_whole(ms(4), HOUR))
                .unwrap();
            let turn = wants.activate(chunk, 1000);
            wants.sent(0, 1, true);
            (turn.first, turn.count, turn.again)
        };
        assert_eq!(turn(WHOLE), (0, 1000, false));
        assert_eq!(turn(193), (0, 1000, true));
        assert_eq!(turn(192), (1000, 198, false));
        assert_eq!(turn(59), (0, 1000, true), "58 symbols of parity are left");
        assert_eq!(turn(58), (1000, 59, false), "and begin again after that");
    }

    #[test]
    fn rounds_go_by_want_and_index_and_forget_what_nobody_renews() {
        let mut wants = Wants::new(6);
        for chunk in [4, 1, 3] {
            wants.ask(ms(0), ask(chunk, WHOLE, 0), 10);
        }
        (0..4).for_each(|_| _ = wants.ask(ms(0), ask(3, WHOLE, 0), 10));
        assert_eq!(wants.next_whole(ms(1), HOUR), Some(3));
        wants.ask(ms(1), ask(0, 10, 0), 10);
        assert_eq!(
            wants.next_whole(ms(1), HOUR),
            Some(1),
            "chunk 0 waits for the next round"
        );
        assert_eq!(
            wants.next_whole(ms(5000), Duration::from_secs(2)),
            None,
            "both are older than two seconds"
        );
        assert_eq!((wants.expired(), wants.waiting()), (2, 0));
    }

    #[test]
    fn chunks_of_a_few_symbols_raise_what_goes_unasked_no_further_than_to_as_much_again() {
        let mut wants = Wants::new(2);
        wants.set_receivers(CROWD);
        for _ in 0..250 {
            wants.ask(ms(0), ask(0, 1, u64::MAX), 2);
            assert_eq!(wants.next_repair(ms(4)), Some(0));
            wants.activate(0, 2);
            wants.sent(0, 1, true);
        }
        wants.ask(ms(9), ask(1, WHOLE, u64::MAX), 4_096);
        assert_eq!(wants.next_whole(ms(9), HOUR), Some(1));
        let turn = wants.activate(1, 4_096);
        assert_eq!((turn.first, turn.count), (0, 4_096 + UNASKED));
    }

    #[test]
    fn clearing_and_failing_leave_nothing_behind() {
        let mut wants = Wants::new(3);
        wants.ask(ms(0), ask(0, WHOLE, 0), 10);
        wants.ask(ms(0), ask(1, 2, 0), 10);
        wants.ask(ms(0), ask(2, 2, 0), 10);
        wants.unreadable(2);
        assert_eq!(wants.ask(ms(0), ask(2, 2, 0), 10), Answer::Unreadable);
        assert_eq!(wants.next_whole(ms(0), HOUR), Some(0));
        wants.clear(&[0]);
        assert_eq!(
            (wants.waiting(), wants.due(), wants.next_whole(ms(9), HOUR)),
            (0, None, None)
        );
        assert_eq!(wants.ask(ms(9), ask(0, WHOLE, 0), 10), Answer::Taken);
    }
}
