//! Files that go with orders: overrides as tar archives, and scripts.
//!
//! A file is kept under the BLAKE3 of its bytes in `extras/` of the state directory, so that a node gets what its order
//! says even when the operator changes the configuration meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use simulcast_image::order::Extra;
use simulcast_protocol::exclusion::Script;
use simulcast_protocol::id::ContentId;
use simulcast_protocol::install::limits::{OVERRIDE_BYTES, OVERRIDE_ENTRIES, SCRIPT_BYTES, SCRIPTS};

/// How long a file is kept that no new order has needed.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Overrides or scripts cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtraError {
    /// A file or directory cannot be read.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// It cannot be kept.
    #[error("cannot write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// It is too much.
    #[error("{} is too large: overrides of one image, group or node may have {OVERRIDE_ENTRIES} files and 1 GiB, a script 1 MiB", .0.display())]
    Large(PathBuf),
    /// There are too many of them.
    #[error("{} has more than {SCRIPTS} scripts", .0.display())]
    Many(PathBuf),
    /// A script that travels as text.
    #[error("{} is no text in UTF-8, as scripts that run around updates must be", .0.display())]
    Text(PathBuf),
    /// A file with a name that a script cannot have.
    #[error("{} is no script: name it NNname, as in 10network, with letters, digits, '.', '_' and '-'", .0.display())]
    Name(PathBuf),
}

/// The files of orders.
#[derive(Debug)]
pub(crate) struct Extras {
    directory: PathBuf,
    /// What was packed, by the state that the tree was in.
    packed: Mutex<BTreeMap<PathBuf, (blake3::Hash, Extra)>>,
}

impl Extras {
    /// Those below the directory `state`.
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            directory: state.join("extras"),
            packed: Mutex::default(),
        }
    }

    /// Where the file with this identity is, if we have it.
    pub(crate) fn path(&self, hash: &ContentId) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    /// The overrides in `tree`, packed; `None` when there is no such directory, or nothing in it.
    ///
    /// # Errors
    /// [`ExtraError`].
    pub(crate) fn overrides(&self, name: &str, tree: &Path) -> Result<Option<Extra>, ExtraError> {
        let entries = entries(tree)?;
        if entries.is_empty() {
            return Ok(None);
        }
        let state = fingerprint(&entries);
        let known = self.packed.lock().expect("no holder panics").get(tree).cloned();
        if let Some((_, extra)) = known.filter(|(was, extra)| *was == state && self.is_kept(&extra.hash)) {
            return Ok(Some(extra));
        }
        let (hash, bytes) = self.keep(|file| pack(tree, &entries, file))?;
        if bytes > OVERRIDE_BYTES {
            return Err(ExtraError::Large(tree.to_owned()));
        }
        let extra = Extra {
            name: name.to_owned(),
            hash,
            bytes,
        };
        self.packed
            .lock()
            .expect("no holder panics")
            .insert(tree.to_owned(), (state, extra.clone()));
        Ok(Some(extra))
    }

    /// The scripts in a directory, in the order in which they run: those whose names begin with two digits.
    ///
    /// # Errors
    /// [`ExtraError`].
    pub(crate) fn scripts(&self, directory: &Path) -> Result<Vec<Extra>, ExtraError> {
        script_paths(directory)?
            .iter()
            .map(|path| self.script(path))
            .collect()
    }

    fn script(&self, path: &Path) -> Result<Extra, ExtraError> {
        let failed = |error| ExtraError::Read(path.to_owned(), error);
        let (name, text) = read_script(path)?;
        let (mut hash, mut bytes) = (ContentId::of(&text), text.len() as u64);
        if !self.is_kept(&hash) {
            (hash, bytes) = self.keep(|file| file.write_all(&text).map_err(failed))?;
        }
        Ok(Extra { name, hash, bytes })
    }

    /// Removes files that no order has needed for a week.
    pub(crate) fn collect(&self) {
        let Ok(listed) = fs::read_dir(&self.directory) else {
            return;
        };
        for entry in listed.flatten() {
            let age =
                |metadata: fs::Metadata| SystemTime::now().duration_since(metadata.modified().ok()?).ok();
            if entry.metadata().ok().and_then(age).is_some_and(|age| age > KEPT) {
                // The next start tries again.
                drop(fs::remove_file(entry.path()));
            }
        }
    }

    fn is_kept(&self, hash: &ContentId) -> bool {
        // It is young again: a new order needs it.
        File::open(self.path(hash))
            .and_then(|file| file.set_modified(SystemTime::now()))
            .is_ok()
    }

    /// Keeps what `write` writes: its identity and length.
    fn keep(
        &self,
        write: impl FnOnce(&mut Hashing) -> Result<(), ExtraError>,
    ) -> Result<(ContentId, u64), ExtraError> {
        let temporary = self.directory.join(format!(
            ".{}.{:016x}.tmp",
            std::process::id(),
            rand::random::<u64>()
        ));
        let failed = |error| ExtraError::Write(temporary.clone(), error);
        fs::create_dir_all(&self.directory).map_err(failed)?;
        // Overrides hold secrets of nodes.
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)
            .map_err(failed)?;
        let mut file = Hashing {
            file,
            hasher: blake3::Hasher::new(),
            bytes: 0,
        };
        let written = write(&mut file).and_then(|()| {
            let hash = ContentId::from_bytes(*file.hasher.finalize().as_bytes());
            file.file.sync_all().map_err(failed)?;
            fs::rename(&temporary, self.path(&hash)).map_err(failed)?;
            Ok((hash, file.bytes))
        });
        if written.is_err() {
            // The first error is the one that counts.
            drop(fs::remove_file(&temporary));
        }
        written
    }
}

