//! Any of the old versions becomes the new one by the pack, for fewer bytes, whatever was changed on the node.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use simulcast_protocol::limits::{PACK_BASIS_BYTES, PART_BYTES};
use tempfile::TempDir;

use super::*;
use crate::apply::Install;
use crate::fs::open_root;
use crate::manifest::SignedManifest;
use crate::store::{ChunkStore, Store, collect, fsck};
use crate::testing::{import, noise};
use crate::update::{CommitOptions, KEPT_UPDATES, Plan, PlanOptions, Update};
use crate::verify::VerifyOptions;

fn write(tree: &Path, path: &str, bytes: &[u8]) {
    let path = tree.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// A program of which something in the middle is another in each version.
fn program(version: u32) -> Vec<u8> {
    let mut bytes = noise(300_000, 5);
    bytes.splice(100_000..100_000, noise(200, 100 + u64::from(version)));
    bytes
}

struct Site {
    _state: TempDir,
    store: Store,
    versions: Vec<SignedManifest>,
}

/// Three versions: programs that change a little, a module that moves to a directory with another number, a file that is larger
/// than any prefix and has bytes inserted at its start, one that is new and one that comes back.
fn site(with_large: bool) -> Site {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path()).unwrap();
    let mut versions = Vec::new();
    for version in 1..=3u32 {
        let tree = TempDir::new().unwrap();
        let at = tree.path();
        write(at, "bin/program", &program(version));
        write(at, "bin/same", &noise(50_000, 9));
        let minor = 50 + version / 2;
        let mut module = noise(400_000, 11);
        module.splice(10..10, noise(50, 200 + u64::from(version)));
        write(at, &format!("lib/6.1.0-{minor}/module.ko"), &module);
        let mut large = noise(PACK_BASIS_BYTES + (9 << 20), 13);
        if !with_large {
            large.truncate(1 << 20);
        }
        // More than a prefix's reach is between the old and the new place of everything.
        let step = if with_large { 7 << 20 } else { 100 };
        large.splice(0..0, noise((version as usize - 1) * step, 15));
        write(at, "srv/large", &large);
        write(
            at,
            &format!("etc/new{version}"),
            &noise(20_000, 300 + u64::from(version)),
        );
        versions.push(import(&store, "golden", at).0.signed);
    }
    Site {
        _state: state,
        store,
        versions,
    }
}

impl Site {
    fn pack(&self, from: &[usize]) -> SignedPack {
        let from: Vec<_> = from.iter().map(|&version| &self.versions[version]).collect();
        make(&self.store, &from, &self.versions[2], 2).unwrap()
    }

    /// A node that has a version.
    fn node(&self, version: usize) -> TempDir {
        let node = TempDir::new().unwrap();
        let manifest = &self.versions[version].manifest;
        let install = Install::begin(manifest, open_root(node.path()).unwrap()).unwrap();
        let mut worker = install.writer().worker().unwrap();
        for (index, chunk) in (0u32..).zip(&manifest.chunks) {
            let mut stored = self.store.chunks().read(&chunk.handle.id).unwrap();
            install.writer().chunk(&mut worker, index, &mut stored).unwrap();
        }
        install.finish().unwrap();
        node
    }

