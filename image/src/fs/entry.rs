//! Opening, making, linking and renaming entries: one name in one held directory.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use super::dir::wrong_kind;
use super::{Act, Cause, Device, FsError, Kind, Stat, check_name, stat_fd};

/// No link is followed, no fifo waited for, no terminal adopted, and no program that we start inherits it.
const FILE_FLAGS: OFlags = OFlags::NOFOLLOW
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Major numbers that Linux can hold: 12 bits. The kernel would silently cut more.
const MAJORS: u32 = 1 << 12;

/// Minor numbers that Linux can hold: 20 bits.
const MINORS: u32 = 1 << 20;

/// Opens the regular file `name` for reading, without changing its atime where we may ask for that, and says what it
/// is. Root can read files of mode 0000.
///
/// # Errors
/// [`Act::Open`]; [`Cause::Kind`] for anything but a regular file.
pub fn open_read(dir: impl AsFd, name: &[u8]) -> Result<(File, Stat), FsError> {
    check_name(Act::Open, name)?;
    let dir = dir.as_fd();
    let flags = FILE_FLAGS | OFlags::RDONLY;
    let opened = match rustix::fs::openat(dir, name, flags | OFlags::NOATIME, Mode::empty()) {
        Err(Errno::PERM) => rustix::fs::openat(dir, name, flags, Mode::empty()),
        other => other,
    };
    regular(opened.map_err(|errno| refused(dir, name, errno))?.into(), name)
}

/// Opens the regular file `name` for reading and writing, as when an interrupted run goes on, and says what it is.
///
/// # Errors
/// As for [`open_read`].
pub fn open_existing(dir: impl AsFd, name: &[u8]) -> Result<(File, Stat), FsError> {
    check_name(Act::Open, name)?;
    let dir = dir.as_fd();
    let opened = rustix::fs::openat(dir, name, FILE_FLAGS | OFlags::RDWR, Mode::empty());
    regular(opened.map_err(|errno| refused(dir, name, errno))?.into(), name)
}

fn refused(dir: impl AsFd, name: &[u8], errno: Errno) -> FsError {
    match errno {
        // A symlink, a socket, a device without a driver, a directory opened for writing.
        Errno::LOOP | Errno::NXIO | Errno::NODEV | Errno::ISDIR => wrong_kind(dir, name, Kind::File, errno),
        _ => FsError::new(Act::Open, name, errno),
    }
}

fn regular(file: File, name: &[u8]) -> Result<(File, Stat), FsError> {
    let found = stat_fd(&file).map_err(|error| error.under(name))?;
    if found.kind == Kind::File {
        return Ok((file, found));
    }
    let cause = Cause::Kind {
        wanted: Kind::File,
        found: found.kind,
    };
    Err(FsError::new(Act::Open, name, cause))
}

/// Makes the empty file `name`, mode 0600, open for reading and writing.
///
/// # Errors
/// [`Act::Create`], also when anything stands there already, a dangling symlink for example.
pub fn create_file(dir: impl AsFd, name: &[u8]) -> Result<File, FsError> {
    check_name(Act::Create, name)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::RDWR | OFlags::CLOEXEC;
    rustix::fs::openat(dir, name, flags, Mode::RUSR | Mode::WUSR)
        .map(File::from)
        .map_err(|errno| FsError::new(Act::Create, name, errno))
}

/// Makes the directory `name`, mode 0700.
///
/// # Errors
/// [`Act::Create`], also when anything stands there already.
pub fn make_dir(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    check_name(Act::Create, name)?;
    rustix::fs::mkdirat(dir, name, Mode::RWXU).map_err(|errno| FsError::new(Act::Create, name, errno))
}

/// Makes the symlink `name` with this target, which is stored as it is: 1 to 4,095 bytes without NUL (XFS: 1,023).
///
/// # Errors
/// [`Act::Create`], also when anything stands there already.
pub fn make_symlink(dir: impl AsFd, name: &[u8], target: &[u8]) -> Result<(), FsError> {
    check_name(Act::Create, name)?;
    rustix::fs::symlinkat(target, dir, name).map_err(|errno| FsError::new(Act::Create, name, errno))
}

