//! The inventory as the daemon sees it: read again when a file has changed, and the last good one while it is broken.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use super::Inventory;
use super::load::{GROUPS, InventoryError, NODES, Texts, files, load};

/// What changes when a file is written: path, inode, length, time.
type Stamp = Vec<(PathBuf, u64, u64, Option<SystemTime>)>;

/// Time for which nothing must have been written before files are read. Who writes a file in its place empties it first, and
/// an editor may put the old one aside before it makes the new one: what is seen in between has no nodes.
const QUIET: Duration = Duration::from_millis(50);

/// The same for a file with nothing in it: it is seldom meant, and a busy machine may be slow to write the rest.
const EMPTY: Duration = Duration::from_secs(2);

/// How often that is waited for at a time, a second in all.
const WAITS: u32 = 20;

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
        if seen.stamp.as_ref() == Some(&stamp(&self.config)) {
            return Arc::clone(&seen.good);
        }
        // While somebody goes on writing, what was known holds.
        if let Some((stamp, read)) = settled(&self.config) {
            seen.stamp = Some(stamp);
            seen.take(read);
        }
        Arc::clone(&seen.good)
    }

    /// What is wrong with the files, if they cannot be used.
    pub(crate) fn broken(&self) -> Option<String> {
        self.get();
        self.seen.lock().expect("no holder panics").broken.clone()
    }
}

impl Seen {
    /// Takes what was read, or complains of it.
    fn take(&mut self, read: Result<Inventory, InventoryError>) {
        match read {
            Ok(inventory) => {
                let (nodes, groups) = (inventory.nodes().len(), inventory.groups().len());
                tracing::info!(nodes, groups, "inventory read");
                self.good = Arc::new(inventory);
                self.broken = None;
            }
            Err(error) => {
                let error = format!("{:#}", anyhow::Error::new(error));
                tracing::error!(
                    error,
                    nodes = self.good.nodes().len(),
                    "the inventory is broken: going on with the last good one until it is mended"
                );
                self.broken = Some(error);
            }
        }
    }
}

/// The files once nothing has been written for a moment, nor while they were read; `None` if that does not come.
fn settled(config: &Path) -> Option<(Stamp, Result<Inventory, InventoryError>)> {
    for _ in 0..WAITS {
        let before = stamp(config);
        let rest = rest(&before, SystemTime::now());
        if rest > QUIET {
            return None;
        }
        if !rest.is_zero() {
            std::thread::sleep(rest);
            continue;
        }
        let read = load(config, &Texts::new());
        if stamp(config) == before {
            return Some((before, read));
        }
    }
    None
}

/// How long it is until nothing was written for long enough.
fn rest(stamp: &Stamp, now: SystemTime) -> Duration {
    let rest = |(_, _, len, time): &(PathBuf, u64, u64, Option<SystemTime>)| {
        // What was written in the future, by another clock, is not waited for.
        let age = now.duration_since((*time)?).ok()?;
        let quiet = if *len == 0 { EMPTY } else { QUIET };
        quiet.checked_sub(age)
    };
    stamp.iter().filter_map(rest).max().unwrap_or_default()
}

fn stamp(config: &Path) -> Stamp {
    let mut paths = Vec::new();
    for directory in [GROUPS, NODES].map(|name| config.join(name)) {
        paths.extend(files(&directory).unwrap_or_default());
        paths.push(directory);
    }
    let stamp = |path: PathBuf| {
        let metadata = fs::metadata(&path).ok();
        let (inode, len) = metadata.as_ref().map_or((0, 0), |m| (m.ino(), m.len()));
        (
            path,
            inode,
            len,
            metadata.and_then(|metadata| metadata.modified().ok()),
        )
    };
    paths.into_iter().map(stamp).collect()
}