    /// Brings a node to the last version by the pack, then by chunks. Returns the stored bytes that came as each, and how many
    /// records failed.
    fn update(
        &self,
        pack: &SignedPack,
        node: &Path,
        installed: usize,
        spoil: impl FnOnce(),
    ) -> (u64, u64, u64) {
        let (installed, to) = (&self.versions[installed].manifest, &self.versions[2].manifest);
        let protects = |_: crate::filter::Side, _: &[u8], _: bool| false;
        let options = PlanOptions {
            protects: &protects,
            delete: true,
            checksum: false,
            installed: Some(installed),
            directory: b"",
            closed: &HashSet::new(),
        };
        let root = || open_root(node).unwrap();
        let update = Update::begin(Plan::make(to, &root(), &options).unwrap(), root()).unwrap();
        let receiver = Receiver::new(&pack.pack, to, installed, root(), update.writer()).unwrap();
        spoil();
        let mut worker = receiver.worker().unwrap();
        let needed = receiver.needed().to_vec();
        // Any order will do.
        for (index, handle) in pack
            .pack
            .handles(to)
            .enumerate()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            if needed[index] {
                let mut stored = self.store.chunks().read(&handle.id).unwrap();
                receiver
                    .chunk(&mut worker, u32::try_from(index).unwrap(), &mut stored)
                    .unwrap();
            }
        }
        let (by_pack, failed) = (receiver.bytes(), receiver.failed());
        let (mut worker, mut by_chunks) = (update.worker().unwrap(), 0);
        for (index, missing) in update.writer().missing_chunks().into_iter().enumerate() {
            if missing {
                let mut stored = self.store.chunks().read(&to.chunks[index].handle.id).unwrap();
                by_chunks += stored.len() as u64;
                let index = u32::try_from(index).unwrap();
                update.writer().chunk(&mut worker, index, &mut stored).unwrap();
            }
        }
        let keep = CommitOptions {
            keep: KEPT_UPDATES,
            record: None,
        };
        update.commit(keep).unwrap();
        let strictly = VerifyOptions {
            protects: &protects,
            closed: &HashSet::new(),
            checksum: true,
            strict: true,
        };
        let found = crate::verify::verify(to, root(), &strictly).unwrap();
        assert_eq!(found.paths, Vec::new());
        (by_pack, by_chunks, failed)
    }
}

#[test]
fn one_pack_brings_nodes_of_several_versions_to_the_new_one() {
    let site = site(true);
    let pack = site.pack(&[0, 1]);
    for installed in [0, 1] {
        let node = site.node(installed);
        let (by_pack, by_chunks, failed) = site.update(&pack, node.path(), installed, || {});
        assert_eq!((by_chunks, failed), (0, 0));
        // 20 kB are new, and 7 MiB for each step at the start of the large file.
        let inserted = (2 - installed as u64) * (7 << 20);
        assert!(
            by_pack < inserted + (9 << 20),
            "{by_pack} bytes of {} for version {installed}",
            site.versions[2].manifest.stored_bytes()
        );
    }
    let forms: Vec<Form> = pack
        .pack
        .chunks
        .iter()
        .flat_map(|chunk| &chunk.records)
        .map(|record| record.form)
        .collect();
    assert!(forms.iter().any(|form| matches!(form, Form::Prefix { .. })));
    assert!(forms.iter().any(|form| matches!(form, Form::Rolling { .. })));
    assert!(forms.contains(&Form::Whole));
    assert!(!pack.pack.borrowed.is_empty());
}

#[test]
fn a_changed_old_file_costs_its_chunks_alone() {
    let site = site(false);
    let pack = site.pack(&[1]);
    let node = site.node(1);
    let program = node.path().join("bin/program");
    fs::write(&program, noise(300_000, 77)).unwrap();
    let (_, by_chunks, failed) = site.update(&pack, node.path(), 1, || {});
    assert_eq!(failed, 0, "its length and time say so before anything is fetched");
    assert!((1..=PART_BYTES as u64).contains(&by_chunks), "{by_chunks}");

    // Changed behind our back, with its length and time as they were: the hash notices.
    let node = site.node(1);
    let module = node.path().join("lib/6.1.0-51/module.ko");
    let (_, by_chunks, failed) = site.update(&pack, node.path(), 1, || {
        let time = fs::metadata(&module).unwrap().modified().unwrap();
        let file = fs::OpenOptions::new().write(true).open(&module).unwrap();
        file.write_all_at(&noise(300_000, 78), 1000).unwrap();
        file.set_modified(time).unwrap();
    });
    assert_eq!(failed, 1);
    assert!(by_chunks > 0);
}

