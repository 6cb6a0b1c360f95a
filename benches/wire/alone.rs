//! Each stage of sender and receiver alone, on one thread: which of them is the limit.
//!
//! Measured is the processor time of the thread, so that what else the machine does matters little. The protocol's
//! stages come from one session held in memory: the real state machines, no socket between them.

use std::fs::{self, File};
use std::io::IoSlice;
use std::net::UdpSocket;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::time::{ClockId, clock_gettime};
use simulcast_image::chunk::{ChunkHandle, Compressor, DEFAULT_LEVEL, Opener};
use simulcast_image::store::{ChunkStore as _, Store};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::{PART_BYTES, SYMBOL_BYTES};
use simulcast_protocol::multicast::limits::DATA_HEADER_BYTES;
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::run::Run;
use simulcast_transport::multicast::ChunkSource as _;
use simulcast_transport::udp::batch::{Batcher, Receiving};
use simulcast_transport::udp::{Interface, Reach, group_receiver, group_sender};

use super::data::{Chunks, Data, read_table};
use super::lab::Lab;
use super::memory_session;
use super::options::{Case, Loss, Path as Crossing, Sink};
use super::table::align;
use crate::sample::{Sample, Values, float};

/// Bytes that go through each stage.
const BYTES: u64 = 256 << 20;
/// Bytes of a data packet, and how many fill the largest send.
const PACKET: usize = 32 + SYMBOL_BYTES;
const BATCH: usize = 65_507 / PACKET;
/// Where the stages' sockets meet.
const GROUP: &str = "239.255.77.1:7700";

/// On which thread of the product a stage runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    /// One of the sender's threads that read ahead.
    Loader,
    /// The sender's thread for the network.
    Sender,
    /// The receiver's thread for the network.
    Receiver,
    /// One of the receiver's threads that check and write.
    Worker,
}

/// What a stage took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) name: &'static str,
    pub(crate) thread: Thread,
    pub(crate) bytes: u64,
    pub(crate) time: Duration,
}

impl Took {
    fn seconds_per_gb(&self) -> f64 {
        self.time.as_secs_f64() / float(self.bytes.max(1)) * 1e9
    }
}

/// Processor time of the calling thread so far.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Measures every stage and prints the table.
pub(crate) fn run_bench(samples: &mut Vec<Sample>) -> Result<()> {
    let run = Run::start("bench-stages")?;
    let data = Data::make(run.dir(), BYTES)?;
    let mut stages = vec![read(&data)?, verify(&data)?];
    stages.extend(memory_session::stages(&data, Loss::NONE)?);
    stages.extend(memory_session::stages(&data, Loss::per_cent(1))?);
    stages.extend(memory_session::stages(&data, Loss::per_cent(5))?);
    for path in [Crossing::Whole, Crossing::Segmented] {
        stages.push(send(path)?);
        stages.push(receive(path)?);
    }
    stages.push(unpack(run.dir())?);
    stages.push(write(run.dir(), &data)?);
    println!("{}", table(&stages));
    samples.extend(stages.iter().map(|stage| Sample {
        bench: "stages",
        case: Some(stage.name.to_owned()),
        side: super::table::OURS,
        pair: 0,
        load: crate::sample::load_average().unwrap_or_default(),
        program: None,
        values: Values::from([("cpu_s_per_gb", stage.seconds_per_gb())]),
    }));
    Ok(())
}

/// Chunks from a store's directory, which the page cache holds.
fn read(data: &Data) -> Result<Took> {
    let state = data.file.with_file_name("state");
    let store = Store::open(&state)?;
    let table = Arc::new(read_table(&data.table)?);
    let chunks = Chunks::open(&data.file, Arc::clone(&table))?;
    for (index, info) in (0..).zip(table.chunks()) {
        store.chunks().write(&info.id, &chunks.read(index)?)?;
    }
    store.chunks().commit()?;
    let start = processor_time();
    for info in table.chunks() {
        std::hint::black_box(store.chunks().read(&info.id)?);
    }
    let time = processor_time() - start;
    fs::remove_dir_all(&state).context("remove the store")?;
    Ok(took("read (chunk store)", Thread::Loader, time))
}

/// The hash alone, on a chunk that no cache near the processor holds.
fn verify(data: &Data) -> Result<Took> {
    let table = Arc::new(read_table(&data.table)?);
    let chunks = Chunks::open(&data.file, Arc::clone(&table))?;
    let all: Vec<Vec<u8>> = (0..table.count())
        .map(|index| chunks.read(index))
        .collect::<std::io::Result<_>>()?;
    let start = processor_time();
    for (bytes, info) in all.iter().zip(table.chunks()) {
        ensure!(ChunkId::of(bytes) == info.id, "the data changed");
    }
    Ok(took("verify (BLAKE3)", Thread::Worker, processor_time() - start))
}

