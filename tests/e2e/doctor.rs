//! What `si-doctor multicast` finds out, and switches that forget their members unless somebody asks.

use std::fs;

use serde_json::Value;
use simulcast_testkit::command::{command, line, run};
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::process::{self, Process};
use simulcast_testkit::tier::{Feature, ready};

use crate::node::Node;
use crate::site::{LIMIT, Outcome, Server, Site};

/// A server at 10.77.0.1.
fn serve(site: &Site, network: &Network<'_>, arguments: &[&str]) -> Server {
    serve_at(site, &network.join("server", 1).unwrap(), arguments)
}

fn serve_at(site: &Site, machine: &Namespace, arguments: &[&str]) -> Server {
    let mut command = site.settled(machine.command(site.program("si-server")));
    command.args(arguments);
    site.started(machine.spawn("server", &mut command).unwrap())
}

/// Starts the node's own doctor, against the server at 10.77.0.1.
fn examine(site: &Site, node: &Node, seconds: u32) -> Process {
    examine_with(site, node, "10.77.0.1", seconds)
}

fn examine_with(site: &Site, node: &Node, server: &str, seconds: u32) -> Process {
    let mut command = site.settled(node.namespace.command(site.program("si-client")));
    let url = format!("http://{server}:9440");
    command.args(["doctor", "multicast", "--json", "--server", &url]);
    command.args(["--seconds", &seconds.to_string()]);
    node.namespace.spawn("doctor", &mut command).unwrap()
}

/// What it found: kinds and what was seen, and the report.
fn found(process: Process) -> (Vec<(String, String)>, Value) {
    let outcome = Outcome::of_process(process);
    let answer = outcome
        .events
        .last()
        .unwrap_or_else(|| panic!("{}", outcome.stderr));
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = answer["findings"].as_array().unwrap();
    let findings: Vec<_> = findings
        .iter()
        .map(|finding| (text(finding, "kind"), text(finding, "seen")))
        .collect();
    let code = if findings.is_empty() { 0 } else { 3 };
    assert_eq!(outcome.code, Some(code), "{findings:?}\n{}", outcome.stderr);
    (findings, answer["report"].clone())
}

fn kinds(findings: &[(String, String)]) -> Vec<&str> {
    findings.iter().map(|(kind, _)| kind.as_str()).collect()
}

#[test]
fn each_trouble_is_found_where_it_is_and_nowhere_else() {
    let features = [Feature::Root, Feature::Network, Feature::Loss, Feature::Shaping];
    if !ready("end to end", &features) {
        return;
    }
    let site = Site::new("doctor", 1 << 20);
    let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
    let nodes: Vec<Node> = (1..=6)
        .map(|number| {
            Node::new(
                &site,
                network.join(&format!("node0{number}"), 10 + number).unwrap(),
            )
        })
        .collect();
    let server = serve(&site, &network, &[]);
    let [well, deaf, tunnel, storm, walled, _small] = &nodes[..] else {
        unreachable!()
    };
    deaf.refuse_multicast();
    tunnel.refuse("ip daddr 224.0.0.0/4 ip length > 1400");
    storm.refuse("ip daddr 224.0.0.0/4 udp dport 9441-9504 numgen random mod 100 < 8");
    walled.refuse("meta l4proto udp");
    // The switch's port to node06 has a buffer for twenty packets.
    let small = "qdisc replace dev node06 root tbf rate 100mbit burst 10000 limit 30000";
    run(command("tc")
        .args(["-n", network.switch()])
        .args(small.split(' ')))
    .unwrap();
    let running: Vec<Process> = nodes.iter().map(|node| examine(&site, node, 4)).collect();
    let results: Vec<_> = running.into_iter().map(found).collect();
    let expected: [&[&str]; 6] = [
        &[],
        &["not-reached"],
        &["large-lost"],
        &["multicast-lost"],
        &["nothing-arrives"],
        &["bursts-lost"],
    ];
    for ((node, (findings, report)), expected) in nodes.iter().zip(&results).zip(expected) {
        assert_eq!(kinds(findings), expected, "{}: {report}", node.namespace.name());
    }
    let seen = &results[2].0[0].1;
    assert_eq!(
        seen,
        "multicast packets of 1400 bytes pass, of 1500 bytes none does"
    );
    let flow = &results[0].1["counts"]["multicast"];
    // Four seconds of twenty rounds with two packets of each size; a burst of 64 in each half of a second.
    for size in flow["sizes"].as_array().unwrap() {
        assert_eq!(
            (&size["sent"], &size["came"]),
            (&160.into(), &160.into()),
            "{flow}"
        );
    }
    assert_eq!(
        (&flow["bursts"]["sent"], &flow["bursts"]["came"]),
        (&512.into(), &512.into()),
        "{flow}"
    );
    assert_found_from_server(&site, [well, deaf, storm]);
    drop(server);
}

