//! Extended attributes: reading all of an inode's, setting and removing one.

use std::os::fd::AsFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{self, XattrFlags};
use rustix::io::Errno;
use simulcast_protocol::limits;

use super::pinned::{Handle, Source, explain, proc_path};
use super::{Act, Cause, FsError, Xattr, check_name};

/// What a list or value usually fits in; tried first.
const USUAL_BYTES: usize = 1 << 10;

/// `XATTR_LIST_MAX` of Linux: no list of names is longer.
const LIST_BYTES: usize = 64 << 10;

/// All extended attributes of `name` in `dir`, sorted by name; of a symlink itself, of a device without opening it.
/// Empty where the file system has none.
///
/// # Errors
/// [`Act::ReadXattrs`]; [`Cause::Bound`] above [`limits::XATTRS`].
pub fn read_xattrs_at(dir: impl AsFd, name: &[u8]) -> Result<Vec<Xattr>, FsError> {
    check_name(Act::ReadXattrs, name)?;
    let path = proc_path(dir.as_fd(), Some(name));
    read(Source::Named(&path)).map_err(|cause| FsError::new(Act::ReadXattrs, name, cause))
}

/// All extended attributes of an open file or directory, sorted by name. Empty where the file system has none.
///
/// # Errors
/// [`Act::ReadXattrs`] with an empty path; [`Cause::Bound`] above [`limits::XATTRS`].
pub fn read_xattrs_fd(fd: impl AsFd) -> Result<Vec<Xattr>, FsError> {
    read(Source::Held(Handle::Open(fd.as_fd()))).map_err(|cause| FsError::new(Act::ReadXattrs, b"", cause))
}

fn read(source: Source<'_>) -> Result<Vec<Xattr>, Cause> {
    let names = names(source)?;
    let mut xattrs = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        if xattrs.len() == limits::XATTRS {
            return Err(Cause::Bound("it has more than 1,024 extended attributes"));
        }
        match source.get(name) {
            Ok(value) => xattrs.push(Xattr {
                name: name.into(),
                value: value.into_boxed_slice(),
            }),
            // It was removed since we listed it, or is listed without being readable, as some network file systems do.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(explain(source, errno)),
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// The names of all extended attributes, each followed by a NUL; empty where the file system has none.
pub(super) fn names(source: Source<'_>) -> Result<Vec<u8>, Cause> {
    match with_buffer(LIST_BYTES, |buffer| source.list(buffer)) {
        Err(Errno::OPNOTSUPP) => Ok(Vec::new()),
        other => other.map_err(|errno| explain(source, errno)),
    }
}

/// Calls `fill` with a buffer of the usual size, and once more with `largest` when that was too small.
fn with_buffer(
    largest: usize,
    fill: impl Fn(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    let mut buffer = Vec::with_capacity(USUAL_BYTES);
    match fill(&mut buffer) {
        Err(Errno::RANGE) => {}
        done => return done.map(|_| buffer),
    }
    buffer.clear();
    buffer.reserve(largest);
    fill(&mut buffer)?;
    buffer.shrink_to_fit();
    Ok(buffer)
}

impl Source<'_> {
    fn list(self, buffer: &mut Vec<u8>) -> Result<usize, Errno> {
        let space = spare_capacity(buffer);
        match self {
            Self::Held(Handle::Open(fd)) => fs::flistxattr(fd, space),
            Self::Held(Handle::Pinned(path)) => fs::listxattr(path, space),
            Self::Named(path) => fs::llistxattr(path, space),
        }
    }

    fn get(self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        with_buffer(limits::XATTR_BYTES, |buffer| {
            let space = spare_capacity(buffer);
            match self {
                Self::Held(Handle::Open(fd)) => fs::fgetxattr(fd, name, space),
                Self::Held(Handle::Pinned(path)) => fs::getxattr(path, name, space),
                Self::Named(path) => fs::lgetxattr(path, name, space),
            }
        })
    }
}

impl Handle<'_> {
    /// Sets one attribute, whether or not it was there.
    pub(super) fn set(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Self::Open(fd) => fs::fsetxattr(fd, name, value, flags),
            Self::Pinned(path) => fs::setxattr(path, name, value, flags),
        }
    }

    /// Removes one attribute; that it is gone already is no error.
    pub(super) fn remove(self, name: &[u8]) -> Result<(), Errno> {
        let removed = match self {
            Self::Open(fd) => fs::fremovexattr(fd, name),
            Self::Pinned(path) => fs::removexattr(path, name),
        };
        match removed {
            Err(Errno::NODATA) => Ok(()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs as std_fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fs::testing::{Scratch, privileged};
    use crate::fs::{Device, Kind, make_node, open_read};

    fn set(scratch: &Scratch, file: &str, name: &str, value: &[u8]) {
        fs::lsetxattr(scratch.path(file), name, value, XattrFlags::empty()).unwrap();
    }

    #[test]
    fn attributes_of_every_kind_of_inode_without_opening_it() {
        if !privileged("attributes_of_every_kind_of_inode_without_opening_it") {
            return;
        }
        let scratch = Scratch::new();
        std_fs::write(scratch.path("f"), b"").unwrap();
        std_fs::create_dir(scratch.path("d")).unwrap();
        symlink("f", scratch.path("l")).unwrap();
        let null = Device { major: 1, minor: 3 };
        make_node(&scratch, b"c", Kind::CharDevice, null).unwrap();
        make_node(&scratch, b"p", Kind::Fifo, null).unwrap();
        make_node(&scratch, b"s", Kind::Socket, null).unwrap();
        for name in ["f", "d", "l", "c", "p", "s"] {
            assert_eq!(read_xattrs_at(&scratch, name.as_bytes()).unwrap(), []);
            set(&scratch, name, "trusted.z", name.as_bytes());
            set(&scratch, name, "trusted.a", b"");
            let read = read_xattrs_at(&scratch, name.as_bytes()).unwrap();
            let pairs: Vec<_> = read.iter().map(|x| (&*x.name, &*x.value)).collect();
            assert_eq!(
                pairs,
                [(&b"trusted.a"[..], &b""[..]), (b"trusted.z", name.as_bytes())]
            );
        }
        let (file, _) = open_read(&scratch, b"f").unwrap();
        assert_eq!(
            read_xattrs_fd(&file).unwrap(),
            read_xattrs_at(&scratch, b"f").unwrap()
        );
    }

    #[test]
    fn long_lists_and_values_are_read_whole() {
        if !privileged("long_lists_and_values_are_read_whole") {
            return;
        }
        let scratch = Scratch::new();
        std_fs::write(scratch.path("f"), b"").unwrap();
        set(&scratch, "f", "trusted.big", &[7; 2000]);
        for i in 0..20 {
            set(&scratch, "f", &format!("trusted.{i:02}{}", "n".repeat(60)), b"v");
        }
        let read = read_xattrs_at(&scratch, b"f").unwrap();
        assert_eq!(read.len(), 21);
        assert_eq!(read[20].value.len(), 2000);
    }

    #[test]
    fn what_is_not_there_is_said() {
        let scratch = Scratch::new();
        assert!(read_xattrs_at(&scratch, b"none").unwrap_err().is_absent());
        assert!(matches!(
            read_xattrs_at(&scratch, b"a/b").unwrap_err().cause(),
            Cause::Name
        ));
    }
}
