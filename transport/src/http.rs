//! The blocking HTTP client of an image server, for the threads of a receiver.
//!
//! What it takes from the server is bounded before it is read, and every wait has a time-out. A request that fails for
//! a reason that may pass (nobody listens, the connection breaks, the server is overloaded) is tried again after a
//! growing pause; a wrong token or an unknown image is not.
//!
//! There is no TLS yet: the token and the manifest, which holds the chunks' keys, travel in the clear. Use it on a
//! network that you trust.

mod chunks;
pub mod credentials;
mod deltas;
mod error;
mod install;
mod packs;
mod probes;
mod retry;
mod swarm;
mod url;

use std::io::Read;
use std::time::Duration;

use serde::de::DeserializeOwned;
use simulcast_protocol::api::{self, ErrorBody, MANIFEST_HEADER, Token, VERSION_HEADER};
use simulcast_protocol::exclusion::{NodeLists, UpdateScripts};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::install::NodeName;
use simulcast_protocol::limits::MANIFEST_BYTES;
use simulcast_protocol::name::{ImageName, ImageRef, Version};
use ureq::http::{Response, StatusCode};
use ureq::{Agent, Body};

pub use error::HttpError;
pub use install::{Greeted, hello};
pub use retry::Retry;
pub use url::{ParseUrlError, ServerUrl};

/// Time to reach the server.
const CONNECT: Duration = Duration::from_secs(5);

/// Time until the server begins to answer. It reads a manifest from disk before it does.
const RESPONSE: Duration = Duration::from_secs(30);

/// Time in which nothing at all comes.
const STALL: Duration = Duration::from_secs(20);

/// Time for the whole of a chunk: 4 MiB at 35 kB/s.
const CHUNK: Duration = Duration::from_secs(120);

/// Time for the whole of a manifest.
const MANIFEST: Duration = Duration::from_secs(1800);

/// Bytes of the headers of an answer.
const HEADER_BYTES: usize = 16 << 10;

/// Connections that are kept for the next request.
const IDLE: usize = 8;

/// Bytes for which memory is reserved before they came: a server may say that much more follows.
const RESERVE_BYTES: u64 = 1 << 20;

/// Asks one image server.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    server: ServerUrl,
    token: Token,
    retry: Retry,
}

/// A signed manifest as the server sent it: nothing is checked yet.
#[derive(Debug)]
pub struct FetchedManifest {
    /// Which version the server sent, as it says.
    pub version: Version,
    /// Its identity, as the server says.
    pub id: ManifestId,
    /// The signature and the manifest.
    pub bytes: Vec<u8>,
}

impl Client {
    /// A client that presents `token`. No connection is made yet.
    pub fn new(server: ServerUrl, token: Token, retry: Retry) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .user_agent(concat!("simulcast/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(HEADER_BYTES)
            .max_idle_connections(IDLE)
            .max_idle_connections_per_host(IDLE)
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(RESPONSE))
            .timeout_per_read(Some(STALL))
            .timeout_per_write(Some(STALL))
            .build();
        Self {
            agent: config.into(),
            server,
            token,
            retry,
        }
    }

    /// The same client, which tries as often as `retry` says.
    pub fn with_retry(&self, retry: Retry) -> Self {
        Self {
            retry,
            ..self.clone()
        }
    }

    /// The server that it asks.
    pub fn server(&self) -> &ServerUrl {
        &self.server
    }

