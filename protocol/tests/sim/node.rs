//! One receiver as the world sees it: the machine, its socket, its disk, and how they drive each other.

use std::collections::VecDeque;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use simulcast_protocol::multicast::limits::CONTROL_BYTES;
use simulcast_protocol::multicast::packet::Report;
use simulcast_protocol::multicast::{
    ChunkSet, Gathered, Reason, Receiver, ReceiverConfig, ReceiverEvent, ReceiverId, Time,
};

use crate::liar::Liar;
use crate::net::Flight;
use crate::scenario::Spec;
use crate::world::{Event, Place, World, key, session_id};

/// Chunks that the queue before the disk takes until it is full: 32 MiB of chunks of a thousand real symbols.
const QUEUE: usize = 22;
/// Time until a chunk that multicast gave up came another way.
const ELSEWHERE: Duration = Duration::from_millis(50);

/// One receiver. `life` counts its starts, so that events of an earlier life are void.
pub(crate) struct Node {
    pub(crate) spec: Spec,
    pub(crate) machine: Option<Receiver>,
    pub(crate) liar: Option<Liar>,
    pub(crate) id: ReceiverId,
    pub(crate) life: u64,
    have: ChunkSet,
    queue: VecDeque<Gathered>,
    socket: VecDeque<Flight>,
    socket_bytes: u64,
    drops: u64,
    told_drops: u64,
    wake: Option<Time>,
    pub(crate) done_at: Option<Time>,
    /// Whether its last session brought, or gave up, all that it lacked.
    pub(crate) content: bool,
    /// Why its session ended before it was complete.
    pub(crate) ended: Option<Reason>,
    pub(crate) fetched: u64,
    pub(crate) rejected: u64,
}

impl Node {
    pub(crate) fn new(spec: &Spec, chunks: u32) -> Self {
        let mut have = ChunkSet::empty(chunks);
        spec.have.iter().for_each(|&chunk| _ = have.insert(chunk));
        Self {
            spec: spec.clone(),
            machine: None,
            liar: None,
            id: ReceiverId(0),
            life: 0,
            have,
            queue: VecDeque::new(),
            socket: VecDeque::new(),
            socket_bytes: 0,
            drops: 0,
            told_drops: 0,
            wake: None,
            done_at: None,
            content: false,
            ended: None,
            fetched: 0,
            rejected: 0,
        }
    }

    pub(crate) fn alive(&mut self, life: u64) -> Option<&mut Receiver> {
        if self.life == life {
            self.machine.as_mut()
        } else {
            None
        }
    }

    /// Whether nothing more will come of it.
    pub(crate) fn rests(&self) -> bool {
        let spoken = |machine: &Receiver| machine.is_finished() && self.queue.is_empty();
        self.machine.as_ref().is_none_or(spoken)
    }

    /// Whether it lacks something, and a packet sent now would be read.
    pub(crate) fn waits(&self, now: Time) -> bool {
        let reachable =
            self.frozen(now).is_none() && !self.spec.down.is_down(now) && !self.spec.up.is_down(now);
        reachable && self.done_at.is_none() && self.machine.is_some()
    }

    /// Until when it does nothing.
    pub(crate) fn frozen(&self, now: Time) -> Option<Time> {
        let (from, to) = self.spec.freeze?;
        (from..to)
            .contains(&now.since_start())
            .then(|| Time::from_start(to))
    }

    pub(crate) fn crash(&mut self) {
        self.life += 1;
        self.machine = None;
        self.queue.clear();
        self.socket.clear();
        (self.socket_bytes, self.drops, self.told_drops) = (0, 0, 0);
    }

    /// A number that changes with every symbol that it could use.
    pub(crate) fn gained(&self) -> u64 {
        let stats = self.machine.as_ref().map(Receiver::stats).unwrap_or_default();
        stats.symbols + u64::from(self.have.count())
    }

    /// Keeps packets in the socket's buffer while nobody reads them.
    pub(crate) fn keep(&mut self, flight: Flight) {
        if self.socket_bytes + flight.wire() > self.spec.socket {
            self.drops += flight.count();
        } else {
            self.socket_bytes += flight.wire();
            self.socket.push_back(flight);
        }
    }

