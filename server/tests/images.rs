//! Listing, comparing, copying, renaming and removing images, and collecting what is left.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::harness::Site;

/// `golden@2`: one file added, one removed, one with other content, one with another mode only.
fn second_version(site: &Site) {
    let at = |name: &str| site.path("tree").join(name);
    fs::write(at("etc/added"), b"12345").unwrap();
    fs::remove_file(at("etc/new\nline")).unwrap();
    fs::write(at("etc/passwd"), b"root::0:0::/root:/bin/sh\n").unwrap();
    fs::set_permissions(at("etc/empty"), fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(site.import("golden").stdout, "golden@2\n");
}

#[test]
fn versions_are_listed_with_their_sizes_and_what_they_share() {
    let site = Site::with_golden();
    second_version(&site);
    let list = site.json(&["lsimage"]);
    let rows = list.as_array().unwrap();
    assert_eq!(rows.len(), 2);
    let number = |row: usize, field: &str| rows[row][field].as_u64().unwrap();
    assert_eq!(rows[0]["image"], json!("golden"));
    assert_eq!((number(0, "version"), number(1, "version")), (1, 2));
    assert_eq!((number(0, "files"), number(0, "entries")), (5, 11));
    assert_eq!(number(0, "content_bytes"), (50 << 20) + 9_000_000 + 26 + 3);
    assert_eq!(rows[1]["parent"], rows[0]["id"]);
    // The full parts of the big file are chunks that both versions use.
    assert!(number(1, "shared_bytes") >= 8 << 20);
    assert!(number(1, "shared_bytes") <= number(1, "stored_bytes"));
    let text = site.ok(&["lsimage", "golden"]).stdout;
    let lines: Vec<_> = text.lines().collect();
    assert!(lines[0].starts_with("IMAGE     CREATED "), "{text}");
    assert!(
        lines[1].starts_with("golden@1  20") && lines[2].starts_with("golden@2  20"),
        "{text}"
    );
    assert!(lines[1].contains("  61.42 MB  "), "{text}");
    site.fails(
        &["lsimage", "other"],
        1,
        "error: there is no image other; si-lsimage lists those that there are",
    );
}

#[test]
fn the_files_of_a_version_are_listed_like_ls() {
    let site = Site::with_golden();
    let text = site.ok(&["lsimage", "golden@1"]).stdout;
    let line = |path: &str| {
        let found = text.lines().find(|line| line.ends_with(path));
        found.unwrap_or_else(|| panic!("{path} in {text}")).to_owned()
    };
    assert_eq!(text.lines().count(), 11);
    assert!(line(" /").starts_with("drwx"));
    assert!(line(" /etc/new\\nline").starts_with("-rw"));
    assert!(line(" /etc/deep/symlink -> ../etc/passwd").starts_with("lrwxrwxrwx  1 "));
    let (first, second) = (
        line(" /etc/deep/link"),
        line(" /etc/passwd link to /etc/deep/link"),
    );
    assert!(
        first.starts_with("-rw-r--r--  2 ") && second.starts_with("-rw-r--r--  2 "),
        "{text}"
    );
    assert!(line(" /sparse").contains(" 52428800 20"));
    let rows = site.json(&["lsimage", "golden@1"]);
    let link = rows
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["path"] == "/etc/passwd")
        .unwrap();
    assert_eq!(link["link_to"], json!("/etc/deep/link"));
    assert_eq!(
        (&link["type"], &link["size"], &link["links"]),
        (&json!("hard link"), &json!(26), &json!(2))
    );
    assert_eq!(rows[1]["content"].as_str().unwrap().len(), 64);
}

#[test]
fn what_differs_is_named() {
    let site = Site::with_golden();
    second_version(&site);
    let run = site.ok(&["diffimage", "golden@1", "golden"]);
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(
        lines,
        [
            "metadata  /etc  (mtime)",
            "added     /etc/added",
            "content   /etc/deep/link  (content, mtime)",
            "metadata  /etc/empty  (mode)",
            "removed   /etc/new\\nline",
            "content   /etc/passwd  (content, mtime)",
        ]
    );
    let summary = "golden@1 to golden@2: 1 added, 1 removed, 2 with other content, 2 with other metadata only; 30 B of content";
    assert!(run.stderr.starts_with(summary), "{}", run.stderr);
    let answer = site.json(&["diffimage", "golden@1", "golden@2"]);
    assert_eq!(answer["summary"]["content_bytes"], json!(5 + 25));
    assert_eq!(
        answer["changes"][3],
        json!({ "path": "/etc/empty", "change": "metadata", "type": "file", "fields": ["mode"] })
    );
    assert_eq!(site.ok(&["diffimage", "golden@2", "golden"]).stdout, "");
    site.fails(
        &["diffimage", "golden", "golden@7"],
        1,
        "error: cannot compare golden with golden@7: image golden has no version 7; it has 1, 2",
    );
}

