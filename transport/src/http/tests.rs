//! The client against servers that lie, stall, break off or are something else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::*;

/// A server that answers the n-th connection with the n-th of `answers`, the last one again and again, and closes.
struct Liar {
    url: ServerUrl,
    connections: Arc<AtomicUsize>,
}

impl Liar {
    fn new(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap())
            .parse()
            .unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let mut stream = stream.unwrap();
                let mut request = [0; 4096];
                if stream.read(&mut request).is_ok() {
                    // A client that refuses what it reads closes early.
                    let _closed = stream.write_all(&answers[number.min(answers.len() - 1)]);
                }
            }
        });
        Self { url, connections }
    }

    fn client(&self) -> Client {
        let retry = Retry {
            tries: 3,
            pause: Duration::from_millis(1),
        };
        Client::new(self.url.clone(), Token::from_bytes([1; 32]), retry)
    }
}

fn ok(length: u64, body: &[u8]) -> Vec<u8> {
    [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").as_bytes(),
        body,
    ]
    .concat()
}

fn status(line: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {line}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What asking for the chunk `hello` gives, and how many connections that takes.
fn chunk_from(answers: Vec<Vec<u8>>) -> (Result<Vec<u8>, HttpError>, usize) {
    let liar = Liar::new(answers);
    let result = liar.client().chunk(&ChunkId::of(b"hello"), 5);
    (result, liar.connections.load(Ordering::SeqCst))
}

#[test]
fn only_the_right_bytes_are_a_chunk() {
    let (good, tries) = chunk_from(vec![ok(5, b"hello")]);
    assert_eq!((good.unwrap().as_slice(), tries), (&b"hello"[..], 1));
    for wrong in [ok(5, b"hullo"), ok(4, b"hell"), ok(0, b"")] {
        let (result, tries) = chunk_from(vec![wrong]);
        assert!(matches!(result, Err(HttpError::Damaged(..))), "{result:?}");
        assert_eq!(tries, 3);
    }
    // A transfer that breaks off, wrong bytes, then the right ones.
    let (result, tries) = chunk_from(vec![ok(5, b"he"), ok(5, b"hullo"), ok(5, b"hello")]);
    assert_eq!((result.unwrap().as_slice(), tries), (&b"hello"[..], 3));
    let (result, _) = chunk_from(vec![ok(5, b"he")]);
    assert!(matches!(result, Err(HttpError::Broken { .. })), "{result:?}");
}

#[test]
fn more_than_was_asked_for_is_not_read() {
    let endless = b"HTTP/1.1 200 OK\r\n\r\n"
        .iter()
        .copied()
        .chain(std::iter::repeat_n(0, 1 << 20))
        .collect();
    let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffff\r\n".to_vec();
    let chunked = [chunked, vec![0; 1 << 20]].concat();
    for answer in [ok(1 << 40, b"hello"), ok(6, b"hello!"), endless, chunked] {
        let (result, tries) = chunk_from(vec![answer]);
        let Err(HttpError::Strange { found, .. }) = result else {
            panic!("{result:?}")
        };
        assert_eq!((found.as_str(), tries), ("more than 5 bytes", 1));
    }
    let headers = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(HEADER_BYTES));
    assert!(chunk_from(vec![headers.into_bytes()]).0.is_err());
}

#[test]
fn refusals_say_what_the_server_says() {
    let body = r#"{"error": "there is no image x", "hint": "look", "later": 1}"#;
    let (result, tries) = chunk_from(vec![status("404 Not Found", body)]);
    let error = result.unwrap_err();
    assert_eq!(error.to_string(), "the image server says: there is no image x");
    assert_eq!((error.hint().as_str(), tries), ("look", 1));
    let (result, tries) = chunk_from(vec![status("503 Busy", body)]);
    assert!(
        matches!(result, Err(HttpError::Trouble { status: 503, .. })),
        "{result:?}"
    );
    assert_eq!(tries, 3);
    let (result, tries) = chunk_from(vec![status("401 Unauthorized", "")]);
    assert!(matches!(result, Err(HttpError::WrongToken(_))), "{result:?}");
    assert_eq!(tries, 1);
}

#[test]
fn what_is_no_image_server_is_told_apart() {
    let redirect =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec();
    for answer in [
        status("404 Not Found", "<html>"),
        redirect,
        status("204 None", ""),
    ] {
        let (result, tries) = chunk_from(vec![answer]);
        assert!(matches!(result, Err(HttpError::Strange { .. })), "{result:?}");
        assert_eq!(tries, 1);
    }
    let liar = Liar::new(vec![ok(2, b"{}")]);
    assert!(matches!(liar.client().images(), Err(HttpError::Strange { .. })));
    let manifest = liar.client().manifest(&"gold".parse().unwrap());
    assert!(
        matches!(manifest, Err(HttpError::Strange { .. })),
        "it has no headers"
    );
    // Another protocol altogether.
    let (result, _) = chunk_from(vec![b"220 mail ready\r\n".to_vec()]);
    assert!(matches!(result, Err(HttpError::Unreachable { .. })), "{result:?}");
}

#[test]
fn nobody_there_is_tried_again_and_told() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let retry = Retry {
        tries: 2,
        pause: Duration::from_millis(1),
    };
    let client = Client::new(
        free.to_string().parse().unwrap(),
        Token::from_bytes([1; 32]),
        retry,
    );
    let error = client.images().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot reach the image server http://{free}")
    );
    assert!(error.may_pass());
}
