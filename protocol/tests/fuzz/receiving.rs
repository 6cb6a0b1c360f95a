//! Any sequence of calls into a receiver, beside a model that only knows which chunks are missing: true and forged
//! symbols, announces that say anything, verdicts that nobody asked for, other sessions.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::limits::PARITY;
use simulcast_protocol::multicast::limits::{CONTROL_BYTES, REJECTIONS};
use simulcast_protocol::multicast::packet::{Announce, Data, Fin, Phase, Plan, Report, WHOLE};
use simulcast_protocol::multicast::{
    ChunkSet, Gathered, Geometry, Reason, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, SessionId,
};
use simulcast_protocol::units::Rate;

use super::script::{Clock, SESSION, Script, drive, image, key, rng};

/// Reports in one moment at most.
const BURST: usize = 100;

struct World {
    chunks: Vec<Vec<u8>>,
    geometry: Geometry,
    memory: u64,
    receiver: Receiver,
    id: ReceiverId,
    session: SessionId,
    clock: Clock,
    judged: VecDeque<Gathered>,
    /// What the model knows: what is missing, and how often a chunk had not its hash.
    missing: BTreeSet<u32>,
    rejections: BTreeMap<u32, u8>,
    parities: BTreeMap<u32, Vec<Vec<u8>>>,
    seq: u64,
    reports: u64,
}

