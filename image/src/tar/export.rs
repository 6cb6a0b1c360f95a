//! A version becomes a tar archive in pax format.

use std::collections::VecDeque;
use std::io::Write;
use std::ops::Range;

use simulcast_protocol::limits::PART_BYTES;
use tar::{EntryType, Header};

use super::pax::{push_record, time_text};
use super::{TarError, acl};
use crate::chunk::Opener;
use crate::fs::{Device, Meta, Shown};
use crate::manifest::{FileContent, Kind, Manifest, Segment};
use crate::store::{ChunkStore, Store, StoreError};

const BLOCK: usize = 512;

/// Opened chunks that are kept: parts come in path order, and a chunk's neighbours are soon needed.
const CHUNKS_KEPT: usize = 4;

/// What the octal fields of a header hold.
const OCTAL_7: u32 = 0o7_777_777;
const OCTAL_11: u64 = 0o77_777_777_777;

/// What an export did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Members that were written.
    pub members: u64,
    /// Paths of sockets, which an archive cannot hold.
    pub sockets: Vec<String>,
}

/// Writes a version as a tar archive. Holes stay holes (GNU format 1.0, which GNU tar and bsdtar read); every chunk is
/// checked before it is used. `progress` is told the bytes of content written so far.
///
/// # Errors
/// [`TarError::Write`]; [`TarError::Store`] when a chunk is missing or damaged.
pub fn export_tar(
    store: &Store,
    manifest: &Manifest,
    out: &mut impl Write,
    progress: &dyn Fn(u64),
) -> Result<ExportReport, TarError> {
    let mut export = Export {
        manifest,
        contents: Contents::new(store, manifest),
        out,
        report: ExportReport::default(),
        written: 0,
        progress,
    };
    for (index, _) in (0u32..).zip(&manifest.entries) {
        export.member(index)?;
    }
    export.out.write_all(&[0; 2 * BLOCK]).map_err(TarError::Write)?;
    export.out.flush().map_err(TarError::Write)?;
    Ok(export.report)
}

struct Export<'a, W> {
    manifest: &'a Manifest,
    contents: Contents<'a>,
    out: &'a mut W,
    report: ExportReport,
    written: u64,
    progress: &'a dyn Fn(u64),
}

/// A header that is being filled, with the records that do not fit into it.
struct Draft {
    header: Header,
    records: Vec<u8>,
}

