//! What tests of several modules need.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::capture::{CaptureReport, Import, ScanScope, import_tree};
use crate::fs::open_root;
use crate::store::{Store, StoredVersion};

/// Bytes that no compressor makes shorter, the same for the same seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new()
        .update(&seed.to_le_bytes())
        .finalize_xof()
        .fill(&mut bytes);
    bytes
}

/// The next version of an image, of nobody in particular.
pub(crate) fn version_of(image: &str) -> Import {
    Import {
        image: image.parse().unwrap(),
        source: BTreeMap::new(),
        created: 0,
        level: 1,
        threads: 1,
    }
}

/// Makes all of a tree the next version of an image.
pub(crate) fn import(store: &Store, image: &str, tree: &Path) -> (StoredVersion, CaptureReport) {
    let scope = ScanScope {
        excluded: &|_, _| false,
        closed: &HashSet::new(),
    };
    let begun = Instant::now();
    loop {
        match import_tree(store, open_root(tree).unwrap(), &scope, version_of(image)) {
            Ok(imported) => return imported,
            // A test beside this one has just forked to start rsync: for a moment, its child holds our lock as well.
            Err(error)
                if error.to_string().contains("another capture")
                    && begun.elapsed() < Duration::from_secs(10) =>
            {
                std::thread::yield_now();
            }
            Err(error) => panic!("{error}"),
        }
    }
}
