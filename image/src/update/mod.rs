//! Update: a tree that exists becomes equal to a version, outside what the exclusion lists protect.
//!
//! 1. [`Plan::make`] compares: what is to be written, given other metadata, deleted, left alone, and which bytes the tree
//!    has already somewhere. It changes nothing.
//! 2. [`Update::begin`] builds the new files in a staging directory beside the tree, first from the tree's own bytes; the
//!    rest comes in chunks or as deltas.
//! 3. [`Update::commit`] syncs once, renames, and deletes last.
//!
//! Interrupted before 3, the tree is unchanged; interrupted in 3, it is a mix of whole old and whole new files, and the
//! next run finishes, with what was staged as one more source of bytes.

mod commit;
mod extra;
mod local;
mod plan;
mod rolling;
mod sources;

pub use commit::{Update, UpdateReport};
pub use plan::{Action, Plan, PlanOptions, Summary};
pub use rolling::{Candidate, ROLLING_BYTES, rolling_deltas};

use crate::apply::ApplyError;
use crate::fs::FsError;

/// The beginning of the staging directory's name in the root of the tree.
pub(crate) const STAGE: &[u8] = b".simulcast-stage-";

/// An update failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The tree cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file cannot be written, or its bytes cannot be used.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// Not enough space for the new files beside the old ones.
    #[error("the tree's file system has {free} free, the new files need {needed}; nothing was changed")]
    NoSpace {
        /// Free, for people.
        free: String,
        /// Needed, for people.
        needed: String,
    },
}

#[cfg(test)]
mod tests;
