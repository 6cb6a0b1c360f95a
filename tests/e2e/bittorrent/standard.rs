//! Standard clients in our swarm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use simulcast_testkit::process::Process;
use simulcast_testkit::tier::{Feature, ready};

use super::{MIB, Yard, assert_from_peers, ended};
use crate::node::Node;
use crate::site::{LIMIT, Site};

const FEATURES: &[Feature] = &[Feature::Root, Feature::Network, Feature::Rsync, Feature::Torrent];

/// How a client is started that downloads a torrent into a directory and then seeds it.
type Client = fn(&Node, &Path, &Path) -> Command;

fn aria2(node: &Node, torrent: &Path, into: &Path) -> Command {
    let mut command = node.namespace.command("aria2c");
    command.args([
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
    ]);
    command.args([
        "--file-allocation=none",
        "--seed-ratio=0.0",
        "--listen-port=6881",
        "--summary-interval=0",
    ]);
    command.arg("--dir").arg(into).arg(torrent);
    command
}

fn transmission(node: &Node, torrent: &Path, into: &Path) -> Command {
    let mut command = node.namespace.command("transmission-cli");
    command
        .env("HOME", into)
        .args(["--no-portmap", "--port", "6881", "--download-dir"]);
    command.arg(into).arg(torrent);
    command
}

/// The chunks in a client's directory whose bytes are right.
fn right_chunks(site: &Site, directory: &Path) -> usize {
    let same = |chunk: &&PathBuf| {
        let copy = directory.join(chunk.file_name().unwrap());
        fs::read(copy).is_ok_and(|bytes| bytes == fs::read(chunk).unwrap())
    };
    site.chunks().iter().filter(same).count()
}

fn takes_part(label: &str, client: Client) {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new(label, 30 * MIB);
    let yard = Yard::new(&site);
    let torrent = yard.torrent();
    let (standard, ours) = (yard.node(11), yard.node(12));
    let into = site.run.make_dir("downloads").unwrap();
    let mut command = client(&standard, &torrent, &into);
    let mut downloading: Process = standard.namespace.spawn("client", &mut command).unwrap();
    let count = site.chunks().len();
    let manifest: serde_json::Value = serde_json::from_slice(&yard.ask("/v1/status")).unwrap();
    let manifest = manifest["swarms"][0]["manifest"].as_str().unwrap().to_owned();
    let directory = into.join(manifest);
    let whole = downloading.wait_until("the client to have everything", LIMIT, |_| {
        Ok((right_chunks(&site, &directory) == count).then_some(()))
    });
    whole.unwrap();
    // Our node cannot reach the server's seed: what it gets, it gets from the client.
    ours.refuse("ip saddr 10.77.0.1 tcp sport 9505");
    assert_from_peers(
        &site,
        &ours.target,
        &ended(yard.receive(&ours, "bittorrent", &[])),
    );
    downloading.kill();
}

#[test]
fn aria2_downloads_and_seeds() {
    takes_part("aria2", aria2);
}

#[test]
fn transmission_downloads_and_seeds() {
    takes_part("transmission", transmission);
}

#[test]
fn the_web_seed_alone_is_enough() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("web-seed", 10 * MIB);
    let yard = Yard::new(&site);
    let torrent = yard.torrent();
    let node = yard.node(11);
    node.refuse("ip saddr 10.77.0.1 tcp sport 9505");
    let into = site.run.make_dir("downloads").unwrap();
    let mut command = aria2(&node, &torrent, &into);
    command.arg("--seed-time=0");
    let mut process = node.namespace.spawn("client", &mut command).unwrap();
    process.wait_success(LIMIT).unwrap();
    let directory = fs::read_dir(&into).unwrap().map(|entry| entry.unwrap().path());
    let directory = directory.into_iter().find(|path| path.is_dir()).unwrap();
    assert_eq!(right_chunks(&site, &directory), site.chunks().len());
}
