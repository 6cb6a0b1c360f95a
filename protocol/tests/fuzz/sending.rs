//! Any sequence of calls into a sender: packets of receivers honest and not, loads that succeed, fail or come twice,
//! time in steps of any size.

use std::time::Duration;

use simulcast_protocol::limits::PARITY;
use simulcast_protocol::multicast::limits::{CONTROL_BYTES, PACING_BURST, WIRE_OVERHEAD_BYTES};
use simulcast_protocol::multicast::packet::{self, Announce, Bitmap, Data, Fin, Kind, Report, Want};
use simulcast_protocol::multicast::{
    Batch, Geometry, Load, Loaded, ReceiverId, Sender, SenderConfig, SenderEvent, Time,
};
use simulcast_protocol::units::Rate;

use super::script::{Clock, SESSION, Script, drive, image, key};

/// Transmissions in one moment at most: far more than the credit of pacing holds.
const BURST: usize = 10_000;

struct World {
    chunks: Vec<Vec<u8>>,
    geometry: Geometry,
    memory: u64,
    rate: f64,
    sender: Sender,
    clock: Clock,
    loads: Vec<Load>,
    /// The last chunk that was provided, to provide it again.
    last: Option<Loaded>,
    tx_seq: u64,
    announced: u64,
    debt: f64,
    debt_at: Time,
    finished: bool,
}

pub(crate) fn run(bytes: &[u8]) {
    drive(bytes, World::new, World::call, World::drain);
}

impl World {
    fn new(script: &mut Script<'_>) -> Self {
        let (chunks, geometry) = image(script);
        let rate = Rate::from_bits_per_second(1_000 << (script.u8() % 20));
        let memory = u64::from(script.u16());
        let config = SenderConfig {
            session: SESSION,
            key: key(),
            geometry: geometry.clone(),
            rate_max: rate,
            rate_min: Rate::from_bits_per_second(u64::from(script.u16())),
            min_receivers: u32::from(script.u8() % 4),
            max_wait: Duration::from_millis(script.u16().into()),
            gather: Duration::from_millis(script.u8().into()),
            join_wait: Duration::from_millis(script.u16().into()),
            linger: Duration::from_millis(script.u16().into()),
            memory,
            max_segments: usize::from(script.u8()),
        };
        let clock = Clock::new();
        Self {
            sender: Sender::new(clock.now(), config),
            rate: rate.bits_per_second() as f64 / 8.0,
            debt_at: clock.now(),
            chunks,
            geometry,
            memory,
            clock,
            loads: Vec::new(),
            last: None,
            tx_seq: 0,
            announced: 0,
            debt: 0.0,
            finished: false,
        }
    }

    fn call(&mut self, script: &mut Script<'_>) {
        let now = self.clock.now();
        match script.u8() % 12 {
            0 => {
                self.clock.pass(script.wait());
                self.sender.handle_timeout(self.clock.now());
            }
            1 => {
                if let Some(at) = self.sender.poll_timeout() {
                    self.clock.reach(at);
                }
                self.sender.handle_timeout(self.clock.now());
            }
            2..=5 => {
                let report = report(script, self.geometry.table().count());
                let mut packet = Vec::new();
                report.encode(&key().receiver(report.receiver), &mut packet);
                self.sender.handle_packet(now, &packet);
            }
            6 => {
                self.sender.handle_packet(now, script.some(256));
            }
            7 => {
                // Bytes of no report, under a right key: what a broken or hostile receiver can send.
                let mut packet = vec![0x13 + script.u8() % 2, 0, 0, 0];
                packet.extend(SESSION.0.to_le_bytes());
                packet.extend(script.some(256));
                if let Ok(receiver) = Report::peek_receiver(&packet) {
                    key().receiver(receiver).seal(&mut packet);
                }
                self.sender.handle_packet(now, &packet);
            }
            8 | 9 => self.load(script.u8()),
            10 => self.sender.expect(script.u8().into()),
            _ => {
                if script.u8() == 0 {
                    self.sender.stop(now);
                }
            }
        }
    }

    /// Answers a load in one of the ways that there are, or one that nobody asked for.
    fn load(&mut self, how: u8) {
        let now = self.clock.now();
        if let (0, Some(last)) = (how % 8, &self.last) {
            return self.sender.provide(now, last.clone());
        }
        if self.loads.is_empty() {
            return self.sender.provide_failed(now, how.into());
        }
        let load = self.loads.remove(usize::from(how) % self.loads.len());
        let index = usize::try_from(load.index()).expect("a small index");
        match how % 8 {
            1 => self.sender.provide_failed(now, load.index()),
            2 => {
                // Wrong bytes are found out, unless the sender holds the right ones and asks for parity alone.
                let wrong = vec![how; self.chunks[index].len()];
                match load.run(|_| Ok(wrong)) {
                    Ok(loaded) => self.sender.provide(now, loaded),
                    Err(_) => self.sender.provide_failed(now, load.index()),
                }
            }
            _ => {
                let loaded = load.run(|_| Ok(self.chunks[index].clone()));
                let loaded = loaded.expect("the right bytes are taken");
                self.last = Some(loaded.clone());
                self.sender.provide(now, loaded);
            }
        }
    }

