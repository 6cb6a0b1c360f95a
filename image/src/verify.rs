//! Comparing a tree with a version: what is missing, other than it should be, or there besides.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;

use rustix::fs::fstatfs;
use serde::{Deserialize, Serialize};
use simulcast_protocol::limits::PART_BYTES;

use crate::apply::{ApplyError, MARKER, Visitor, check_content, compare, join};
use crate::filter::Side;
use crate::fs::{self, Device, DirStack, Kind as FsKind, Shown, Stat};
use crate::manifest::{Entry, FileContent, Kind, Manifest};

/// Paths that are named; a disk that is broken may have a million. All are counted.
pub const NAMED_PATHS: usize = 1000;

/// What the names of our own files in the root of a tree begin with.
const OURS: &[u8] = b".simulcast-";

/// What `statfs` calls FAT, which has neither owners nor modes nor nanoseconds.
const FAT: i64 = 0x4d44;

/// How a tree is compared.
pub struct VerifyOptions<'a> {
    /// What is left alone: neither expected to be as the version has it (the sender's side) nor told of when the version
    /// does not have it (the receiver's). The flag says that the path is a directory.
    pub protects: &'a dyn Fn(Side, &[u8], bool) -> bool,
    /// Mount points below the root that are not entered.
    pub closed: &'a HashSet<Vec<u8>>,
    /// Whether every file is read; otherwise length and time are trusted.
    pub checksum: bool,
    /// Whether times and extended attributes count, and paths that the version does not have. Not so right after an
    /// install, which goes on changing both.
    pub strict: bool,
}

impl std::fmt::Debug for VerifyOptions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyOptions")
            .field("checksum", &self.checksum)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// It is not there.
    Missing,
    /// It is something else: a file instead of a directory, another target, another inode than it should share.
    Kind,
    /// Its content, or without reading it, its length or time.
    Content,
    /// Its owner, mode, time or extended attributes.
    Metadata,
    /// The version does not have it.
    Extra,
}

impl Drift {
    /// In one word, as in a list.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Kind => "kind",
            Self::Content => "content",
            Self::Metadata => "metadata",
            Self::Extra => "extra",
        }
    }
}

impl std::fmt::Display for Drift {
    /// Behind a path, as in `/etc/hosts has another content`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Missing => "is missing",
            Self::Kind => "is something else",
            Self::Content => "has another content",
            Self::Metadata => "has another owner, mode or time",
            Self::Extra => "is not of this version",
        })
    }
}

/// One path that is not as the version has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drifted {
    /// What is wrong.
    pub drift: Drift,
    /// The path, from the root.
    pub path: String,
}

/// What a comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyReport {
    /// Paths of the version that were looked at.
    pub checked: u64,
    /// Bytes of files that were read.
    pub bytes_read: u64,
    /// Paths that are not as the version has them; of a directory that it does not have at all, only the directory.
    pub drifted: u64,
    /// The first of these, in the order of paths.
    pub paths: Vec<Drifted>,
}

/// Compares everything below `root` with the version.
///
/// # Errors
/// [`ApplyError`] when something cannot be read.
pub fn verify(
    manifest: &Manifest,
    root: OwnedFd,
    options: &VerifyOptions<'_>,
) -> Result<VerifyReport, ApplyError> {
    let mut check = Check {
        manifest,
        options,
        buffer: vec![0; PART_BYTES],
        inodes: HashMap::new(),
        report: VerifyReport::default(),
    };
    compare(manifest, root, &mut check)?;
    Ok(check.report)
}

struct Check<'a> {
    manifest: &'a Manifest,
    options: &'a VerifyOptions<'a>,
    buffer: Vec<u8>,
    /// The inodes of entries that others link to.
    inodes: HashMap<u32, (Device, u64)>,
    report: VerifyReport,
}

