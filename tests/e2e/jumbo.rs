//! Jumbo frames: where all can have them, and where some cannot.

use serde_json::Value;
use simulcast_testkit::command;
use simulcast_testkit::netns::{INTERFACE, Namespace, Network, Offload, Snooping};
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Server, Site, on_disk};

const MIB: u64 = 1 << 20;
const ADDRESS: &str = "10.77.0.1:9440";

/// A server that can send jumbo frames.
struct Jumbo<'run> {
    network: Network<'run>,
    machine: Namespace,
    server: Server,
}

impl<'run> Jumbo<'run> {
    fn new(site: &'run Site, arguments: &[&str]) -> Self {
        let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
        let machine = network.join("server", 1).unwrap();
        machine.set_mtu(9000, 9000).unwrap();
        machine.set_offload(Offload::Segmented).unwrap();
        let mut command = site.settled(machine.command(site.program("si-server")));
        command.args(arguments);
        let server = site.started(machine.spawn("server", &mut command).unwrap());
        Self {
            network,
            machine,
            server,
        }
    }

    /// A node with an interface for packets of `machine` bytes, on a port for those of `port` bytes.
    fn node(&self, site: &Site, number: u8, machine: u32, port: u32) -> Node {
        let node = Node::join(site, &self.network, number);
        node.namespace.set_mtu(machine, port).unwrap();
        node
    }

    /// The sessions that are not ending, when they are as `wanted` says.
    fn sessions(&self, site: &Site, what: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let token = site.token();
        let found = wait::until(what, LIMIT, || {
            let (_, body) = self.machine.enter(|| self.server.ask(&token, "GET /v1/status"))?;
            let status: Value = serde_json::from_slice(&body)?;
            let sessions = status["sessions"].as_array().unwrap().iter();
            let sessions: Vec<Value> = sessions
                .filter(|session| session["state"] != "ending")
                .cloned()
                .collect();
            Ok(wanted(&sessions).then_some(sessions))
        });
        found.unwrap()
    }
}

/// Checks that a node got all of `stored` bytes by multicast.
fn assert_got(site: &Site, node: &Node, outcome: &Outcome) {
    let name = node.namespace.name();
    assert_eq!(
        outcome.done()["bytes_multicast"],
        site.stored_bytes(),
        "{name}: {}",
        outcome.stderr
    );
    site.assert_same(&node.target);
}

fn can_run() -> bool {
    ready("end to end", &[Feature::Root, Feature::Network, Feature::Rsync])
}

#[test]
fn long_packets_are_sent_where_everybody_takes_them() {
    if !can_run() {
        return;
    }
    let site = Site::new("jumbo", 40 * MIB);
    let lab = Jumbo::new(&site, &["--max-rate", "80Mbit"]);
    let nodes = [11, 12].map(|number| lab.node(&site, number, 9000, 9000));
    // One whose own interface is for usual packets comes when half of it is sent: it gets a session of its own.
    let small = lab.node(&site, 13, 1500, 1500);
    // One whose port does not carry what its interface promises. TCP must not promise it, or nothing would come at all.
    let hidden = lab.node(&site, 14, 9000, 1500);
    let route = [
        "route",
        "replace",
        "10.77.0.0/24",
        "dev",
        INTERFACE,
        "advmss",
        "1400",
    ];
    command::run(hidden.namespace.command("ip").args(route)).unwrap();
    let before = lab.machine.counters().unwrap();
    let mut running: Vec<_> = nodes
        .iter()
        .map(|node| node.receive(&site, ADDRESS, "multicast"))
        .collect();
    let big = nodes[0].target.join("big.bin");
    running[0]
        .wait_until("half of it", LIMIT, |_| {
            Ok((on_disk(&big) >= 20 * MIB).then_some(()))
        })
        .unwrap();
    let sent = lab.machine.counters().unwrap().since(before);
    let len = sent.sent_bytes / sent.sent_packets;
    assert!(len > 8_000, "packets of {len} bytes were sent");
    let sessions = lab.sessions(&site, "the session", |sessions| sessions.len() == 1);
    assert_eq!(sessions[0]["mtu"], 9000);
    let late = [&small, &hidden].map(|node| node.receive(&site, ADDRESS, "multicast"));
    // The one is told to at once, the other finds out.
    lab.sessions(&site, "both late ones in a second session", |sessions| {
        let mut usual = sessions.iter().filter(|session| session["mtu"] == 1500);
        usual.any(|session| session["receivers"] == 2)
    });
    for (node, process) in nodes.iter().zip(running) {
        assert_got(&site, node, &Outcome::of_process(process));
    }
    let [small_ended, hidden_ended] = late.map(Outcome::of_process);
    assert_got(&site, &small, &small_ended);
    assert_got(&site, &hidden, &hidden_ended);
    assert!(
        !small_ended.stderr.contains("joining again"),
        "{}",
        small_ended.stderr
    );
    let told = "do not reach this machine; joining again";
    assert!(hidden_ended.stderr.contains(told), "{}", hidden_ended.stderr);
}

#[test]
fn one_node_for_usual_packets_in_time_means_usual_packets_for_all() {
    if !can_run() {
        return;
    }
    let site = Site::new("mixed", 24 * MIB);
    let lab = Jumbo::new(&site, &["--max-rate", "200Mbit", "--min-receivers", "3"]);
    let nodes = [11, 12].map(|number| lab.node(&site, number, 9000, 9000));
    let small = lab.node(&site, 13, 1500, 1500);
    let before = lab.machine.counters().unwrap();
    let mut running: Vec<_> = nodes
        .iter()
        .map(|node| (node, node.receive(&site, ADDRESS, "multicast")))
        .collect();
    let two = |sessions: &[Value]| sessions.len() == 1 && sessions[0]["receivers"] == 2;
    let sessions = lab.sessions(&site, "two that wait", two);
    assert_eq!(
        (&sessions[0]["mtu"], &sessions[0]["state"]),
        (&9000.into(), &"waiting".into())
    );
    running.push((&small, small.receive(&site, ADDRESS, "multicast")));
    let three = |sessions: &[Value]| sessions.len() == 1 && sessions[0]["receivers"] == 3;
    let sessions = lab.sessions(&site, "three together", three);
    assert_eq!(sessions[0]["mtu"], 1500);
    for (node, process) in running {
        assert_got(&site, node, &Outcome::of_process(process));
    }
    // One transmission served all.
    let (sent, stored) = (
        lab.machine.counters().unwrap().since(before).sent_bytes,
        site.stored_bytes(),
    );
    assert!(sent < stored * 12 / 10, "{sent} bytes were sent for {stored}");
}
