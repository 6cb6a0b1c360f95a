//! The virtual world: a heap of events, a clock that jumps from one to the next, and the network between both ends.

use std::cmp::Ordering;
use std::collections::{BTreeSet, BinaryHeap};
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::multicast::{Batch, Load, Reason, ReceiverId, Sender, SessionId, SessionKey, Time};

use crate::attack::Attacker;
use crate::checks::Checks;
use crate::meter::Meter;
use crate::net::Flight;
use crate::node::Node;
use crate::outcome::{Outcome, Said, describe};
use crate::scenario::{Scenario, Spec};

/// Events after which a run counts as a live-lock: ten times what the largest takes.
const MOST_STEPS: u64 = 500_000_000;
/// Time between two looks at who gets on.
const CENSUS: Duration = Duration::from_millis(100);

/// What happens at a moment.
pub(crate) enum Event {
    SenderWake,
    SenderRestart,
    Loaded(u64, Load),
    Arrive(Place, Flight),
    Join(usize),
    Crash(usize),
    Thaw(usize),
    ReceiverWake(usize, u64),
    Verified(usize, u64),
    Fetched(usize, u64, u32),
    Rejoin(usize, u64),
    Lie(usize),
    Attack,
    Poison,
    Census,
}

/// Where packets arrive.
#[derive(Clone, Copy)]
pub(crate) enum Place {
    /// A switch, on the way to the receivers.
    Switch(usize),
    /// A receiver in one of its lives.
    Node(usize, u64),
    /// A switch, on the way to the sender.
    Up(usize),
    Sender,
}

struct Scheduled {
    time: Time,
    order: u64,
    event: Event,
}

pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) now: Time,
    heap: BinaryHeap<Scheduled>,
    order: u64,
    pub(crate) rng: Xoshiro256PlusPlus,
    pub(crate) sender: Sender,
    pub(crate) meter: Meter,
    pub(crate) session: u64,
    pub(crate) sender_wake: Option<Time>,
    pub(crate) finished: Option<(Reason, Time)>,
    pub(crate) silent: BTreeSet<ReceiverId>,
    pub(crate) parted: BTreeSet<ReceiverId>,
    pub(crate) slowest: u64,
    pub(crate) nodes: Vec<Node>,
    /// Receivers and switches that hang on each switch.
    ports: Vec<Rc<[usize]>>,
    below: Vec<Rc<[usize]>>,
    pub(crate) attacker: Attacker,
    pub(crate) checks: Checks,
    pub(crate) said: Said,
    pub(crate) transmission: (Batch, Vec<u8>),
    pub(crate) report: Vec<u8>,
    ids: u64,
}

pub(crate) fn key(session: u64) -> SessionKey {
    SessionKey::from_bytes([u8::try_from(session % 200).unwrap(); 32])
}

pub(crate) fn session_id(session: u64) -> SessionId {
    SessionId(u32::try_from(session).unwrap())
}

/// Runs a scenario to its end and checks what must hold in every run.
pub(crate) fn run(scenario: Scenario) -> Outcome {
    World::new(scenario, false).run()
}

/// The same, and measures what the sender costs.
pub(crate) fn run_measured(scenario: Scenario) -> Outcome {
    World::new(scenario, true).run()
}

impl World {
    fn new(scenario: Scenario, measured: bool) -> Self {
        let mut meter = Meter::new(measured);
        let sender = meter.run(|| Self::new_sender(&scenario, Time::ZERO, 1));
        let switches = scenario.switches.len();
        let ports = hanging(switches, scenario.receivers.iter().map(|spec| Some(spec.switch)));
        let below = hanging(switches, scenario.switches.iter().map(|switch| switch.above));
        let chunks = scenario.image.count();
        let mut world = Self {
            now: Time::ZERO,
            heap: BinaryHeap::new(),
            order: 0,
            rng: Xoshiro256PlusPlus::seed_from_u64(scenario.seed ^ 0x5eed),
            sender,
            meter,
            session: 1,
            sender_wake: None,
            finished: None,
            silent: BTreeSet::new(),
            parted: BTreeSet::new(),
            slowest: u64::MAX,
            nodes: scenario
                .receivers
                .iter()
                .map(|spec| Node::new(spec, chunks))
                .collect(),
            ports,
            below,
            attacker: Attacker::default(),
            checks: Checks::new(&scenario),
            said: Said::default(),
            transmission: Default::default(),
            report: Vec::new(),
            ids: 0,
            scenario,
        };
        world.schedule();
        world
    }

