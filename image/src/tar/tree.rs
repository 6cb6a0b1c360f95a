//! The tree that an archive's members make, in whatever order they come: parents after children, a path twice.

use std::collections::{BTreeMap, HashSet};

use simulcast_protocol::limits::{DEPTH, ENTRIES, NAME_BYTES};

use super::TarError;
use crate::capture::{ScannedEntry, ScannedKind};
use crate::fs::{Meta, Shown, Timestamp};

/// Mode of directories that the archive does not have, although it has members below them.
const MADE_MODE: u16 = 0o755;

/// The tree so far.
#[derive(Debug)]
pub(super) struct Tree {
    /// The first is the root.
    dirs: Vec<Dir>,
    inodes: Vec<Inode>,
    /// When missing directories are made.
    now: Timestamp,
    /// Paths that the present layer has, and the directories above them; `None` for what has no layers.
    layer: Option<HashSet<Vec<u8>>>,
}

#[derive(Debug)]
struct Dir {
    meta: Meta,
    children: BTreeMap<Box<[u8]>, Child>,
}

#[derive(Debug)]
struct Inode {
    kind: ScannedKind,
    meta: Meta,
}

#[derive(Debug, Clone, Copy)]
enum Child {
    Dir(usize),
    Inode(usize),
}

/// A member's path as names, without `.` and slashes too many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names<'a> {
    pub(super) names: Vec<&'a [u8]>,
    /// Whether it began with a slash, which was left out.
    pub(super) absolute: bool,
}

impl<'a> Names<'a> {
    /// Refuses what could leave the target or what no file system holds.
    pub(super) fn of(path: &'a [u8]) -> Result<Self, TarError> {
        let mut names = Vec::new();
        for name in path.split(|&byte| byte == b'/') {
            match name {
                b"" | b"." => continue,
                b".." => {
                    return Err(TarError::member(
                        path,
                        "has \"..\" in its path; such a member could leave the target",
                    ));
                }
                _ => {}
            }
            if name.len() > NAME_BYTES || name.contains(&0) {
                return Err(TarError::member(
                    path,
                    "has a name that no Linux file system can hold",
                ));
            }
            names.push(name);
        }
        if names.len() > DEPTH {
            return Err(TarError::member(path, "is more than 4,096 levels deep"));
        }
        Ok(Self {
            names,
            absolute: path.starts_with(b"/"),
        })
    }

    /// The path below the root.
    pub(super) fn path(&self) -> Vec<u8> {
        self.names.join(&b'/')
    }
}

impl Tree {
    /// An empty root. Directories that are missing are given the time `now`, in seconds since 1970.
    pub(super) fn new(now: i64) -> Self {
        let now = Timestamp { secs: now, nanos: 0 };
        Self {
            dirs: vec![Dir::made(now)],
            inodes: Vec::new(),
            now,
            layer: None,
        }
    }

    /// What comes now lies over what came before.
    pub(super) fn next_layer(&mut self) {
        self.layer = Some(HashSet::new());
    }

    /// Takes a whiteout (OCI image specification, "Whiteouts"): what it hides of the layers below goes, what the present layer has
    /// stays, whichever comes first. False for a member that is none.
    pub(super) fn whiteout(&mut self, names: &Names<'_>) -> bool {
        let Some((name, above)) = names.names.split_last() else {
            return false;
        };
        let Some(hidden) = name.strip_prefix(b".wh.").filter(|_| self.layer.is_some()) else {
            return false;
        };
        let Some(parent) = self.directory_at(above) else {
            return true;
        };
        if hidden == b".wh..opq" {
            self.keep_own(parent, above.join(&b'/'));
        } else if !hidden.is_empty() && !hidden.starts_with(b".wh.") {
            let path = [above, &[hidden]].concat().join(&b'/');
            let own = self.layer.as_ref().is_some_and(|layer| layer.contains(&path));
            match self.dirs[parent].children.get(hidden) {
                Some(&Child::Dir(dir)) if own => self.keep_own(dir, path),
                _ if own => {}
                _ => drop(self.dirs[parent].children.remove(hidden)),
            }
        }
        true
    }

    /// Leaves in a directory only what the present layer has.
    fn keep_own(&mut self, dir: usize, path: Vec<u8>) {
        let mut open = vec![(dir, path)];
        while let Some((dir, path)) = open.pop() {
            let Some(layer) = &self.layer else { return };
            let below = |name: &[u8]| match path.is_empty() {
                true => name.to_vec(),
                false => [&path, &b"/"[..], name].concat(),
            };
            self.dirs[dir].children.retain(|name, child| {
                let path = below(name);
                let own = layer.contains(&path);
                if let (true, &mut Child::Dir(dir)) = (own, child) {
                    open.push((dir, path));
                }
                own
            });
        }
    }

    /// The directory at a path, if there is one.
    fn directory_at(&self, names: &[&[u8]]) -> Option<usize> {
        let mut at = 0;
        for name in names {
            match self.dirs[at].children.get(*name) {
                Some(&Child::Dir(dir)) => at = dir,
                _ => return None,
            }
        }
        Some(at)
    }

    /// Notes that the present layer has a path.
    fn own(&mut self, names: &Names<'_>) {
        if let Some(layer) = &mut self.layer {
            // The directories above are its own as soon as one thing in them is.
            for depth in (1..=names.names.len()).rev() {
                if !layer.insert(names.names[..depth].join(&b'/')) && depth < names.names.len() {
                    break;
                }
            }
        }
    }