#[test]
fn the_same_versions_give_the_same_pack_and_it_is_kept() {
    let site = site(false);
    let (one, two) = (site.pack(&[1]), site.pack(&[1]));
    assert_eq!((one.id, &one.pack), (two.id, &two.pack));
    let kept = site
        .store
        .pack(&site.versions[1].id, &site.versions[2])
        .unwrap()
        .unwrap();
    assert_eq!(kept.bytes(), one.bytes());
    let way = (site.versions[1].id, site.versions[2].id);
    assert_eq!(site.store.find_pack(&one.id).unwrap(), Some(way));
    assert_eq!(site.store.find_pack(&way.0).unwrap(), None);
    assert!(
        site.store
            .pack(&site.versions[0].id, &site.versions[2])
            .unwrap()
            .is_none()
    );
    let report = fsck(&site.store, 2).unwrap();
    assert_eq!((report.findings, report.packs), (Vec::new(), 1));
}

#[test]
fn packs_are_collected_with_their_versions_and_checked_with_them() {
    let site = site(false);
    let pack = site.pack(&[0]);
    assert_eq!(collect(&site.store, false).unwrap().unneeded, []);
    let own = site.store.chunks().path(&pack.pack.chunks[0].handle.id);
    let bytes = fs::read(&own).unwrap();
    let mut damaged = bytes.clone();
    damaged[7] ^= 1;
    fs::write(&own, damaged).unwrap();
    let findings = fsck(&site.store, 1).unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].version.starts_with("packs/") && findings[0].problem.contains("is damaged"));
    fs::write(&own, bytes).unwrap();
    site.store.remove(&"golden@1".parse().unwrap(), false).unwrap();
    // Somebody is sent it.
    let lease = site
        .store
        .lease_pack(&site.versions[0].id, &site.versions[2].id)
        .unwrap()
        .unwrap();
    assert_eq!(collect(&site.store, false).unwrap().packs.len(), 0);
    assert!(own.exists());
    drop(lease);
    let collection = collect(&site.store, false).unwrap();
    assert_eq!(collection.packs.len(), 1);
    assert!(!own.exists());
    assert!(site.store.pack_files().unwrap().is_empty());
}

#[test]
fn what_was_altered_or_is_for_another_version_is_refused() {
    let site = site(false);
    let pack = site.pack(&[1]);
    let key = site.store.verifying_key();
    let to = &site.versions[2];
    let open = |bytes: Vec<u8>| SignedPack::open(bytes, &key, &to.id, &to.manifest);
    assert_eq!(open(pack.bytes().to_vec()).unwrap().pack, pack.pack);
    for at in [3, 70, pack.bytes().len() - 1] {
        let mut altered = pack.bytes().to_vec();
        altered[at] ^= 1;
        assert!(matches!(open(altered), Err(PackError::Signature)));
    }
    let other = &site.versions[1];
    let foreign = SignedPack::open(pack.bytes().to_vec(), &key, &other.id, &other.manifest);
    assert!(matches!(foreign, Err(PackError::Foreign)));
    // The server's own key over nonsense: a bound that this reader holds against its own side as well.
    let mut mad = pack.pack.clone();
    mad.chunks[0].records[0].part = u32::MAX;
    let mad = SignedPack::sign(mad, site.store.signing_key());
    assert!(matches!(open(mad.bytes().to_vec()), Err(PackError::Unsound(_))));
    let mut mad = pack.pack.clone();
    mad.chunks[0].records[0].len += 1;
    let mad = SignedPack::sign(mad, site.store.signing_key());
    assert!(matches!(
        open(mad.bytes().to_vec()),
        Err(PackError::Damaged("chunks"))
    ));
}

proptest::proptest! {
    #[test]
    fn bytes_that_are_no_pack_are_refused_without_a_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
        let mut list = b"SIMPACK\0\x01\0\0\0".to_vec();
        list.extend(bytes);
        proptest::prop_assert!(codec::decode(&list).is_err());
    }
}
