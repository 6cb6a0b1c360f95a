//! Killed in the middle, a receiver that is started again fetches only what it lacks.

use std::path::Path;

use simulcast_testkit::process;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{LIMIT, Outcome, Site, on_disk};

const MIB: u64 = 1 << 20;

/// Bytes of the big file, and how many are written when the receiver is killed.
const BIG: u64 = 160 * MIB;
const KILLED_AT: u64 = 24 * MIB;

/// Starts a receiver, kills it with SIGKILL when it has written a part, and starts it again to its end.
fn kill_and_go_on(site: &Site, server: &crate::site::Server, target: &Path, transport: &str) -> Outcome {
    let mut command = site.receive(server, "gold", target, transport);
    let mut first = process::spawn("first", &mut command, site.run.dir()).unwrap();
    let big = target.join("big.bin");
    first
        .wait_until("a part to be written", LIMIT, |_| {
            Ok((on_disk(&big) >= KILLED_AT).then_some(()))
        })
        .unwrap();
    first.kill();
    assert!(on_disk(&big) < BIG, "it was killed in the middle");
    Outcome::of(site, "second", &mut command)
}

#[test]
fn over_http_only_what_is_missing_is_fetched() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("resume-http", BIG);
    let server = site.server(&[]);
    let token = site.token();
    let target = site.run.dir().join("target");
    let mut before = 0;
    let outcome = {
        let outcome = kill_and_go_on(&site, &server, &target, "http");
        before += server.count(&token, "http_chunks");
        outcome
    };
    let done = outcome.done();
    site.assert_same(&target);
    let (total, reused, fetched) = (
        done["chunks_total"].as_u64().unwrap(),
        done["chunks_reused"].as_u64().unwrap(),
        done["chunks_http"].as_u64().unwrap(),
    );
    assert!(
        reused >= KILLED_AT / (4 * MIB) - 2,
        "{reused} of {total} chunks were there"
    );
    assert_eq!(reused + fetched, total);
    // What the server sent in both runs: each chunk once, and once more those that were on their way when the first
    // was killed, at most a queue of 32 MiB and three connections.
    assert!(
        before <= total + 8 + 3 + 2,
        "{before} chunks were sent of {total}"
    );
    // Once more changes nothing: an installed tree is not installed over.
    let again = Outcome::of(
        &site,
        "third",
        &mut site.receive(&server, "gold", &target, "http"),
    );
    again.assert_failed(1, &["the target directory is not empty"]);
    site.assert_same(&target);
}

#[test]
fn over_multicast_too() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("resume-multicast", BIG);
    let server = site.server(&["--rate", "400Mbit"]);
    let target = site.run.dir().join("target");
    let outcome = kill_and_go_on(&site, &server, &target, "multicast");
    let done = outcome.done();
    site.assert_same(&target);
    let (total, reused, fetched) = (
        done["chunks_total"].as_u64().unwrap(),
        done["chunks_reused"].as_u64().unwrap(),
        done["chunks_multicast"].as_u64().unwrap(),
    );
    assert!(
        reused >= KILLED_AT / (4 * MIB) - 2,
        "{reused} of {total} chunks were there"
    );
    assert_eq!(reused + fetched, total);
    let token = site.token();
    assert_eq!(server.count(&token, "http_chunks"), 0);
}

#[test]
fn a_server_that_restarts_is_waited_for() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("restart", BIG);
    let mut server = site.server(&["--rate", "400Mbit"]);
    let target = site.run.dir().join("target");
    let mut command = site.receive(&server, "gold", &target, "auto");
    let mut receiver = process::spawn("receiver", &mut command, site.run.dir()).unwrap();
    let big = target.join("big.bin");
    receiver
        .wait_until("a part to be written", LIMIT, |_| {
            Ok((on_disk(&big) >= KILLED_AT).then_some(()))
        })
        .unwrap();
    server.process.kill();
    let address = server.address.clone();
    let mut again = site.command("si-server");
    again.args(["--listen", &address]);
    let _server = site.started(process::spawn("again", &mut again, site.run.dir()).unwrap());
    let outcome = Outcome::of_process(receiver);
    outcome.done();
    site.assert_same(&target);
}
