//! What the sender puts into packets: symbols of the chunks in the window, announces, the end.

use super::announcer::View;
use super::batch::{Batch, ZEROS};
use super::window::Pick;
use super::{Sender, SenderEvent, State, u64_from};
use crate::multicast::limits::{BATCH_TIME, FINS, SEGMENTS, WINDOW_CHUNKS, WINDOW_LEAST, WINDOW_TIME};
use crate::multicast::packet::{Data, Phase, Reason};
use crate::multicast::time::Time;

impl Sender {
    /// As many data packets as may go in one batch.
    pub(super) fn batch(&mut self, now: Time, batch: &mut Batch) -> bool {
        let segment = self.config.geometry.packet_bytes();
        let most = self.batch_packets(segment);
        batch.begin(segment);
        let (before, depth) = (self.tx_seq, self.depth());
        let mut count = 0;
        while count < most {
            if self.window.has_place(depth) {
                self.window
                    .fill(&self.store, &mut self.wants, &self.config.geometry, depth);
            }
            let Some(pick) = self.window.next(&self.config.geometry) else {
                break;
            };
            self.tx_seq += 1;
            self.write(pick, batch);
            self.wants.sent(pick.chunk, self.tx_seq, pick.last);
            if pick.last {
                self.store.release(pick.chunk);
                self.work(now);
            }
            count += 1;
        }
        if count > 0 && self.window.is_empty() && self.wants.waiting() == 0 {
            self.announcer.urge();
        }
        if count > 0 {
            // After a pause, so that what goes now is not taken for sent in the middle of it.
            self.history.note(now, before);
        }
        self.history.note(now, self.tx_seq);
        self.stats.packets += u64_from(count);
        count > 0
    }

    /// How many whole chunks are sent at a time: as many as go in [`WINDOW_TIME`]. A few while the rate is still a guess: what
    /// is too much then hits these, and not a part of many.
    pub(super) fn depth(&self) -> usize {
        let time = self.rate.rate().time_for(self.chunk_wire).as_nanos().max(1);
        let most = if self.rate.heard() {
            WINDOW_CHUNKS
        } else {
            WINDOW_LEAST
        };
        let chunks = usize::try_from(WINDOW_TIME.as_nanos() / time).unwrap_or(usize::MAX);
        chunks.clamp(WINDOW_LEAST, most)
    }

    /// Packets of one batch: what the driver takes, and not more than go in [`BATCH_TIME`].
    fn batch_packets(&self, segment: usize) -> usize {
        let wire = self.config.geometry.wire_bytes();
        let per_packet = self.rate.rate().time_for(wire).as_nanos().max(1);
        let paced = usize::try_from(BATCH_TIME.as_nanos() / per_packet).unwrap_or(usize::MAX);
        let datagram = 65_507 / segment;
        paced
            .min(self.config.max_segments)
            .min(SEGMENTS)
            .min(datagram)
            .max(1)
    }

    fn write(&mut self, pick: Pick, batch: &mut Batch) {
        let geometry = &self.config.geometry;
        let sources = geometry.source_symbols(pick.chunk);
        let (bytes, range) = if pick.symbol < sources {
            *(if pick.again {
                &mut self.stats.repeated
            } else {
                &mut self.stats.source
            }) += 1;
            let chunk = self
                .store
                .bytes(pick.chunk)
                .expect("a chunk being sent is pinned");
            (chunk, geometry.range(pick.symbol, chunk.len()))
        } else {
            self.stats.parity += 1;
            let parity = self.store.parity(pick.chunk, pick.symbol - sources);
            parity.expect("a chunk enters the window with the parity that its turn needs")
        };
        let data = Data {
            session: self.config.session,
            symbol: pick.symbol,
            chunk: pick.chunk,
            tx_seq: self.tx_seq,
            payload: &bytes[range.clone()],
        };
        let mut head = data.head();
        if self.tagged {
            let rest = geometry.symbol_bytes() - data.payload.len();
            Data::seal(&mut head, [data.payload, &ZEROS[..rest]], &self.data_key);
        }
        batch.push(&head, bytes, range);
    }

    pub(super) fn announce(&mut self, now: Time, batch: &mut Batch) {
        let waiting = self.window.is_empty() && self.wants.waiting() == 0;
        let phase = match self.state {
            State::Waiting { .. } => Phase::Waiting,
            _ if waiting => Phase::Idle,
            _ => Phase::Sending,
        };
        let view = View {
            config: &self.config,
            registry: &self.registry,
            wants: &self.wants,
            window: &self.window,
            tx_seq: self.tx_seq,
            rate: self.rate.rate(),
            phase,
            tagged: self.tagged,
        };
        let announcer = &mut self.announcer;
        batch.control(|packet| announcer.announce(now, &view, packet));
        self.stats.control += 1;
    }

    pub(super) fn fin(
        &mut self,
        now: Time,
        reason: Reason,
        left: u32,
        next: Time,
        batch: &mut Batch,
    ) -> bool {
        if next > now {
            return false;
        }
        let (announcer, config) = (&mut self.announcer, &self.config);
        batch.control(|packet| announcer.fin(config, reason, packet));
        self.stats.control += 1;
        self.state = match left {
            0 | 1 => State::Closed,
            _ => State::Closing {
                reason,
                left: left - 1,
                next: now + FINS.1,
            },
        };
        if self.state == State::Closed {
            self.event(SenderEvent::Finished(reason));
        }
        true
    }
}
