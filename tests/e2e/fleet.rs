//! `si-pushupdate` with several nodes on a network: real programs, a shell in a node's namespace in place of ssh.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use simulcast_testkit::command::{command, line, run};
use simulcast_testkit::compare;
use simulcast_testkit::golden::noise;
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Server, Site};

const MIB: u64 = 1 << 20;

/// A server with versions, and four nodes: two run the first of them, one the second, and of the last nobody knows.
struct Fleet<'s> {
    site: &'s Site,
    nodes: Vec<Namespace>,
    machine: Namespace,
    _server: Server,
    _network: Network<'s>,
}

/// What is wrong with a node.
enum Fate {
    Down,
    /// Its disk takes nothing.
    ReadOnly,
}

/// Versions 2, 3 and 4 of `gold`, of which each alters each program a little, so that each old version needs a record for each.
fn site(label: &str) -> Site {
    let site = Site::new(label, 8 * MIB);
    for version in 2..=4 {
        for number in 0..3 {
            let path = site.tree.join(format!("program{number}"));
            if version > 2 {
                fs::remove_file(&path).unwrap();
            }
            noise::file(&path, &format!("program{number}"), 2 * MIB).unwrap();
            let mut bytes = fs::read(&path).unwrap();
            bytes.splice(1000..1000, format!("version {version}").into_bytes());
            fs::write(&path, bytes).unwrap();
        }
        site.import_again();
    }
    site
}

impl<'s> Fleet<'s> {
    fn new(site: &'s Site) -> Self {
        let network = Network::new(&site.run, Snooping::WithQuerier).unwrap();
        let machine = network.join("server", 1).unwrap();
        let mut command = site.settled(machine.command(site.program("si-server")));
        command.args(["--rate", "100Mbit"]);
        let server = site.started(machine.spawn("server", &mut command).unwrap());
        let nodes: Vec<Namespace> = (1..=4)
            .map(|number| network.join(&format!("node{number:02}"), 10 + number).unwrap())
            .collect();
        let fleet = Self {
            site,
            nodes,
            machine,
            _server: server,
            _network: network,
        };
        for (node, version) in fleet.nodes.iter().zip([2, 2, 3, 2]) {
            let mut checkout = site.command("si-checkout");
            run(checkout.arg(format!("gold@{version}")).arg(fleet.tree(node))).unwrap();
        }
        fleet.pretend(&[]);
        for (node, version) in fleet.nodes.iter().zip([2, 2, 3]) {
            fleet.note(node, version);
        }
        run(site.command("si-node").args(["add", "node[01-04]"])).unwrap();
        fleet
    }

    fn tree(&self, node: &Namespace) -> PathBuf {
        self.site.run.dir().join(node.name())
    }

    /// Writes what stands for ssh: each node sees its own tree as /mnt and has a state of its own.
    fn pretend(&self, fates: &[(&str, Fate)]) {
        let fate = |node: &Namespace| {
            fates
                .iter()
                .find(|(name, _)| *name == node.name())
                .map(|(_, fate)| fate)
        };
        let mut script = "while [ \"$1\" != -- ]; do shift; done\nro=:\ncase $2 in\n".to_owned();
        for node in &self.nodes {
            let read_only = match fate(node) {
                Some(Fate::Down) => continue,
                Some(Fate::ReadOnly) => "ro='mount -o remount,bind,ro /mnt'",
                None => ":",
            };
            let inside = line(&node.command("unshare"));
            let (name, tree) = (node.name(), self.tree(node));
            script.push_str(&format!(
                "{name}) in='{inside}' tree='{}'; {read_only};;\n",
                tree.display()
            ));
        }
        let programs = self.site.program("si-client");
        let programs = programs.parent().unwrap().display();
        script.push_str(&format!(
            "*) echo 'no route to host' >&2; exit 255;;\nesac\n\
             export PATH={programs}:$PATH SSH_CONNECTION='{} 1 2 3' SI_STATE=\"$tree.state\"\n\
             exec $in --mount sh -c 'mount --bind \"$0\" /mnt && $2 && exec sh -c \"$1\"' \"$tree\" \"$3\" \"$ro\"\n",
            self.machine.address()
        ));
        fs::write(self.ssh(), script).unwrap();
    }

    fn ssh(&self) -> PathBuf {
        self.site.run.dir().join("ssh.sh")
    }

    /// Has a node's state say what it runs, as an update that finds nothing to do does.
    fn note(&self, node: &Namespace, version: u32) {
        let script = format!(
            "si-client updateclient --server http://{}:9440 --image gold@{version} --root /mnt",
            self.machine.address()
        );
        let mut updating = command("sh");
        updating.arg(self.ssh()).args(["--", node.name(), &script]);
        updating.env("SI_TOKEN", self.site.token());
        run(&mut updating).unwrap();
    }

