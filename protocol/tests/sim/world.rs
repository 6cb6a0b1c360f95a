//! The virtual world: a heap of events, a clock that jumps from one to the next, and the checks on each.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::multicast::limits::PACING_BURST;
use simulcast_protocol::multicast::{
    ChunkSet, Load, Reason, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, Sender, SenderConfig,
    SenderEvent, SessionId, SessionKey, Time,
};

use crate::attack::Attacker;
use crate::outcome::Outcome;
use crate::scenario::{Scenario, Spec};

/// Events after which a run counts as a live-lock: ten times what the largest takes.
const MOST_STEPS: u64 = 50_000_000;

/// What happens at a moment.
enum Event {
    SenderWake,
    SenderRestart,
    Loaded(u64, Load),
    ToSender(Vec<u8>),
    Join(usize),
    Crash(usize),
    /// Packets of one batch that reach a receiver together.
    ToReceiver(usize, u64, Vec<Rc<[u8]>>),
    ReceiverWake(usize, u64),
    /// The oldest chunk in the receiver's queue was checked.
    Verified(usize, u64),
    /// A chunk that multicast gave up came another way.
    Fetched(usize, u64, u32),
    Rejoin(usize, u64),
    Attack,
}

/// One receiver as the world sees it. `life` counts its starts, so that events of an earlier life are void.
struct Node {
    spec: Spec,
    machine: Option<Receiver>,
    life: u64,
    disk: BTreeMap<u32, Vec<u8>>,
    queue: Vec<(u32, Result<Vec<u8>, ()>)>,
    wake: Option<Time>,
    done_at: Option<Time>,
    fetched: u64,
    peak: u64,
    rejected: u64,
    reports: u64,
    report_bytes: u64,
}

pub(crate) struct World {
    scenario: Scenario,
    now: Time,
    heap: BinaryHeap<Reverse<(Time, u64)>>,
    events: BTreeMap<u64, Event>,
    next: u64,
    rng: Xoshiro256PlusPlus,
    sender: Sender,
    session: u64,
    sender_wake: Option<Time>,
    finished: Option<(Reason, Time)>,
    silent: BTreeSet<ReceiverId>,
    parted: BTreeSet<ReceiverId>,
    nodes: Vec<Node>,
    attacker: Attacker,
    /// Bytes above the rate at the last transmission.
    bucket: f64,
    bucket_at: Time,
}

fn key(session: u64) -> SessionKey {
    SessionKey::from_bytes([u8::try_from(session % 200).unwrap(); 32])
}

fn session_id(session: u64) -> SessionId {
    SessionId(u32::try_from(session).unwrap())
}

/// Runs a scenario to its end and checks what must hold in every run.
pub(crate) fn run(scenario: Scenario) -> Outcome {
    World::new(scenario).run()
}

impl World {
    fn new(scenario: Scenario) -> Self {
        let rng = Xoshiro256PlusPlus::seed_from_u64(scenario.seed ^ 0x5eed);
        let node = |spec: &Spec| Node {
            disk: spec
                .have
                .iter()
                .map(|&index| {
                    (
                        index,
                        scenario.image.chunks[usize::try_from(index).unwrap()].clone(),
                    )
                })
                .collect(),
            spec: spec.clone(),
            machine: None,
            life: 0,
            queue: Vec::new(),
            wake: None,
            done_at: None,
            fetched: 0,
            peak: 0,
            rejected: 0,
            reports: 0,
            report_bytes: 0,
        };
        let mut world = Self {
            now: Time::ZERO,
            heap: BinaryHeap::new(),
            events: BTreeMap::new(),
            next: 0,
            rng,
            sender: Self::new_sender(&scenario, Time::ZERO, 1),
            session: 1,
            sender_wake: None,
            finished: None,
            silent: BTreeSet::new(),
            parted: BTreeSet::new(),
            nodes: scenario.receivers.iter().map(node).collect(),
            attacker: Attacker::default(),
            bucket: 0.0,
            bucket_at: Time::ZERO,
            scenario,
        };
        world.at(Time::ZERO, Event::SenderWake);
        if world.scenario.attack {
            world.at(Time::ZERO, Event::Attack);
        }
        for index in 0..world.nodes.len() {
            let spec = world.nodes[index].spec.clone();
            world.at(Time::ZERO + spec.join, Event::Join(index));
            if let Some((at, back)) = spec.crash {
                world.at(Time::ZERO + spec.join + at, Event::Crash(index));
                if let Some(back) = back {
                    world.at(Time::ZERO + spec.join + at + back, Event::Join(index));
                }
            }
        }
        if let Some(at) = world.scenario.sender_restart {
            world.at(Time::ZERO + at, Event::SenderRestart);
        }
        world
    }