impl Check<'_> {
    fn is_looked_at(&self, path: &[u8]) -> bool {
        let above = path.iter().rposition(|&byte| byte == b'/').map(|at| &path[..at]);
        path != MARKER
            && !path.starts_with(OURS)
            && !above.is_some_and(|above| self.options.closed.contains(above))
    }

    fn note(&mut self, drift: Drift, path: &[u8]) {
        self.report.drifted += 1;
        if self.report.paths.len() < NAMED_PATHS {
            let path = format!("/{}", Shown(path));
            self.report.paths.push(Drifted { drift, path });
        }
    }

    /// What is wrong with an entry of which something stands at its path.
    fn drift(
        &mut self,
        dir: &DirStack,
        index: u32,
        entry: &Entry,
        found: &Stat,
    ) -> Result<Option<Drift>, ApplyError> {
        let here = |error: fs::FsError| error.under(dir.path());
        let same_kind = match (&entry.kind, found.kind) {
            (Kind::HardLink(to), _) => {
                // What it links to may be left alone; then it is whatever it is.
                let inode = self.inodes.get(to);
                return Ok(inode.filter(|inode| **inode != found.id()).map(|_| Drift::Kind));
            }
            (Kind::Symlink(target), FsKind::Symlink) => {
                *fs::read_link(dir.current(), &entry.name).map_err(here)? == **target
            }
            (Kind::CharDevice(device), FsKind::CharDevice)
            | (Kind::BlockDevice(device), FsKind::BlockDevice) => *device == found.rdev,
            (kind, found) => kind.fs_kind() == found,
        };
        if !same_kind {
            return Ok(Some(Drift::Kind));
        }
        if found.kind != FsKind::Dir && found.nlink > 1 {
            self.inodes.insert(index, found.id());
        }
        if let Kind::File(content) = &entry.kind
            && !self.same_content(dir, entry, content, found)?
        {
            return Ok(Some(Drift::Content));
        }
        let same = self.same_metadata(dir, entry, found).map_err(here)?;
        Ok((!same).then_some(Drift::Metadata))
    }

    fn same_content(
        &mut self,
        dir: &DirStack,
        entry: &Entry,
        content: &FileContent,
        found: &Stat,
    ) -> Result<bool, ApplyError> {
        if !self.options.checksum {
            return Ok(found.size == content.size() && found.meta.mtime == entry.meta.mtime);
        }
        let (file, stat) =
            fs::open_read(dir.current(), &entry.name).map_err(|error| error.under(dir.path()))?;
        let check = check_content(&file, &stat, content, self.manifest, &mut self.buffer)
            .map_err(|error| error.under(&join(dir.path(), &entry.name)))?;
        self.report.bytes_read += stat.size;
        Ok(check.same)
    }

    fn same_metadata(&self, dir: &DirStack, entry: &Entry, found: &Stat) -> Result<bool, fs::FsError> {
        let (meta, wanted) = (&found.meta, &entry.meta);
        let mode = found.kind == FsKind::Symlink || meta.mode == wanted.mode;
        let mut same = mode && (meta.uid, meta.gid) == (wanted.uid, wanted.gid);
        if self.options.strict {
            // The time of a directory tells of what was excluded in it, too.
            same &= found.kind == FsKind::Dir || meta.mtime == wanted.mtime;
            same = same && fs::read_xattrs_at(dir.current(), &entry.name)? == wanted.xattrs;
        }
        Ok(same || fstatfs(dir.current()).is_ok_and(|fs| fs.f_type == FAT))
    }
}

