//! Directories by path, in any order, with a bounded number of descriptors.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};

use super::{Birth, FsError, open_dir};

/// Bytes of paths that the cache may hold; only trees far deeper than `PATH_MAX` come near it.
const PATH_BYTES: usize = 16 << 20;

/// How many directories above a wanted one are looked for in the cache, and how many of those that had to be opened
/// on the way are kept. Usual trees are not that deep; in others this keeps one look-up from being quadratic.
const NEAR_LEVELS: usize = 32;

/// An open directory.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
    birth: OnceLock<Birth>,
}

impl Dir {
    fn new(fd: OwnedFd) -> Arc<Self> {
        Arc::new(Self {
            fd,
            birth: OnceLock::new(),
        })
    }

    /// What a file has that is made here, for [`super::apply_meta_new`]; found out once.
    ///
    /// # Errors
    /// As [`Birth::in_dir`].
    pub fn birth(&self) -> Result<Birth, FsError> {
        match self.birth.get() {
            Some(&birth) => Ok(birth),
            None => {
                let birth = Birth::in_dir(&self.fd)?;
                Ok(*self.birth.get_or_init(|| birth))
            }
        }
    }
}

impl AsFd for Dir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Finds directories below a root by path, opening one name after the other and never following a symlink.
///
/// The most recently used stay open. A directory that is handed out stays open as long as its holder keeps it.
#[derive(Debug)]
pub struct DirCache {
    root: Arc<Dir>,
    capacity: usize,
    dirs: BTreeMap<Arc<[u8]>, (u64, Arc<Dir>)>,
    by_age: BTreeMap<u64, Arc<[u8]>>,
    path_bytes: usize,
    clock: u64,
}

impl DirCache {
    /// A cache below `root` that holds at most `capacity` descriptors besides it (at least one).
    pub fn new(root: OwnedFd, capacity: usize) -> Self {
        Self {
            root: Dir::new(root),
            capacity: capacity.max(1),
            dirs: BTreeMap::new(),
            by_age: BTreeMap::new(),
            path_bytes: 0,
            clock: 0,
        }
    }

