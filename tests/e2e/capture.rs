//! `si-getimage` of several golden clients, with their hooks, and of snapshots; a shell that sees a tree as /mnt stands for ssh.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use simulcast_testkit::command::{command, read, run};
use simulcast_testkit::compare;
use simulcast_testkit::golden::small;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Site};

/// Golden clients with a tree each, and scripts of their own below /etc/simulcast.
struct Clients<'s> {
    site: &'s Site,
}

impl Clients<'_> {
    fn tree(&self, host: &str) -> PathBuf {
        self.site.run.dir().join(host)
    }

    /// Makes a golden client with an empty tree.
    fn add(&self, host: &str) -> PathBuf {
        let tree = self.tree(host);
        fs::create_dir(&tree).unwrap();
        for directory in ["upper/simulcast/scripts", "work", "state"] {
            fs::create_dir_all(self.site.run.dir().join(format!("{host}.{directory}"))).unwrap();
        }
        tree
    }

    /// A script that a golden client runs at some point, and that notes that it did.
    fn hook(&self, host: &str, point: &str, then: &str) {
        let directory = self
            .site
            .run
            .dir()
            .join(format!("{host}.upper/simulcast/scripts/{point}.d"));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("10-note");
        let note = self.notes(host);
        let text = format!(
            "#!/bin/sh\necho \"{point} $SI_IMAGE $SI_RESULT\" >>'{}'\n{then}\n",
            note.display()
        );
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn notes(&self, host: &str) -> PathBuf {
        self.site.run.dir().join(format!("{host}.notes"))
    }

    fn getimage(&self, name: &str, arguments: &[&str]) -> Outcome {
        let fake = self.site.run.dir().join("ssh.sh");
        let dir = self.site.run.dir().display();
        let programs = self.site.program("si-agent");
        let programs = programs.parent().unwrap().display();
        let script = format!(
            "while [ \"$1\" != -- ]; do shift; done\n[ -d '{dir}'/\"$2\" ] || {{ echo no such host >&2; exit 255; }}\n\
             export PATH={programs}:$PATH SI_STATE=\"{dir}/$2.state\" b=\"{dir}/$2\"\n\
             exec unshare --mount sh -c 'mount -t overlay overlay \
             -o lowerdir=/etc,upperdir=$b.upper,workdir=$b.work /etc && mount --bind \"$b\" /mnt && exec sh -c \"$0\"' \"$3\"\n"
        );
        fs::write(&fake, script).unwrap();
        let mut getting = self.site.command("si-getimage");
        getting.env("SI_SSH", format!("sh {}", fake.display()));
        getting.args(["--directory", "/mnt", "--json"]).args(arguments);
        Outcome::of(self.site, name, &mut getting)
    }

    fn assert_captured(&self, image: &str, tree: &Path) {
        let out = self
            .site
            .run
            .dir()
            .join(format!("out-{}", image.replace('@', "-")));
        run(self.site.command("si-checkout").arg(image).arg(&out)).unwrap();
        let differences = compare::differences(tree, &out, &["/kinds/socket", "/lost+found"]).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}

#[test]
fn several_golden_clients_are_captured_at_once_and_their_scripts_run() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("clients", 1 << 20);
    let clients = Clients { site: &site };
    for host in ["golden01", "golden02", "golden03"] {
        let tree = clients.add(host);
        small::make(&tree.join("root"), 1 << 20).unwrap();
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/hostname"), host).unwrap();
        clients.hook(host, "pre-capture", "echo said on stdout");
        clients.hook(host, "post-capture", "exit 3");
    }
    clients.hook("golden03", "pre-capture", "echo the database is busy >&2; exit 7");
    let outcome = clients.getimage(
        "several",
        &["golden01", "golden02", "golden03", "--no-default-excludes"],
    );
    assert_eq!(outcome.code, Some(3), "{}", outcome.stderr);
    let mut versions: Vec<&str> = outcome
        .events
        .iter()
        .map(|event| event["version"].as_str().unwrap())
        .collect();
    versions.sort_unstable();
    assert_eq!(versions, ["golden01@1", "golden02@1"], "{}", outcome.stderr);
    let failure =
        "cannot capture golden03 as image golden03: a script before the capture failed on golden03: ";
    assert!(outcome.stderr.contains(failure), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("the database is busy"),
        "{}",
        outcome.stderr
    );
    for host in ["golden01", "golden02"] {
        clients.assert_captured(&format!("{host}@1"), &clients.tree(host));
        let notes = fs::read_to_string(clients.notes(host)).unwrap();
        assert_eq!(notes, format!("pre-capture {host} \npost-capture {host} 0\n"));
    }
    let notes = fs::read_to_string(clients.notes("golden03")).unwrap();
    assert_eq!(notes, "pre-capture golden03 \npost-capture golden03 \n");

    // Gently, with a pack from the version before; the default list leaves out who the machine is, a replicant has it.
    fs::write(clients.tree("golden01").join("root/added"), "added").unwrap();
    let again = clients.getimage(
        "again",
        &["golden01", "--pack", "--nice", "10", "--rate", "400Mbit"],
    );
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert_eq!(fs::read_dir(site.state.join("packs")).unwrap().count(), 1);
    let replicant = clients.getimage("replicant", &["golden02", "--replicant"]);
    assert_eq!(
        replicant.events[0]["version"], "replicant-golden02@1",
        "{}",
        replicant.stderr
    );
    for (image, has) in [("golden01@2", false), ("replicant-golden02@1", true)] {
        let files = read(site.command("si-lsimage").arg(image)).unwrap();
        // A symlink of the tree leads there as well.
        let found = files
            .lines()
            .any(|line| line.starts_with('-') && line.ends_with(" /etc/hostname"));
        assert_eq!(found, has, "{image}: {files}");
    }
    clients
        .getimage("two-names", &["golden01", "golden02", "--image", "x"])
        .assert_failed(2, &["--image names one image"]);
}