/// Packets as the sender gives them to the kernel: headers and symbols lie in different places.
fn pieces(packets: &[u8]) -> Vec<IoSlice<'_>> {
    let parts = packets
        .chunks(PACKET)
        .map(|packet| packet.split_at(DATA_HEADER_BYTES));
    parts
        .flat_map(|(head, symbol)| [IoSlice::new(head), IoSlice::new(symbol)])
        .collect()
}

/// Batches into a link that nobody reads.
fn send(path: Crossing) -> Result<Took> {
    let lab = Lab::new(&case(0, path), 0)?;
    let socket = sender_socket(&lab.sender)?;
    let (packets, mut batcher) = (vec![7; BATCH * PACKET], Batcher::new(true));
    let pieces = pieces(&packets);
    let (mut sent, start) = (0, processor_time());
    while sent < BYTES {
        batcher.send(&socket, &pieces, PACKET).context("send a batch")?;
        sent += payload(BATCH);
    }
    let name = match path {
        Crossing::Whole => "send (whole, to nobody)",
        Crossing::Segmented | Crossing::Shaped => "send (segmented, to nobody)",
    };
    Ok(took(name, Thread::Sender, processor_time() - start))
}

/// What another thread sends as fast as it can; what is lost on the way does not count.
fn receive(path: Crossing) -> Result<Took> {
    let lab = Lab::new(&case(1, path), 0)?;
    let machine = lab.receivers.first().context("one receiver")?;
    let address = machine.address().parse().context("its address")?;
    let group = GROUP.parse().context("the group's address")?;
    let inside = machine.enter(|| group_receiver(group, Interface::Address(address)))??;
    let outside = sender_socket(&lab.sender)?;
    let stop = AtomicBool::new(false);
    let time = thread::scope(|scope| -> Result<Duration> {
        scope.spawn(|| {
            let (packets, mut batcher) = (vec![7; BATCH * PACKET], Batcher::new(true));
            let pieces = pieces(&packets);
            while !stop.load(Ordering::Relaxed) {
                // What cannot be sent is lost like the rest.
                batcher.send(&outside, &pieces, PACKET).ok();
            }
        });
        let measured = receive_all(&inside);
        stop.store(true, Ordering::Relaxed);
        measured
    })?;
    let name = match path {
        Crossing::Whole => "receive (whole)",
        Crossing::Segmented | Crossing::Shaped => "receive (segmented)",
    };
    Ok(took(name, Thread::Receiver, time))
}

