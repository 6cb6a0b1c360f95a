//! What makes a manifest sound. A manifest that fails here is refused as a whole: nothing of it is used.

use simulcast_protocol::limits::{
    CHUNKS, DEPTH, ENTRIES, FILE_BYTES, HOLES, NAME_BYTES, PART_BYTES, PARTS, SYMLINK_BYTES, XATTR_BYTES,
    XATTRS,
};

use super::{Entry, FileContent, Kind, Manifest, Segment};
use crate::fs::Shown;

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsound {
    /// The first entry is not a directory without a name.
    #[error("its first entry is not the root directory")]
    Root,
    /// A name that is empty, too long, `.`, `..`, or holds a slash or a zero byte.
    #[error(
        "entry {0} has the name \"{1}\", which is not one path component; such a name could leave the target"
    )]
    Name(u32, String),
    /// An entry below something that is not an earlier directory.
    #[error(
        "entry {0} (\"{1}\") is below something that is not a directory; such an entry could leave the target"
    )]
    Parent(u32, String),
    /// Entries are not in the one order that a manifest has.
    #[error("entry {0} (\"{1}\") is out of order or doubled")]
    Order(u32, String),
    /// Deeper than the bound.
    #[error("entry {0} (\"{1}\") is more than {DEPTH} levels deep")]
    Depth(u32, String),
    /// A field outside its bound.
    #[error("entry {0} (\"{1}\") has {2} that no Linux file system can hold")]
    Field(u32, String, &'static str),
    /// A hard link to what is not an earlier inode.
    #[error("entry {0} (\"{1}\") is a hard link to something that is not an earlier file")]
    Link(u32, String),
    /// A file that refers to a part which is missing or has another length.
    #[error("entry {0} (\"{1}\") needs part {2}, which does not exist or has another length")]
    Part(u32, String, u32),
    /// A part that no chunk holds, or more than one.
    #[error("part {0} is held by {1} chunks instead of one")]
    Held(u32, u32),
    /// More rows in a table than a version can have.
    #[error("it has {1} {0}, {2} are the most; split the image")]
    TooMany(&'static str, usize, usize),
    /// A chunk with wrong lengths.
    #[error("chunk {0} has segments that do not fill it")]
    Chunk(u32),
}

/// Checks all that the type of [`Manifest`] promises.
pub(super) fn check(manifest: &Manifest) -> Result<(), Unsound> {
    for (rows, count, most) in [
        ("entries", manifest.entries.len(), ENTRIES),
        ("parts", manifest.parts.len(), PARTS),
        ("chunks", manifest.chunks.len(), CHUNKS),
    ] {
        if count > most {
            return Err(Unsound::TooMany(rows, count, most));
        }
    }
    check_entries(&manifest.entries)?;
    for (index, content) in manifest.files() {
        check_content(index, content, manifest)?;
    }
    check_chunks(manifest)
}

fn check_entries(entries: &[Entry]) -> Result<(), Unsound> {
    let root = entries.first().ok_or(Unsound::Root)?;
    if root.kind != Kind::Directory || !root.name.is_empty() || root.parent != 0 {
        return Err(Unsound::Root);
    }
    // The directories from the root to the entry before, each with the name of its last child.
    let mut open: Vec<(u32, &[u8])> = vec![(0, b"")];
    check_fields(0, root)?;
    for (index, entry) in (0u32..).zip(entries).skip(1) {
        let shown = || Shown(&entry.name).to_string();
        if !is_component(&entry.name) {
            return Err(Unsound::Name(index, shown()));
        }
        while open
            .last()
            .is_some_and(|&(directory, _)| directory != entry.parent)
        {
            open.pop();
        }
        let Some((_, last)) = open.last_mut() else {
            return Err(Unsound::Parent(index, shown()));
        };
        if *last >= &entry.name[..] {
            return Err(Unsound::Order(index, shown()));
        }
        *last = &entry.name;
        check_fields(index, entry)?;
        match entry.kind {
            Kind::Directory if open.len() > DEPTH => return Err(Unsound::Depth(index, shown())),
            Kind::Directory => open.push((index, b"")),
            Kind::HardLink(to) => check_link(index, entry, to, entries)?,
            _ => {}
        }
    }
    Ok(())
}

/// Whether `name` is a single path component that is neither `.` nor `..`.
pub(crate) fn is_component(name: &[u8]) -> bool {
    let length = (1..=NAME_BYTES).contains(&name.len());
    length && name != b"." && name != b".." && !name.iter().any(|&byte| byte == b'/' || byte == 0)
}

fn check_link(index: u32, entry: &Entry, to: u32, entries: &[Entry]) -> Result<(), Unsound> {
    let inode = (to < index).then(|| &entries[to as usize].kind);
    match inode {
        Some(kind) if !matches!(kind, Kind::Directory | Kind::HardLink(_)) => Ok(()),
        _ => Err(Unsound::Link(index, Shown(&entry.name).to_string())),
    }
}

fn check_fields(index: u32, entry: &Entry) -> Result<(), Unsound> {
    let meta = &entry.meta;
    let wrong = if meta.mode > 0o7777 {
        "a mode"
    } else if meta.mtime.nanos >= 1_000_000_000 {
        "a time"
    } else if meta.xattrs.len() > XATTRS
        || meta.xattrs.iter().any(|xattr| {
            !(1..=NAME_BYTES).contains(&xattr.name.len())
                || xattr.name.contains(&0)
                || xattr.value.len() > XATTR_BYTES
        })
        || !meta.xattrs.windows(2).all(|pair| pair[0].name < pair[1].name)
    {
        "extended attributes"
    } else {
        match &entry.kind {
            Kind::Symlink(target) if !(1..=SYMLINK_BYTES).contains(&target.len()) || target.contains(&0) => {
                "a symlink target"
            }
            Kind::File(content) if content.size() > FILE_BYTES => "a size",
            _ => return Ok(()),
        }
    };
    Err(Unsound::Field(index, Shown(&entry.name).to_string(), wrong))
}

fn check_content(index: u32, content: &FileContent, manifest: &Manifest) -> Result<(), Unsound> {
    let shown = || Shown(&manifest.entries[index as usize].name).to_string();
    let mut end = None;
    for hole in content.holes() {
        let after = hole
            .start
            .checked_add(hole.len)
            .filter(|&after| after <= content.size() && hole.len > 0);
        match after {
            Some(after) if end.is_none_or(|end| end < hole.start) => end = Some(after),
            _ => return Err(Unsound::Field(index, shown(), "holes")),
        }
    }
    if content.holes().len() > HOLES {
        return Err(Unsound::Field(index, shown(), "holes"));
    }
    for place in content.parts() {
        if let Some(part) = place.part
            && manifest
                .parts
                .get(part as usize)
                .is_none_or(|known| known.len != place.len)
        {
            return Err(Unsound::Part(index, shown(), part));
        }
    }
    Ok(())
}

fn check_chunks(manifest: &Manifest) -> Result<(), Unsound> {
    let mut held = vec![0u32; manifest.parts.len()];
    for (index, chunk) in (0u32..).zip(&manifest.chunks) {
        let mut filled = 0u64;
        for segment in &chunk.segments {
            filled += u64::from(match *segment {
                Segment::Dead(len) => len,
                Segment::Part(part) => {
                    *held.get_mut(part as usize).ok_or(Unsound::Chunk(index))? += 1;
                    manifest.parts[part as usize].len
                }
            });
        }
        let handle = &chunk.handle;
        let lengths = (1..=PART_BYTES).contains(&(handle.raw_len as usize))
            && (1..=handle.raw_len).contains(&handle.stored_len);
        if filled != u64::from(handle.raw_len) || !lengths {
            return Err(Unsound::Chunk(index));
        }
    }
    match (0u32..).zip(held).find(|&(_, times)| times != 1) {
        Some((part, times)) => Err(Unsound::Held(part, times)),
        None => Ok(()),
    }
}
