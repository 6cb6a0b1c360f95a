//! Following, with a model of lines and disks: every 25 ms each receiver reports what came.

use super::*;
use crate::multicast::key::SessionId;
use crate::multicast::packet::Bitmap;
use crate::multicast::rate::RateControl;

const MILLION: u64 = 1_000_000;
const MBIT: u64 = 1_000_000;
const PERIOD: Duration = Duration::from_millis(25);

/// A receiver's line and disk.
#[derive(Clone, Copy)]
struct Line {
    /// What its port carries, in bits per second.
    port: u64,
    /// What it loses at any rate, in millionths.
    loss: u64,
    /// What its disk takes, in bits per second.
    disk: u64,
    received: u64,
    /// Bytes that wait for the disk, of the 64 MB that may.
    waiting: u64,
}

const GOOD: Line = Line {
    port: u64::MAX,
    loss: 0,
    disk: u64::MAX,
    received: 0,
    waiting: 0,
};

struct Model {
    lines: Vec<Option<Line>>,
    following: Following,
    rate: RateControl,
    now: Time,
    tx_seq: u64,
    seq: u64,
    history: History,
    parted: Vec<u64>,
    cuts: u32,
}

impl Model {
    fn new(max: u64, lines: &[Line]) -> Self {
        let rate = |bits| Rate::from_bits_per_second(bits);
        Self {
            lines: lines.iter().copied().map(Some).collect(),
            following: Following::default(),
            rate: RateControl::new(Time::ZERO, rate(MBIT), rate(max)),
            now: Time::ZERO,
            tx_seq: 0,
            seq: 0,
            history: History::default(),
            parted: Vec::new(),
            cuts: 0,
        }
    }

    /// Lets time pass and says how many megabits a second were sent on average.
    fn run(&mut self, time: Duration) -> u64 {
        self.run_exactly(time) / 1_000
    }

    /// The same in kilobits.
    fn run_exactly(&mut self, time: Duration) -> u64 {
        let (end, before) = (self.now + time, self.tx_seq);
        while self.now < end {
            self.step();
        }
        (self.tx_seq - before) * 12_000_000 / u64::try_from(time.as_micros()).unwrap()
    }

    fn step(&mut self) {
        self.rate.on_time(self.now, Duration::ZERO);
        let rate = self.rate.rate().bits_per_second();
        let packets = rate / 12_000 / 40;
        (self.now, self.tx_seq, self.seq) = (self.now + PERIOD, self.tx_seq + packets, self.seq + 1);
        self.history.note(self.now, self.tx_seq);
        let ids = 0u64..;
        let lines: Vec<(u64, Line)> = ids
            .zip(&self.lines)
            .filter_map(|(id, line)| Some((id, (*line)?)))
            .collect();
        for (id, mut line) in lines {
            let through = if rate > line.port {
                packets * line.port / rate
            } else {
                packets
            };
            line.received += through - through * line.loss / MILLION;
            let wanted = line.waiting + packets * 1_440;
            line.waiting = wanted.saturating_sub(line.disk / 8 / 40).min(64_000_000);
            self.lines[usize::try_from(id).unwrap()] = Some(line);
            self.report(id, line);
        }
        if self.seq.is_multiple_of(10) {
            let (advice, parted) =
                self.following
                    .census(self.now, self.history.lately(self.now, 1_500), PERIOD);
            self.take(advice);
            for id in parted {
                self.parted.push(id.0);
                self.lines[usize::try_from(id.0).unwrap()] = None;
            }
        }
    }

    fn report(&mut self, id: u64, line: Line) {
        let report = Report {
            join: false,
            poisoned: false,
            session: SessionId(1),
            seq: self.seq,
            receiver: ReceiverId(id),
            tx_seq: self.tx_seq,
            received: line.received,
            drops: 0,
            missing: 1,
            fill: u8::try_from(line.waiting * 255 / 64_000_000).unwrap(),
            wants: Vec::new(),
            bitmap: Bitmap::NONE,
        };
        let sending = Sending {
            now: self.now,
            rate: self.rate.rate(),
            guessed: !self.rate.heard(),
            tx_seq: self.tx_seq,
            history: &self.history,
            wire: 1_500,
        };
        let advice = self.following.on_report(&sending, &report);
        self.take(advice);
    }

    fn take(&mut self, advice: Advice) {
        match advice {
            Advice::Keep => {}
            Advice::Good => self.rate.followed(),
            Advice::Cut(limit, cause) => {
                self.cuts += 1;
                match cause {
                    Cause::Network => self.rate.cut_to_line(self.now, limit),
                    Cause::Queues => self.rate.cut(self.now, limit),
                }
            }
            Advice::Restore(before) => self.rate.restore(self.now, before),
        }
    }
}