    fn new_sender(scenario: &Scenario, now: Time, session: u64) -> Sender {
        let return_of = |spec: &Spec| {
            let crash = spec
                .crash
                .map_or(Duration::ZERO, |(at, back)| at + back.unwrap_or_default());
            let link = spec.down.down.map_or(Duration::ZERO, |(_, up)| up);
            (spec.join + crash).max(link)
        };
        let last = scenario.receivers.iter().map(return_of).max().unwrap_or_default();
        let config = SenderConfig {
            session: session_id(session),
            key: key(session),
            geometry: scenario.image.geometry.clone(),
            rate_max: scenario.rate,
            rate_min: simulcast_protocol::units::Rate::from_bits_per_second(
                scenario.rate.bits_per_second() / 64,
            ),
            min_receivers: 1,
            max_wait: Duration::ZERO,
            // Open until the last one has come, so that a run does not depend on who happens to be done first.
            gather: Duration::ZERO,
            join_wait: last + Duration::from_secs(5),
            linger: last + Duration::from_millis(1_500),
            memory: scenario.sender_memory,
            max_segments: scenario.segments,
        };
        Sender::new(now, config)
    }

    fn at(&mut self, time: Time, event: Event) {
        self.next += 1;
        self.events.insert(self.next, event);
        self.heap.push(Reverse((time, self.next)));
    }

