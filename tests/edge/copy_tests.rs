//! `simulcast_image::fs` put to work on the whole tree: a copier of nothing but its primitives must make an exact copy.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

use simulcast_image::fs::{self, Device, DirCache, DirStack, FsError, Kind, Limitation, Meta};

use super::*;

/// Open directories of the target: few, so that the cache is put to work.
const OPEN_DIRS: usize = 50;

struct Copier {
    target: DirCache,
    /// The first name of each inode with several.
    linked: HashMap<(Device, u64), Vec<u8>>,
    /// Directories in the order in which they were made, for their metadata at the end.
    dirs: Vec<(Vec<u8>, Meta)>,
    limitations: Vec<Limitation>,
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

impl Copier {
    /// Copies the entry `name` of the source's current directory; for a directory, says that it is to be entered.
    fn entry(&mut self, source: &DirStack, name: &[u8]) -> Result<bool, FsError> {
        let from = source.current();
        let mut found = fs::stat(from, name)?;
        found.meta.xattrs = fs::read_xattrs_at(from, name)?;
        let path = if source.path().is_empty() {
            name.to_vec()
        } else {
            [source.path(), name].join(&b'/')
        };
        let to = self.target.open(source.path())?;
        if found.kind == Kind::Dir {
            fs::make_dir(&*to, name)?;
            self.dirs.push((path, found.meta));
            return Ok(true);
        }
        if found.nlink > 1 {
            if let Some(first) = self.linked.get(&found.id()) {
                let (dir, first_name) = split(first);
                fs::hard_link(&*self.target.open(dir)?, first_name, &*to, name)?;
                return Ok(false);
            }
            self.linked.insert(found.id(), path);
        }
        let limitations = match found.kind {
            Kind::File => {
                let (file, _) = fs::open_read(from, name)?;
                let new = fs::create_file(&*to, name)?;
                copy_data(&file, &new, found.size)?;
                fs::apply_meta_new(&new, to.birth()?, &found.meta)?
            }
            Kind::Symlink => {
                fs::make_symlink(&*to, name, &fs::read_link(from, name)?)?;
                fs::apply_meta_at(&*to, name, found.kind, &found.meta)?
            }
            kind => {
                fs::make_node(&*to, name, kind, found.rdev)?;
                fs::apply_meta_at(&*to, name, kind, &found.meta)?
            }
        };
        self.limitations.extend(limitations);
        Ok(false)
    }

    fn finish_dirs(&mut self) -> Result<(), FsError> {
        for (path, meta) in self.dirs.iter().rev() {
            let (dir, name) = split(path);
            let to = self.target.open(dir)?;
            self.limitations
                .extend(fs::apply_meta_at(&*to, name, Kind::Dir, meta)?);
        }
        Ok(())
    }
}

fn copy_data(from: &File, to: &File, size: u64) -> Result<(), FsError> {
    to.set_len(size).unwrap();
    let mut buffer = vec![0; 1 << 20];
    for range in fs::data_ranges(from, size)? {
        let mut at = range.start;
        while at < range.end {
            let take = usize::try_from(range.end - at).unwrap().min(buffer.len());
            from.read_exact_at(&mut buffer[..take], at).unwrap();
            to.write_all_at(&buffer[..take], at).unwrap();
            at += take as u64;
        }
    }
    Ok(())
}

/// Copies the tree at `from` into the new directory `to`.
fn copy(from: &Path, to: &Path) -> Result<Vec<Limitation>, FsError> {
    std::fs::create_dir(to).unwrap();
    let target = fs::open_root(to)?;
    let mut copier = Copier {
        target: DirCache::new(target.try_clone().unwrap(), OPEN_DIRS),
        linked: HashMap::new(),
        dirs: Vec::new(),
        limitations: Vec::new(),
    };
    let mut source = DirStack::new(fs::open_root(from)?)?;
    let mut root_meta = fs::stat_fd(source.current())?.meta;
    root_meta.xattrs = fs::read_xattrs_fd(source.current())?;
    // What is left to copy, per level: the listing and how far it is.
    let mut levels = vec![(fs::list(source.current())?, 0)];
    while let Some((listing, next)) = levels.last_mut() {
        let Some((name, _)) = listing.get(*next) else {
            levels.pop();
            source.leave()?;
            continue;
        };
        *next += 1;
        let name = name.to_vec();
        if copier.entry(&source, &name)? {
            source.enter(&name)?;
            levels.push((fs::list(source.current())?, 0));
        }
    }
    copier.finish_dirs()?;
    let mut limitations = copier.limitations;
    limitations.extend(fs::apply_meta_fd(target.as_fd(), &root_meta)?);
    Ok(limitations)
}

fn copy_is_exact(size: EdgeSize) {
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "copying every owner needs root, and REQUIRE_TIERS is set"
        );
        eprintln!("SKIPPED: copying every owner needs root");
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
    build(&from, size).unwrap();
    assert_eq!(copy(&from, &to).unwrap(), []);
    assert_same(&from, &to);
    assert_eq!(rsync_differences(&from, &to).unwrap(), Vec::<String>::new());
    // And the whole of it goes again, read-only directories and the deepest paths included.
    let dir = fs::open_root(scratch.path()).unwrap();
    fs::remove_tree(&dir, b"to").unwrap();
    assert!(!to.exists());
}

#[test]
fn a_copy_made_of_primitives_is_exact() {
    copy_is_exact(EdgeSize::QUICK);
}

/// A directory of 100,000 entries and a file of 5 GiB take half a minute; the same code runs above.
#[test]
#[ignore = "takes half a minute; run with --ignored"]
fn a_copy_made_of_primitives_is_exact_at_full_size() {
    copy_is_exact(EdgeSize::FULL);
}
