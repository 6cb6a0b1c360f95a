//! Plans for programs, rollbacks without a server, and the proof of what a machine has.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use simulcast_testkit::command::{command, run};
use simulcast_testkit::compare;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Server, Site};

const SOCKET: &[&str] = &["/kinds/socket"];

/// A site with nodes `n1` to `n3`, each with a state of its own.
struct Nodes {
    site: Site,
    server: Option<Server>,
}

impl Nodes {
    fn new(label: &str) -> Option<Self> {
        if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
            return None;
        }
        let site = Site::new(label, 1 << 20);
        fs::write(site.tree.join("made"), "later").unwrap();
        fs::write(site.tree.join("etc/service-001.conf"), "other").unwrap();
        fs::remove_file(site.tree.join("etc/service-002.conf")).unwrap();
        site.import_again();
        let nodes =
            "[node.n1]\nimage = \"gold@2\"\n[node.n2]\nimage = \"gold@2\"\n[node.n3]\nimage = \"gold@2\"\n";
        site.config_file("nodes.d/n.toml", nodes);
        let server = Some(site.server(&[]));
        Some(Self { site, server })
    }

    fn node(&self, name: &str) -> PathBuf {
        self.site.run.dir().join(name)
    }

    /// A program on a node.
    fn on(&self, name: &str, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = command(self.site.program(program));
        command
            .env("SI_TOKEN", self.site.token())
            .env_remove("SI_SERVER_KEY");
        if program == "si-client" {
            command.arg("verify");
        }
        command
            .arg("--state")
            .arg(self.site.run.dir().join(format!("{name}.state")));
        command
            .arg("--config")
            .arg(self.site.run.dir().join(format!("{name}.config")));
        command
            .args(["--json", "--no-default-excludes", "--root"])
            .arg(self.node(name));
        command.args(arguments);
        Outcome::of(&self.site, name, &mut command)
    }

    fn update(&self, name: &str, arguments: &[&str]) -> Outcome {
        let server = format!("http://{}", self.server.as_ref().unwrap().address);
        let fixed = ["--server", &server, "--transport", "http"];
        self.on(name, "si-updateclient", &[&fixed, arguments].concat())
    }

    /// A stand-in for ssh, which runs on each of the nodes what the server wants run there; n3 is down.
    fn ssh(&self, names: &[&str]) -> String {
        let dir = self.site.run.dir();
        let stand_in = "#!/bin/sh\nwhile [ \"$1\" != -- ]; do shift; done\nname=$2\n\
            [ \"$name\" != n3 ] || { echo 'connect to host n3 port 22: No route to host' >&2; exit 255; }\n\
            export SI_STATE=DIR/$name.state SI_CONFIG=DIR/$name.config PATH=DIR/$name.bin:$PATH\nexec sh -c \"$3\"\n";
        fs::write(dir.join("ssh"), stand_in.replace("DIR", dir.to_str().unwrap())).unwrap();
        for name in names {
            let bin = dir.join(format!("{name}.bin"));
            fs::create_dir(&bin).unwrap();
            let script = format!(
                "#!/bin/sh\nexec {} \"$@\" --no-default-excludes --root {}\n",
                self.site.program("si-client").display(),
                self.node(name).display()
            );
            fs::write(bin.join("si-client"), script).unwrap();
            run(command("chmod").arg("755").arg(bin.join("si-client"))).unwrap();
        }
        format!("sh {}", dir.join("ssh").display())
    }
}

/// A copy to the nanosecond, without what is kept.
fn copied(tree: &Path, to: &Path) {
    run(command("cp").arg("-a").arg(tree).arg(to)).unwrap();
    let stat = fs::metadata(tree).unwrap();
    fs::remove_dir_all(to.join(".simulcast-kept")).unwrap();
    fs::File::open(to)
        .unwrap()
        .set_modified(stat.modified().unwrap())
        .unwrap();
}

fn last(outcome: &Outcome) -> &Value {
    outcome
        .events
        .last()
        .unwrap_or_else(|| panic!("{}", outcome.stderr))
}

/// Checks what the plan of the rollback's test must have.
fn assert_planned(event: &Value) {
    let paths: Vec<(&str, &str)> = event["paths"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["action"].as_str().unwrap(), step["path"].as_str().unwrap()))
        .collect();
    for step in [
        ("write", "/made"),
        ("write", "/etc/service-001.conf"),
        ("metadata", "/etc"),
        ("delete", "/etc/service-002.conf"),
        ("delete", "/stray"),
    ] {
        assert!(paths.contains(&step), "{step:?} is not in {paths:?}");
    }
}

