//! The sender's side of the world: its loads, its transmissions, its restart.

use std::time::Duration;

use rand::RngExt;
use simulcast_protocol::multicast::packet::Report;
use simulcast_protocol::multicast::{Load, Sender, SenderConfig, SenderEvent, Time};

use crate::net::Flight;
use crate::scenario::{Scenario, Spec};
use crate::world::{Event, Place, World, key, session_id};

impl World {
    pub(crate) fn new_sender(scenario: &Scenario, now: Time, session: u64) -> Sender {
        let last = scenario
            .receivers
            .iter()
            .map(Spec::last_return)
            .max()
            .unwrap_or_default();
        let config = SenderConfig {
            session: session_id(session),
            key: key(session),
            geometry: scenario.image.geometry.clone(),
            rate_max: scenario.rate,
            rate_min: scenario.rate_min,
            min_receivers: 1,
            max_wait: scenario.gather,
            // Open until the last one has come, so that a run does not depend on who happens to be done first.
            gather: scenario.gather,
            join_wait: last + Duration::from_secs(5),
            linger: last + Duration::from_millis(1_500),
            memory: scenario.sender_memory,
            max_segments: scenario.segments,
        };
        Sender::new(now, config)
    }

    /// A packet reaches the sender.
    pub(crate) fn hear(&mut self, packet: &[u8]) {
        let key = Report::peek_receiver(packet).map(|id| key(self.session).receiver(id));
        let report = key.ok().and_then(|key| Report::decode(key.open(packet)?).ok());
        if let Some(report) = report.filter(|report| report.session == session_id(self.session)) {
            self.checks.reported(&report);
        }
        self.meter.run(|| self.sender.handle_packet(self.now, packet));
    }

    pub(crate) fn drain_sender(&mut self) {
        let now = self.now;
        while let Some(load) = self.meter.run(|| self.sender.poll_load()) {
            let time = self.scenario.load_time * self.rng.random_range(500..1500) / 1000;
            self.at(now + time, Event::Loaded(self.session, load));
        }
        let (mut batch, mut buffer) = std::mem::take(&mut self.transmission);
        while self.meter.run(|| self.sender.poll_transmit(now, &mut batch)) {
            batch.copy_to(&mut buffer);
            assert_eq!(buffer.len(), batch.segment() * batch.count());
            self.checks.transmitted(now, buffer.len(), batch.count());
            self.multicast(&Flight::new(&buffer, batch.segment()));
        }
        self.transmission = (batch, buffer);
        if let Some(wake) = self.meter.run(|| self.sender.poll_timeout()) {
            let wake = wake.max(now + Duration::from_nanos(1));
            if self.sender_wake.is_none_or(|at| wake < at) {
                self.sender_wake = Some(wake);
                self.at(wake, Event::SenderWake);
            }
        }
        while let Some(event) = self.meter.run(|| self.sender.poll_event()) {
            match event {
                SenderEvent::Finished(reason) => self.finished = Some((reason, now)),
                SenderEvent::Silent(id) => _ = self.silent.insert(id),
                SenderEvent::Parted(id) => _ = self.parted.insert(id),
                SenderEvent::Joined(_)
                | SenderEvent::Done(_)
                | SenderEvent::Started
                | SenderEvent::Tagged => {}
            }
        }
        self.checks.sender(&self.sender.stats());
        self.slowest = self.slowest.min(self.sender.rate().bits_per_second());
    }

    fn multicast(&mut self, flight: &Flight) {
        let key = key(self.session);
        for packet in flight.packets() {
            self.checks.packet(packet, &key);
            if self.scenario.attack + self.scenario.poison > 0 {
                self.attacker.hear(packet);
            }
        }
        let mut out = Vec::new();
        self.scenario.switches[0]
            .down
            .pass(self.now, flight, &mut self.rng, &mut out);
        out.into_iter()
            .for_each(|(time, flight)| self.carry(time, Place::Switch(0), flight));
    }

    pub(crate) fn loaded(&mut self, load: &Load) {
        let (image, unreadable) = (&self.scenario.image, &self.scenario.unreadable);
        let result = self.meter.keep(|| {
            load.run(|index| match unreadable.contains(&index) {
                true => Err(std::io::Error::other("this disk has a hole")),
                false => Ok(image.bytes(index).to_vec()),
            })
        });
        let (sender, now) = (&mut self.sender, self.now);
        self.meter.run(|| match result {
            Ok(loaded) => sender.provide(now, loaded),
            Err(_) => sender.provide_failed(now, load.index()),
        });
        self.drain_sender();
    }

    pub(crate) fn restart_sender(&mut self) {
        self.session += 1;
        self.sender = Self::new_sender(&self.scenario, self.now, self.session);
        (self.finished, self.sender_wake) = (None, None);
        self.checks.restart();
        self.drain_sender();
        for index in 0..self.nodes.len() {
            if self.nodes[index].machine.is_some() {
                let (life, wait) = (self.nodes[index].life, self.rng.random_range(300..400));
                self.at(self.now + Duration::from_millis(wait), Event::Rejoin(index, life));
            }
        }
    }
}
