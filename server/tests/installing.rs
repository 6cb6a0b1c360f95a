//! The daemon and machines that are installed: their whole way, what they may, and what attackers may not.

use std::fs;
use std::time::Instant;

use serde_json::{Value, json};
use simulcast_image::manifest::VerifyingKey;
use simulcast_image::order::Order;

use crate::daemon::{Server, hello};
use crate::harness::Site;
use crate::nodes::cluster;

const FIRST: &str = "52:54:00:00:00:01";
const SECOND: &str = "52:54:00:00:00:02";

fn events(order: u64, events: &Value) -> Value {
    json!({ "order": order, "events": events })
}

fn event(number: u32, step: &str, what: &Value) -> Value {
    json!({ "number": number, "at": u64::from(number) * 1000, "step": step, "what": what })
}

fn state(site: &Site, node: &str) -> Value {
    site.json(&["node", "show", node])[0]["state"].clone()
}

fn error_of(answer: &(u16, Vec<u8>)) -> String {
    let body: Value = serde_json::from_slice(&answer.1).unwrap();
    body["error"].as_str().unwrap().to_owned()
}

#[test]
fn an_unknown_machine_is_adopted_installed_and_left_alone() {
    let site = cluster();
    let server = Server::start(&site);
    let mac = "52:54:00:00:00:44";
    assert_eq!(server.hello(mac), (200, json!({"you": "unknown", "again": 5})));
    let list = site.ok(&["node", "list", "--unknown"]).stdout;
    assert!(
        list.contains(mac)
            && list.contains("127.0.0.1")
            && list.contains("vda 8.58 GB")
            && list.contains("QEMU S44")
    );
    let run = site.ok(&[
        "node",
        "adopt",
        "S44",
        "node04",
        "--image",
        "golden@1",
        "--set",
        "finish=kexec",
    ]);
    assert_eq!(run.stdout, format!("adopted {mac} as node04\n"));
    assert_eq!(site.json(&["node", "list", "--unknown"]), json!([]));
    assert_eq!(state(&site, "node04"), "install");
    let (status, welcome) = server.hello(mac);
    assert_eq!(
        (status, &welcome["name"], &welcome["action"]),
        (200, &json!("node04"), &json!("install"))
    );
    let token = welcome["token"].as_str().unwrap();
    let order = server.order(&site, token);
    assert_eq!(
        (order.node.as_str(), order.image.as_str(), order.version.0.get()),
        ("node04", "golden", 1)
    );
    assert_eq!(
        server.order(&site, token),
        order,
        "asked for again, it is the same"
    );
    assert_eq!(state(&site, "node04"), "installing");
    let report = events(
        order.number,
        &json!([
            event(0, "partition", &json!("began")),
            event(1, "partition", &json!("done")),
            event(2, "receive", &json!("began")),
            event(3, "receive", &json!({"progress": {"done": 42, "total": 100}})),
        ]),
    );
    for _ in 0..2 {
        assert_eq!(server.post(token, "/v1/install/events", &report), 200);
    }
    assert!(
        site.ok(&["node", "list", "node04"])
            .stdout
            .contains("installing (receive 42%)")
    );
    assert_eq!(
        server
            .ask(Some(token), "POST /v1/install/log", b"line one\n\x1b[2J\xff\n")
            .0,
        200
    );
    assert_eq!(
        site.ok(&["node", "log", "node04"]).stdout,
        "line one\n\\u{1b}[2J\u{fffd}\n"
    );
    let found = format!("node04 {}:1: line one\n", order.number);
    assert_eq!(
        site.ok(&["node", "log", "node04", "--grep", "LINE"]).stdout,
        found
    );
    assert_eq!(
        site.ok(&["node", "log", "node04", "--grep", "[2j"]).stdout,
        format!("node04 {}:2: {}\n", order.number, "\\u{1b}[2J\u{fffd}")
    );
    assert_eq!(
        site.ok(&["node", "log", "node04", "--grep", "line two"]).stdout,
        ""
    );
    let manifest = "/v1/images/golden/1/manifest";
    assert_eq!(server.get(token, manifest).0, 200);
    let end = events(
        order.number,
        &json!([
            event(4, "receive", &json!("done")),
            event(5, "", &json!("finished"))
        ]),
    );
    for _ in 0..2 {
        assert_eq!(
            server.post(token, "/v1/install/events", &end),
            200,
            "a report whose answer was lost comes again"
        );
    }
    assert_eq!(state(&site, "node04"), "installed");
    assert_eq!(server.get(token, manifest).0, 403);
    assert_eq!(server.get(token, "/v1/install/order").0, 403);
    let up = events(order.number, &json!([event(6, "", &json!("up"))]));
    assert_eq!(server.post(token, "/v1/install/events", &up), 200);
    let shown = site.ok(&["node", "show", "node04"]).stdout;
    for part in [
        "node04: installed\n",
        "partition",
        "1.0 s  done",
        ", installed ",
        ", up ",
    ] {
        assert!(shown.contains(part), "{part:?} in:\n{shown}");
    }
    let (_, again) = server.hello(mac);
    assert_eq!(again["action"], "local");
    let refused = server.get(again["token"].as_str().unwrap(), "/v1/install/order");
    assert_eq!(
        (refused.0, &*error_of(&refused)),
        (409, "node04 is not to be installed: its state is installed")
    );
}

