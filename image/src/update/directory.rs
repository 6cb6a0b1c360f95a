//! The one directory to which an update can be confined.

use std::os::fd::OwnedFd;

use super::UpdateError;
use crate::fs::{self, DirCache};

/// Whether a path is the wanted directory, lies in it, or leads to it.
pub(super) fn reaches(wanted: &[u8], path: &[u8]) -> bool {
    let (short, long) = if path.len() < wanted.len() {
        (path, wanted)
    } else {
        (wanted, path)
    };
    short.is_empty()
        || long
            .strip_prefix(short)
            .is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

/// Refuses a directory that is not reached through directories of the tree.
pub(super) fn check_directory(root: &OwnedFd, wanted: &[u8]) -> Result<(), UpdateError> {
    let Some(last) = wanted.iter().rposition(|&byte| byte == b'/') else {
        return Ok(());
    };
    let above = &wanted[..last];
    match DirCache::new(fs::duplicate(root)?, 1).open(above) {
        Err(error) if error.is_absent() || error.is_not_a_directory() => {
            Err(UpdateError::NoDirectory(fs::Shown(above).to_string()))
        }
        Err(error) => Err(error.into()),
        Ok(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_to_the_directory_and_what_lies_in_it_is_reached() {
        for path in ["", "a", "a/b", "a/b/c", "a/b/c/d"] {
            assert!(reaches(b"a/b", path.as_bytes()), "{path}");
        }
        for path in ["b", "ab", "a/bc", "a/c", "a/c/b"] {
            assert!(!reaches(b"a/b", path.as_bytes()), "{path}");
        }
        assert!(reaches(b"", b"anything/at/all"));
    }
}
