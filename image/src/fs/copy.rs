//! Copying what is open: descriptors, and the data of files.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;

use super::{Act, FsError, data_of, stat_fd};

/// A further descriptor of the same open file or directory.
///
/// # Errors
/// [`Act::Open`] when the process has no descriptor left.
pub fn duplicate(fd: impl AsFd) -> Result<OwnedFd, FsError> {
    let copy = fd.as_fd().try_clone_to_owned();
    copy.map_err(|error| FsError::new(Act::Open, b"", Errno::from_io_error(&error).unwrap_or(Errno::IO)))
}

/// Copies the data of `from` to the empty file `to` inside the kernel, leaving holes as they are.
///
/// # Errors
/// What reading or writing says.
pub fn copy_data(from: &File, to: &File) -> io::Result<()> {
    let stat = stat_fd(from).map_err(io::Error::other)?;
    to.set_len(stat.size)?;
    for range in data_of(from, &stat).map_err(io::Error::other)? {
        let (mut read, mut write) = (range.start, range.start);
        while read < range.end {
            let left = usize::try_from(range.end - read).unwrap_or(usize::MAX);
            if rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut write), left)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}