/// The same from the server, for all together; a shell in the node's namespace stands for ssh.
fn assert_found_from_server(site: &Site, nodes: [&Node; 3]) {
    let fake = site.run.dir().join("ssh.sh");
    let mut script = "while [ \"$1\" != -- ]; do shift; done\ncase $2 in\n".to_owned();
    for node in nodes {
        let inside = line(&node.namespace.command("sh"));
        script.push_str(&format!("{}) in='{inside}';;\n", node.namespace.name()));
    }
    let programs = site.program("si-client");
    let programs = programs.parent().unwrap().display();
    script.push_str(&format!(
        "*) echo 'no route to host' >&2; exit 255;;\nesac\nexport PATH={programs}:$PATH SSH_CONNECTION='10.77.0.1 1 2 3'\n\
         exec $in -c \"$3\"\n"
    ));
    fs::write(&fake, script).unwrap();
    let mut doctor = site.command("si-doctor");
    doctor.env("SI_SSH", format!("sh {}", fake.display()));
    doctor.args(["multicast", "--seconds", "3", "node[01-02,04]", "nobody"]);
    let outcome = process::spawn("doctor", &mut doctor, site.run.dir()).unwrap();
    let (code, stdout, stderr) = ended(outcome);
    assert_eq!(code, Some(3), "{stdout}\n{stderr}");
    for part in [
        "node02: error: packets to the machine itself arrive, those to the multicast group do not",
        "node04: warning: ",
        "  remedy: ",
        "node01: multicast is well",
    ] {
        assert!(stdout.contains(part), "{part:?} is not in:\n{stdout}\n{stderr}");
    }
    assert!(
        stderr.contains("warning: nobody: cannot reach nobody by ssh: no route to host"),
        "{stderr}"
    );
}

fn ended(mut process: Process) -> (Option<i32>, String, String) {
    let status = process.wait(LIMIT).unwrap();
    (status.code(), process.stdout(), process.stderr())
}

/// A switch that snoops, asks nobody, and forgets a member after six seconds (others after 260).
fn forgetful(site: &Site) -> Network<'_> {
    let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
    let silent = "mcast_startup_query_count 1 mcast_startup_query_interval 360000 mcast_query_interval 360000 \
                  mcast_membership_interval 600";
    let mut ip = command("ip");
    ip.args([
        "-n",
        network.switch(),
        "link",
        "set",
        "dev",
        "br0",
        "type",
        "bridge",
    ]);
    run(ip.args(silent.split_whitespace())).unwrap();
    network
}

#[test]
fn a_switch_that_forgets_is_found_out() {
    if !ready("end to end", &[Feature::Root, Feature::Network]) {
        return;
    }
    let site = Site::new("forgets", 1 << 20);
    let network = forgetful(&site);
    let node = Node::new(&site, network.join("node01", 11).unwrap());
    let server = serve(&site, &network, &["--igmp-querier", "off"]);
    let (findings, report) = found(examine(&site, &node, 14));
    assert_eq!(kinds(&findings), ["stopped"], "{report}");
    assert!(findings[0].1.contains(" s and then no more"), "{findings:?}");
    drop(server);
}

#[test]
fn where_nobody_asks_the_server_does_and_members_are_not_forgotten() {
    if !ready("end to end", &[Feature::Root, Feature::Network]) {
        return;
    }
    let site = Site::new("querier", 1 << 20);
    let network = forgetful(&site);
    let node = Node::new(&site, network.join("node01", 11).unwrap());
    // Queries every two seconds, after a little more than four in which nobody is heard.
    let mut server = serve(&site, &network, &["--igmp-interval", "2s"]);
    let (findings, report) = found(examine(&site, &node, 14));
    assert_eq!(findings, [], "{report}");
    let heard = &report["counts"]["machine"]["listening"]["heard"];
    assert_eq!(
        (&heard["protocol"], &heard["from"]),
        (&"IGMPv2".into(), &"10.77.0.1".into()),
        "{report}"
    );
    assert_eq!(report["server"]["querier"], true);
    let told = server
        .process
        .wait_until("the end of the probe", LIMIT, |process| {
            let log = process.stderr();
            Ok(log.contains("being the querier no more").then_some(log))
        });
    assert!(
        told.unwrap()
            .contains("nobody else asks for members of groups: being the querier")
    );
}

