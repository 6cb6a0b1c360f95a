//! The list of what stood where before an update: its bytes.
//!
//! A line of text that names the format, the BLAKE3 of what follows, then postcard. It lies in a directory of root's on the
//! machine itself; still every length is bounded, and every path is one that could have been in a tree.

use serde::{Deserialize, Serialize};

use super::UpdateError;
use crate::fs::{Act, Device, Kind as FsKind, Meta, check_name};
use crate::manifest::Kind;
use crate::update::rank::{Rank, rank_of};

const MAGIC: &[u8] = b"simulcast undo 1\n";
const HASH_BYTES: usize = 32;

/// What stood at one path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Names joined by `/`; empty for the root.
    pub(super) path: Vec<u8>,
    pub(super) was: Was,
}

/// What it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Was {
    /// Nothing.
    Absent,
    /// A directory with these metadata.
    Directory(Meta),
    /// A file that was kept under this number. Further names of one inode have the same.
    File { kept: u32, meta: Meta },
    /// A symlink with this target.
    Symlink(Box<[u8]>, Meta),
    /// A device, fifo or socket.
    Node(FsKind, Device, Meta),
    /// The same thing as now, with these metadata.
    Meta(FsKind, Meta),
}

impl Record {
    /// When it is put back, as things are put in place by an update.
    pub(super) fn rank(&self) -> Rank {
        match &self.was {
            Was::Directory(_) => rank_of(&self.path, &Kind::Directory),
            Was::Symlink(target, _) => rank_of(&self.path, &Kind::Symlink(target.clone())),
            _ => rank_of(&self.path, &Kind::Fifo),
        }
    }

    /// The number of the file that was kept.
    pub(super) fn kept(&self) -> Option<u32> {
        match self.was {
            Was::File { kept, .. } => Some(kept),
            _ => None,
        }
    }
}

pub(super) fn encode(records: &[Record]) -> Vec<u8> {
    let body = postcard::to_stdvec(records).expect("records are plain data");
    [MAGIC, blake3::hash(&body).as_bytes(), &body].concat()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Vec<Record>, UpdateError> {
    let wrong = || UpdateError::Undo("it is damaged, or of another version of this program");
    let (hash, body) = bytes
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_at_checked(HASH_BYTES))
        .ok_or_else(wrong)?;
    if blake3::hash(body).as_bytes() != hash {
        return Err(wrong());
    }
    let records: Vec<Record> = postcard::from_bytes(body).map_err(|_| wrong())?;
    let sound = |record: &Record| {
        let mut names = record.path.split(|&byte| byte == b'/');
        record.path.is_empty() || names.all(|name| check_name(Act::Open, name).is_ok())
    };
    if records.iter().all(sound) {
        Ok(records)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_damaged_is_refused() {
        let records = vec![
            Record {
                path: b"etc/a".to_vec(),
                was: Was::File {
                    kept: 7,
                    meta: Meta::default(),
                },
            },
            Record {
                path: Vec::new(),
                was: Was::Directory(Meta::default()),
            },
        ];
        let bytes = encode(&records);
        assert_eq!(decode(&bytes).unwrap(), records);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(decode(&damaged).is_err(), "{at}");
            assert!(decode(&bytes[..at]).is_err(), "{at}");
        }
        let outside = Record {
            path: b"../etc".to_vec(),
            was: Was::Absent,
        };
        assert!(decode(&encode(&[outside])).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in any::<Vec<u8>>()) {
            let bytes = [MAGIC, blake3::hash(&body).as_bytes(), &body].concat();
            drop(decode(&bytes));
        }
    }
}
