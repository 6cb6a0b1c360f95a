//! Any tree becomes equal to any version, outside what is protected.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::delta::Signature;
use crate::filter::Side;
use crate::manifest::Manifest;
use crate::store::{ChunkStore, PartIndex, Store};

/// One path of a generated tree. Few names, so that the same path is often of another kind in the next tree.
#[derive(Debug, Clone)]
enum Node {
    File { name: u8, content: u8, mode: u32 },
    Directory { name: u8, below: Vec<Node> },
    Symlink { name: u8, to: u8 },
    Link { name: u8 },
}

fn node() -> impl Strategy<Value = Node> {
    let name = 0u8..6;
    let leaf = prop_oneof![
        4 => (name.clone(), 0u8..5, prop_oneof![Just(0o644), Just(0o4755), Just(0)])
            .prop_map(|(name, content, mode)| Node::File { name, content, mode }),
        1 => (name.clone(), 0u8..3).prop_map(|(name, to)| Node::Symlink { name, to }),
        1 => name.prop_map(|name| Node::Link { name }),
    ];
    leaf.prop_recursive(3, 30, 6, |inner| {
        (0u8..6, proptest::collection::vec(inner, 0..6))
            .prop_map(|(name, below)| Node::Directory { name, below })
    })
}

fn tree() -> impl Strategy<Value = Vec<Node>> {
    proptest::collection::vec(node(), 0..8)
}

/// Builds nodes; a name that is taken already is left as it is. `first` is a file that links may go to.
fn build(at: &Path, nodes: &[Node], first: &mut Option<std::path::PathBuf>) {
    for node in nodes {
        let path = |name: u8| at.join(format!("n{name}"));
        match node {
            Node::File { name, content, mode } => {
                let path = path(*name);
                if path.symlink_metadata().is_err() {
                    fs::write(&path, vec![b'a' + content; usize::from(*content) * 1000]).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                    first.get_or_insert(path);
                }
            }
            Node::Directory { name, below } => {
                if fs::create_dir(path(*name)).is_ok() {
                    build(&path(*name), below, first);
                }
            }
            Node::Symlink { name, to } => drop(symlink(format!("to{to}"), path(*name))),
            Node::Link { name } => {
                if let Some(first) = first {
                    drop(fs::hard_link(first, path(*name)));
                }
            }
        }
    }
}

fn built(nodes: &[Node]) -> TempDir {
    let directory = TempDir::new().unwrap();
    build(directory.path(), nodes, &mut None);
    directory
}

fn import(store: &Store, tree: &Path) -> Manifest {
    crate::testing::import(store, "golden", tree).0.signed.manifest
}

fn nothing(_: Side, _: &[u8], _: bool) -> bool {
    false
}

fn options<'a>(
    installed: Option<&'a Manifest>,
    protects: &'a dyn Fn(Side, &[u8], bool) -> bool,
) -> PlanOptions<'a> {
    PlanOptions {
        protects,
        delete: true,
        checksum: false,
        installed,
        directory: b"",
        closed: &NOTHING_MOUNTED,
    }
}

static NOTHING_MOUNTED: std::sync::LazyLock<HashSet<Vec<u8>>> = std::sync::LazyLock::new(HashSet::new);

const KEEPING: CommitOptions<'_> = CommitOptions {
    keep: KEPT_UPDATES,
    record: None,
};

/// Updates and returns what was done, and how many bytes had to come from the store.
fn update(store: &Store, manifest: &Manifest, root: &Path, options: &PlanOptions<'_>) -> (UpdateReport, u64) {
    let root = || crate::fs::open_root(root).unwrap();
    let plan = Plan::make(manifest, &root(), options).unwrap();
    let update = Update::begin(plan, root()).unwrap();
    let (mut worker, mut moved) = (update.worker().unwrap(), 0);
    for (index, _) in update
        .writer()
        .missing_chunks()
        .into_iter()
        .enumerate()
        .filter(|(_, missing)| *missing)
    {
        let mut stored = store.chunks().read(&manifest.chunks[index].handle.id).unwrap();
        moved += stored.len() as u64;
        update
            .writer()
            .chunk(&mut worker, u32::try_from(index).unwrap(), &mut stored)
            .unwrap();
    }
    (update.commit(KEEPING).unwrap(), moved)
}

