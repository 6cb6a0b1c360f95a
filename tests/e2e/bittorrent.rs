//! Peers: our own, standard ones, bad ones, and a site behind a router.

mod bad;
mod peer;
mod standard;
mod swarm;

use std::fs;
use std::path::Path;

use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::process::Process;

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Server, Site};

const MIB: u64 = 1 << 20;

/// A server on a network of its own.
struct Yard<'s> {
    site: &'s Site,
    network: Network<'s>,
    machine: Namespace,
    server: Option<Server>,
}

impl<'s> Yard<'s> {
    fn new(site: &'s Site) -> Self {
        let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
        let machine = network.join("server", 1).unwrap();
        let mut yard = Self {
            site,
            network,
            machine,
            server: None,
        };
        yard.start();
        yard
    }

    /// Starts the server, again if it was killed.
    fn start(&mut self) {
        let mut command = self
            .site
            .settled(self.machine.command(self.site.program("si-server")));
        self.server = Some(
            self.site
                .started(self.machine.spawn("server", &mut command).unwrap()),
        );
    }

    fn address(&self) -> String {
        format!("{}:9440", self.machine.address())
    }

    fn node(&self, number: u8) -> Node {
        Node::join(self.site, &self.network, number)
    }

    /// A receiver that goes on helping for a while.
    fn receive(&self, node: &Node, transport: &str, more: &[&str]) -> Process {
        let mut command = self
            .site
            .settled(node.namespace.command(self.site.program("si-installer")));
        crate::site::aim(&mut command, &self.address(), "gold", &node.target, transport);
        command.args(more);
        node.namespace.spawn("installer", &mut command).unwrap()
    }

    /// What the server answers to a request with its token.
    fn ask(&self, path: &str) -> Vec<u8> {
        let url = format!("http://{}{path}", self.address());
        let header = format!("authorization: Bearer {}", self.site.token());
        let mut curl = self.machine.command("curl");
        curl.args(["-sSf", "-H", &header, &url]);
        simulcast_testkit::command::run(&mut curl).unwrap().stdout
    }

    /// Bytes of blocks that the server's seed has sent.
    fn seeded(&self) -> u64 {
        let status: serde_json::Value = serde_json::from_slice(&self.ask("/v1/status")).unwrap();
        let running = status["swarms"]
            .as_array()
            .unwrap()
            .iter()
            .map(|swarm| swarm["bytes"].as_u64().unwrap());
        status["swarm_bytes_ended"].as_u64().unwrap() + running.sum::<u64>()
    }

    /// The URL of the swarm, as the torrent file has it.
    fn base(&self) -> String {
        let torrent = fs::read(self.torrent()).unwrap();
        let text = String::from_utf8_lossy(&torrent).into_owned();
        let from = text.find("http://").unwrap();
        text[from..].split("/announce").next().unwrap().to_owned()
    }

    /// The torrent file of the image.
    fn torrent(&self) -> std::path::PathBuf {
        let path = self.site.run.dir().join("gold.torrent");
        fs::write(&path, self.ask("/v1/images/gold/latest/torrent")).unwrap();
        path
    }
}

/// Checks that a receiver got all of the image, and all of it from peers.
fn assert_from_peers(site: &Site, target: &Path, outcome: &Outcome) {
    let done = outcome.done();
    assert_eq!(
        done["bytes_bittorrent"].as_u64(),
        Some(site.stored_bytes()),
        "{}",
        outcome.stderr
    );
    assert_eq!(
        (done["bytes_http"].as_u64(), done["bytes_multicast"].as_u64()),
        (Some(0), Some(0))
    );
    site.assert_same(target);
}

/// Waits for a receiver.
fn ended(process: Process) -> Outcome {
    Outcome::of_process(process)
}

/// Waits until a receiver says that it has everything.
fn complete(process: &mut Process) {
    let done = process.wait_until("the end of its install", LIMIT, |process| {
        Ok(process.stdout().contains("\"event\":\"done\"").then_some(()))
    });
    done.unwrap();
}