    fn run(mut self) -> Outcome {
        let mut steps = 0u64;
        while let Some(Reverse((time, id))) = self.heap.pop() {
            assert!(time >= self.now, "time goes forward");
            self.now = time;
            assert!(
                time.since_start() <= self.scenario.limit,
                "not over after {:?}: {}",
                self.scenario.limit,
                self.state()
            );
            let event = self.events.remove(&id).unwrap();
            steps += 1;
            assert!(
                steps < MOST_STEPS,
                "no end after {steps} events: {}",
                self.state()
            );
            self.step(event);
            if self.finished.is_some() && self.nodes.iter().all(Node::rests) {
                break;
            }
        }
        self.outcome()
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::SenderWake => {
                self.sender_wake = None;
                self.sender.handle_timeout(self.now);
                self.drain_sender();
            }
            Event::SenderRestart => self.restart_sender(),
            Event::Loaded(session, load) => {
                if session == self.session {
                    self.loaded(&load);
                }
            }
            Event::ToSender(packet) => {
                self.sender.handle_packet(self.now, &packet);
                self.drain_sender();
            }
            Event::Join(index) => self.join(index),
            Event::Crash(index) => {
                let node = &mut self.nodes[index];
                node.life += 1;
                node.machine = None;
                node.queue.clear();
            }
            Event::ToReceiver(index, life, packets) => {
                if let Some(machine) = self.nodes[index].alive(life) {
                    packets
                        .iter()
                        .for_each(|packet| machine.handle_packet(self.now, packet));
                    self.drain_receiver(index);
                }
            }
            Event::ReceiverWake(index, life) => {
                if let Some(machine) = self.nodes[index].alive(life) {
                    machine.handle_timeout(self.now);
                    self.nodes[index].wake = None;
                    self.drain_receiver(index);
                }
            }
            Event::Verified(index, life) => self.verified(index, life),
            Event::Fetched(index, life, chunk) => {
                let bytes = self.scenario.image.chunks[usize::try_from(chunk).unwrap()].clone();
                let now = self.now;
                if let Some(machine) = self.nodes[index].alive(life) {
                    machine.have(now, chunk);
                    self.nodes[index].disk.insert(chunk, bytes);
                    self.nodes[index].fetched += 1;
                    self.drain_receiver(index);
                }
            }
            Event::Attack => self.attack(),
            Event::Rejoin(index, life) => {
                let (now, session) = (self.now, self.session);
                let id = ReceiverId(u64::try_from(index).unwrap() << 32 | self.next);
                if let Some(machine) = self.nodes[index].alive(life) {
                    machine.rejoin(now, session_id(session), id, key(session).receiver_keys(id));
                    self.drain_receiver(index);
                }
            }
        }
    }

    fn attack(&mut self) {
        let symbol = self.scenario.image.geometry.symbol_bytes();
        let packet = self
            .attacker
            .invent(session_id(self.session), symbol, &mut self.rng);
        let target = self.rng.random_range(0..=self.nodes.len());
        match self.nodes.get(target) {
            Some(node) => self.at(
                self.now,
                Event::ToReceiver(target, node.life, vec![Rc::from(packet)]),
            ),
            None => self.at(self.now, Event::ToSender(packet)),
        }
        self.at(self.now + Duration::from_millis(1), Event::Attack);
    }

    fn drain_sender(&mut self) {
        while let Some(load) = self.sender.poll_load() {
            let time = self.scenario.load_time * self.rng.random_range(500..1500) / 1000;
            let session = self.session;
            self.at(self.now + time, Event::Loaded(session, load));
        }
        let mut buffer = Vec::new();
        while let Some(transmit) = self.sender.poll_transmit(self.now, &mut buffer) {
            self.check_rate(transmit.segment, transmit.count);
            self.multicast(transmit.segment, &buffer);
        }
        if let Some(wake) = self.sender.poll_timeout() {
            let wake = wake.max(self.now + Duration::from_nanos(1));
            if self.sender_wake.is_none_or(|at| wake < at) {
                self.sender_wake = Some(wake);
                self.at(wake, Event::SenderWake);
            }
        }
        while let Some(event) = self.sender.poll_event() {
            match event {
                SenderEvent::Finished(reason) => self.finished = Some((reason, self.now)),
                SenderEvent::Silent(id) => _ = self.silent.insert(id),
                SenderEvent::Parted(id) => _ = self.parted.insert(id),
                SenderEvent::Joined(_)
                | SenderEvent::Done(_)
                | SenderEvent::Started
                | SenderEvent::Tagged => {}
            }
        }
    }

    /// Checks that no window of time carries more than the set rate, the credit of pacing and one batch.
    fn check_rate(&mut self, segment: usize, count: usize) {
        let rate = self.scenario.rate.bits_per_second() as f64 / 8.0;
        let wire = ((segment + 66) * count) as f64;
        let passed = self.now.since(self.bucket_at).as_secs_f64();
        self.bucket = (self.bucket - rate * passed).max(0.0) + wire;
        self.bucket_at = self.now;
        let most = rate * PACING_BURST.as_secs_f64() + wire + 1.0;
        assert!(
            self.bucket <= most,
            "rate passed at {:?}: {} of {most} bytes",
            self.now,
            self.bucket
        );
    }

    fn multicast(&mut self, segment: usize, buffer: &[u8]) {
        let packets: Vec<Rc<[u8]>> = buffer.chunks(segment).map(Rc::from).collect();
        if self.scenario.attack {
            packets.iter().for_each(|packet| self.attacker.hear(packet));
        }
        for index in 0..self.nodes.len() {
            let node = &mut self.nodes[index];
            if node.machine.is_none() {
                continue;
            }
            let life = node.life;
            let mut arrivals: Vec<(Time, Vec<Rc<[u8]>>)> = Vec::new();
            for packet in &packets {
                for time in node.spec.down.pass(self.now, packet.len() + 66, &mut self.rng) {
                    let mut packet = Rc::clone(packet);
                    let mut copy = packet.to_vec();
                    if node.spec.down.spoil(&mut copy, &mut self.rng) {
                        packet = Rc::from(copy);
                    }
                    match arrivals.last_mut() {
                        Some((at, together)) if *at == time => together.push(packet),
                        _ => arrivals.push((time, vec![packet])),
                    }
                }
            }
            for (time, packets) in arrivals {
                self.at(time, Event::ToReceiver(index, life, packets));
            }
        }
    }

    fn loaded(&mut self, load: &Load) {
        let image = &self.scenario.image;
        let (chunks, unreadable) = (&image.chunks, &self.scenario.unreadable);
        let result = load.run(|index| match unreadable.contains(&index) {
            true => Err(std::io::Error::other("this disk has a hole")),
            false => Ok(chunks[usize::try_from(index).unwrap()].clone()),
        });
        match result {
            Ok(loaded) => self.sender.provide(self.now, loaded),
            Err(_) => self.sender.provide_failed(self.now, load.index()),
        }
        self.drain_sender();
    }

    fn restart_sender(&mut self) {
        self.session += 1;
        self.sender = Self::new_sender(&self.scenario, self.now, self.session);
        // The new one knows nothing of what the old one sent just before.
        (self.finished, self.sender_wake, self.bucket) = (None, None, 0.0);
        self.drain_sender();
        for index in 0..self.nodes.len() {
            if self.nodes[index].machine.is_some() {
                let (life, wait) = (self.nodes[index].life, self.rng.random_range(300..400));
                self.at(self.now + Duration::from_millis(wait), Event::Rejoin(index, life));
            }
        }
    }

    fn join(&mut self, index: usize) {
        let count = self.scenario.image.geometry.table().count();
        let mut missing = ChunkSet::full(count);
        let id = ReceiverId(u64::try_from(index).unwrap() << 32 | self.next);
        let node = &mut self.nodes[index];
        node.disk.keys().for_each(|&chunk| _ = missing.remove(chunk));
        node.life += 1;
        let config = ReceiverConfig {
            session: session_id(self.session),
            receiver: id,
            keys: key(self.session).receiver_keys(id),
            geometry: self.scenario.image.geometry.clone(),
            memory: node.spec.memory,
            silence: Duration::from_secs(3600),
            join_spread: Duration::from_millis(10),
        };
        let rng = Xoshiro256PlusPlus::seed_from_u64(self.rng.random());
        node.machine = Some(Receiver::new(self.now, config, missing, rng));
        (node.wake, node.done_at) = (None, None);
        self.drain_receiver(index);
    }

    fn drain_receiver(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let life = node.life;
        let Some(machine) = &mut node.machine else { return };
        let fill = u8::try_from((node.queue.len() * 255 / 8).min(255)).unwrap();
        machine.load(self.now, fill, 0);
        let (mut out, mut packet) = (Vec::new(), Vec::new());
        while machine.poll_transmit(self.now, &mut packet) {
            assert!(packet.len() <= 1440, "a report fits a packet");
            if self.scenario.attack {
                self.attacker.hear(&packet);
            }
            node.reports += 1;
            node.report_bytes += u64::try_from(packet.len()).unwrap();
            for time in node.spec.up.pass(self.now, packet.len() + 66, &mut self.rng) {
                let mut copy = packet.clone();
                node.spec.up.spoil(&mut copy, &mut self.rng);
                out.push((time, Event::ToSender(copy)));
            }
        }
        if let Some(wake) = machine.poll_timeout() {
            let wake = wake.max(self.now + Duration::from_nanos(1));
            if node.wake.is_none_or(|at| wake < at) {
                node.wake = Some(wake);
                out.push((wake, Event::ReceiverWake(index, life)));
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                ReceiverEvent::Gathered(gathered) => {
                    let chunk = gathered.index();
                    node.queue.push((chunk, gathered.decode().map_err(|_| ())));
                    if node.queue.len() == 1 {
                        out.push((self.now + node.spec.sink_time, Event::Verified(index, life)));
                    }
                }
                ReceiverEvent::GaveUp(chunk) => {
                    out.push((
                        self.now + Duration::from_millis(50),
                        Event::Fetched(index, life, chunk),
                    ));
                }
                ReceiverEvent::Parted => {
                    let left = machine
                        .missing()
                        .iter()
                        .map(|chunk| Event::Fetched(index, life, chunk));
                    out.extend(left.map(|event| (self.now + Duration::from_millis(50), event)));
                }
                ReceiverEvent::Complete => {}
                ReceiverEvent::Finished(reason) => assert_eq!(reason, Reason::Done),
                ReceiverEvent::Silent => panic!("the sender was not silent for an hour"),
            }
        }
        let stats = machine.stats();
        let largest = self.scenario.image.chunks.iter().map(Vec::len).max().unwrap();
        let bound = node
            .spec
            .memory
            .max(u64::try_from(2 * largest + 17 * 128).unwrap());
        assert!(
            stats.memory_peak <= bound,
            "receiver {index} held {} of {bound} bytes",
            stats.memory_peak
        );
        node.peak = node.peak.max(stats.memory_peak);
        if node.disk.len() == self.scenario.image.chunks.len() && node.done_at.is_none() {
            node.done_at = Some(self.now);
        }
        out.into_iter().for_each(|(time, event)| self.at(time, event));
    }

    fn verified(&mut self, index: usize, life: u64) {
        let table = self.scenario.image.geometry.table();
        let golden = &self.scenario.image.chunks;
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.alive(life).is_none() {
            return;
        }
        let (chunk, bytes) = node.queue.remove(0);
        let id = table.get(chunk).unwrap().id;
        let good = bytes.as_ref().is_ok_and(|bytes| ChunkId::of(bytes) == id);
        let machine = node.machine.as_mut().unwrap();
        if good {
            let bytes = bytes.unwrap();
            assert_eq!(
                bytes,
                golden[usize::try_from(chunk).unwrap()],
                "a wrong byte was accepted"
            );
            assert!(
                node.disk.insert(chunk, bytes).is_none() || node.fetched > 0,
                "chunk {chunk} came twice"
            );
            machine.accept(now, chunk);
        } else {
            node.rejected += 1;
            machine.reject(now, chunk);
        }
        if !node.queue.is_empty() {
            let at = self.now + node.spec.sink_time;
            self.at(at, Event::Verified(index, life));
        }
        self.drain_receiver(index);
    }

    fn state(&self) -> String {
        let missing: Vec<String> = self
            .nodes
            .iter()
            .map(|node| match &node.machine {
                Some(machine) => format!("{} missing {:?}", machine.missing().count(), machine.stats()),
                None => "dead".to_owned(),
            })
            .collect();
        format!(
            "{:?}\n{:?}\n{}",
            self.sender.stats(),
            self.sender.rate(),
            missing.join("\n")
        )
    }

    fn outcome(self) -> Outcome {
        let (reason, ended) = self
            .finished
            .unwrap_or_else(|| panic!("the session does not end: {}", self.state()));
        assert_eq!(reason, Reason::Done);
        for (index, node) in self.nodes.iter().enumerate() {
            assert!(
                node.machine.is_none() || node.done_at.is_some(),
                "receiver {index} is not complete: {}",
                self.state()
            );
        }
        let done: Vec<Option<Duration>> = self
            .nodes
            .iter()
            .map(|node| node.done_at.map(Time::since_start))
            .collect();
        Outcome {
            sender: self.sender.stats(),
            ended: ended.since_start(),
            finish: done.iter().flatten().max().copied().unwrap_or_default(),
            done,
            receivers: self
                .nodes
                .iter()
                .filter_map(|node| node.machine.as_ref())
                .map(Receiver::stats)
                .collect(),
            fetched: self.nodes.iter().map(|node| node.fetched).sum(),
            rejected: self.nodes.iter().map(|node| node.rejected).sum(),
            reports: self.nodes.iter().map(|node| node.reports).sum(),
            report_bytes: self.nodes.iter().map(|node| node.report_bytes).sum(),
            silent: self.silent.len(),
        }
    }
}

impl Node {
    fn alive(&mut self, life: u64) -> Option<&mut Receiver> {
        if self.life == life {
            self.machine.as_mut()
        } else {
            None
        }
    }

    /// Whether nothing more will come of it.
    fn rests(&self) -> bool {
        self.machine
            .as_ref()
            .is_none_or(|machine| machine.is_finished() && self.queue.is_empty())
    }
}
