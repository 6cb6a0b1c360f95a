//! The decisions of this module against those of rsync itself, on generated trees and rule lists.
//!
//! One pair of trees, source and destination, is made once. For each generated list, a dry run of `rsync -r --delete`
//! from one to the other says what it would send and delete; the same is worked out from our decisions by the obvious
//! walk. `SIMULCAST_FILTER_CASES` sets the number of lists, `SIMULCAST_SEED` the seed, which a failure prints.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::*;

/// Lists in an ordinary test run.
const CASES: u64 = 300;

/// Names that the patterns below can tell apart and mix up.
const NAMES: [&str; 10] = ["a", "b", "ab", "a.b", "aa", "a*b", "a-b", "A1", "b]c", "a\\b"];

type Paths = BTreeSet<String>;

/// A small generator with a good enough spread (`splitmix64`).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Directories end with `/`. A path has the same kind in both trees.
struct Tree {
    both: Paths,
    source: Paths,
    destination: Paths,
}

fn tree(random: &mut Random) -> Tree {
    let mut both = Paths::new();
    let mut dirs = vec![String::new()];
    // About 120 entries; fewer when chance made too few directories to hold them.
    for _ in 0..400 {
        if both.len() == 120 {
            break;
        }
        let dir = &dirs[random.below(dirs.len())];
        let path = format!("{dir}{}", random.pick(&NAMES));
        if both.contains(&path) || both.contains(&format!("{path}/")) {
            continue;
        }
        if dir.matches('/').count() < 4 && random.chance(45) {
            both.insert(format!("{path}/"));
            dirs.push(format!("{path}/"));
        } else {
            both.insert(path);
        }
    }
    let mut some = |percent| {
        let mut kept = Paths::new();
        for path in &both {
            // Parents sort before what is in them.
            let parent = path
                .trim_end_matches('/')
                .rsplit_once('/')
                .map(|(dir, _)| format!("{dir}/"));
            if parent.is_none_or(|dir| kept.contains(&dir)) && random.chance(percent) {
                kept.insert(path.clone());
            }
        }
        kept
    };
    Tree {
        source: some(90),
        destination: some(90),
        both,
    }
}

fn make(root: &Path, paths: &Paths) {
    fs::create_dir(root).unwrap();
    for path in paths {
        match path.strip_suffix('/') {
            Some(dir) => fs::create_dir(root.join(dir)).unwrap(),
            None => fs::write(root.join(path), path).unwrap(),
        }
    }
}

/// What patterns are put together from.
const PIECES: [&str; 34] = [
    "a",
    "b",
    "ab",
    "a.b",
    "aa",
    "A1",
    "*",
    "**",
    "***",
    "?",
    "a*",
    "*b",
    "a**",
    "**b",
    "a?b",
    "[ab]",
    "[!a]",
    "[a-c]",
    "[[:alpha:]]",
    "[[:digit:]]",
    "[^[:upper:]]*",
    "a\\*b",
    "\\a",
    "a\\b",
    "a\\\\b",
    "*\\\\*",
    "[]b]*",
    "b[]]c",
    "a[*]b",
    "a[-.]b",
    "[[:punct:]]",
    "a*b",
    "*.b",
    "[a-]*",
];

fn pattern(random: &mut Random, tree: &Tree) -> String {
    let mut text = String::new();
    if random.chance(40) {
        // A path that exists, with pieces exchanged: patterns that match something.
        let at = random.below(tree.both.len());
        let path = tree.both.iter().nth(at).unwrap().trim_end_matches('/');
        let names: Vec<_> = path.split('/').collect();
        let from = if random.chance(50) {
            0
        } else {
            random.below(names.len())
        };
        let changed = names[from..].iter().map(|name| {
            if random.chance(40) {
                random.pick(&PIECES)
            } else {
                name
            }
        });
        text = changed.collect::<Vec<_>>().join("/");
    } else {
        for level in 0..=random.below(3) {
            if level > 0 {
                text.push('/');
            }
            for _ in 0..=random.below(2) {
                text.push_str(random.pick(&PIECES));
            }
        }
    }
    if random.chance(35) {
        text.insert(0, '/');
    }
    match random.below(10) {
        0..=2 => text.push('/'),
        3 => text.push_str("/***"),
        4 => text.push_str("/**"),
        5 => text.push_str("/*"),
        _ => {}
    }
    text
}

fn rules(random: &mut Random, tree: &Tree) -> Vec<String> {
    (0..=random.below(6))
        .map(|_| {
            let prefix = random.pick(&["- ", "- ", "- ", "+ ", "+ ", "P ", "R ", "H ", "S "]);
            format!("{prefix}{}", pattern(random, tree))
        })
        .collect()
}

