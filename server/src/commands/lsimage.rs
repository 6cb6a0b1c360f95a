//! `si-lsimage`.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;
use simulcast_cli::{Align, Console, Exit, Table};
use simulcast_image::store::{Store, StoredVersion};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::name::{ImageName, ImageRef, Version};
use simulcast_protocol::units::Bytes;

use super::listing;
use crate::text::Utc;

/// List images and their versions, or the files of a version
///
/// Without @V: one line for each version. CONTENT is the size of all files; STORED is what its chunks take; SHARED is how
/// much of that other versions use as well. With @V: its files as ls -l shows them, with numeric owners and names
/// escaped (\n, \xff), times in UTC.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// An image, or a version of it; all images when left out
    #[arg(value_name = "IMAGE[@V]")]
    image: Option<ImageRef>,
}

#[derive(Serialize)]
struct Row {
    image: ImageName,
    version: Version,
    id: ManifestId,
    created: String,
    parent: Option<ManifestId>,
    entries: usize,
    files: usize,
    content_bytes: u64,
    stored_bytes: u64,
    shared_bytes: u64,
    source: BTreeMap<String, String>,
    #[serde(skip)]
    chunks: Vec<(ChunkId, u32)>,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let state = &console.options().state;
    if args.image.is_none() && !crate::store::is_there(state) {
        if console.json() {
            console.print_json(&[(); 0])?;
        }
        console.say(format_args!("there are no images in {} yet", state.display()));
        return Ok(Exit::Done);
    }
    let store = crate::store::open(console)?;
    match args.image {
        Some(reference) if reference.version.is_some() => {
            listing::print(&store.load(&reference)?, console)?;
            Ok(Exit::Done)
        }
        Some(reference) => {
            store.resolve(&reference)?;
            list(&store, Some(&reference.name), console)
        }
        None => list(&store, None, console),
    }
}

fn list(store: &Store, only: Option<&ImageName>, console: &Console) -> anyhow::Result<Exit> {
    let (mut rows, mut exit) = (Vec::new(), Exit::Done);
    for image in store.images()? {
        for version in image.versions {
            let reference = ImageRef {
                name: image.name.clone(),
                version: Some(version),
            };
            match store.load(&reference) {
                Ok(version) => rows.push(row(version)),
                Err(error) => {
                    // The others can be listed all the same.
                    console.say(format_args!("error: {:#}", anyhow::Error::new(error)));
                    exit = Exit::Failed;
                }
            }
        }
    }
    count_shared(&mut rows);
    rows.retain(|row| only.is_none_or(|only| *only == row.image));
    if console.json() {
        console.print_json(&rows)?;
    } else if rows.is_empty() && exit == Exit::Done {
        console.say(format_args!(
            "there are no images in {} yet",
            store.root().display()
        ));
    } else {
        console.table(&table(&rows))?;
    }
    Ok(exit)
}

fn row(version: StoredVersion) -> Row {
    let manifest = &version.signed.manifest;
    Row {
        id: version.signed.id,
        created: Utc(manifest.info.created).to_string(),
        parent: manifest.info.parent,
        entries: manifest.entries.len(),
        files: manifest.files().count(),
        content_bytes: manifest.content_bytes(),
        stored_bytes: manifest.stored_bytes(),
        shared_bytes: 0,
        source: manifest.info.source.clone(),
        chunks: manifest
            .chunks
            .iter()
            .map(|chunk| (chunk.handle.id, chunk.handle.stored_len))
            .collect(),
        image: version.image,
        version: version.version,
    }
}

fn count_shared(rows: &mut [Row]) {
    let mut users: HashMap<ChunkId, u32> = HashMap::new();
    for (id, _) in rows.iter().flat_map(|row| &row.chunks) {
        *users.entry(*id).or_default() += 1;
    }
    for row in rows {
        let shared = row
            .chunks
            .iter()
            .filter(|(id, _)| users.get(id).is_some_and(|&users| users > 1));
        row.shared_bytes = shared.map(|&(_, len)| u64::from(len)).sum();
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new(&[
        ("IMAGE", Align::Left),
        ("CREATED", Align::Left),
        ("FILES", Align::Right),
        ("CONTENT", Align::Right),
        ("STORED", Align::Right),
        ("SHARED", Align::Right),
        ("IDENTITY", Align::Left),
    ]);
    for row in rows {
        table.row([
            format!("{}@{}", row.image, row.version),
            row.created.clone(),
            row.files.to_string(),
            Bytes(row.content_bytes).to_string(),
            Bytes(row.stored_bytes).to_string(),
            Bytes(row.shared_bytes).to_string(),
            row.id.short(),
        ]);
    }
    table
}
