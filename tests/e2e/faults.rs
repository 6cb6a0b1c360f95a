//! One of three receivers in trouble: the others get everything, and it completes too, or says that it did not.

use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use simulcast_protocol::units::Rate;
use simulcast_testkit::netns::{Network, Offload, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::tier::{Feature, ready};

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Server, Site, on_disk};

const MIB: u64 = 1 << 20;
const BIG: u64 = 96 * MIB;

/// A server that sends 200 Mbit/s at most, and three nodes; the last is the one in trouble.
struct Lab {
    site: Site,
    server: Server,
    address: String,
    nodes: [Node; 3],
}

impl Lab {
    fn new(label: &str) -> Option<Self> {
        let features = [Feature::Root, Feature::Network, Feature::Loss, Feature::Rsync];
        if !ready("end to end", &features) {
            return None;
        }
        let site = Site::new(label, BIG);
        let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
        let machine = network.join("server", 1).unwrap();
        machine.set_offload(Offload::Segmented).unwrap();
        let mut command = site.settled(machine.command(site.program("si-server")));
        command.args(["--max-rate", "200Mbit"]);
        let server = site.started(machine.spawn("server", &mut command).unwrap());
        let address = format!("{}:9440", machine.address());
        let nodes = [11, 12, 13].map(|number| Node::join(&site, &network, number));
        Some(Self {
            site,
            server,
            address,
            nodes,
        })
    }

    /// Starts all three; `transport` is that of the last.
    fn start(&self, transport: &str) -> [Process; 3] {
        let [first, second, third] = &self.nodes;
        [(first, "multicast"), (second, "multicast"), (third, transport)]
            .map(|(node, transport)| node.receive(&self.site, &self.address, transport))
    }

    /// Waits until the first node has written a third of the large file.
    fn third(&self, running: &mut [Process; 3]) {
        let big = self.nodes[0].target.join("big.bin");
        let written = |_: &Process| Ok((on_disk(&big) >= BIG / 3).then_some(()));
        running[0].wait_until("a third of it", LIMIT, written).unwrap();
    }

    /// The two others must be complete, and got everything by multicast.
    fn others(&self, running: [Process; 3]) -> Outcome {
        let stored = self.site.stored_bytes();
        let outcomes = running.map(Outcome::of_process);
        for (node, outcome) in self.nodes.iter().zip(&outcomes[..2]) {
            let bytes = outcome.done()["bytes_multicast"].as_u64();
            assert_eq!(
                bytes,
                Some(stored),
                "{}: {}",
                node.namespace.name(),
                outcome.stderr
            );
            self.site.assert_same(&node.target);
        }
        let [.., third] = outcomes;
        third
    }

    /// The node in trouble must be complete; what it says of its transports.
    fn complete(&self, outcome: &Outcome) -> Value {
        let done = outcome.done().clone();
        self.site.assert_same(&self.nodes[2].target);
        done
    }
}

#[test]
fn a_receiver_that_is_killed_is_reported_and_completes_when_it_is_started_again() {
    let Some(lab) = Lab::new("fault-killed") else {
        return;
    };
    let mut running = lab.start("multicast");
    lab.third(&mut running);
    running[2].kill();
    let outcome = lab.others(running);
    assert_eq!(outcome.code, None, "it was killed");
    let mut server = lab.server.process;
    let says = |process: &Process| Ok(process.stderr().contains("lacking=1").then_some(()));
    server.wait_until("a summary that names it", LIMIT, says).unwrap();
    let again = Outcome::of_process(lab.nodes[2].receive(&lab.site, &lab.address, "auto"));
    let done = again.done();
    let reused = done["chunks_reused"].as_u64().unwrap();
    assert!(reused > 3, "what it had is not fetched again: {done}");
    lab.site.assert_same(&lab.nodes[2].target);
}

#[test]
fn a_receiver_that_stands_still_for_three_seconds_completes() {
    let Some(lab) = Lab::new("fault-frozen") else {
        return;
    };
    let mut running = lab.start("auto");
    lab.third(&mut running);
    running[2].signal(Signal::STOP).unwrap();
    sleep(Duration::from_secs(3));
    running[2].signal(Signal::CONT).unwrap();
    let outcome = lab.others(running);
    lab.complete(&outcome);
}

#[test]
fn a_link_that_is_down_for_a_second_costs_its_own_receiver_only() {
    let Some(lab) = Lab::new("fault-link") else { return };
    let mut running = lab.start("auto");
    lab.third(&mut running);
    lab.nodes[2].namespace.set_connected(false).unwrap();
    sleep(Duration::from_secs(1));
    lab.nodes[2].namespace.set_connected(true).unwrap();
    let outcome = lab.others(running);
    lab.complete(&outcome);
}

#[test]
fn a_port_at_a_tenth_of_the_rate_is_served_by_peers() {
    let Some(lab) = Lab::new("fault-port") else { return };
    let slow: Rate = "20Mbit".parse().unwrap();
    lab.nodes[2].namespace.set_downlink_rate(slow).unwrap();
    let outcome = lab.others(lab.start("auto"));
    let done = lab.complete(&outcome);
    assert!(
        outcome.stderr.contains("less than half of what the others"),
        "it is told why: {}",
        outcome.stderr
    );
    assert!(done["bytes_bittorrent"].as_u64() > Some(BIG / 2), "{done}");
}

#[test]
fn a_line_that_loses_thirty_per_cent_completes_after_the_others() {
    let Some(lab) = Lab::new("fault-loss") else { return };
    lab.nodes[2].namespace.set_loss(30.0).unwrap();
    let outcome = lab.others(lab.start("auto"));
    lab.complete(&outcome);
}

#[test]
fn payload_altered_behind_the_checksum_reaches_no_disk() {
    let Some(lab) = Lab::new("fault-payload") else {
        return;
    };
    lab.nodes[2].alter(1.0);
    let outcome = lab.others(lab.start("auto"));
    lab.complete(&outcome);
    let tagged = lab
        .server
        .process
        .stderr()
        .contains("somebody forges data packets");
    assert!(
        tagged,
        "the session goes over to tags: {}",
        lab.server.process.stderr()
    );
}
