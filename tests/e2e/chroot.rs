//! `si-chroot`: an image is changed from inside; what is left behind, and what is not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use simulcast_testkit::command::{command, read, run};
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{Outcome, Site};

/// A shell that needs no libraries.
fn busybox() -> Option<&'static Path> {
    let found = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new);
    found.into_iter().find(|path| path.is_file())
}

/// A site with a version that can be entered; `None` where that cannot be had.
fn site(label: &str) -> Option<Site> {
    if !ready("end to end", &[Feature::Root]) {
        return None;
    }
    let Some(busybox) = busybox() else {
        println!("no busybox here: what is entered would need a whole system");
        return None;
    };
    let site = Site::new(label, 1 << 20);
    for directory in ["bin", "etc", "usr/sbin", "proc", "sys", "dev", "run", "tmp"] {
        fs::create_dir_all(site.tree.join(directory)).unwrap();
    }
    fs::copy(busybox, site.tree.join("bin/busybox")).unwrap();
    fs::set_permissions(site.tree.join("bin/busybox"), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["sh", "cat", "ls", "rm"] {
        symlink("busybox", site.tree.join("bin").join(name)).unwrap();
    }
    // What needs libraries of its own is taken along.
    let linked = read(command("ldd").arg(busybox)).unwrap_or_default();
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        let to = site.tree.join(library.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(library, &to).unwrap();
    }
    site.import_again();
    Some(site)
}

fn enter(site: &Site, name: &str, arguments: &[&str], script: &str) -> Outcome {
    let mut entering = site.command("si-chroot");
    entering
        .args(arguments)
        .args(["--json", "--", "sh", "-c", script]);
    Outcome::of(site, name, &mut entering)
}

fn tree(site: &Site) -> std::path::PathBuf {
    site.state.join("images/gold/tree")
}

#[test]
fn what_a_command_changes_becomes_the_next_version_and_nothing_else() {
    let Some(site) = site("chroot") else { return };
    let script = "set -e; echo changed >/etc/changed; test -r /proc/self/status; test -d /sys/kernel; test -c /dev/null
        test $$ = 1; ls /dev | { while read -r n; do case $n in sd*|vd*|nvme*|loop*) exit 9;; esac; done; }
        c=0; /usr/sbin/policy-rc.d || c=$?; test $c = 101; echo x >/tmp/x; echo x >/run/x";
    let outcome = enter(&site, "commit", &["gold", "--commit"], script);
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert_eq!(outcome.events.last().unwrap()["version"], "gold@3");
    assert!(!tree(&site).exists());
    let difference = read(site.command("si-diffimage").args(["gold@2", "gold@3"])).unwrap();
    let paths: Vec<&str> = difference.lines().filter(|line| line.contains('/')).collect();
    assert_eq!(
        paths.len(),
        2,
        "the new file and its directory's time: {difference}"
    );
    assert!(difference.contains("etc/changed"), "{difference}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("images/gold/tree"), "{mounts}");
}

#[test]
fn changes_are_kept_until_somebody_decides() {
    let Some(site) = site("kept") else { return };
    let outcome = enter(
        &site,
        "failed",
        &["gold", "--commit"],
        "echo half >/etc/half; exit 4",
    );
    outcome.assert_failed(1, &["the command in gold@2 failed", "no version was made"]);
    assert!(tree(&site).join("etc/half").exists());
    // Of another version nothing is entered meanwhile.
    enter(&site, "other", &["gold@1"], "true").assert_failed(1, &["changes to gold@2 are kept", "--discard"]);
    let outcome = enter(
        &site,
        "go-on",
        &["gold"],
        "test -e /etc/half && echo whole >/etc/whole",
    );
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("are kept"), "{}", outcome.stderr);
    let outcome = enter(&site, "done", &["gold", "--commit"], "rm /etc/half");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    let files = read(site.command("si-lsimage").arg("gold@3")).unwrap();
    assert!(
        files.contains("etc/whole") && !files.contains("etc/half") && !files.contains("policy-rc.d"),
        "{files}"
    );
    let outcome = enter(&site, "discard", &["gold", "--discard"], "echo never >/etc/never");
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(!tree(&site).exists());
    run(&mut site.command("si-fsck")).unwrap();
    assert_eq!(
        read(site.command("si-lsimage").arg("gold"))
            .unwrap()
            .lines()
            .filter(|line| line.contains("gold@"))
            .count(),
        3
    );
}
