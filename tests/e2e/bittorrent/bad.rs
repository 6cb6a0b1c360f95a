//! Peers that misbehave, and announces that lie.

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use simulcast_protocol::bittorrent::InfoHash;
use simulcast_testkit::command;
use simulcast_testkit::tier::{Feature, ready};

use super::peer::{Manner, misbehave};
use super::{MIB, Yard, assert_from_peers, ended};
use crate::site::Site;

const FEATURES: &[Feature] = &[Feature::Root, Feature::Network, Feature::Rsync, Feature::Shaping];

#[test]
fn bad_peers_cost_no_byte_and_are_named() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("bad-peers", 100 * MIB);
    let yard = Yard::new(&site);
    // Slow enough that everybody is asked for something.
    yard.machine.set_uplink_rate("100Mbit".parse().unwrap()).unwrap();
    let announce = format!("{}/announce", yard.base());
    let status: serde_json::Value = serde_json::from_slice(&yard.ask("/v1/status")).unwrap();
    let info_hash = status["swarms"][0]["info_hash"].as_str().unwrap().to_owned();
    let hash = InfoHash(std::array::from_fn(|at| {
        u8::from_str_radix(&info_hash[2 * at..2 * at + 2], 16).unwrap()
    }));
    let pieces: u64 = site
        .chunks()
        .iter()
        .map(|chunk| chunk.metadata().unwrap().len().div_ceil(256 << 10))
        .sum();
    let pieces = u32::try_from(pieces).unwrap();
    let manners = [Manner::Garbage, Manner::Mute, Manner::Trickle, Manner::Noise];
    let machines = [21, 22, 23, 24].map(|number| yard.node(number));
    let over = AtomicBool::new(false);
    let node = yard.node(11);
    let outcome = thread::scope(|scope| {
        for (machine, manner) in machines.iter().zip(manners) {
            let listener = machine
                .namespace
                .enter(|| TcpListener::bind("0.0.0.0:7000").unwrap())
                .unwrap();
            let over = &over;
            scope.spawn(move || misbehave(&listener, hash, pieces, manner, over));
            let escaped: String = hash.0.iter().map(|byte| format!("%{byte:02x}")).collect();
            // It lies about its address, too.
            let query = format!(
                "{announce}?info_hash={escaped}&peer_id=-XX0000-000000000000&port=7000&left=0&ip=10.77.0.1"
            );
            let answer = command::run(machine.namespace.command("curl").args(["-sSf", &query])).unwrap();
            assert!(
                answer.stdout.starts_with(b"d8:complete"),
                "{}",
                String::from_utf8_lossy(&answer.stdout)
            );
        }
        let outcome = ended(yard.receive(&node, "bittorrent", &[]));
        over.store(true, Ordering::Relaxed);
        outcome
    });
    assert_from_peers(&site, &node.target, &outcome);
    for (address, reason) in [
        ("10.77.0.21:7000", "it sent wrong bytes for piece "),
        ("10.77.0.24:7000", "it sends a message of 4294967295 bytes"),
    ] {
        let line = format!("peer {address} is left: {reason}");
        assert!(
            outcome.stderr.contains(&line),
            "{line:?} is not in:\n{}",
            outcome.stderr
        );
    }
}

#[test]
fn announces_need_the_pass_and_make_sense() {
    if !ready("end to end", FEATURES) {
        return;
    }
    let site = Site::new("announces", MIB);
    let yard = Yard::new(&site);
    let base = yard.base();
    let ask = |url: &str| {
        let mut curl = yard.machine.command("curl");
        curl.args(["-sS", "-g", "-w", "\n%{http_code}", url]);
        String::from_utf8_lossy(&command::run(&mut curl).unwrap().stdout).into_owned()
    };
    let good = format!(
        "{base}/announce?info_hash={}&peer_id=-XX0000-000000000000&port=7000&left=5",
        "%00".repeat(20)
    );
    for (url, answer) in [
        (good.clone(), "failure reason"),
        (
            good.replace("port=7000", "port=0"),
            "the announce has no good port",
        ),
        (good.replace("left=5", "left=-5"), "the announce has no good left"),
        (good.replace("%00", "%0"), "the announce has no good info_hash"),
        (format!("{base}/announce"), "the announce has no good"),
        (
            format!("{good}&x={}", "y".repeat(5000)),
            "an announce has at most",
        ),
    ] {
        let said = ask(&url);
        assert!(said.contains(answer) && said.ends_with("\n200"), "{url}: {said}");
    }
    let (path, pass) = base.rsplit_once('/').unwrap();
    let wrong = pass.chars().rev().collect::<String>();
    for url in [
        good.replace(pass, &wrong),
        format!("{path}/{wrong}/data/x/{}", "0".repeat(64)),
    ] {
        assert!(ask(&url).ends_with("\n403"), "{url}");
    }
    for (file, code) in [
        ("0".repeat(64), 404),
        ("x".to_owned(), 400),
        (".pad/99999".to_owned(), 404),
    ] {
        let url = format!("{base}/data/x/{file}");
        assert!(ask(&url).ends_with(&format!("\n{code}")), "{url}: {}", ask(&url));
    }
    // A node that is told of others is not told of an address that nobody speaks from.
    let status: serde_json::Value = serde_json::from_slice(&yard.ask("/v1/status")).unwrap();
    assert_eq!(status["swarms"][0]["incomplete"], 0);
}
