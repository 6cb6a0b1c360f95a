//! Exclusion lists from the command line to the image, a directory by itself, scripts around an update.

use std::fs;
use std::path::PathBuf;

use simulcast_testkit::command::{read, run};
use simulcast_testkit::compare;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Server, Site};

/// A site with a node in its inventory, which has version 2 of the image.
struct Listed {
    site: Site,
    server: Server,
    node: PathBuf,
}

impl Listed {
    fn new(label: &str) -> Option<Self> {
        if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
            return None;
        }
        let site = Site::new(label, 0);
        for dir in ["etc2/app", "srv2"] {
            fs::create_dir_all(site.tree.join(dir)).unwrap();
        }
        for path in ["etc2/a", "etc2/b", "etc2/app/c", "srv2/d"] {
            fs::write(site.tree.join(path), "two").unwrap();
        }
        site.import_again();
        let node = site.run.dir().join("node");
        run(site.command("si-checkout").arg("gold@2").arg(&node)).unwrap();
        for path in ["etc2/a", "etc2/b", "etc2/app/c", "srv2/d"] {
            fs::write(site.tree.join(path), "three").unwrap();
        }
        site.import_again();
        site.config_file("nodes.d/n.toml", "[node.n1]\ngroups = [\"gpu\"]\n");
        site.config_file("groups.d/g.toml", "[group.gpu]\n");
        let server = site.server(&[]);
        Some(Self { site, server, node })
    }

    fn update(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.site.command("si-updateclient");
        command.args(["--server", &format!("http://{}", self.server.address), "--json"]);
        command
            .args(["--image", "gold", "--transport", "http", "--root"])
            .arg(&self.node)
            .args(arguments);
        Outcome::of(&self.site, "update", &mut command)
    }

    fn explained(&self, arguments: &[&str]) -> String {
        let mut command = self.site.command("si-updateclient");
        command.args([
            "--server",
            &format!("http://{}", self.server.address),
            "--image",
            "gold",
        ]);
        read(command.arg("--root").arg(&self.node).args(arguments)).unwrap()
    }

    fn node_has(&self, path: &str) -> String {
        fs::read_to_string(self.node.join(path)).unwrap()
    }
}

