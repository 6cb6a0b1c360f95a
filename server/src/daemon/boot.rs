//! `/boot/…`: what boot loaders fetch. They have no token, and what they get is no secret: neither the mini-kernel nor its
//! command line holds any.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;

use super::Daemon;
use super::answer::Refusal;
use super::body::{Counted, FileBody};
use super::connection::Ends;
use super::routes::{Answer, Names, Ours};
use super::versions::blocking;
use crate::boot::files::{self, BootFile};
use crate::boot::node::Asking;
use crate::boot::package::PackageName;
use crate::boot::script::{Boot, grub, ipxe, ipxe_first, pxelinux};

/// What is asked for without a token.
pub(super) fn router() -> Router<Arc<Daemon>> {
    Router::new()
        .route("/boot/ipxe", get(ipxe_script))
        .route("/boot/pxelinux.cfg/{name}", get(pxelinux_file))
        .route("/boot/grub/{name}", get(grub_file))
        .route("/boot/packages/{name}/{id}/{file}", get(package_file))
        .route("/boot/files/{name}", get(boot_file))
}

/// Who asks for an iPXE script: the card that it booted from, and what firmware calls the machine.
#[derive(Debug, Deserialize)]
struct Machine {
    mac: Option<String>,
    #[serde(default)]
    uuid: String,
}

async fn ipxe_script(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    Query(machine): Query<Machine>,
) -> Answer<Response> {
    let Some(mac) = machine.mac else {
        return Ok(text(ipxe_first(server(&daemon, ends))));
    };
    let card = mac
        .parse()
        .map(Asking::Card)
        .map_err(|error: simulcast_protocol::install::ParseMacError| Refusal::nonsense(error.to_string()))?;
    // Some firmware has no identifier, or calls all machines the same.
    let uuid = machine.uuid.parse().ok().map(Asking::Machine);
    let asking = [card].into_iter().chain(uuid).collect();
    say(daemon, ends, asking, ipxe).await
}

async fn pxelinux_file(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    names: Names<String>,
) -> Answer<Response> {
    let Path(name) = names?;
    let asking = name.parse().map_err(|_| nothing())?;
    say(daemon, ends, vec![asking], pxelinux).await
}

async fn grub_file(
    State(daemon): Ours,
    Extension(ends): Extension<Ends>,
    names: Names<String>,
) -> Answer<Response> {
    let Path(name) = names?;
    let asking = match name.strip_prefix("grub.cfg") {
        Some("") => Asking::Anybody,
        Some(name) => name
            .strip_prefix('-')
            .and_then(|name| name.parse().ok())
            .ok_or_else(nothing)?,
        None => return Err(nothing()),
    };
    say(daemon, ends, vec![asking], grub).await
}

/// Tells a machine what to do. PXELINUX goes on with its next name for machines that are no nodes, until `default`.
async fn say(
    daemon: Arc<Daemon>,
    ends: Ends,
    asking: Vec<Asking>,
    words: fn(&Boot<'_>) -> String,
) -> Answer<Response> {
    let server = server(&daemon, ends);
    let said = blocking(move || {
        let booting = &daemon.booting;
        let decision = booting.decide(&asking, &mut booting.packages());
        let script = booting.say(&decision, server, words);
        tracing::info!(peer = %ends.peer.ip().to_canonical(), "{decision}");
        Ok::<_, Refusal>(script)
    });
    said.await.map(text)
}

/// How the machine reaches us: as it just did.
fn server(daemon: &Daemon, ends: Ends) -> SocketAddr {
    SocketAddr::new(ends.local.ip().to_canonical(), daemon.booting.port())
}

fn text(script: String) -> Response {
    let headers = [
        ("content-type", "text/plain; charset=utf-8"),
        // The next time something else may be decided.
        ("cache-control", "no-store"),
    ];
    (headers, script).into_response()
}

fn nothing() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "there is nothing of this name to boot", "")
}

async fn package_file(
    State(daemon): Ours,
    names: Names<(String, String, String)>,
    headers: HeaderMap,
) -> Answer<Response> {
    let Path((name, id, file)) = names?;
    let name: PackageName = name.parse().map_err(|_| nothing())?;
    let booting = Arc::clone(&daemon.booting);
    let found = blocking(move || {
        let package = booting.packages().get(&name)?;
        // A machine that was told of an earlier build asks anew, and is told of this one: half of each would not boot.
        let path = package.file(&file).filter(|_| package.id == id);
        path.map(|path| (path, id))
    });
    let (path, id) = found.await.ok_or_else(nothing)?;
    send(daemon, path, &id, &headers).await
}