    /// The key that checks the server's manifests, as the server itself says.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn key(&self) -> Result<api::Key, HttpError> {
        self.json("the server's key", "/key")
    }

    /// All images.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn images(&self) -> Result<api::Images, HttpError> {
        self.json("the list of images", "/images")
    }

    /// The versions of an image.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn image(&self, name: &ImageName) -> Result<api::Image, HttpError> {
        self.json(&format!("image {name}"), &format!("/images/{name}"))
    }

    /// What a node that has an image is to leave alone; without a node, what all nodes are.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn exclusions(&self, image: &ImageName, node: Option<&NodeName>) -> Result<NodeLists, HttpError> {
        let node = node.map_or_else(String::new, |node| format!("?node={node}"));
        self.json("the exclusion lists", &format!("/exclusions/{image}{node}"))
    }

    /// What the site runs on a node around an update.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn update_scripts(&self) -> Result<UpdateScripts, HttpError> {
        self.json("the scripts of updates", "/scripts/update")
    }

    /// What the server does.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn status(&self) -> Result<api::Status, HttpError> {
        self.json("the server's status", "/status")
    }

    /// The signed manifest of a version. The caller checks its signature, and that it is the version asked for.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn manifest(&self, image: &ImageRef) -> Result<FetchedManifest, HttpError> {
        let version = image
            .version
            .map_or_else(|| "latest".to_owned(), |version| version.to_string());
        let path = format!("/images/{}/{version}/manifest", image.name);
        let what = format!("the manifest of {image}");
        self.retry.run(|| {
            let response = self.get(&what, &path, MANIFEST)?;
            let version = self.header(&what, &response, VERSION_HEADER)?;
            let id = self.header(&what, &response, MANIFEST_HEADER)?;
            let bytes = self.body(&what, response, MANIFEST_BYTES as u64)?;
            Ok(FetchedManifest { version, id, bytes })
        })
    }

    /// Starts or joins the multicast session of a version, with packets of at most `mtu` bytes; what the server offers is checked when it is decoded.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn session<T: DeserializeOwned>(
        &self,
        manifest: ManifestId,
        mtu: Option<u32>,
    ) -> Result<T, HttpError> {
        let what = "a multicast session";
        let request = api::SessionRequest { manifest, mtu };
        let request = serde_json::to_vec(&request).expect("an identity becomes JSON");
        self.retry.run(|| {
            let request_to = self
                .agent
                .post(self.url("/sessions"))
                .header("authorization", self.token.authorization())
                .header("content-type", "application/json");
            let response = request_to
                .config()
                .timeout_recv_body(Some(CHUNK))
                .build()
                .send(&request);
            self.parse(what, self.answered(what, response)?)
        })
    }

    /// The bytes of a chunk, checked against its name and its length.
    ///
    /// # Errors
    /// [`HttpError`]; [`HttpError::Damaged`] when they are still wrong after several tries.
    pub fn chunk(&self, id: &ChunkId, len: u32) -> Result<Vec<u8>, HttpError> {
        self.retry.run(|| self.chunk_once(id, len))
    }

    fn json<T: DeserializeOwned>(&self, what: &str, path: &str) -> Result<T, HttpError> {
        self.retry.run(|| self.parse(what, self.get(what, path, CHUNK)?))
    }

    fn get(&self, what: &str, path: &str, limit: Duration) -> Result<Response<Body>, HttpError> {
        let request = self
            .agent
            .get(self.url(path))
            .header("authorization", self.token.authorization());
        let response = request.config().timeout_recv_body(Some(limit)).build().call();
        self.answered(what, response)
    }

    /// Sends bytes and gives the body of the answer, of which at most `limit` bytes are read.
    fn post(&self, what: &str, path: &str, bytes: &[u8], limit: u64) -> Result<impl Read + use<>, HttpError> {
        let request = self
            .agent
            .post(self.url(path))
            .header("authorization", self.token.authorization());
        let response = request
            .config()
            .timeout_recv_body(Some(MANIFEST))
            .build()
            .send(bytes);
        let body = self.answered(what, response)?.into_body();
        Ok(body.into_with_config().limit(u64::MAX).reader().take(limit))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.server, api::ROOT)
    }

    /// The response, if it is a good one.
    fn answered(
        &self,
        what: &str,
        response: Result<Response<Body>, ureq::Error>,
    ) -> Result<Response<Body>, HttpError> {
        let response = response.map_err(|error| HttpError::request(&self.server, error))?;
        let status = response.status();
        if status == StatusCode::OK {
            return Ok(response);
        }
        if status == StatusCode::UNAUTHORIZED {
            return Err(HttpError::WrongToken(self.server.clone()));
        }
        let body = self.parse::<ErrorBody>(what, response).ok();
        Err(match (status.is_server_error(), body) {
            (true, body) => HttpError::Trouble {
                server: self.server.clone(),
                what: what.to_owned(),
                status: status.as_u16(),
                error: body.map_or_else(String::new, |body| body.error),
            },
            (false, Some(ErrorBody { error, hint })) if status.is_client_error() => {
                HttpError::Refused { error, hint }
            }
            _ => self.strange(what, format!("status {status}")),
        })
    }

    fn header<T: std::str::FromStr>(
        &self,
        what: &str,
        response: &Response<Body>,
        name: &str,
    ) -> Result<T, HttpError> {
        let value = response.headers().get(name).and_then(|value| value.to_str().ok());
        let parsed = value.and_then(|value| value.parse().ok());
        parsed.ok_or_else(|| self.strange(what, format!("no good header {name}")))
    }

    fn parse<T: DeserializeOwned>(&self, what: &str, response: Response<Body>) -> Result<T, HttpError> {
        let bytes = self.body(what, response, api::JSON_BYTES as u64)?;
        serde_json::from_slice(&bytes).map_err(|error| self.strange(what, error.to_string()))
    }

    /// Reads the body: at most `limit` bytes, and all that the server promised.
    fn body(&self, what: &str, response: Response<Body>, limit: u64) -> Result<Vec<u8>, HttpError> {
        let promised = response.body().content_length();
        if promised.is_some_and(|length| length > limit) {
            return Err(self.strange(what, format!("more than {limit} bytes")));
        }
        let reserve = promised.unwrap_or(0).min(RESERVE_BYTES.max(limit.min(4 << 20)));
        let mut bytes = Vec::with_capacity(usize::try_from(reserve).unwrap_or(0));
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        let read = reader.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| HttpError::broken(&self.server, what, error))?;
        if bytes.len() as u64 > limit {
            return Err(self.strange(what, format!("more than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn strange(&self, what: &str, found: String) -> HttpError {
        HttpError::Strange {
            server: self.server.clone(),
            what: what.to_owned(),
            found,
        }
    }
}

#[cfg(test)]
mod tests;
