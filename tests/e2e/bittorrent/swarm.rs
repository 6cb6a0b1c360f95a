//! Our own nodes.

use std::time::Duration;

use simulcast_testkit::command::run;
use simulcast_testkit::netns::{Network, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::tier::{Feature, ready};

use super::{MIB, Yard, assert_from_peers, complete, ended};
use crate::node::Node;
use crate::site::{LIMIT, Outcome, Site, on_disk};

const FEATURES: &[Feature] = &[
    Feature::Root,
    Feature::Network,
    Feature::Loss,
    Feature::Rsync,
    Feature::Shaping,
];

#[test]
fn one_four_and_eight_nodes_get_everything_from_peers() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("swarm", 60 * MIB);
    let yard = Yard::new(&site);
    yard.machine.set_uplink_rate("400Mbit".parse().unwrap()).unwrap();
    let stored = site.stored_bytes();
    for (first, count) in [(11, 1), (21, 4), (31, 8)] {
        let nodes: Vec<Node> = (first..first + count).map(|number| yard.node(number)).collect();
        for node in &nodes {
            node.namespace
                .set_uplink_rate("400Mbit".parse().unwrap())
                .unwrap();
        }
        let before = yard.seeded();
        let running: Vec<Process> = nodes
            .iter()
            .map(|node| yard.receive(node, "bittorrent", &[]))
            .collect();
        for (node, process) in nodes.iter().zip(running) {
            let outcome = ended(process);
            assert_from_peers(&site, &node.target, &outcome);
            assert!(
                outcome.peak_memory < 400 * MIB,
                "{} bytes of memory",
                outcome.peak_memory
            );
        }
        let sent = yard.seeded() - before;
        // The server is never asked for padding; how much less than a copy for each it sends, time decides, but one copy
        // for each is no swarm.
        assert!(sent >= stored, "{sent} bytes of {stored} for {count} nodes");
        if count == 1 {
            assert!(sent < stored * 11 / 10, "{sent} bytes of {stored} for one node");
        } else {
            assert!(
                sent < stored * u64::from(count) / 2,
                "{sent} bytes of {stored} for {count} nodes"
            );
        }
    }
}

#[test]
fn a_node_that_multicast_does_not_reach_gets_the_rest_from_peers_and_says_so() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("auto-peers", 40 * MIB);
    let yard = Yard::new(&site);
    let (helper, deaf) = (yard.node(11), yard.node(12));
    // It gets everything by multicast and stays for whoever needs it.
    let outcome = ended(yard.receive(&helper, "auto", &[]));
    assert_eq!(
        outcome.done()["bytes_multicast"].as_u64(),
        Some(site.stored_bytes())
    );
    deaf.refuse_multicast();
    let outcome = ended(yard.receive(&deaf, "auto", &[]));
    assert_from_peers(&site, &deaf.target, &outcome);
    for part in [
        "nothing of the multicast session to ",
        "peers bring what is missing: ",
    ] {
        assert!(
            outcome.stderr.contains(part),
            "{part:?} is not in:\n{}",
            outcome.stderr
        );
    }
}

#[test]
fn what_came_by_multicast_is_given_to_peers() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("helper", 40 * MIB);
    let mut yard = Yard::new(&site);
    let (helper, deaf) = (yard.node(11), yard.node(12));
    deaf.refuse_multicast();
    // The server's own seed cannot be reached: only the node that has everything can help, or HTTP.
    deaf.refuse("tcp sport 9505 ip saddr 10.77.0.1");
    let slow = yard.receive(&deaf, "bittorrent", &[]);
    let mut first = yard.receive(&helper, "auto", &[]);
    complete(&mut first);
    let outcome = ended(slow);
    assert_from_peers(&site, &deaf.target, &outcome);
    let outcome = ended(first);
    assert_eq!(
        outcome.done()["bytes_multicast"].as_u64(),
        Some(site.stored_bytes())
    );
    assert!(outcome.stderr.contains("peers were sent "), "{}", outcome.stderr);
    yard.server.take();
}