async fn boot_file(State(daemon): Ours, names: Names<String>, headers: HeaderMap) -> Answer<Response> {
    let Path(name) = names?;
    let file = BootFile::named(&name).ok_or_else(nothing)?;
    let path = files::directory(daemon.booting.state()).join(file.name());
    send(daemon, path, "", &headers).await
}

/// Sends a file, or the part of it that was asked for.
async fn send(
    daemon: Arc<Daemon>,
    path: std::path::PathBuf,
    id: &str,
    headers: &HeaderMap,
) -> Answer<Response> {
    let opened =
        blocking(move || File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)))).await;
    let (len, file) = opened.map_err(|_| nothing())?;
    let etag = format!("\"{id}\"");
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let mut own: Vec<(HeaderName, String)> = Vec::new();
    let mut tagged = false;
    if !id.is_empty() {
        tagged = true;
        own.push((header::ETAG, etag.clone()));
    }
    // A part of what it was before would be no use.
    let same = |value: &axum::http::HeaderValue| tagged && value.as_bytes() == etag.as_bytes();
    let wanted = headers
        .get(header::RANGE)
        .filter(|_| headers.get(header::IF_RANGE).is_none_or(same))
        .and_then(|value| value.to_str().ok());
    let part = wanted.map_or(Ok(None), |wanted| range(wanted, len));
    let (status, (from, to)) = match part {
        Ok(None) => (StatusCode::OK, (0, len)),
        Ok(Some((from, to))) => {
            own.push((header::CONTENT_RANGE, format!("bytes {from}-{}/{len}", to - 1)));
            (StatusCode::PARTIAL_CONTENT, (from, to))
        }
        Err(Outside) => {
            let headers = [(header::CONTENT_RANGE, format!("bytes */{len}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, headers).into_response());
        }
    };
    let body = FileBody::part(Arc::new(file), from..to, daemon, Counted::Nothing);
    let mut response = (status, common, Body::new(body)).into_response();
    for (name, value) in own {
        if let Ok(value) = value.parse() {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A range that has no byte of the file.
#[derive(Debug, PartialEq, Eq)]
struct Outside;

/// The first byte and the one after the last that `Range: TEXT` asks for (RFC 9110, 14.1.2). `None` for what is to be passed
/// over: several ranges, and what makes no sense.
fn range(text: &str, len: u64) -> Result<Option<(u64, u64)>, Outside> {
    let Some((first, last)) = text
        .strip_prefix("bytes=")
        .and_then(|range| range.split_once('-'))
    else {
        return Ok(None);
    };
    let number = |text: &str| {
        text.trim()
            .bytes()
            .all(|digit| digit.is_ascii_digit())
            .then(|| text.trim().parse().ok())?
    };
    let (from, to): (u64, u64) = match (first.trim(), last.trim()) {
        ("", last) => match number(last) {
            Some(0) => return Err(Outside),
            Some(count) => (len.saturating_sub(count), len),
            None => return Ok(None),
        },
        (first, "") => match number(first) {
            Some(first) => (first, len),
            None => return Ok(None),
        },
        (first, last) => match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(len)),
            _ => return Ok(None),
        },
    };
    if from < to {
        Ok(Some((from, to)))
    } else {
        Err(Outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_standard() {
        for (text, expected) in [
            ("bytes=0-0", Ok(Some((0, 1)))),
            ("bytes=0-499", Ok(Some((0, 100)))),
            ("bytes=10-19", Ok(Some((10, 20)))),
            ("bytes=99-", Ok(Some((99, 100)))),
            ("bytes=-5", Ok(Some((95, 100)))),
            ("bytes=-500", Ok(Some((0, 100)))),
            ("bytes=100-", Err(Outside)),
            ("bytes=100-200", Err(Outside)),
            ("bytes=-0", Err(Outside)),
            ("bytes=5-4", Ok(None)),
            ("bytes=0-1,3-4", Ok(None)),
            ("bytes=a-b", Ok(None)),
            ("bytes=-", Ok(None)),
            ("lines=1-2", Ok(None)),
            ("bytes=18446744073709551615-", Err(Outside)),
            ("bytes=0-18446744073709551615", Ok(Some((0, 100)))),
            ("bytes=99999999999999999999-", Ok(None)),
        ] {
            assert_eq!(range(text, 100), expected, "{text}");
        }
        assert_eq!(range("bytes=0-", 0), Err(Outside));
    }
}
