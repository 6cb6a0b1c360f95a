//! What is mounted in a tree, and is not the tree's own.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use simulcast_system::mounts;

/// The mount points below `root` that neither a capture nor an update enters. Where the list of mounts cannot be read,
/// none: then the exclusion lists alone keep out /proc and its like.
pub(crate) fn closed(root: &Path) -> HashSet<Vec<u8>> {
    let mounts = mounts::read().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot read the list of mounts; only the exclusion lists decide");
        Vec::new()
    });
    let skipped = mounts::skipped_below(&mounts, root.as_os_str().as_bytes(), mounts::is_removable);
    skipped.into_iter().map(|skipped| skipped.path).collect()
}
