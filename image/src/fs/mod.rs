//! The file system, one directory descriptor and one name at a time.
//!
//! Everything here is relative to a held directory descriptor and takes a single name (see [`check_name`]), never a
//! path, and nothing follows a symlink in that name. So a tree that changes under us, or a manifest that plants a
//! symlink and then writes "below" it, cannot lead outside the target; and paths longer than `PATH_MAX` are nothing
//! special. [`DirStack`] walks a tree level by level, [`DirCache`] finds directories by path in any order; both hold a
//! bounded number of descriptors and open again from the root downwards, never through `..`.
//!
//! Linux has no system call for the extended attributes or the mode of an inode that is held without being opened
//! (`O_PATH`: symlinks, devices, fifos, sockets). These go through `/proc/self/fd`, which must be mounted.
//!
//! Owned here: what the kernel knows of an inode and how to read and write it. Unknown here: manifests, chunks,
//! exclusion lists.

mod apply;
mod cache;
mod copy;
mod dir;
mod entry;
mod error;
mod holes;
mod name;
mod pinned;
mod remove;
mod stack;
mod stat;
#[cfg(test)]
pub(crate) mod testing;
mod xattr;

pub use apply::{Birth, Limitation, LimitedPart, apply_meta_at, apply_meta_fd, apply_meta_new};
pub use cache::{Dir, DirCache};
pub use copy::{copy_data, duplicate};
pub use dir::{Listing, list, open_dir, open_root};
pub use entry::{
    create_file, exchange, hard_link, make_dir, make_node, make_symlink, open_existing, open_read, read_link,
    rename,
};
pub use error::{Act, Cause, FsError};
pub use holes::{data_of, data_ranges};
pub use name::{Shown, check_name};
pub use remove::{remove, remove_if_there, remove_tree};
pub use stack::{DirStack, OPEN_LEVELS};
pub use stat::{Device, Kind, Meta, Stat, Timestamp, Xattr, stat, stat_fd};
pub use xattr::{read_xattrs_at, read_xattrs_fd};