    /// Puts a directory at a path; when one stands there, it is given the metadata and keeps what is in it.
    pub(super) fn directory(&mut self, names: &Names<'_>, meta: Meta) -> Result<(), TarError> {
        let Some((name, above)) = names.names.split_last() else {
            self.dirs[0].meta = meta;
            return Ok(());
        };
        self.own(names);
        let parent = self.enter(above, names)?;
        match self.dirs[parent].children.get(*name) {
            Some(&Child::Dir(dir)) => self.dirs[dir].meta = meta,
            _ => {
                let dir = self.add_dir(meta)?;
                self.dirs[parent].children.insert((*name).into(), Child::Dir(dir));
            }
        }
        Ok(())
    }

    /// Puts anything else at a path; what stood there goes.
    pub(super) fn other(&mut self, names: &Names<'_>, kind: ScannedKind, meta: Meta) -> Result<(), TarError> {
        let inode = self.inodes.len();
        self.place(names, inode)?;
        self.inodes.push(Inode { kind, meta });
        self.bound()
    }

    /// Gives what stands at `target` a further name; false when nothing does, or a directory.
    pub(super) fn link(&mut self, names: &Names<'_>, target: &Names<'_>) -> Result<bool, TarError> {
        let Some(inode) = self.find(target) else {
            return Ok(false);
        };
        if names != target {
            self.place(names, inode)?;
        }
        Ok(true)
    }

    /// The tree as a scan hands it on: parents before children, children in the order of their names' bytes.
    pub(super) fn into_entries(mut self) -> Vec<ScannedEntry> {
        let mut entries = vec![ScannedEntry {
            parent: 0,
            name: Box::default(),
            kind: ScannedKind::Directory,
            meta: std::mem::take(&mut self.dirs[0].meta),
        }];
        let mut first_name: Vec<Option<u32>> = vec![None; self.inodes.len()];
        let mut open = vec![(0u32, std::mem::take(&mut self.dirs[0].children).into_iter())];
        while let Some((parent, children)) = open.last_mut() {
            let parent = *parent;
            let Some((name, child)) = children.next() else {
                open.pop();
                continue;
            };
            let index = u32::try_from(entries.len()).expect("entries are bounded");
            let (kind, meta) = match child {
                Child::Dir(dir) => {
                    let dir = &mut self.dirs[dir];
                    open.push((index, std::mem::take(&mut dir.children).into_iter()));
                    (ScannedKind::Directory, std::mem::take(&mut dir.meta))
                }
                Child::Inode(inode) => match first_name[inode] {
                    Some(first) => (ScannedKind::HardLink(first), entries[first as usize].meta.clone()),
                    None => {
                        first_name[inode] = Some(index);
                        let inode = &mut self.inodes[inode];
                        let kind = std::mem::replace(&mut inode.kind, ScannedKind::Fifo);
                        (kind, std::mem::take(&mut inode.meta))
                    }
                },
            };
            entries.push(ScannedEntry {
                parent,
                name,
                kind,
                meta,
            });
        }
        entries
    }

    fn place(&mut self, names: &Names<'_>, inode: usize) -> Result<(), TarError> {
        let (name, above) = names
            .names
            .split_last()
            .ok_or_else(|| TarError::member(b"/", "is the root and yet no directory"))?;
        self.own(names);
        let parent = self.enter(above, names)?;
        self.dirs[parent]
            .children
            .insert((*name).into(), Child::Inode(inode));
        self.bound()
    }

    /// The directory at `above`; missing ones are made.
    fn enter(&mut self, above: &[&[u8]], names: &Names<'_>) -> Result<usize, TarError> {
        let mut at = 0;
        for (depth, name) in above.iter().enumerate() {
            at = match self.dirs[at].children.get(*name) {
                Some(&Child::Dir(dir)) => dir,
                Some(Child::Inode(_)) => {
                    let below = above[..=depth].join(&b'/');
                    return Err(TarError::Below(
                        Shown(&names.path()).to_string(),
                        Shown(&below).to_string(),
                    ));
                }
                None => {
                    let dir = self.add_dir(Dir::made(self.now).meta)?;
                    self.dirs[at].children.insert((*name).into(), Child::Dir(dir));
                    dir
                }
            };
        }
        Ok(at)
    }

    fn find(&self, names: &Names<'_>) -> Option<usize> {
        let (name, above) = names.names.split_last()?;
        match self.dirs[self.directory_at(above)?].children.get(*name) {
            Some(&Child::Inode(inode)) => Some(inode),
            _ => None,
        }
    }

    fn add_dir(&mut self, meta: Meta) -> Result<usize, TarError> {
        self.dirs.push(Dir {
            meta,
            children: BTreeMap::new(),
        });
        self.bound()?;
        Ok(self.dirs.len() - 1)
    }

    /// What was replaced counts as well, so that an archive of one path a billion times ends.
    fn bound(&self) -> Result<(), TarError> {
        if self.dirs.len() + self.inodes.len() > ENTRIES {
            return Err(TarError::TooMany);
        }
        Ok(())
    }
}

impl Dir {
    fn made(now: Timestamp) -> Self {
        let meta = Meta {
            mode: MADE_MODE,
            mtime: now,
            ..Meta::default()
        };
        Self {
            meta,
            children: BTreeMap::new(),
        }
    }
}
