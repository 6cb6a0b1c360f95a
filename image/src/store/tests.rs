//! From a tree to a version and back.

use std::fs;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use simulcast_protocol::name::ImageRef;
use tempfile::TempDir;

use super::*;
use crate::apply::Install;
use crate::manifest::Manifest;
use crate::testing::import;

fn install(store: &Store, manifest: &Manifest, target: &Path, order: impl Iterator<Item = usize>) {
    let install = Install::begin(manifest, crate::fs::open_root(target).unwrap()).unwrap();
    let mut worker = install.writer().worker().unwrap();
    let missing = install.writer().missing_chunks();
    for index in order.filter(|&index| missing[index]) {
        let mut stored = store.chunks().read(&manifest.chunks[index].handle.id).unwrap();
        install
            .writer()
            .chunk(&mut worker, u32::try_from(index).unwrap(), &mut stored)
            .unwrap();
    }
    assert!(install.finish().unwrap().limited.is_empty());
}

fn tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("a/b/c")).unwrap();
    fs::write(at("a/one"), b"1").unwrap();
    fs::write(at("a/same"), b"1").unwrap();
    fs::write(at("a/empty"), b"").unwrap();
    fs::hard_link(at("a/one"), at("a/b/link")).unwrap();
    symlink("../nowhere", at("a/b/c/dangling")).unwrap();
    let big: Vec<u8> = (0..2_375_000u32)
        .flat_map(|i| (i ^ (i >> 12)).to_le_bytes())
        .collect();
    fs::write(at("big"), &big).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(5 << 30).unwrap();
    sparse.write_all_at(&[7; 70_000], 3 << 30).unwrap();
    for number in 0..300 {
        fs::write(
            at(&format!("a/b/file{number}")),
            format!("{number}").repeat(number),
        )
        .unwrap();
    }
    tree
}

fn same(left: &Path, right: &Path) {
    let output = rsync(left, right);
    assert_eq!(output, "", "differences between {left:?} and {right:?}");
}

