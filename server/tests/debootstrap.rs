//! A release that debootstrap makes becomes a version; a script stands for it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Run, Site, root};

/// Runs `si import` with a program `debootstrap` that does what `script` says; `$tree` is what it shall make.
fn import(site: &Site, script: &str, arguments: &[&str]) -> Run {
    let bin = site.path("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = bin.join("debootstrap");
    let text = format!(
        "#!/bin/sh\necho \"$@\" >'{}'\nfor tree; do case $tree in */debootstrap.*) break;; esac; done\n{script}\n",
        site.path("arguments").display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = site.command(&[&["import", "debian"], arguments].concat());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", bin.display()));
    Run::of(command)
}

/// Whether nothing of what was made is left.
fn cleared(site: &Site) -> bool {
    let names = fs::read_dir(site.state()).unwrap();
    !names
        .map(|entry| entry.unwrap().file_name())
        .any(|name| name.to_string_lossy().starts_with("debootstrap."))
}

#[test]
fn a_release_becomes_a_version_and_what_was_mounted_is_gone() {
    if !root("debootstrap") {
        return;
    }
    let site = Site::new();
    let script = "mkdir -p \"$tree/etc\" \"$tree/proc\" && echo 13.1 >\"$tree/etc/debian_version\"
        mount -t tmpfs tmpfs \"$tree/proc\" && touch \"$tree/proc/never\"";
    let options = [
        "--debootstrap",
        "trixie",
        "--variant",
        "minbase",
        "--include",
        "a,b",
        "--mirror",
        "http://m/debian",
    ];
    let run = import(&site, script, &options);
    assert_eq!((run.code(), &*run.stdout), (Some(0), "debian@1\n"), "{run:#?}");
    let given = fs::read_to_string(site.path("arguments")).unwrap();
    assert!(
        given.starts_with("--include=a,b --variant=minbase trixie /"),
        "{given}"
    );
    assert!(given.trim_end().ends_with(" http://m/debian"), "{given}");
    let listed = site.ok(&["lsimage", "debian@1"]).stdout;
    assert!(
        listed.contains("etc/debian_version") && !listed.contains("never"),
        "{listed}"
    );
    assert!(cleared(&site));
}

#[test]
fn one_that_cannot_be_made_makes_no_version() {
    if !root("debootstrap") {
        return;
    }
    let site = Site::new();
    let script = "mkdir -p \"$tree/etc\"; echo 'E: no such script: trixy'; exit 1";
    let run = import(&site, script, &["--debootstrap", "trixy"]);
    assert_eq!(run.code(), Some(1));
    assert!(
        run.stderr
            .contains("cannot import debian: debootstrap of trixy failed"),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("E: no such script: trixy") && run.stderr.contains("hint: "),
        "{}",
        run.stderr
    );
    assert!(cleared(&site));
    let run = import(&site, "", &["--debootstrap", "../trixie"]);
    assert_eq!(run.code(), Some(2), "{}", run.stderr);
}
