//! House rules that a machine can check, over every tracked file.

use std::fs;
use std::path::Path;

use simulcast_testkit::command::{command, read};
use simulcast_testkit::run::workspace;

/// Lines that no source file exceeds.
const LINES: usize = 600;

/// What is wrong with one file, one sentence each.
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let (count, code) = (
        text.lines().count(),
        name.ends_with(".rs") || name.starts_with("scripts/"),
    );
    if code && count > LINES {
        faults.push(format!("{name} has {count} lines; {LINES} is the most: split it"));
    }
    // Written in two halves, so that this file is none of those that it finds.
    let unfinished =
        [["TO", "DO"], ["FIX", "ME"], ["XX", "X"], ["unimple", "mented!"]].map(|halves| halves.concat());
    let places = [
        ["/wo", "rk/"],
        ["/ho", "me/"],
        ["/ro", "ot/.cargo"],
        ["/Us", "ers/"],
    ]
    .map(|halves| halves.concat());
    for (number, line) in text.lines().enumerate().map(|(n, line)| (n + 1, line)) {
        if let Some(word) = unfinished.iter().find(|&w| has_word(line, w)) {
            faults.push(format!("{name}:{number}: {word}: finish it, or open an issue"));
        }
        if let Some(place) = places.iter().find(|&p| line.contains(p.as_str())) {
            faults.push(format!(
                "{name}:{number}: {place} is a path of somebody's machine"
            ));
        }
        if code && line.ends_with([' ', '\t']) {
            faults.push(format!("{name}:{number}: white space at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        faults.push(format!("{name}: no newline at its end"));
    }
    faults
}

/// Whether `word` stands in `line` as a word of its own.
fn has_word(line: &str, word: &str) -> bool {
    let outside = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric() && c != '_');
    line.match_indices(word).any(|(at, _)| {
        outside(line[..at].chars().next_back())
            && (word.ends_with('!') || outside(line[at + word.len()..].chars().next()))
    })
}

#[test]
fn every_tracked_file_is_tidy() {
    let root = workspace();
    let listed = read(command("git").arg("-C").arg(&root).args(["ls-files", "-z"])).unwrap();
    let names: Vec<&str> = listed.split_terminator('\0').collect();
    assert!(
        names.contains(&"Cargo.toml"),
        "git lists {} files of {}",
        names.len(),
        root.display()
    );
    // What is not UTF-8 is no text: fixtures and pictures. What is deleted and not yet committed is not there.
    let read_text = |name: &str| fs::read_to_string(root.join(Path::new(name))).ok();
    let texts = names.iter().filter_map(|name| Some((*name, read_text(name)?)));
    let faults: Vec<String> = texts
        // Nobody wrote what a fuzzer found.
        .filter(|(name, _)| *name != "Cargo.lock" && !name.contains("/corpus/"))
        .flat_map(|(name, text)| faults(name, &text))
        .collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn each_rule_finds_its_fault() {
    let long = "x\n".repeat(LINES + 1);
    assert_eq!(
        faults("a.rs", &long),
        [format!("a.rs has 601 lines; {LINES} is the most: split it")]
    );
    assert!(faults("data.txt", &long).is_empty());
    let unfinished = format!("fine\n// {}: later\n", ["TO", "DO"].concat());
    assert_eq!(
        faults("a.rs", &unfinished),
        [format!(
            "a.rs:2: {}: finish it, or open an issue",
            ["TO", "DO"].concat()
        )]
    );
    assert!(faults("a.rs", "let mastodon = TODOS_OF_OTHERS;\n").is_empty());
    let path = format!("see {}shared\n", ["/wo", "rk/"].concat());
    assert_eq!(faults("README.md", &path).len(), 1);
    assert_eq!(faults("a.rs", "x \nlast").len(), 2);
}