#[expect(clippy::disallowed_methods, reason = "a test compares with a real rsync")]
fn differences(left: &Path, right: &Path, exclude: &[&str]) -> String {
    let output = std::process::Command::new("rsync")
        .args([
            "-aHAXSn",
            "--checksum",
            "--delete",
            "--itemize-changes",
            "--exclude=/.simulcast-kept",
        ])
        .args(exclude.iter().map(|pattern| format!("--exclude={pattern}")))
        .args([left.join(""), right.join("")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_becomes_any_version_and_comes_back(old in tree(), new in tree(), stray in tree()) {
        let (state, old, new) = (TempDir::new().unwrap(), built(&old), built(&new));
        let store = Store::open(state.path()).unwrap();
        let (one, two) = (import(&store, old.path()), import(&store, new.path()));
        let node = built(&stray);
        let mut installed = None;
        for (manifest, tree) in [(&one, &old), (&two, &new), (&one, &old)] {
            update(&store, manifest, node.path(), &options(installed, &nothing));
            prop_assert_eq!(differences(tree.path(), node.path(), &[]), "");
            let (report, moved) = update(&store, manifest, node.path(), &options(installed, &nothing));
            prop_assert_eq!((report.summary.written, report.summary.metadata, report.summary.deleted), (0, 0, 0));
            prop_assert_eq!(moved, 0);
            installed = Some(manifest);
        }
    }
}

/// A copy with everything that rsync sees.
#[expect(clippy::disallowed_methods, reason = "a test keeps a copy to compare with")]
fn copied(tree: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    let status = std::process::Command::new("rsync")
        .args(["-aHAXS", "--exclude=/.simulcast-kept"])
        .args([tree.join(""), copy.path().join("")])
        .status();
    assert!(status.unwrap().success());
    copy
}

fn rollback(root: &Path) -> RollbackReport {
    let found = Rollback::find(crate::fs::open_root(root).unwrap()).unwrap();
    found.unwrap().apply().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_rollback_brings_back_what_was_there_twice(old in tree(), new in tree(), stray in tree()) {
        let (state, old, new) = (TempDir::new().unwrap(), built(&old), built(&new));
        let store = Store::open(state.path()).unwrap();
        let (one, two) = (import(&store, old.path()), import(&store, new.path()));
        let node = built(&stray);
        let before = copied(node.path());
        update(&store, &one, node.path(), &options(None, &nothing));
        let between = copied(node.path());
        update(&store, &two, node.path(), &options(Some(&one), &nothing));
        rollback(node.path());
        prop_assert_eq!(differences(between.path(), node.path(), &[]), "");
        rollback(node.path());
        prop_assert_eq!(differences(before.path(), node.path(), &[]), "");
        prop_assert!(Rollback::find(crate::fs::open_root(node.path()).unwrap()).unwrap().is_none());
    }

    #[test]
    fn nothing_outside_a_directory_is_touched(old in tree(), new in tree(), stray in tree()) {
        let (state, old, new) = (TempDir::new().unwrap(), built(&old), built(&new));
        for (tree, text) in [(&old, "old"), (&new, "new")] {
            fs::create_dir_all(tree.path().join("d/in")).unwrap();
            fs::write(tree.path().join("d/in/f"), text).unwrap();
            fs::write(tree.path().join("d/beside"), text).unwrap();
        }
        let store = Store::open(state.path()).unwrap();
        let two = import(&store, new.path());
        let node = built(&stray);
        fs::create_dir_all(node.path().join("d/in/extra")).unwrap();
        fs::write(node.path().join("d/own"), "own").unwrap();
        let before = copied(node.path());
        let only = PlanOptions { directory: b"d/in", ..options(None, &nothing) };
        update(&store, &two, node.path(), &only);
        prop_assert_eq!(differences(before.path(), node.path(), &["/d/in"]), "");
        prop_assert_eq!(differences(&new.path().join("d/in"), &node.path().join("d/in"), &[]), "");
    }
}

/// Lines of an exclusion list about the names of generated trees.
fn rule() -> impl Strategy<Value = String> {
    let kind = prop_oneof![
        Just("- "),
        Just("- "),
        Just("+ "),
        Just("P "),
        Just("H "),
        Just("R "),
        Just("S ")
    ];
    (
        kind,
        "/?(n[0-5]|n\\*|n\\?|\\*\\*)(/(n[0-5]|\\*|n[0-5]/\\*\\*\\*))?/?",
    )
        .prop_map(|(kind, pattern)| format!("{kind}{pattern}"))
}

/// The same trees without hard links, of which rsync and we think otherwise where one name is excluded.
fn unlinked(nodes: Vec<Node>) -> Vec<Node> {
    let keep = |node| match node {
        Node::Link { .. } => None,
        Node::Directory { name, below } => Some(Node::Directory {
            name,
            below: unlinked(below),
        }),
        other => Some(other),
    };
    nodes.into_iter().filter_map(keep).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn with_exclusion_lists_an_update_does_what_rsync_does(
        new in tree(), stray in tree(), rules in proptest::collection::vec(rule(), 0..5)
    ) {
        let (state, new) = (TempDir::new().unwrap(), built(&unlinked(new)));
        let (node, theirs) = (built(&unlinked(stray.clone())), built(&unlinked(stray)));
        let store = Store::open(state.path()).unwrap();
        let manifest = import(&store, new.path());
        let text = rules.join("\n") + "\n";
        let list = crate::filter::ExclusionList::parse(text.as_bytes(), "rules").unwrap();
        let protects = |side, path: &[u8], dir| list.decide(side, path, dir).excluded;
        let root = || crate::fs::open_root(node.path()).unwrap();
        let plan = Plan::make(&manifest, &root(), &options(None, &protects)).unwrap();
        // rsync empties a directory that gives way to a file as far as it can, and then fails; we leave it alone.
        prop_assume!(plan.blocked().next().is_none());
        update(&store, &manifest, node.path(), &options(None, &protects));
        let file = state.path().join("rules");
        fs::write(&file, &text).unwrap();
        synced(new.path(), theirs.path(), &file);
        // What was excluded has its own times in either tree.
        let found = differences(theirs.path(), node.path(), &[]);
        let differ: Vec<&str> = found.lines().filter(|line| !line.get(1..11).is_some_and(|what| what.ends_with("..t......"))).collect();
        prop_assert!(differ.is_empty(), "{:?}: {:?}", rules, differ);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test compares with a real rsync")]
fn synced(from: &Path, to: &Path, rules: &Path) {
    let output = std::process::Command::new("rsync")
        .args(["-aHAXS", "--checksum", "--delete"])
        .arg(format!("--filter=merge {}", rules.display()))
        .args([from.join(""), to.join("")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn more_than_is_to_be_kept_goes_and_an_interrupted_update_is_gone_on_with() {
    let (_state, tree, store) = golden();
    let node = TempDir::new().unwrap();
    let versions: Vec<Manifest> = ["a", "b", "c", "d"]
        .iter()
        .map(|text| {
            fs::write(tree.path().join("etc/hosts"), text).unwrap();
            import(&store, tree.path())
        })
        .collect();
    for version in &versions[..3] {
        update(&store, version, node.path(), &options(None, &nothing));
    }
    let kept = node.path().join(".simulcast-kept");
    let mut names: Vec<_> = fs::read_dir(&kept)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["2", "3"]);
    // As a crash after the first rename leaves it: the next update ends it, and a rollback goes back to before it.
    fs::rename(kept.join("3"), kept.join("3.open")).unwrap();
    update(&store, &versions[3], node.path(), &options(None, &nothing));
    assert!(!kept.join("4").exists() && !kept.join("3.open").exists());
    let hosts = || fs::read_to_string(node.path().join("etc/hosts")).unwrap();
    assert_eq!(hosts(), "d");
    rollback(node.path());
    assert_eq!(hosts(), "b");
}

#[test]
fn a_rollback_keeps_what_was_made_since_and_says_so() {
    let (_state, tree, store) = golden();
    let node = TempDir::new().unwrap();
    fs::create_dir(tree.path().join("made")).unwrap();
    fs::write(tree.path().join("made/by-update"), "x").unwrap();
    let one = import(&store, tree.path());
    update(&store, &one, node.path(), &options(None, &nothing));
    fs::write(node.path().join("made/since"), "own").unwrap();
    let report = rollback(node.path());
    assert_eq!(report.stayed, ["/made"]);
    assert_eq!(fs::read_to_string(node.path().join("made/since")).unwrap(), "own");
    assert!(!node.path().join("made/by-update").exists());
}

#[test]
fn what_is_protected_in_a_directory_keeps_the_directory() {
    let (_state, tree, store) = golden();
    fs::write(tree.path().join("swapped"), "a file").unwrap();
    let one = import(&store, tree.path());
    let node = TempDir::new().unwrap();
    fs::create_dir(node.path().join("swapped")).unwrap();
    fs::write(node.path().join("swapped/own"), "own").unwrap();
    let protects = |_: Side, path: &[u8], _: bool| path == b"swapped/own";
    let plan = Plan::make(
        &one,
        &crate::fs::open_root(node.path()).unwrap(),
        &options(None, &protects),
    )
    .unwrap();
    assert_eq!(plan.blocked().collect::<Vec<_>>(), [b"swapped".to_vec()]);
    update(&store, &one, node.path(), &options(None, &protects));
    assert_eq!(
        fs::read_to_string(node.path().join("swapped/own")).unwrap(),
        "own"
    );
    assert_eq!(differences(tree.path(), node.path(), &["/swapped"]), "");
}

fn golden() -> (TempDir, TempDir, Store) {
    let (state, tree) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    fs::create_dir_all(tree.path().join("etc/ssh")).unwrap();
    fs::create_dir_all(tree.path().join("srv")).unwrap();
    fs::write(tree.path().join("etc/hosts"), "one").unwrap();
    let big: Vec<u8> = (0..13_000_000u32)
        .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    fs::write(tree.path().join("srv/big"), big).unwrap();
    (state, tree, store)
}

#[test]
fn what_is_protected_is_neither_written_nor_deleted() {
    let (_state, tree, store) = golden();
    let one = import(&store, tree.path());
    let node = TempDir::new().unwrap();
    let protects = |_: Side, path: &[u8], _: bool| path == b"etc/hosts" || path.starts_with(b"etc/ssh/key");
    fs::create_dir_all(node.path().join("etc/ssh")).unwrap();
    fs::write(node.path().join("etc/ssh/key"), "its own").unwrap();
    fs::write(node.path().join("etc/hosts"), "its own").unwrap();
    fs::create_dir_all(node.path().join("etc/ssh2/deep")).unwrap();
    let (report, _) = update(&store, &one, node.path(), &options(None, &protects));
    assert_eq!(report.summary.protected, 2);
    assert_eq!(
        fs::read_to_string(node.path().join("etc/hosts")).unwrap(),
        "its own"
    );
    assert_eq!(
        fs::read_to_string(node.path().join("etc/ssh/key")).unwrap(),
        "its own"
    );
    assert_eq!(
        differences(tree.path(), node.path(), &["/etc/hosts", "/etc/ssh/key"]),
        ""
    );
}

#[test]
fn bytes_that_the_tree_has_are_not_fetched() {
    let (_state, tree, store) = golden();
    let one = import(&store, tree.path());
    let node = TempDir::new().unwrap();
    update(&store, &one, node.path(), &options(None, &nothing));
    // Patched in the middle, and renamed.
    let big = fs::OpenOptions::new()
        .write(true)
        .open(tree.path().join("srv/big"))
        .unwrap();
    big.write_all_at(b"patched", 20_000_000).unwrap();
    fs::rename(tree.path().join("srv/big"), tree.path().join("srv/renamed")).unwrap();
    let two = import(&store, tree.path());
    let (report, moved) = update(&store, &two, node.path(), &options(Some(&one), &nothing));
    assert_eq!(differences(tree.path(), node.path(), &[]), "");
    assert!(
        moved < 5 << 20,
        "one part of 52 MB should move, not {moved} bytes"
    );
    assert!(report.local_bytes > 45_000_000);
}

#[test]
fn an_abandoned_update_changes_nothing_and_a_killed_one_is_finished() {
    let (_state, tree, store) = golden();
    let one = import(&store, tree.path());
    let node = TempDir::new().unwrap();
    update(&store, &one, node.path(), &options(None, &nothing));
    fs::write(tree.path().join("etc/hosts"), "two").unwrap();
    fs::write(tree.path().join("srv/new"), "new").unwrap();
    let two = import(&store, tree.path());
    let root = || crate::fs::open_root(node.path()).unwrap();
    let begin = || {
        Update::begin(
            Plan::make(&two, &root(), &options(Some(&one), &nothing)).unwrap(),
            root(),
        )
        .unwrap()
    };
    begin().abandon().unwrap();
    assert_eq!(fs::read_to_string(node.path().join("etc/hosts")).unwrap(), "one");
    assert!(!node.path().join(".simulcast-stage-0").exists());
    assert!(matches!(
        begin().commit(KEEPING),
        Err(UpdateError::Apply(ApplyError::Incomplete(1)))
    ));
    // The last one left its stage behind, as a killed one would.
    assert!(node.path().join(".simulcast-stage-0").exists());
    update(&store, &two, node.path(), &options(Some(&one), &nothing));
    assert_eq!(differences(tree.path(), node.path(), &[]), "");
}

#[test]
fn a_file_that_somebody_changed_goes_by_a_rolling_delta() {
    let (_state, tree, store) = golden();
    let one = import(&store, tree.path());
    let node = TempDir::new().unwrap();
    update(&store, &one, node.path(), &options(None, &nothing));
    // Every part of the node's file is another one now, though nearly all bytes are the same.
    let mut shifted = fs::read(node.path().join("srv/big")).unwrap();
    shifted.insert(0, b'x');
    fs::write(node.path().join("srv/big"), shifted).unwrap();
    let root = || crate::fs::open_root(node.path()).unwrap();
    let plan = Plan::make(&one, &root(), &options(Some(&one), &nothing)).unwrap();
    let update = Update::begin(plan, root()).unwrap();
    let candidates = update.rolling_candidates().unwrap();
    let [candidate] = &candidates[..] else {
        panic!("{candidates:?}")
    };
    let (mut worker, mut moved) = (update.worker().unwrap(), 0);
    let sums = Signature::decode(
        candidate.signature.as_bytes().to_vec(),
        candidate.signature.basis_bytes(),
    )
    .unwrap();
    let index = PartIndex::new(&one);
    rolling_deltas(
        &store,
        &one,
        &index,
        candidate.entry,
        &sums,
        &candidate.parts,
        |number, delta| {
            moved += delta.len();
            update.take_delta(&mut worker, candidate, number, &delta).unwrap()
        },
    )
    .unwrap();
    assert!(moved < 100_000, "{moved}");
    assert!(candidate.spares > 40_000_000);
    assert!(update.writer().missing_chunks().iter().all(|missing| !missing));
    update.commit(KEEPING).unwrap();
    assert_eq!(differences(tree.path(), node.path(), &[]), "");
}
