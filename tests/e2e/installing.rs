//! A node's own token is enough to receive its version, by either transport, and opens no other.

use std::fs;

use serde_json::{Value, json};
use simulcast_testkit::command;

use crate::site::{Outcome, Server, Site};

const LAYOUT: &str = "[disk.system]\npartition = [{ name = \"root\", size = \"rest\" }]\n\n\
                      [[filesystem]]\non = \"system.root\"\nkind = \"ext4\"\nmount = \"/\"\n";

fn run(site: &Site, program: &str, arguments: &[&str]) {
    command::run(site.command(program).args(arguments)).unwrap();
}

/// The token of the node with this card, which says hello and takes its order.
fn token(server: &Server, mac: &str) -> String {
    let hello = json!({
        "boot": mac, "macs": [mac], "firmware": "bios", "architecture": "x86_64", "processors": 1, "memory": 1, "disks": []
    });
    let hello = hello.to_string();
    let length = hello.len();
    let request = format!(
        "POST /v1/install/hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{hello}"
    );
    let (status, body) = server.say(request.as_bytes());
    let welcome: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((status, &welcome["you"]), (200, &json!("node")), "{welcome}");
    let token = welcome["token"].as_str().unwrap().to_owned();
    assert_eq!(server.ask(&token, "GET /v1/install/order").0, 200);
    token
}

#[test]
fn the_token_of_a_node_is_enough_to_receive_its_version() {
    let site = Site::new("install-token", 2 << 20);
    let layouts = site.run.dir().join("config/layouts.d");
    fs::create_dir(&layouts).unwrap();
    fs::write(layouts.join("one.toml"), LAYOUT).unwrap();
    let mac = "52:54:00:00:00:01";
    run(
        &site,
        "si-node",
        &[
            "add", "node01", "--mac", mac, "--image", "gold@1", "--layout", "one",
        ],
    );
    run(&site, "si-install", &["node01"]);
    let server = site.server(&[]);
    let token = token(&server, mac);
    for transport in ["multicast", "http"] {
        let target = site.run.dir().join(transport);
        fs::create_dir(&target).unwrap();
        let mut receiver = site.receive(&server, "gold@1", &target, transport);
        Outcome::of(&site, transport, receiver.env("SI_TOKEN", &token)).done();
        site.assert_same(&target);
    }
    site.second_version();
    let target = site.run.dir().join("other");
    fs::create_dir(&target).unwrap();
    let mut receiver = site.receive(&server, "gold@2", &target, "http");
    let refused = Outcome::of(&site, "refused", receiver.env("SI_TOKEN", &token));
    refused.assert_failed(1, &["this token does not open this"]);
}