#[test]
fn http_helps_while_no_peer_can_be_reached() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("no-peers", 20 * MIB);
    let yard = Yard::new(&site);
    let alone = yard.node(11);
    alone.refuse_multicast();
    alone.refuse("tcp sport 9505");
    let outcome = ended(yard.receive(&alone, "auto", &[]));
    assert_eq!(
        outcome.done()["bytes_http"].as_u64(),
        Some(site.stored_bytes()),
        "{}",
        outcome.stderr
    );
    assert!(
        outcome.stderr.contains("HTTP fetches what is missing: "),
        "{}",
        outcome.stderr
    );
    site.assert_same(&alone.target);
}

#[test]
fn nodes_that_hold_everything_together_end_without_the_server() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("orphans", 100 * MIB);
    let mut yard = Yard::new(&site);
    let stored = site.stored_bytes();
    yard.machine.set_uplink_rate("400Mbit".parse().unwrap()).unwrap();
    let nodes: Vec<Node> = (11..14).map(|number| yard.node(number)).collect();
    for node in &nodes {
        node.namespace.set_uplink_rate("40Mbit".parse().unwrap()).unwrap();
    }
    let running: Vec<Process> = nodes
        .iter()
        .map(|node| yard.receive(node, "bittorrent", &[]))
        .collect();
    // Each piece has left the server once, and they are slow in giving them to each other.
    simulcast_testkit::wait::until("one copy to leave the server", LIMIT, || {
        Ok((yard.seeded() >= stored).then_some(()))
    })
    .unwrap();
    // The last of it is on its way for as long as the buffers of three connections last.
    std::thread::sleep(Duration::from_millis(300));
    yard.server.as_mut().unwrap().process.kill();
    for (node, process) in nodes.iter().zip(running) {
        assert_from_peers(&site, &node.target, &ended(process));
    }
    // Started again, it seeds again.
    yard.start();
    let late = yard.node(15);
    assert_from_peers(
        &site,
        &late.target,
        &ended(yard.receive(&late, "bittorrent", &[])),
    );
}

#[test]
fn a_server_that_is_started_again_in_the_middle_goes_on() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("again", 60 * MIB);
    let mut yard = Yard::new(&site);
    yard.machine.set_uplink_rate("100Mbit".parse().unwrap()).unwrap();
    let nodes: Vec<Node> = (11..13).map(|number| yard.node(number)).collect();
    let mut running: Vec<Process> = nodes
        .iter()
        .map(|node| yard.receive(node, "bittorrent", &[]))
        .collect();
    let big = nodes[0].target.join("big.bin");
    running[0]
        .wait_until("some of it", LIMIT, |_| {
            Ok((on_disk(&big) >= 8 * MIB).then_some(()))
        })
        .unwrap();
    yard.server.as_mut().unwrap().process.kill();
    yard.start();
    for (node, process) in nodes.iter().zip(running) {
        assert_from_peers(&site, &node.target, &ended(process));
    }
}

#[test]
fn one_copy_crosses_the_router_to_another_site() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("router", 60 * MIB);
    let yard = Yard::new(&site);
    let far = Network::numbered(&site.run, 78, Snooping::WithQuerier).unwrap();
    let router = yard.network.join("router", 254).unwrap();
    far.plug(&router, "eth1", 254).unwrap();
    // It forwards unicast packets, and answers for what lies behind it.
    for setting in ["ip_forward=1", "conf.eth0.proxy_arp=1", "conf.eth1.proxy_arp=1"] {
        run(router
            .command("sysctl")
            .args(["-qw", &format!("net.ipv4.{setting}")]))
        .unwrap();
    }
    let nodes: Vec<Node> = (11..15).map(|number| Node::join(&site, &far, number)).collect();
    let stored = site.stored_bytes();
    let before = router.counters().unwrap();
    let running: Vec<Process> = nodes.iter().map(|node| yard.receive(node, "auto", &[])).collect();
    for (node, process) in nodes.iter().zip(running) {
        let outcome: Outcome = ended(process);
        assert_from_peers(&site, &node.target, &outcome);
    }
    let crossed = router.counters().unwrap().since(before).received_bytes;
    assert!(
        (stored..stored * 12 / 10).contains(&crossed),
        "{crossed} bytes crossed the router for an image of {stored}"
    );
}
