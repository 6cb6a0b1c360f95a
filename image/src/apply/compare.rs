//! One walk over a manifest and a tree side by side, in the order of names.

use std::cmp::Ordering;
use std::os::fd::OwnedFd;

use crate::filter::Side;
use crate::fs::{self, DirStack, FsError, Kind as FsKind, Listing, Stat};
use crate::manifest::{Kind, Manifest};

/// Is told what is in the manifest, in the tree, or in both.
pub(crate) trait Visitor {
    /// Why the visitor cannot go on.
    type Error: From<FsError>;

    /// Whether a path is left alone, with everything below it. `side` is the sender for paths that the manifest has, the
    /// receiver for those that only the tree has; the flag says that it is a directory.
    fn skips(&mut self, side: Side, path: &[u8], directory: bool) -> bool;

    /// Whether what stands at a path of the manifest that the sender's side skips is taken for something that the manifest
    /// does not have: as for rsync, what is hidden and not protected.
    fn is_hidden_only(&mut self, _path: &[u8], _directory: bool) -> bool {
        false
    }

    /// An entry of the manifest, and what stands at its path. `dir` stands at the deepest directory on the way to it
    /// that exists: the entry's own directory whenever `found` is something.
    fn entry(&mut self, dir: &DirStack, index: u32, found: Option<&Stat>) -> Result<(), Self::Error>;

    /// A name in the directory where `dir` stands that the manifest does not have.
    fn extra(&mut self, dir: &DirStack, name: &[u8], found: &Stat) -> Result<(), Self::Error>;
}

/// A directory that both have: what is left to look at.
struct Level {
    listing: Listing,
    next_name: usize,
    next_child: u32,
    end: u32,
}

/// For each entry, the index after its last descendant.
pub(crate) fn subtree_ends(manifest: &Manifest) -> Vec<u32> {
    let count = manifest.entries.len();
    let mut ends: Vec<u32> = (1..).take(count).collect();
    for index in (1..count).rev() {
        let parent = manifest.entries[index].parent as usize;
        ends[parent] = ends[parent].max(ends[index]);
    }
    ends
}

/// Walks `manifest` and the tree below `root` together.
pub(crate) fn compare<V: Visitor>(
    manifest: &Manifest,
    root: OwnedFd,
    visitor: &mut V,
) -> Result<(), V::Error> {
    let ends = subtree_ends(manifest);
    let stat = fs::stat_fd(&root)?;
    let mut stack = DirStack::new(root)?;
    visitor.entry(&stack, 0, Some(&stat))?;
    let mut levels = vec![Level::open(&stack, 0, &ends)?];
    while let Some(level) = levels.last_mut() {
        let child = (level.next_child < level.end).then_some(level.next_child);
        let name = level.listing.get(level.next_name).map(|(name, _)| name.to_vec());
        let order = match (child, &name) {
            (None, None) => {
                levels.pop();
                if !levels.is_empty() {
                    stack.leave()?;
                }
                continue;
            }
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(child), Some(name)) => manifest.entries[child as usize].name[..].cmp(name),
        };
        if order != Ordering::Greater {
            level.next_child = ends[level.next_child as usize];
        }
        if order != Ordering::Less {
            level.next_name += 1;
        }
        let child = child.filter(|_| order != Ordering::Greater);
        let name = name.filter(|_| order != Ordering::Less);
        let found = match &name {
            Some(name) => stat_if_there(&stack, name)?,
            None => None,
        };
        match (child, found) {
            (Some(child), found) => {
                let opened = both(manifest, &ends, &mut stack, visitor, child, found.as_ref())?;
                levels.extend(opened);
            }
            (None, Some(found)) => {
                let name = name.expect("what was found has a name");
                if !visitor.skips(
                    Side::Receiver,
                    &join(stack.path(), &name),
                    found.kind == FsKind::Dir,
                ) {
                    visitor.extra(&stack, &name, &found)?;
                }
            }
            (None, None) => {}
        }
    }
    Ok(())
}

/// Looks at an entry of the manifest; a directory that both have is entered.
fn both<V: Visitor>(
    manifest: &Manifest,
    ends: &[u32],
    stack: &mut DirStack,
    visitor: &mut V,
    child: u32,
    found: Option<&Stat>,
) -> Result<Option<Level>, V::Error> {
    let entry = &manifest.entries[child as usize];
    let wanted_dir = entry.kind == Kind::Directory;
    let found_dir = found.is_some_and(|found| found.kind == FsKind::Dir);
    let path = join(stack.path(), &entry.name);
    if visitor.skips(Side::Sender, &path, wanted_dir) {
        if let Some(found) = found.filter(|_| visitor.is_hidden_only(&path, found_dir)) {
            visitor.extra(stack, &entry.name, found)?;
        }
        return Ok(None);
    }
    visitor.entry(stack, child, found)?;
    if wanted_dir && found_dir {
        stack.enter(&entry.name)?;
        return Ok(Some(Level::open(stack, child, ends)?));
    }
    let mut below = child + 1;
    while wanted_dir && below < ends[child as usize] {
        let directory = manifest.entries[below as usize].kind == Kind::Directory;
        if visitor.skips(Side::Sender, &manifest.path(below), directory) {
            below = ends[below as usize];
        } else {
            visitor.entry(stack, below, None)?;
            below += 1;
        }
    }
    Ok(None)
}

impl Level {
    fn open(stack: &DirStack, entry: u32, ends: &[u32]) -> Result<Self, FsError> {
        let listing = fs::list(stack.current()).map_err(|error| error.under(stack.path()))?;
        Ok(Self {
            listing,
            next_name: 0,
            next_child: entry + 1,
            end: ends[entry as usize],
        })
    }
}

fn stat_if_there(stack: &DirStack, name: &[u8]) -> Result<Option<Stat>, FsError> {
    match fs::stat(stack.current(), name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error.under(stack.path())),
    }
}

/// A path and one more name.
pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + name.len() + 1);
    path.extend_from_slice(directory);
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