impl Visitor for Check<'_> {
    type Error = ApplyError;

    fn skips(&mut self, side: Side, path: &[u8], directory: bool) -> bool {
        !self.is_looked_at(path) || (self.options.protects)(side, path, directory)
    }

    fn is_hidden_only(&mut self, path: &[u8], directory: bool) -> bool {
        self.is_looked_at(path) && !(self.options.protects)(Side::Receiver, path, directory)
    }

    fn entry(&mut self, dir: &DirStack, index: u32, found: Option<&Stat>) -> Result<(), ApplyError> {
        self.report.checked += 1;
        let entry = &self.manifest.entries[index as usize];
        let drift = match found {
            None => Some(Drift::Missing),
            // The root's own metadata are compared where it has a name: nowhere.
            Some(_) if index == 0 => None,
            Some(found) if found.mount_root && self.options.closed.contains(&self.manifest.path(index)) => {
                None
            }
            Some(found) => self.drift(dir, index, entry, found)?,
        };
        if let Some(drift) = drift {
            self.note(drift, &self.manifest.path(index));
        }
        Ok(())
    }

    fn extra(&mut self, dir: &DirStack, name: &[u8], found: &Stat) -> Result<(), ApplyError> {
        if self.options.strict && !found.mount_root {
            self.note(Drift::Extra, &join(dir.path(), name));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs as std_fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::store::Store;
    use crate::testing::import;

    fn found(manifest: &Manifest, tree: &Path, checksum: bool, strict: bool) -> Vec<String> {
        let protects = |_: Side, path: &[u8], _: bool| path == b"own";
        let options = VerifyOptions {
            protects: &protects,
            closed: &HashSet::new(),
            checksum,
            strict,
        };
        let report = verify(manifest, fs::open_root(tree).unwrap(), &options).unwrap();
        assert_eq!(report.drifted, report.paths.len() as u64);
        let told = |drifted: &Drifted| format!("{:?} {}", drifted.drift, drifted.path);
        report.paths.iter().map(told).collect()
    }

    #[test]
    fn every_kind_of_drift_is_found_and_what_is_protected_is_not_looked_at() {
        let (state, tree) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| tree.path().join(name);
        for name in ["changed", "gone", "mode", "quiet", "touched", "linked"] {
            std_fs::write(at(name), name).unwrap();
        }
        std_fs::hard_link(at("linked"), at("second")).unwrap();
        std_fs::create_dir(at("dir")).unwrap();
        symlink("one", at("link")).unwrap();
        let store = Store::open(state.path()).unwrap();
        let manifest = import(&store, "golden", tree.path()).0.signed.manifest;
        assert!(found(&manifest, tree.path(), true, true).is_empty());
        let time = std_fs::metadata(at("quiet")).unwrap().modified().unwrap();
        std_fs::write(at("quiet"), "QUIET").unwrap();
        std_fs::File::open(at("quiet"))
            .unwrap()
            .set_modified(time)
            .unwrap();
        std_fs::write(at("changed"), "longer than before").unwrap();
        std_fs::remove_file(at("gone")).unwrap();
        std_fs::set_permissions(at("mode"), std_fs::Permissions::from_mode(0o600)).unwrap();
        let later = time + std::time::Duration::from_secs(5);
        std_fs::File::open(at("touched"))
            .unwrap()
            .set_modified(later)
            .unwrap();
        std_fs::remove_file(at("second")).unwrap();
        std_fs::write(at("second"), "linked").unwrap();
        std_fs::remove_file(at("link")).unwrap();
        symlink("two", at("link")).unwrap();
        std_fs::remove_dir(at("dir")).unwrap();
        std_fs::write(at("dir"), "a file").unwrap();
        std_fs::create_dir_all(at("more/deep")).unwrap();
        std_fs::write(at("own"), "its own").unwrap();
        std_fs::create_dir(at(".simulcast-kept")).unwrap();
        let both = [
            "Content /changed",
            "Kind /dir",
            "Missing /gone",
            "Kind /link",
            "Metadata /mode",
        ];
        let quick = [&both[..], &["Extra /more", "Content /touched"]].concat();
        assert_eq!(found(&manifest, tree.path(), false, true), quick);
        let full = [&both[..], &["Extra /more", "Content /quiet", "Metadata /touched"]].concat();
        assert_eq!(found(&manifest, tree.path(), true, true), full);
        assert_eq!(
            found(&manifest, tree.path(), true, false),
            [&both[..], &["Content /quiet"]].concat()
        );
    }
}
