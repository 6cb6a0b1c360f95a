//! `si-layout`.

use std::fs;

use crate::harness::{Run, Site};

const GOOD: &str = "[[disk.system.partition]]\nname = \"root\"\nsize = \"rest\"\n\n[[filesystem]]\non = \"system.root\"\nkind = \"ext4\"\nmount = \"/\"\n";

fn with_layout(text: &str) -> Site {
    let site = Site::new();
    fs::create_dir_all(site.path("config/layouts.d")).unwrap();
    fs::write(site.path("config/layouts.d/one.toml"), text).unwrap();
    site
}

fn run(site: &Site, editor: &str, arguments: &[&str]) -> Run {
    let mut command = site.command(arguments);
    command
        .arg("--config")
        .arg(site.path("config"))
        .env("VISUAL", editor);
    Run::of(command)
}

#[test]
fn layouts_are_shown_and_checked() {
    let site = with_layout(GOOD);
    assert_eq!(run(&site, "", &["layout", "show", "one"]).stdout, GOOD);
    let json = run(&site, "", &["layout", "show", "one", "--json"]).stdout;
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["disk"]["system"]["partition"][0]["size"], "rest");
    fs::write(
        site.path("config/layouts.d/two.toml"),
        GOOD.replace("mount", "mont"),
    )
    .unwrap();
    let checked = run(&site, "", &["layout", "check"]);
    assert_eq!(checked.code(), Some(2));
    assert!(
        checked.stdout.ends_with("one.toml: makes sense\n"),
        "{}",
        checked.stdout
    );
    assert!(
        checked.stderr.contains("two.toml: line 8: unknown field `mont`"),
        "{}",
        checked.stderr
    );
    assert_eq!(run(&site, "", &["layout", "show", "none"]).code(), Some(2));
    assert_eq!(run(&site, "", &["layout", "show", "../x"]).code(), Some(2));
}

#[test]
fn only_a_layout_that_makes_sense_replaces_another() {
    let site = with_layout(GOOD);
    let read = || fs::read_to_string(site.path("config/layouts.d/one.toml")).unwrap();
    let edited = run(&site, "sed -i s/ext4/xfs/", &["layout", "edit", "one"]);
    assert_eq!(edited.code(), Some(0), "{}", edited.stderr);
    assert_eq!(read(), GOOD.replace("ext4", "xfs"));
    let edited = run(&site, "sed -i s/xfs/zfs/", &["layout", "edit", "one"]);
    assert_eq!(edited.code(), Some(2));
    assert!(edited.stderr.contains("line 7: "), "{}", edited.stderr);
    assert_eq!(read(), GOOD.replace("ext4", "xfs"));
    assert_eq!(run(&site, "false", &["layout", "edit", "one"]).code(), Some(1));
    assert_eq!(run(&site, "true", &["layout", "edit", "new"]).code(), Some(2));
}
