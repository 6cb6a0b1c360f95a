//! `si-updateclient` against a real server: forward, back, protected, changed by somebody, planned only.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use simulcast_testkit::command::{read, run};
use simulcast_testkit::compare;
use simulcast_testkit::golden::noise;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Server, Site};

const MIB: u64 = 1 << 20;

/// A site with two versions, and a node that has the first.
struct Updates {
    site: Site,
    server: Server,
    node: PathBuf,
    /// The tree of the first version.
    first: PathBuf,
}

impl Updates {
    fn new(label: &str) -> Option<Self> {
        if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
            return None;
        }
        let site = Site::new(label, 24 * MIB);
        noise::file(&site.tree.join("changing"), "one", 9 * MIB).unwrap();
        fs::create_dir(site.tree.join("etc2")).unwrap();
        fs::write(site.tree.join("etc2/hosts"), "one").unwrap();
        site.import_again();
        let (node, first) = (site.run.dir().join("node"), site.run.dir().join("first"));
        run(site.command("si-checkout").arg("gold@2").arg(&node)).unwrap();
        run(site.command("si-checkout").arg("gold@2").arg(&first)).unwrap();
        // Version 3: patched in the middle, written anew, made, removed, and a directory in place of a file.
        let changing = fs::OpenOptions::new()
            .write(true)
            .open(site.tree.join("changing"))
            .unwrap();
        changing.write_all_at(b"patched", 5 * MIB).unwrap();
        fs::write(site.tree.join("etc2/hosts"), "three").unwrap();
        fs::create_dir(site.tree.join("made")).unwrap();
        fs::write(site.tree.join("made/new"), "new").unwrap();
        site.import_again();
        let server = site.server(&[]);
        Some(Self {
            site,
            server,
            node,
            first,
        })
    }

    fn update(&self, arguments: &[&str]) -> Outcome {
        let mut command = self.site.command("si-updateclient");
        command.args(["--server", &format!("http://{}", self.server.address), "--json"]);
        command
            .args(["--no-default-excludes", "--root"])
            .arg(&self.node)
            .args(arguments);
        Outcome::of(&self.site, "update", &mut command)
    }

    fn assert_is(&self, tree: &std::path::Path, except: &[&str]) {
        let differences = compare::differences(tree, &self.node, except).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

#[test]
fn forward_and_back_moving_only_what_differs() {
    let Some(updates) = Updates::new("update") else {
        return;
    };
    let forward = updates.update(&["--image", "gold@3"]);
    let done = forward.done();
    assert_eq!(done["image"], "gold@3");
    updates.assert_is(&updates.site.tree, &[]);
    let moved = ["bytes_http", "bytes_multicast", "bytes_delta"]
        .iter()
        .map(|name| done[name].as_u64().unwrap());
    let moved: u64 = moved.sum();
    assert!(
        moved < 5 * MIB,
        "{moved} bytes moved for one part of 4 MiB and a few bytes"
    );
    let back = updates.update(&["--image", "gold", "--to", "gold@2"]);
    assert_eq!(back.done()["image"], "gold@2");
    updates.assert_is(&updates.first, &[]);
}

#[test]
fn a_plan_changes_nothing_and_says_what_would_be_done() {
    let Some(updates) = Updates::new("plan") else {
        return;
    };
    let plan = updates.update(&["--image", "gold", "--dry-run"]);
    let event = plan.events.last().unwrap();
    assert_eq!(event["event"], "plan");
    assert_eq!(event["written"], 4);
    updates.assert_is(&updates.first, &[]);
}

#[test]
fn what_is_protected_stays_and_no_delete_deletes_nothing() {
    let Some(updates) = Updates::new("protect") else {
        return;
    };
    fs::write(updates.node.join("etc2/hosts"), "its own").unwrap();
    fs::write(updates.node.join("stray"), "stray").unwrap();
    let list = updates.site.run.dir().join("protect.list");
    fs::write(&list, "# this node's own\n/etc2/hosts\n").unwrap();
    let list = list.to_str().unwrap();
    let kept = updates.update(&["--image", "gold", "--exclude-from", list, "--no-delete"]);
    assert_eq!(
        (&kept.done()["protected"], &kept.done()["deleted"]),
        (&1.into(), &0.into())
    );
    assert_eq!(fs::read_to_string(updates.node.join("stray")).unwrap(), "stray");
    let done = updates.update(&["--image", "gold", "--exclude-from", list]);
    assert_eq!(done.done()["deleted"], 1);
    assert_eq!(
        fs::read_to_string(updates.node.join("etc2/hosts")).unwrap(),
        "its own"
    );
    updates.assert_is(&updates.site.tree, &["/etc2/hosts"]);
}

#[test]
fn a_file_that_somebody_changed_goes_by_delta() {
    let Some(updates) = Updates::new("delta") else {
        return;
    };
    updates.update(&["--image", "gold"]);
    let changing = updates.node.join("changing");
    let mut shifted = fs::read(&changing).unwrap();
    shifted.insert(0, b'x');
    fs::write(&changing, shifted).unwrap();
    let healed = updates.update(&["--image", "gold"]);
    let done = healed.done();
    assert_eq!(done["written"], 1);
    assert_eq!(
        (&done["bytes_http"], &done["bytes_multicast"]),
        (&0.into(), &0.into())
    );
    assert!(done["bytes_delta"].as_u64().unwrap() < 200_000, "{done}");
    updates.assert_is(&updates.site.tree, &[]);
}

#[test]
fn a_wrong_root_is_noticed_before_anything_is_deleted() {
    let Some(mut updates) = Updates::new("wrong-root") else {
        return;
    };
    updates.node = updates.site.run.dir().join("elsewhere");
    fs::create_dir(&updates.node).unwrap();
    for number in 0..2000 {
        fs::write(updates.node.join(format!("file{number}")), "somebody's").unwrap();
    }
    let refused = updates.update(&["--image", "gold"]);
    refused.assert_failed(1, &["2000 paths would be deleted", "--force"]);
    assert_eq!(fs::read_dir(&updates.node).unwrap().count(), 2000);
}

#[test]
fn bad_input_changes_nothing() {
    let Some(updates) = Updates::new("bad-update") else {
        return;
    };
    updates
        .update(&["--image", "gold@9"])
        .assert_failed(1, &["no version 9"]);
    updates
        .update(&["--image", "other"])
        .assert_failed(1, &["no image other"]);
    updates
        .update(&["--image", "gold", "--exclude-from", "/nowhere"])
        .assert_failed(2, &["/nowhere"]);
    let list = updates.site.run.dir().join("wrong.list");
    fs::write(&list, "- fine\n. merge\n").unwrap();
    updates
        .update(&["--image", "gold", "--exclude-from", list.to_str().unwrap()])
        .assert_failed(2, &["wrong.list", "2"]);
    updates.assert_is(&updates.first, &[]);
}

#[test]
fn an_update_pack_brings_what_changed_for_few_bytes() {
    let Some(updates) = Updates::new("packs") else {
        return;
    };
    // What is installed is known from the first update on.
    updates.update(&["--image", "gold@2"]).done();
    let forward = updates.update(&["--image", "gold@3"]);
    let done = forward.done();
    updates.assert_is(&updates.site.tree, &[]);
    let number = |name: &str| done[name].as_u64().unwrap();
    let moved = number("bytes_http") + number("bytes_multicast") + number("bytes_delta");
    assert!(moved < 20_000, "{moved} bytes for a few changed in 9 MiB: {done}");
    assert_eq!(moved, number("bytes_pack"));
    // The pack is kept, is sound, and nothing of it is taken for rubbish.
    assert_eq!(fs::read_dir(updates.site.state.join("packs")).unwrap().count(), 1);
    let checked = read(updates.site.command("si-fsck").arg("--json")).unwrap();
    let checked: serde_json::Value = serde_json::from_str(&checked).unwrap();
    assert_eq!((&checked["sound"], &checked["packs"]), (&true.into(), &1.into()));
    let chunks = updates.site.chunks();
    run(&mut updates.site.command("si-gc")).unwrap();
    assert_eq!(updates.site.chunks(), chunks);

    // A node that goes back, with a file that somebody changed: only that one comes otherwise.
    let changing = updates.node.join("changing");
    let mut shifted = fs::read(&changing).unwrap();
    shifted.insert(0, b'x');
    fs::write(&changing, shifted).unwrap();
    let back = updates.update(&["--to", "gold@2"]);
    assert!(
        back.done()["bytes_delta"].as_u64().unwrap() > 0,
        "{}",
        back.done()
    );
    updates.assert_is(&updates.first, &[]);

    // A pack that was damaged is made again; one that is not wanted is not asked for.
    let packs: Vec<PathBuf> = fs::read_dir(updates.site.state.join("packs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    packs.iter().for_each(|pack| fs::write(pack, "damaged").unwrap());
    let plain = updates.update(&["--image", "gold@3", "--no-pack"]);
    assert_eq!(plain.done()["bytes_pack"], 0);
    updates.update(&["--to", "gold@2"]).done();
    updates.assert_is(&updates.first, &[]);
}