impl<W: Write> Export<'_, W> {
    fn member(&mut self, index: u32) -> Result<(), TarError> {
        let (inode_index, inode) = self.manifest.inode(index);
        let mut path = self.manifest.path(index);
        if inode.kind == Kind::Socket {
            self.report.sockets.push(format!("/{}", Shown(&path)));
            return Ok(());
        }
        if inode.kind == Kind::Directory {
            path.extend(if path.is_empty() { &b"./"[..] } else { b"/" });
        }
        let mut draft = Draft::new(&inode.meta);
        self.report.members += 1;
        if inode_index != index {
            draft.path(&path);
            draft.link(EntryType::Link, &self.manifest.path(inode_index));
            return draft.write(self.out);
        }
        match &inode.kind {
            Kind::File(content) if content.holes().is_empty() => {
                draft.path(&path);
                draft.size(content.size());
                draft.write(self.out)?;
                return self.data(content, std::iter::once(0..content.size()), content.size());
            }
            Kind::File(content) => return self.sparse(draft, &path, content),
            Kind::Directory => draft.header.set_entry_type(EntryType::Directory),
            Kind::Symlink(target) => draft.link(EntryType::Symlink, target),
            Kind::CharDevice(device) => draft.device(EntryType::Char, *device)?,
            Kind::BlockDevice(device) => draft.device(EntryType::Block, *device)?,
            Kind::Fifo => draft.header.set_entry_type(EntryType::Fifo),
            Kind::Socket | Kind::HardLink(_) => unreachable!("both are dealt with above"),
        }
        draft.path(&path);
        draft.write(self.out)
    }

    /// A file with holes: its extents as decimal lines in whole blocks, then their data.
    fn sparse(&mut self, mut draft: Draft, path: &[u8], content: &FileContent) -> Result<(), TarError> {
        let extents = extents(content);
        // An empty extent at the end tells the length even where the file ends in a hole.
        let listed = extents
            .iter()
            .cloned()
            .chain(std::iter::once(content.size()..content.size()));
        let mut map = format!("{}\n", extents.len() + 1);
        for extent in listed {
            map.push_str(&format!("{}\n{}\n", extent.start, extent.end - extent.start));
        }
        let mut map = map.into_bytes();
        map.resize(map.len().next_multiple_of(BLOCK), 0);
        let data: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        draft.record(b"GNU.sparse.major", b"1");
        draft.record(b"GNU.sparse.minor", b"0");
        draft.record(b"GNU.sparse.name", path);
        draft.record(b"GNU.sparse.realsize", content.size().to_string().as_bytes());
        // Who does not know these records finds a file of this name that is not the real one.
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        draft.short_path(&[b"GNUSparseFile.0/", name].concat());
        draft.size(map.len() as u64 + data);
        draft.write(self.out)?;
        self.out.write_all(&map).map_err(TarError::Write)?;
        self.data(content, extents.into_iter(), data)
    }

    fn data(
        &mut self,
        content: &FileContent,
        extents: impl Iterator<Item = Range<u64>>,
        total: u64,
    ) -> Result<(), TarError> {
        let places: Vec<_> = content.parts().collect();
        for extent in extents {
            let mut at = extent.start;
            while at < extent.end {
                let number = usize::try_from(at / PART_BYTES as u64).expect("a file's size is bounded");
                let place = &places[number];
                let end = extent.end.min(place.offset + u64::from(place.len));
                let index = |at: u64| usize::try_from(at - place.offset).expect("a part is at most 4 MiB");
                let bytes = self.contents.part(place.part, place.len)?;
                self.out
                    .write_all(&bytes[index(at)..index(end)])
                    .map_err(TarError::Write)?;
                self.written += end - at;
                at = end;
                (self.progress)(self.written);
            }
        }
        pad(self.out, total)
    }
}

/// The ranges of a file that are in no hole.
fn extents(content: &FileContent) -> Vec<Range<u64>> {
    let mut extents = Vec::new();
    let mut at = 0;
    for hole in content.holes() {
        if hole.start > at {
            extents.push(at..hole.start);
        }
        at = hole.start + hole.len;
    }
    if at < content.size() {
        extents.push(at..content.size());
    }
    extents
}

fn pad(out: &mut impl Write, written: u64) -> Result<(), TarError> {
    let missing = usize::try_from(written.wrapping_neg() % BLOCK as u64).expect("less than a block");
    out.write_all(&[0; BLOCK][..missing]).map_err(TarError::Write)
}

impl Draft {
    fn new(meta: &Meta) -> Self {
        let mut draft = Self {
            header: Header::new_ustar(),
            records: Vec::new(),
        };
        let header = &mut draft.header;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(meta.mode.into());
        header.set_uid(meta.uid.min(OCTAL_7).into());
        header.set_gid(meta.gid.min(OCTAL_7).into());
        let seconds = u64::try_from(meta.mtime.secs).unwrap_or(0);
        header.set_mtime(seconds.min(OCTAL_11));
        header.set_size(0);
        if meta.uid > OCTAL_7 {
            draft.record(b"uid", meta.uid.to_string().as_bytes());
        }
        if meta.gid > OCTAL_7 {
            draft.record(b"gid", meta.gid.to_string().as_bytes());
        }
        if meta.mtime.nanos != 0 || meta.mtime.secs < 0 || seconds > OCTAL_11 {
            draft.record(b"mtime", time_text(meta.mtime).as_bytes());
        }
        for xattr in &meta.xattrs {
            draft.record(&[b"SCHILY.xattr.", &xattr.name[..]].concat(), &xattr.value);
            let acl = match &*xattr.name {
                b"system.posix_acl_access" => Some(&b"SCHILY.acl.access"[..]),
                b"system.posix_acl_default" => Some(&b"SCHILY.acl.default"[..]),
                _ => None,
            };
            if let Some((key, text)) = acl.zip(acl::to_text(&xattr.value)) {
                draft.record(key, text.as_bytes());
            }
        }
        draft
    }

    fn record(&mut self, key: &[u8], value: &[u8]) {
        push_record(&mut self.records, key, value);
    }

