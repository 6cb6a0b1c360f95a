//! A server that is killed in the middle and started again: nodes keep what they have and go on in a new session.

use std::path::Path;
use std::time::Duration;

use simulcast_testkit::netns::{Namespace, Network, Offload, Snooping};
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Server, Site, on_disk};

const MIB: u64 = 1 << 20;
const BIG: u64 = 160 * MIB;

/// Looks at a file that is being written, 20 ms apart, after which it counts as written.
const LOOKS: u32 = 25;

fn serve(site: &Site, machine: &Namespace, name: &str) -> Server {
    let mut command = site.settled(machine.command(site.program("si-server")));
    command.args(["--max-rate", "200Mbit"]);
    site.started(machine.spawn(name, &mut command).unwrap())
}

/// Bytes of a file on disk, when nothing more is written to it.
fn settled(path: &Path) -> u64 {
    let (mut last, mut same) = (on_disk(path), 0);
    wait::until("what came to be written", LIMIT, || {
        let bytes = on_disk(path);
        same = if bytes == last { same + 1 } else { 0 };
        last = bytes;
        Ok((same >= LOOKS).then_some(bytes))
    })
    .unwrap()
}

#[test]
fn nodes_go_on_in_a_new_session_with_what_they_have() {
    let features = [Feature::Root, Feature::Network, Feature::Loss, Feature::Rsync];
    if !ready("end to end", &features) {
        return;
    }
    let site = Site::new("killed", BIG);
    let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
    let machine = network.join("server", 1).unwrap();
    machine.set_offload(Offload::Segmented).unwrap();
    let mut first = serve(&site, &machine, "first");
    let address = format!("{}:9440", machine.address());
    let nodes = [11, 12, 13].map(|number| Node::join(&site, &network, number));
    nodes[1].namespace.set_loss(1.0).unwrap();
    let mut running: Vec<_> = nodes
        .iter()
        .zip(["multicast", "multicast", "auto"])
        .map(|(node, transport)| node.receive(&site, &address, transport))
        .collect();
    let file = |node: &Node| node.target.join("big.bin");
    running[0]
        .wait_until("a third of it", LIMIT, |_| {
            Ok((on_disk(&file(&nodes[0])) >= BIG / 3).then_some(()))
        })
        .unwrap();
    first.process.kill();
    // Each node notices by itself, before the server is back.
    for process in &mut running {
        process
            .wait_until("a session that is lost", Duration::from_secs(10), |process| {
                Ok(process.stderr().contains("joining again").then_some(()))
            })
            .unwrap();
    }
    let had = nodes.iter().map(|node| settled(&file(node))).min().unwrap();
    assert!((BIG / 6..BIG).contains(&had), "{had} of {BIG} bytes were there");

    let before = machine.counters().unwrap();
    let _second = serve(&site, &machine, "second");
    let stored = site.stored_bytes();
    for (node, process) in nodes.iter().zip(running) {
        let outcome = Outcome::of_process(process);
        let done = outcome.done();
        // Every chunk came once, and by multicast.
        assert_eq!(done["bytes_multicast"], stored, "{}", outcome.stderr);
        assert_eq!(
            (&done["bytes_http"], &done["chunks_reused"]),
            (&0.into(), &0.into())
        );
        site.assert_same(&node.target);
    }
    // Nothing was sent again that all of them had; headers and parity take a tenth.
    let sent = machine.counters().unwrap().since(before).sent_bytes;
    let lacked = stored - had;
    assert!(
        sent < lacked * 11 / 10 + 2 * MIB,
        "{sent} bytes were sent when {lacked} of {stored} lacked"
    );
}