#[test]
fn the_most_specific_list_decides_and_explain_names_its_line() {
    let Some(listed) = Listed::new("lists") else {
        return;
    };
    let site = &listed.site;
    site.config_file("exclude.d/image/gold.exclude", "# of all\n/etc2/*\n");
    site.config_file("exclude.d/group/gpu.exclude", "+ /etc2/app/\n");
    site.config_file("exclude.d/node/n1.exclude", "/srv2/\n");
    for (arguments, told) in [
        (
            &["--node", "n1", "--explain", "/etc2/a"][..],
            "exclude.d/image/gold.exclude:2: /etc2/*",
        ),
        (
            &["--node", "n1", "--explain", "/etc2/app"],
            "exclude.d/group/gpu.exclude:1: + /etc2/app/",
        ),
        (
            &["--node", "n1", "--explain", "/srv2/d"],
            "exclude.d/node/n1.exclude:1: /srv2/  (by its directory /srv2)",
        ),
        (&["--explain", "/srv2/d"], "no line of any list matches it"),
        (
            &["--exclude", "+ /etc2/a", "--explain", "/etc2/a"],
            "--exclude:1: + /etc2/a",
        ),
        (&["--explain", "/var/log/syslog"], "default.exclude:"),
        (&["--explain", "/boot/grub/grub.cfg"], "update.exclude:"),
    ] {
        let said = listed.explained(arguments);
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    // The golden client's side says the same of the image's list.
    let mut getimage = site.command("si-getimage");
    let said = read(getimage.args(["gold", "--explain", "/etc2/a"])).unwrap();
    assert!(
        said.starts_with("/etc2/a: left alone") && said.contains("exclude.d/image/gold.exclude:2: /etc2/*"),
        "{said}"
    );
    listed.update(&["--node", "n1", "--exclude", "+ /etc2/b"]).done();
    let found = ["etc2/a", "etc2/b", "etc2/app/c", "srv2/d"].map(|path| listed.node_has(path));
    assert_eq!(found, ["two", "three", "three", "two"]);
    // What is changed now holds in the very next run.
    site.config_file("exclude.d/node/n1.exclude", "# nothing any more\n");
    listed.update(&["--node", "n1"]).done();
    assert_eq!(listed.node_has("srv2/d"), "three");
    // A list that is wrong keeps everything as it is.
    site.config_file("exclude.d/image/gold.exclude", ". /more\n");
    listed
        .update(&["--node", "n1"])
        .assert_failed(1, &["gold.exclude:1", "merge files"]);
    assert_eq!(listed.node_has("etc2/a"), "two");
}

#[test]
fn what_overrides_put_there_is_not_the_images() {
    let Some(listed) = Listed::new("lists-overrides") else {
        return;
    };
    listed
        .site
        .config_file("overrides/group/gpu/etc2/a", "of the group");
    fs::write(listed.node.join("etc2/a"), "of the group").unwrap();
    listed.update(&["--node", "n1"]).done();
    assert_eq!(listed.node_has("etc2/a"), "of the group");
    assert_eq!(listed.node_has("etc2/b"), "three");
}

#[test]
fn one_directory_alone_is_updated() {
    let Some(listed) = Listed::new("lists-directory") else {
        return;
    };
    fs::write(listed.node.join("srv2/own"), "own").unwrap();
    fs::write(listed.node.join("etc2/app/own"), "own").unwrap();
    listed
        .update(&["--directory", "/etc2/app", "--exclude", "/srv2/x"])
        .assert_failed(2, &["--exclude:1", "can never match", "/srv2/x"]);
    listed
        .update(&["--directory", "/nowhere/at"])
        .assert_failed(1, &["/nowhere is no directory"]);
    let done = listed.update(&["--directory", "/etc2/app", "--exclude", "/etc2/app/none"]);
    assert_eq!(done.done()["deleted"], 1);
    let found = ["etc2/a", "etc2/app/c", "srv2/d", "srv2/own"].map(|path| listed.node_has(path));
    assert_eq!(found, ["two", "three", "two", "own"]);
    assert!(!listed.node.join("etc2/app/own").exists());
    listed.update(&[]).done();
    let differences = compare::differences(&listed.site.tree, &listed.node, &["/kinds/socket"]).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn scripts_run_before_and_after_and_may_refuse() {
    let Some(listed) = Listed::new("lists-scripts") else {
        return;
    };
    let site = &listed.site;
    site.config_file(
        "scripts/pre-update.d/10refuse",
        "#!/bin/sh\necho 'jobs are running' >&2\nexit 1\n",
    );
    listed
        .update(&[])
        .assert_failed(1, &["10refuse", "jobs are running", "nothing was changed"]);
    assert_eq!(listed.node_has("etc2/a"), "two");
    let note =
        "#!/bin/sh\ncat \"$SI_ROOT/etc2/a\" >\"$SI_ROOT/../$(basename \"$0\")-$SI_IMAGE-$SI_VERSION-$1\"\n";
    site.config_file("scripts/pre-update.d/10refuse", &note.replace("$1", "before"));
    site.config_file("scripts/post-update.d/20note", &note.replace("$1", "after"));
    listed.update(&["--dry-run"]);
    let note = |name: &str| fs::read_to_string(site.run.dir().join(name)).ok();
    assert_eq!(note("update-script-gold-3-before"), None);
    listed.update(&[]).done();
    assert_eq!(note("update-script-gold-3-before").as_deref(), Some("two"));
    assert_eq!(note("update-script-gold-3-after").as_deref(), Some("three"));
    // Where nothing is to be done, nothing is run.
    fs::remove_file(site.run.dir().join("update-script-gold-3-after")).unwrap();
    assert_eq!(listed.update(&[]).done()["written"], 0);
    assert_eq!(note("update-script-gold-3-after"), None);
}
