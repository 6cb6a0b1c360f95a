//! Tar archives: import as the next version of an image, also of container images in one, and export of a version.
//!
//! Read are the formats that are in use: the first tar, POSIX ustar and pax, GNU with its long names and sparse files
//! in all four of its ways. Written is pax, because nothing else has room for nanoseconds, extended attributes and
//! owners of any size. Both work on streams: nothing is sought, no temporary file is made, and memory is bounded by the
//! number of paths, not by contents.
//!
//! Extended attributes are in pax records `SCHILY.xattr.NAME` as GNU tar, bsdtar and star write them. ACLs are written
//! in that way and as the text that `tar --acls` wants, and read in either. What pax cannot hold are sockets, which are
//! left out with a note.

mod acl;
mod export;
#[cfg(test)]
mod hostile_tests;
mod import;
mod member;
mod oci;
#[cfg(test)]
mod oci_tests;
mod pax;
mod read;
#[cfg(test)]
mod tests;
mod tree;
mod unpack;

pub use export::{ExportReport, export_tar};
pub use import::{TarReport, import_oci, import_tar};

use std::io;

use crate::fs::Shown;
use crate::store::StoreError;

/// A tar archive cannot be imported, or a version not exported. There is no new version.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// Its bytes cannot be read.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// Its bytes cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// It is something else.
    #[error("this is no tar archive: its first header does not add up")]
    NotTar,
    /// It is compressed.
    #[error("the archive is compressed; unpack it on the way: {0} -dc FILE | si-import NAME --tar -")]
    Compressed(&'static str),
    /// It ends too early.
    #[error("the archive was cut short: it ends at byte {0}, {1}")]
    Short(u64, &'static str),
    /// A header is damaged.
    #[error("the archive is damaged: the header at byte {0} {1}")]
    Header(u64, &'static str),
    /// A member cannot be taken.
    #[error("member {0} of the archive {1}")]
    Member(String, &'static str),
    /// A member is below something that is no directory.
    #[error(
        "member {0} of the archive lies below /{1}, which is not a directory; such a member could leave the target"
    )]
    Below(String, String),
    /// A hard link to nothing.
    #[error(
        "member {0} of the archive is a hard link to {1}, which does not stand before it or was excluded"
    )]
    Link(String, String),
    /// A container image in an archive cannot be taken.
    #[error("this is no container image that can be imported: {0} {1}")]
    Oci(&'static str, String),
    /// More members than a version holds.
    #[error("the archive has more paths than a version can hold (16 million): exclude some")]
    TooMany,
    /// The store cannot take it, or cannot give what is wanted.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TarError {
    fn member(path: &[u8], what: &'static str) -> Self {
        Self::Member(Shown(path).to_string(), what)
    }
}
