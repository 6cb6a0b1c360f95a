//! Rolling-checksum deltas of files that were changed on this machine.

use anyhow::Result;
use simulcast_image::manifest::SignedManifest;
use simulcast_image::update::Update;
use simulcast_transport::http::Client;

/// Asks for deltas of files that were changed here; returns the bytes that it took. What cannot be had as a delta comes in
/// chunks.
pub(super) fn fetch(update: &Update<'_>, client: &Client, signed: &SignedManifest) -> Result<u64> {
    let mut worker = update.worker()?;
    let mut bytes = 0;
    for candidate in update.rolling_candidates()? {
        let mut failed = None;
        let asked = client.deltas(
            signed.id,
            candidate.entry,
            candidate.signature.basis_bytes(),
            candidate.signature.as_bytes(),
            &candidate.parts,
            candidate.spares,
            |number, delta| {
                bytes += delta.len() as u64;
                let taken = update.take_delta(&mut worker, &candidate, number, delta);
                failed = taken.err();
                failed.is_none()
            },
        );
        if let Some(error) = failed {
            return Err(error.into());
        }
        bytes += candidate.signature.as_bytes().len() as u64;
        if let Err(error) = asked {
            tracing::info!(%error, "no deltas from the server; its chunks do as well");
            break;
        }
    }
    Ok(bytes)
}
