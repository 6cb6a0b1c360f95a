//! A server between several networks: each session goes out where its nodes are.

use std::fs;

use serde_json::Value;
use simulcast_testkit::netns::{Network, Offload, Snooping};
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Site};

const MIB: u64 = 1 << 20;

#[test]
fn each_interface_has_its_own_session_and_others_have_none() {
    let features = [Feature::Root, Feature::Network, Feature::Loss, Feature::Rsync];
    if !ready("end to end", &features) {
        return;
    }
    let site = Site::new("interfaces", 40 * MIB);
    // The server has eth0 in one network and eth1 in another, and over the wire of eth0 a second interface.
    let office = Network::numbered(&site.run, 77, Snooping::WithQuerier).unwrap();
    let rack = Network::numbered(&site.run, 78, Snooping::WithQuerier).unwrap();
    let machine = office.join("server", 1).unwrap();
    office.stack(&machine, "eth0.12", 12, 1).unwrap();
    rack.plug(&machine, "eth1", 1).unwrap();
    site.configure(
        "[multicast]\ninterfaces = [\"eth1\", \"10.12.0.1\"]\nttl = 3\ndscp = \"CS1\"\nrate = \"100Mbit\"\n",
    );
    let mut command = site.settled(machine.command(site.program("si-server")));
    let server = site.started(machine.spawn("server", &mut command).unwrap());

    let stacked = ["node21", "node22"].map(|name| {
        let number = name[4..].parse().unwrap();
        Node::new(&site, office.join_stranger(name, 12, number).unwrap())
    });
    let racked = Node::join(&site, &rack, 31);
    let outside = Node::join(&site, &office, 41);
    // What is not marked as it was set does not arrive.
    stacked[0].refuse("udp dport 9441-9504 ip dscp != cs1");
    racked.refuse("udp dport 9441-9504 ip ttl != 3");
    let before = machine.counters().unwrap();
    let mut running = Vec::new();
    for (node, address) in [
        (&stacked[0], "10.12.0.1:9440"),
        (&stacked[1], "10.12.0.1:9440"),
        (&racked, "10.78.0.1:9440"),
    ] {
        running.push((node, node.receive(&site, address, "multicast")));
    }
    let token = site.token();
    let sessions = wait::until("two sessions that send", LIMIT, || {
        let status = machine.enter(|| server.ask(&token, "GET /v1/status"))?;
        let status: Value = serde_json::from_slice(&status.1)?;
        let sessions = status["sessions"].as_array().unwrap().clone();
        let both = sessions.len() == 2 && sessions.iter().all(|session| session["state"] == "sending");
        Ok(both.then_some(sessions))
    });
    let sessions = sessions.unwrap();
    let of = |name: &str| {
        sessions
            .iter()
            .find(|session| session["interface"] == name)
            .unwrap()
    };
    assert_eq!(
        (&of("eth0.12")["receivers"], &of("eth1")["receivers"]),
        (&2.into(), &1.into())
    );
    assert_ne!(of("eth0.12")["group"], of("eth1")["group"]);

    let stored = site.stored_bytes();
    for (node, process) in running {
        let outcome = Outcome::of_process(process);
        assert_eq!(outcome.done()["bytes_multicast"], stored, "{}", outcome.stderr);
        site.assert_same(&node.target);
    }
    // The two nodes of eth0.12 had one transmission, and that for the rack did not go out here.
    let sent = machine.counters().unwrap().since(before).sent_bytes;
    assert!(
        sent < stored * 12 / 10,
        "{sent} bytes were sent for an image of {stored}"
    );

    let refused = Outcome::of_process(outside.receive(&site, "10.77.0.1:9440", "multicast"));
    refused.assert_failed(
        1,
        &[
            "multicast is not sent over eth0, which leads to 10.77.0.41",
            "`interfaces`",
        ],
    );
    let helped = Outcome::of_process(outside.receive(&site, "10.77.0.1:9440", "auto"));
    assert_eq!(helped.done()["bytes_bittorrent"], stored, "{}", helped.stderr);
    site.assert_same(&outside.target);
}

#[test]
fn machines_without_ipv4_get_it_by_multicast_too() {
    let features = [Feature::Root, Feature::Network, Feature::Rsync];
    if !ready("end to end", &features) {
        return;
    }
    let site = Site::new("ipv6", 24 * MIB);
    let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
    let machine = network.join("server", 1).unwrap();
    machine.set_offload(Offload::Segmented).unwrap();
    let nodes = [11, 12].map(|number| Node::join(&site, &network, number));
    machine.forget_ipv4().unwrap();
    nodes
        .iter()
        .for_each(|node| node.namespace.forget_ipv4().unwrap());
    let stored = site.stored_bytes();
    // Groups of the site, and those of the link, which have to be told on which link.
    for (round, groups) in ["ff15::/16", "ff12::/16"].into_iter().enumerate() {
        let mut command = site.settled(machine.command(site.program("si-server")));
        command.args([
            "--max-rate",
            "200Mbit",
            "--groups",
            groups,
            "--dscp",
            "LE",
            "--ttl",
            "2",
        ]);
        let mut server = site.started(machine.spawn("server", &mut command).unwrap());
        assert_eq!(server.address, "[::]:9440");
        let address = format!("[{}]:9440", machine.address_v6());
        let running = nodes
            .each_ref()
            .map(|node| node.receive(&site, &address, "multicast"));
        for (node, process) in nodes.iter().zip(running) {
            let outcome = Outcome::of_process(process);
            assert_eq!(outcome.done()["bytes_multicast"], stored, "{}", outcome.stderr);
            assert!(
                outcome.stderr.contains(&format!("session to [{}", &groups[..6])),
                "{}",
                outcome.stderr
            );
            site.assert_same(&node.target);
            fs::remove_dir_all(&node.target).unwrap();
        }
        let fragments = machine.ipv6_fragments().unwrap();
        assert_eq!(fragments, 0, "in round {round} packets did not fit the MTU");
        server.process.stop(LIMIT).unwrap();
    }
}
