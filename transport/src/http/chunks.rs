//! Chunks over HTTP: whatever the server or a cache between sends, only bytes with the right hash come out.

use simulcast_protocol::id::ChunkId;

use super::{CHUNK, Client, HttpError};

impl Client {
    /// One try to get a chunk.
    pub(super) fn chunk_once(&self, id: &ChunkId, len: u32) -> Result<Vec<u8>, HttpError> {
        let what = format!("chunk {}", id.short());
        let response = self.get(&what, &format!("/chunks/{id}"), CHUNK)?;
        let bytes = self.body(&what, response, u64::from(len))?;
        if bytes.len() != len as usize || ChunkId::of(&bytes) != *id {
            return Err(HttpError::Damaged(self.server().clone(), *id));
        }
        Ok(bytes)
    }
}