pub(crate) fn run(bytes: &[u8]) {
    drive(bytes, World::new, World::call, World::drain);
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let (chunks, geometry) = image(script);
        let count = geometry.table().count();
        let mut missing = ChunkSet::full(count);
        (0..script.u8() % 4).for_each(|_| _ = missing.remove(script.u32()));
        let (id, memory) = (ReceiverId(1), u64::from(script.u16()));
        let config = ReceiverConfig {
            session: SESSION,
            receiver: id,
            keys: key().receiver_keys(id),
            geometry: geometry.clone(),
            memory,
            silence: Duration::from_millis(1 + u64::from(script.u16())),
            join_spread: Duration::from_millis(script.u8().into()),
        };
        let clock = Clock::new();
        Self {
            missing: missing.iter().collect(),
            receiver: Receiver::new(clock.now(), config, missing, rng()),
            chunks,
            geometry,
            memory,
            id,
            session: SESSION,
            clock,
            judged: VecDeque::new(),
            rejections: BTreeMap::new(),
            parities: BTreeMap::new(),
            seq: 0,
            reports: 0,
        }
    }

    fn call(&mut self, script: &mut Script<'_>) {
        let now = self.clock.now();
        match script.u8() % 16 {
            0 => {
                self.clock.pass(script.wait());
                self.receiver.handle_timeout(self.clock.now());
            }
            1 => {
                if let Some(at) = self.receiver.poll_timeout() {
                    self.clock.reach(at);
                }
                self.receiver.handle_timeout(self.clock.now());
            }
            2..=5 => self.symbols(script),
            6 | 7 => {
                let mut packet = Vec::new();
                self.announce(script).encode(&key().group(), &mut packet);
                self.receiver.handle_packet(now, &packet);
            }
            8 => self.receiver.handle_packet(now, script.some(256)),
            9 => {
                // Bytes of no announce under a right tag: what a member of the group can forge.
                let mut packet = vec![0x12 + 3 * (script.u8() % 2), 0, 0, 0];
                packet.extend(self.session.0.to_le_bytes());
                packet.extend(script.some(256));
                key().group().seal(&mut packet);
                self.receiver.handle_packet(now, &packet);
            }
            10..=12 => self.judge(),
            13 => {
                let chunk = script.index(self.geometry.table().count());
                match script.u8() % 3 {
                    // Verdicts on chunks that are not judged change nothing.
                    0 if !self.is_judged(chunk) => self.receiver.accept(now, chunk),
                    1 if !self.is_judged(chunk) => self.receiver.reject(now, chunk),
                    _ => {
                        self.receiver.have(now, chunk);
                        self.missing.remove(&chunk);
                    }
                }
            }
            14 => self.receiver.load(now, script.u8(), script.number()),
            _ => self.other_session(script),
        }
    }

    /// Symbols of one chunk in a row, with right or wrong bytes.
    fn symbols(&mut self, script: &mut Script<'_>) {
        let chunk = script.index(self.geometry.table().count());
        let first = u16::try_from(script.number()).unwrap_or(u16::MAX);
        let count = script.u8() % 64;
        let (forged, mut tx_seq) = (script.u8().is_multiple_of(8), script.number().max(1));
        for number in (0..count).map(|offset| first.wrapping_add(offset.into())) {
            let payload = self.symbol(chunk, number, forged);
            let mut packet = Vec::new();
            let data = Data {
                session: self.session,
                symbol: number,
                chunk,
                tx_seq,
                payload: &payload,
            };
            data.encode(&mut packet);
            self.receiver.handle_packet(self.clock.now(), &packet);
            tx_seq = tx_seq.saturating_add(1);
        }
    }

    fn symbol(&mut self, chunk: u32, number: u16, forged: bool) -> Vec<u8> {
        let bytes = usize::try_from(chunk)
            .ok()
            .and_then(|index| self.chunks.get(index));
        let mut symbol = match bytes {
            Some(bytes) if !forged && number < self.geometry.source_symbols(chunk) => {
                let start = usize::from(number) * 16;
                bytes[start..bytes.len().min(start + 16)].to_vec()
            }
            Some(bytes) if !forged => {
                let parity = self.parities.entry(chunk).or_insert_with(|| parity(bytes));
                let index = usize::from(number - self.geometry.source_symbols(chunk));
                parity.get(index).cloned().unwrap_or_default()
            }
            Some(_) | None => vec![0xee; 16],
        };
        symbol.resize(16, 0);
        symbol
    }

    fn announce(&mut self, script: &mut Script<'_>) -> Announce {
        self.seq = self.seq.saturating_add(script.number());
        let receivers = script.u32();
        let manifest = if script.u8() == 0 { b"fuss" } else { b"fuzz" };
        let plans = (0..script.u8() % 4).map(|_| Plan {
            chunk: script.index(self.geometry.table().count()),
            symbols: u16::from(script.u8()),
        });
        let plans = plans.collect();
        let mut unreadable: Vec<u32> = Vec::new();
        if script.u8() < 16 {
            unreadable.push(script.index(self.geometry.table().count()));
        }
        let announce = Announce {
            session: self.session,
            seq: self.seq.max(1),
            manifest: ManifestId::of(manifest),
            tx_seq: script.number(),
            rate: Rate::from_bits_per_second(script.number()),
            receivers,
            done: script.u32().min(receivers),
            wanted: script.u32(),
            report_period: Duration::from_millis(script.u16().into()),
            nak_window: Duration::from_millis(script.u16().into()),
            expected_deficit: script.u16(),
            phase: [Phase::Waiting, Phase::Sending, Phase::Idle][usize::from(script.u8() % 3)],
            plans,
            unreadable,
            parted: if script.u8() < 4 {
                vec![self.id]
            } else {
                Vec::new()
            },
            confirmed: if script.u8() < 64 {
                vec![self.id]
            } else {
                Vec::new()
            },
            tagged: script.u8() < 4,
        };
        if script.u8() < 8 {
            let reason = if script.u8() < 128 {
                Reason::Done
            } else {
                Reason::Stopped
            };
            let mut packet = Vec::new();
            let (session, seq) = (self.session, self.seq.max(1));
            Fin { session, seq, reason }.encode(&key().group(), &mut packet);
            self.receiver.handle_packet(self.clock.now(), &packet);
        }
        announce
    }

    fn is_judged(&self, chunk: u32) -> bool {
        self.judged.iter().any(|gathered| gathered.index() == chunk)
    }

    /// Checks the oldest gathered chunk as a driver does.
    fn judge(&mut self) {
        let Some(gathered) = self.judged.pop_front() else {
            return;
        };
        let (now, chunk) = (self.clock.now(), gathered.index());
        let right = &self.chunks[usize::try_from(chunk).expect("a small index")];
        let bytes = gathered.decode().expect("enough distinct symbols");
        assert_eq!(bytes.len(), right.len(), "a chunk has its length");
        if ChunkId::of(&bytes) == ChunkId::of(right) {
            self.receiver.accept(now, chunk);
            self.missing.remove(&chunk);
        } else {
            self.receiver.reject(now, chunk);
            let count = self.rejections.entry(chunk).or_default();
            *count += 1;
            if *count >= REJECTIONS {
                self.missing.remove(&chunk);
            }
        }
    }

    /// A session of a sender that restarted.
    fn other_session(&mut self, script: &mut Script<'_>) {
        if script.u8() < 64 {
            (self.session, self.id) = (SessionId(self.session.0 + 1), ReceiverId(self.id.0 + 1));
            let keys = key().receiver_keys(self.id);
            self.receiver
                .rejoin(self.clock.now(), self.session, self.id, keys);
            (self.seq, self.reports) = (0, 0);
        }
    }

    /// Takes out all that there is, and checks it.
    fn drain(&mut self) {
        let now = self.clock.now();
        self.receiver.handle_timeout(now);
        let mut packet = Vec::new();
        for count in 0.. {
            assert!(count < BURST, "reports of one moment end");
            if !self.receiver.poll_transmit(now, &mut packet) {
                break;
            }
            self.said(&packet);
        }
        assert!(
            self.receiver.poll_timeout().is_none_or(|at| at > now),
            "the driver would spin: {:?} at {now:?}",
            self.receiver.poll_timeout()
        );
        while let Some(event) = self.receiver.poll_event() {
            match event {
                ReceiverEvent::Gathered(gathered) => {
                    assert!(
                        !self.is_judged(gathered.index()),
                        "a chunk is judged once at a time"
                    );
                    self.judged.push_back(gathered);
                }
                ReceiverEvent::GaveUp(chunk) => _ = self.missing.remove(&chunk),
                ReceiverEvent::Complete => assert!(self.missing.is_empty(), "complete is complete"),
                ReceiverEvent::Finished(_) | ReceiverEvent::Silent | ReceiverEvent::Parted => {}
            }
        }
        assert!(
            self.receiver.missing().iter().eq(self.missing.iter().copied()),
            "{:?} are missing, {:?} should be",
            self.receiver.missing(),
            self.missing
        );
        let largest = self.chunks.iter().map(Vec::len).max().unwrap_or(0);
        let one = u64::try_from(2 * largest + 17 * 16).expect("a small number");
        assert!(
            self.receiver.stats().memory_peak <= self.memory.max(one),
            "memory is bounded"
        );
    }

    fn said(&mut self, packet: &[u8]) {
        assert!(packet.len() <= CONTROL_BYTES);
        let body = key().receiver(self.id).open(packet).expect("a right tag");
        let report = Report::decode(body).expect("a report");
        assert_eq!(report.seq, self.reports + 1, "numbers of reports rise by one");
        self.reports = report.seq;
        assert_eq!(report.missing, self.receiver.missing().count());
        let count = self.geometry.table().count();
        for want in &report.wants {
            assert!(
                want.first + want.count <= count,
                "only chunks that exist are wanted"
            );
            let wanted = want.first..want.first + want.count;
            assert!(
                wanted.clone().all(|chunk| self.missing.contains(&chunk)),
                "only missing chunks"
            );
            let most = self.geometry.source_symbols(want.first);
            assert!(want.deficit == WHOLE || want.count == 1 && want.deficit <= most);
        }
        assert!(report.bitmap.chunks().all(|chunk| self.missing.contains(&chunk)));
    }
}

/// The parity symbols of a chunk, as any sender makes them.
fn parity(chunk: &[u8]) -> Vec<Vec<u8>> {
    let mut symbols: Vec<Vec<u8>> = chunk.chunks(16).map(<[u8]>::to_vec).collect();
    symbols.iter_mut().for_each(|symbol| symbol.resize(16, 0));
    reed_solomon_simd::encode(symbols.len(), PARITY, &symbols).expect("chunks of usual sizes")
}
