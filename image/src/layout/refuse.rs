//! What must not be written over. Everything that speaks against touching a disk stands here, and is asked before the
//! first byte is written.

use simulcast_protocol::install::NodeName;

use super::{Content, DiskFacts, Plan};

/// A disk that holds something of somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} holds {found}, which this system did not put there")]
pub struct RefuseError {
    /// The device.
    pub path: String,
    /// What is on it, in words.
    pub found: String,
}

/// Refuses a plan that would erase what this system did not put on the disks, unless `wipe`.
///
/// Ours is a disk whose mark is that of `node` and still fits its partitions. Anything may be written on an empty disk.
///
/// # Errors
/// The first disk that is neither.
pub fn refuse(plan: &Plan, disks: &[DiskFacts], node: &NodeName, wipe: bool) -> Result<(), RefuseError> {
    if wipe {
        return Ok(());
    }
    for planned in &plan.disks {
        let facts = disks.iter().find(|disk| disk.path == planned.path);
        // A disk that was planned with and is gone cannot be judged.
        let content = facts.map(|disk| &disk.content);
        let kept_only = |content: &Content| {
            let kept = planned
                .partitions
                .iter()
                .filter_map(|partition| partition.keep.as_ref());
            content.signature.is_none()
                && !content.partitions.is_empty()
                && content.partitions.len() == kept.count()
        };
        if content.is_some_and(|content| content.is_empty() || is_ours(content, node) || kept_only(content)) {
            continue;
        }
        return Err(RefuseError {
            path: planned.path.clone(),
            found: content.map_or_else(|| "what cannot be read".to_owned(), Content::describe),
        });
    }
    Ok(())
}

fn is_ours(content: &Content, node: &NodeName) -> bool {
    content
        .mark
        .as_ref()
        .is_some_and(|mark| mark.node == *node && mark.holds(content))
}
