//! The walk over two manifests against a slow twin that compares maps of paths.

use std::collections::BTreeMap;

use proptest::prelude::*;
use simulcast_protocol::id::PartId;

use super::*;
use crate::manifest::tests::{entry, manifest_of};
use crate::manifest::{Entry, Part};

/// A manifest with these paths; a path that ends in `/` is a directory, others are files with the given byte.
fn tree(paths: &BTreeMap<String, u8>) -> Manifest {
    let mut dirs: BTreeMap<String, u32> = BTreeMap::from([(String::new(), 0)]);
    let mut entries = vec![entry(0, b"", Kind::Directory)];
    let mut parts: Vec<Part> = Vec::new();
    let mut sorted: Vec<_> = paths.iter().map(|(path, &byte)| (path, byte)).collect();
    sorted.sort_by_key(|(path, _)| path.split('/').map(str::to_owned).collect::<Vec<_>>());
    for (path, byte) in sorted {
        let index = u32::try_from(entries.len()).unwrap();
        let bare = path.trim_end_matches('/');
        let (dir, name) = bare.rsplit_once('/').unwrap_or(("", bare));
        let kind = if path.ends_with('/') {
            dirs.insert(bare.to_owned(), index);
            Kind::Directory
        } else {
            let id = PartId::of(&[byte]);
            let at = parts.iter().position(|part| part.id == id).unwrap_or_else(|| {
                parts.push(Part { id, len: 1 });
                parts.len() - 1
            });
            Kind::File(FileContent::new(1, &[Some(u32::try_from(at).unwrap())], vec![]))
        };
        entries.push(entry(dirs[dir], name.as_bytes(), kind));
    }
    manifest_of(entries, parts)
}

fn shown(from: &Manifest, to: &Manifest) -> Vec<String> {
    let path = |manifest: &Manifest, index| String::from_utf8(manifest.path(index)).unwrap();
    diff(from, to)
        .into_iter()
        .map(|change| match change {
            Change::Added(b) => format!("+{}", path(to, b)),
            Change::Removed(a) => format!("-{}", path(from, a)),
            Change::Changed(a, b, fields) => {
                assert_eq!(path(from, a), path(to, b));
                let names: Vec<_> = fields.iter().map(Field::name).collect();
                format!("{}:{}", path(from, a), names.join(","))
            }
        })
        .collect()
}

fn paths(list: &[(&str, u8)]) -> BTreeMap<String, u8> {
    list.iter().map(|&(path, byte)| (path.to_owned(), byte)).collect()
}

#[test]
fn added_removed_and_changed_paths_are_told() {
    let from = tree(&paths(&[
        ("a/", 0),
        ("a/x", 1),
        ("a/y", 2),
        ("b", 3),
        ("c/", 0),
        ("c/z", 4),
    ]));
    let to = tree(&paths(&[
        ("a/", 0),
        ("a/w", 1),
        ("a/y", 9),
        ("b/", 0),
        ("b/n", 3),
        ("d", 4),
    ]));
    assert_eq!(
        shown(&from, &to),
        [
            "+a/w",
            "-a/x",
            "a/y:content",
            "b:type",
            "+b/n",
            "-c",
            "-c/z",
            "+d"
        ]
    );
    assert!(shown(&to, &to).is_empty());
}

#[test]
fn metadata_links_targets_and_holes_are_told_apart() {
    let file = |byte: u32| Kind::File(FileContent::new(1, &[Some(byte)], vec![]));
    let parts = || {
        [b"0", b"1"]
            .map(|bytes| Part {
                id: PartId::of(bytes),
                len: 1,
            })
            .to_vec()
    };
    let build = |change: &dyn Fn(&mut Vec<Entry>)| {
        let mut entries = vec![
            entry(0, b"", Kind::Directory),
            entry(0, b"a", file(0)),
            entry(0, b"b", file(1)),
            entry(0, b"c", Kind::HardLink(1)),
            entry(0, b"d", Kind::Symlink((*b"x").into())),
            entry(0, b"e", Kind::File(FileContent::zeros(5))),
        ];
        change(&mut entries);
        manifest_of(entries, parts())
    };
    let from = build(&|_| {});
    let to = build(&|entries| {
        entries[0].meta.uid = 7;
        entries[1].meta.mode = 0o4755;
        entries[1].meta.mtime.nanos = 1;
        entries[3].kind = Kind::HardLink(2);
        entries[4].kind = Kind::Symlink((*b"y").into());
        let hole = crate::manifest::Hole { start: 0, len: 5 };
        entries[5].kind = Kind::File(FileContent::new(5, &[None], vec![hole]));
    });
    let found = shown(&from, &to);
    assert_eq!(
        found,
        [":owner", "a:mode,mtime", "c:content,links", "d:target", "e:holes"]
    );
    let content: Vec<_> = diff(&from, &to)
        .into_iter()
        .map(|change| matches!(change, Change::Changed(_, _, fields) if fields.content()))
        .collect();
    assert_eq!(content, [false, false, true, true, false]);
}

proptest! {
    #[test]
    fn the_walk_says_what_maps_of_paths_say(
        left in proptest::collection::btree_map("[ab.]{1,2}(/[ab.]{1,2}){0,3}", 0u8..3, 0..30),
        right in proptest::collection::btree_map("[ab.]{1,2}(/[ab.]{1,2}){0,3}", 0u8..3, 0..30),
    ) {
        let (left, right) = (completed(&left), completed(&right));
        let (from, to) = (tree(&left), tree(&right));
        let map = |paths: &BTreeMap<String, u8>| -> BTreeMap<Vec<String>, Option<u8>> {
            paths.iter().map(|(path, &byte)| {
                let names = path.trim_end_matches('/').split('/').map(str::to_owned).collect();
                (names, (!path.ends_with('/')).then_some(byte))
            }).collect()
        };
        let (left, right) = (map(&left), map(&right));
        let mut expected = Vec::new();
        let mut all: Vec<_> = left.keys().chain(right.keys()).cloned().collect();
        all.sort();
        all.dedup();
        for path in all {
            let shown = path.join("/");
            match (left.get(&path), right.get(&path)) {
                (Some(_), None) => expected.push(format!("-{shown}")),
                (None, Some(_)) => expected.push(format!("+{shown}")),
                (Some(old), Some(new)) if old != new => {
                    let what = if old.is_some() == new.is_some() { "content" } else { "type" };
                    expected.push(format!("{shown}:{what}"));
                }
                _ => {}
            }
        }
        prop_assert_eq!(super::tests::shown(&from, &to), expected);
    }
}

/// Adds the directories that paths need; a file in the way of a directory goes, and so do names that are none.
fn completed(paths: &BTreeMap<String, u8>) -> BTreeMap<String, u8> {
    let named = |path: &&String| path.split('/').all(|name| name != "." && name != "..");
    let mut all = BTreeMap::new();
    for path in paths.keys().filter(named) {
        for (at, _) in path.match_indices('/') {
            all.insert(format!("{}/", &path[..at]), 0);
        }
    }
    let files = paths
        .iter()
        .filter(|(path, _)| named(path) && !all.contains_key(&format!("{path}/")));
    let files: Vec<_> = files.map(|(path, &byte)| (path.clone(), byte)).collect();
    all.extend(files);
    all
}