#[test]
fn a_rollback_brings_back_local_changes_without_a_server() {
    let Some(mut nodes) = Nodes::new("rollback") else {
        return;
    };
    let (node, before) = (nodes.node("n1"), nodes.node("before"));
    fs::create_dir(&node).unwrap();
    nodes.update("n1", &["--image", "gold@1"]).done();
    fs::write(node.join("etc/service-001.conf"), "changed here").unwrap();
    fs::write(node.join("stray"), "put there").unwrap();
    copied(&node, &before);
    let plan = nodes.update("n1", &["--image", "gold@2", "--dry-run"]);
    let event = last(&plan);
    assert_eq!(event["event"], "plan");
    assert_planned(event);
    assert!(event["sources"]["chunks"].as_u64().unwrap() > 0, "{event}");
    assert_eq!(event["boot"]["kernel"], false);
    assert_eq!(
        compare::differences(&before, &node, &[]).unwrap(),
        Vec::<String>::new()
    );
    nodes.update("n1", &["--image", "gold@2"]).done();
    assert_eq!(
        compare::differences(&nodes.site.tree, &node, SOCKET).unwrap(),
        Vec::<String>::new()
    );
    nodes.server = None;
    let shown = nodes.on("n1", "si-updateclient", &["--rollback", "--dry-run"]);
    assert_eq!(
        (&last(&shown)["event"], &last(&shown)["removed"]),
        (&"plan".into(), &1.into())
    );
    assert_eq!(
        compare::differences(&nodes.site.tree, &node, SOCKET).unwrap(),
        Vec::<String>::new()
    );
    let back = nodes.on("n1", "si-updateclient", &["--rollback"]);
    assert_eq!(
        (back.code, &last(&back)["interrupted"]),
        (Some(0), &false.into()),
        "{}",
        back.stderr
    );
    assert_eq!(
        compare::differences(&before, &node, &[]).unwrap(),
        Vec::<String>::new()
    );
    // What the record says is again what the update before had written.
    let verified = nodes.on("n1", "si-client", &[]);
    assert_eq!(
        (verified.code, &last(&verified)["image"]),
        (Some(1), &"gold@1".into())
    );
    assert_eq!(last(&verified)["drifted"], 2, "{}", last(&verified));
    // The update before that made everything: that it can be undone as well is no mistake. Then nothing is kept.
    let first = nodes.on("n1", "si-updateclient", &["--rollback", "--dry-run"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
}

#[test]
fn a_node_says_what_differs_and_the_server_folds_it_over_nodes() {
    let Some(nodes) = Nodes::new("verify") else {
        return;
    };
    for name in ["n1", "n2"] {
        fs::create_dir(nodes.node(name)).unwrap();
        nodes.update(name, &["--image", "gold@2"]).done();
    }
    let right = nodes.on("n1", "si-client", &["--checksum"]);
    assert_eq!(
        (right.code, &last(&right)["drifted"]),
        (Some(0), &0.into()),
        "{}",
        last(&right)
    );
    let id = last(&right)["manifest"].as_str().unwrap().to_owned();
    let token = nodes.site.token();
    assert_eq!(id, nodes.server.as_ref().unwrap().manifest(&token, 2));
    let other = nodes.server.as_ref().unwrap().manifest(&token, 1);
    nodes
        .on("n1", "si-client", &["--manifest", &other])
        .assert_failed(1, &["this machine has the version with the manifest"]);
    for name in ["n1", "n2"] {
        fs::write(nodes.node(name).join("made"), "meddled with").unwrap();
        fs::remove_file(nodes.node(name).join("etc/service-003.conf")).unwrap();
    }
    let ssh = nodes.ssh(&["n1", "n2"]);
    let asked = |set: &str, more: &[&str]| {
        let mut verify = nodes.site.command("si-verify");
        verify.env("SI_SSH", &ssh);
        let output = verify.arg(set).args(more).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, said) = asked("n[1-3]", &["--paths"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("n[1-2]: 2 paths differ from gold@2\n"), "{said}");
    assert!(
        said.contains("n3: cannot be asked: connect to host n3 port 22: No route to host\n"),
        "{said}"
    );
    assert!(
        said.contains("content  /made  n[1-2]\n")
            && said.contains("missing  /etc/service-003.conf  n[1-2]\n")
    );
    for name in ["n1", "n2"] {
        nodes.update(name, &["--image", "gold@2"]).done();
    }
    assert_eq!(
        asked("n[1-2]", &["--checksum"]),
        (Some(0), "n[1-2]: as gold@2\n".to_owned())
    );
    assert_eq!(asked("n[1-3]", &[]).0, Some(3));
    let (code, said) = asked("n1", &["--image", "gold@1"]);
    assert!(
        code == Some(1) && said.starts_with("n1: has gold@2 (") && said.ends_with("not gold@1\n"),
        "{said}"
    );
}