    fn fill(&self) -> u8 {
        let queue = (self.queue.len() * 255 / QUEUE).min(255);
        let socket = (self.socket_bytes * 255 / self.spec.socket.max(1)).min(255);
        u8::try_from(queue).unwrap().max(u8::try_from(socket).unwrap())
    }
}

impl World {
    pub(crate) fn join(&mut self, index: usize) {
        let id = self.new_id(index);
        let session = self.session;
        let node = &mut self.nodes[index];
        node.life += 1;
        node.id = id;
        if let Some(lie) = node.spec.lies {
            node.liar = Some(Liar::new(lie));
            return self.at(self.now, Event::Lie(index));
        }
        let mut missing = ChunkSet::full(self.scenario.image.count());
        node.have.iter().for_each(|chunk| _ = missing.remove(chunk));
        let config = ReceiverConfig {
            session: session_id(session),
            receiver: id,
            keys: key(session).receiver_keys(id),
            geometry: self.scenario.image.geometry.clone(),
            memory: node.spec.memory,
            silence: Duration::from_secs(3600),
            join_spread: self.scenario.join_spread,
        };
        let rng = Xoshiro256PlusPlus::seed_from_u64(self.rng.random());
        node.machine = Some(Receiver::new(self.now, config, missing, rng));
        (node.wake, node.done_at, node.ended) = (None, None, None);
        node.content = false;
        self.drain_receiver(index);
    }

    pub(crate) fn rejoin(&mut self, index: usize, life: u64) {
        let (now, session, id) = (self.now, self.session, self.new_id(index));
        let node = &mut self.nodes[index];
        if let Some(machine) = node.alive(life) {
            machine.rejoin(now, session_id(session), id, key(session).receiver_keys(id));
            (node.id, node.ended) = (id, None);
            self.drain_receiver(index);
        }
    }

    /// A liar speaks, in the session that there is.
    pub(crate) fn lie(&mut self, index: usize) {
        let (session, count) = (self.session, self.scenario.image.count());
        let node = &mut self.nodes[index];
        let Some(liar) = &mut node.liar else { return };
        let report = liar.report(session_id(session), node.id, count, &mut self.rng);
        let mut packet = Vec::new();
        report.encode(&key(session).receiver(node.id), &mut packet);
        self.send_up(index, &packet);
        self.at(self.now + Duration::from_millis(1), Event::Lie(index));
    }

