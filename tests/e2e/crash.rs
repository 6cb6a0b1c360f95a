//! `si-updateclient` is killed at every single change of the file system that it makes. After each, the tree can boot:
//! every file is whole, old or new; then the next run finishes, or a rollback goes back.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use simulcast_testkit::command::{command, run};
use simulcast_testkit::compare::differences;
use simulcast_testkit::kill::at_change;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Server, Site};

/// What is in the tree beside the test's own things.
const OURS: [&str; 2] = ["/.simulcast-kept", "/.simulcast-stage-*"];

/// More changes than the update makes: a program that never ends must not keep the test going.
const MOST: u64 = 2000;

/// Without these the machine would not start. Each has `old` or `new` in it.
const BOOT: [&str; 5] = [
    "boot/vmlinuz-1",
    "boot/initrd.img-1",
    "boot/grub/grub.cfg",
    "usr/lib/libc.so.6",
    "usr/bin/init",
];

struct Crash {
    site: Site,
    server: Server,
    old: PathBuf,
    new: PathBuf,
}

/// A tree with one of each thing that an update can change.
fn make(tree: &Path, text: &str) {
    let dirs = ["boot/grub", "usr/lib", "usr/bin", "etc", "srv"];
    dirs.iter()
        .for_each(|dir| fs::create_dir_all(tree.join(dir)).unwrap());
    for path in BOOT {
        fs::write(tree.join(path), format!("{text} {path}")).unwrap();
    }
    fs::write(tree.join("etc/same"), "same").unwrap();
    fs::write(tree.join("etc/mode"), "same").unwrap();
    let old = text == "old";
    let mode = if old { 0o644 } else { 0o600 };
    fs::set_permissions(tree.join("etc/mode"), fs::Permissions::from_mode(mode)).unwrap();
    symlink(format!("libc.so.6.{text}"), tree.join("usr/lib/libc.so")).unwrap();
    // One becomes the other: a directory with files, and a file.
    let (file, dir) = if old {
        ("srv/a", "srv/b")
    } else {
        ("srv/b", "srv/a")
    };
    fs::write(tree.join(file), text).unwrap();
    fs::create_dir(tree.join(dir)).unwrap();
    fs::write(tree.join(dir).join("in"), text).unwrap();
    fs::write(tree.join(format!("srv/only-{text}")), text).unwrap();
    fs::hard_link(tree.join("usr/bin/init"), tree.join("usr/bin/telinit")).unwrap();
    for path in walk(tree) {
        let seconds = if old { 1_600_000_000 } else { 1_700_000_000 };
        let mut touch = command("touch");
        run(touch.args(["-h", "-d", &format!("@{seconds}")]).arg(path)).unwrap();
    }
}

/// All paths below a directory, what is in a directory before it.
fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.symlink_metadata().unwrap().is_dir() {
            paths.extend(walk(&path));
        }
        paths.push(path);
    }
    paths
}

impl Crash {
    fn new(label: &str) -> Option<Self> {
        if !ready("end to end", &[Feature::Root, Feature::Rsync]) || !cfg!(target_arch = "x86_64") {
            return None;
        }
        let site = Site::new(label, 0);
        let (old, new) = (site.run.dir().join("old"), site.run.dir().join("new"));
        for (tree, text) in [(&old, "old"), (&new, "new")] {
            make(tree, text);
            run(site.command("si-import").arg("tree").arg("--tree").arg(tree)).unwrap();
        }
        let server = site.server(&[]);
        Some(Self {
            site,
            server,
            old,
            new,
        })
    }

    /// `si-updateclient` on `node`, whose state is beside it.
    fn updateclient(&self, node: &Path, arguments: &[&str]) -> Command {
        let mut update = command(self.site.program("si-updateclient"));
        update
            .env("SI_TOKEN", self.site.token())
            .env_remove("SI_SERVER_KEY");
        update.arg("--state").arg(node.with_extension("state"));
        update.arg("--config").arg(node.with_extension("config"));
        update.arg("--root").arg(node).args(arguments);
        update
    }

    fn update(&self, node: &Path) -> Command {
        let server = format!("http://{}", self.server.address);
        // One thread after the other writes nothing that two would not: HTTP alone makes runs alike.
        self.updateclient(
            node,
            &[
                "--server",
                &server,
                "--image",
                "tree@2",
                "--transport",
                "http",
                "--no-default-excludes",
            ],
        )
    }

    fn rollback(&self, node: &Path) -> Command {
        self.updateclient(node, &["--rollback"])
    }

