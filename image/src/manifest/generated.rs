//! Generated sound manifests, and noise.

use std::collections::BTreeMap;

use proptest::prelude::*;
use simulcast_protocol::id::{ManifestId, PartId};

use super::{PART, manifest_of};
use crate::fs::{Device, Meta, Timestamp, Xattr};
use crate::manifest::{Entry, FileContent, Hole, Kind, Manifest, Part, Segment};

/// What a generated file is made of, before parts are numbered.
#[derive(Debug, Clone)]
enum Seed {
    Directory(Vec<(Vec<u8>, Seed, Meta)>),
    File(u64, Vec<Option<u8>>, bool),
    Symlink(Vec<u8>),
    Device(bool, u32, u32),
    Fifo,
    Socket,
    /// Of the inode with this number, counted round the ones before it.
    Link(usize),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { byte });
    let usual = proptest::collection::vec(byte.clone(), 1..12);
    let long = proptest::collection::vec(byte, 255);
    prop_oneof![9 => usual, 1 => long].prop_filter("not a name", |name| name != b"." && name != b"..")
}

fn meta() -> impl Strategy<Value = Meta> {
    let xattr = (
        proptest::collection::vec(1u8..=255, 1..40),
        proptest::collection::vec(any::<u8>(), 0..50),
    );
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3).prop_map(|map| {
        map.into_iter()
            .map(|(name, value)| Xattr {
                name: name.into(),
                value: value.into(),
            })
            .collect()
    });
    (
        0..=0o7777u16,
        any::<u32>(),
        any::<u32>(),
        any::<i64>(),
        0..1_000_000_000u32,
        xattrs,
    )
        .prop_map(|(mode, uid, gid, secs, nanos, xattrs)| Meta {
            mode,
            uid,
            gid,
            mtime: Timestamp { secs, nanos },
            xattrs,
        })
}

fn seed() -> impl Strategy<Value = Seed> {
    let size = prop_oneof![Just(0), 1..2000u64, Just(PART), PART + 1..4 * PART];
    let leaf = prop_oneof![
        4 => (size, proptest::collection::vec(proptest::option::of(0u8..6), 5), any::<bool>())
            .prop_map(|(size, parts, sparse)| Seed::File(size, parts, sparse)),
        1 => proptest::collection::vec(1u8..=255, 1..300).prop_map(Seed::Symlink),
        1 => (any::<bool>(), any::<u32>(), any::<u32>()).prop_map(|(b, major, minor)| Seed::Device(b, major, minor)),
        1 => Just(Seed::Fifo),
        1 => Just(Seed::Socket),
        2 => any::<usize>().prop_map(Seed::Link),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        proptest::collection::vec((name(), inner, meta()), 0..8).prop_map(Seed::Directory)
    })
}

/// Numbers entries and parts as a capture does.
#[derive(Default)]
struct Builder {
    entries: Vec<Entry>,
    parts: Vec<Part>,
    inodes: Vec<u32>,
}

impl Builder {
    fn add(&mut self, parent: u32, name: Vec<u8>, seed: Seed, meta: Meta) {
        let index = u32::try_from(self.entries.len()).unwrap();
        let (kind, children) = match seed {
            Seed::Directory(children) => (Kind::Directory, children),
            Seed::File(size, parts, sparse) => (self.file(size, &parts, sparse), vec![]),
            Seed::Symlink(target) => (Kind::Symlink(target.into()), vec![]),
            Seed::Device(true, major, minor) => (Kind::BlockDevice(Device { major, minor }), vec![]),
            Seed::Device(false, major, minor) => (Kind::CharDevice(Device { major, minor }), vec![]),
            Seed::Fifo => (Kind::Fifo, vec![]),
            Seed::Socket => (Kind::Socket, vec![]),
            Seed::Link(_) if self.inodes.is_empty() => (Kind::Fifo, vec![]),
            Seed::Link(number) => (Kind::HardLink(self.inodes[number % self.inodes.len()]), vec![]),
        };
        if !matches!(kind, Kind::Directory | Kind::HardLink(_)) {
            self.inodes.push(index);
        }
        self.entries.push(Entry {
            parent,
            name: name.into(),
            kind,
            meta,
        });
        let children: BTreeMap<_, _> = children
            .into_iter()
            .map(|(name, seed, meta)| (name, (seed, meta)))
            .collect();
        for (name, (seed, meta)) in children {
            self.add(index, name, seed, meta);
        }
    }

    fn file(&mut self, size: u64, parts: &[Option<u8>], sparse: bool) -> Kind {
        let zeros = FileContent::zeros(size);
        let numbers: Vec<_> = zeros
            .parts()
            .zip(parts)
            .map(|(place, part)| part.map(|part| self.part(part, place.len)))
            .collect();
        let hole = Hole {
            start: size / 3,
            len: size / 3,
        };
        let holes = if sparse && hole.len > 0 {
            vec![hole]
        } else {
            vec![]
        };
        Kind::File(FileContent::new(size, &numbers, holes))
    }

    fn part(&mut self, seed: u8, len: u32) -> u32 {
        let id = PartId::of(format!("{seed} {len}").as_bytes());
        let known = self.parts.iter().position(|part| part.id == id);
        u32::try_from(known.unwrap_or_else(|| {
            self.parts.push(Part { id, len });
            self.parts.len() - 1
        }))
        .unwrap()
    }
}

fn sound() -> impl Strategy<Value = Manifest> {
    let children = proptest::collection::vec((name(), seed(), meta()), 0..8);
    (children, meta(), any::<i64>(), any::<u64>()).prop_map(|(children, meta, created, shuffle)| {
        let mut builder = Builder::default();
        builder.add(0, vec![], Seed::Directory(children), meta);
        let mut manifest = manifest_of(builder.entries, builder.parts);
        manifest.info.created = created;
        if shuffle & 1 == 1 {
            manifest.info.parent = Some(ManifestId::of(b"parent"));
            // Chunks and parts need not be in the same order, and chunks may hold bytes that nobody wants.
            manifest.chunks.reverse();
            for chunk in &mut manifest.chunks {
                if chunk.handle.raw_len < 1000 {
                    chunk.segments.insert(0, Segment::Dead(7));
                    chunk.handle.raw_len += 7;
                }
            }
        }
        manifest
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn sound_manifests_round_trip(manifest in sound()) {
        prop_assert_eq!(manifest.check(), Ok(()));
        let decoded = Manifest::decode(&manifest.encode()).unwrap();
        prop_assert_eq!(decoded, manifest);
    }

    #[test]
    fn noise_is_refused(noise in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = [&b"SIMCAST\0\x01\0\0\0"[..], &noise].concat();
        prop_assert!(Manifest::decode(&bytes).is_err());
    }
}
