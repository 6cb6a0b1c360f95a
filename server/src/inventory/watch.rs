//! The inventory as the daemon sees it: read again when a file has changed, and the last good one while it is broken.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::Inventory;
use super::load::{GROUPS, NODES, Texts, files, load};

/// What changes when a file is written: path, inode, length, time in nanoseconds.
type Stamp = Vec<(PathBuf, u64, u64, i128)>;

/// An inventory that follows its files.
#[derive(Debug)]
pub(crate) struct Watched {
    config: PathBuf,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    stamp: Option<Stamp>,
    good: Arc<Inventory>,
    /// What is wrong with the files as they are.
    broken: Option<String>,
}

impl Watched {
    /// Looks below `config`, now and whenever it is asked.
    pub(crate) fn new(config: &Path) -> Self {
        let watched = Self {
            config: config.to_owned(),
            seen: Mutex::default(),
        };
        watched.get();
        watched
    }

    /// The inventory by the files as they are, or as they were before they were broken.
    pub(crate) fn get(&self) -> Arc<Inventory> {
        let mut seen = self.seen.lock().expect("no holder panics");
        let stamp = stamp(&self.config);
        if seen.stamp.as_ref() != Some(&stamp) {
            match load(&self.config, &Texts::new()) {
                Ok(inventory) => {
                    let (nodes, groups) = (inventory.nodes().len(), inventory.groups().len());
                    tracing::info!(nodes, groups, "inventory read");
                    seen.good = Arc::new(inventory);
                    seen.broken = None;
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::new(error));
                    tracing::error!(
                        error,
                        nodes = seen.good.nodes().len(),
                        "the inventory is broken: going on with the last good one until it is mended"
                    );
                    seen.broken = Some(error);
                }
            }
            seen.stamp = Some(stamp);
        }
        Arc::clone(&seen.good)
    }

    /// What is wrong with the files, if they cannot be used.
    pub(crate) fn broken(&self) -> Option<String> {
        self.get();
        self.seen.lock().expect("no holder panics").broken.clone()
    }
}

fn stamp(config: &Path) -> Stamp {
    let files = [GROUPS, NODES].map(|directory| files(&config.join(directory)).unwrap_or_default());
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        let time = |m: &fs::Metadata| i128::from(m.mtime()) * 1_000_000_000 + i128::from(m.mtime_nsec());
        let (inode, len) = metadata.as_ref().map_or((0, 0), |m| (m.ino(), m.len()));
        (path, inode, len, metadata.as_ref().map_or(0, time))
    };
    files.into_iter().flatten().map(stamp).collect()
}