/// The scripts in a directory as texts, in the order in which they run.
///
/// # Errors
/// [`ExtraError`].
pub(crate) fn script_texts(directory: &Path) -> Result<Vec<Script>, ExtraError> {
    let read = |path: PathBuf| {
        let (name, text) = read_script(&path)?;
        let text = String::from_utf8(text).map_err(|_| ExtraError::Text(path))?;
        Ok(Script { name, text })
    };
    script_paths(directory)?.into_iter().map(read).collect()
}

/// The paths of the scripts in a directory, in the order in which they run: those whose names begin with two digits.
fn script_paths(directory: &Path) -> Result<Vec<PathBuf>, ExtraError> {
    let failed = |error| ExtraError::Read(directory.to_owned(), error);
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths = Vec::new();
    for entry in listed {
        let path = entry.map_err(failed)?.path();
        // What editors leave behind, and notes.
        let numbered = |name: &std::ffi::OsStr| name.as_bytes().iter().take(2).all(u8::is_ascii_digit);
        if path.is_file()
            && path
                .file_name()
                .is_some_and(|name| name.len() > 2 && numbered(name))
        {
            paths.push(path);
        }
    }
    if paths.len() > SCRIPTS {
        return Err(ExtraError::Many(directory.to_owned()));
    }
    paths.sort();
    Ok(paths)
}

/// The name and the bytes of a script.
fn read_script(path: &Path) -> Result<(String, Vec<u8>), ExtraError> {
    let failed = |error| ExtraError::Read(path.to_owned(), error);
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .filter(|name| name.chars().all(plain));
    let name = name.ok_or_else(|| ExtraError::Name(path.to_owned()))?;
    if fs::metadata(path).map_err(failed)?.len() > SCRIPT_BYTES {
        return Err(ExtraError::Large(path.to_owned()));
    }
    Ok((name.to_owned(), fs::read(path).map_err(failed)?))
}

/// A file that is hashed while it is written.
struct Hashing {
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes += bytes.len() as u64;
        if self.bytes > OVERRIDE_BYTES {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                "overrides may have 1 GiB",
            ));
        }
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// All that is below a directory, by path.
///
/// # Errors
/// [`ExtraError::Read`], [`ExtraError::Large`].
pub(crate) fn entries(tree: &Path) -> Result<BTreeMap<PathBuf, fs::Metadata>, ExtraError> {
    let (mut entries, mut directories) = (BTreeMap::new(), vec![tree.to_owned()]);
    while let Some(directory) = directories.pop() {
        let failed = |error| ExtraError::Read(directory.clone(), error);
        let listed = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound && directory == tree => return Ok(entries),
            other => other.map_err(failed)?,
        };
        for entry in listed {
            let path = entry.map_err(failed)?.path();
            let metadata =
                fs::symlink_metadata(&path).map_err(|error| ExtraError::Read(path.clone(), error))?;
            if metadata.is_dir() {
                directories.push(path.clone());
            }
            entries.insert(path, metadata);
            if entries.len() > OVERRIDE_ENTRIES {
                return Err(ExtraError::Large(tree.to_owned()));
            }
        }
    }
    Ok(entries)
}

/// What changes when something in a tree does.
fn fingerprint(entries: &BTreeMap<PathBuf, fs::Metadata>) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    for (path, m) in entries {
        hasher.update(path.as_os_str().as_bytes());
        let times = [m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec()].map(i64::cast_unsigned);
        let numbers = [
            m.ino(),
            m.len(),
            m.mode().into(),
            m.uid().into(),
            m.gid().into(),
            m.rdev(),
        ];
        for number in numbers.into_iter().chain(times) {
            hasher.update(&number.to_le_bytes());
        }
    }
    hasher.finalize()
}