    /// A fresh node at the old version.
    fn node(&self, name: &str) -> PathBuf {
        let node = self.site.run.dir().join(name);
        for path in [&node, &node.with_extension("state")] {
            if path.exists() {
                fs::remove_dir_all(path).unwrap();
            }
        }
        run(command("cp").arg("-a").arg(&self.old).arg(&node)).unwrap();
        node
    }

    /// Every file is the old one or the new one, and those that the machine starts with are there.
    fn assert_boots(&self, node: &Path, at: u64) {
        for path in BOOT {
            let found = fs::read_to_string(node.join(path));
            let found = found.unwrap_or_else(|error| panic!("killed at change {at}: {path}: {error}"));
            assert!(
                [format!("old {path}"), format!("new {path}")].contains(&found),
                "killed at change {at}: {path} has {found:?}"
            );
        }
        for path in walk(node) {
            let below = path.strip_prefix(node).unwrap();
            let ours = below.to_string_lossy().starts_with(".simulcast-");
            if !ours && path.symlink_metadata().unwrap().is_file() {
                let is = |tree: &Path| fs::read(tree.join(below)).ok() == fs::read(&path).ok();
                let beside = below
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .starts_with(".simulcast-");
                assert!(
                    beside || is(&self.old) || is(&self.new),
                    "killed at change {at}: {} is neither old nor new",
                    below.display()
                );
            }
        }
    }

    fn assert_is(&self, tree: &Path, node: &Path, at: u64, what: &str) {
        let mut found = differences(tree, node, &OURS).unwrap();
        // Between making a directory for its own use and giving the root its time back, nothing else can be done.
        found.retain(|line| line != ".d..t...... ./");
        assert!(found.is_empty(), "killed at change {at}, {what}: {found:#?}");
    }

    /// Kills the program that `command` starts on fresh nodes at each of its changes, and has `then` look at each.
    fn at_each_change(
        &self,
        label: &str,
        command: impl Fn(&Path) -> Command,
        prepare: impl Fn(&Path),
        then: impl Fn(&Path, u64),
    ) -> u64 {
        for at in 1..MOST {
            let node = self.node(label);
            prepare(&node);
            let log = self.site.run.dir().join(format!("{label}.log"));
            let traced = at_change(&command(&node), self.site.run.dir(), Some(at), &log).unwrap();
            self.assert_boots(&node, at);
            if let Some(code) = traced.code {
                assert_eq!(code, 0, "{}", traced.stderr);
                return at - 1;
            }
            then(&node, at);
        }
        panic!("it makes more than {MOST} changes");
    }
}

#[test]
fn the_next_run_finishes_wherever_an_update_was_killed() {
    let Some(crash) = Crash::new("crash-finish") else {
        return;
    };
    let killed = crash.at_each_change(
        "finish",
        |node| crash.update(node),
        |_| {},
        |node, at| {
            run(&mut crash.update(node)).unwrap();
            crash.assert_is(&crash.new, node, at, "next run");
            let stage = node.join(".simulcast-stage-0");
            assert!(!stage.exists(), "killed at change {at}: the stage is left");
            run(&mut crash.rollback(node)).unwrap();
            crash.assert_is(&crash.old, node, at, "next run, then rollback");
        },
    );
    assert!(killed > 60, "only {killed} changes were found");
    eprintln!("an update was killed at each of {killed} changes");
}

#[test]
fn a_rollback_goes_back_wherever_an_update_was_killed() {
    let Some(crash) = Crash::new("crash-back") else {
        return;
    };
    crash.at_each_change(
        "back",
        |node| crash.update(node),
        |_| {},
        |node, at| {
            // Without anything kept, nothing has been changed.
            let mut rollback = crash.rollback(node);
            let output = rollback.output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() || said.contains("has kept anything"),
                "killed at change {at}: {said}"
            );
            crash.assert_is(&crash.old, node, at, "rollback");
        },
    );
}

#[test]
fn the_next_rollback_finishes_wherever_one_was_killed() {
    let Some(crash) = Crash::new("crash-rollback") else {
        return;
    };
    let killed = crash.at_each_change(
        "rollback",
        |node| crash.rollback(node),
        |node| drop(run(&mut crash.update(node)).unwrap()),
        |node, at| {
            let output = crash.rollback(node).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(
                output.status.success() || said.contains("has kept anything"),
                "killed at change {at}: {said}"
            );
            crash.assert_is(&crash.old, node, at, "next rollback");
        },
    );
    assert!(killed > 30, "only {killed} changes were found");
}
