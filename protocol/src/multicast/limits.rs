//! Bounds of the multicast protocol, each with its reason. Those of chunks and symbols stand in [`crate::limits`].

use std::time::Duration;

use crate::units::Rate;

/// Bytes before the symbol in a data packet: 32 and 1,440 fill an Ethernet frame of 1,500 bytes exactly.
pub const DATA_HEADER_BYTES: usize = 32;

/// Smallest symbol of a session. Sixteen keeps simulations cheap; real sessions use 1,440 or more.
pub const SYMBOL_BYTES_MIN: usize = 16;

/// Largest symbol of a session: a jumbo frame of 9,000 bytes less IP, UDP and our header, rounded down to even 64.
pub const SYMBOL_BYTES_MAX: usize = 8_896;

/// Bytes of one control packet at most: what fits one Ethernet frame in IPv6 as well (1,500 - 40 - 8, rounded down).
pub const CONTROL_BYTES: usize = 1_440;

/// Bytes on an Ethernet wire around the payload of one UDP packet, which the pacing counts: preamble, header, check
/// sum and gap of the frame (38), IPv4 (20) and UDP (8).
pub const WIRE_OVERHEAD_BYTES: u64 = 66;

/// Receivers of one session. 10,000 is the largest group we simulate; each costs the sender about 100 bytes.
pub const RECEIVERS: usize = 16_384;

/// Chunks whose symbols are sent in turn: a burst of 32 lost packets then costs each chunk two or three symbols.
pub const WINDOW_CHUNKS: usize = 16;

/// Chunks that are sent in turn at least, however slow the line is.
pub const WINDOW_LEAST: usize = 2;

/// Time in which the chunks that are sent in turn go at the present rate: longer than any burst of loss that is to be spread
/// over several, and no longer than it takes to find out that a rate is too much, so that not all of them lack more than
/// parity can make.
pub const WINDOW_TIME: Duration = Duration::from_secs(1);

/// Stored bytes of the chunks that are sent in turn, unless a single one is larger: receivers hold all of them.
pub const WINDOW_BYTES: u64 = 32 << 20;

/// Places of the window that repairs may take while chunks wait that somebody lacks entirely: a receiver that asks
/// for repairs without end takes at most this share from the others.
pub const WINDOW_REPAIRS: usize = WINDOW_CHUNKS / 2;

/// Chunks that the sender asks its driver for at the same time.
pub const LOADS: usize = 8;

/// Packets in one transmission at most: what Linux takes in one call with segmentation offload (UDP_MAX_SEGMENTS).
pub const SEGMENTS: usize = 64;

/// Time that one batch of packets may take at the current rate. Longer batches would overflow small switch buffers.
pub const BATCH_TIME: Duration = Duration::from_millis(1);

/// Credit that pacing may save up: a sleeping driver wakes late by up to about a millisecond on a busy machine.
pub const PACING_BURST: Duration = Duration::from_millis(2);

/// A deficit of more symbols than this is answered by source symbols: so much parity would be nearly all there is.
pub const PARITY_DEFICIT: u16 = 192;

/// Receivers that lack something from which on parity is sent unasked: with fewer, chunks reach all of them often enough.
pub const CROWD: u32 = 16;

/// Parity symbols sent unasked with one chunk at most: a quarter of all there are.
pub const UNASKED: u16 = 64;

/// How long the sender collects NAKs for a chunk before it answers the worst of them once for all.
pub const AGGREGATION: Duration = Duration::from_millis(4);

/// Time between two announces when nothing urges: 20 a second are 0.2 % of 100 Mbit/s.
pub const ANNOUNCE_PERIOD: Duration = Duration::from_millis(50);

/// Time between two announces at least, when a plan changed and waiting receivers should know.
pub const ANNOUNCE_SOON: Duration = Duration::from_millis(5);

/// Plans in one announce: with 8 bytes each it stays one packet.
pub const PLANS: usize = 128;

/// Chunks that cannot be read, named in one announce; with more, the announces name them by turns.
pub const UNREADABLE: usize = 32;

/// Regular reports of all receivers together, per second: 100 bytes each make 20 kB/s.
pub const REPORTS_PER_SECOND: u32 = 200;

/// Time between two regular reports of one receiver at least, however few receivers there are: as fast as the rate
/// should follow what they can.
pub const REPORT_PERIOD_MIN: Duration = Duration::from_millis(10);

/// The same for five receivers and more, and for all at a rate below [`REPORT_RATE`].
pub const REPORT_PERIOD_USUAL: Duration = Duration::from_millis(50);

