//! Several nodes on one network: one transmission for all, and those whom multicast does not reach.

use std::time::Duration;

use simulcast_testkit::netns::{Network, Offload, Snooping};
use simulcast_testkit::tier::{Feature, ready};

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Site, on_disk};

const MIB: u64 = 1 << 20;

#[test]
fn one_transmission_serves_all_and_peers_those_whom_it_does_not_reach() {
    let features = [Feature::Root, Feature::Network, Feature::Loss, Feature::Rsync];
    if !ready("end to end", &features) {
        return;
    }
    let site = Site::new("network", 160 * MIB);
    let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
    let machine = network.join("server", 1).unwrap();
    machine.set_offload(Offload::Segmented).unwrap();
    let mut command = site.settled(machine.command(site.program("si-server")));
    command.args(["--rate", "200Mbit"]);
    let server = site.started(machine.spawn("server", &mut command).unwrap());
    let address = format!("{}:9440", machine.address());
    let nodes: Vec<Node> = (11..15)
        .map(|number| Node::join(&site, &network, number))
        .collect();
    let [first, lossy, late, deaf] = &nodes[..] else {
        unreachable!()
    };
    lossy.namespace.set_loss(1.0).unwrap();
    deaf.refuse_multicast();

    let before = machine.counters().unwrap();
    let mut running = vec![
        first.receive(&site, &address, "auto"),
        lossy.receive(&site, &address, "multicast"),
    ];
    let half = 80 * MIB;
    let big = first.target.join("big.bin");
    running[0]
        .wait_until("half of it", LIMIT, |_| Ok((on_disk(&big) >= half).then_some(())))
        .unwrap();
    running.push(late.receive(&site, &address, "multicast"));
    let stored = site.stored_bytes();
    for (node, process) in nodes.iter().zip(running) {
        let outcome = Outcome::of_process(process);
        let done = outcome.done();
        assert_eq!(
            done["bytes_multicast"].as_u64(),
            Some(stored),
            "{}: {}",
            node.namespace.name(),
            outcome.stderr
        );
        site.assert_same(&node.target);
    }
    // The late one missed what was sent until half was written, and 32 MiB that were on their way: some 0.7 of it, which
    // is sent once more for it. Headers and parity for the loss add 0.07.
    let sent = machine.counters().unwrap().since(before).sent_bytes;
    assert!(
        sent < stored * 19 / 10,
        "{sent} bytes were sent for an image of {stored}"
    );

    let outcome = Outcome::of_process(deaf.receive(&site, &address, "multicast"));
    outcome.assert_failed(
        1,
        &[
            "nothing of the multicast session to 239.255.",
            "reaches this machine (packets to the machine itself arrive, those to the multicast group do not",
            "hint: look for a firewall on the machine",
        ],
    );
    let outcome = Outcome::of_process(deaf.receive(&site, &address, "auto"));
    let done = outcome.done();
    assert_eq!(
        done["bytes_bittorrent"].as_u64(),
        Some(stored),
        "{}",
        outcome.stderr
    );
    assert!(done["seconds"].as_f64().unwrap() < Duration::from_secs(20).as_secs_f64());
    site.assert_same(&deaf.target);
    drop(server);
}