#[test]
fn many_are_adopted_at_once_in_the_order_in_which_they_were_heard() {
    let site = cluster();
    let server = Server::start(&site);
    for last in ["b3", "b1", "b2"] {
        server.hello(&format!("52:54:00:00:00:{last}"));
    }
    site.fails(
        &["node", "adopt", "--all-unknown", "new[1-2]"],
        1,
        "error: there are 3 machines to adopt and 2 names\n\
         hint: si-node list --unknown lists the machines; give one name for each",
    );
    // One that is added by hand waits no more.
    server.hello("52:54:00:00:00:b4");
    site.ok(&["node", "add", "hand", "--mac", "52:54:00:00:00:b4"]);
    let waiting = site.json(&["node", "list", "--unknown"]);
    assert_eq!(waiting.as_array().unwrap().len(), 3);
    let dry = site
        .ok(&["node", "adopt", "--all-unknown", "new[1-3]", "--dry-run"])
        .stdout;
    let adopted = site.json(&["node", "adopt", "--all-unknown", "new[1-3]"]);
    assert_eq!(dry.lines().count(), 3);
    assert_eq!(adopted["install"], json!(["new1", "new2", "new3"]));
    assert_eq!(adopted["adopted"].as_array().unwrap().len(), 3);
    assert_eq!(server.hello("52:54:00:00:00:b1").1["you"], "node");
    let replaced = "52:54:00:00:00:c1";
    server.hello(replaced);
    let run = site.run(&["node", "adopt", replaced, "node01"]);
    assert!(
        run.stderr
            .starts_with("error: node01 has network card 52:54:00:00:00:01 already\nhint: --replace")
    );
    site.ok(&["node", "adopt", replaced, "node01", "--replace", "--no-install"]);
    assert_eq!(
        (state(&site, "node01"), server.hello(replaced).1["name"].clone()),
        (json!("local"), json!("node01"))
    );
}

#[test]
fn a_uuid_that_another_node_has_is_not_given_twice_however_it_is_written() {
    let site = cluster();
    let server = Server::start(&site);
    let uuid = "4c4c4544-0042-3010-8052-b4c04f4d4d32";
    site.ok(&["node", "set", "node01", &format!("uuid={uuid}")]);
    let mac = "52:54:00:00:00:d1";
    let mut told = hello(mac);
    told["dmi"]["uuid"] = json!(uuid.to_uppercase());
    assert_eq!(server.say_hello(&told).1["you"], "unknown");
    site.ok(&["node", "adopt", mac, "node09", "--no-install"]);
    let shown = site.json(&["node", "show", "node[01,09]"]).to_string();
    assert_eq!(shown.matches(uuid).count(), 1, "{shown}");
}

