//! Asking for update packs.

use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::PACK_BYTES;
use ureq::http::StatusCode;

use super::{Client, HttpError, MANIFEST};

impl Client {
    /// The list of the update pack that leads from a version, or a set of versions, to another; `None` while it is being made.
    /// The caller checks its signature, and that it is the one asked for.
    ///
    /// # Errors
    /// [`HttpError`]; [`HttpError::Refused`] when the server does not know the versions.
    pub fn pack(&self, from: ManifestId, to: ManifestId) -> Result<Option<Vec<u8>>, HttpError> {
        let what = "an update pack";
        let path = format!("/packs/{from}/{to}");
        self.retry.run(|| {
            let request = self
                .agent
                .get(self.url(&path))
                .header("authorization", self.token.authorization());
            let response = request.config().timeout_recv_body(Some(MANIFEST)).build().call();
            if let Ok(response) = &response
                && response.status() == StatusCode::ACCEPTED
            {
                return Ok(None);
            }
            let response = self.answered(what, response)?;
            self.body(what, response, PACK_BYTES as u64).map(Some)
        })
    }
}
