//! Container images in one tar archive: an OCI image layout, as `skopeo copy … oci-archive:FILE` and `buildah push` write
//! it, or what `docker save` and `podman save` write. Their layers, one over the other, are the tree.
//!
//! The archive is read where it lies. Of what is named by its SHA-256 every byte is checked against that; a layer whose digest is
//! wrong makes no version.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::TarError;

/// Members that the outer archive may have: a layer has a few.
const MEMBERS: usize = 1 << 16;

/// Bytes of a JSON document in it.
const DOCUMENT_BYTES: u64 = 4 << 20;

/// Layers that an image may have: far more than any engine makes.
const LAYERS: usize = 1024;

/// Documents that lead from the index to the image: an index may name another.
const HOPS: usize = 4;

/// Where a member of the archive lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    offset: u64,
    len: u64,
}

/// A layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    place: Place,
    /// Its SHA-256, in hexadecimal digits, where the archive names it.
    digest: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: HashMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// An image manifest, or an index: the one has layers, the other manifests.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The archive's members by path.
struct Members<'a> {
    file: &'a File,
    places: HashMap<Vec<u8>, Place>,
}

/// The layers of the image that is called `tag`, or of the only one, lowest first.
pub(super) fn layers(file: &File, tag: Option<&str>) -> Result<Vec<Layer>, TarError> {
    let members = Members::read(file)?;
    let layers = if members.places.contains_key(&b"index.json"[..]) {
        members.layout(tag)?
    } else if members.places.contains_key(&b"manifest.json"[..]) {
        members.saved(tag)?
    } else {
        return Err(TarError::Oci(
            "it has neither index.json nor manifest.json",
            String::new(),
        ));
    };
    if layers.is_empty() || layers.len() > LAYERS {
        return Err(TarError::Oci(
            "it has no layers, or more than 1,024",
            String::new(),
        ));
    }
    Ok(layers)
}

impl<'a> Members<'a> {
    fn read(file: &'a File) -> Result<Self, TarError> {
        let (mut places, mut links) = (HashMap::new(), Vec::new());
        // `seek` lets it pass over data; the file is read from its beginning.
        let mut start = file;
        io::Seek::rewind(&mut start).map_err(TarError::Read)?;
        let mut archive = tar::Archive::new(start);
        for (number, entry) in archive.entries_with_seek().map_err(TarError::Read)?.enumerate() {
            if number >= MEMBERS {
                return Err(TarError::Oci(
                    "it has more members than an image has",
                    String::new(),
                ));
            }
            let entry = entry.map_err(TarError::Read)?;
            let path = clean(&entry.path_bytes());
            let place = Place {
                offset: entry.raw_file_position(),
                len: entry.size(),
            };
            match (entry.header().entry_type(), entry.link_name_bytes()) {
                (kind, _) if kind.is_file() => drop(places.insert(path, place)),
                (kind, Some(target)) if kind.is_symlink() || kind.is_hard_link() => {
                    let target = match kind.is_symlink() {
                        true => beside(&path, &target),
                        false => clean(&target),
                    };
                    links.push((path, target));
                }
                _ => {}
            }
        }
        // Layers that two images share are links to each other in what older engines save.
        for (path, target) in links {
            if let Some(&place) = places.get(&target) {
                places.insert(path, place);
            }
        }
        Ok(Self { file, places })
    }

    /// An OCI image layout (OCI image specification, "Image Layout").
    fn layout(&self, tag: Option<&str>) -> Result<Vec<Layer>, TarError> {
        let place = self.place(b"index.json")?;
        let index: Index = self.document("index.json", place, None)?;
        let mut manifests = index.manifests;
        for _ in 0..HOPS {
            let chosen = choose(&manifests, tag)?;
            let (place, digest) = self.blob(&chosen.digest)?;
            let document: Document = self.document(&chosen.digest, place, Some(&digest))?;
            match document {
                Document {
                    layers: Some(layers), ..
                } => {
                    return layers
                        .iter()
                        .map(|layer| {
                            let (place, digest) = self.blob(&layer.digest)?;
                            Ok(Layer {
                                place,
                                digest: Some(digest),
                            })
                        })
                        .collect();
                }
                Document {
                    manifests: Some(further),
                    ..
                } => manifests = further,
                Document { .. } => break,
            }
        }
        Err(TarError::Oci("its index leads to no image", String::new()))
    }

    /// What `docker save` writes.
    fn saved(&self, tag: Option<&str>) -> Result<Vec<Layer>, TarError> {
        let place = self.place(b"manifest.json")?;
        let images: Vec<Saved> = self.document("manifest.json", place, None)?;
        let called =
            |image: &&Saved| tag.is_none_or(|tag| image.repo_tags.iter().flatten().any(|name| name == tag));
        let chosen: Vec<&Saved> = images.iter().filter(called).collect();
        let [image] = chosen[..] else {
            let tags: Vec<String> = images
                .iter()
                .filter_map(|image| image.repo_tags.clone())
                .flatten()
                .collect();
            return Err(TarError::Oci("name one of its images", tags.join(", ")));
        };
        let layer = |path: &String| {
            let digest = path.strip_prefix("blobs/sha256/").map(str::to_owned);
            let place = self.place(&clean(path.as_bytes()))?;
            Ok(Layer { place, digest })
        };
        image.layers.iter().map(layer).collect()
    }

