//! The torrent as standard clients know it (BEP 3, BEP 19, BEP 27, BEP 47), and what binds it to the signed version.

use std::fmt;

use sha1::{Digest, Sha1};

use super::pieces::PIECE;
use super::{PieceHash, Pieces};
use crate::id::ManifestId;
use crate::limits::PIECE_BYTES;

/// Names a swarm: the SHA-1 of the torrent's info dictionary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash(pub [u8; 20]);

/// The hashes of all pieces of a version, one after the other, as they are kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoHashes(Vec<u8>);

impl InfoHashes {
    /// Takes `bytes` for the hashes of `pieces`; `None` when there are not as many. Whether they are right only the
    /// info-hash tells.
    pub fn new(pieces: &Pieces, bytes: Vec<u8>) -> Option<Self> {
        let count = usize::try_from(pieces.count()).ok()?;
        (bytes.len() == count * 20).then_some(Self(bytes))
    }

    /// The bytes, 20 for a piece.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The hash of one piece.
    pub fn get(&self, piece: u32) -> Option<PieceHash> {
        let at = usize::try_from(piece).ok()?.checked_mul(20)?;
        let hash = self.0.get(at..at.checked_add(20)?)?;
        hash.try_into().ok().map(PieceHash)
    }
}

/// The info dictionary of a version, bencoded. It follows from the chunks of the signed manifest and the hashes alone, so
/// that a receiver makes it itself and takes nobody's word for it.
pub fn info_of(pieces: &Pieces, hashes: &InfoHashes) -> Vec<u8> {
    let mut info = Vec::with_capacity(hashes.bytes().len() + pieces.table().chunks().len() * 160);
    info.extend(b"d5:filesl");
    for (index, chunk) in pieces.table().chunks().iter().enumerate() {
        file(&mut info, "", chunk.len, &[&chunk.id.to_string()]);
        let padding = chunk.len.next_multiple_of(PIECE) - chunk.len;
        if padding > 0 {
            file(&mut info, "4:attr1:p", padding, &[".pad", &index.to_string()]);
        }
    }
    info.push(b'e');
    text(&mut info, "name");
    text(&mut info, &pieces.table().manifest().to_string());
    text(&mut info, "piece length");
    info.extend(format!("i{PIECE_BYTES}e").bytes());
    text(&mut info, "pieces");
    info.extend(format!("{}:", hashes.bytes().len()).bytes());
    info.extend(hashes.bytes());
    text(&mut info, "private");
    info.extend(b"i1ee");
    info
}

impl InfoHash {
    /// The hash of an info dictionary.
    pub fn of(info: &[u8]) -> Self {
        Self(Sha1::digest(info).into())
    }
}

/// A torrent file: `info` with the tracker and the web seed at these URLs.
pub fn metainfo(info: &[u8], announce: &str, web_seed: &str) -> Vec<u8> {
    let mut torrent = vec![b'd'];
    text(&mut torrent, "announce");
    text(&mut torrent, announce);
    text(&mut torrent, "info");
    torrent.extend(info);
    text(&mut torrent, "url-list");
    text(&mut torrent, web_seed);
    torrent.push(b'e');
    torrent
}

/// What the server signs to say that a torrent is that of a version.
pub fn statement(manifest: &ManifestId, info_hash: &InfoHash) -> Vec<u8> {
    [&manifest.as_bytes()[..], &info_hash.0].concat()
}

/// One file of the list, its keys in their order.
fn file(info: &mut Vec<u8>, attributes: &str, length: u32, path: &[&str]) {
    info.push(b'd');
    info.extend(attributes.bytes());
    text(info, "length");
    info.extend(format!("i{length}e").bytes());
    text(info, "path");
    info.push(b'l');
    for part in path {
        text(info, part);
    }
    info.extend(b"ee");
}

/// A string as bencode writes it.
fn text(out: &mut Vec<u8>, text: &str) {
    out.extend(format!("{}:{text}", text.len()).bytes());
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ChunkId;
    use crate::multicast::{ChunkInfo, ChunkTable};

    #[test]
    fn the_torrent_of_a_small_version_is_this_one() {
        let chunks = [5, PIECE]
            .map(|len| ChunkInfo {
                id: ChunkId::from_bytes([0xab; 32]),
                len,
            })
            .to_vec();
        let table = ChunkTable::new(ManifestId::from_bytes([0xcd; 32]), chunks).unwrap();
        let pieces = Pieces::new(table.into()).unwrap();
        assert_eq!(InfoHashes::new(&pieces, vec![b'h'; 39]), None);
        let hashes = InfoHashes::new(&pieces, vec![b'h'; 40]).unwrap();
        let (id, name) = ("ab".repeat(32), "cd".repeat(32));
        let info = format!(
            "d5:filesld6:lengthi5e4:pathl64:{id}eed4:attr1:p6:lengthi262139e4:pathl4:.pad1:0eed6:lengthi262144e4:\
             pathl64:{id}eee4:name64:{name}12:piece lengthi262144e6:pieces40:{}7:privatei1ee",
            "h".repeat(40)
        );
        assert_eq!(String::from_utf8(info_of(&pieces, &hashes)).unwrap(), info);
        let torrent = metainfo(info.as_bytes(), "http://a/b", "http://c/");
        let whole = format!("d8:announce10:http://a/b4:info{info}8:url-list9:http://c/e");
        assert_eq!(String::from_utf8(torrent).unwrap(), whole);
        assert_eq!(hashes.get(1), Some(PieceHash([b'h'; 20])));
        assert_eq!(hashes.get(2), None);
    }
}
