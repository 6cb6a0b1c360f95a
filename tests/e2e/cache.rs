//! An HTTP cache between nodes and the server: it has chunks of its own and passes on every other request.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use crate::site::LIMIT;

/// Chunks by name.
pub(crate) type Held = BTreeMap<String, Vec<u8>>;

/// The chunks that a cache gave, and when.
type Given = Mutex<Vec<(String, Instant)>>;

/// A running cache; it ends with the test's process.
pub(crate) struct Cache {
    /// `ADDR:PORT`.
    pub(crate) address: String,
    given: Arc<Given>,
}

impl Cache {
    /// Starts a cache before the server at `upstream`.
    pub(crate) fn new(upstream: &str, held: Held) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let given = Arc::<Given>::default();
        let (held, upstream, noted) = (Arc::new(held), upstream.to_owned(), Arc::clone(&given));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (held, upstream, noted) = (Arc::clone(&held), upstream.clone(), Arc::clone(&noted));
                thread::spawn(move || answer(stream.unwrap(), &held, &upstream, &noted));
            }
        });
        Self { address, given }
    }

    /// The chunks that it gave, and when.
    pub(crate) fn given(&self) -> Vec<(String, Instant)> {
        self.given.lock().unwrap().clone()
    }
}

/// Answers one request and closes the connection.
fn answer(mut stream: TcpStream, held: &Held, upstream: &str, noted: &Given) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let Some((head, body)) = request(&mut stream) else {
        return;
    };
    let name = head
        .strip_prefix("GET /v1/chunks/")
        .and_then(|rest| rest.split(' ').next());
    // What the other end does not take, it does not want.
    if let Some((name, bytes)) = name.and_then(|name| held.get_key_value(name)) {
        noted.lock().unwrap().push((name.clone(), Instant::now()));
        let length = bytes.len();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let _refused = stream.write_all(&[head.as_bytes(), bytes].concat());
        return;
    }
    let mut server = TcpStream::connect(upstream).unwrap();
    let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
    server.write_all(&[head.as_bytes(), &body].concat()).unwrap();
    let _broken = std::io::copy(&mut server, &mut stream);
}

/// The head of a request, with its empty line, and its body.
fn request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end + 4].to_vec()).unwrap();
            let length = head.lines().find_map(|line| {
                line.to_ascii_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            });
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Some((head, bytes.split_off(end + 4)));
            }
        }
        let count = stream.read(&mut buffer).ok().filter(|&count| count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
    }
}
