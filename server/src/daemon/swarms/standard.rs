//! How standard clients take part: a torrent file, and a tracker that speaks HTTP and bencode (BEP 3).
//!
//! They have no place for a token, so their torrents hold a pass in the URLs. It is made from the operator's token and
//! opens this one version's tracker and ciphertext, nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Extension, Router};
use simulcast_protocol::bittorrent::{Announce, Event, Mark, announce_answer, announce_failure, metainfo};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::name::{ImageRef, Version};

use super::super::Daemon;
use super::super::answer::Refusal;
use super::super::connection::Ends;
use super::super::routes::{Answer, Names, Ours, parse};
use super::web_seed;

/// How often a client announces itself.
const INTERVAL: Duration = Duration::from_secs(30);

/// How long it is believed to be there.
const LASTS: Duration = Duration::from_secs(75);

/// What the pass is made for.
const CONTEXT: &str = "simulcast 2026 pass of a swarm";

/// Hexadecimal digits of a pass: 128 bits.
const PASS_DIGITS: usize = 32;

/// Routes that need no token, because their paths hold a pass.
pub(in super::super) fn routes() -> Router<std::sync::Arc<Daemon>> {
    Router::new()
        .route("/swarm/{manifest}/{pass}/announce", get(announce))
        .route(
            "/swarm/{manifest}/{pass}/data/{name}/{file}",
            get(web_seed::chunk),
        )
        .route(
            "/swarm/{manifest}/{pass}/data/{name}/.pad/{chunk}",
            get(web_seed::padding),
        )
}

impl Daemon {
    /// The pass of a version's swarm.
    fn pass(&self, manifest: &ManifestId) -> String {
        let key = blake3::derive_key(CONTEXT, self.token.reveal().as_bytes());
        let pass = blake3::keyed_hash(&key, manifest.as_bytes());
        pass.to_hex()[..PASS_DIGITS].to_owned()
    }

    /// The version that a path names, if its pass is right.
    pub(super) fn passed(&self, manifest: &str, pass: &str) -> Answer<ManifestId> {
        let refused = || {
            Refusal::new(
                StatusCode::FORBIDDEN,
                "the pass is wrong",
                "fetch the torrent file anew",
            )
        };
        let manifest: ManifestId = manifest.parse().map_err(|_| refused())?;
        // As hashes, so that comparing takes the same time wherever they differ.
        if blake3::hash(pass.as_bytes()) != blake3::hash(self.pass(&manifest).as_bytes()) {
            return Err(refused());
        }
        Ok(manifest)
    }
}

/// `GET /v1/images/NAME/VERSION/torrent`.
pub(in super::super) async fn torrent(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    headers: HeaderMap,
    names: Names<(String, String)>,
) -> Answer<Response> {
    let Path((name, version)) = names?;
    let version = match version.as_str() {
        "latest" => None,
        number => Some(parse::<Version>(number)?),
    };
    let reference = ImageRef {
        name: parse(&name)?,
        version,
    };
    let served = daemon.version(reference).await?;
    let swarm = daemon.swarm(served.id).await?;
    // By the name that the server was asked under, which holds for whoever asked.
    let asked = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .filter(|host| is_host(host));
    let host = asked.map_or_else(|| ends.local.to_string(), str::to_owned);
    let base = format!("http://{host}/swarm/{}/{}", served.id, daemon.pass(&served.id));
    let torrent = metainfo(&swarm.info, &format!("{base}/announce"), &format!("{base}/data/"));
    let headers = [
        ("content-type", "application/x-bittorrent".to_owned()),
        (
            "content-disposition",
            format!(
                "attachment; filename=\"{}-{}.torrent\"",
                served.image, served.version
            ),
        ),
        ("cache-control", "no-store".to_owned()),
    ];
    Ok((headers, torrent).into_response())
}

/// Whether a text is a host, with or without a port, and nothing that changes the meaning of a URL.
fn is_host(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
    !text.is_empty() && text.len() <= 255 && text.bytes().all(plain)
}

/// The tracker.
async fn announce(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    names: Names<(String, String)>,
    RawQuery(query): RawQuery,
) -> Answer<Response> {
    let Path((manifest, pass)) = names?;
    let manifest = daemon.passed(&manifest, &pass)?;
    let answer = match Announce::parse(&query.unwrap_or_default()) {
        Ok(announce) => answered(&daemon, manifest, announce, ends).await?,
        Err(error) => announce_failure(&error.to_string()),
    };
    // Trackers answer with 200 and say in the body what is wrong.
    Ok(([("content-type", "text/plain")], answer).into_response())
}

async fn answered(
    daemon: &std::sync::Arc<Daemon>,
    manifest: ManifestId,
    announce: Announce,
    ends: Ends,
) -> Answer<Vec<u8>> {
    let swarm = daemon.swarm(manifest).await?;
    if announce.info_hash != swarm.torrent.info_hash {
        return Ok(announce_failure("this is the tracker of another torrent"));
    }
    let address = SocketAddr::new(ends.peer.ip().to_canonical(), announce.port);
    if announce.event == Event::Stopped {
        swarm.tracker().gone(address.ip());
        return Ok(announce_answer(0, 0, INTERVAL, &[]));
    }
    let lacks = announce.left > 0;
    let local = ends.local.ip().to_canonical();
    let mark = Mark {
        address,
        lacks,
        stalled: false,
        relay: false,
        lasts: LASTS,
    };
    let told = swarm.announced(mark, local);
    let mut peers = told.peers;
    if told.seed && lacks {
        peers.insert(0, SocketAddr::new(local, daemon.swarms.hub()?.port()));
    }
    // The server's seed is complete too.
    Ok(announce_answer(
        told.complete + 1,
        told.incomplete,
        INTERVAL,
        &peers,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_hold_nothing_that_changes_a_url() {
        for (text, good) in [
            ("server:9440", true),
            ("[fe80::1]:9440", true),
            ("10.0.0.1", true),
            ("", false),
            ("a/b", false),
            ("a b", false),
            ("a?b", false),
            ("user@host", false),
        ] {
            assert_eq!(is_host(text), good, "{text}");
        }
    }
}