    /// Packets reach a receiver's socket.
    pub(crate) fn receive(&mut self, index: usize, life: u64, flight: Flight) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if node.frozen(now).is_some() && node.life == life {
            node.keep(flight);
        } else if let Some(machine) = node.alive(life) {
            flight
                .packets()
                .for_each(|packet| machine.handle_packet(now, packet));
            self.drain_receiver(index);
        }
    }

    /// A receiver that was frozen reads what its socket kept.
    pub(crate) fn thaw(&mut self, index: usize) {
        while let Some(flight) = self.nodes[index].socket.pop_front() {
            self.nodes[index].socket_bytes -= flight.wire();
            let life = self.nodes[index].life;
            self.receive(index, life, flight);
        }
        self.drain_receiver(index);
    }

    pub(crate) fn drain_receiver(&mut self, index: usize) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let fill = node.fill();
        let Some(machine) = &mut node.machine else { return };
        machine.load(now, fill, node.drops);
        let mut packet = std::mem::take(&mut self.report);
        while let Some(machine) = &mut self.nodes[index].machine
            && machine.poll_transmit(now, &mut packet)
        {
            self.say(index, &packet);
        }
        self.report = packet;
        let node = &mut self.nodes[index];
        let (life, machine) = (node.life, node.machine.as_mut().unwrap());
        if let Some(wake) = machine.poll_timeout() {
            let wake = wake.max(now + Duration::from_nanos(1));
            if node.wake.is_none_or(|at| wake < at) {
                node.wake = Some(wake);
                self.at(wake, Event::ReceiverWake(index, life));
            }
        }
        self.take_events(index);
        let node = &mut self.nodes[index];
        let peak = node.machine.as_ref().unwrap().stats().memory_peak;
        self.checks.receiver(index, peak, node.spec.memory);
        if node.have.count() == self.scenario.image.count() && node.done_at.is_none() {
            node.done_at = Some(now);
        }
    }

    fn take_events(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let (life, sink_time) = (node.life, node.spec.sink_time);
        while let Some(event) = self.nodes[index].machine.as_mut().and_then(Receiver::poll_event) {
            let node = &mut self.nodes[index];
            match event {
                ReceiverEvent::Gathered(gathered) => {
                    node.queue.push_back(gathered);
                    if node.queue.len() == 1 {
                        self.at(self.now + sink_time, Event::Verified(index, life));
                    }
                }
                ReceiverEvent::GaveUp(chunk) => {
                    self.at(self.now + ELSEWHERE, Event::Fetched(index, life, chunk));
                }
                ReceiverEvent::Parted => {
                    let missing: Vec<u32> = node
                        .machine
                        .iter()
                        .flat_map(|machine| machine.missing().iter())
                        .collect();
                    for chunk in missing {
                        self.at(self.now + ELSEWHERE, Event::Fetched(index, life, chunk));
                    }
                }
                ReceiverEvent::Complete => node.content = true,
                ReceiverEvent::Finished(reason) => node.ended = Some(reason),
                ReceiverEvent::Silent => panic!("the sender was not silent for an hour"),
            }
        }
    }

    /// A report leaves a receiver.
    fn say(&mut self, index: usize, packet: &[u8]) {
        assert!(packet.len() <= CONTROL_BYTES, "a report fits a packet");
        let node = &mut self.nodes[index];
        let body = key(self.session).receiver(node.id).open(packet);
        // A receiver that did not yet hear of a restart speaks to the session before.
        if let Some(report) = body.map(|body| Report::decode(body).unwrap()) {
            let urgent = node.drops > node.told_drops || report.fill >= 77;
            node.told_drops = node.drops;
            self.said.count(&report, packet.len(), urgent);
            self.checks.said(self.now, self.nodes.len());
        }
        if self.scenario.attack > 0 {
            self.attacker.hear(packet);
        }
        self.send_up(index, packet);
    }

    fn send_up(&mut self, index: usize, packet: &[u8]) {
        let node = &mut self.nodes[index];
        let switch = node.spec.switch;
        let mut out = Vec::new();
        node.spec
            .up
            .pass(self.now, &Flight::single(packet), &mut self.rng, &mut out);
        out.into_iter()
            .for_each(|(time, flight)| self.carry(time, Place::Up(switch), flight));
    }

    /// The oldest chunk in the queue was checked.
    pub(crate) fn verified(&mut self, index: usize, life: u64) {
        let now = self.now;
        let judges = index.is_multiple_of(self.scenario.judges);
        let node = &mut self.nodes[index];
        if node.alive(life).is_none() {
            return;
        }
        let gathered = node.queue.pop_front().expect("what is checked is in the queue");
        let chunk = gathered.index();
        let good = !judges
            || gathered
                .decode()
                .is_ok_and(|bytes| self.checks.accepts(chunk, &bytes));
        let machine = node.machine.as_mut().unwrap();
        if good {
            let new = node.have.insert(chunk);
            assert!(new || node.fetched > 0, "chunk {chunk} came twice");
            machine.accept(now, chunk);
        } else {
            node.rejected += 1;
            machine.reject(now, chunk);
        }
        if !node.queue.is_empty() {
            let at = now + node.spec.sink_time;
            self.at(at, Event::Verified(index, life));
        }
        self.drain_receiver(index);
    }

    /// A chunk that multicast gave up came another way.
    pub(crate) fn fetched(&mut self, index: usize, life: u64, chunk: u32) {
        let now = self.now;
        let node = &mut self.nodes[index];
        if let Some(machine) = node.alive(life) {
            machine.have(now, chunk);
            node.have.insert(chunk);
            node.fetched += 1;
            self.drain_receiver(index);
        }
    }

    pub(crate) fn woken(&mut self, index: usize, life: u64) {
        let now = self.now;
        if let Some(machine) = self.nodes[index].alive(life) {
            machine.handle_timeout(now);
            self.nodes[index].wake = None;
            self.drain_receiver(index);
        }
    }
}