/// The rate from which on a hundred reports a second are less than a thousandth of the data.
pub const REPORT_RATE: Rate = Rate::from_bits_per_second(100_000_000);

/// Time between two urgent reports of one receiver at least (fill or drops rising), for groups of up to 20.
pub const URGENT_PERIOD_MIN: Duration = Duration::from_millis(20);

/// Time between two urgent reports of one receiver for each receiver in the group: 1,000 a second from all together.
pub const URGENT_PERIOD_EACH: Duration = Duration::from_millis(1);

/// A receiver that nobody heard for this long, and for three report periods, is silent: it holds back nobody.
pub const SILENCE_MIN: Duration = Duration::from_secs(2);

/// NAK window of a small group and of a large one: receivers spread their NAKs over it, the worst first.
pub const NAK_WINDOW: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(50));

/// Receivers from which on the NAK window is the long one.
pub const NAK_WINDOW_RECEIVERS: u32 = 500;

/// Packets of other chunks after which a chunk counts as quiet: with 16 chunks in turn, one that is still being sent
/// comes again within 16 packets; four times that tolerates reordering.
pub const QUIET_PACKETS: u64 = 64;

/// First time that a receiver waits for an answer to a NAK before it repeats it; doubled with each repetition.
pub const NAK_RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Runs of wants in one report: 10 bytes each, so that one packet holds them.
pub const WANTS: usize = 128;

/// NAKs in one report, and runs of whole chunks in one report: together [`WANTS`].
pub const NAKS: usize = WANTS / 2;

/// Bytes of a report's bitmap: with [`NAKS`] runs it fills one packet. One bitmap states 5,120 chunks, so a version
/// of usual size is stated whole by each report.
pub const BITMAP_BYTES: usize = 640;

/// Chunks that a receiver holds incomplete at the same time, apart from its byte budget: bounds the bookkeeping.
pub const OPEN_CHUNKS: usize = 1_024;

/// Times that a chunk may fail its hash before the receiver gives it up to another transport.
pub const REJECTIONS: u8 = 2;

/// Announcements of the end, and the time between them: 10 over one second reach a receiver at 30 % loss for certain.
pub const FINS: (u32, Duration) = (10, Duration::from_millis(100));

/// Final reports of a receiver at most, and the time between them, until an announce says that one was heard. When all
/// are lost, that costs the session only the silence bound.
pub const DONE_REPORTS: (u32, Duration) = (4, Duration::from_millis(30));

/// Events that may wait for the driver. Past this the oldest joining and parting notices are dropped.
pub const EVENTS: usize = 65_536;

/// Chunks that one report names at most, except for a receiver's first: bounds the sender's work for one packet.
pub const REPORT_CHUNKS: usize = BITMAP_BYTES * 8;

/// Queues as full as this (30 %) make a receiver say so at once, and slow the sender.
pub const FILL_HIGH: u8 = 77;

/// With so much of a receiver's memory (50 %) taken by chunks whose hash is to be checked, it takes no more packets: the rest
/// is for the chunks that are being sent.
pub const FILL_JUDGED: u8 = 128;

/// With queues as full as this (70 %) a receiver is about to lose what comes.
pub const FILL_FULL: u8 = 179;

/// Packets from which on loss can be told: one lost of 200 is half a per cent.
pub const SAMPLE_PACKETS: u64 = 200;

/// Time over which loss is told at least: shorter ones say more of the driver's batches than of the network.
pub const SAMPLE_TIME: Duration = Duration::from_millis(5);

/// Time that packets wait on their way at most, beyond what they did at best, before the rate is raised: deep queues of slow
/// lines lose nothing until they are full, half a second late.
pub const QUEUE_TIME: Duration = Duration::from_millis(100);

/// Loss, in millionths, beyond what is usual for a receiver that it reports at once, and that may slow the sender.
pub const LOSS_NOTICED_PPM: u64 = 20_000;

/// Loss, in millionths, beyond that of the median receiver that makes a straggler, whatever the rate: parity for one
/// would cost everybody else a tenth of their time.
pub const STRAGGLER_LOSS_PPM: u64 = 100_000;

/// How long a receiver may be a straggler before it is sent to another transport.
pub const STRAGGLER_TIME: Duration = Duration::from_secs(1);

/// Time without complaint after which a straggler is one no more.
pub const STRAGGLER_CALM: Duration = Duration::from_millis(500);

/// Stragglers that one announce sends away.
pub const PARTED: usize = 16;

/// Receivers whose last word one announce confirms: with everything else that it may hold, it stays one packet.
pub const CONFIRMED: usize = 32;

/// How often each of them is told.
pub const PARTED_TIMES: u32 = 10;
