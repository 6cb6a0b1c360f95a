//! Measures a multicast session over veth pairs and a bridge, to memory: goodput, packets per source packet, CPU time.
//!
//! `cargo run --release -p simulcast-transport --example multicast -- [--receivers N] [--mb N] [--rate R]
//! [--loss PERMILLE] [--no-offload] [--segment] [--runs N]` (needs root; makes and removes network namespaces).
//! `--segment` has packets cut at the sender's device, as where the NIC cannot; only then does loss hit single ones.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a measuring program: it prints, or it failed"
)]

#[path = "../tests/netns/lab.rs"]
mod lab;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lab::{Chunks, Lab, Memory, can_run};
use simulcast_protocol::multicast::ChunkSet;
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_transport::multicast::{
    Cancel, ReceiverConfig, SenderConfig, SenderHandle, SenderSession, receive,
};
use simulcast_transport::udp::Interface;

struct Options {
    receivers: usize,
    megabytes: usize,
    rate: Rate,
    loss: u32,
    offload: bool,
    segment: bool,
    runs: usize,
}

fn options() -> Options {
    let mut options = Options {
        receivers: 1,
        megabytes: 512,
        rate: Rate::from_bits_per_second(40_000_000_000),
        loss: 0,
        offload: true,
        segment: false,
        runs: 3,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
        match name.as_str() {
            "--receivers" => options.receivers = value().parse().unwrap(),
            "--mb" => options.megabytes = value().parse().unwrap(),
            "--rate" => options.rate = value().parse().unwrap(),
            "--loss" => options.loss = value().parse().unwrap(),
            "--runs" => options.runs = value().parse().unwrap(),
            "--no-offload" => options.offload = false,
            "--segment" => options.segment = true,
            _ => panic!("{name} is not an option"),
        }
    }
    options
}

fn main() {
    if !can_run() {
        return;
    }
    let options = options();
    let lab = Lab::new("m", options.receivers + 1);
    if options.segment {
        lab.segment_at_device(0);
    }
    if options.loss > 0 {
        (1..=options.receivers).for_each(|machine| lab.lose(machine, options.loss));
    }
    let chunks = Chunks::random(7, (0..options.megabytes / 2).map(|_| 2_000_000));
    for run in 1..=options.runs {
        measure(run, &lab, &options, &chunks);
    }
}

fn measure(run: usize, lab: &Lab, options: &Options, chunks: &Arc<Chunks>) {
    let start = || {
        lab.enter(0);
        let address = lab.address(0);
        let (group, control) = ("239.255.77.1:7700".parse().unwrap(), (address, 0).into());
        let table = Arc::clone(&chunks.table);
        let mut config = SenderConfig::new(Interface::Address(address), group, control, table);
        (config.rate, config.offload) = (options.rate, options.offload);
        config.min_receivers = u32::try_from(options.receivers).unwrap();
        config.linger = Duration::ZERO;
        SenderSession::start(config, Arc::<Chunks>::clone(chunks)).unwrap()
    };
    let sender = std::thread::scope(|scope| scope.spawn(start).join().unwrap());
    let before = cpu_seconds();
    let sinks: Vec<Memory> = (0..options.receivers)
        .map(|_| Memory::new(&chunks.table))
        .collect();
    let done = AtomicUsize::new(0);
    let lost: (u64, u64) = std::thread::scope(|scope| {
        let get = |machine: usize| {
            let (sender, sinks, done): (&SenderHandle, _, _) = (&sender, &sinks, &done);
            move || {
                lab.enter(machine);
                let mut config =
                    ReceiverConfig::new(Interface::Address(lab.address(machine)), &sender.offer());
                config.workers = 1;
                let missing = ChunkSet::full(chunks.table.count());
                let sink = &sinks[machine - 1];
                let summary = receive(
                    &config,
                    Arc::clone(&chunks.table),
                    missing,
                    sink,
                    &Cancel::default(),
                )
                .unwrap();
                assert!(
                    chunks.are_in(sink) && sink.count() == chunks.table.chunks().len(),
                    "bit-exact: {summary:?}"
                );
                done.fetch_add(1, Ordering::Relaxed);
                (summary.drops, summary.stats.no_room)
            }
        };
        let threads: Vec<_> = (1..=options.receivers)
            .map(|machine| scope.spawn(get(machine)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    });
    let cpu = cpu_seconds() - before;
    let progress = sender.join().unwrap().progress;
    let took = sinks.iter().map(Memory::last).max().unwrap();
    let bytes = chunks.table.bytes();
    let speed = u64::try_from(u128::from(bytes) * 1_000_000_000 / took.as_nanos()).unwrap();
    let (stats, source) = (progress.stats, bytes.div_ceil(1440));
    println!(
        "run {run}: {}/s to {} receivers ({} in {took:.2?}), {}.{:04} packets per source packet, {} drops, {} without room, \
         {} parity, {} repeated, {} reports, {cpu:.2} CPU-s, offload {}, last rate {}",
        Bytes(speed),
        done.load(Ordering::Relaxed),
        Bytes(bytes),
        stats.packets / source,
        stats.packets % source * 10_000 / source,
        lost.0,
        lost.1,
        stats.parity,
        stats.repeated,
        stats.reports,
        progress.offload,
        progress.rate.unwrap(),
    );
}

/// CPU time of this process so far, user and system.
fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u32 = fields[11].parse::<u32>().unwrap() + fields[12].parse::<u32>().unwrap();
    f64::from(ticks) / 100.0
}
