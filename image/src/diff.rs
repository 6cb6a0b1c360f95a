//! What differs between two versions, path by path.
//!
//! Contents are compared by their hashes, so nothing is read but the two manifests. Both are walked once, side by side,
//! in the one order that manifests have.

use std::cmp::Ordering;

use serde::Serialize;

use crate::manifest::{FileContent, Kind, Manifest};

/// A path at which two versions differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Only the second has it: its entry there.
    Added(u32),
    /// Only the first has it: its entry there.
    Removed(u32),
    /// Both have it: its entry in the first, in the second, and what differs.
    Changed(u32, u32, Fields),
}

/// What of an entry differs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields(u16);

/// One thing that may differ between two entries of the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Field {
    /// What it is: a file, a directory, …
    Type,
    /// The bytes of a regular file.
    Content,
    /// The target of a symlink.
    Target,
    /// The number of a device.
    Device,
    /// Permissions and the set-id and sticky bits.
    Mode,
    /// The numeric owner.
    Owner,
    /// The numeric group.
    Group,
    /// The modification time.
    Mtime,
    /// Extended attributes.
    Xattrs,
    /// Which entry it is a hard link to.
    Links,
    /// Which of its zeros take no space on disk.
    Holes,
}

impl Field {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::Type,
        Self::Content,
        Self::Target,
        Self::Device,
        Self::Mode,
        Self::Owner,
        Self::Group,
        Self::Mtime,
        Self::Xattrs,
        Self::Links,
        Self::Holes,
    ];

    /// Its name, as shown and as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Content => "content",
            Self::Target => "target",
            Self::Device => "device",
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::Mtime => "mtime",
            Self::Xattrs => "xattrs",
            Self::Links => "links",
            Self::Holes => "holes",
        }
    }

    fn bit(self) -> u16 {
        1 << self as u16
    }
}

impl Fields {
    /// The fields in it.
    pub fn iter(self) -> impl Iterator<Item = Field> {
        Field::ALL.into_iter().filter(move |&field| self.contains(field))
    }

    /// Whether `field` differs.
    pub fn contains(self, field: Field) -> bool {
        self.0 & field.bit() != 0
    }

    /// Whether what the entry holds differs: its type, bytes, target or device number. Otherwise only metadata do.
    pub fn content(self) -> bool {
        [Field::Type, Field::Content, Field::Target, Field::Device]
            .into_iter()
            .any(|field| self.contains(field))
    }

    /// Whether nothing differs.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn set(&mut self, field: Field, differs: bool) {
        if differs {
            self.0 |= field.bit();
        }
    }
}

/// What differs between two versions, in path order. A directory that only one of them has is followed by all that is
/// below it.
pub fn diff(from: &Manifest, to: &Manifest) -> Vec<Change> {
    let mut walk = Walk {
        from,
        to,
        // Both roots are the same path.
        dirs: vec![(0, 0)],
        changes: Vec::new(),
    };
    walk.both(0, 0);
    let (mut a, mut b) = (1, 1);
    loop {
        match walk.order(a, b) {
            None => return walk.changes,
            Some(Ordering::Less) => {
                walk.changes.push(Change::Removed(a));
                a += 1;
            }
            Some(Ordering::Greater) => {
                walk.changes.push(Change::Added(b));
                b += 1;
            }
            Some(Ordering::Equal) => {
                walk.both(a, b);
                (a, b) = (a + 1, b + 1);
            }
        }
    }
}

struct Walk<'m> {
    from: &'m Manifest,
    to: &'m Manifest,
    /// The directories on the way to where the walk stands that both have.
    dirs: Vec<(u32, u32)>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    /// Which of the entries `a` of the first and `b` of the second comes first; `None` behind both ends.
    fn order(&mut self, a: u32, b: u32) -> Option<Ordering> {
        let left = self.from.entries.get(a as usize);
        let right = self.to.entries.get(b as usize);
        loop {
            let (dir_a, dir_b) = *self.dirs.last().expect("the root never goes");
            // Below a directory of its own side alone, an entry is on that side alone; a parent that is no common
            // directory and lies behind the last of them is such a one.
            let inside = |parent: u32, dir: u32| parent >= dir;
            let left_in = left.filter(|entry| inside(entry.parent, dir_a));
            let right_in = right.filter(|entry| inside(entry.parent, dir_b));
            return match (left_in, right_in) {
                (None, None) if self.dirs.len() == 1 => None,
                (None, None) => {
                    self.dirs.pop();
                    continue;
                }
                (Some(_), None) => Some(Ordering::Less),
                (None, Some(_)) => Some(Ordering::Greater),
                (Some(left), Some(_)) if left.parent != dir_a => Some(Ordering::Less),
                (Some(_), Some(right)) if right.parent != dir_b => Some(Ordering::Greater),
                (Some(left), Some(right)) => Some(left.name.cmp(&right.name)),
            };
        }
    }

    /// Notes what differs between two entries of the same path, and steps into a directory that both have.
    fn both(&mut self, a: u32, b: u32) {
        let fields = compare(self.from, a, self.to, b);
        if !fields.is_empty() {
            self.changes.push(Change::Changed(a, b, fields));
        }
        let is_dir =
            |manifest: &Manifest, index: u32| manifest.entries[index as usize].kind == Kind::Directory;
        if a != 0 && is_dir(self.from, a) && is_dir(self.to, b) {
            self.dirs.push((a, b));
        }
    }
}

fn compare(from: &Manifest, a: u32, to: &Manifest, b: u32) -> Fields {
    let ((inode_a, old), (inode_b, new)) = (from.inode(a), to.inode(b));
    let mut fields = Fields::default();
    match (&old.kind, &new.kind) {
        (Kind::File(old), Kind::File(new)) => {
            fields.set(Field::Content, !same_content(from, old, to, new));
            fields.set(Field::Holes, old.holes() != new.holes());
        }
        (Kind::Symlink(old), Kind::Symlink(new)) => fields.set(Field::Target, old != new),
        (Kind::CharDevice(old), Kind::CharDevice(new)) | (Kind::BlockDevice(old), Kind::BlockDevice(new)) => {
            fields.set(Field::Device, old != new);
        }
        (old, new) => fields.set(
            Field::Type,
            std::mem::discriminant(old) != std::mem::discriminant(new),
        ),
    }
    fields.set(Field::Mode, old.meta.mode != new.meta.mode);
    fields.set(Field::Owner, old.meta.uid != new.meta.uid);
    fields.set(Field::Group, old.meta.gid != new.meta.gid);
    fields.set(Field::Mtime, old.meta.mtime != new.meta.mtime);
    fields.set(Field::Xattrs, old.meta.xattrs != new.meta.xattrs);
    let linked = match (inode_a != a, inode_b != b) {
        (true, true) => from.path(inode_a) != to.path(inode_b),
        (old, new) => old != new,
    };
    fields.set(Field::Links, linked);
    fields
}

fn same_content(from: &Manifest, old: &FileContent, to: &Manifest, new: &FileContent) -> bool {
    old.size() == new.size() && old.id(&from.parts) == new.id(&to.parts)
}

#[cfg(test)]
#[path = "diff_tests.rs"]
mod tests;