fn receive_all(socket: &UdpSocket) -> Result<Duration> {
    let (mut receiving, mut got, start) = (Receiving::new(), 0, processor_time());
    while got < BYTES {
        let more = receiving.receive(socket).context("receive packets")?;
        got += payload(receiving.packets().count());
        if !more {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(processor_time() - start)
}

/// Programs and libraries of this machine, as chunks: decrypted and decompressed.
fn unpack(dir: &Path) -> Result<Took> {
    let store = Store::open(&dir.join("state"))?;
    let mut compressor = Compressor::new(DEFAULT_LEVEL);
    let mut sealed: Vec<(ChunkHandle, Vec<u8>)> = Vec::new();
    for raw in raw_parts()? {
        let mut stored = Vec::new();
        let encoding = compressor.compress(&raw, &mut stored);
        let len = u32::try_from(raw.len()).context("a part's length")?;
        sealed.push((store.secret().seal(encoding, len, &mut stored), stored));
    }
    let (mut opener, mut bytes) = (Opener::default(), 0);
    let start = processor_time();
    for (handle, stored) in &mut sealed {
        std::hint::black_box(opener.open_verified(handle, stored)?);
        bytes += u64::from(handle.stored_len);
    }
    Ok(Took {
        name: "unpack (AES, zstd)",
        thread: Thread::Worker,
        bytes,
        time: processor_time() - start,
    })
}

/// The largest libraries of this machine, cut into parts: 64 MiB at most.
fn raw_parts() -> Result<Vec<Vec<u8>>> {
    let mut files = Vec::new();
    for dir in [
        "/usr/bin",
        "/usr/lib",
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
    ] {
        // A directory of another architecture is not there.
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let entry = entry.with_context(|| format!("list {dir}"))?;
            let metadata = entry.metadata().with_context(|| format!("look into {dir}"))?;
            if metadata.is_file() {
                files.push((metadata.len(), entry.path()));
            }
        }
    }
    files.sort_by(|a, b| b.cmp(a));
    let mut parts: Vec<Vec<u8>> = Vec::new();
    for (_, path) in files {
        let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        parts.extend(bytes.chunks(PART_BYTES).map(<[u8]>::to_vec));
        if parts.len() >= 16 {
            break;
        }
    }
    parts.truncate(16);
    ensure!(!parts.is_empty(), "no programs are found on this machine");
    Ok(parts)
}

/// Chunks into a file, each in its place, in the page cache.
fn write(dir: &Path, data: &Data) -> Result<Took> {
    let table = Arc::new(read_table(&data.table)?);
    let chunk = Chunks::open(&data.file, Arc::clone(&table))?.read(0)?;
    let file = File::create(dir.join("written")).context("create a file")?;
    let start = processor_time();
    for offset in super::data::offsets(&table) {
        file.write_all_at(&chunk, offset).context("write a chunk")?;
    }
    Ok(took(
        "write (page cache)",
        Thread::Worker,
        processor_time() - start,
    ))
}

fn sender_socket(machine: &Namespace) -> Result<UdpSocket> {
    let reach = Reach {
        interface: Interface::Address(machine.address().parse().context("its address")?),
        ttl: 1,
        loopback: false,
        dscp: 0,
    };
    let group = GROUP.parse().context("the group's address")?;
    Ok(machine.enter(|| group_sender(group, reach))??)
}

fn case(receivers: u8, path: Crossing) -> Case {
    Case {
        receivers,
        loss: Loss::NONE,
        path,
        rate: None,
        sink: Sink::Memory,
    }
}

fn payload(packets: usize) -> u64 {
    u64::try_from(packets * SYMBOL_BYTES).unwrap_or(u64::MAX)
}

fn took(name: &'static str, thread: Thread, time: Duration) -> Took {
    Took {
        name,
        thread,
        bytes: BYTES,
        time,
    }
}

/// The stages, then what each thread of a session makes of them.
fn table(stages: &[Took]) -> String {
    let mut rows = vec![
        ["stage", "thread", "CPU-s/GB", "MB/s"]
            .map(str::to_owned)
            .to_vec(),
    ];
    rows.extend(stages.iter().map(|stage| {
        let each = stage.seconds_per_gb();
        vec![
            stage.name.to_owned(),
            format!("{:?}", stage.thread).to_lowercase(),
            format!("{each:.3}"),
            format!("{:.0}", 1e3 / each),
        ]
    }));
    let mut text = format!("stages alone, one core each\n{}\n", align(&rows));
    for (name, suffixes) in [
        ("no loss, whole packets", ["0 %", "whole"]),
        ("no loss, segmented", ["0 %", "segmented"]),
        ("1 % loss, segmented", ["1 %", "segmented"]),
        ("5 % loss, segmented", ["5 %", "segmented"]),
    ] {
        text.push_str(&limit(name, suffixes, stages));
    }
    text
}

/// What each thread needs for a gigabyte when these kinds of stages come together, and who is the limit.
fn limit(name: &str, kinds: [&str; 2], stages: &[Took]) -> String {
    // A stage without a kind in parentheses that another path or loss would have belongs to all.
    let belongs = |stage: &&Took| {
        let own = ["0 %", "1 %", "5 %", "whole", "segmented"].into_iter();
        own.filter(|kind| stage.name.contains(kind))
            .all(|kind| kinds.contains(&kind))
    };
    let threads = [
        (Thread::Loader, 2.0),
        (Thread::Sender, 1.0),
        (Thread::Receiver, 1.0),
        (Thread::Worker, 2.0),
    ];
    let speeds = threads.map(|(thread, count)| {
        let all = stages
            .iter()
            .filter(|stage| stage.thread == thread)
            .filter(belongs);
        (thread, count / all.map(Took::seconds_per_gb).sum::<f64>() * 1e3)
    });
    let shown = speeds.map(|(thread, speed)| format!("{} {speed:.0}", format!("{thread:?}").to_lowercase()));
    let slowest = speeds.iter().min_by(|a, b| a.1.total_cmp(&b.1));
    let slowest = slowest.map_or_else(String::new, |(thread, _)| format!("{thread:?}").to_lowercase());
    format!(
        "{name}: MB/s of the {}; the limit is the {slowest}\n",
        shown.join(", ")
    )
}
