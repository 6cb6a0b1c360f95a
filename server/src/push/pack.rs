//! The one update pack for all versions that nodes come from.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use simulcast_cli::Console;
use simulcast_image::manifest::SignedManifest;
use simulcast_image::pack::{self, Pack};
use simulcast_image::store::{Store, StoreError};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::PACK_SOURCES;
use simulcast_protocol::units::Bytes;

/// Has the pack ready that leads from the versions that most nodes run to `to`; `running` says how many run each. Returns the
/// name of that set of versions; `None` when none of them is known here.
///
/// # Errors
/// When the store cannot be read or written.
pub(crate) fn prepare(
    store: &Store,
    running: &BTreeMap<ManifestId, usize>,
    to: &SignedManifest,
    console: &Console,
) -> Result<Option<ManifestId>> {
    let mut versions: Vec<_> = running.iter().filter(|(id, _)| **id != to.id).collect();
    versions.sort_by_key(|(id, count)| (std::cmp::Reverse(**count), **id));
    let mut from = Vec::new();
    for (id, _) in versions {
        if from.len() < PACK_SOURCES
            && let Some(version) = store.find(id)?
        {
            from.push(version);
        }
    }
    if from.is_empty() {
        return Ok(None);
    }
    let ids: Vec<ManifestId> = from.iter().map(|version| version.signed.id).collect();
    let set = Pack::source_id(&ids);
    match store.pack(&set, to) {
        Ok(Some(_)) => return Ok(Some(set)),
        Ok(None) | Err(StoreError::Pack { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let names: Vec<String> = from
        .iter()
        .map(|version| version.reference().to_string())
        .collect();
    console.say(format_args!("making the update pack from {}", names.join(", ")));
    let signed: Vec<&SignedManifest> = from.iter().map(|version| &version.signed).collect();
    let made =
        pack::make(store, &signed, to, crate::store::threads(None)).context("cannot make the update pack")?;
    console.say(format_args!(
        "update pack: {} records, {} in all",
        made.pack.record_count(),
        Bytes(made.pack.stored_bytes(&to.manifest))
    ));
    Ok(Some(set))
}
