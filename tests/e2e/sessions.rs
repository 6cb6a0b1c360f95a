//! Sessions of one server: when they begin and end, and how they stand beside each other.

use serde_json::Value;
use simulcast_testkit::process;
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

use crate::site::{LIMIT, Outcome, Server, Site};

const MIB: u64 = 1 << 20;

/// The sessions of the server's status.
fn sessions(server: &Server, token: &str) -> Vec<Value> {
    let (status, body) = server.ask(token, "GET /v1/status");
    assert_eq!(status, 200);
    let status: Value = serde_json::from_slice(&body).unwrap();
    status["sessions"].as_array().unwrap().clone()
}

/// Bytes that the server sent by multicast so far.
fn sent_bytes(server: &Server, token: &str) -> u64 {
    let (_, body) = server.ask(token, "GET /v1/status");
    let status: Value = serde_json::from_slice(&body).unwrap();
    let running = status["sessions"].as_array().unwrap().iter();
    let running: u64 = running.map(|session| session["bytes"].as_u64().unwrap()).sum();
    running + status["multicast_bytes_ended"].as_u64().unwrap()
}

#[test]
fn whoever_comes_while_a_session_ends_gets_a_new_one_at_once() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("ending", 4 * MIB);
    let server = site.server(&[]);
    let token = site.token();
    let receive = |name: &str| {
        let target = site.run.dir().join(name);
        let outcome = Outcome::of(
            &site,
            name,
            &mut site.receive(&server, "gold", &target, "multicast"),
        );
        site.assert_same(&target);
        outcome
    };
    receive("first").done();
    let ending = wait::until("the session to end", LIMIT, || {
        let mut sessions = sessions(&server, &token).into_iter();
        Ok(sessions.find(|session| session["state"] == "ending"))
    });
    let outcome = receive("second");
    // A session that turns it away would be left and joined again.
    assert!(!outcome.stderr.contains("joining again"), "{}", outcome.stderr);
    let seconds = outcome.done()["seconds"].as_f64().unwrap();
    assert!(seconds < 2.0, "it took {seconds} s: {}", outcome.stderr);
    let others = sessions(&server, &token);
    let first = &ending.unwrap()["session"];
    assert!(
        others.iter().any(|other| other["session"] != *first),
        "it had a session of its own: {others:?}"
    );
}

#[test]
fn a_session_waits_for_the_number_that_was_set() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("number", 8 * MIB);
    let server = site.server(&["--min-receivers", "2"]);
    let token = site.token();
    let start = |name: &str| {
        let target = site.run.dir().join(name);
        let mut command = site.receive(&server, "gold", &target, "auto");
        process::spawn(name, &mut command, site.run.dir()).unwrap()
    };
    let first = start("first");
    // Well past the moment that a session waits otherwise, nothing but announces was sent.
    let waiting = wait::until("three seconds with one receiver", LIMIT, || {
        let mut sessions = sessions(&server, &token).into_iter();
        Ok(sessions.find(|session| session["receivers"] == 1 && session["seconds"].as_u64() >= Some(3)))
    });
    let waiting = waiting.unwrap();
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert!(waiting["bytes"].as_u64() < Some(100_000), "{waiting}");
    let outcomes = [first, start("second")].map(Outcome::of_process);
    for (outcome, name) in outcomes.iter().zip(["first", "second"]) {
        assert_eq!(outcome.done()["bytes_http"], 0, "{}", outcome.stderr);
        site.assert_same(&site.run.dir().join(name));
    }
    // One transmission served both.
    let stored = site.stored_bytes();
    let sent = sent_bytes(&server, &token);
    assert!(sent < stored * 11 / 10, "{sent} bytes were sent for {stored}");
}

#[test]
fn a_session_waits_no_longer_than_was_set() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("time", MIB);
    // A number that does not come is waited for until the time is over; a time alone is always waited.
    site.configure("[multicast]\nmax_wait = \"2500ms\"\n");
    for arguments in [&["--min-receivers", "5"][..], &[]] {
        let server = site.server(arguments);
        let target = site.run.dir().join(format!("target{}", arguments.len()));
        let outcome = Outcome::of(
            &site,
            "receiver",
            &mut site.receive(&server, "gold", &target, "multicast"),
        );
        let seconds = outcome.done()["seconds"].as_f64().unwrap();
        assert!((2.4..6.0).contains(&seconds), "{arguments:?}: {seconds} s");
    }
}
