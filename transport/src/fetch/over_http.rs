//! HTTP as a transport: one thread of several, each with its own connection.

use simulcast_protocol::multicast::ChunkTable;

use super::{Fetch, Transport};
use crate::http::{Client, HttpError};

/// Fetches what may be claimed until nothing is missing any more. A chunk that the server does not have, or has damaged,
/// is noted and passed over, so that one damaged chunk does not cost the others.
///
/// # Errors
/// [`HttpError`] when the server cannot be reached, or too many chunks are damaged; what was claimed is free again.
pub fn over_http(client: &Client, table: &ChunkTable, fetch: &Fetch) -> Result<(), HttpError> {
    let inlet = fetch.inlet(Transport::Http);
    while let Some(claim) = fetch.missing().claim() {
        let info = table
            .get(claim.index())
            .expect("the missing set has an entry per chunk");
        match client.chunk(&info.id, info.len) {
            // An error says that the receiver gave up, and so will the next claim.
            Ok(bytes) => inlet.deliver(claim.index(), bytes).unwrap_or_default(),
            Err(error @ (HttpError::Damaged(..) | HttpError::Refused { .. })) => {
                fetch.failed(claim, error)?
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
