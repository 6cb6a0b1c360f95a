//! What a session costs, from one receiver to ten thousand.
//!
//! Packets are as many a second as 1 Gbit/s carries, chunks have a thousand symbols, and every packet to the sender
//! and back has its real size; only the symbols have 16 bytes instead of 1,440. Bytes are told as they would be on
//! an Ethernet with real symbols, IP and UDP headers included.

use std::time::{Duration, Instant};

use simulcast_protocol::limits::SYMBOL_BYTES;
use simulcast_protocol::multicast::limits::DATA_HEADER_BYTES;
use simulcast_protocol::units::Rate;

use crate::meter::Spent;
use crate::outcome::{Count, Outcome};
use crate::scenario::{Image, Scenario, Spec};
use crate::world::run_measured;
use crate::{env, ms, packets_per_source};

/// IPv4 and UDP.
const HEADERS: u64 = 28;
const SYMBOLS: usize = 1_000;

/// `receivers` that each lose so many packets of a million, and `chunks` of a thousand symbols.
fn crowd(receivers: usize, ppm: u32, chunks: usize) -> Scenario {
    let mut spec = Spec::new(ppm);
    // As many chunks as 96 MB hold of real ones; a sender's 128 MB hold 88.
    spec.memory = 66 * 16 * 1_000;
    let mut scenario = Scenario::new(env("SIM_SEED").unwrap_or(3), receivers, spec);
    scenario.image = Image::new(3, 16, (0..chunks).map(|_| 16 * SYMBOLS));
    let gigabit = 1_000_000_000 / (u64::try_from(DATA_HEADER_BYTES + SYMBOL_BYTES).unwrap() + 66);
    let rate = Rate::from_bits_per_second(gigabit * scenario.image.wire());
    scenario = scenario.at_rate(rate);
    (scenario.segments, scenario.gather, scenario.join_spread) = (44, ms(250), ms(200));
    // The others' bytes are the same as long as nothing alters them; decoding all of them would take the time.
    scenario.judges = receivers.div_ceil(32).max(1);
    (scenario.limit, scenario.sender_memory) = (Duration::from_secs(600), 88 * 16 * 1_000);
    scenario
}

/// What a run cost, as it would be with real symbols.
#[derive(Debug)]
struct Cost {
    packets: f64,
    /// Bytes sent for each byte of the image.
    bytes: f64,
    /// Bytes sent in all.
    forward: f64,
    /// Return bytes for each byte sent.
    back: f64,
    /// Time from the first chunk to the last receiver, for each second that the image takes on the wire.
    time: f64,
}

impl Cost {
    fn of(outcome: &Outcome, scenario: &Scenario) -> Self {
        let image = &scenario.image;
        let sent = outcome.sender;
        let control = sent.bytes - sent.packets * u64::try_from(image.geometry.packet_bytes()).unwrap();
        let data = sent.packets * u64::try_from(DATA_HEADER_BYTES + SYMBOL_BYTES).unwrap();
        let forward = (control + data + HEADERS * (sent.packets + sent.control)) as f64;
        let payload = image.packets() * u64::try_from(SYMBOL_BYTES).unwrap();
        let took = outcome.finish.saturating_sub(scenario.gather);
        Self {
            packets: packets_per_source(outcome, image),
            bytes: forward / payload as f64,
            forward,
            back: with_headers(outcome.said.total()) as f64 / forward,
            time: took.as_secs_f64() / image.time(scenario.rate).as_secs_f64(),
        }
    }
}

fn with_headers(count: Count) -> u64 {
    count.bytes + HEADERS * count.packets
}

/// Runs and prints one line, and one that says what the receivers had to say.
fn measure(receivers: usize, ppm: u32, chunks: usize) -> (Cost, Outcome) {
    let scenario = crowd(receivers, ppm, chunks);
    let begun = Instant::now();
    let outcome = run_measured(scenario.clone());
    let wall = begun.elapsed().as_secs_f64();
    let cost = Cost::of(&outcome, &scenario);
    let Spent { cpu, calls, peak } = outcome.spent;
    let sender = cpu.as_secs_f64() / scenario.image.time(scenario.rate).as_secs_f64();
    println!(
        "{receivers:>6} receivers, {:.2} % loss, {chunks} chunks: {:.4} packets per source packet, {:.4} bytes per byte, \
         {:.5} back; {:.3} x the image's time; sender {:.1} % of a core ({:.0} ms in {calls} calls), {:.2} MB; \
         wall {wall:.1} s",
        f64::from(ppm) / 1e4,
        cost.packets,
        cost.bytes,
        cost.back,
        cost.time,
        sender * 100.0,
        cpu.as_secs_f64() * 1e3,
        peak as f64 / 1e6,
    );
    let kinds = outcome.said.kinds().map(|(kind, count)| {
        let bytes = with_headers(count) / count.packets.max(1);
        format!("{kind} {} x {bytes} B", count.packets)
    });
    println!(
        "{:>8}said: {}; suppressed {}, stale {}, deficits {}",
        "",
        kinds.join(", "),
        outcome
            .receivers
            .iter()
            .map(|stats| stats.suppressed)
            .sum::<u64>(),
        outcome.sender.stale,
        outcome.sender.deficits,
    );
    (cost, outcome)
}

/// What one-by-one repetition would cost at 1 % loss: 2.1 packets per source packet for a thousand receivers.
#[test]
fn the_cost_is_flat_in_the_number_of_receivers() {
    for (receivers, most) in [(8, 1.06), (100, 1.07)] {
        let (cost, _) = measure(receivers, 10_000, 32);
        assert!(cost.bytes <= most, "{cost:?} for {receivers} receivers");
    }
}

/// A few words at the beginning and the end of each receiver, and NAKs of a handful for each chunk, not of everyone.
#[test]
fn a_thousand_receivers_cost_hardly_more_and_say_little() {
    let (receivers, chunks) = (1_000, 24);
    let (cost, outcome) = measure(receivers, 10_000, chunks);
    assert!(cost.bytes <= 1.08, "{cost:?}");
    let said = outcome.said;
    let once = said.joins.packets + said.done.packets + said.regular.packets;
    let each = once / u64::try_from(receivers).unwrap();
    assert!(each <= 8, "{each} first, regular and last words of each receiver");
    let naks = with_headers(said.naks) + with_headers(said.urgent);
    assert!(
        naks as f64 <= cost.forward * 0.0015,
        "{naks} bytes of NAKs for {cost:?}"
    );
}

/// What a run of `SIM_CHUNKS` chunks costs for `SIM_RECEIVERS`; 746 chunks are 1 GiB.
#[test]
#[ignore = "minutes; run with SIM_RECEIVERS=10000 and --release"]
fn figures() {
    let receivers = usize::try_from(env("SIM_RECEIVERS").unwrap_or(1_000)).unwrap();
    let chunks = usize::try_from(env("SIM_CHUNKS").unwrap_or(32)).unwrap();
    for ppm in [0, 10_000, 50_000] {
        measure(receivers, ppm, chunks);
    }
}
