//! What is simulated: an image, a sender, a network, receivers with their links and their fates.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable, Geometry};
use simulcast_protocol::units::Rate;

use crate::liar::Lie;
use crate::net::{Link, Switch};

/// A run from its seed to its end.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) image: Image,
    pub(crate) rate: Rate,
    pub(crate) rate_min: Rate,
    pub(crate) segments: usize,
    pub(crate) sender_memory: u64,
    /// Time that reading a chunk takes.
    pub(crate) load_time: Duration,
    /// Chunks that cannot be read.
    pub(crate) unreadable: Vec<u32>,
    /// When the sender dies, to begin again half a second later with a new session.
    pub(crate) sender_restart: Option<Duration>,
    /// How long others are waited for before the first chunk is sent.
    pub(crate) gather: Duration,
    pub(crate) join_spread: Duration,
    /// The network between sender and receivers; the first is the sender's own link.
    pub(crate) switches: Vec<Switch>,
    pub(crate) receivers: Vec<Spec>,
    /// Packets a second of somebody in the network who repeats, alters and invents them.
    pub(crate) attack: u32,
    /// Forged DATA packets a second for chunks that are being sent, to every receiver.
    pub(crate) poison: u32,
    /// Every so many receivers check what they get; the others trust the network, which must then alter nothing.
    pub(crate) judges: usize,
    /// Virtual time in which all who live must be complete.
    pub(crate) limit: Duration,
    /// Virtual time in which some receiver that lacks something and can be reached must get a symbol.
    pub(crate) patience: Duration,
}

/// One receiver.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    /// The switch that it hangs on.
    pub(crate) switch: usize,
    pub(crate) join: Duration,
    pub(crate) down: Link,
    pub(crate) up: Link,
    /// Chunks that it has when it first joins.
    pub(crate) have: Vec<u32>,
    /// Time that checking and writing one chunk takes; chunks wait for each other.
    pub(crate) sink_time: Duration,
    pub(crate) memory: u64,
    /// Bytes that its socket keeps while it does not read.
    pub(crate) socket: u64,
    /// When it dies, and after which time it begins again with the chunks that it had.
    pub(crate) crash: Option<(Duration, Option<Duration>)>,
    /// From when to when it does nothing at all.
    pub(crate) freeze: Option<(Duration, Duration)>,
    /// It has valid keys and lies in this way; nobody waits for it at the end.
    pub(crate) lies: Option<Lie>,
}

/// Chunks with their bytes.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) chunks: Arc<Vec<Vec<u8>>>,
    pub(crate) geometry: Geometry,
}

impl Image {
    /// Chunks of these lengths with random bytes, in symbols of `symbol` bytes.
    pub(crate) fn new(seed: u64, symbol: usize, lens: impl Iterator<Item = usize>) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let chunk = |len| {
            let mut bytes = vec![0; len];
            rng.fill_bytes(&mut bytes);
            bytes
        };
        let chunks: Vec<Vec<u8>> = lens.map(chunk).collect();
        let info = |bytes: &Vec<u8>| ChunkInfo {
            id: ChunkId::of(bytes),
            len: u32::try_from(bytes.len()).unwrap(),
        };
        let table = ChunkTable::new(
            ManifestId::of(&seed.to_le_bytes()),
            chunks.iter().map(info).collect(),
        )
        .unwrap();
        let geometry = Geometry::new(Arc::new(table), symbol).unwrap();
        Self {
            chunks: Arc::new(chunks),
            geometry,
        }
    }

    /// The bytes of a chunk.
    pub(crate) fn bytes(&self, index: u32) -> &[u8] {
        &self.chunks[usize::try_from(index).unwrap()]
    }

    /// How many chunks there are.
    pub(crate) fn count(&self) -> u32 {
        self.geometry.table().count()
    }

    /// Bytes of the longest chunk.
    pub(crate) fn largest(&self) -> u64 {
        u64::try_from(self.chunks.iter().map(Vec::len).max().unwrap_or(0)).unwrap()
    }

    /// Source packets of the whole image.
    pub(crate) fn packets(&self) -> u64 {
        (0..self.count())
            .map(|index| u64::from(self.geometry.source_symbols(index)))
            .sum()
    }

    /// Bytes of one data packet on the wire.
    pub(crate) fn wire(&self) -> u64 {
        u64::try_from(self.geometry.packet_bytes()).unwrap() + 66
    }

    /// Time that all source packets take on the wire.
    pub(crate) fn time(&self, rate: Rate) -> Duration {
        rate.time_for(self.packets() * self.wire())
    }
}

impl Spec {
    /// Joins at once over a link that loses each packet with this chance in a million.
    pub(crate) fn new(ppm: u32) -> Self {
        Self {
            switch: 0,
            join: Duration::ZERO,
            down: Link::lossy(ppm),
            up: Link::lossy(ppm),
            have: Vec::new(),
            sink_time: Duration::from_micros(200),
            memory: 96 << 20,
            socket: 8 << 20,
            crash: None,
            freeze: None,
            lies: None,
        }
    }

    /// When it last comes back from what befalls it, as far as it was told here.
    pub(crate) fn last_return(&self) -> Duration {
        let crash = self
            .crash
            .map_or(Duration::ZERO, |(at, back)| at + back.unwrap_or_default());
        let links = self.down.down.iter().chain(&self.up.down).map(|(_, up)| *up);
        let freeze = self.freeze.iter().map(|(_, to)| *to);
        links.chain(freeze).fold(self.join + crash, Duration::max)
    }
}

impl Scenario {
    /// `receivers` like `spec`; 32 chunks of about 128 symbols, sent in some 0.2 s.
    pub(crate) fn new(seed: u64, receivers: usize, spec: Spec) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 1);
        let image = Image::new(seed, 32, (0..32).map(|_| rng.random_range(1..8_192)));
        let rate = Rate::from_bits_per_second(20_000_000);
        Self {
            seed,
            image,
            rate,
            rate_min: Rate::from_bits_per_second(rate.bits_per_second() / 64),
            segments: 16,
            sender_memory: 8 << 20,
            load_time: Duration::from_micros(300),
            unreadable: Vec::new(),
            sender_restart: None,
            gather: Duration::ZERO,
            join_spread: Duration::from_millis(10),
            switches: vec![Switch::root()],
            attack: 0,
            poison: 0,
            judges: 1,
            receivers: vec![spec; receivers],
            limit: Duration::from_secs(20),
            // A NAK that is lost is repeated after two seconds at most; on a bad link some are lost in a row.
            patience: Duration::from_secs(10),
        }
    }

    /// Sets the rate, and the lowest one to a hundredth of it as a real session of 1 Gbit/s has it.
    pub(crate) fn at_rate(mut self, rate: Rate) -> Self {
        self.rate = rate;
        self.rate_min = Rate::from_bits_per_second(rate.bits_per_second() / 100);
        self
    }

    /// Hangs the receivers on `count` switches below the sender's, in turn.
    pub(crate) fn on_switches(mut self, count: usize, switch: impl Fn(usize) -> Switch) -> Self {
        let first = self.switches.len();
        self.switches.extend((0..count).map(switch));
        for (index, spec) in self.receivers.iter_mut().enumerate() {
            spec.switch = first + index % count;
        }
        self
    }
}
