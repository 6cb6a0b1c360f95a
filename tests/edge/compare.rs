//! Comparing two trees that were read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use rustix::fs::FileType;

use super::read::{Entry, read};

/// Bytes that the allocation of two equal files may differ by, and its hundredth of them: file systems round, and
/// allocate tables for files with many holes.
const ALLOCATION_MARGIN: u64 = 64 << 10;

/// Differences that a failed assertion lists.
const LISTED: usize = 100;

type Entries = BTreeMap<Vec<u8>, Entry>;

/// Every difference between two trees, one line each: entries that only one has; kind, mode, owner, mtime, extended
/// attributes, target, device, size, content; holes, as far as they show in the space that a file takes; and which
/// names are links of one inode. Sizes of directories do not count.
///
/// # Errors
/// A tree that cannot be read whole; root can.
pub fn differences(a: &Path, b: &Path) -> io::Result<Vec<String>> {
    let (a, b) = (read(a)?, read(b)?);
    let (links_a, links_b) = (link_groups(&a), link_groups(&b));
    let mut found = Vec::new();
    for (path, entry) in &a {
        let shown = path.escape_ascii();
        let Some(other) = b.get(path) else {
            found.push(format!("{shown}: only in the first"));
            continue;
        };
        for difference in compare(entry, other) {
            found.push(format!("{shown}: {difference}"));
        }
        if links_a[path] != links_b[path] {
            let (one, two) = (links_a[path].escape_ascii(), links_b[path].escape_ascii());
            found.push(format!(
                "{shown}: linked with {one} in the first, with {two} in the second"
            ));
        }
    }
    let more = b.keys().filter(|path| !a.contains_key(*path));
    found.extend(more.map(|path| format!("{}: only in the second", path.escape_ascii())));
    Ok(found)
}

/// Fails with a list of the differences unless both trees are the same.
///
/// # Panics
/// They differ, or one cannot be read.
pub fn assert_same(a: &Path, b: &Path) {
    let found = differences(a, b).expect("both trees can be read");
    let listed = found
        .iter()
        .take(LISTED)
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join("\n  ");
    assert!(
        found.is_empty(),
        "{} differences between {} and {}:\n  {listed}",
        found.len(),
        a.display(),
        b.display()
    );
}

fn compare(a: &Entry, b: &Entry) -> Vec<String> {
    let mut found = Vec::new();
    if a.kind != b.kind {
        return vec![format!("{:?} in the first, {:?} in the second", a.kind, b.kind)];
    }
    let mut differ = |what: &str, one: String, two: String| {
        if one != two {
            found.push(format!("{what} {one} in the first, {two} in the second"));
        }
    };
    let bytes = |bytes: &[u8]| bytes.escape_ascii().to_string();
    differ("mode", format!("{:04o}", a.mode), format!("{:04o}", b.mode));
    differ(
        "owner",
        format!("{}:{}", a.uid, a.gid),
        format!("{}:{}", b.uid, b.gid),
    );
    differ(
        "mtime",
        format!("{}.{:09}", a.mtime.0, a.mtime.1),
        format!("{}.{:09}", b.mtime.0, b.mtime.1),
    );
    differ("device", format!("{:?}", a.device), format!("{:?}", b.device));
    differ("target", bytes(&a.target), bytes(&b.target));
    for name in a
        .xattrs
        .keys()
        .chain(b.xattrs.keys().filter(|name| !a.xattrs.contains_key(*name)))
    {
        let value = |entry: &Entry| {
            entry
                .xattrs
                .get(name)
                .map_or("nothing".to_owned(), |value| format!("\"{}\"", bytes(value)))
        };
        differ(&format!("attribute {}", bytes(name)), value(a), value(b));
    }
    if a.kind == FileType::RegularFile {
        differ("size", a.size.to_string(), b.size.to_string());
        let hash = |entry: &Entry| {
            entry
                .content
                .map_or(String::new(), |hash| hash.to_hex().to_string())
        };
        differ("content", hash(a), hash(b));
        if a.allocated.abs_diff(b.allocated) > ALLOCATION_MARGIN + a.allocated / 100 {
            differ(
                "allocated bytes",
                a.allocated.to_string(),
                b.allocated.to_string(),
            );
        }
    }
    found
}

/// For each path, the first path that is a link of the same inode: its own, where there is no other.
fn link_groups(entries: &Entries) -> BTreeMap<&Vec<u8>, &Vec<u8>> {
    let mut first = BTreeMap::new();
    let mut groups = BTreeMap::new();
    for (path, entry) in entries {
        groups.insert(path, *first.entry(entry.inode).or_insert(path));
    }
    groups
}
