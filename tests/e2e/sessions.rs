//! Sessions of one server: when they begin and end, and how they stand beside each other.

use serde_json::Value;
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
