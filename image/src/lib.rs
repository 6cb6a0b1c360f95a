//! What an image is: its file system as data, and how that is read from and written to a disk.

#![forbid(unsafe_code)]

pub mod delta;
pub mod filter;
pub mod fs;
