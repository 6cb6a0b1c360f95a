//! Tar archives through files and pipes.

use std::fs;
use std::io::Write;

use crate::harness::{Run, Site, differences, program};

fn pack(site: &Site, options: &[&str]) -> Vec<u8> {
    let mut tar = program("tar");
    tar.args(["-c", "--format=posix", "--sparse"]).args(options);
    let output = tar.arg("-C").arg(site.path("tree")).arg(".").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn feed(site: &Site, arguments: &[&str], archive: &[u8]) -> Run {
    let mut child = site.with_stdin(arguments);
    // A program that refuses the archive does not read all of it.
    child.stdin.take().unwrap().write_all(archive).unwrap_or_default();
    Run::from(child.wait_with_output().unwrap())
}

#[test]
fn archives_from_a_file_and_from_a_pipe_are_the_same_version() {
    let site = Site::with_golden();
    let archive = pack(&site, &["--numeric-owner"]);
    fs::write(site.path("golden.tar"), &archive).unwrap();
    let run = site.ok(&["import", "golden", "--tar", "{}/golden.tar"]);
    assert_eq!(run.stdout, "golden@2\n");
    let run = feed(&site, &["import", "golden", "--tar", "-"], &archive);
    assert_eq!((run.code(), &*run.stdout), (Some(0), "golden@3\n"), "{run:#?}");
    for version in ["golden@2", "golden@3"] {
        let same = site.json(&["diffimage", "golden@1", version]);
        assert_eq!(same["changes"], serde_json::json!([]), "{version}");
    }
}

#[test]
fn what_is_exported_is_unpacked_by_tar() {
    let site = Site::with_golden();
    let run = site.ok(&["export", "golden", "{}/golden.tar"]);
    assert!(run.stdout.starts_with("golden@1 is in "), "{run:#?}");
    let piped = site.command(&["export", "golden@1", "-"]).output().unwrap();
    assert_eq!(piped.stdout, fs::read(site.path("golden.tar")).unwrap());
    assert!(piped.stdout.len() < 10_000_000, "holes stay holes");
    fs::create_dir(site.path("out")).unwrap();
    let mut tar = program("tar");
    tar.args(["--xattrs", "--xattrs-include=*", "--acls", "-xpf"]);
    tar.arg(site.path("golden.tar")).arg("-C").arg(site.path("out"));
    let run = Run::of(tar);
    assert!(run.status.success(), "{run:#?}");
    assert_eq!(differences(&site.path("tree"), &site.path("out")), "");
}

#[test]
fn an_export_that_fails_leaves_the_old_file() {
    let site = Site::with_golden();
    fs::write(site.path("golden.tar"), b"the last one").unwrap();
    let chunk = site.chunks().remove(0);
    let mut bytes = fs::read(&chunk).unwrap();
    bytes.truncate(10);
    fs::write(&chunk, bytes).unwrap();
    let run = site.run(&["export", "golden", "{}/golden.tar"]);
    assert_eq!(run.code(), Some(1));
    assert!(
        run.stderr.starts_with("error: cannot export golden to "),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr.contains("is damaged: its bytes do not match its name"),
        "{}",
        run.stderr
    );
    assert_eq!(fs::read(site.path("golden.tar")).unwrap(), b"the last one");
    let names = fs::read_dir(site.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = names
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn bad_archives_make_no_version() {
    let site = Site::with_golden();
    let archive = pack(&site, &[]);
    let refused = |archive: &[u8], error: &str| {
        let run = feed(&site, &["import", "bad", "--tar", "-"], archive);
        let wanted = format!("error: cannot import bad: {error}");
        assert_eq!((run.code(), run.stderr.trim_end()), (Some(1), &*wanted));
    };
    let half = archive.len() / 2;
    refused(
        &archive[..half],
        &format!("the archive was cut short: it ends at byte {half}, in the middle of a file"),
    );
    refused(
        b"no tar at all",
        "the archive was cut short: it ends at byte 13, without the mark that ends an archive",
    );
    refused(
        &[7; 1024],
        "this is no tar archive: its first header does not add up",
    );
    let evil = pack(
        &site,
        &["--transform=s,etc/empty,../../etc/passwd,", "--absolute-names"],
    );
    refused(
        &evil,
        "member ./../../etc/passwd of the archive has \"..\" in its path; such a member could leave the target",
    );
    site.fails(
        &["lsimage", "bad"],
        1,
        "error: there is no image bad; si-lsimage lists those that there are",
    );
}
