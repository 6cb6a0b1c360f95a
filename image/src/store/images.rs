//! Images and their versions: names that point at immutable manifests.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::PathBuf;

use rustix::fs::FlockOperation;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::limits::MANIFEST_BYTES;
use simulcast_protocol::name::{ImageName, ImageRef, Version};

use super::lock::try_lock;
use super::{ImageLock, Store, StoreError, write};
use crate::manifest::{Manifest, SignedManifest};

/// An image and its versions, oldest first.
#[derive(Debug, Clone)]
pub struct ImageSummary {
    /// The image.
    pub name: ImageName,
    /// Its versions.
    pub versions: Vec<Version>,
}

/// A version that was read from the store.
#[derive(Debug)]
pub struct StoredVersion {
    /// Its image.
    pub image: ImageName,
    /// Its number.
    pub version: Version,
    /// Its manifest.
    pub signed: SignedManifest,
}

/// While it lives, the version cannot be removed.
#[derive(Debug)]
pub struct VersionLease(#[expect(dead_code, reason = "the lock lives as long as the open file")] File);

impl StoredVersion {
    /// `NAME@V`.
    pub fn reference(&self) -> ImageRef {
        ImageRef {
            name: self.image.clone(),
            version: Some(self.version),
        }
    }
}

impl Store {
    pub(super) fn image_directory(&self, image: &ImageName) -> PathBuf {
        self.root().join("images").join(image.as_str())
    }

    /// The file of a version: its signed manifest, if there is such a version.
    pub fn version_path(&self, image: &ImageName, version: Version) -> PathBuf {
        self.image_directory(image)
            .join("versions")
            .join(version.to_string())
    }

    /// Where an image's tree is made to be changed. Whoever makes one looks after it.
    pub fn tree_path(&self, image: &ImageName) -> PathBuf {
        self.image_directory(image).join("tree")
    }

    /// All images that have a version, by name.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn images(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let directory = self.root().join("images");
        let failed = |error| StoreError::read(&directory, error);
        let mut images = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(name) = name.to_str().and_then(|name| name.parse::<ImageName>().ok()) {
                let versions = self.versions(&name)?;
                if !versions.is_empty() {
                    images.push(ImageSummary { name, versions });
                }
            }
        }
        images.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(images)
    }

    /// The versions of an image, oldest first; none when there is no such image.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn versions(&self, image: &ImageName) -> Result<Vec<Version>, StoreError> {
        let directory = self.image_directory(image).join("versions");
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(|error| StoreError::read(&directory, error))?,
        };
        let mut versions = Vec::new();
        for entry in entries {
            let name = entry
                .map_err(|error| StoreError::read(&directory, error))?
                .file_name();
            versions.extend(name.to_str().and_then(|name| name.parse::<Version>().ok()));
        }
        versions.sort_unstable();
        Ok(versions)
    }

    /// Which version a reference means.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], [`StoreError::NoVersion`].
    pub fn resolve(&self, reference: &ImageRef) -> Result<Version, StoreError> {
        let versions = self.versions(&reference.name)?;
        let newest = versions
            .last()
            .ok_or_else(|| StoreError::NoImage(reference.name.clone()))?;
        match reference.version {
            None => Ok(*newest),
            Some(version) if versions.contains(&version) => Ok(version),
            Some(version) => {
                let available: Vec<_> = versions.iter().map(Version::to_string).collect();
                let available = available.join(", ");
                Err(StoreError::NoVersion {
                    image: reference.name.clone(),
                    version,
                    available,
                })
            }
        }
    }

    /// Reads a version and checks its signature.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], [`StoreError::NoVersion`], [`StoreError::Manifest`], [`StoreError::Read`].
    pub fn load(&self, reference: &ImageRef) -> Result<StoredVersion, StoreError> {
        let version = self.resolve(reference)?;
        let image = reference.name.clone();
        let path = self.version_path(&image, version);
        let length = fs::metadata(&path)
            .map_err(|error| StoreError::read(&path, error))?
            .len();
        if length > MANIFEST_BYTES as u64 {
            let error = std::io::Error::new(ErrorKind::InvalidData, "it is longer than a manifest can be");
            return Err(StoreError::read(&path, error));
        }
        let bytes = fs::read(&path).map_err(|error| StoreError::read(&path, error))?;
        match SignedManifest::open(bytes, &self.verifying_key()) {
            Ok(signed) => Ok(StoredVersion {
                image,
                version,
                signed,
            }),
            Err(source) => {
                let version = ImageRef {
                    name: image,
                    version: Some(version),
                };
                Err(StoreError::Manifest {
                    version,
                    path,
                    source,
                })
            }
        }
    }

    /// Protects a version from removal while the lease lives.
    ///
    /// # Errors
    /// [`StoreError::NoVersion`] when it has just been removed, [`StoreError::Write`].
    pub fn lease(&self, image: &ImageName, version: Version) -> Result<VersionLease, StoreError> {
        self.resolve(&ImageRef {
            name: image.clone(),
            version: Some(version),
        })?;
        let path = self.version_path(image, version);
        match try_lock(&path, FlockOperation::NonBlockingLockShared)? {
            Some(file) => Ok(VersionLease(file)),
            None => Err(StoreError::NoImage(image.clone())),
        }
    }

    /// The number that the next version of an image gets. Numbers are never given twice, not even after removal.
    ///
    /// # Errors
    /// [`StoreError::Read`].
    pub fn next_version(&self, image: &ImageName) -> Result<Version, StoreError> {
        let newest = self.versions(image)?.last().copied();
        let path = self.image_directory(image).join("last");
        let last = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse::<Version>().ok(),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => return Err(StoreError::read(&path, error)),
        };
        Ok(newest.max(last).map_or(Version::FIRST, Version::next))
    }

    /// Signs a manifest and makes it the next version of `image`. Its chunks must be committed already.
    ///
    /// # Errors
    /// [`StoreError::Write`]; then there is no new version.
    pub fn publish(
        &self,
        image: &ImageName,
        manifest: Manifest,
        _lock: &ImageLock,
    ) -> Result<StoredVersion, StoreError> {
        let version = self.next_version(image)?;
        let signed = self.signing_key().sign(manifest);
        write::create(&self.version_path(image, version), signed.bytes())?;
        write::replace(
            &self.image_directory(image).join("last"),
            format!("{version}\n").as_bytes(),
        )?;
        Ok(StoredVersion {
            image: image.clone(),
            version,
            signed,
        })
    }

    /// Keeps what a capture reported beside its version.
    ///
    /// # Errors
    /// [`StoreError::Write`].
    pub fn write_report(&self, version: &StoredVersion, json: &str) -> Result<(), StoreError> {
        let directory = self.image_directory(&version.image).join("reports");
        fs::create_dir_all(&directory).map_err(|error| StoreError::write(&directory, error))?;
        write::replace(&directory.join(version.version.to_string()), json.as_bytes())
    }

    /// Removes one version, or the whole image when `reference` names none. Chunks stay until the store is collected.
    /// With `dry_run` nothing is removed. Returns what is, or would be, removed.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while a version is being sent, [`StoreError::ImageBusy`], [`StoreError::NoVersion`], ….
    pub fn remove(&self, reference: &ImageRef, dry_run: bool) -> Result<Vec<Version>, StoreError> {
        self.resolve(reference)?;
        let lock = self.lock_image(&reference.name)?;
        let all = self.versions(&reference.name)?;
        let chosen: Vec<_> = all
            .iter()
            .copied()
            .filter(|v| reference.version.is_none_or(|only| only == *v))
            .collect();
        let mut held = Vec::new();
        for &version in &chosen {
            let path = self.version_path(&reference.name, version);
            held.push(
                try_lock(&path, FlockOperation::NonBlockingLockExclusive)?.ok_or_else(|| {
                    StoreError::InUse(ImageRef {
                        name: reference.name.clone(),
                        version: Some(version),
                    })
                })?,
            );
        }
        if dry_run {
            return Ok(chosen);
        }
        for &version in &chosen {
            let path = self.version_path(&reference.name, version);
            fs::remove_file(&path).map_err(|error| StoreError::remove(&path, error))?;
            let report = self
                .image_directory(&reference.name)
                .join("reports")
                .join(version.to_string());
            for beside in [report, self.pieces_path(&reference.name, version)] {
                match fs::remove_file(&beside) {
                    Err(error) if error.kind() != ErrorKind::NotFound => {
                        return Err(StoreError::remove(&beside, error));
                    }
                    _ => {}
                }
            }
        }
        if chosen.len() == all.len() && reference.version.is_none() {
            let directory = self.image_directory(&reference.name);
            fs::remove_dir_all(&directory).map_err(|error| StoreError::remove(&directory, error))?;
        }
        drop((held, lock));
        Ok(chosen)
    }

    /// Gives a version (the newest when `from` names none) a further name, as the next version of image `to`.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when there is an image `to` already, and those of [`Store::load`].
    pub fn copy(&self, from: &ImageRef, to: &ImageName) -> Result<StoredVersion, StoreError> {
        // Before the source is read: a collection in between could take its chunks away.
        let _writer = self.lock_for_writing()?;
        let source = self.load(from)?;
        if !self.versions(to)?.is_empty() {
            return Err(StoreError::Exists(to.clone()));
        }
        let _lock = self.lock_image(to)?;
        let version = self.next_version(to)?;
        write::create(&self.version_path(to, version), source.signed.bytes())?;
        write::replace(
            &self.image_directory(to).join("last"),
            format!("{version}\n").as_bytes(),
        )?;
        if let Some(pieces) = self.kept_pieces(&source)? {
            self.keep_pieces(to, version, &pieces)?;
        }
        Ok(StoredVersion {
            image: to.clone(),
            version,
            signed: source.signed,
        })
    }

    /// Gives an image another name.
    ///
    /// # Errors
    /// [`StoreError::NoImage`], [`StoreError::Exists`], [`StoreError::ImageBusy`], [`StoreError::Write`].
    pub fn rename(&self, from: &ImageName, to: &ImageName) -> Result<(), StoreError> {
        self.resolve(&ImageRef {
            name: from.clone(),
            version: None,
        })?;
        let _lock = self.lock_image(from)?;
        let (old, new) = (self.image_directory(from), self.image_directory(to));
        let images = self.root().join("images");
        let directory = File::open(&images).map_err(|error| StoreError::write(&images, error))?;
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(&directory, from.as_str(), &directory, to.as_str(), flags) {
            Ok(()) => write::sync_parent(&new),
            Err(rustix::io::Errno::EXIST) => Err(StoreError::Exists(to.clone())),
            Err(errno) => Err(StoreError::write(&old, errno.into())),
        }
    }

    /// Finds the version with this identity in any image.
    ///
    /// # Errors
    /// [`StoreError::Read`] when the store cannot be listed.
    pub fn find(&self, id: &ManifestId) -> Result<Option<StoredVersion>, StoreError> {
        for image in self.images()? {
            for version in image.versions.into_iter().rev() {
                let reference = ImageRef {
                    name: image.name.clone(),
                    version: Some(version),
                };
                match self.load(&reference) {
                    Ok(stored) if stored.signed.id == *id => return Ok(Some(stored)),
                    _ => {}
                }
            }
        }
        Ok(None)
    }
}
