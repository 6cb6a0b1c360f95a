//! The files of the initramfs, by path, before they are packed.

use std::collections::BTreeMap;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Node {
    /// A directory with these permissions.
    Directory(u32),
    /// A file with these permissions and this content.
    File(u32, Vec<u8>),
    /// A symbolic link to this target.
    Link(String),
    /// A character device: permissions, major and minor number.
    Device(u32, u32, u32),
}

/// All files by their path without a leading slash. Parents are directories that were made before.
#[derive(Debug, Default)]
pub(crate) struct Tree(BTreeMap<String, Node>);

/// Where a directory of a machine whose `/usr` is not merged really is: the initramfs has only what is on the right, and
/// links on the left.
pub(crate) const MERGED: [(&str, &str); 4] = [
    ("bin", "usr/bin"),
    ("sbin", "usr/sbin"),
    ("lib", "usr/lib"),
    ("lib64", "usr/lib64"),
];

impl Tree {
    /// Puts `node` at `path`, with the directories above it. What is there already stays: says whether it was put.
    pub(crate) fn put(&mut self, path: &str, node: Node) -> bool {
        let path = merged(path);
        for (at, _) in path.match_indices('/') {
            self.0
                .entry(path[..at].to_owned())
                .or_insert(Node::Directory(0o755));
        }
        if self.0.contains_key(&path) {
            return false;
        }
        self.0.insert(path, node);
        true
    }

    /// Whether something is at `path`.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.0.contains_key(&merged(path))
    }

    /// What is at `path`.
    pub(crate) fn get(&self, path: &str) -> Option<&Node> {
        self.0.get(&merged(path))
    }

    /// Everything, sorted by path: a directory comes before what is in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(path, node)| (path.as_str(), node))
    }
}

/// `path` without its leading slash, and below `usr` where its directory is a link to there.
fn merged(path: &str) -> String {
    let path = path.trim_start_matches('/');
    for (link, real) in MERGED {
        if let Some(rest) = path.strip_prefix(link).filter(|rest| rest.starts_with('/')) {
            return format!("{real}{rest}");
        }
    }
    path.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_made_and_merged_and_nothing_is_replaced() {
        let mut tree = Tree::default();
        assert!(tree.put("/lib64/ld.so", Node::File(0o755, b"a".to_vec())));
        assert!(!tree.put("/usr/lib64/ld.so", Node::File(0o755, b"b".to_vec())));
        assert!(tree.put("lib", Node::Link("usr/lib".to_owned())));
        assert!(tree.has("/lib64/ld.so") && !tree.has("lib64"));
        let paths: Vec<_> = tree.iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["lib", "usr", "usr/lib64", "usr/lib64/ld.so"]);
        assert_eq!(tree.iter().last().unwrap().1, &Node::File(0o755, b"a".to_vec()));
    }
}