    /// Takes out all that there is, and checks it.
    fn drain(&mut self) {
        let now = self.clock.now();
        while let Some(load) = self.sender.poll_load() {
            self.loads.push(load);
        }
        let mut batch = Batch::default();
        for count in 0.. {
            assert!(count < BURST, "the credit of pacing ends");
            if !self.sender.poll_transmit(now, &mut batch) {
                break;
            }
            self.sent(&batch);
        }
        while let Some(load) = self.sender.poll_load() {
            self.loads.push(load);
        }
        while let Some(event) = self.sender.poll_event() {
            self.finished |= matches!(event, SenderEvent::Finished(_));
        }
        assert_eq!(self.finished, self.sender.is_closed());
        // Time that is up was taken by the last call or will be by the next; then the sender waits for later.
        self.sender.handle_timeout(now);
        while self.sender.poll_transmit(now, &mut batch) {
            self.sent(&batch);
        }
        assert!(
            self.sender.poll_timeout().is_none_or(|at| at > now),
            "the driver would spin: {:?} at {now:?}",
            self.sender.poll_timeout()
        );
        let largest = self.chunks.iter().map(Vec::len).max().unwrap_or(0);
        let held = self.memory + 40 * u64::try_from(largest + PARITY * 16).expect("a small number");
        assert!(self.sender.stats().held_peak <= held, "memory is bounded");
    }

    fn sent(&mut self, batch: &Batch) {
        let (segment, count, mut buffer) = (batch.segment(), batch.count(), Vec::new());
        batch.copy_to(&mut buffer);
        assert!(segment * count == buffer.len() && (1..=64).contains(&count));
        let now = self.clock.now();
        let wire = buffer.len() as f64 + (count as f64) * WIRE_OVERHEAD_BYTES as f64;
        self.debt = (self.debt - self.rate * now.since(self.debt_at).as_secs_f64()).max(0.0) + wire;
        self.debt_at = now;
        let most = self.rate * PACING_BURST.as_secs_f64() + wire + 1.0;
        assert!(
            self.debt <= most,
            "the rate is passed: {} of {most} bytes",
            self.debt
        );
        for bytes in buffer.chunks(segment) {
            self.check(bytes);
        }
    }

    fn check(&mut self, bytes: &[u8]) {
        let (kind, session) = packet::peek(bytes).expect("a packet");
        assert_eq!(session, SESSION);
        if kind == Kind::Data {
            let data = Data::decode(bytes).expect("a data packet");
            self.tx_seq += 1;
            assert_eq!(data.tx_seq, self.tx_seq);
            let sources = self.geometry.source_symbols(data.chunk);
            assert!(sources > 0 && data.symbol < self.geometry.all_symbols(data.chunk));
            if data.symbol < sources {
                let chunk = &self.chunks[usize::try_from(data.chunk).expect("a small index")];
                let start = usize::from(data.symbol) * 16;
                let symbol = &chunk[start..chunk.len().min(start + 16)];
                assert!(data.payload.starts_with(symbol), "a symbol has its chunk's bytes");
            }
            return;
        }
        assert!(bytes.len() <= CONTROL_BYTES);
        let body = key().group().open(bytes).expect("a right tag");
        let seq = match kind {
            Kind::Announce => {
                let announce = Announce::decode(body).expect("an announce");
                assert_eq!(announce.tx_seq, self.tx_seq);
                announce.seq
            }
            Kind::Fin => Fin::decode(body).expect("a FIN").seq,
            kind @ (Kind::Data | Kind::Join | Kind::Report) => panic!("a sender sends no {kind:?}"),
        };
        assert_eq!(seq, self.announced + 1, "numbers of control packets rise by one");
        self.announced = seq;
    }
}

/// A report of one of four receivers that says anything, mostly about chunks that exist.
fn report(script: &mut Script<'_>, count: u32) -> Report {
    let wants = (0..script.u8() % 6).map(|_| {
        let first = script.index(count);
        let deficit = match script.u8() {
            large @ 240.. => u16::MAX - u16::from(large - 240),
            small => u16::from(small).max(1),
        };
        Want {
            first,
            count: script.index(count.saturating_sub(first).max(1)).saturating_add(1),
            deficit,
        }
    });
    let wants: Vec<Want> = wants
        .filter(|want| want.count > 0 && want.first.checked_add(want.count).is_some())
        .collect();
    let bits = script.some(5).to_vec();
    let first = if bits.is_empty() { 0 } else { script.index(count) };
    Report {
        join: script.u8().is_multiple_of(2),
        poisoned: script.u8() < 4,
        session: SESSION,
        seq: script.number().max(1),
        receiver: ReceiverId(u64::from(script.u8() % 4)),
        tx_seq: script.number(),
        received: script.number(),
        drops: script.number(),
        missing: script.index(count + 1),
        fill: script.u8(),
        wants,
        bitmap: Bitmap { first, bits },
    }
}