    /// The directory at `path` below the root: names joined by single `/`, nothing for the root itself.
    ///
    /// # Errors
    /// As [`open_dir`], with the path from the root, for the first name that is wrong or missing.
    pub fn open(&mut self, path: &[u8]) -> Result<Arc<Dir>, FsError> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.root));
        }
        let (mut dir, mut done) = self.nearest(path);
        let missing = path[done..].iter().filter(|&&byte| byte == b'/').count() + usize::from(done == 0);
        let mut level = 0;
        while done < path.len() {
            let start = if done == 0 { 0 } else { done + 1 };
            let end = path[start..]
                .iter()
                .position(|&byte| byte == b'/')
                .map_or(path.len(), |at| start + at);
            let fd = open_dir(&*dir, &path[start..end]).map_err(|error| error.under(&path[..done]))?;
            dir = Dir::new(fd);
            done = end;
            level += 1;
            if level + NEAR_LEVELS > missing {
                self.keep(&path[..done], &dir);
            }
        }
        Ok(dir)
    }

    /// Closes the directory at `path` and all below it, as is due when one is moved, removed or given its metadata.
    pub fn forget(&mut self, path: &[u8]) {
        let mut below = path.to_vec();
        below.push(b'/');
        let gone: Vec<_> = self
            .dirs
            .range(Arc::from(path)..)
            .map(|(kept, _)| Arc::clone(kept))
            // Names that only begin alike stand between: `a`, `a-b`, `a/c`.
            .take_while(|kept| kept.starts_with(path))
            .filter(|kept| **kept == *path || kept.starts_with(&below))
            .collect();
        for kept in gone {
            self.drop_path(&kept);
        }
    }

    /// The deepest directory on the way to `path` that is open, and how much of `path` leads to it.
    fn nearest(&mut self, path: &[u8]) -> (Arc<Dir>, usize) {
        let mut end = path.len();
        for _ in 0..NEAR_LEVELS {
            if let Some((age, dir)) = self.dirs.get_mut(&path[..end]) {
                self.clock += 1;
                if let Some(kept) = self.by_age.remove(age) {
                    self.by_age.insert(self.clock, kept);
                }
                *age = self.clock;
                return (Arc::clone(dir), end);
            }
            match path[..end].iter().rposition(|&byte| byte == b'/') {
                Some(at) => end = at,
                None => break,
            }
        }
        (Arc::clone(&self.root), 0)
    }

    fn keep(&mut self, path: &[u8], dir: &Arc<Dir>) {
        self.drop_path(path);
        self.clock += 1;
        let path: Arc<[u8]> = path.into();
        self.path_bytes += path.len();
        self.by_age.insert(self.clock, Arc::clone(&path));
        self.dirs.insert(path, (self.clock, Arc::clone(dir)));
        while self.dirs.len() > self.capacity || self.path_bytes > PATH_BYTES {
            let Some((_, oldest)) = self.by_age.pop_first() else {
                break;
            };
            self.drop_path(&oldest);
        }
    }

    fn drop_path(&mut self, path: &[u8]) {
        if let Some((age, _)) = self.dirs.remove(path) {
            self.by_age.remove(&age);
            self.path_bytes -= path.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::fs::testing::Scratch;
    use crate::fs::{Cause, make_dir, open_root, stat_fd};

    fn cache(scratch: &Scratch, capacity: usize) -> DirCache {
        DirCache::new(open_root(&scratch.path("")).unwrap(), capacity)
    }

    #[test]
    fn directories_in_any_order_within_the_capacity() {
        use std::os::unix::fs::MetadataExt;
        let scratch = Scratch::new();
        let paths: Vec<_> = (0..400).map(|i| format!("{}/{}/{i}", i % 7, i % 3)).collect();
        for path in &paths {
            fs::create_dir_all(scratch.path(path)).unwrap();
        }
        let mut cache = cache(&scratch, 10);
        for step in 0..2000 {
            let path = &paths[step * 7919 % paths.len()];
            let dir = cache.open(path.as_bytes()).unwrap();
            assert_eq!(
                stat_fd(&*dir).unwrap().ino,
                fs::metadata(scratch.path(path)).unwrap().ino()
            );
            assert!(cache.dirs.len() <= 10);
            assert_eq!(cache.dirs.len(), cache.by_age.len());
            assert_eq!(
                cache.path_bytes,
                cache.dirs.keys().map(|path| path.len()).sum::<usize>()
            );
        }
        assert_eq!(
            stat_fd(&*cache.open(b"").unwrap()).unwrap().ino,
            fs::metadata(scratch.path("")).unwrap().ino()
        );
    }

    #[test]
    fn symlinks_and_odd_paths_lead_nowhere() {
        let scratch = Scratch::new();
        fs::create_dir_all(scratch.path("a/b/c")).unwrap();
        symlink("a", scratch.path("l")).unwrap();
        let mut cache = cache(&scratch, 10);
        for path in [
            &b"l"[..],
            b"l/b",
            b"/a",
            b"a/",
            b"a//b",
            b"a/../a",
            b"./a",
            b"..",
            b"/",
        ] {
            assert!(cache.open(path).is_err(), "{path:?}");
        }
        let error = cache.open(b"a/b/none/x").unwrap_err();
        assert!(error.is_absent());
        assert_eq!(error.path(), b"a/b/none");
        assert!(matches!(cache.open(b"a/b/..").unwrap_err().cause(), Cause::Name));
    }

    #[test]
    fn forgotten_directories_are_opened_anew() {
        let scratch = Scratch::new();
        for path in ["a/b/c", "a-b", "ab"] {
            fs::create_dir_all(scratch.path(path)).unwrap();
        }
        let mut cache = cache(&scratch, 10);
        for path in [&b"a/b/c"[..], b"a-b", b"ab"] {
            cache.open(path).unwrap();
        }
        fs::rename(scratch.path("a"), scratch.path("old")).unwrap();
        assert!(cache.open(b"a/b/c").is_ok());
        cache.forget(b"a");
        assert!(cache.open(b"a/b/c").unwrap_err().is_absent());
        let kept: Vec<_> = cache.dirs.keys().map(|path| path.to_vec()).collect();
        assert_eq!(kept, [b"a-b".to_vec(), b"ab".to_vec()]);
    }

    #[test]
    fn thousands_of_levels_are_found_again() {
        let scratch = Scratch::new();
        let mut cache = cache(&scratch, 100);
        let mut path = Vec::new();
        for level in 0..2000 {
            let above = cache.open(&path).unwrap();
            let name = format!("{level:0>200}");
            make_dir(&*above, name.as_bytes()).unwrap();
            if level > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
        }
        let id = stat_fd(&*cache.open(&path).unwrap()).unwrap().ino;
        cache.forget(format!("{:0>200}", 0).as_bytes());
        assert!(cache.dirs.is_empty());
        assert_eq!(stat_fd(&*cache.open(&path).unwrap()).unwrap().ino, id);
        assert_eq!(cache.dirs.len(), NEAR_LEVELS);
        crate::fs::remove_tree(&scratch, format!("{:0>200}", 0).as_bytes()).unwrap();
    }
}