/// Packs a tree with numeric owners, names relative to it.
fn pack(tree: &Path, entries: &BTreeMap<PathBuf, fs::Metadata>, to: &mut Hashing) -> Result<(), ExtraError> {
    let mut builder = tar::Builder::new(to);
    builder.follow_symlinks(false);
    builder.sparse(false);
    for path in entries.keys() {
        let name = path.strip_prefix(tree).unwrap_or(path);
        let packed = builder.append_path_with_name(path, name);
        packed.map_err(|error| ExtraError::Read(path.clone(), error))?;
    }
    let packed = builder.finish();
    packed.map_err(|error| ExtraError::Read(tree.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn overrides_are_packed_once_and_again_when_they_change() {
        let site = tempfile::tempdir().unwrap();
        let (extras, tree) = (Extras::new(site.path()), site.path().join("overrides/node/n1"));
        assert_eq!(extras.overrides("node/n1", &tree).unwrap(), None);
        fs::create_dir_all(tree.join("etc")).unwrap();
        fs::write(tree.join("etc/motd"), "hello").unwrap();
        fs::set_permissions(tree.join("etc/motd"), fs::Permissions::from_mode(0o640)).unwrap();
        symlink("motd", tree.join("etc/issue")).unwrap();
        let first = extras.overrides("node/n1", &tree).unwrap().unwrap();
        let path = extras.path(&first.hash);
        assert_eq!(fs::metadata(&path).unwrap().len(), first.bytes);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(ContentId::of(&fs::read(&path).unwrap()), first.hash);
        let mut archive = tar::Archive::new(File::open(&path).unwrap());
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                (
                    entry.path().unwrap().into_owned(),
                    entry.header().mode().unwrap() & 0o777,
                )
            })
            .collect();
        let names: Vec<_> = names
            .iter()
            .map(|(path, mode)| (path.to_str().unwrap(), *mode))
            .collect();
        assert_eq!(
            (names[0].0, names[1].0, names[2]),
            ("etc", "etc/issue", ("etc/motd", 0o640))
        );
        assert_eq!(extras.overrides("node/n1", &tree).unwrap(), Some(first.clone()));
        assert_eq!(
            Extras::new(site.path()).overrides("node/n1", &tree).unwrap(),
            Some(first.clone())
        );
        fs::write(tree.join("etc/motd"), "other").unwrap();
        assert_ne!(extras.overrides("node/n1", &tree).unwrap(), Some(first));
        assert_eq!(
            fs::read_dir(site.path().join("extras")).unwrap().count(),
            2,
            "nothing half written is left"
        );
    }

    #[test]
    fn scripts_run_by_number_and_notes_do_not() {
        let site = tempfile::tempdir().unwrap();
        let (extras, directory) = (Extras::new(site.path()), site.path().join("post-install.d"));
        assert_eq!(extras.scripts(&directory).unwrap(), []);
        fs::create_dir(&directory).unwrap();
        for name in ["20b", "10a", "README", "10a~x", ".10c"] {
            fs::write(directory.join(name), name).unwrap();
        }
        assert!(matches!(extras.scripts(&directory), Err(ExtraError::Name(path)) if path.ends_with("10a~x")));
        fs::remove_file(directory.join("10a~x")).unwrap();
        let scripts = extras.scripts(&directory).unwrap();
        let names: Vec<_> = scripts.iter().map(|extra| extra.name.as_str()).collect();
        assert_eq!(names, ["10a", "20b"]);
        assert_eq!(fs::read(extras.path(&scripts[1].hash)).unwrap(), b"20b");
        File::create(directory.join("30big"))
            .unwrap()
            .set_len(SCRIPT_BYTES + 1)
            .unwrap();
        assert!(matches!(extras.scripts(&directory), Err(ExtraError::Large(_))));
    }

    #[test]
    fn old_files_go_and_needed_ones_stay() {
        let site = tempfile::tempdir().unwrap();
        let (extras, directory) = (Extras::new(site.path()), site.path().join("d"));
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join("10a"), "a").unwrap();
        fs::write(directory.join("11b"), "b").unwrap();
        let scripts = extras.scripts(&directory).unwrap();
        let old = SystemTime::now() - KEPT - Duration::from_secs(60);
        File::open(extras.path(&scripts[0].hash))
            .unwrap()
            .set_modified(old)
            .unwrap();
        extras.collect();
        let there = |extra: &Extra| extras.path(&extra.hash).exists();
        assert_eq!((there(&scripts[0]), there(&scripts[1])), (false, true));
    }
}
