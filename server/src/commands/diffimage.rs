//! `si-diffimage`.

use anyhow::Context;
use serde::Serialize;
use simulcast_cli::{Console, Exit};
use simulcast_image::diff::{Change, Field, diff};
use simulcast_image::manifest::{Kind, Manifest};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use crate::text::{count, escaped, kind};

/// Show what differs between two versions
///
/// One line a path: `added`, `removed`, `content` (what it holds or is differs) or `metadata` (nothing else does), and
/// which fields differ. Names are escaped (\n, \xff). The newest version is meant where none is named.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version to start from
    #[arg(value_name = "A[@V]")]
    from: ImageRef,

    /// The version to arrive at
    #[arg(value_name = "B[@V]")]
    to: ImageRef,
}

#[derive(Debug, Default, Serialize)]
struct Summary {
    added: u64,
    removed: u64,
    content: u64,
    metadata: u64,
    /// Bytes of regular files that were added or whose content differs.
    content_bytes: u64,
    /// Stored bytes of chunks that the first version does not have.
    new_chunk_bytes: u64,
}

#[derive(Serialize)]
struct Row {
    path: String,
    change: &'static str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Answer {
    from: String,
    to: String,
    summary: Summary,
    changes: Vec<Row>,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let load = |reference| {
        store
            .load(reference)
            .with_context(|| format!("cannot compare {} with {}", args.from, args.to))
    };
    let (from, to) = (load(&args.from)?, load(&args.to)?);
    let (old, new) = (&from.signed.manifest, &to.signed.manifest);
    let changes = diff(old, new);
    let mut summary = Summary {
        new_chunk_bytes: new_chunk_bytes(old, new),
        ..Summary::default()
    };
    let rows: Vec<_> = changes
        .iter()
        .map(|change| row(change, old, new, &mut summary))
        .collect();
    if console.json() {
        console.print_json(&Answer {
            from: from.reference().to_string(),
            to: to.reference().to_string(),
            summary,
            changes: rows,
        })?;
        return Ok(Exit::Done);
    }
    console.data(|out| {
        use std::io::Write;
        for row in &rows {
            let fields: Vec<_> = row.fields.iter().map(|field| field.name()).collect();
            let fields = if fields.is_empty() {
                String::new()
            } else {
                format!("  ({})", fields.join(", "))
            };
            writeln!(out, "{:<8}  {}{fields}", row.change, row.path)?;
        }
        Ok(())
    })?;
    console.say(format_args!(
        "{} to {}: {} added, {} removed, {} with other content, {} with other metadata only; {} of content, {} in new chunks",
        from.reference(),
        to.reference(),
        summary.added,
        summary.removed,
        summary.content,
        summary.metadata,
        Bytes(summary.content_bytes),
        Bytes(summary.new_chunk_bytes)
    ));
    if rows.is_empty() {
        console.say(format_args!(
            "{} compared, no difference",
            count(new.entries.len() as u64, "entry")
        ));
    }
    Ok(Exit::Done)
}

fn row(change: &Change, old: &Manifest, new: &Manifest, summary: &mut Summary) -> Row {
    let (manifest, index, text, fields) = match *change {
        Change::Added(b) => {
            summary.added += 1;
            summary.content_bytes += size(new, b);
            (new, b, "added", Vec::new())
        }
        Change::Removed(a) => {
            summary.removed += 1;
            (old, a, "removed", Vec::new())
        }
        Change::Changed(_, b, fields) if fields.content() => {
            summary.content += 1;
            if fields.contains(Field::Content) || fields.contains(Field::Type) {
                summary.content_bytes += size(new, b);
            }
            (new, b, "content", fields.iter().collect())
        }
        Change::Changed(_, b, fields) => {
            summary.metadata += 1;
            (new, b, "metadata", fields.iter().collect())
        }
    };
    Row {
        path: format!("/{}", escaped(&manifest.path(index))),
        change: text,
        kind: kind(&manifest.entries[index as usize].kind),
        fields,
    }
}

/// Bytes of a regular file; further names of it count nothing.
fn size(manifest: &Manifest, index: u32) -> u64 {
    match &manifest.entries[index as usize].kind {
        Kind::File(content) => content.size(),
        _ => 0,
    }
}

fn new_chunk_bytes(old: &Manifest, new: &Manifest) -> u64 {
    let mut have: Vec<_> = old.chunks.iter().map(|chunk| chunk.handle.id).collect();
    have.sort_unstable();
    let lacking = new
        .chunks
        .iter()
        .filter(|chunk| have.binary_search(&chunk.handle.id).is_err());
    lacking.map(|chunk| u64::from(chunk.handle.stored_len)).sum()
}
