//! Which transport runs when.
//!
//! With [`Choice::Auto`] multicast comes first, because its cost does not grow with the number of receivers; HTTP brings
//! what multicast gave up at once, and everything as soon as multicast does not reach this receiver, stalls or ends.

use std::sync::Arc;
use std::thread;

use simulcast_protocol::multicast::ChunkTable;

use super::{Fetch, Scope, over_http};
use crate::http::{Client, HttpError};

/// Which transports may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Multicast as far as it goes, HTTP for the rest.
    Auto,
    /// Multicast alone.
    Multicast,
    /// HTTP alone.
    Http,
}

/// A fetch to be done.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// The image server.
    pub client: &'a Client,
    /// The chunks of the version.
    pub table: Arc<ChunkTable>,
    /// Which transports may be used.
    pub choice: Choice,
    /// Connections for HTTP: each is one thread.
    pub connections: usize,
}

/// Not all chunks came.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// HTTP failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// Some chunks cannot be had; the others came.
    #[error("{count} of the chunks that are needed cannot be fetched")]
    Chunks {
        /// How many.
        count: usize,
        /// Why one of them cannot.
        source: Box<HttpError>,
    },
}

impl FetchError {
    /// What to do about it; empty when nothing helps.
    pub fn hint(&self) -> String {
        match self {
            Self::Http(error) => error.hint(),
            Self::Chunks { source, .. } => source.hint(),
        }
    }
}

/// Runs transports until nothing is missing, or `fetch` is stopped. Workers take the chunks out meanwhile, and get the
/// end when this is over.
///
/// # Errors
/// [`FetchError`]. What came before is handed to the workers.
pub fn conduct(order: &Order<'_>, fetch: &Fetch) -> Result<(), FetchError> {
    let result = http_alone(order, fetch);
    fetch.no_more();
    result?;
    let mut failures = fetch.take_failures();
    let count = failures.len();
    match failures.pop() {
        Some((_, source)) if !fetch.missing().is_stopped() => Err(FetchError::Chunks {
            count,
            source: Box::new(source),
        }),
        _ => Ok(()),
    }
}

fn http_alone(order: &Order<'_>, fetch: &Fetch) -> Result<(), FetchError> {
    fetch.missing().open(Scope::All);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..order.connections.max(1))
            .map(|_| scope.spawn(|| over_http(order.client, &order.table, fetch)))
            .collect();
        let results = threads
            .into_iter()
            .map(|thread| thread.join().expect("it does not panic"));
        let failed = results.filter_map(Result::err).last();
        match failed {
            // One connection can fail when others brought everything.
            Some(error) if !fetch.missing().is_over() => Err(error.into()),
            _ => Ok(()),
        }
    })
}
