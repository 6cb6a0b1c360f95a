//! A version becomes a plain tree.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use serde_json::json;

use crate::harness::{Run, Site, SmallDisk, differences, root};

#[test]
fn a_tree_comes_back_as_it_was() {
    let site = Site::with_golden();
    let run = site.ok(&["checkout", "golden", "{}/out/of/nothing", "--threads", "3"]);
    let out = site.path("out/of/nothing");
    let said = format!(
        "golden@1 is in {}: 11 entries, 61.42 MB of content\n",
        out.display()
    );
    assert_eq!(run.stdout, said);
    assert_eq!(differences(&site.path("tree"), &out), "");
    // A second version, and the first one all the same.
    fs::write(site.path("tree/etc/passwd"), b"").unwrap();
    site.import("golden");
    let answer = site.json(&["checkout", "golden@1", "{}/one"]);
    assert_eq!(
        (&answer["version"], &answer["found_bytes"]),
        (&json!("golden@1"), &json!(0))
    );
    assert_eq!(differences(&out, &site.path("one")), "");
    site.ok(&["checkout", "golden", "{}/two"]);
    assert_eq!(differences(&site.path("tree"), &site.path("two")), "");
}

#[test]
fn progress_is_lines_of_json_when_asked() {
    let site = Site::with_golden();
    let run = site.ok(&["checkout", "golden", "{}/out", "--json"]);
    let lines: Vec<serde_json::Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = &lines[lines.len() - 2];
    assert_eq!(last["event"], "progress");
    assert!(last["chunks_total"].as_u64().unwrap() >= 3);
    assert_eq!(
        (&last["chunks_done"], &last["bytes_done"]),
        (&last["chunks_total"], &last["bytes_total"])
    );
}

#[test]
fn a_directory_with_something_in_it_is_left_alone() {
    let site = Site::with_golden();
    fs::create_dir(site.path("out")).unwrap();
    fs::write(site.path("out/mine"), b"precious").unwrap();
    site.fails(
        &["checkout", "golden", "{}/out"],
        1,
        "error: cannot check out golden to {}/out: the target directory is not empty and no interrupted install \
         stands there; choose an empty directory, or update it with si-updateclient",
    );
    assert_eq!(fs::read_dir(site.path("out")).unwrap().count(), 1);
    fs::write(site.path("file"), b"").unwrap();
    let run = site.run(&["checkout", "golden", "{}/file"]);
    assert_eq!(run.code(), Some(1));
    assert!(run.stderr.contains("/file: Not a directory"), "{}", run.stderr);
}

#[test]
fn what_was_interrupted_goes_on() {
    let site = Site::with_golden();
    let length = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
    let chunk = site.chunks().into_iter().max_by_key(length).unwrap();
    let good = fs::read(&chunk).unwrap();
    let mut bad = good.clone();
    bad[100] ^= 1;
    fs::write(&chunk, &bad).unwrap();
    let run = site.run(&["checkout", "golden", "{}/out", "--threads", "1"]);
    assert_eq!(run.code(), Some(1));
    let name = chunk.file_name().unwrap().to_str().unwrap();
    let damaged = format!("chunk {name} is damaged: its bytes do not match its name");
    assert!(run.stderr.contains(&damaged), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("hint: the directory holds an unfinished tree now"),
        "{}",
        run.stderr
    );
    assert!(site.path("out/.simulcast-install").exists());
    fs::write(&chunk, &good).unwrap();
    site.ok(&["checkout", "golden", "{}/out"]);
    assert_eq!(differences(&site.path("tree"), &site.path("out")), "");
    assert!(!site.path("out/.simulcast-install").exists());
}

#[test]
fn a_missing_chunk_is_noticed_before_anything_is_written() {
    let site = Site::with_golden();
    let chunk = site.chunks().remove(0);
    fs::remove_file(&chunk).unwrap();
    let name = chunk.file_name().unwrap().to_str().unwrap();
    let error = format!(
        "error: cannot check out golden to {{}}/out: chunk {name} is missing from the store; si-fsck says which \
         versions need it\nhint: another version may be whole, and a new capture stores what is lost again"
    );
    site.fails(&["checkout", "golden", "{}/out"], 1, &error);
    assert!(!site.path("out").exists());
}

#[test]
fn a_disk_that_is_too_small_is_noticed_before_anything_is_written() {
    if !root("a_disk_that_is_too_small_is_noticed_before_anything_is_written") {
        return;
    }
    let site = Site::with_golden();
    let disk = SmallDisk::new(site.path("disk"), 4 << 20);
    site.fails(
        &["checkout", "golden", "{}/disk/out"],
        1,
        "error: cannot check out golden to {}/disk/out: the target has 4.19 MB free, the version needs 9.00 MB; \
         nothing was written",
    );
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 0);
}

#[test]
fn without_root_it_says_what_cannot_be_set() {
    if !root("without_root_it_says_what_cannot_be_set") {
        return;
    }
    let site = Site::with_golden();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(site.path(""), open).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = site.command(arguments);
        command.uid(65_534).gid(65_534);
        Run::of(command)
    };
    let run = nobody(&["lsimage"]);
    assert_eq!(run.code(), Some(1));
    assert!(run.stderr.contains("Permission denied"), "{}", run.stderr);
    assert!(
        run.stderr
            .contains("hint: the store belongs to root: run this as root"),
        "{}",
        run.stderr
    );
    // A store of his own.
    let mut all = vec![site.path("")];
    while let Some(path) = all.pop() {
        std::os::unix::fs::chown(&path, Some(65_534), Some(65_534)).unwrap();
        if path.is_dir() && !path.ends_with("tree") {
            all.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let run = nobody(&["checkout", "golden", "{}/out"]);
    assert_eq!(run.code(), Some(0), "{run:#?}");
    let warning = "warning: not running as root: owners, devices and most extended attributes cannot be set";
    assert!(run.stderr.starts_with(warning), "{}", run.stderr);
    assert!(run.stderr.contains("warning: the owner of "), "{}", run.stderr);
    assert!(run.stderr.lines().count() < 5, "{}", run.stderr);
    assert_eq!(
        fs::read(site.path("out/big")).unwrap(),
        fs::read(site.path("tree/big")).unwrap()
    );
}
