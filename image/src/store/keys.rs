//! The secrets of a store: 32 random bytes each, made at first start, readable by root alone.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::StoreError;

/// Reads a secret, making it where it does not exist.
pub(super) fn secret(path: &Path) -> Result<[u8; 32], StoreError> {
    loop {
        match read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => make(path)?,
            Err(error) => return Err(StoreError::read(path, error)),
            Ok(secret) => return Ok(secret),
        }
    }
}

fn read(path: &Path) -> std::io::Result<[u8; 32]> {
    let mut secret = [0; 32];
    std::fs::File::open(path)?.read_exact(&mut secret)?;
    Ok(secret)
}

/// Linked into place when whole, so that two first starts at once agree on one secret.
fn make(path: &Path) -> Result<(), StoreError> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let secret: [u8; 32] = rand::random();
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary);
    written
        .and_then(|mut file| {
            file.write_all(&secret)?;
            file.sync_all()
        })
        .map_err(|error| StoreError::write(&temporary, error))?;
    let linked = std::fs::hard_link(&temporary, path);
    std::fs::remove_file(&temporary).map_err(|error| StoreError::remove(&temporary, error))?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(StoreError::write(path, error)),
        _ => super::write::sync_parent(path),
    }
}
