//! Asking for rolling-checksum deltas of a file that was changed on this machine.

use std::io::{ErrorKind, Read};

use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::PART_BYTES;

use super::{Client, HttpError};

impl Client {
    /// Sends the signature of what this machine has of file `entry` (`basis` bytes), and hands on the deltas of those of
    /// the wanted `parts` for which one pays: the part's number, and the compressed delta. `take` may stop by returning
    /// false. At most `bytes` are accepted.
    ///
    /// # Errors
    /// [`HttpError`]; what was handed on before is good.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is one thing that the server must know"
    )]
    pub fn deltas(
        &self,
        manifest: ManifestId,
        entry: u32,
        basis: u64,
        signature: &[u8],
        parts: &[u32],
        bytes: u64,
        mut take: impl FnMut(u32, &[u8]) -> bool,
    ) -> Result<(), HttpError> {
        let numbers: Vec<String> = parts.iter().map(u32::to_string).collect();
        let path = format!(
            "/manifests/{manifest}/files/{entry}/delta?basis={basis}&parts={}",
            numbers.join(",")
        );
        let what = "the deltas of a changed file";
        let mut body = self.post(what, &path, signature, bytes)?;
        let broken = |error| HttpError::broken(self.server(), what, error);
        loop {
            let mut head = [0; 8];
            match body.read(&mut head[..1]).map_err(broken)? {
                0 => return Ok(()),
                _ => body.read_exact(&mut head[1..]).map_err(broken)?,
            }
            let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
            let (number, len) = (word(0), word(4) as usize);
            if len > PART_BYTES {
                return Err(broken(ErrorKind::InvalidData.into()));
            }
            let mut delta = vec![0; len];
            body.read_exact(&mut delta).map_err(broken)?;
            if !take(number, &delta) {
                return Ok(());
            }
        }
    }
}
