//! Proving that a pack makes what it promises: every record is carried out with the old contents of the store.

use std::collections::HashMap;

use simulcast_protocol::id::{ContentId, PartId};

use super::make::read_range;
use super::{Form, Pack, difference};
use crate::chain;
use crate::chunk::Opener;
use crate::delta::apply_part;
use crate::manifest::{FileContent, Manifest};
use crate::store::{ChunkStore, ContentReader, PartIndex, PartReader, Store};

/// An old content, with the version that has it.
type Old<'a> = (usize, &'a FileContent);

/// What is wrong with the pack that leads from one of `from` to `to`; `None` when nothing is.
pub(crate) fn verify(store: &Store, pack: &Pack, from: &[&Manifest], to: &Manifest) -> Option<String> {
    check(store, pack, from, to).err()
}

fn check(store: &Store, pack: &Pack, from: &[&Manifest], to: &Manifest) -> Result<(), String> {
    super::codec::check(pack, to).map_err(|error| error.to_string())?;
    let places: Vec<PartIndex> = from.iter().map(|manifest| PartIndex::new(manifest)).collect();
    let mut readers: Vec<PartReader<'_>> = from
        .iter()
        .zip(&places)
        .map(|(manifest, places)| PartReader::new(store, manifest, places))
        .collect();
    let mut contents: HashMap<ContentId, Old<'_>> = HashMap::new();
    for (number, manifest) in from.iter().enumerate() {
        for (_, content) in manifest.files() {
            contents
                .entry(content.id(&manifest.parts))
                .or_insert((number, content));
        }
    }
    let (mut opener, mut prefix) = (Opener::default(), Vec::new());
    for chunk in &pack.chunks {
        let mut stored = store
            .chunks()
            .read(&chunk.handle.id)
            .map_err(|error| chain(&error))?;
        let raw = opener
            .open(&chunk.handle, &mut stored)
            .map_err(|error| error.to_string())?;
        let mut rest = raw;
        for record in &chunk.records {
            let (bytes, after) = rest.split_at(record.len as usize);
            rest = after;
            let part = &to.parts[record.part as usize];
            let old = |basis: u32| {
                let content = contents.get(&pack.bases[basis as usize]);
                content
                    .copied()
                    .ok_or("it builds on a content that no old version has".to_owned())
            };
            let made = match record.form {
                Form::Whole => Some(bytes.to_vec()),
                Form::Prefix { basis, offset, len } => {
                    let (number, content) = old(basis)?;
                    if offset + u64::from(len) > content.size() {
                        return Err("it builds on bytes behind the end of an old content".to_owned());
                    }
                    read_range(&mut readers[number], content, offset, len, &mut prefix)
                        .map_err(|error| chain(&error))?;
                    difference::decode(&prefix, bytes, part.len)
                }
                Form::Rolling { basis } => {
                    let (number, content) = old(basis)?;
                    let reader = ContentReader::new(store, from[number], &places[number], content);
                    apply_part(&reader, part.len, bytes).ok()
                }
            };
            if made.is_none_or(|made| PartId::of(&made) != part.id) {
                return Err(format!("a record does not make part {}", part.id));
            }
        }
    }
    Ok(())
}