#[test]
fn images_are_copied_and_renamed() {
    let site = Site::with_golden();
    second_version(&site);
    assert_eq!(site.ok(&["cpimage", "golden@1", "copy"]).stdout, "copy@1\n");
    assert_eq!(site.ok(&["cpimage", "golden", "newest"]).stdout, "newest@1\n");
    let golden = site.json(&["lsimage", "golden"]);
    assert_eq!(site.json(&["lsimage", "copy"])[0]["id"], golden[0]["id"]);
    assert_eq!(site.json(&["lsimage", "newest"])[0]["id"], golden[1]["id"]);
    let taken = "there is an image copy already; remove it with si-rmimage or choose another name";
    site.fails(
        &["cpimage", "golden", "copy"],
        1,
        &format!("error: cannot copy golden to copy: {taken}"),
    );
    site.fails(
        &["mvimage", "golden", "copy"],
        1,
        &format!("error: cannot rename golden to copy: {taken}"),
    );
    assert_eq!(site.ok(&["mvimage", "golden", "silver"]).stdout, "silver\n");
    let list = site.json(&["lsimage"]);
    let names: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["image"].clone())
        .collect();
    assert_eq!(names, ["copy", "newest", "silver", "silver"]);
    site.fails(
        &["mvimage", "golden", "x"],
        1,
        "error: cannot rename golden to x: there is no image golden; si-lsimage lists those that there are",
    );
    site.ok(&["fsck"]);
    // The next version of the renamed image follows its last one.
    assert_eq!(site.import("silver").stdout, "silver@3\n");
}

#[test]
fn removing_asks_or_takes_yes_and_numbers_do_not_come_back() {
    let site = Site::with_golden();
    second_version(&site);
    site.fails(
        &["rmimage", "golden@2"],
        2,
        "error: cannot ask \"remove golden@2?\": standard input is no terminal\n\
         hint: give --yes to do it without being asked; nothing was changed",
    );
    assert_eq!(
        site.ok(&["rmimage", "golden", "--dry-run"]).stdout,
        "would remove golden@1\nwould remove golden@2\n"
    );
    assert_eq!(site.json(&["lsimage"]).as_array().unwrap().len(), 2);
    assert_eq!(
        site.ok(&["rmimage", "golden@2", "--yes"]).stdout,
        "removed golden@2\n"
    );
    assert_eq!(site.import("golden").stdout, "golden@3\n");
    let removed = site.json(&["rmimage", "golden", "--yes"]);
    assert_eq!(
        removed,
        json!({ "removed": ["golden@1", "golden@3"], "dry_run": false })
    );
    site.fails(
        &["rmimage", "golden", "--yes"],
        1,
        "error: cannot remove golden: there is no image golden; si-lsimage lists those that there are",
    );
}

#[test]
fn collecting_is_planned_first() {
    let site = Site::with_golden();
    let before = site.chunks();
    let nothing = site.ok(&["gc"]).stdout;
    assert!(
        nothing.starts_with("removed 0 chunks (0 B) and 0 leftovers"),
        "{nothing}"
    );
    site.ok(&["rmimage", "golden", "--yes"]);
    fs::write(site.state().join("chunks/incoming/1.1"), b"left").unwrap();
    let plan = site.json(&["gc", "--dry-run"]);
    assert_eq!(plan["removed_chunks"].as_array().unwrap().len(), before.len());
    assert_eq!(plan["removed_leftovers"].as_array().unwrap().len(), 1);
    assert_eq!(site.chunks(), before);
    let done = site.json(&["gc"]);
    assert_eq!(done["removed_bytes"], plan["removed_bytes"]);
    assert_eq!(done["kept_chunks"], json!(0));
    assert!(site.chunks().is_empty());
}

#[test]
fn exclusion_lists_leave_out() {
    let site = Site::with_golden();
    fs::write(site.path("list"), "/etc/deep/\n*.o\n").unwrap();
    fs::write(site.path("tree/x.o"), b"").unwrap();
    let imported = site.json(&["import", "less", "--tree", "{}/tree", "--exclude-from", "{}/list"]);
    assert_eq!(
        (&imported["entries"], &imported["excluded"]),
        (&json!(7), &json!(2))
    );
    let text = site.ok(&["lsimage", "less@1"]).stdout;
    assert!(!text.contains("/etc/deep") && !text.contains("x.o"), "{text}");
    assert!(text.contains("/etc/passwd\n"), "{text}");
    fs::write(site.path("list"), "ok\nmerge /x\n").unwrap();
    let run = site.run(&["import", "less", "--tree", "{}/tree", "--exclude-from", "{}/list"]);
    assert_eq!(run.code(), Some(2));
    assert!(run.stderr.contains("/list"), "{}", run.stderr);
    assert_eq!(site.json(&["lsimage", "less"]).as_array().unwrap().len(), 1);
}
