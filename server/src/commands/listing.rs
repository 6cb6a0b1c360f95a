//! The files of a version, as `ls -l` shows them or as JSON.

use std::io::{self, Write};

use serde::Serialize;
use simulcast_cli::Console;
use simulcast_image::fs::{Device, Shown};
use simulcast_image::manifest::{Kind, Manifest};
use simulcast_image::store::StoredVersion;
use simulcast_protocol::id::ContentId;

use crate::text::{UtcNanos, escaped, kind, mode};

/// One path, for JSON. Names are escaped as in the listing, since JSON cannot hold arbitrary bytes.
#[derive(Serialize)]
struct Row {
    path: String,
    #[serde(rename = "type")]
    kind: &'static str,
    mode: String,
    links: u32,
    uid: u32,
    gid: u32,
    mtime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<ContentId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    link_to: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    xattrs: Vec<String>,
}

/// Writes the paths of a version to stdout: one line each, or one array of JSON objects, one a line.
pub(super) fn print(version: &StoredVersion, console: &Console) -> anyhow::Result<()> {
    let manifest = &version.signed.manifest;
    let links = links(manifest);
    let indexes = (0u32..).zip(&manifest.entries).map(|(index, _)| index);
    console.data(|out| {
        if console.json() {
            let mut before = "[\n";
            for index in indexes {
                out.write_all(before.as_bytes())?;
                serde_json::to_writer(&mut *out, &row(manifest, index, &links))?;
                before = ",\n";
            }
            writeln!(out, "\n]")
        } else {
            let widths = Widths::of(manifest, &links);
            indexes
                .into_iter()
                .try_for_each(|index| line(out, manifest, index, &links, &widths))
        }
    })
}

/// How many names each inode has.
fn links(manifest: &Manifest) -> Vec<u32> {
    let mut links = vec![1; manifest.entries.len()];
    for entry in &manifest.entries {
        if let Kind::HardLink(to) = entry.kind {
            links[to as usize] += 1;
        }
    }
    links
}

fn row(manifest: &Manifest, index: u32, links: &[u32]) -> Row {
    let entry = &manifest.entries[index as usize];
    let (inode_index, inode) = manifest.inode(index);
    let mut row = Row {
        path: path(manifest, index),
        kind: kind(&entry.kind),
        mode: format!("{:04o}", inode.meta.mode),
        links: links[inode_index as usize],
        uid: inode.meta.uid,
        gid: inode.meta.gid,
        mtime: UtcNanos(inode.meta.mtime).to_string(),
        size: None,
        content: None,
        target: None,
        device: None,
        link_to: matches!(entry.kind, Kind::HardLink(_)).then(|| path(manifest, inode_index)),
        xattrs: inode
            .meta
            .xattrs
            .iter()
            .map(|xattr| Shown(&xattr.name).to_string())
            .collect(),
    };
    match &inode.kind {
        Kind::File(content) => {
            row.size = Some(content.size());
            row.content = Some(content.id(&manifest.parts));
        }
        Kind::Symlink(target) => row.target = Some(escaped(target)),
        Kind::CharDevice(device) | Kind::BlockDevice(device) => {
            row.device = Some((device.major, device.minor))
        }
        Kind::Directory | Kind::Fifo | Kind::Socket | Kind::HardLink(_) => {}
    }
    row
}

fn path(manifest: &Manifest, index: u32) -> String {
    format!("/{}", escaped(&manifest.path(index)))
}

/// Widths of the columns of numbers.
struct Widths {
    links: usize,
    uid: usize,
    gid: usize,
    size: usize,
}

impl Widths {
    fn of(manifest: &Manifest, links: &[u32]) -> Self {
        let digits = |numbers: &mut dyn Iterator<Item = u64>| numbers.max().unwrap_or(0).to_string().len();
        let metas = || manifest.entries.iter().map(|entry| &entry.meta);
        let devices = manifest.entries.iter().filter_map(|entry| match &entry.kind {
            Kind::CharDevice(device) | Kind::BlockDevice(device) => Some(shown_device(device).len()),
            _ => None,
        });
        let sizes = digits(&mut manifest.files().map(|(_, content)| content.size()));
        Self {
            links: digits(&mut links.iter().map(|&links| u64::from(links))),
            uid: digits(&mut metas().map(|meta| u64::from(meta.uid))),
            gid: digits(&mut metas().map(|meta| u64::from(meta.gid))),
            size: devices.chain([sizes]).max().unwrap_or(1),
        }
    }
}

fn shown_device(device: &Device) -> String {
    format!("{}, {}", device.major, device.minor)
}

fn line(
    out: &mut impl Write,
    manifest: &Manifest,
    index: u32,
    links: &[u32],
    widths: &Widths,
) -> io::Result<()> {
    let entry = &manifest.entries[index as usize];
    let (inode_index, inode) = manifest.inode(index);
    let meta = &inode.meta;
    let size = match &inode.kind {
        Kind::File(content) => content.size().to_string(),
        Kind::Symlink(target) => target.len().to_string(),
        Kind::CharDevice(device) | Kind::BlockDevice(device) => shown_device(device),
        Kind::Directory | Kind::Fifo | Kind::Socket | Kind::HardLink(_) => "0".to_owned(),
    };
    write!(
        out,
        "{}{} {:>links_width$} {:>uid$} {:>gid$} {size:>size_width$} {} {}",
        mode(&inode.kind, meta.mode),
        if meta.xattrs.is_empty() { ' ' } else { '+' },
        links[inode_index as usize],
        meta.uid,
        meta.gid,
        UtcNanos(meta.mtime),
        path(manifest, index),
        links_width = widths.links,
        uid = widths.uid,
        gid = widths.gid,
        size_width = widths.size,
    )?;
    match &entry.kind {
        Kind::Symlink(target) => write!(out, " -> {}", escaped(target))?,
        Kind::HardLink(to) => write!(out, " link to {}", path(manifest, *to))?,
        _ => {}
    }
    writeln!(out)
}
