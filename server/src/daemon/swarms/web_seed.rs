//! Chunks by HTTP with ranges, for clients that take a web seed (BEP 19).

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use simulcast_image::store::StoreError;
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::limits::{CHUNK_STORED_BYTES, PIECE_BYTES};

use super::super::answer::Refusal;
use super::super::body::{Counted, FileBody};
use super::super::routes::{Answer, Names, Ours, parse};
use super::super::versions::blocking;

/// A chunk of the torrent.
pub(super) async fn chunk(
    State(daemon): Ours,
    headers: HeaderMap,
    names: Names<(String, String, String, String)>,
) -> Answer<Response> {
    let Path((manifest, pass, _, file)) = names?;
    let manifest = daemon.passed(&manifest, &pass)?;
    let id: ChunkId = parse(&file)?;
    // The pass opens one version.
    let served = daemon.version_by_id(manifest).await?;
    if !served.is_some_and(|served| served.holds(&id)) {
        return Err(StoreError::ChunkMissing(id).into());
    }
    let path = daemon.store.chunks().path(&id);
    let opened = blocking(move || File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)))).await;
    let (len, file) = opened.map_err(|source| match source.kind() {
        ErrorKind::NotFound => StoreError::ChunkMissing(id),
        _ => StoreError::Read {
            path: daemon.store.chunks().path(&id),
            source,
        },
    })?;
    if len > CHUNK_STORED_BYTES as u64 {
        return Err(Refusal::trouble(format!(
            "chunk {id} is longer than a chunk can be: {len} bytes"
        )));
    }
    let Some(range) = wanted(&headers, len) else {
        return Err(unsatisfiable());
    };
    let head = head(&headers, &range, len);
    let body = FileBody::part(Arc::new(file), range, daemon, Counted::Part);
    Ok((head.0, head.1, Body::new(body)).into_response())
}

/// The padding behind a chunk: zeros, which clients that do not know padding ask for.
pub(super) async fn padding(
    State(daemon): Ours,
    headers: HeaderMap,
    names: Names<(String, String, String, u32)>,
) -> Answer<Response> {
    let Path((manifest, pass, _, chunk)) = names?;
    let manifest = daemon.passed(&manifest, &pass)?;
    let served = daemon.version_by_id(manifest).await?;
    let table = served.and_then(|served| served.table.clone());
    let info = table.and_then(|table| table.get(chunk));
    let len = info.map_or(0, |info| {
        (info.len as usize).next_multiple_of(PIECE_BYTES) - info.len as usize
    });
    if len == 0 {
        return Err(Refusal::new(
            StatusCode::NOT_FOUND,
            "there is no such padding",
            "",
        ));
    }
    let Some(range) = wanted(&headers, len as u64) else {
        return Err(unsatisfiable());
    };
    let head = head(&headers, &range, len as u64);
    let zeros = vec![0_u8; usize::try_from(range.end - range.start).unwrap_or(0)];
    Ok((head.0, head.1, zeros).into_response())
}

type Head = (StatusCode, [(header::HeaderName, String); 1]);

fn head(asked: &HeaderMap, range: &Range<u64>, len: u64) -> Head {
    if !asked.contains_key(header::RANGE) {
        return (StatusCode::OK, [(header::ACCEPT_RANGES, "bytes".to_owned())]);
    }
    let last = range.end.saturating_sub(1);
    let part = format!("bytes {}-{last}/{len}", range.start);
    (StatusCode::PARTIAL_CONTENT, [(header::CONTENT_RANGE, part)])
}

fn unsatisfiable() -> Refusal {
    Refusal::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "there are no such bytes in it",
        "",
    )
}

/// The bytes that are asked for, all without a range; one range (RFC 9110, 14.1.2) is understood.
fn wanted(headers: &HeaderMap, len: u64) -> Option<Range<u64>> {
    let Some(range) = headers.get(header::RANGE) else {
        return Some(0..len);
    };
    let (first, last) = range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => len.saturating_sub(suffix.parse().ok()?)..len,
        (first, "") => first.parse().ok()?..len,
        (first, last) => first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?.min(len),
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_range_is_understood() {
        for (text, range) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=5-", Some(5..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-30", Some(0..10)),
            ("bytes=2-99", Some(2..10)),
            ("bytes=10-", None),
            ("bytes=5-4", None),
            ("bytes=-0", None),
            ("bytes=0-18446744073709551615", None),
            ("bytes=0-1,3-4", None),
            ("chunks=0-1", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RANGE, text.parse().unwrap())]);
            assert_eq!(wanted(&headers, 10), range, "{text}");
        }
        assert_eq!(wanted(&HeaderMap::new(), 10), Some(0..10));
    }
}
