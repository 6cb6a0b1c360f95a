//! A tree with every edge case of metadata and content, and a comparer that finds any difference between two trees.
//!
//! The tree is the same whenever it is built: names, contents and times are fixed. Building it needs root and a file
//! system with extended attributes and ACLs that takes symlinks of 4,000 bytes (ext4, btrfs; not XFS).
//!
//! The comparer shares no code with what it judges: it reads both trees whole, by its own recursive walk, and compares
//! what it has read.

mod build;
mod compare;
#[cfg(test)]
mod copy_tests;
mod read;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use simulcast_system::command::{CommandError, Run, Tool};

pub use build::{EdgeSize, build};
pub use compare::{assert_same, differences};

/// The directory in the tree whose paths are longer than `PATH_MAX`: rsync, tar and cp cannot reach what is in it.
pub const BEYOND: &str = "beyond";

/// How long rsync may take to read both trees at full size on a busy machine.
const RSYNC_TIME: Duration = Duration::from_secs(1800);

/// What rsync would change to make `b` like `a`: one line for each entry, none when they are alike. What lies in
/// [`BEYOND`] is left out on both sides.
///
/// # Errors
/// rsync is missing or fails.
pub fn rsync_differences(a: &Path, b: &Path) -> Result<Vec<String>, CommandError> {
    let output = Run::new(Tool::Rsync)
        .args([
            "-aHAXSn",
            "--checksum",
            "--delete",
            "--itemize-changes",
            "--numeric-ids",
        ])
        .arg(format!("--exclude=/{BEYOND}/"))
        .args([a.join(""), b.join("")])
        .timeout(RSYNC_TIME)
        .run()?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}