/// What rsync would send and delete. Names that it deletes are told from sent ones by the first word of a line.
fn by_rsync(root: &Path, tree: &Tree, rules: &Path) -> (Paths, Paths) {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test of ours, of which only rsync's answer is of interest"
    )]
    let output = Command::new("rsync")
        .args(["-rIn", "-ii", "--delete", "-8", "--out-format=%i %n"])
        .arg(format!("--filter=merge {}", rules.display()))
        .args([root.join("source/"), root.join("destination/")])
        .env("LC_ALL", "C")
        .output()
        .unwrap();
    let (mut sent, mut deleted) = (Paths::new(), Paths::new());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        // A directory that keeps something protected is reported and kept.
        if line.starts_with("cannot delete non-empty directory") {
            continue;
        }
        // The first word has eleven characters and may end with blanks; none of our names begins with one.
        let (what, name) = line.split_once(' ').unwrap();
        let name = name.trim_start();
        match what {
            "*deleting" => deleted.insert(name.to_owned()),
            _ if name == "./" => true,
            _ => sent.insert(name.to_owned()),
        };
    }
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (sent, without_kept(tree, &deleted))
}

/// The same from our decisions: what is sent by a walk of the source, what is deleted by a walk of the destination in
/// the directories that are sent.
fn by_us(tree: &Tree, list: &ExclusionList) -> (Paths, Paths) {
    let excluded = |side, path: &str| {
        list.decide(side, path.trim_end_matches('/').as_bytes(), path.ends_with('/'))
            .excluded
    };
    let parent = |path: &str| {
        let trimmed = path.trim_end_matches('/');
        trimmed.rsplit_once('/').map(|(dir, _)| format!("{dir}/"))
    };
    let mut sent = Paths::new();
    for path in &tree.source {
        if parent(path).is_none_or(|dir| sent.contains(&dir)) && !excluded(Side::Sender, path) {
            sent.insert(path.clone());
        }
    }
    let mut doomed = Paths::new();
    for path in &tree.destination {
        let looked_at = parent(path).is_none_or(|dir| sent.contains(&dir) || doomed.contains(&dir));
        if looked_at && !sent.contains(path) && !excluded(Side::Receiver, path) {
            doomed.insert(path.clone());
        }
    }
    let deleted = without_kept(tree, &doomed);
    (sent, deleted)
}

/// A directory stays as long as anything in it does. A dry run of rsync does not notice that below the first level,
/// since its rmdir always succeeds.
fn without_kept(tree: &Tree, deleted: &Paths) -> Paths {
    let stays = |path: &String| {
        path.ends_with('/')
            && tree
                .destination
                .iter()
                .any(|other| other.starts_with(path) && !deleted.contains(other))
    };
    deleted.iter().filter(|path| !stays(path)).cloned().collect()
}

fn rsync_is_there() -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "a test of ours, of which only rsync's answer is of interest"
    )]
    let there = Command::new("rsync").arg("--version").output().is_ok();
    if !there {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "rsync is not installed, and REQUIRE_TIERS is set"
        );
        eprintln!("SKIPPED: rsync is not installed: decisions are not compared with it");
    }
    there
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn every_decision_is_rsyncs() {
    if !rsync_is_there() {
        return;
    }
    let seed = number("SIMULCAST_SEED", 20_260_101);
    let cases = number("SIMULCAST_FILTER_CASES", CASES);
    let mut random = Random(seed);
    let (mut asked, mut decided) = (0, 0);
    while asked < cases {
        let scratch = tempfile::tempdir().unwrap();
        let tree = tree(&mut random);
        make(&scratch.path().join("source"), &tree.source);
        make(&scratch.path().join("destination"), &tree.destination);
        // Making trees takes longer than asking rsync: ten lists for each pair.
        for _ in 0..10 {
            let rules = rules(&mut random, &tree);
            let file = scratch.path().join("rules");
            let text = rules.join("\n") + "\n";
            fs::write(&file, &text).unwrap();
            let list = ExclusionList::parse(text.as_bytes(), "rules").unwrap();
            let (theirs, ours) = (by_rsync(scratch.path(), &tree, &file), by_us(&tree, &list));
            let differ: Vec<_> = ours.0.symmetric_difference(&theirs.0).collect();
            let differ_deleted: Vec<_> = ours.1.symmetric_difference(&theirs.1).collect();
            assert!(
                ours == theirs,
                "SIMULCAST_SEED={seed}, list {asked}, {rules:#?}: sent by one only {differ:?}, deleted by one only \
                 {differ_deleted:?}"
            );
            asked += 1;
            decided += u64::from(ours.0.len() < tree.source.len());
        }
    }
    assert!(
        decided > cases / 3,
        "only {decided} of {cases} lists excluded anything"
    );
}