    fn path(&mut self, path: &[u8]) {
        if self.short_path(path) < path.len() {
            self.record(b"path", path);
        }
    }

    /// Puts as much of a path into the header as it holds; says how much.
    fn short_path(&mut self, path: &[u8]) -> usize {
        let field = &mut self.header.as_old_mut().name;
        let len = path.len().min(field.len());
        field[..len].copy_from_slice(&path[..len]);
        len
    }

    fn link(&mut self, entry_type: EntryType, target: &[u8]) {
        self.header.set_entry_type(entry_type);
        let field = &mut self.header.as_old_mut().linkname;
        let len = target.len().min(field.len());
        field[..len].copy_from_slice(&target[..len]);
        if len < target.len() {
            self.record(b"linkpath", target);
        }
    }

    fn device(&mut self, entry_type: EntryType, device: Device) -> Result<(), TarError> {
        self.header.set_entry_type(entry_type);
        self.header
            .set_device_major(device.major.min(OCTAL_7))
            .and_then(|()| self.header.set_device_minor(device.minor.min(OCTAL_7)))
            .map_err(TarError::Write)
    }

    fn size(&mut self, size: u64) {
        self.header.set_size(size.min(OCTAL_11));
        if size > OCTAL_11 {
            self.record(b"size", size.to_string().as_bytes());
        }
    }

    fn write(mut self, out: &mut impl Write) -> Result<(), TarError> {
        let mut write = |bytes: &[u8]| out.write_all(bytes).map_err(TarError::Write);
        if !self.records.is_empty() {
            let mut header = Header::new_ustar();
            header.set_entry_type(EntryType::XHeader);
            header.as_old_mut().name[..11].copy_from_slice(b"PaxHeaders/");
            header.set_mode(0o644);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(0);
            header.set_size(self.records.len() as u64);
            header.set_cksum();
            write(header.as_bytes())?;
            write(&self.records)?;
        }
        let records = self.records.len() as u64;
        self.header.set_cksum();
        pad(out, records)?;
        out.write_all(self.header.as_bytes()).map_err(TarError::Write)
    }
}

/// Finds the bytes of parts in the store.
struct Contents<'a> {
    store: &'a Store,
    manifest: &'a Manifest,
    /// Of each part: its chunk, and its offset in that.
    places: Vec<(u32, u32)>,
    opener: Opener,
    /// The chunks opened last, the latest in front.
    kept: VecDeque<(u32, Vec<u8>)>,
    zeros: Vec<u8>,
}

impl<'a> Contents<'a> {
    fn new(store: &'a Store, manifest: &'a Manifest) -> Self {
        let mut places = vec![(0, 0); manifest.parts.len()];
        for (index, chunk) in (0u32..).zip(&manifest.chunks) {
            let mut offset = 0;
            for segment in &chunk.segments {
                offset += match *segment {
                    Segment::Dead(len) => len,
                    Segment::Part(part) => {
                        places[part as usize] = (index, offset);
                        manifest.parts[part as usize].len
                    }
                };
            }
        }
        Self {
            store,
            manifest,
            places,
            opener: Opener::default(),
            kept: VecDeque::new(),
            zeros: vec![0; PART_BYTES],
        }
    }

    /// The bytes of a part; zeros for none.
    fn part(&mut self, part: Option<u32>, len: u32) -> Result<&[u8], TarError> {
        let Some(part) = part else {
            return Ok(&self.zeros[..len as usize]);
        };
        let (chunk, offset) = self.places[part as usize];
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == chunk) {
            self.kept.swap(0, at);
        } else {
            let handle = &self.manifest.chunks[chunk as usize].handle;
            let mut stored = self.store.chunks().read(&handle.id)?;
            let raw = self.opener.open(handle, &mut stored).map_err(StoreError::from)?;
            let mut buffer = if self.kept.len() == CHUNKS_KEPT {
                self.kept.pop_back().map(|(_, buffer)| buffer).unwrap_or_default()
            } else {
                Vec::new()
            };
            buffer.clear();
            buffer.extend_from_slice(raw);
            self.kept.push_front((chunk, buffer));
        }
        let (offset, len) = (offset as usize, len as usize);
        Ok(&self.kept[0].1[offset..offset + len])
    }
}