    /// Pushes, and reads what it says at the end.
    fn push(&self, name: &str, arguments: &[&str]) -> (Option<i32>, Value) {
        let mut pushing = self.site.command("si-pushupdate");
        pushing.env("SI_SSH", format!("sh {}", self.ssh().display()));
        pushing.args(arguments).arg("--json");
        let outcome = Outcome::of(self.site, name, &mut pushing);
        let last = outcome.events.last().cloned();
        (outcome.code, last.unwrap_or_else(|| panic!("{}", outcome.stderr)))
    }

    fn states<'v>(&self, push: &'v Value) -> Vec<&'v str> {
        let state = |node: &Namespace| push["nodes"][node.name()]["state"].as_str().unwrap();
        self.nodes.iter().map(state).collect()
    }

    fn assert_is(&self, node: &Namespace, tree: &Path) {
        let differences = compare::differences(tree, &self.tree(node), &["/kinds/socket"]).unwrap();
        assert!(differences.is_empty(), "{}: {differences:#?}", node.name());
    }
}

const TO_GOLD: [&str; 5] = ["node[01-04]", "--image", "gold", "--root", "/mnt"];

#[test]
fn nodes_of_different_versions_share_a_pack_and_those_that_were_down_get_it_later() {
    if !ready("end to end", &[Feature::Root, Feature::Network, Feature::Rsync]) {
        return;
    }
    let site = site("fleet");
    let fleet = Fleet::new(&site);
    fleet.pretend(&[("node02", Fate::Down)]);
    let (code, plan) = fleet.push("plan", &[&TO_GOLD[..], &["--dry-run"]].concat());
    assert_eq!(code, Some(0), "{plan}");
    let from = json!({"gold@2": ["node01"], "gold@3": ["node03"], "unknown": ["node04"]});
    assert_eq!((&plan["from"], &plan["down"]), (&from, &json!(["node02"])));

    let before = fleet.machine.counters().unwrap();
    let (code, push) = fleet.push("push", &TO_GOLD);
    let sent = fleet.machine.counters().unwrap().since(before).sent_bytes;
    assert_eq!(code, Some(3), "{push}");
    assert_eq!(fleet.states(&push), ["done", "down", "done", "done"], "{push}");
    for node in [&fleet.nodes[0], &fleet.nodes[2], &fleet.nodes[3]] {
        fleet.assert_is(node, &site.tree);
    }
    // A few hundred bytes for each of those whose old contents are known, out of one pack.
    for node in ["node01", "node03"] {
        let bytes = push["nodes"][node]["bytes_pack"].as_u64().unwrap();
        assert!((1..20_000).contains(&bytes), "{push}");
    }
    assert_eq!(fs::read_dir(site.state.join("packs")).unwrap().count(), 1);
    // The last one needs 6 MiB of programs as they are.
    assert!(sent < 9 * MIB, "{sent} bytes were sent");

    fleet.pretend(&[]);
    let (code, push) = fleet.push("resume", &["--resume"]);
    assert_eq!((code, fleet.states(&push)[1]), (Some(0), "done"), "{push}");
    fleet.assert_is(&fleet.nodes[1], &site.tree);
    let (code, push) = fleet.push("again", &TO_GOLD);
    assert_eq!(
        (code, fleet.states(&push)),
        (Some(0), vec!["already"; 4]),
        "{push}"
    );
    let mut nothing = site.command("si-pushupdate");
    Outcome::of(&site, "nothing", nothing.arg("--resume")).assert_failed(2, &["is through"]);
}

#[test]
fn a_failing_canary_stops_everything_until_it_is_resumed() {
    if !ready("end to end", &[Feature::Root, Feature::Network, Feature::Rsync]) {
        return;
    }
    let site = site("canary");
    let fleet = Fleet::new(&site);
    fleet.pretend(&[("node01", Fate::ReadOnly)]);
    let waves = [
        &TO_GOLD[..],
        &["--canary", "1", "--wave", "2", "--max-failures", "50%"],
    ]
    .concat();
    let (code, push) = fleet.push("canary", &waves);
    assert_eq!((code, &push["stopped"]), (Some(1), &true.into()), "{push}");
    assert_eq!(fleet.states(&push), ["failed", "pending", "pending", "pending"]);
    let error = push["nodes"]["node01"]["error"].as_str().unwrap();
    assert!(error.contains("Read-only file system"), "{error}");
    // The canary is well now, another node is not: it may fail, and the rest go on.
    fleet.pretend(&[("node02", Fate::ReadOnly)]);
    let (code, push) = fleet.push("canary-resumed", &["--resume"]);
    assert_eq!(fleet.states(&push), ["done", "failed", "done", "done"], "{push}");
    assert_eq!((code, &push["stopped"]), (Some(3), &false.into()));
    fleet.pretend(&[]);
    let (code, _) = fleet.push("canary-through", &["--resume"]);
    assert_eq!(code, Some(0));
    for node in &fleet.nodes {
        fleet.assert_is(node, &site.tree);
    }
}