/// Makes the device, fifo or socket `name`, mode 0600. `rdev` counts for devices only.
///
/// # Errors
/// [`Act::Create`]; [`Cause::Meta`] when `kind` is none of these or Linux has no such device number.
pub fn make_node(dir: impl AsFd, name: &[u8], kind: Kind, rdev: Device) -> Result<(), FsError> {
    check_name(Act::Create, name)?;
    let failed = |cause: Cause| FsError::new(Act::Create, name, cause);
    let device = rustix::fs::makedev(rdev.major, rdev.minor);
    let (file_type, number) = match kind {
        Kind::CharDevice => (FileType::CharacterDevice, device),
        Kind::BlockDevice => (FileType::BlockDevice, device),
        Kind::Fifo => (FileType::Fifo, 0),
        Kind::Socket => (FileType::Socket, 0),
        Kind::File | Kind::Dir | Kind::Symlink => {
            return Err(failed(Cause::Meta(
                "only devices, fifos and sockets are made this way",
            )));
        }
    };
    if number != 0 && (rdev.major >= MAJORS || rdev.minor >= MINORS) {
        return Err(failed(Cause::Meta("Linux has no device of this number")));
    }
    rustix::fs::mknodat(dir, name, file_type, Mode::RUSR | Mode::WUSR, number)
        .map_err(|errno| failed(errno.into()))
}

/// Gives the inode `name` in `dir` the additional name `new_name` in `new_dir`. A symlink is linked itself, not what
/// it points to.
///
/// # Errors
/// [`Act::Link`] with the new name, also when anything stands there already.
pub fn hard_link(dir: impl AsFd, name: &[u8], new_dir: impl AsFd, new_name: &[u8]) -> Result<(), FsError> {
    check_name(Act::Link, name)?;
    check_name(Act::Link, new_name)?;
    rustix::fs::linkat(dir, name, new_dir, new_name, AtFlags::empty())
        .map_err(|errno| FsError::new(Act::Link, new_name, errno))
}

/// Renames `name` in `dir` to `new_name` in `new_dir`, replacing what stands there as rename(2) does.
///
/// # Errors
/// [`Act::Rename`] with the new name.
pub fn rename(dir: impl AsFd, name: &[u8], new_dir: impl AsFd, new_name: &[u8]) -> Result<(), FsError> {
    check_name(Act::Rename, name)?;
    check_name(Act::Rename, new_name)?;
    rustix::fs::renameat(dir, name, new_dir, new_name)
        .map_err(|errno| FsError::new(Act::Rename, new_name, errno))
}

/// Exchanges two names in one step, whatever kinds they are: how a directory gives way to a file.
///
/// # Errors
/// [`Act::Rename`] with the second name; `EINVAL` where the file system cannot.
pub fn exchange(dir: impl AsFd, name: &[u8], other_dir: impl AsFd, other_name: &[u8]) -> Result<(), FsError> {
    check_name(Act::Rename, name)?;
    check_name(Act::Rename, other_name)?;
    rustix::fs::renameat_with(dir, name, other_dir, other_name, RenameFlags::EXCHANGE)
        .map_err(|errno| FsError::new(Act::Rename, other_name, errno))
}

/// The target of the symlink `name`, as it is stored.
///
/// # Errors
/// [`Act::ReadLink`]; `EINVAL` when it is no symlink.
pub fn read_link(dir: impl AsFd, name: &[u8]) -> Result<Box<[u8]>, FsError> {
    check_name(Act::ReadLink, name)?;
    rustix::fs::readlinkat(dir, name, Vec::new())
        .map(|target| target.into_bytes().into_boxed_slice())
        .map_err(|errno| FsError::new(Act::ReadLink, name, errno))
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