fn port(mbit: u64) -> Line {
    Line {
        port: mbit * MBIT,
        ..GOOD
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn without_trouble_the_maximum_is_reached_and_kept() {
    let mut model = Model::new(10_000 * MBIT, &[GOOD; 3]);
    model.run(Duration::from_millis(250));
    assert!(model.run(seconds(2)) > 9_990);
    assert_eq!((model.cuts, model.parted.len()), (0, 0));
}

#[test]
fn a_line_that_all_share_is_found_and_filled() {
    for mbit in [10, 100, 1_000] {
        for count in [1, 2, 8] {
            let mut model = Model::new(10_000 * MBIT, &vec![port(mbit); count]);
            model.run(seconds(1));
            let found = model.run_exactly(seconds(10));
            let good = mbit * 940..mbit * 1_040;
            assert!(
                good.contains(&found),
                "{found} kbit/s of {mbit} Mbit/s for {count}"
            );
            assert!(model.parted.is_empty());
        }
    }
}

#[test]
fn loss_of_the_line_itself_slows_nobody() {
    for loss in [10_000, 50_000, 300_000] {
        for count in [1, 8] {
            let mut model = Model::new(1_000 * MBIT, &vec![Line { loss, ..GOOD }; count]);
            model.run(seconds(1));
            let found = model.run(seconds(5));
            assert!(found > 980, "{found} Mbit/s at {loss} millionths for {count}");
            assert!(
                model.parted.is_empty() && model.cuts < 6,
                "{} cuts at {loss} for {count}",
                model.cuts
            );
        }
    }
}

#[test]
fn a_port_at_a_tenth_is_left_behind_without_a_cut() {
    for others in [1, 2, 7] {
        let mut lines = vec![GOOD; others];
        lines.push(port(100));
        let mut model = Model::new(1_000 * MBIT, &lines);
        model.run(Duration::from_millis(150));
        let found = model.run(seconds(3));
        assert!(found > 980, "{found} Mbit/s with {others} others");
        assert_eq!(model.parted, [u64::try_from(others).unwrap()]);
    }
}

#[test]
fn a_port_at_two_thirds_is_waited_for() {
    let mut model = Model::new(1_000 * MBIT, &[GOOD, GOOD, GOOD, port(667)]);
    model.run(seconds(1));
    let found = model.run(seconds(5));
    assert!((620..700).contains(&found), "{found}");
    assert!(model.parted.is_empty());
}

#[test]
fn one_line_that_loses_much_waits_for_the_others() {
    let bad = Line {
        loss: 300_000,
        ..GOOD
    };
    let mut model = Model::new(1_000 * MBIT, &[GOOD, GOOD, bad]);
    model.run(Duration::from_millis(500));
    let found = model.run(seconds(3));
    assert!(found > 980, "{found}");
    assert!(model.following.is_straggler(ReceiverId(2)) && model.parted.is_empty());
    for done in [0, 1] {
        model.lines[done] = None;
        model.following.forget(ReceiverId(u64::try_from(done).unwrap()));
    }
    model.run(seconds(1));
    assert!(!model.following.is_straggler(ReceiverId(2)), "now it is its turn");
}

#[test]
fn a_slow_disk_is_waited_for_down_to_half_the_pace() {
    let disk = |mbit: u64| Line {
        disk: mbit * MBIT,
        ..GOOD
    };
    let mut model = Model::new(1_000 * MBIT, &[GOOD, GOOD, disk(700)]);
    model.run(seconds(3));
    let found = model.run(seconds(5));
    assert!((560..760).contains(&found), "{found}");
    assert!(model.parted.is_empty());

    let mut model = Model::new(1_000 * MBIT, &[GOOD, GOOD, disk(100)]);
    model.run(seconds(5));
    assert_eq!(model.parted, [2]);
    assert!(model.run(seconds(2)) > 990);
}

#[test]
fn whoever_is_alone_is_never_a_straggler() {
    let mut model = Model::new(1_000 * MBIT, &[GOOD, port(50)]);
    model.run(Duration::from_millis(700));
    model.lines[0] = None;
    model.following.forget(ReceiverId(0));
    model.run(seconds(2));
    let found = model.run(seconds(5));
    assert!((46..53).contains(&found), "{found}");
    assert!(model.parted.is_empty());
}
