//! Operators' tokens: how they are made and taken away, and what a running server opens to them.

use serde_json::{Value, json};
use simulcast_image::manifest::SignedManifest;
use simulcast_protocol::id::ManifestId;

use crate::daemon::Server;
use crate::harness::Site;
use crate::nodes::cluster;

/// The token of a new operator.
fn add(site: &Site, name: &str, options: &[&str]) -> String {
    let made = site.json(&[&["token", "add", name], options].concat());
    made["token"].as_str().unwrap().to_owned()
}

/// The status of an answer.
fn status(server: &Server, token: &str, path: &str) -> u16 {
    server.get(token, path).0
}

/// An answer that has to be given.
fn answer(server: &Server, token: &str, path: &str) -> Value {
    let (status, body) = server.get(token, path);
    assert_eq!(status, 200, "{path}");
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn tokens_are_made_listed_and_revoked() {
    let site = cluster();
    let run = site.ok(&["token", "add", "ann", "--role", "view", "--nodes", "node[01-02]"]);
    let lines: Vec<_> = run.stdout.lines().collect();
    let token = lines[0].strip_prefix("SI_TOKEN=").unwrap();
    let key = std::fs::read_to_string(site.state().join("keys/signing.pub")).unwrap();
    assert_eq!(lines[1..], [format!("SI_SERVER_KEY={}", key.trim())]);
    let list = site.json(&["token", "list"]);
    let shown = json!([
        list[0]["name"],
        list[0]["role"],
        list[0]["nodes"],
        list[0]["images"]
    ]);
    assert_eq!(shown, json!(["ann", "view", "node[01-02]", null]));
    let database = std::fs::read(site.state().join("state.db")).unwrap();
    assert!(!database.windows(64).any(|bytes| bytes == token.as_bytes()));
    let again = ["token", "add", "ann", "--role", "admin"];
    let exists = "error: operator ann has a token\nhint: si-token revoke takes it away";
    site.fails(&again, 1, exists);
    assert_eq!(
        site.run(&["token", "add", "a b", "--role", "view"]).code(),
        Some(2)
    );
    assert_eq!(
        site.run(&["token", "add", "bob", "--role", "view", "--nodes", "@none"])
            .code(),
        Some(2)
    );
    site.ok(&["token", "revoke", "ann", "--dry-run"]);
    assert_eq!(
        site.ok(&["token", "revoke", "ann"]).stdout,
        "revoked the token of ann\n"
    );
    let gone = "error: no operator ann has a token\nhint: si-token list tells who has one";
    site.fails(&["token", "revoke", "ann"], 1, gone);
}

#[test]
fn a_server_opens_what_role_and_scope_allow() {
    let site = cluster();
    site.import("other");
    let server = Server::start(&site);
    let viewer = add(&site, "viewer", &["--role", "view"]);
    let scoped = add(
        &site,
        "scoped",
        &[
            "--role",
            "operate",
            "--nodes",
            "node[01-02]",
            "--images",
            "golden",
        ],
    );
    let admin = add(&site, "admin", &["--role", "admin"]);

    assert_eq!(status(&server, &viewer, "/v1/images/golden"), 200);
    for (token, expected) in [(&viewer, 403), (&scoped, 200), (&admin, 200)] {
        assert_eq!(status(&server, token, "/v1/images/golden/1/manifest"), expected);
    }
    for path in [
        "/v1/images/other",
        "/v1/images/other/1/manifest",
        "/v1/exclusions/other",
    ] {
        assert_eq!(status(&server, &scoped, path), 403, "{path}");
    }
    assert_eq!(status(&server, &scoped, "/v1/exclusions/golden?node=node03"), 403);
    assert_eq!(status(&server, &scoped, "/v1/nodes/node02"), 200);
    assert_eq!(status(&server, &scoped, "/v1/nodes/node03"), 404);
    let names = |list: &Value| {
        list.as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&answer(&server, &scoped, "/v1/images")["images"]),
        ["golden"]
    );
    assert_eq!(
        names(&answer(&server, &scoped, "/v1/nodes")["nodes"]),
        ["node01", "node02"]
    );
    assert_eq!(names(&answer(&server, &viewer, "/v1/nodes")["nodes"]).len(), 3);

    // Prometheus sees what its token sees, and no more.
    let (_, all) = server.get(&viewer, "/v1/metrics");
    let (_, some) = server.get(&scoped, "/v1/metrics");
    let [all, some] = [all, some].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(all.contains("\nsimulcast_nodes{state=\"local\"} 3\n"), "{all}");
    assert!(some.contains("\nsimulcast_nodes{state=\"local\"} 2\n"), "{some}");
    let targets = answer(&server, &scoped, "/v1/targets?port=9200");
    let addresses: Vec<&Value> = targets
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["targets"][0])
        .collect();
    assert_eq!(addresses, ["node01:9200", "node02:9200"]);
    assert_eq!(targets[0]["labels"]["__meta_simulcast_state"], "local");
    assert_eq!(status(&server, &viewer, "/v1/targets?port=x"), 400);

    // Another image is not to be had by its identity either.
    let identity = |path: &str| {
        let (_, manifest) = server.get(&admin, path);
        ManifestId::of(SignedManifest::unsigned(&manifest).unwrap())
    };
    let id = identity("/v1/images/other/1/manifest");
    let own = identity("/v1/images/golden/1/manifest");
    assert_ne!(id, own);
    for path in [
        format!("/v1/manifests/{id}/pieces"),
        format!("/v1/packs/{own}/{id}"),
    ] {
        assert_eq!(status(&server, &scoped, &path), 403, "{path}");
    }
    let delta = format!("/v1/manifests/{id}/files/1/delta?basis=0&parts=0");
    for (path, body) in [
        ("/v1/sessions", json!({ "manifest": id, "mtu": 1500 })),
        (
            "/v1/swarm",
            json!({ "manifest": id, "port": 9505, "lacks": true }),
        ),
    ] {
        assert_eq!(server.post(&scoped, path, &body), 403, "{path}");
    }
    assert_eq!(server.ask(Some(&viewer), &format!("POST {delta}"), b"").0, 403);

    site.ok(&["token", "revoke", "viewer"]);
    assert_eq!(status(&server, &viewer, "/v1/images"), 401);
    assert_eq!(status(&server, &scoped, "/v1/images"), 200);
}