    fn blob(&self, digest: &str) -> Result<(Place, String), TarError> {
        let hex = digest
            .strip_prefix("sha256:")
            .filter(|hex| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let hex = hex.ok_or_else(|| {
            TarError::Oci(
                "it names something by no SHA-256",
                digest.chars().take(80).collect(),
            )
        })?;
        Ok((
            self.place(format!("blobs/sha256/{hex}").as_bytes())?,
            hex.to_owned(),
        ))
    }

    fn place(&self, path: &[u8]) -> Result<Place, TarError> {
        let place = self.places.get(path).copied();
        place.ok_or_else(|| {
            TarError::Oci(
                "it lacks a member that it names",
                String::from_utf8_lossy(path).into_owned(),
            )
        })
    }

    fn document<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        place: Place,
        digest: Option<&str>,
    ) -> Result<T, TarError> {
        if place.len > DOCUMENT_BYTES {
            return Err(TarError::Oci(
                "a document in it is longer than 4 MiB",
                name.to_owned(),
            ));
        }
        let mut bytes = Vec::new();
        let mut reader = Checked::new(self.file, place, digest.map(str::to_owned));
        reader.read_to_end(&mut bytes).map_err(TarError::Read)?;
        reader.finish()?;
        serde_json::from_slice(&bytes)
            .map_err(|_| TarError::Oci("a document in it is not what it should be", name.to_owned()))
    }
}

/// The descriptor that is meant: by its name, or the one for this machine's architecture, or the only one.
fn choose<'d>(manifests: &'d [Descriptor], tag: Option<&str>) -> Result<&'d Descriptor, TarError> {
    const NAMES: [&str; 2] = ["org.opencontainers.image.ref.name", "io.containerd.image.name"];
    let name = |descriptor: &Descriptor| {
        NAMES
            .iter()
            .find_map(|key| descriptor.annotations.get(*key).cloned())
    };
    if let Some(tag) = tag
        && let Some(found) = manifests
            .iter()
            .find(|descriptor| name(descriptor).as_deref() == Some(tag))
    {
        return Ok(found);
    }
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let ours = |descriptor: &&Descriptor| match &descriptor.platform {
        Some(platform) => platform.os == "linux" && platform.architecture == architecture,
        None => true,
    };
    let fitting: Vec<&Descriptor> = manifests.iter().filter(ours).collect();
    // A name stands in the first index only: what it leads to is chosen by architecture.
    let named = manifests.iter().any(|descriptor| name(descriptor).is_some());
    match fitting[..] {
        [one] if tag.is_none() || !named => Ok(one),
        _ => {
            let names: Vec<String> = manifests.iter().filter_map(name).collect();
            Err(TarError::Oci("name one of its images", names.join(", ")))
        }
    }
}

impl Layer {
    /// Its bytes as they lie in the archive.
    pub(super) fn open<'f>(&self, file: &'f File) -> Checked<'f> {
        Checked::new(file, self.place, self.digest.clone())
    }
}

/// A member that is read and hashed.
pub(super) struct Checked<'f> {
    file: &'f File,
    at: u64,
    left: u64,
    digest: Option<String>,
    hasher: Sha256,
}

impl<'f> Checked<'f> {
    fn new(file: &'f File, place: Place, digest: Option<String>) -> Self {
        Self {
            file,
            at: place.offset,
            left: place.len,
            digest,
            hasher: Sha256::new(),
        }
    }

    /// Reads what is left, and holds the whole against its digest.
    pub(super) fn finish(mut self) -> Result<(), TarError> {
        io::copy(&mut self, &mut io::sink()).map_err(TarError::Read)?;
        let Some(digest) = self.digest else { return Ok(()) };
        let found = self.hasher.finalize();
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        if found == digest {
            return Ok(());
        }
        Err(TarError::Oci(
            "it is damaged: other bytes than its digest says are in",
            digest,
        ))
    }
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.at)?;
        if read == 0 && most > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.hasher.update(&buffer[..read]);
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// A path without `.` and slashes too many.
fn clean(path: &[u8]) -> Vec<u8> {
    let names = path
        .split(|&byte| byte == b'/')
        .filter(|name| !matches!(*name, b"" | b"."));
    names.collect::<Vec<_>>().join(&b'/')
}

/// What a link at `path` leads to, by its words alone.
fn beside(path: &[u8], target: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
    names.pop();
    for name in target.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join(&b'/')
}
