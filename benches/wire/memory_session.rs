//! One session in memory, with the real state machines and no socket: what framing, gathering, loading and decoding
//! cost by themselves.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt as _, SeedableRng as _};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::SYMBOL_BYTES;
use simulcast_protocol::multicast::limits::SEGMENTS;
use simulcast_protocol::multicast::{
    Batch, ChunkSet, Decoder, Geometry, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, Sender,
    SenderConfig, SessionId, SessionKey, Time,
};
use simulcast_protocol::units::Rate;
use simulcast_transport::multicast::ChunkSource as _;

use super::alone::{Thread, Took, processor_time};
use super::data::{Chunks, Data, read_table};
use super::options::Loss;

/// What passes between two looks at the session.
const STEP: Duration = Duration::from_micros(500);

/// Sender and receiver with what they took so far.
struct Session {
    sender: Sender,
    receiver: Receiver,
    chunks: Chunks,
    table: Arc<simulcast_protocol::multicast::ChunkTable>,
    rng: Xoshiro256PlusPlus,
    loss: Loss,
    now: Time,
    load: Duration,
    frame: Duration,
    gather: Duration,
    decode: Duration,
    decoder: Decoder,
}

/// Times the stages of a session in which the receiver loses so much.
pub(crate) fn stages(data: &Data, loss: Loss) -> Result<Vec<Took>> {
    let mut session = Session::new(data, loss)?;
    let mut steps = 0;
    while !session.receiver.missing().is_empty() {
        session.step()?;
        steps += 1;
        ensure!(steps < 1_000_000, "the session in memory does not end");
    }
    let names = match loss.per_million() {
        0 => ["load (hash), 0 %", "frame, 0 %", "gather, 0 %", "decode, 0 %"],
        10_000 => [
            "load (hash, parity), 1 %",
            "frame, 1 %",
            "gather, 1 %",
            "decode, 1 %",
        ],
        _ => [
            "load (hash, parity), 5 %",
            "frame, 5 %",
            "gather, 5 %",
            "decode, 5 %",
        ],
    };
    let times = [session.load, session.frame, session.gather, session.decode];
    let threads = [Thread::Loader, Thread::Sender, Thread::Receiver, Thread::Worker];
    let all = names.into_iter().zip(threads).zip(times);
    Ok(all
        .map(|((name, thread), time)| Took {
            name,
            thread,
            bytes: data.bytes,
            time,
        })
        .collect())
}

impl Session {
    fn new(data: &Data, loss: Loss) -> Result<Self> {
        let table = Arc::new(read_table(&data.table)?);
        let geometry = Geometry::new(Arc::clone(&table), SYMBOL_BYTES)?;
        let (session, id, key) = (SessionId(1), ReceiverId(1), SessionKey::from_bytes([1; 32]));
        let keys = key.receiver_keys(id);
        let fast = Rate::from_bits_per_second(8_000_000_000);
        let sender = SenderConfig {
            session,
            key,
            geometry: geometry.clone(),
            rate_max: fast,
            rate_min: fast,
            min_receivers: 1,
            max_wait: Duration::ZERO,
            gather: Duration::ZERO,
            join_wait: Duration::from_secs(60),
            linger: Duration::from_secs(60),
            memory: 128 << 20,
            max_segments: SEGMENTS,
        };
        let receiver = ReceiverConfig {
            session,
            receiver: id,
            keys,
            geometry,
            memory: 96 << 20,
            silence: Duration::from_secs(60),
            join_spread: Duration::ZERO,
        };
        let missing = ChunkSet::full(table.count());
        let rng = Xoshiro256PlusPlus::seed_from_u64(1);
        Ok(Self {
            sender: Sender::new(Time::ZERO, sender),
            receiver: Receiver::new(Time::ZERO, receiver, missing, rng),
            chunks: Chunks::open(&data.file, Arc::clone(&table))?,
            table,
            rng: Xoshiro256PlusPlus::seed_from_u64(2),
            loss,
            now: Time::ZERO,
            load: Duration::ZERO,
            frame: Duration::ZERO,
            gather: Duration::ZERO,
            decode: Duration::ZERO,
            decoder: Decoder::default(),
        })
    }

    fn step(&mut self) -> Result<()> {
        self.now = self.now + STEP;
        let (mut batch, mut packets, mut report) = (Batch::default(), Vec::new(), Vec::new());
        self.load()?;
        loop {
            let start = processor_time();
            let sent = self.sender.poll_transmit(self.now, &mut batch);
            self.frame += processor_time() - start;
            if !sent {
                break;
            }
            batch.copy_to(&mut packets);
            let came: Vec<&[u8]> = packets
                .chunks(batch.segment())
                .filter(|_| self.rng.random_range(0..1_000_000) >= self.loss.per_million())
                .collect();
            let start = processor_time();
            came.iter()
                .for_each(|packet| self.receiver.handle_packet(self.now, packet));
            self.gather += processor_time() - start;
            self.judge()?;
        }
        self.receiver.handle_timeout(self.now);
        while self.receiver.poll_transmit(self.now, &mut report) {
            self.sender.handle_packet(self.now, &report);
        }
        self.sender.handle_timeout(self.now);
        Ok(())
    }

    /// What the sender's readers do, except for reading itself.
    fn load(&mut self) -> Result<()> {
        while let Some(load) = self.sender.poll_load() {
            let mut reading = Duration::ZERO;
            let start = processor_time();
            let loaded = load.run(|index| {
                let start = processor_time();
                let bytes = self.chunks.read(index);
                reading = processor_time() - start;
                bytes
            })?;
            self.load += processor_time() - start - reading;
            self.sender.provide(self.now, loaded);
        }
        Ok(())
    }

    /// What the receiver's workers do, except for checking the hash, which is a stage of its own.
    fn judge(&mut self) -> Result<()> {
        while let Some(event) = self.receiver.poll_event() {
            if let ReceiverEvent::Gathered(gathered) = event {
                let index = gathered.index();
                let start = processor_time();
                let bytes = gathered.decode_with(&mut self.decoder)?;
                self.decode += processor_time() - start;
                let id = self.table.get(index).map(|info| info.id);
                ensure!(
                    id == Some(ChunkId::of(&bytes)),
                    "chunk {index} is not what was sent"
                );
                self.receiver.accept(self.now, index);
            }
        }
        Ok(())
    }
}