/// A file system of its own, mounted; gone at the end.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _unmounted = run(command("umount").arg(&self.0));
    }
}

#[test]
fn a_snapshot_is_captured_in_place_of_what_changes() {
    let tool = run(command("mkfs.btrfs").arg("--version")).is_ok();
    let known = fs::read_to_string("/proc/filesystems").unwrap().contains("btrfs");
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) || !tool || !known {
        println!(
            "no btrfs here: {}",
            if tool {
                "the kernel has none"
            } else {
                "no mkfs.btrfs"
            }
        );
        return;
    }
    let site = Site::new("snapshot", 1 << 20);
    let clients = Clients { site: &site };
    let tree = clients.add("golden01");
    let disk = site.run.dir().join("disk");
    run(command("truncate").args(["-s", "150M"]).arg(&disk)).unwrap();
    run(command("mkfs.btrfs").arg("-q").arg(&disk)).unwrap();
    run(command("mount").args(["-o", "loop"]).arg(&disk).arg(&tree)).unwrap();
    let mounted = Mounted(tree.clone());
    fs::write(tree.join("before"), "as it was").unwrap();
    clients.hook("golden01", "freeze", "sync");
    // What happens after the snapshot is not in the version.
    clients.hook("golden01", "thaw", "echo later >/mnt/after");
    let outcome = clients.getimage("snapshot", &["golden01", "--snapshot", "btrfs"]);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(tree.join("after").exists() && !tree.join(".simulcast-snapshot").exists());
    let files = read(site.command("si-lsimage").arg("golden01@1")).unwrap();
    assert!(files.contains("before") && !files.contains("after"), "{files}");
    let notes = fs::read_to_string(clients.notes("golden01")).unwrap();
    assert_eq!(notes, "freeze golden01 \nthaw golden01 \n");
    // What a snapshot would not hold is not silently left out.
    run(command("btrfs")
        .args(["subvolume", "create"])
        .arg(tree.join("home")))
    .unwrap();
    let refused = clients.getimage("subvolume", &["golden01", "--snapshot", "btrfs"]);
    refused.assert_failed(
        1,
        &["there is no snapshot on golden01", "holds the subvolumes in it"],
    );
    drop(mounted);
}
