//! The kernels of a version in the store, as files for the builder of mini-kernels.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use simulcast_image::delta::ReadAt;
use simulcast_image::fs::Shown;
use simulcast_image::manifest::{FileContent, Kind};
use simulcast_image::store::{ContentReader, PartIndex, Store, StoredVersion};

/// Where kernels and their modules are.
const DIRECTORIES: [&str; 3] = ["boot", "lib/modules", "usr/lib/modules"];

/// Bytes that are copied at a time.
const PIECE: usize = 1 << 20;

/// Writes the kernels and modules of a version below `directory`: plain files and directories, nothing else.
///
/// # Errors
/// When the store cannot be read or the directory not be written.
pub(crate) fn extract(store: &Store, version: &StoredVersion, directory: &Path) -> Result<()> {
    let manifest = &version.signed.manifest;
    let parts = PartIndex::new(manifest);
    for top in DIRECTORIES {
        let Some(first) = manifest.find(top.as_bytes()) else {
            continue;
        };
        for index in first..manifest.subtree_end(first) {
            // Every name is one path component (see the manifest's own checks), so no path leads out of the directory.
            let path = manifest.path(index);
            let to: PathBuf = directory.join(OsStr::from_bytes(&path));
            let copied = match &manifest.inode(index).1.kind {
                Kind::Directory => fs::create_dir_all(&to),
                Kind::File(content) => {
                    let from = ContentReader::new(store, manifest, &parts, content);
                    copy(&from, content, &to)
                }
                _ => Ok(()),
            };
            copied.with_context(|| {
                let path = Shown(&path);
                format!(
                    "cannot copy /{path} of {} to {}",
                    version.reference(),
                    to.display()
                )
            })?;
        }
    }
    Ok(())
}

fn copy(from: &ContentReader<'_>, content: &FileContent, to: &Path) -> io::Result<()> {
    let mut file = File::create(to)?;
    let (mut at, mut piece) = (0, vec![0; PIECE]);
    while at < content.size() {
        let read = from.read_at(&mut piece, at)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&piece[..read])?;
        at += read as u64;
    }
    Ok(())
}
