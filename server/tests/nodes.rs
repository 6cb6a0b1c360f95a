//! Nodes and groups as an operator keeps them.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Run, Site};

/// A layout that fits any machine with one disk.
pub(crate) const LAYOUT: &str = "\
[disk.system]
partition = [{ name = \"root\", size = \"rest\" }]

[[filesystem]]
on = \"system.root\"
kind = \"ext4\"
mount = \"/\"
";

/// A site with `golden@1`, a layout, and nodes node01 to node03 that have both from group all.
pub(crate) fn cluster() -> Site {
    let site = Site::with_golden();
    fs::create_dir_all(site.path("config/layouts.d")).unwrap();
    fs::write(site.path("config/layouts.d/one.toml"), LAYOUT).unwrap();
    site.ok(&["group", "add", "all", "--image", "golden", "--layout", "one"]);
    site.ok(&["group", "add", "gpu", "priority=5", "console=ttyS1"]);
    for number in 1..=3 {
        let (name, mac) = (format!("node0{number}"), format!("52:54:00:00:00:0{number}"));
        site.ok(&["node", "add", &name, "--mac", &mac]);
    }
    site
}

fn nodes_file(site: &Site) -> String {
    fs::read_to_string(site.path("config/nodes.d/nodes.toml")).unwrap()
}

/// One field of all nodes.
fn field(site: &Site, name: &str) -> Vec<Value> {
    let list = site.json(&["node", "list"]);
    list.as_array()
        .unwrap()
        .iter()
        .map(|node| node[name].clone())
        .collect()
}

#[test]
fn nodes_are_added_changed_shown_and_removed() {
    let site = cluster();
    let expected = "[node.node01]\nmac = \"52:54:00:00:00:01\"\n\n[node.node02]\nmac = \"52:54:00:00:00:02\"\n\n\
                    [node.node03]\nmac = \"52:54:00:00:00:03\"\n";
    assert_eq!(nodes_file(&site), expected);
    let run = site.ok(&["node", "set", "node[01-02]", "groups=gpu", "variables.RACK=7"]);
    assert_eq!(run.stdout, "changed node[01-02]\n");
    let list = site.ok(&["node", "list", "@gpu"]).stdout;
    let lines: Vec<_> = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(
        lines[0],
        ["NODE", "STATE", "IMAGE", "INSTALLED", "ADDRESS", "SINCE"]
    );
    assert_eq!(
        lines[1..],
        [
            ["node01", "local", "golden", "-", "-", "-"],
            ["node02", "local", "golden", "-", "-", "-"]
        ]
    );
    let shown = site.ok(&["node", "show", "node01"]).stdout;
    for part in [
        "node01: local\n",
        "  groups: all < gpu\n",
        "  console: ttyS1   (group gpu)\n",
        "  image: golden   (group all)\n",
        "  variables.RACK: 7\n",
        "/config/nodes.d/nodes.toml:1\n",
    ] {
        assert!(shown.contains(part), "{part:?} in:\n{shown}");
    }
    site.ok(&["node", "unset", "@gpu", "variables.RACK", "groups"]);
    assert_eq!(site.json(&["group", "show", "gpu"])["nodes"], json!([]));
    site.fails(
        &["node", "remove", "node03"],
        2,
        "error: cannot ask \"remove node03?\": standard input is no terminal\n\
         hint: give --yes to do it without being asked; nothing was changed",
    );
    assert_eq!(
        site.ok(&["node", "remove", "node03", "--yes"]).stdout,
        "removed node03\n"
    );
    assert_eq!(field(&site, "name"), [json!("node01"), json!("node02")]);
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_it_would() {
    let site = cluster();
    let before = nodes_file(&site);
    for (arguments, said) in [
        (&["node", "add", "node04"][..], "would add node04\n"),
        (
            &["node", "set", "@all", "wipe=true"],
            "would change node[01-03]\n",
        ),
        (&["node", "unset", "node01", "mac"], "would change node01\n"),
        (&["node", "remove", "@all"], "would remove node[01-03]\n"),
        (&["node", "mark", "node01", "rescue"], "would mark node01\n"),
        (
            &["install", "@all", "--image", "golden@1"],
            "would install node[01-03] at the next boot\n",
        ),
        (&["group", "add", "x"], "would add group x\n"),
    ] {
        assert_eq!(site.ok(&[arguments, &["--dry-run"]].concat()).stdout, said);
    }
    assert_eq!(nodes_file(&site), before);
    assert!(field(&site, "state").iter().all(|state| state == "local"));
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let site = cluster();
    let before = nodes_file(&site);
    for (arguments, code, error) in [
        (
            &["node", "set", "node07", "wipe=true"][..],
            1,
            "error: there is no node node07\nhint: si-node list",
        ),
        (
            &["node", "set", "node[1-", "wipe=true"],
            2,
            "error: \"node[1-\" is no set of nodes: its brackets",
        ),
        (
            &["node", "set", "@cpu", "wipe=true"],
            2,
            "error: there is no group cpu",
        ),
        (
            &["node", "set", "node01", "imag=x"],
            2,
            "error: there is no key \"imag\"; those are mac, ",
        ),
        (
            &["node", "set", "node01", "wipe=1"],
            2,
            "error: wipe: write true or false",
        ),
        (
            &["node", "set", "node02", "mac=52:54:00:00:00:01"],
            2,
            "error: {}/config/nodes.d/nodes.toml:4: node02 has mac",
        ),
        (
            &["node", "set", "node01", "groups=none"],
            2,
            "error: {}/config/nodes.d/nodes.toml:1: node01 is in group none",
        ),
        (
            &["node", "add", "node01"],
            2,
            "error: node node01 is already at {}/config/nodes.d/nodes.toml:1",
        ),
        (
            &["node", "add", "Node"],
            2,
            "error: \"Node\" is not a node's name",
        ),
        (&["node", "list", "node9"], 1, "error: there is no node node9"),
        (
            &["node", "log", "node01"],
            1,
            "error: node01 has had no order that is remembered",
        ),
        (
            &["node", "adopt", "52:54:00:00:00:77", "node09"],
            1,
            "error: no machine with network card 52:54:00:00:00:77",
        ),
        (
            &["group", "remove", "none", "--yes"],
            1,
            "error: there is no group none",
        ),
        (
            &["install", "node01", "--image", "silver"],
            1,
            "error: there is no image silver",
        ),
    ] {
        let run = site.run(arguments);
        let wanted = error.replace("{}", site.path("").to_str().unwrap().trim_end_matches('/'));
        assert_eq!(run.code(), Some(code), "{run:#?}");
        assert!(
            run.stderr.starts_with(&wanted),
            "{arguments:?}: {run:#?}\nwanted {wanted}"
        );
        assert_eq!(run.stdout, "");
    }
    assert_eq!(nodes_file(&site), before);
    let members =
        "error: node01 are in group gpu\nhint: si-node set '@gpu' groups=… puts them into others first";
    site.ok(&["node", "set", "node01", "groups=gpu"]);
    site.fails(&["group", "remove", "gpu", "--yes"], 1, members);
    fs::write(site.path("config/nodes.d/mine.toml"), "[node.x]\n\ncolour = 1\n").unwrap();
    let run = site.run(&["node", "list"]);
    assert_eq!(run.code(), Some(2));
    assert!(
        run.stderr
            .contains("/config/nodes.d/mine.toml:3: unknown field `colour`"),
        "{}",
        run.stderr
    );
}

#[test]
fn groups_are_listed_with_their_nodes() {
    let site = cluster();
    site.ok(&["node", "set", "node[01-02]", "groups=gpu"]);
    let list = site.ok(&["group", "list"]).stdout;
    let lines: Vec<_> = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .collect();
    assert_eq!(
        lines[1..],
        [
            ["all", "0", "golden", "node[01-03]"],
            ["gpu", "5", "-", "node[01-02]"]
        ]
    );
    site.ok(&["group", "set", "gpu", "image=golden@1"]);
    assert_eq!(
        field(&site, "image"),
        [json!("golden@1"), json!("golden@1"), json!("golden")]
    );
    site.ok(&["group", "unset", "gpu", "image"]);
    assert_eq!(
        site.json(&["group", "show", "gpu"])["settings"],
        json!({"priority": 5, "console": "ttyS1"})
    );
    site.ok(&["node", "unset", "@all", "groups"]);
    site.ok(&["group", "remove", "gpu", "--yes"]);
    assert_eq!(site.json(&["group", "list"]).as_array().unwrap().len(), 1);
}

#[test]
fn nodes_are_marked_for_install_and_those_that_cannot_be_are_named() {
    let site = cluster();
    assert_eq!(
        site.ok(&["install", "node[01-02]"]).stdout,
        "will install node[01-02] at the next boot\n"
    );
    assert_eq!(field(&site, "state"), ["install", "install", "local"]);
    site.ok(&["node", "set", "node02", "network=static"]);
    let run = site.run(&["install", "@all", "--image", "golden@1"]);
    assert_eq!(
        (run.code(), &*run.stdout),
        (Some(3), "will install node[01,03] at the next boot\n")
    );
    assert_eq!(
        run.stderr,
        "error: cannot install node02: node02 has network = \"static\" without address\n\
         hint: si-node set node02 address=…, or set it for one of its groups\n"
    );
    assert_eq!(field(&site, "image"), ["golden@1"; 3]);
    site.ok(&["node", "mark", "node01", "local"]);
    assert_eq!(field(&site, "state"), ["local", "install", "install"]);
    site.ok(&["group", "unset", "all", "layout"]);
    let run = site.run(&["install", "node03"]);
    assert_eq!(run.code(), Some(1));
    assert!(
        run.stderr
            .contains("nobody says how the disks of node03 are divided, and golden has no record of its golden client's\nhint: write layouts.d/")
    );
    site.ok(&["node", "add", "bare", "--layout", "one"]);
    site.ok(&["group", "unset", "all", "image"]);
    let run = site.run(&["install", "bare"]);
    assert!(
        run.stderr.contains("nobody says which image bare gets"),
        "{}",
        run.stderr
    );
}

#[test]
fn the_order_of_a_node_is_shown_before_it_gets_one() {
    let site = cluster();
    for (path, text) in [
        ("config/overrides/image/golden/etc/motd", "image"),
        ("config/overrides/group/gpu/etc/motd", "gpu"),
        ("config/overrides/node/node01/etc/motd", "node"),
        ("config/overrides/node/node02/etc/motd", "another's"),
        ("config/scripts/pre-install.d/10check", "#!/bin/sh\n"),
        ("config/scripts/post-install.d/20net", "#!/bin/sh\n"),
    ] {
        fs::create_dir_all(site.path(path).parent().unwrap()).unwrap();
        fs::write(site.path(path), text).unwrap();
    }
    site.ok(&[
        "node",
        "set",
        "node01",
        "groups=gpu",
        "network=static",
        "address=10.0.0.11",
        "prefix=24",
        "gateway=10.0.0.1",
        "dns=10.0.0.1,10.0.0.2",
        "domain=example.org",
        "finish=kexec",
        "transport=http",
        "kernel_args=quiet  nomodeset",
        "machine_id=keep",
        "variables.RACK=7",
        "rescue_keys=ssh-ed25519 AAAA me",
    ]);
    let orders = site.json(&["node", "show", "node01", "--order"]);
    let order = &orders[0];
    let names = |list: &Value| -> Vec<String> {
        list.as_array()
            .unwrap()
            .iter()
            .map(|extra| extra["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&order["overrides"]),
        ["image/golden", "group/gpu", "node/node01"]
    );
    assert_eq!(
        (names(&order["pre_install"]), names(&order["post_install"])),
        (vec!["10check".into()], vec!["20net".into()])
    );
    let address = json!({"static": {"address": "10.0.0.11/24", "gateway": "10.0.0.1", "dns": ["10.0.0.1", "10.0.0.2"]}});
    let network = json!({"hostname": "node01", "domain": "example.org", "address": address, "mac": "52:54:00:00:00:01"});
    assert_eq!(order["network"], network);
    assert_eq!(
        order["identity"],
        json!({"machine_id": "keep", "ssh_host_keys": "new"})
    );
    for (key, value) in [
        ("node", json!("node01")),
        ("image", json!("golden")),
        ("version", json!(1)),
        ("finish", json!("kexec")),
        ("transport", json!("http")),
        ("kernel_args", json!(["console=ttyS1", "quiet", "nomodeset"])),
        ("variables", json!({"RACK": "7"})),
        ("rescue_keys", json!(["ssh-ed25519 AAAA me"])),
        ("wipe", json!(false)),
    ] {
        assert_eq!(order[key], value, "{key}");
    }
    // What an order names is kept under its identity.
    for extra in order["overrides"].as_array().unwrap() {
        let kept = site.state().join("extras").join(extra["hash"].as_str().unwrap());
        assert_eq!(
            fs::metadata(kept).unwrap().len(),
            extra["bytes"].as_u64().unwrap()
        );
    }
}

#[test]
fn without_anything_nothing_is_listed_and_no_state_is_made() {
    let site = Site::new();
    let run: Run = site.ok(&["node", "list"]);
    assert_eq!((&*run.stdout, &*run.stderr), ("", "there are no such nodes\n"));
    assert_eq!(site.json(&["node", "list", "--unknown"]), json!([]));
    assert!(!site.state().exists());
}

#[test]
fn a_site_s_own_dhcp_service_is_told_the_addresses_of_nodes() {
    let site = cluster();
    site.ok(&["node", "set", "node02", "address=10.0.0.12"]);
    let boot =
        "[boot]\nmode = \"dhcp\"\ninterface = \"eth1\"\nnetwork = \"10.0.0.0/24\"\naddress = \"10.0.0.1\"\n";
    fs::write(site.path("config/server.toml"), boot).unwrap();
    let printed = |service| site.ok(&["mkbootserver", "--print", service]).stdout;
    let dnsmasq = printed("dnsmasq");
    let lines: Vec<_> = dnsmasq
        .lines()
        .filter(|line| line.starts_with("dhcp-host="))
        .collect();
    let expected = [
        "dhcp-host=52:54:00:00:00:01,node01",
        "dhcp-host=52:54:00:00:00:02,10.0.0.12,node02",
        "dhcp-host=52:54:00:00:00:03,node03",
    ];
    assert_eq!(lines, expected);
    assert!(printed("dhcpd").contains("fixed-address 10.0.0.12;"));
    let kea = site.json(&["mkbootserver", "--print", "kea"]);
    let reservation = kea.pointer("/Dhcp4/subnet4/0/reservations/1/ip-address");
    assert_eq!(reservation, Some(&json!("10.0.0.12")), "{kea}");
}
