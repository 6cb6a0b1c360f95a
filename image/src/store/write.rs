//! Writing small files so that a crash leaves the old content or the new.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::StoreError;

/// Replaces the content of `path`: temporary file, sync, rename, sync of the directory.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary_beside(path);
    write_synced(&temporary, bytes)?;
    fs::rename(&temporary, path).map_err(|error| StoreError::write(path, error))?;
    sync_parent(path)
}

/// The same for a file that must not exist yet; two writers cannot both succeed.
pub(super) fn create(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let temporary = temporary_beside(path);
    write_synced(&temporary, bytes)?;
    let linked = fs::hard_link(&temporary, path).map_err(|error| StoreError::write(path, error));
    fs::remove_file(&temporary).map_err(|error| StoreError::remove(&temporary, error))?;
    linked?;
    sync_parent(path)
}

/// Makes the entries of the directory of `path` durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let synced = File::open(directory).and_then(|file| file.sync_all());
    synced.map_err(|error| StoreError::write(directory, error))
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if written.is_err() {
        // On a full disk nothing half written shall take space; the first error is the one that counts.
        drop(fs::remove_file(path));
    }
    written.map_err(|error| StoreError::write(path, error))
}

/// A name that no reader takes for the real one; the process id keeps two writers apart.
fn temporary_beside(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