    fn schedule(&mut self) {
        let start = Time::ZERO;
        self.at(start, Event::SenderWake);
        self.at(start + CENSUS, Event::Census);
        if self.scenario.attack > 0 {
            self.at(start, Event::Attack);
        }
        if self.scenario.poison > 0 {
            self.at(start, Event::Poison);
        }
        for index in 0..self.nodes.len() {
            let Spec {
                join, crash, freeze, ..
            } = self.nodes[index].spec;
            self.at(start + join, Event::Join(index));
            if let Some((at, back)) = crash {
                self.at(start + join + at, Event::Crash(index));
                if let Some(back) = back {
                    self.at(start + join + at + back, Event::Join(index));
                }
            }
            if let Some((_, to)) = freeze {
                self.at(start + to, Event::Thaw(index));
            }
        }
        if let Some(at) = self.scenario.sender_restart {
            self.at(start + at, Event::SenderRestart);
        }
    }

    pub(crate) fn at(&mut self, time: Time, event: Event) {
        self.order += 1;
        self.heap.push(Scheduled {
            time,
            order: self.order,
            event,
        });
    }

    /// A number for a receiver that was never given before.
    pub(crate) fn new_id(&mut self, index: usize) -> ReceiverId {
        self.ids += 1;
        ReceiverId(u64::try_from(index).unwrap() << 32 | self.ids)
    }

