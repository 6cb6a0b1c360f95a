//! Removing one entry, or a whole tree without recursion.

use std::os::fd::AsFd;

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::{Act, Cause, DirStack, FsError, Kind, check_name, list, stat};

/// Removes the entry `name`, of any kind; a directory must be empty.
///
/// # Errors
/// [`Act::Remove`].
pub fn remove(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    check_name(Act::Remove, name)?;
    let dir = dir.as_fd();
    let removed = match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR),
        other => other,
    };
    removed.map_err(|errno| FsError::new(Act::Remove, name, errno))
}

/// The same, but that nothing stands there is right as well.
///
/// # Errors
/// [`Act::Remove`].
pub fn remove_if_there(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    gone(remove(dir, name))
}

/// Removes `name` and everything below it, as deep as it may be. What others remove meanwhile is not missed.
///
/// Nothing is removed below a mount point, also of the same file system. What was removed before an error stays
/// removed.
///
/// # Errors
/// [`Act::Remove`], [`Act::Open`] or [`Act::List`] with the path below `dir`; [`Cause::MountPoint`].
pub fn remove_tree(dir: impl AsFd, name: &[u8]) -> Result<(), FsError> {
    let dir = dir.as_fd();
    if stat(dir, name)?.kind != Kind::Dir {
        return remove(dir, name);
    }
    let root = dir
        .try_clone_to_owned()
        .map_err(|error| FsError::new(Act::Open, name, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    let mut stack = DirStack::new(root)?;
    // For each level below `dir`, the directories in it that are still to be removed.
    let mut pending = vec![enter(&mut stack, name)?];
    while let Some(dirs) = pending.last_mut() {
        if let Some(next) = dirs.pop() {
            match enter(&mut stack, &next) {
                Ok(dirs) => pending.push(dirs),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
            continue;
        }
        pending.pop();
        let emptied = stack.name().to_vec();
        stack.leave()?;
        gone(remove(stack.current(), &emptied)).map_err(|error| error.under(stack.path()))?;
    }
    Ok(())
}

/// Goes down into `name`, removes everything there but directories, and returns their names.
fn enter(stack: &mut DirStack, name: &[u8]) -> Result<Vec<Box<[u8]>>, FsError> {
    if stack.enter(name)?.mount_root {
        let path = stack.path().to_vec();
        return Err(FsError::new(Act::Remove, &path, Cause::MountPoint));
    }
    let here = stack.current();
    let named = |error: FsError| error.under(stack.path());
    let mut dirs = Vec::new();
    for (name, hint) in list(here).map_err(named)?.iter() {
        if hint == Some(Kind::Dir) {
            dirs.push(name.into());
            continue;
        }
        match rustix::fs::unlinkat(here, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => dirs.push(name.into()),
            Err(errno) => return Err(named(FsError::new(Act::Remove, name, errno))),
        }
    }
    Ok(dirs)
}

/// That an entry has gone already is what we want.
fn gone(removed: Result<(), FsError>) -> Result<(), FsError> {
    match removed {
        Err(error) if error.is_absent() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fs::testing::{Scratch, privileged};
    use crate::fs::{make_dir, open_dir};

    #[test]
    fn a_tree_goes_and_what_its_symlinks_point_to_stays() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("t/a/b")).unwrap();
        fs::create_dir_all(scratch.path("t/c")).unwrap();
        fs::create_dir(scratch.path("keep")).unwrap();
        fs::write(scratch.path("keep/file"), b"").unwrap();
        fs::write(scratch.path("t/a/b/f"), b"").unwrap();
        symlink("../../keep", scratch.path("t/a/link")).unwrap();
        symlink("keep", scratch.path("top")).unwrap();
        remove_tree(&scratch, b"t").unwrap();
        remove_tree(&scratch, b"top").unwrap();
        assert!(!scratch.path("t").exists());
        assert!(scratch.path("keep/file").exists());
        assert!(remove_tree(&scratch, b"t").unwrap_err().is_absent());
    }

    #[test]
    fn four_thousand_levels() {
        let scratch = Scratch::new();
        let mut dir = open_dir_new(&scratch, b"0");
        for level in 1..4000u32 {
            // Long names: the path is far beyond PATH_MAX.
            let name = format!("{level}-{}", "x".repeat(100));
            make_dir(&dir, b"empty").unwrap();
            dir = open_dir_new(&dir, name.as_bytes());
        }
        remove_tree(&scratch, b"0").unwrap();
        assert_eq!(list(&scratch).unwrap().len(), 0);
    }

    fn open_dir_new(dir: impl AsFd, name: &[u8]) -> std::os::fd::OwnedFd {
        make_dir(&dir, name).unwrap();
        open_dir(&dir, name).unwrap()
    }

    #[test]
    fn nothing_below_a_mount_point_is_removed() {
        if !privileged("nothing_below_a_mount_point_is_removed") {
            return;
        }
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("t/m")).unwrap();
        fs::create_dir(scratch.path("other")).unwrap();
        fs::write(scratch.path("other/file"), b"").unwrap();
        let point = scratch.path("t/m");
        rustix::mount::mount_bind(scratch.path("other"), &point).unwrap();
        let result = remove_tree(&scratch, b"t");
        rustix::mount::unmount(&point, rustix::mount::UnmountFlags::empty()).unwrap();
        let error = result.unwrap_err();
        assert!(matches!(error.cause(), Cause::MountPoint), "{error:?}");
        assert_eq!(error.path(), b"t/m");
        assert!(scratch.path("other/file").exists());
    }
}
