//! What is simulated: an image, a sender, receivers with their links and their fates.

use std::sync::Arc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable, Geometry};
use simulcast_protocol::units::Rate;

use crate::net::Link;

/// A run from its seed to its end.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) image: Image,
    pub(crate) rate: Rate,
    pub(crate) segments: usize,
    pub(crate) sender_memory: u64,
    /// Time that reading a chunk takes.
    pub(crate) load_time: Duration,
    /// Chunks that cannot be read.
    pub(crate) unreadable: Vec<u32>,
    /// When the sender dies, to begin again half a second later with a new session.
    pub(crate) sender_restart: Option<Duration>,
    pub(crate) receivers: Vec<Spec>,
    /// Somebody in the network repeats, alters and invents packets, a thousand a second.
    pub(crate) attack: bool,
    /// Virtual time in which all who live must be complete.
    pub(crate) limit: Duration,
}

/// One receiver.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) join: Duration,
    pub(crate) down: Link,
    pub(crate) up: Link,
    /// Chunks that it has when it first joins.
    pub(crate) have: Vec<u32>,
    /// Time that checking and writing one chunk takes; chunks wait for each other.
    pub(crate) sink_time: Duration,
    pub(crate) memory: u64,
    /// When it dies, and after which time it begins again with the chunks that it had.
    pub(crate) crash: Option<(Duration, Option<Duration>)>,
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

    /// Source packets of the whole image.
    pub(crate) fn packets(&self) -> u64 {
        let count = u32::try_from(self.chunks.len()).unwrap();
        (0..count)
            .map(|index| u64::from(self.geometry.source_symbols(index)))
            .sum()
    }

    /// Time that all source packets take on the wire.
    pub(crate) fn time(&self, rate: Rate) -> Duration {
        let wire = u64::try_from(self.geometry.packet_bytes()).unwrap() + 66;
        rate.time_for(self.packets() * wire)
    }
}

impl Spec {
    /// Joins at once over a link that loses each packet with this chance in a million.
    pub(crate) fn new(ppm: u32) -> Self {
        Self {
            join: Duration::ZERO,
            down: Link::lossy(ppm),
            up: Link::lossy(ppm),
            have: Vec::new(),
            sink_time: Duration::from_micros(200),
            memory: 96 << 20,
            crash: None,
        }
    }
}

impl Scenario {
    /// `receivers` like `spec`; 32 chunks of about 128 symbols, sent in some 0.2 s.
    pub(crate) fn new(seed: u64, receivers: usize, spec: Spec) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed ^ 1);
        let image = Image::new(seed, 32, (0..32).map(|_| rng.random_range(1..8_192)));
        Self {
            seed,
            image,
            rate: Rate::from_bits_per_second(20_000_000),
            segments: 16,
            sender_memory: 8 << 20,
            load_time: Duration::from_micros(300),
            unreadable: Vec::new(),
            sender_restart: None,
            attack: false,
            receivers: vec![spec; receivers],
            limit: Duration::from_secs(20),
        }
    }

    /// A random mixture of sizes and faults, some of them switched off.
    pub(crate) fn swarm(seed: u64) -> Self {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let receivers = rng.random_range(1..12);
        let mut scenario = Self::new(seed, receivers, Spec::new(0));
        let (most, symbol) = (rng.random_range(1..20_000), rng.random_range(8..64) * 2);
        let count = rng.random_range(1..48);
        scenario.image = Image::new(seed, symbol, (0..count).map(|_| rng.random_range(1..=most)));
        scenario.rate = Rate::from_bits_per_second(rng.random_range(2_000_000..200_000_000));
        scenario.segments = rng.random_range(1..=44);
        scenario.sender_memory = rng.random_range(0..2 << 20);
        scenario.load_time = Duration::from_micros(rng.random_range(0..5_000));
        let span = scenario.image.time(scenario.rate);
        let moment = |rng: &mut Xoshiro256PlusPlus| span * rng.random_range(0..1500) / 1000;
        if rng.random_bool(0.2) {
            scenario.sender_restart = Some(moment(&mut rng));
        }
        if rng.random_bool(0.2) {
            scenario.unreadable = vec![rng.random_range(0..count)];
        }
        scenario.attack = rng.random_bool(0.2);
        let faults: [bool; 9] = std::array::from_fn(|_| rng.random_bool(0.4));
        for spec in &mut scenario.receivers {
            spec.misfortune(&faults, span, &mut rng);
        }
        // What 30 % loss, a tenth of the rate or a slow disk may take, with the silence bounds after a crash.
        scenario.limit = span * 60 + Duration::from_secs(60);
        scenario
    }
}

impl Spec {
    fn misfortune(&mut self, faults: &[bool; 9], span: Duration, rng: &mut Xoshiro256PlusPlus) {
        use crate::net::Loss;
        let hit = |fault: usize, rng: &mut Xoshiro256PlusPlus| faults[fault] && rng.random_bool(0.5);
        let moment = |rng: &mut Xoshiro256PlusPlus| span * rng.random_range(0..1500) / 1000;
        if hit(0, rng) {
            self.down.loss = Loss::Independent(rng.random_range(0..300_000));
            self.up.loss = Loss::Independent(rng.random_range(0..300_000));
        }
        if hit(1, rng) {
            self.down.loss = Loss::Bursts {
                enter: rng.random_range(0..10_000),
                leave: rng.random_range(20_000..500_000),
            };
        }
        if hit(2, rng) {
            self.down.jitter = Duration::from_micros(rng.random_range(0..20_000));
            self.up.jitter = self.down.jitter;
        }
        if hit(3, rng) {
            self.down.duplicate = rng.random_range(0..200_000);
            self.up.duplicate = self.down.duplicate;
        }
        if hit(4, rng) {
            self.down.corrupt = rng.random_range(0..2_000);
            self.up.corrupt = rng.random_range(0..100_000);
        }
        if hit(5, rng) {
            self.join = moment(rng);
        }
        if hit(6, rng) {
            let back = rng.random_bool(0.6).then(|| moment(rng));
            self.crash = Some((moment(rng), back));
        }
        if hit(7, rng) {
            self.sink_time = Duration::from_micros(rng.random_range(0..20_000));
            self.memory = rng.random_range(20_000..400_000);
        }
        if hit(8, rng) {
            let from = moment(rng);
            self.down.down = Some((from, from + Duration::from_millis(rng.random_range(1..1500))));
            self.up.down = self.down.down;
        }
    }
}
