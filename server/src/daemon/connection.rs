//! Connections: how many, how long they may idle, how they end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::slow::Watched;
use super::{Daemon, routes};

/// Connections at a time: 2,000 nodes with their two parallel ones. Others wait to be accepted.
const CONNECTIONS: u32 = 4096;

/// Time for the head of a request to come, and for a kept connection to idle.
const HEAD: Duration = Duration::from_secs(30);

/// Headers of one request.
const HEADERS: usize = 32;

/// Bytes of a request that are read ahead, its head included.
const BUFFER_BYTES: usize = 16 << 10;

/// Time that running answers get to end when the daemon ends.
const GRACE: Duration = Duration::from_secs(5);

/// Pause when no connection can be accepted, as when all file descriptors are in use.
const PAUSE: Duration = Duration::from_millis(100);

/// The ends of the connection that a request came in on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Our address: it tells the interface.
    pub(super) local: SocketAddr,
    /// The client's.
    pub(super) peer: SocketAddr,
}

/// Accepts connections until `closing` says so, then lets running answers end.
pub(super) async fn accept(listener: TcpListener, daemon: Arc<Daemon>, mut closing: watch::Receiver<bool>) {
    let router = routes::router(daemon);
    let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
    loop {
        let accepted = tokio::select! {
            () = said_so(&mut closing) => break,
            accepted = next(&listener, &places) => accepted,
        };
        let Some((stream, ends, place)) = accepted else {
            continue;
        };
        let connection = answer(stream, ends, router.clone(), closing.clone());
        tokio::spawn(async move {
            connection.await;
            drop(place);
        });
    }
    drop(listener);
    if timeout(GRACE, places.acquire_many(CONNECTIONS)).await.is_err() {
        tracing::info!("some answers were cut off");
    }
}

async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, Ends, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .expect("it is never closed");
    let accepted = listener
        .accept()
        .await
        .and_then(|(stream, peer)| Ok((stream.local_addr()?, peer, stream)));
    match accepted {
        Ok((local, peer, stream)) => Some((stream, Ends { local, peer }, place)),
        Err(error) => {
            tracing::warn!(%error, "cannot accept a connection");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

async fn answer(stream: TcpStream, ends: Ends, router: Router, mut closing: watch::Receiver<bool>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, peer = %ends.peer, "small answers may wait for others");
    }
    let service = TowerToHyperService::new(router.layer(Extension(ends)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER_BYTES)
        .serve_connection(TokioIo::new(Watched::new(stream)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = said_so(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = super::answer::chain(&error), peer = %ends.peer, "connection ended");
    }
}

/// Waits until the daemon ends.
async fn said_so(closing: &mut watch::Receiver<bool>) {
    // When the sender is gone, the daemon is gone.
    drop(closing.wait_for(|closing| *closing).await);
}
