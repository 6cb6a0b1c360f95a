//! What a machine in the mini-kernel asks and says while it is installed.

use simulcast_protocol::api::Token;
use simulcast_protocol::id::ContentId;
use simulcast_protocol::install::{Events, Hello, Welcome};

use super::{CHUNK, Client, HttpError, MANIFEST, Retry, ServerUrl};

/// Bytes of an order that are taken.
const ORDER_BYTES: u64 = 1 << 20;

/// Bytes of a file that goes with an order.
const FILE_BYTES: u64 = 1 << 30;

/// What the server answers to a hello, and its clock.
#[derive(Debug)]
pub struct Greeted {
    /// The answer.
    pub welcome: Welcome,
    /// The server's `Date` header, as HTTP writes it; none when it has none.
    pub date: Option<String>,
}

/// Says hello, the one thing that needs no token.
///
/// # Errors
/// [`HttpError`].
pub fn hello(server: &ServerUrl, hello: &Hello, retry: Retry) -> Result<Greeted, HttpError> {
    // No token is known yet; what is sent instead authorises nothing.
    let client = Client::new(server.clone(), Token::from_bytes([0; 32]), retry);
    let body = serde_json::to_vec(hello).expect("numbers and texts become JSON");
    let what = "who this machine is";
    client.retry.run(|| {
        let request = client
            .agent
            .post(client.url("/install/hello"))
            .header("content-type", "application/json");
        let sent = request
            .config()
            .timeout_recv_body(Some(CHUNK))
            .build()
            .send(&body);
        let response = client.answered(what, sent)?;
        let date = response
            .headers()
            .get("date")
            .and_then(|date| date.to_str().ok())
            .map(str::to_owned);
        Ok(Greeted {
            welcome: client.parse(what, response)?,
            date,
        })
    })
}

impl Client {
    /// The signed order of this node, whose signature the caller checks.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn order(&self) -> Result<Vec<u8>, HttpError> {
        let what = "this node's order";
        self.retry
            .run(|| self.body(what, self.get(what, "/install/order", CHUNK)?, ORDER_BYTES))
    }

    /// Reports what has happened.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn events(&self, events: &Events) -> Result<(), HttpError> {
        let body = serde_json::to_vec(events).expect("numbers and texts become JSON");
        self.say("events", "/install/events", "application/json", &body)
    }

    /// Adds text to the log of this install.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn log(&self, text: &str) -> Result<(), HttpError> {
        self.say("the log", "/install/log", "text/plain", text.as_bytes())
    }

    /// A file that goes with an order; the caller checks its hash.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn install_file(&self, hash: &ContentId, bytes: u64) -> Result<Vec<u8>, HttpError> {
        let what = format!("file {}", hash.short());
        let path = format!("/install/files/{hash}");
        self.retry
            .run(|| self.body(&what, self.get(&what, &path, MANIFEST)?, bytes.min(FILE_BYTES)))
    }

    fn say(&self, what: &str, path: &str, kind: &str, body: &[u8]) -> Result<(), HttpError> {
        self.retry.run(|| {
            let request = self
                .agent
                .post(self.url(path))
                .header("authorization", self.token.authorization())
                .header("content-type", kind);
            let sent = request.config().timeout_recv_body(Some(CHUNK)).build().send(body);
            self.answered(what, sent).map(drop)
        })
    }
}