#[test]
fn the_same_of_ipv6() {
    if !ready("end to end", &[Feature::Root, Feature::Network]) {
        return;
    }
    let site = Site::new("mld", 1 << 20);
    let network = forgetful(&site);
    let node = Node::new(&site, network.join("node01", 11).unwrap());
    let machine = network.join("server", 1).unwrap();
    machine.forget_ipv4().unwrap();
    node.namespace.forget_ipv4().unwrap();
    let server = serve_at(&site, &machine, &["--igmp-interval", "2s"]);
    let address = format!("[{}]", machine.address_v6());
    let (findings, report) = found(examine_with(&site, &node, &address, 14));
    assert_eq!(findings, [], "{report}");
    let heard = &report["counts"]["machine"]["listening"]["heard"];
    assert_eq!(heard["protocol"], "MLDv1", "{report}");
    assert_eq!(report["server"]["querier"], true);
    drop(server);
}

#[test]
fn of_two_servers_the_one_with_the_lower_address_asks() {
    if !ready("end to end", &[Feature::Root, Feature::Network]) {
        return;
    }
    let site = Site::new("election", 1 << 20);
    let network = Network::new(&site.run, Snooping::Off).unwrap();
    let node = Node::new(&site, network.join("node01", 11).unwrap());
    let on = ["--igmp-querier", "on", "--igmp-interval", "2s"];
    let low = serve(&site, &network, &on);
    let mut high = serve_at(&site, &network.join("other", 20).unwrap(), &on);
    let began = "nobody else asks for members of groups: being the querier";
    let until = |server: &mut Server, words: &str| {
        let told = server.process.wait_until(words, LIMIT, |process| {
            Ok(process.stderr().contains(words).then_some(()))
        });
        told.unwrap();
    };
    let first = examine_with(&site, &node, "10.77.0.20", 12);
    until(&mut high, began);
    let second = examine(&site, &node, 3);
    until(&mut high, "another querier is there: being it no more");
    assert_eq!((found(first).0, found(second).0), (vec![], vec![]));
    assert!(low.process.stderr().contains(began));
    assert!(
        !low.process.stderr().contains("being it no more"),
        "{}",
        low.process.stderr()
    );
}

#[test]
fn nonsense_about_probes_is_refused() {
    if !ready("end to end", &[Feature::Root]) {
        return;
    }
    let site = Site::new("probe-api", 1 << 10);
    let server = site.server(&[]);
    let token = site.token();
    let post = |path: &str, body: &str| server.post(&token, path, body).0;
    for (path, body, status) in [
        ("/v1/probes", "{}", 400),
        ("/v1/probes", "{\"seconds\":1,\"port\":0}", 400),
        ("/v1/probes", "{\"seconds\":0,\"port\":9}", 400),
        ("/v1/probes", "{\"seconds\":1,\"port\":70000}", 400),
        ("/v1/probes/x/counts", "{}", 400),
        ("/v1/probes/7/counts", "{}", 400),
    ] {
        assert_eq!(post(path, body), status, "{path} {body}");
    }
    let flow =
        r#"{"sizes":[],"bursts":{"bytes":0,"sent":0,"came":0},"each_second":0,"seconds":[],"lost":[]}"#;
    let machine = r#"{"interface":"","mtu":0,"speed":null,"wireless":false,"socket_drops":0,"counters":[],"listening":{"seconds":null,"heard":null}}"#;
    let counts = format!(r#"{{"multicast":{flow},"unicast":{flow},"wrong":0,"machine":{machine}}}"#);
    assert_eq!(post("/v1/probes/7/counts", &counts), 404);
    assert_eq!(
        post("/v1/probes/7/counts", &" ".repeat(70_000)),
        400,
        "longer than any result"
    );
    assert_eq!(server.post("0".repeat(64).as_str(), "/v1/probes", "{}").0, 401);
}
