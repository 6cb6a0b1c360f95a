//! A byte string read as a sequence of calls: every string means something, and a string that ends means zeros.

use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable, Geometry, SessionId, SessionKey, Time};

/// Calls of one run at most: longer ones find nothing more and take the time.
const CALLS: usize = 1_000;

pub(crate) const SESSION: SessionId = SessionId(7);

pub(crate) fn key() -> SessionKey {
    SessionKey::from_bytes([5; 32])
}

/// Makes a world as the string says, and calls into it as the rest says; after each call what it wants is drained.
pub(crate) fn drive<W>(
    bytes: &[u8],
    new: fn(&mut Script<'_>) -> W,
    call: fn(&mut W, &mut Script<'_>),
    drain: fn(&mut W),
) {
    let mut script = Script::new(bytes);
    let mut world = new(&mut script);
    for _ in 0..CALLS {
        if script.is_over() {
            break;
        }
        call(&mut world, &mut script);
        drain(&mut world);
    }
}

/// What is left of the string.
pub(crate) struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// A number that is often small, and sometimes as large as can be.
    pub(crate) fn number(&mut self) -> u64 {
        match self.u8() {
            255 => u64::MAX - u64::from(self.u8()),
            254 => u64::from(self.u16()) << 32 | u64::from(self.u16()) << 16 | u64::from(self.u16()),
            200..254 => u64::from(self.u16()),
            small => u64::from(small),
        }
    }

    /// As [`number`](Self::number), cut off at what fits.
    pub(crate) fn u32(&mut self) -> u32 {
        u32::try_from(self.number()).unwrap_or(u32::MAX)
    }

    /// An index that exists when `count` things do; now and then one that may not.
    pub(crate) fn index(&mut self, count: u32) -> u32 {
        match self.u8() {
            250.. => self.u32(),
            small => u32::from(small) % count,
        }
    }

    /// At most `most` bytes.
    pub(crate) fn bytes(&mut self, most: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        head
    }

    /// Fewer bytes than `bound`.
    pub(crate) fn some(&mut self, bound: usize) -> &'a [u8] {
        let count = usize::from(self.u8()) % bound;
        self.bytes(count)
    }

    /// From a microsecond to some minutes.
    pub(crate) fn wait(&mut self) -> Duration {
        let (shift, count) = (self.u8() % 24, self.u8());
        Duration::from_micros((1 + u64::from(count)) << shift)
    }
}

/// Chunks with their bytes, of sizes that the script chooses, in symbols of 16 bytes.
pub(crate) fn image(script: &mut Script<'_>) -> (Vec<Vec<u8>>, Geometry) {
    let count = 1 + usize::from(script.u8() % 24);
    let chunks: Vec<Vec<u8>> = (0..count)
        .map(|index| {
            let len = 1 + usize::from(script.u8()) * usize::from(1 + script.u8() % 16);
            vec![u8::try_from(index).expect("at most 24 chunks"); len]
        })
        .collect();
    let info = |bytes: &Vec<u8>| ChunkInfo {
        id: ChunkId::of(bytes),
        len: u32::try_from(bytes.len()).expect("at most 4,096 bytes"),
    };
    let infos = chunks.iter().map(info).collect();
    let table = ChunkTable::new(ManifestId::of(b"fuzz"), infos).expect("chunks of usual sizes");
    let geometry = Geometry::new(Arc::new(table), 16).expect("symbols of a usual size");
    (chunks, geometry)
}

/// A clock that only goes forward.
pub(crate) struct Clock(Time);

impl Clock {
    pub(crate) fn new() -> Self {
        Self(Time::ZERO)
    }

    pub(crate) fn now(&self) -> Time {
        self.0
    }

    pub(crate) fn pass(&mut self, wait: Duration) {
        self.0 = self.0 + wait;
    }

    /// Goes to this moment, unless it is past.
    pub(crate) fn reach(&mut self, time: Time) {
        self.0 = self.0.max(time);
    }
}

/// Randomness that is the same each time.
pub(crate) fn rng() -> Xoshiro256PlusPlus {
    Xoshiro256PlusPlus::seed_from_u64(1)
}