#[expect(clippy::disallowed_methods, reason = "a test compares with a real rsync")]
fn rsync(left: &Path, right: &Path) -> String {
    let output = std::process::Command::new("rsync")
        .args(["-aHAXSn", "--checksum", "--delete", "--itemize-changes"])
        .args([left.join(""), right.join("")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_tree_survives_import_and_install_in_any_order() {
    let (tree, state) = (tree(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    let (version, report) = import(&store, "golden", tree.path());
    let manifest = &version.signed.manifest;
    assert_eq!(report.scan.files, 305);
    assert!(manifest.stored_bytes() < 10_000_000);
    let count = manifest.chunks.len();
    assert!(count > 2);
    for order in [(0..count).collect::<Vec<_>>(), (0..count).rev().collect()] {
        let target = TempDir::new().unwrap();
        install(&store, manifest, target.path(), order.into_iter());
        same(tree.path(), target.path());
        let sparse = fs::metadata(target.path().join("sparse")).unwrap();
        assert!(std::os::unix::fs::MetadataExt::blocks(&sparse) * 512 < 1 << 20);
    }
}

#[test]
fn an_interrupted_install_goes_on_with_what_it_lacks() {
    let (tree, state, target) = (tree(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    let (version, _) = import(&store, "golden", tree.path());
    let manifest = &version.signed.manifest;
    let root = || crate::fs::open_root(target.path()).unwrap();
    let first = Install::begin(manifest, root()).unwrap();
    let mut worker = first.writer().worker().unwrap();
    let mut stored = store.chunks().read(&manifest.chunks[0].handle.id).unwrap();
    first.writer().chunk(&mut worker, 0, &mut stored).unwrap();
    assert!(matches!(
        first.finish(),
        Err(crate::apply::ApplyError::Incomplete(_))
    ));
    fs::write(target.path().join("a/stray"), b"left over").unwrap();

    let second = Install::begin(manifest, root()).unwrap();
    assert!(second.bytes_found() > 0);
    let missing = second.writer().missing_chunks();
    assert!(!missing[0]);
    assert!(missing[1..].iter().all(|&missing| missing));
    drop(second);
    install(&store, manifest, target.path(), 0..manifest.chunks.len());
    same(tree.path(), target.path());
}

#[test]
fn the_hashes_of_pieces_are_kept_with_a_version_and_are_those_of_its_chunks() {
    let (tree, state) = (tree(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    let (first, _) = import(&store, "golden", tree.path());
    fs::write(tree.path().join("new"), vec![3; 70_000]).unwrap();
    // Most chunks are kept, and are not read for it.
    let (second, report) = import(&store, "golden", tree.path());
    assert!(report.pack.chunks_kept > 0 && report.pack.chunks_new > 0);
    let copy = store
        .copy(&second.reference(), &"other".parse().unwrap())
        .unwrap();
    for version in [&first, &second, &copy] {
        let path = store.pieces_path(&version.image, version.version);
        let kept = fs::read(&path).unwrap();
        let chunks = &version.signed.manifest.chunks;
        let read = |chunk: &crate::manifest::Chunk| store.chunks().read(&chunk.handle.id).unwrap();
        let made: Vec<u8> = chunks
            .iter()
            .flat_map(|chunk| piece_hashes_of(&read(chunk)))
            .collect();
        assert_eq!(kept, made);
        // Without them, and with ones of another length, they are made again.
        for damage in [None, Some(&kept[1..])] {
            fs::remove_file(&path).unwrap();
            if let Some(damage) = damage {
                fs::write(&path, damage).unwrap();
            }
            assert_eq!(store.piece_hashes(version).unwrap(), made);
            assert_eq!(fs::read(&path).unwrap(), made);
        }
    }
    store.remove(&first.reference(), false).unwrap();
    assert!(!store.pieces_path(&first.image, first.version).exists());
    let info_hash = simulcast_protocol::bittorrent::InfoHash([5; 20]);
    let (id, signature) = (
        second.signed.id,
        store.sign_torrent(&second.signed.id, &info_hash),
    );
    let key = second.signed.key();
    assert!(key.fits_torrent(&id, &info_hash, &signature));
    assert!(!key.fits_torrent(&first.signed.id, &info_hash, &signature));
    assert!(!key.fits_torrent(
        &id,
        &simulcast_protocol::bittorrent::InfoHash([6; 20]),
        &signature
    ));
    // A chunk that is damaged is named, and its hashes are not kept.
    let chunk = &second.signed.manifest.chunks[0].handle.id;
    let (file, path) = (
        store.chunks().path(chunk),
        store.pieces_path(&second.image, second.version),
    );
    fs::remove_file(&path).unwrap();
    fs::remove_file(&file).unwrap();
    fs::write(&file, b"damaged").unwrap();
    let error = store.piece_hashes(&second).unwrap_err();
    assert!(crate::chain(&error).contains("is damaged"), "{error}");
    assert!(!path.exists());
}

#[test]
fn the_next_version_keeps_chunks_and_moves_little() {
    let (tree, state) = (tree(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    let (one, _) = import(&store, "golden", tree.path());
    let (again, report) = import(&store, "golden", tree.path());
    assert_eq!(report.pack.chunks_new, 0);
    assert_eq!(again.signed.manifest.chunks, one.signed.manifest.chunks);
    let big = fs::OpenOptions::new()
        .write(true)
        .open(tree.path().join("big"))
        .unwrap();
    big.write_all_at(b"patched", 5_000_000).unwrap();
    fs::remove_file(tree.path().join("a/b/file7")).unwrap();
    let (three, report) = import(&store, "golden", tree.path());
    assert_eq!(report.pack.chunks_new, 1);
    assert_eq!(three.reference().to_string(), "golden@3");
    let target = TempDir::new().unwrap();
    install(
        &store,
        &three.signed.manifest,
        target.path(),
        0..three.signed.manifest.chunks.len(),
    );
    same(tree.path(), target.path());
    assert_eq!(fsck(&store, 2).unwrap().findings, []);
}

#[test]
fn collecting_removes_what_no_version_needs() {
    let (tree, state) = (tree(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    import(&store, "golden", tree.path());
    assert_eq!(collect(&store, false).unwrap().unneeded, []);
    let golden: ImageRef = "golden".parse().unwrap();
    let lease = store
        .lease(&golden.name, simulcast_protocol::name::Version::FIRST)
        .unwrap();
    let error = store.remove(&golden, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "golden@1 is being sent to nodes; wait until they have it, nothing was changed"
    );
    drop(lease);
    store.remove(&golden, false).unwrap();
    let planned = collect(&store, true).unwrap();
    assert!(!planned.unneeded.is_empty());
    assert_eq!(collect(&store, false).unwrap(), planned);
    assert_eq!(collect(&store, false).unwrap().unneeded, []);
    let writing = store.lock_for_writing().unwrap();
    assert!(matches!(collect(&store, false), Err(StoreError::Writing(_))));
    drop(writing);
}

#[test]
fn damage_is_found_and_named_and_healed_by_a_capture() {
    let (tree, state) = (tree(), TempDir::new().unwrap());
    let store = Store::open(state.path()).unwrap();
    let (version, _) = import(&store, "golden", tree.path());
    let path = store.chunks().path(&version.signed.manifest.chunks[0].handle.id);
    let mut bytes = fs::read(&path).unwrap();
    bytes[10] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let findings = fsck(&store, 2).unwrap().findings;
    assert_eq!(findings.len(), 1);
    assert!(
        findings[0]
            .problem
            .ends_with("is damaged: its bytes do not match its name"),
        "{findings:?}"
    );
    assert!(!findings[0].files.is_empty());
    fs::remove_file(&path).unwrap();
    assert!(fsck(&store, 1).unwrap().findings[0].problem.contains("missing"));
    import(&store, "golden", tree.path());
    assert_eq!(fsck(&store, 1).unwrap().findings, []);
}

#[test]
fn two_captures_of_one_image_exclude_each_other() {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path()).unwrap();
    let golden = "golden".parse().unwrap();
    let first = store.lock_image(&golden).unwrap();
    let error = store.lock_image(&golden).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("another capture of image golden is running"),
        "{error}"
    );
    drop(first);
    store.lock_image(&golden).unwrap();
}
