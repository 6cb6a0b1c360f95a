//! Packing: parts in the order in which they come become compressed chunks, on several threads.
//!
//! A part of 4 MiB is a chunk of its own; smaller ones share a chunk until it is full. What does not fit any more but
//! would fill half a chunk becomes a chunk of its own too, so that the open one goes on filling.

use std::sync::Mutex;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use simulcast_protocol::id::PartId;
use simulcast_protocol::limits::PART_BYTES;

use crate::chunk::{Compressor, Encoding};

/// Raw chunks that wait for a compressing thread, for each thread.
const QUEUED_PER_THREAD: usize = 2;

/// A chunk before encryption.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packed {
    /// How `payload` was made from the raw bytes.
    pub encoding: Encoding,
    /// Its parts in order: their raw bytes, one after the other, are the chunk's raw bytes.
    pub segments: Vec<(PartId, u32)>,
    /// The encoded bytes.
    pub payload: Vec<u8>,
}

impl Packed {
    /// Length of the raw bytes; `None` when the segments claim more than a chunk holds.
    pub fn raw_len(&self) -> Option<u32> {
        let total: u64 = self.segments.iter().map(|&(_, len)| u64::from(len)).sum();
        u32::try_from(total)
            .ok()
            .filter(|&len| (1..=PART_BYTES).contains(&(len as usize)))
    }
}

/// Takes packed chunks; called by several threads.
pub trait PackSink: Sync {
    /// Why a chunk could not be taken.
    type Error: Send;

    /// Takes a chunk. After an error no further chunks come.
    ///
    /// # Errors
    /// The sink's own.
    fn take(&self, packed: Packed) -> Result<(), Self::Error>;
}

/// Collects parts; see [`with_packer`].
#[derive(Debug)]
pub struct Packer {
    open: Raw,
    queue: Sender<Raw>,
    spare: Receiver<Raw>,
    stopped: bool,
}

/// A chunk that is being filled.
#[derive(Debug, Default)]
struct Raw {
    bytes: Vec<u8>,
    segments: Vec<(PartId, u32)>,
}

/// Runs `feed` with a packer whose chunks go to `sink`, compressed by `threads` threads at a zstd level, and returns when
/// `sink` has them all.
///
/// # Errors
/// The sink's first error, else the error of `feed`.
pub fn with_packer<S: PackSink, T>(
    sink: &S,
    level: i32,
    threads: usize,
    feed: impl FnOnce(&mut Packer) -> Result<T, S::Error>,
) -> Result<T, S::Error> {
    let failure = Mutex::new(None);
    let (queue, jobs) = bounded(threads * QUEUED_PER_THREAD);
    let (give_back, spare) = bounded(threads * (QUEUED_PER_THREAD + 1));
    let fed = std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (jobs, give_back, failure) = (jobs.clone(), give_back.clone(), &failure);
            scope.spawn(move || {
                if let Err(error) = compress_all(sink, level, &jobs, &give_back) {
                    failure.lock().expect("no holder panics").get_or_insert(error);
                }
            });
        }
        drop((jobs, give_back));
        let mut packer = Packer {
            open: Raw::default(),
            queue,
            spare,
            stopped: false,
        };
        let fed = feed(&mut packer);
        packer.flush();
        fed
    });
    match failure.into_inner().expect("no holder panics") {
        Some(error) => Err(error),
        None => fed,
    }
}

fn compress_all<S: PackSink>(
    sink: &S,
    level: i32,
    jobs: &Receiver<Raw>,
    give_back: &Sender<Raw>,
) -> Result<(), S::Error> {
    let mut compressor = Compressor::new(level);
    for mut raw in jobs {
        let mut payload = Vec::new();
        let encoding = compressor.compress(&raw.bytes, &mut payload);
        let segments = std::mem::take(&mut raw.segments);
        raw.bytes.clear();
        // Nobody may be waiting for the buffer any more: then it is just freed.
        drop(give_back.try_send(raw));
        sink.take(Packed {
            encoding,
            segments,
            payload,
        })?;
    }
    Ok(())
}

