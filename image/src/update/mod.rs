//! Update: a tree that exists becomes equal to a version, outside what the exclusion lists protect.
//!
//! 1. [`Plan::make`] compares: what is to be written, given other metadata, deleted, left alone, and which bytes the tree
//!    has already somewhere. It changes nothing.
//! 2. [`Update::begin`] builds the new files in a staging directory beside the tree, first from the tree's own bytes; the
//!    rest comes in chunks or as deltas.
//! 3. [`Update::commit`] syncs once, keeps what will be replaced, puts everything in place by renames, libraries before
//!    programs and kernels before what names them, and deletes last. No file is ever written where it stands.
//! 4. [`Rollback`] brings back what the last update kept, without a server.
//!
//! Interrupted before 3, the tree is unchanged; interrupted in 3, it is a mix of whole old and whole new files, which the
//! next run finishes, with what was staged as one more source of bytes, and a rollback undoes.

mod bytes;
mod commit;
mod directory;
mod extra;
mod keep;
mod local;
mod place;
mod plan;
mod rank;
mod rolling;
mod sources;
mod touched;

pub use bytes::BytesBySource;
pub use commit::{CommitOptions, Placed, Update, UpdateReport};
pub use keep::{Rollback, RollbackReport, RollbackSummary, settle_kept};
pub use plan::{Action, Plan, PlanOptions, Summary};
pub use rolling::{Candidate, ROLLING_BYTES, rolling_deltas};
pub use touched::BootFiles;

use crate::apply::ApplyError;
use crate::fs::FsError;

/// The beginning of the staging directory's name in the root of the tree.
pub(crate) const STAGE: &[u8] = b".simulcast-stage-";

/// The directory in the root of the tree with what the last updates replaced.
pub(crate) const KEPT: &[u8] = b".simulcast-kept";

/// How many updates can be undone when nobody says: the last, and the one before it.
pub const KEPT_UPDATES: usize = 2;

/// An update failed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The tree cannot be read or written.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// A file cannot be written, or its bytes cannot be used.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The directory that is to be updated does not stand where the version has it.
    #[error("/{0} is no directory of this tree: only what lies in it is to be updated")]
    NoDirectory(String),
    /// What an update kept cannot be used.
    #[error("cannot use what the last update kept: {0}")]
    Undo(&'static str),
    /// A directory stands where a rollback has to put something else, and holds what the update did not put there.
    #[error(
        "/{0} was no directory before the update, and now holds files that were put there since; move them away"
    )]
    Occupied(String),
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