    fn run(mut self) -> Outcome {
        while let Some(Scheduled { time, order, event }) = self.heap.pop() {
            assert!(time >= self.now, "time goes forward");
            self.now = time;
            let limit = self.scenario.limit;
            assert!(
                time.since_start() <= limit,
                "not over after {limit:?}: {}",
                self.state()
            );
            assert!(
                order < MOST_STEPS,
                "no end after {order} events: {}",
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
        if let Event::ReceiverWake(index, _) | Event::Verified(index, _) | Event::Fetched(index, ..) = event
            && let Some(thaw) = self.nodes[index].frozen(self.now)
        {
            return self.at(thaw, event);
        }
        match event {
            Event::SenderWake => {
                self.sender_wake = None;
                self.meter.run(|| self.sender.handle_timeout(self.now));
                self.drain_sender();
            }
            Event::SenderRestart => self.restart_sender(),
            Event::Loaded(session, load) if session == self.session => self.loaded(&load),
            Event::Loaded(..) => {}
            Event::Arrive(place, flight) => self.arrive(place, flight),
            Event::Join(index) => self.join(index),
            Event::Crash(index) => self.nodes[index].crash(),
            Event::Thaw(index) => self.thaw(index),
            Event::ReceiverWake(index, life) => self.woken(index, life),
            Event::Verified(index, life) => self.verified(index, life),
            Event::Fetched(index, life, chunk) => self.fetched(index, life, chunk),
            Event::Rejoin(index, life) => self.rejoin(index, life),
            Event::Lie(index) => self.lie(index),
            Event::Attack => self.attack(),
            Event::Poison => self.poison(),
            Event::Census => self.census(),
        }
    }

    /// Looks at who gets on, and ends a session that liars would keep open for ever.
    fn census(&mut self) {
        let gained = self
            .nodes
            .iter()
            .fold(0u64, |sum, node| sum.wrapping_add(node.gained()));
        let waits = self.nodes.iter().any(|node| node.waits(self.now));
        let (sender, nodes) = (&self.sender, &self.nodes);
        self.checks
            .progress(self.now, gained, waits, || describe(sender, nodes));
        let liars = self.nodes.iter().any(|node| node.liar.is_some());
        let over = |node: &Node| {
            let gone = node.machine.is_none() && self.now.since_start() > node.spec.last_return();
            node.liar.is_some() || node.done_at.is_some() || gone
        };
        if liars && self.nodes.iter().all(over) {
            self.sender.stop(self.now);
            self.drain_sender();
        }
        self.at(self.now + CENSUS, Event::Census);
    }

    /// Packets go on from one place to the next: at once, or later.
    pub(crate) fn carry(&mut self, time: Time, place: Place, flight: Flight) {
        if time <= self.now {
            self.arrive(place, flight);
        } else {
            self.at(time, Event::Arrive(place, flight));
        }
    }

    fn arrive(&mut self, place: Place, flight: Flight) {
        let (now, mut out) = (self.now, Vec::new());
        match place {
            Place::Switch(switch) => {
                for &child in Rc::clone(&self.below[switch]).iter() {
                    self.scenario.switches[child]
                        .down
                        .pass(now, &flight, &mut self.rng, &mut out);
                    out.drain(..)
                        .for_each(|(time, flight)| self.carry(time, Place::Switch(child), flight));
                }
                for &index in Rc::clone(&self.ports[switch]).iter() {
                    let node = &mut self.nodes[index];
                    if node.machine.is_some() {
                        let life = node.life;
                        node.spec.down.pass(now, &flight, &mut self.rng, &mut out);
                        out.drain(..)
                            .for_each(|(time, flight)| self.carry(time, Place::Node(index, life), flight));
                    }
                }
            }
            Place::Node(index, life) => self.receive(index, life, flight),
            Place::Up(switch) => {
                let next = self.scenario.switches[switch]
                    .above
                    .map_or(Place::Sender, Place::Up);
                self.scenario.switches[switch]
                    .up
                    .pass(now, &flight, &mut self.rng, &mut out);
                out.drain(..)
                    .for_each(|(time, flight)| self.carry(time, next, flight));
            }
            Place::Sender => {
                for packet in flight.packets() {
                    self.hear(packet);
                }
                self.drain_sender();
            }
        }
    }

    fn attack(&mut self) {
        let symbol = self.scenario.image.geometry.symbol_bytes();
        let packet = self
            .attacker
            .invent(session_id(self.session), symbol, &mut self.rng);
        let target = self.rng.random_range(0..=self.nodes.len());
        let place = self
            .nodes
            .get(target)
            .map_or(Place::Sender, |node| Place::Node(target, node.life));
        if !packet.is_empty() {
            self.arrive(place, Flight::single(&packet));
        }
        let period = Duration::from_secs(1) / self.scenario.attack;
        self.at(self.now + period, Event::Attack);
    }

    fn poison(&mut self) {
        let symbol = self.scenario.image.geometry.symbol_bytes();
        if let Some(packet) = self
            .attacker
            .poison(session_id(self.session), symbol, &mut self.rng)
        {
            self.arrive(Place::Switch(0), Flight::single(&packet));
        }
        let period = Duration::from_secs(1) / self.scenario.poison;
        self.at(self.now + period, Event::Poison);
    }
}

/// What hangs on each switch, by number; of each thing the switch that it hangs on.
fn hanging(switches: usize, on: impl Iterator<Item = Option<usize>>) -> Vec<Rc<[usize]>> {
    let mut all = vec![Vec::new(); switches];
    for (index, switch) in on.enumerate() {
        if let Some(switch) = switch {
            all[switch].push(index);
        }
    }
    all.into_iter().map(Rc::from).collect()
}

impl Ord for Scheduled {
    /// The earliest is the greatest, so that the heap gives it first; of the same moment, the one planned first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.time, other.order).cmp(&(self.time, self.order))
    }
}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Scheduled {}