#[test]
fn a_token_opens_what_its_node_needs_and_nothing_else() {
    let site = cluster();
    for (node, secret) in [("node01", "one"), ("node02", "two")] {
        let path = site.path(&format!("config/overrides/node/{node}/etc/secret"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, secret).unwrap();
    }
    site.import("golden");
    site.import("other");
    let server = Server::start(&site);
    site.ok(&["install", "node[01-02]", "--image", "golden@1"]);
    let (one, two) = (server.token(FIRST), server.token(SECOND));
    assert_eq!(
        server.get(&one, "/v1/images/golden/1/manifest").0,
        403,
        "not before it has its order"
    );
    let (mine, theirs) = (server.order(&site, &one), server.order(&site, &two));
    assert_eq!((mine.node.as_str(), theirs.node.as_str()), ("node01", "node02"));
    let file = |order: &Order| format!("/v1/install/files/{}", order.overrides.last().unwrap().hash);
    let (status, archive) = server.get(&one, &file(&mine));
    assert_eq!((status, archive.len() as u64), (200, mine.overrides[0].bytes));
    assert!(archive.windows(3).any(|three| three == b"one"));
    for (path, status) in [
        (file(&theirs), 403),
        ("/v1/install/files/..%2f..%2fkeys%2ftoken".to_owned(), 400),
        ("/v1/install/files/%2e%2e".to_owned(), 400),
        ("/v1/images/golden/2/manifest".to_owned(), 403),
        ("/v1/images/golden/latest/manifest".to_owned(), 403),
        ("/v1/images/other/1/manifest".to_owned(), 403),
        ("/v1/images".to_owned(), 403),
        ("/v1/status".to_owned(), 403),
        ("/v1/nodes".to_owned(), 403),
        ("/v1/nodes/node01".to_owned(), 403),
        ("/v1/images/golden/1/manifest".to_owned(), 200),
        ("/v1/key".to_owned(), 200),
    ] {
        assert_eq!(server.get(&one, &path).0, status, "{path}");
    }
    // Neither a session of another version, nor a report about another order.
    let other = site.json(&["lsimage", "other"])[0]["id"].clone();
    assert_eq!(
        server.post(&one, "/v1/sessions", &json!({ "manifest": other })),
        403
    );
    let finished = events(theirs.number, &json!([event(0, "", &json!("finished"))]));
    assert_eq!(server.post(&one, "/v1/install/events", &finished), 403);
    assert_eq!(state(&site, "node02"), "installing");
    // Nor after the operator has decided otherwise.
    site.ok(&["node", "mark", "node01", "local"]);
    assert_eq!(server.get(&one, "/v1/images/golden/1/manifest").0, 403);
    let finished = events(mine.number, &json!([event(0, "", &json!("finished"))]));
    assert_eq!(server.post(&one, "/v1/install/events", &finished), 200);
    assert_eq!(state(&site, "node01"), "local");
    let file = site.path("config/nodes.d/nodes.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("node02", "node07")).unwrap();
    assert_eq!(server.get(&two, "/v1/key").0, 401, "it was renamed by hand");
    fs::write(&file, text).unwrap();
    assert_eq!(server.get(&two, "/v1/key").0, 200);
    site.ok(&["node", "remove", "node02", "--yes"]);
    assert_eq!(server.get(&two, "/v1/key").0, 401);
    // The operator's opens the list, and is no node's.
    let operator = fs::read_to_string(site.state().join("keys/token")).unwrap();
    let (status, list) = server.get(operator.trim(), "/v1/nodes");
    let list: Value = serde_json::from_slice(&list).unwrap();
    assert_eq!((status, list["nodes"].as_array().unwrap().len()), (200, 2));
    assert_eq!(server.get(operator.trim(), "/v1/nodes/node01").0, 200);
    assert_eq!(server.get(operator.trim(), "/v1/nodes/node02").0, 404);
    assert_eq!(server.get(operator.trim(), "/v1/install/order").0, 403);
}

#[test]
fn tokens_are_kept_hashed_and_foreign_ones_open_nothing() {
    let site = cluster();
    let server = Server::start(&site);
    let token = server.token(FIRST);
    let mut kept = Vec::new();
    for file in ["state.db", "state.db-wal"] {
        kept.extend(fs::read(site.state().join(file)).unwrap_or_default());
    }
    let bytes: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&token[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    for secret in [token.as_bytes(), &bytes] {
        assert!(!kept.windows(secret.len()).any(|window| window == secret));
    }
    assert!(
        kept.windows(6).any(|window| window == b"node01"),
        "the file was looked at"
    );
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(log.contains("node01") && !log.contains(&token));
    let mut wrong = token.clone();
    wrong.replace_range(0..1, if token.starts_with('0') { "1" } else { "0" });
    for (wrong, path) in [(&*wrong, "/v1/install/order"), ("", "/v1/key"), ("x", "/v1/key")] {
        assert_eq!(server.get(wrong, path).0, 401);
    }
    assert_eq!(server.ask(None, "GET /v1/install/order", b"").0, 401);
    assert_eq!(server.ask(None, "GET /v1/install/hello", b"").0, 405);
}

#[test]
fn a_flood_of_hellos_is_refused_and_remembered_within_bounds() {
    let site = cluster();
    let server = Server::start(&site);
    let begin = Instant::now();
    let (mut taken, mut refused) = (0, 0);
    for number in 0..400u32 {
        let mac = format!("52:54:00:01:{:02x}:{:02x}", number >> 8, number & 255);
        match server.hello(&mac).0 {
            200 => taken += 1,
            429 => refused += 1,
            other => panic!("{other}"),
        }
    }
    let allowed = 64 + begin.elapsed().as_millis() / 100 + 1;
    assert!(
        taken <= allowed && refused > 0,
        "{taken} of {allowed} taken, {refused} refused"
    );
    let unknown = site.json(&["node", "list", "--unknown"]);
    assert_eq!(unknown.as_array().unwrap().len() as u128, taken);
    // It is well, and says so.
    let operator = fs::read_to_string(site.state().join("keys/token")).unwrap();
    assert_eq!(server.get(operator.trim(), "/v1/status").0, 200);
}

#[test]
fn nonsense_is_refused() {
    let site = cluster();
    let server = Server::start(&site);
    site.ok(&["install", "node01"]);
    let token = server.token(FIRST);
    let order = server.order(&site, &token).number;
    let say = |path: &str, body: &[u8]| server.ask(Some(&token), &format!("POST {path}"), body).0;
    let hello_with = |key: &str, value: Value| {
        let mut hello = hello(SECOND);
        hello[key] = value;
        server
            .ask(None, "POST /v1/install/hello", hello.to_string().as_bytes())
            .0
    };
    assert_eq!(hello_with("boot", json!("ff:ff:ff:ff:ff:ff")), 400);
    assert_eq!(hello_with("macs", json!("x".repeat(100))), 400);
    assert_eq!(hello_with("firmware", json!("x".repeat(40_000))), 400);
    assert_eq!(hello_with("disks", json!([{"name": "a"}])), 400);
    assert_eq!(server.ask(None, "POST /v1/install/hello", b"{").0, 400);
    assert_eq!(say("/v1/install/events", b"[]"), 400);
    assert_eq!(say("/v1/install/events", &vec![b' '; 300_000]), 400);
    assert_eq!(say("/v1/install/log", &vec![b'x'; 300_000]), 400);
    let many: Vec<_> = (0..513)
        .map(|number| event(number, "x", &json!("began")))
        .collect();
    assert_eq!(
        server.post(&token, "/v1/install/events", &events(order, &json!(many))),
        400
    );
    let odd = event(0, "../../x\u{1b}[2J", &json!("began"));
    assert_eq!(
        server.post(&token, "/v1/install/events", &events(order, &json!([odd]))),
        200
    );
    let steps = &site.json(&["node", "show", "node01"])[0]["steps"];
    assert_eq!(steps[0]["step"], "....x2J");
    let huge = event(
        u32::MAX,
        "x",
        &json!({"progress": {"done": u64::MAX, "total": u64::MAX}}),
    );
    assert_eq!(
        server.post(&token, "/v1/install/events", &events(order, &json!([huge]))),
        200
    );
}

#[test]
fn a_machine_that_was_switched_off_goes_on_and_a_server_that_was_killed_too() {
    let site = cluster();
    let server = Server::start(&site);
    site.ok(&["install", "node01"]);
    let token = server.token(FIRST);
    let order = server.order(&site, &token);
    let began = events(order.number, &json!([event(0, "receive", &json!("began"))]));
    assert_eq!(server.post(&token, "/v1/install/events", &began), 200);
    drop(server);
    // The token holds after a restart of the server.
    let server = Server::start(&site);
    assert_eq!(server.order(&site, &token), order);
    // The image goes on; the machine boots again, and goes on with what it had begun.
    site.import("golden");
    let again = server.token(FIRST);
    assert_eq!(server.order(&site, &again), order);
    let end = events(order.number, &json!([event(0, "", &json!("finished"))]));
    assert_eq!(server.post(&again, "/v1/install/events", &end), 200);
    assert_eq!(state(&site, "node01"), "installed");
    // The next install is of the newest version.
    site.ok(&["install", "node01"]);
    let next = server.order(&site, &server.token(FIRST));
    assert_eq!((next.version.0.get(), next.number > order.number), (2, true));
}

#[test]
fn a_failed_install_is_told_and_waits_for_the_operator() {
    let site = cluster();
    let server = Server::start(&site);
    site.ok(&["install", "node01"]);
    let token = server.token(FIRST);
    let order = server.order(&site, &token).number;
    let mut failed = event(1, "boot-loader", &json!("failed"));
    failed["detail"] = json!("no EFI partition");
    let report = events(order, &json!([event(0, "boot-loader", &json!("began")), failed]));
    assert_eq!(server.post(&token, "/v1/install/events", &report), 200);
    assert_eq!(state(&site, "node01"), "failed");
    assert!(
        site.ok(&["node", "show", "node01"])
            .stdout
            .contains("FAILED: no EFI partition")
    );
    assert_eq!(server.hello(FIRST).1["action"], "rescue");
    assert_eq!(
        site.json(&["node", "list", "--in", "failed"])
            .as_array()
            .unwrap()
            .len(),
        1
    );
    site.ok(&["install", "node01"]);
    assert_eq!(server.hello(FIRST).1["action"], "install");
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(
        log.contains("an install failed") && log.contains("no EFI partition"),
        "{log}"
    );
}

#[test]
fn a_broken_inventory_does_not_stop_the_daemon() {
    let site = cluster();
    let server = Server::start(&site);
    let file = site.path("config/nodes.d/nodes.toml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("mac", "mag")).unwrap();
    assert_eq!(server.hello(FIRST).1["name"], "node01", "the last good one holds");
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(
        log.contains("the inventory is broken") && log.contains("nodes.toml:2: unknown field `mag`"),
        "{log}"
    );
    let operator = fs::read_to_string(site.state().join("keys/token")).unwrap();
    let list: Value = serde_json::from_slice(&server.get(operator.trim(), "/v1/nodes").1).unwrap();
    assert!(list["broken"].as_str().unwrap().contains("nodes.toml:2"));
    fs::write(&file, good + "[node.node09]\nmac = \"52:54:00:00:00:09\"\n").unwrap();
    assert_eq!(server.hello("52:54:00:00:00:09").1["name"], "node09");
    // One that is broken when the daemon starts does not stop it either.
    drop(server);
    fs::write(&file, "nonsense").unwrap();
    let server = Server::start(&site);
    assert_eq!(server.hello(FIRST).1["you"], "unknown");
}

#[test]
fn an_order_that_cannot_be_made_says_why() {
    let site = cluster();
    let server = Server::start(&site);
    site.ok(&["install", "node01"]);
    fs::write(site.path("config/layouts.d/one.toml"), "disk = 7\n").unwrap();
    let token = server.token(FIRST);
    let refused = server.get(&token, "/v1/install/order");
    assert_eq!(refused.0, 409);
    assert!(
        error_of(&refused).starts_with("cannot use the layout "),
        "{}",
        error_of(&refused)
    );
    assert_eq!(state(&site, "node01"), "install");
    fs::write(site.path("config/layouts.d/one.toml"), crate::nodes::LAYOUT).unwrap();
    assert_eq!(server.get(&token, "/v1/install/order").0, 200);
    site.ok(&["install", "node02"]);
    site.ok(&["node", "set", "node02", "image=gone"]);
    let refused = server.get(&server.token(SECOND), "/v1/install/order");
    assert_eq!(
        (refused.0, &*error_of(&refused)),
        (
            409,
            "there is no image gone; si-lsimage lists those that there are"
        )
    );
}

#[test]
fn boot_loaders_are_told_what_the_inventory_and_the_state_say() {
    let site = cluster();
    let server = Server::start(&site);
    let script = || {
        let (status, text) = server.ask(None, &format!("GET /boot/ipxe?mac={FIRST}"), b"");
        assert_eq!(status, 200);
        String::from_utf8(text).unwrap()
    };
    let local = script();
    assert!(!local.contains("kernel"), "{local}");
    fs::create_dir_all(site.state().join("boot")).unwrap();
    site.ok(&["node", "set", "node01", "console=ttyS7", "kernel_args=nomodeset"]);
    site.ok(&["install", "node01"]);
    // At once, without a restart. Without a mini-kernel there is nothing to boot, which is said instead.
    let install = script();
    assert_ne!(install, local);
    let token = server.token(FIRST);
    let order = server.order(&site, &token);
    assert_eq!(order.kernel_args, ["console=ttyS7", "nomodeset"]);
    let end = events(order.number, &json!([event(0, "", &json!("finished"))]));
    assert_eq!(server.post(&token, "/v1/install/events", &end), 200);
    assert_eq!(script(), local);
    site.ok(&["node", "mark", "node01", "rescue"]);
    assert_ne!(script(), local);
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(
        log.contains("node01 boots its local disk") && log.contains("node01 should boot the mini-kernel"),
        "{log}"
    );
}

#[test]
fn the_installers_own_client_is_understood() {
    use simulcast_protocol::api::Token;
    use simulcast_protocol::install::{Action, Event, Events, Hello, Welcome, What};
    use simulcast_transport::http::{self, Client, Retry};

    let site = cluster();
    fs::create_dir_all(site.path("config/scripts/post-install.d")).unwrap();
    fs::write(site.path("config/scripts/post-install.d/10net"), "#!/bin/sh\n").unwrap();
    let server = Server::start(&site);
    site.ok(&["install", "node01"]);
    let url: http::ServerUrl = format!("http://{}", server.address).parse().unwrap();
    let said: Hello = serde_json::from_value(hello(FIRST)).unwrap();
    let greeted = http::hello(&url, &said, Retry::BRIEF).unwrap();
    assert!(
        greeted.date.unwrap().ends_with(" GMT"),
        "the machine sets its clock by it"
    );
    let Welcome::Node { name, token, action } = greeted.welcome else {
        panic!("it is known");
    };
    assert_eq!((name.as_str(), action), ("node01", Action::Install));
    let client = Client::new(url.clone(), token, Retry::BRIEF);
    let key: VerifyingKey = fs::read_to_string(site.state().join("keys/signing.pub"))
        .unwrap()
        .parse()
        .unwrap();
    let order = Order::open(&client.order().unwrap(), &key).unwrap();
    let script = &order.post_install[0];
    assert_eq!(
        client.install_file(&script.hash, script.bytes).unwrap(),
        b"#!/bin/sh\n"
    );
    client.log("hello\n").unwrap();
    let events = Events {
        order: order.number,
        events: vec![Event {
            number: 0,
            at: 1,
            step: String::new(),
            what: What::Finished,
            detail: String::new(),
        }],
    };
    client.events(&events).unwrap();
    client.events(&events).unwrap();
    assert_eq!(state(&site, "node01"), "installed");
    assert_eq!(site.ok(&["node", "log", "node01"]).stdout, "hello\n");
    let forged = Client::new(url, Token::from_bytes([7; 32]), Retry::BRIEF);
    assert!(forged.order().is_err());
}
