//! Probes of multicast: taking part in one, and saying what came.

use serde::Serialize;
use serde::de::DeserializeOwned;
use simulcast_protocol::multicast::probe::{Counts, ProbeOffer, ProbeRequest, ServerSide};

use super::{CHUNK, Client, HttpError};

impl Client {
    /// Asks to take part in a probe of multicast.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn probe(&self, request: &ProbeRequest) -> Result<ProbeOffer, HttpError> {
        self.retry
            .run(|| self.post_json("a probe of multicast", "/probes", request))
    }

    /// Says what came of a probe; the answer is what the server knows of it.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn probed(&self, probe: u32, counts: &Counts) -> Result<ServerSide, HttpError> {
        let path = format!("/probes/{probe}/counts");
        self.retry
            .run(|| self.post_json("what the server knows of a probe", &path, counts))
    }

    fn post_json<T: DeserializeOwned>(
        &self,
        what: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, HttpError> {
        let body = serde_json::to_vec(body).expect("numbers and texts become JSON");
        let request = self
            .agent
            .post(self.url(path))
            .header("authorization", self.token.authorization())
            .header("content-type", "application/json");
        let response = request
            .config()
            .timeout_recv_body(Some(CHUNK))
            .build()
            .send(&body);
        self.parse(what, self.answered(what, response)?)
    }
}
