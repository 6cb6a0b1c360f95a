//! Container images: layers over each other, whiteouts, compression, digests, and what is wrong.

use std::fs::File;
use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::*;
use crate::manifest::{Kind, Manifest};
use crate::store::Store;
use crate::testing::version_of;

/// A layer: paths with contents; a path that ends in a slash is a directory.
fn layer(members: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (path, content) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        if path.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
        }
        builder
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
    zstd_safe::compress(&mut frame, bytes, 1).unwrap();
    frame
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Three layers: some files, then changes, then changes to those.
fn layers() -> Vec<Vec<u8>> {
    vec![
        layer(&[
            ("./", ""),
            ("etc/", ""),
            ("etc/hosts", "one"),
            ("etc/gone", "x"),
            ("opt/app/old", "x"),
            ("opt/app/kept/deep", "x"),
            ("var/cache/a", "x"),
        ]),
        // The opaque mark comes after what it must not hide.
        gzip(&layer(&[
            ("etc/hosts", "two"),
            ("etc/.wh.gone", ""),
            ("opt/app/new", "x"),
            ("opt/app/.wh..wh..opq", ""),
        ])),
        zstd(&layer(&[
            ("var/.wh.cache", ""),
            ("etc/last", "three"),
            (".wh..wh.aufs", ""),
        ])),
    ]
}

fn archive(members: &[(String, Vec<u8>)]) -> File {
    let mut builder = ::tar::Builder::new(tempfile::tempfile().unwrap());
    for (path, bytes) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, &bytes[..]).unwrap();
    }
    builder.into_inner().unwrap()
}

fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", digest(bytes)), bytes.to_vec())
}

/// An OCI layout of these layers, its index first leading to a further index.
fn layout(layers: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let descriptors: Vec<String> = layers
        .iter()
        .map(|layer| {
            format!(
                r#"{{"mediaType":"x","digest":"sha256:{}","size":{}}}"#,
                digest(layer),
                layer.len()
            )
        })
        .collect();
    let manifest = format!(r#"{{"schemaVersion":2,"layers":[{}]}}"#, descriptors.join(","));
    let arch = if cfg!(target_arch = "x86_64") {
        "amd64"
    } else {
        "arm64"
    };
    let inner = format!(
        r#"{{"manifests":[{{"digest":"sha256:{}","platform":{{"os":"linux","architecture":"{arch}"}}}},
            {{"digest":"sha256:{}","platform":{{"os":"linux","architecture":"s390x"}}}}]}}"#,
        digest(manifest.as_bytes()),
        "0".repeat(64)
    );
    let index = format!(
        r#"{{"manifests":[{{"digest":"sha256:{}","annotations":{{"org.opencontainers.image.ref.name":"debian:13"}}}}]}}"#,
        digest(inner.as_bytes())
    );
    let mut members = vec![("index.json".to_owned(), index.into_bytes())];
    members.extend([blob(manifest.as_bytes()), blob(inner.as_bytes())]);
    members.extend(layers.iter().map(|layer| blob(layer)));
    members
}

fn import(file: &File, tag: Option<&str>) -> Result<Manifest, TarError> {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path()).unwrap();
    let imported = import_oci(&store, file, tag, version_of("box"), &|_, _| false, &|_| {});
    if imported.is_err() {
        assert!(store.versions(&"box".parse().unwrap()).unwrap().is_empty());
    }
    imported.map(|(version, _)| version.signed.manifest)
}

fn files(manifest: &Manifest) -> Vec<(String, u64)> {
    let file = |(index, entry): (u32, &crate::manifest::Entry)| match &entry.kind {
        Kind::File(content) => Some((String::from_utf8(manifest.path(index)).unwrap(), content.size())),
        _ => None,
    };
    (0u32..).zip(&manifest.entries).filter_map(file).collect()
}

fn expected() -> Vec<(String, u64)> {
    [("etc/hosts", 3), ("etc/last", 5), ("opt/app/new", 1)]
        .map(|(path, size)| (path.to_owned(), size))
        .to_vec()
}

#[test]
fn layers_of_all_compressions_make_one_tree() {
    let file = archive(&layout(&layers()));
    assert_eq!(files(&import(&file, None).unwrap()), expected());
    assert_eq!(files(&import(&file, Some("debian:13")).unwrap()), expected());
    let error = import(&file, Some("debian:12")).unwrap_err().to_string();
    assert!(error.ends_with("name one of its images debian:13"), "{error}");
}

#[test]
fn what_docker_save_writes_is_taken_too() {
    let layers = layers();
    let paths: Vec<String> = (0..3).map(|number| format!("{number}/layer.tar")).collect();
    let manifest = format!(
        r#"[{{"Config":"c.json","RepoTags":["box:1"],"Layers":["{}"]}},{{"RepoTags":["box:2"],"Layers":["{}"]}}]"#,
        paths.join("\",\""),
        paths[0]
    );
    let mut members: Vec<(String, Vec<u8>)> = paths.into_iter().zip(layers).collect();
    members.push(("manifest.json".to_owned(), manifest.into_bytes()));
    let file = archive(&members);
    assert_eq!(files(&import(&file, Some("box:1")).unwrap()), expected());
    assert_eq!(files(&import(&file, Some("box:2")).unwrap()).len(), 5);
    let error = import(&file, None).unwrap_err().to_string();
    assert!(error.ends_with("name one of its images box:1, box:2"), "{error}");
}

#[test]
fn damage_and_nonsense_make_no_version() {
    let good = layout(&layers());
    for number in 0..good.len() {
        let mut members = good.clone();
        let bytes = &mut members[number].1;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        assert!(import(&archive(&members), None).is_err(), "{}", members[number].0);
    }
    // Plain layers decompress whatever is in them: the digest alone tells.
    let plain = layout(&[layer(&[("a", "content of the file")])]);
    let mut members = plain.clone();
    let at = members[3]
        .1
        .windows(7)
        .position(|seven| seven == b"content")
        .unwrap();
    members[3].1[at] = b'k';
    let error = import(&archive(&members), None).unwrap_err().to_string();
    assert!(error.contains("other bytes than its digest says"), "{error}");
    for index in [
        "{}",
        "[]",
        r#"{"manifests":[{"digest":"sha256:../../../../etc/passwd"}]}"#,
        r#"{"manifests":[{"digest":"md5:00"}]}"#,
    ] {
        let members = [("index.json".to_owned(), index.as_bytes().to_vec())];
        assert!(
            matches!(import(&archive(&members), None), Err(TarError::Oci(..))),
            "{index}"
        );
    }
    assert!(matches!(import(&archive(&[]), None), Err(TarError::Oci(..))));
}
