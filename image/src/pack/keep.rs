//! Where packs lie in the store: `packs/<from>-<to>`, a cache. A pack can always be made again.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::PACK_BYTES;

use super::{Pack, PackError, SIGNATURE_BYTES, SignedPack};
use crate::manifest::SignedManifest;
use crate::store::{Store, StoreError, replace_file, try_lock};

/// While it lives, collecting leaves the pack alone.
#[derive(Debug)]
pub struct PackLease(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl Store {
    /// The file of the pack that leads to the version `to` from the version, or the set of versions
    /// ([`Pack::source_id`]), `from`.
    pub fn pack_path(&self, from: &ManifestId, to: &ManifestId) -> PathBuf {
        self.packs().join(format!("{from}-{to}"))
    }

    /// Reads a pack and checks it; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Pack`] when it is damaged; [`StoreError::Read`].
    pub fn pack(&self, from: &ManifestId, to: &SignedManifest) -> Result<Option<SignedPack>, StoreError> {
        let path = self.pack_path(from, &to.id);
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        let opened = SignedPack::open(bytes, &self.verifying_key(), &to.id, &to.manifest);
        let opened = opened.and_then(|signed| match Pack::source_id(&signed.pack.from) == *from {
            true => Ok(signed),
            false => Err(PackError::Foreign),
        });
        opened
            .map(Some)
            .map_err(|source| StoreError::Pack { path, source })
    }

    /// From which version, or set of versions, to which the pack with this identity leads; `None` when there is none.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn find_pack(&self, id: &ManifestId) -> Result<Option<(ManifestId, ManifestId)>, StoreError> {
        for path in self.pack_files()? {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            let ends = name.split_once('-').map(|(from, to)| (from.parse(), to.parse()));
            if let Some((Ok(from), Ok(to))) = ends
                && let Some(bytes) = read(&path)?
                && bytes
                    .get(SIGNATURE_BYTES..)
                    .is_some_and(|list| ManifestId::of(list) == *id)
            {
                return Ok(Some((from, to)));
            }
        }
        Ok(None)
    }

    /// Protects a pack while it is sent; `None` when there is none any more.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn lease_pack(&self, from: &ManifestId, to: &ManifestId) -> Result<Option<PackLease>, StoreError> {
        let path = self.pack_path(from, to);
        if !path.exists() {
            return Ok(None);
        }
        let locked = try_lock(&path, FlockOperation::NonBlockingLockShared)?;
        Ok(locked.map(PackLease))
    }

    /// Signs a pack and keeps it. Its chunks must be committed already.
    pub(super) fn save_pack(&self, pack: Pack) -> Result<SignedPack, StoreError> {
        let path = self.pack_path(&Pack::source_id(&pack.from), &pack.to);
        let directory = self.packs();
        fs::create_dir_all(&directory).map_err(|error| StoreError::write(&directory, error))?;
        let signed = SignedPack::sign(pack, self.signing_key());
        replace_file(&path, signed.bytes())?;
        Ok(signed)
    }

    /// The files of all packs, and what lies beside them, in the order of their names.
    pub(crate) fn pack_files(&self) -> Result<Vec<PathBuf>, StoreError> {
        let directory = self.packs();
        let failed = |error| StoreError::read(&directory, error);
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed)?,
        };
        let mut files = entries
            .map(|entry| entry.map(|entry| entry.path()).map_err(failed))
            .collect::<Result<Vec<_>, _>>()?;
        files.sort_unstable();
        Ok(files)
    }

    /// Reads a pack from its file, with no look at the versions that it is for; `None` when it is no good pack.
    pub(crate) fn read_pack(&self, path: &Path) -> Result<Option<Pack>, StoreError> {
        let Some(bytes) = read(path)? else { return Ok(None) };
        Ok(SignedPack::decode(&bytes, &self.verifying_key())
            .ok()
            .map(|(_, pack)| pack))
    }

    fn packs(&self) -> PathBuf {
        self.root().join("packs")
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Ok(metadata) if metadata.len() > PACK_BYTES as u64 => {
            let error =
                std::io::Error::new(ErrorKind::InvalidData, "it is longer than an update pack can be");
            return Err(StoreError::read(path, error));
        }
        other => other.map_err(|error| StoreError::read(path, error))?,
    };
    fs::read(path)
        .map(Some)
        .map_err(|error| StoreError::read(path, error))
}
