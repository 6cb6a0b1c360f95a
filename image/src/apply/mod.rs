//! Apply: a version becomes a tree.
//!
//! [`Install`] writes into a directory that is empty or that an interrupted install left behind; chunks may come in any
//! order, from several threads. Going on after an interruption is the same as verifying: what is on disk and has the
//! right hash is not wanted any more. There is no journal that could be wrong.

mod compare;
mod content;
mod install;
mod places;
mod survey;
mod writer;

pub(crate) use compare::{Visitor, compare, join, subtree_ends};
pub(crate) use content::{check_content, read_exact_or_short};
pub use install::{Install, InstallReport, MARKER, Selection};
pub(crate) use writer::{Home, staged_name};
pub use writer::{Worker, Writer};

use std::io;

use crate::chunk::OpenChunkError;
use crate::fs::{FsError, Limitation};

/// Metadata that the target's file system could not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// The path below the root.
    pub path: String,
    /// What is missing.
    pub limitation: Limitation,
}

/// A version could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The target's file system refused something.
    #[error(transparent)]
    Fs(#[from] FsError),
    /// Reading or writing a file failed.
    #[error("cannot {0} /{1} in the target")]
    Io(&'static str, String, #[source] io::Error),
    /// A chunk is not what the manifest says.
    #[error(transparent)]
    Chunk(#[from] OpenChunkError),
    /// The target holds something else.
    #[error(
        "the target directory is not empty and no interrupted install stands there; choose an empty directory, or update it with si-updateclient"
    )]
    NotEmpty,
    /// The target is too small.
    #[error("the target has {free} free, the version needs {needed}; nothing was written")]
    NoSpace {
        /// Free, for people.
        free: String,
        /// Needed, for people.
        needed: String,
    },
    /// Not everything arrived.
    #[error("{0} chunks did not arrive; start again, and only those are fetched")]
    Incomplete(usize),
}