impl Packer {
    /// Adds a part (1 byte to 4 MiB). Returns false once the sink has failed: then it is of no use to go on.
    pub fn add(&mut self, id: PartId, bytes: &[u8]) -> bool {
        let len = u32::try_from(bytes.len()).expect("a part is at most 4 MiB");
        if self.open.bytes.len() + bytes.len() <= PART_BYTES {
            self.open.push(id, len, bytes);
        } else if bytes.len() >= PART_BYTES / 2 {
            let mut alone = self.spare.try_recv().unwrap_or_default();
            alone.push(id, len, bytes);
            self.send(alone);
        } else {
            self.flush();
            self.open.push(id, len, bytes);
        }
        !self.stopped
    }

    fn flush(&mut self) {
        if !self.open.bytes.is_empty() {
            let next = self.spare.try_recv().unwrap_or_default();
            let full = std::mem::replace(&mut self.open, next);
            self.send(full);
        }
    }

    fn send(&mut self, raw: Raw) {
        // The queue is closed only when every thread has stopped, and a thread stops early only for the sink's error.
        self.stopped |= self.queue.send(raw).is_err();
    }
}

impl Raw {
    fn push(&mut self, id: PartId, len: u32, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.segments.push((id, len));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::{DEFAULT_LEVEL, Opener};

    #[derive(Default)]
    struct Taken(Mutex<Vec<Packed>>);

    impl PackSink for Taken {
        type Error = &'static str;

        fn take(&self, packed: Packed) -> Result<(), &'static str> {
            self.0.lock().unwrap().push(packed);
            Ok(())
        }
    }

    struct Full;

    impl PackSink for Full {
        type Error = &'static str;

        fn take(&self, _: Packed) -> Result<(), &'static str> {
            Err("full")
        }
    }

    fn bytes(len: usize, seed: u8) -> Vec<u8> {
        (0..=250u8).cycle().take(len).map(|byte| byte ^ seed).collect()
    }

    #[test]
    fn small_parts_share_and_large_ones_stand_alone() {
        let sink = Taken::default();
        let sizes = [1000, PART_BYTES, PART_BYTES / 2 + 1, 10, PART_BYTES / 2, 5];
        with_packer(&sink, DEFAULT_LEVEL, 2, |packer| {
            for (seed, &size) in (0u8..).zip(&sizes) {
                let part = bytes(size, seed);
                assert!(packer.add(PartId::of(&part), &part));
            }
            Ok(())
        })
        .unwrap();
        let mut lens: Vec<Vec<u32>> = sink
            .0
            .into_inner()
            .unwrap()
            .iter()
            .map(|p| p.segments.iter().map(|s| s.1).collect())
            .collect();
        lens.sort();
        let half = u32::try_from(PART_BYTES / 2).unwrap();
        assert_eq!(lens, [vec![1000, half + 1, 10, 5], vec![half], vec![2 * half]]);
    }

    #[test]
    fn what_is_packed_decodes_to_its_parts() {
        let sink = Taken::default();
        let parts: Vec<_> = (1u8..50)
            .map(|seed| bytes(usize::from(seed) * 7919, seed))
            .collect();
        with_packer(&sink, 1, 3, |packer| {
            parts
                .iter()
                .for_each(|part| assert!(packer.add(PartId::of(part), part)));
            Ok(())
        })
        .unwrap();
        let (mut opener, mut seen) = (Opener::default(), 0);
        for packed in sink.0.into_inner().unwrap() {
            let mut raw = opener
                .decode(packed.encoding, packed.raw_len().unwrap(), &packed.payload)
                .unwrap();
            for (id, len) in packed.segments {
                let (part, after) = raw.split_at(len as usize);
                assert_eq!(PartId::of(part), id);
                raw = after;
                seen += 1;
            }
        }
        assert_eq!(seen, parts.len());
    }

    #[test]
    fn an_error_of_the_sink_stops_the_feeding() {
        let part = bytes(PART_BYTES, 1);
        let fed = with_packer(&Full, 1, 1, |packer| {
            while packer.add(PartId::of(&part), &part) {}
            Ok(())
        });
        assert_eq!(fed, Err("full"));
    }
}
