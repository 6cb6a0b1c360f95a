//! What a receiver asks the server about the swarm of a version.

use simulcast_protocol::api::{SwarmAnswer, SwarmRequest};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::INTRODUCED_PEERS;

use super::{CHUNK, Client, HttpError, MANIFEST};

/// Bytes of the signature before the hashes.
const SIGNATURE_BYTES: u64 = 64;

impl Client {
    /// The signature of the torrent of a version, and the hashes of its `pieces` pieces, 20 bytes each. The caller checks
    /// them.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn pieces(&self, manifest: ManifestId, pieces: u32) -> Result<Vec<u8>, HttpError> {
        let what = "the hashes of the version's pieces";
        let path = format!("/manifests/{manifest}/pieces");
        let limit = SIGNATURE_BYTES + 20 * u64::from(pieces);
        self.retry
            .run(|| self.body(what, self.get(what, &path, MANIFEST)?, limit))
    }

    /// Says how this machine stands in a swarm, and learns of others. It is tried once: it is said again soon.
    ///
    /// # Errors
    /// [`HttpError`].
    pub fn swarm(&self, request: &SwarmRequest) -> Result<SwarmAnswer, HttpError> {
        let what = "the machines of the swarm";
        let body = serde_json::to_vec(request).expect("numbers become JSON");
        let to = self
            .agent
            .post(self.url("/swarm"))
            .header("authorization", self.token.authorization())
            .header("content-type", "application/json");
        let sent = to.config().timeout_recv_body(Some(CHUNK)).build().send(&body);
        let mut answer: SwarmAnswer = self.parse(what, self.answered(what, sent)?)?;
        answer.peers.truncate(INTRODUCED_PEERS);
        Ok(answer)
    }
}
