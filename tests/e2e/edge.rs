//! The tree of all edge cases, through every way in and every way out.

use std::fs;
use std::path::{Path, PathBuf};

use simulcast_testkit::command::run;
use simulcast_testkit::edge::{EdgeSize, assert_same, build, rsync_differences};
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Site};

/// An edge tree beside the tree of a site, imported as image `edge`.
fn imported(site: &Site, size: EdgeSize) -> PathBuf {
    let tree = site.run.dir().join("edge");
    fs::create_dir(&tree).unwrap();
    build(&tree, size).unwrap();
    run(site.command("si-import").arg("edge").arg("--tree").arg(&tree)).unwrap();
    tree
}

fn assert_exact(tree: &Path, copy: &Path) {
    assert_same(tree, copy);
    assert_eq!(rsync_differences(tree, copy).unwrap(), Vec::<String>::new());
}

fn every_way(label: &str, size: EdgeSize) {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new(label, 1 << 20);
    let tree = imported(&site, size);
    let at = |name: &str| site.run.dir().join(name);

    run(site.command("si-checkout").arg("edge").arg(at("checkout"))).unwrap();
    assert_exact(&tree, &at("checkout"));

    let server = site.server(&[]);
    let outcome = Outcome::of(
        &site,
        "receive",
        &mut site.receive(&server, "edge", &at("received"), "auto"),
    );
    assert_eq!(outcome.done()["limitations"], 0);
    assert_exact(&tree, &at("received"));

    // An update from something else altogether, and a second one that finds nothing to do.
    let node = at("updated");
    run(site.command("si-checkout").arg("gold").arg(&node)).unwrap();
    let update = || {
        let mut command = site.command("si-updateclient");
        command.args([
            "--server",
            &format!("http://{}", server.address),
            "--image",
            "edge",
            "--force",
            "--json",
        ]);
        // What is kept for a rollback would be one more difference.
        command
            .args(["--no-default-excludes", "--keep", "0", "--root"])
            .arg(&node);
        Outcome::of(&site, "update", &mut command)
    };
    update();
    assert_exact(&tree, &node);
    let again = update();
    let done = again.done();
    assert_eq!(
        (&done["written"], &done["metadata"], &done["deleted"]),
        (&0.into(), &0.into(), &0.into()),
        "{done}"
    );
    run(&mut site.command("si-fsck")).unwrap();
}

#[test]
fn every_way_in_and_out_is_exact() {
    every_way("edge", EdgeSize::QUICK);
}

#[test]
#[ignore = "a directory of 100,000 entries takes a minute; run it with --run-ignored all"]
fn every_way_in_and_out_is_exact_at_full_size() {
    every_way("edge-full", EdgeSize::FULL);
}
