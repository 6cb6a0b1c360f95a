//! Sessions of one server: when they begin and end, and how they stand beside each other.

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use serde_json::Value;
use simulcast_testkit::golden::noise;
use simulcast_testkit::process;
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

use crate::cache::{Cache, Held};
use crate::site::{LIMIT, Outcome, Server, Site, aim};

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
    outcome.done();
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

#[test]
fn groups_and_ports_that_are_taken_are_not_taken_twice() {
    let site = Site::new("places", 1000);
    site.second_version();
    fs::write(site.tree.join("third"), "version").unwrap();
    site.import_again();
    site.configure("[multicast]\nports = \"41200-41205\"\ngroups = [\"239.255.99.4/31\"]\n");
    let taken = [41200, 41202].map(|port| UdpSocket::bind(("0.0.0.0", port)).unwrap());
    let server = site.server(&[]);
    let token = site.token();
    let offer = |version| {
        let manifest = server.manifest(&token, version);
        let (status, body) = server.post(
            &token,
            "/v1/sessions",
            &format!("{{\"manifest\": \"{manifest}\"}}"),
        );
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (_, first) = offer(1);
    assert_eq!(first["control"], "127.0.0.1:41201", "{first}");
    assert_eq!(
        offer(1).1["session"],
        first["session"],
        "one session for one version"
    );
    let (status, refused) = offer(2);
    assert_eq!(status, 500);
    let error = "too few of the UDP ports 41200-41205 are free for a session";
    assert_eq!(refused["error"], error);
    drop(taken);
    let (_, second) = offer(2);
    let mut groups = [&first, &second].map(|offer| offer["group"].as_str().unwrap().to_owned());
    groups.sort();
    assert!(
        groups[0].starts_with("239.255.99.4:4120") && groups[1].starts_with("239.255.99.5:4120"),
        "{groups:?}"
    );
    let port = |group: &str| group.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    assert!((41203..41206).contains(&port(&groups[0])) && port(&groups[0]) != port(&groups[1]));
    let (status, refused) = offer(3);
    assert_eq!(status, 503);
    assert_eq!(
        refused["error"],
        "all multicast groups of 239.255.99.4/31 are in use"
    );
}

#[test]
fn sessions_on_one_wire_share_what_they_may_send() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("share", 6 * MIB);
    noise::file(&site.tree.join("more"), "more", 40 * MIB).unwrap();
    site.import_again();
    // Half of what was set is left to others: 80 Mbit/s.
    let server = site.server(&["--max-rate", "160Mbit", "--background", "50%"]);
    let token = site.token();
    let (begun, limit) = (Instant::now(), 80_000_000);
    let mut receivers = ["gold@1", "gold@2"].map(|image| {
        let target = site.run.dir().join(image);
        let mut command = site.receive(&server, image, &target, "multicast");
        process::spawn(image, &mut command, site.run.dir()).unwrap()
    });
    let (mut shared, mut alone) = (false, false);
    wait::until("the second version", LIMIT, || {
        let mut running = sessions(&server, &token);
        running.retain(|session| session["state"] == "sending");
        let rates: Vec<u64> = running
            .iter()
            .map(|session| session["rate"].as_u64().unwrap())
            .collect();
        assert!(rates.iter().sum::<u64>() <= limit, "{rates:?}");
        shared |= rates.len() == 2;
        alone |= shared && rates.len() == 1 && rates[0] > limit / 2;
        receivers[1].poll()
    })
    .unwrap();
    assert!(
        shared && alone,
        "they shared: {shared}; one had all in the end: {alone}"
    );
    let bits = sent_bytes(&server, &token) * 8;
    let allowed = begun.elapsed().as_secs_f64() * 80e6;
    assert!(
        (bits as f64) < allowed,
        "{bits} bits were sent where {allowed} are allowed"
    );
    for receiver in receivers {
        Outcome::of_process(receiver).done();
    }
    site.assert_same(&site.run.dir().join("gold@2"));
}

#[test]
fn what_multicast_cannot_bring_comes_by_http_meanwhile() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("given-up", 40 * MIB);
    let server = site.server(&["--max-rate", "40Mbit"]);
    // Three chunks are not in the store, but in a cache between.
    let lost: Held = site.chunks()[..3]
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let bytes = fs::read(path).unwrap();
            fs::remove_file(path).unwrap();
            (name, bytes)
        })
        .collect();
    let bytes: usize = lost.values().map(Vec::len).sum();
    let cache = Cache::new(&server.address, lost);
    let target = site.run.dir().join("target");
    let mut command = site.command("si-installer");
    aim(&mut command, &cache.address, "gold", &target, "auto");
    let outcome = Outcome::of(&site, "receiver", &mut command);
    let ended = Instant::now();
    let done = outcome.done();
    site.assert_same(&target);
    assert_eq!(
        (&done["chunks_http"], &done["bytes_http"]),
        (&3.into(), &bytes.into())
    );
    let given = cache.given();
    assert_eq!(given.len(), 3);
    // Sooner or later it would come anyway, but not before everything else.
    let first = given.iter().map(|(_, at)| *at).min().unwrap();
    assert!(
        ended.duration_since(first) > Duration::from_millis(1500),
        "{}",
        outcome.stderr
    );
    let told = "HTTP fetches chunks that multicast could not bring";
    assert!(outcome.stderr.contains(told), "{}", outcome.stderr);
}
