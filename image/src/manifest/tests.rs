//! The manifest's bytes: round trips, bytes that must not drift, and hostile ones.

use simulcast_protocol::id::{ChunkId, PartId};
use simulcast_protocol::limits::{DEPTH, PART_BYTES};

use super::*;
use crate::chunk::{ChunkKey, Encoding};
use crate::fs::{Timestamp, Xattr};

#[path = "forge.rs"]
mod forge;
#[path = "generated.rs"]
mod generated;

use forge::Forged;

const PART: u64 = PART_BYTES as u64;

/// An entry with plain metadata.
pub(crate) fn entry(parent: u32, name: &[u8], kind: Kind) -> Entry {
    let meta = Meta {
        mode: 0o644,
        ..Meta::default()
    };
    Entry {
        parent,
        name: name.into(),
        kind,
        meta,
    }
}

/// A manifest with these tables; each part is in a chunk of its own.
pub(crate) fn manifest_of(entries: Vec<Entry>, parts: Vec<Part>) -> Manifest {
    let chunks = (0u32..)
        .zip(&parts)
        .map(|(index, part)| chunk(&[Segment::Part(index)], part.len))
        .collect();
    Manifest {
        info: Info {
            image: "golden01".parse().unwrap(),
            version: Version::FIRST,
            created: 1_795_167_687,
            parent: None,
            source: BTreeMap::from([("tool".to_owned(), "test".to_owned())]),
        },
        entries,
        parts,
        chunks,
    }
}

fn chunk(segments: &[Segment], raw_len: u32) -> Chunk {
    let name = format!("{segments:?}");
    Chunk {
        handle: ChunkHandle {
            id: ChunkId::of(name.as_bytes()),
            key: ChunkKey(*ChunkId::of(b"key").as_bytes()),
            encoding: if raw_len.is_multiple_of(2) {
                Encoding::Zstd
            } else {
                Encoding::Raw
            },
            stored_len: raw_len.div_ceil(2),
            raw_len,
        },
        segments: segments.to_vec(),
    }
}

fn part(bytes: &[u8]) -> Part {
    Part {
        id: PartId::of(bytes),
        len: u32::try_from(bytes.len()).unwrap(),
    }
}

fn file(size: u64, parts: &[Option<u32>]) -> Kind {
    Kind::File(FileContent::new(size, parts, vec![]))
}

/// A small manifest with one of everything.
fn small() -> Manifest {
    let mut entries = vec![
        entry(0, b"", Kind::Directory),
        entry(0, b"dev", Kind::Directory),
        entry(1, b"null", Kind::CharDevice(Device { major: 1, minor: 3 })),
        entry(1, b"sda", Kind::BlockDevice(Device { major: 8, minor: 0 })),
        entry(0, b"etc", Kind::Directory),
        entry(4, b"a", file(3, &[Some(0)])),
        entry(4, b"b\n\xff", file(3, &[Some(0)])),
        entry(4, b"big", file(2 * PART + 5, &[Some(1), None, Some(2)])),
        entry(4, b"empty", file(0, &[])),
        entry(4, b"link", Kind::HardLink(7)),
        entry(
            4,
            b"sparse",
            Kind::File(FileContent::new(9, &[Some(3)], vec![Hole { start: 1, len: 8 }])),
        ),
        entry(0, b"fifo", Kind::Fifo),
        entry(0, b"lib", Kind::Symlink((*b"usr/lib").into())),
        entry(0, b"sock", Kind::Socket),
    ];
    entries[5].meta = Meta {
        mode: 0o4755,
        uid: u32::MAX - 1,
        gid: 1 << 31,
        mtime: Timestamp {
            secs: -1,
            nanos: 999_999_999,
        },
        xattrs: vec![
            Xattr {
                name: (*b"security.capability").into(),
                value: [1, 0].into(),
            },
            Xattr {
                name: (*b"user.x").into(),
                value: [].into(),
            },
        ],
    };
    let full = vec![7; PART_BYTES];
    let parts = vec![
        part(b"abc"),
        part(&full),
        part(b"12345"),
        part(b"x\0\0\0\0\0\0\0\0"),
    ];
    let mut manifest = manifest_of(entries, parts);
    let full = u32::try_from(PART_BYTES).unwrap();
    manifest.chunks = vec![
        chunk(
            &[
                Segment::Part(0),
                Segment::Dead(40),
                Segment::Part(2),
                Segment::Part(3),
            ],
            57,
        ),
        chunk(&[Segment::Part(1)], full),
    ];
    manifest
}

fn refused(manifest: &Manifest) -> String {
    let error = Manifest::decode(&manifest.encode()).unwrap_err();
    assert!(matches!(error, DecodeError::Unsound(_)), "{error:?}");
    let unsound = manifest.check().unwrap_err();
    assert_eq!(
        crate::chain(&error),
        format!("the manifest is unsound: {unsound}")
    );
    unsound.to_string()
}

/// What is said of `small()` after a change.
fn refused_with(change: impl FnOnce(&mut Manifest)) -> String {
    let mut manifest = small();
    change(&mut manifest);
    refused(&manifest)
}

#[test]
fn one_of_everything_round_trips() {
    let manifest = small();
    assert_eq!(manifest.check(), Ok(()));
    let bytes = manifest.encode();
    assert_eq!(
        bytes,
        manifest.clone().encode(),
        "the same manifest gives the same bytes"
    );
    assert_eq!(Manifest::decode(&bytes).unwrap(), manifest);
}

/// Whoever changes the format has to change this text, and with it the number of the format.
#[test]
fn the_bytes_do_not_drift() {
    let golden: String = include_str!("golden.hex").split_whitespace().collect();
    let bytes: Vec<u8> = (0..golden.len() / 2)
        .map(|at| u8::from_str_radix(&golden[2 * at..2 * at + 2], 16).unwrap())
        .collect();
    let hex: String = small()
        .encode()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(hex, golden, "what is written is what was always written");
    assert_eq!(
        Manifest::decode(&bytes).unwrap(),
        small(),
        "manifests of this format stay readable"
    );
    // The same bytes column by column, told apart from the compression.
    assert_eq!(
        forge::columns(&small()).names,
        b"devnullsdaetcab\n\xffbigemptylinksparsefifolibsock"
    );
}

#[test]
fn names_that_could_leave_the_target_are_refused() {
    for (name, shown) in [
        (&b"../../etc/passwd"[..], "../../etc/passwd"),
        (b"..", ".."),
        (b".", "."),
        (b"/", "/"),
        (b"a/b", "a/b"),
        (b"", "."),
        (b"a\0b", "a\\x00b"),
    ] {
        let text = refused_with(|manifest| manifest.entries[2].name = name.into());
        let wanted = format!(
            "entry 2 has the name \"{shown}\", which is not one path component; such a name could leave the target"
        );
        assert_eq!(text, wanted);
    }
    // A name of 256 bytes cannot even be written: its column has one byte for the length.
    let mut forged = Forged::of(&small());
    forged.entries.name_len[1] = 0;
    forged.entries.name_len[2] = 7;
    assert!(forged.decode_error().contains("entry 1 has the name \".\""));
}

#[test]
fn entries_below_anything_but_an_earlier_directory_are_refused() {
    let below = |index: u32, name: &str| {
        format!(
            "entry {index} (\"{name}\") is below something that is not a directory; such an entry could leave the target"
        )
    };
    // A symlink that leads outside, and an entry below it.
    let text = refused_with(|manifest| {
        manifest.entries[1].kind = Kind::Symlink((*b"/etc").into());
    });
    assert_eq!(text, below(2, "null"));
    let text = refused_with(|manifest| manifest.entries[6].parent = 5);
    assert_eq!(text, below(6, "b\\n\\xff"));
    // An entry of a directory that the order has left behind.
    let text = refused_with(|manifest| manifest.entries[5].parent = 1);
    assert_eq!(text, below(5, "a"));
    // A cycle: an entry that is its own directory.
    let text = refused_with(|manifest| manifest.entries[4].parent = 4);
    assert_eq!(text, below(4, "etc"));
    // A parent that comes later cannot be written: the column goes backwards only.
    let mut forged = Forged::of(&small());
    forged.entries.parent_back[2] = 3;
    assert_eq!(
        forged.decode_error(),
        "the manifest is cut short or damaged in its entries section"
    );
}

#[test]
fn the_root_is_a_directory_without_a_name() {
    let wanted = "its first entry is not the root directory";
    assert_eq!(
        refused_with(|manifest| manifest.entries[0].kind = Kind::Fifo),
        wanted
    );
    assert_eq!(
        refused_with(|manifest| manifest.entries[0].name = (*b"x").into()),
        wanted
    );
    assert_eq!(refused(&manifest_of(vec![], vec![])), wanted);
}

#[test]
fn there_is_one_order_and_no_path_twice() {
    let wanted = |index: u32, name: &str| format!("entry {index} (\"{name}\") is out of order or doubled");
    let text = refused_with(|manifest| manifest.entries[3].name = (*b"null").into());
    assert_eq!(text, wanted(3, "null"));
    let text = refused_with(|manifest| manifest.entries[3].name = (*b"a").into());
    assert_eq!(text, wanted(3, "a"));
    let text = refused_with(|manifest| manifest.entries.swap(11, 12));
    assert_eq!(text, wanted(12, "fifo"));
}

#[test]
fn depth_is_bounded() {
    let deep = |levels: usize| {
        let dirs = (0..u32::try_from(levels).unwrap()).map(|level| entry(level, b"d", Kind::Directory));
        manifest_of(
            std::iter::once(entry(0, b"", Kind::Directory))
                .chain(dirs)
                .collect(),
            vec![],
        )
    };
    assert_eq!(deep(DEPTH).check(), Ok(()));
    assert_eq!(
        refused(&deep(DEPTH + 1)),
        "entry 4097 (\"d\") is more than 4096 levels deep"
    );
}

#[test]
fn hard_links_lead_to_earlier_inodes() {
    let wanted = "entry 9 (\"link\") is a hard link to something that is not an earlier file";
    for target in [4, 9] {
        let text = refused_with(|manifest| manifest.entries[9].kind = Kind::HardLink(target));
        assert_eq!(text, wanted);
    }
    // To a link, which is no inode itself.
    let text = refused_with(|manifest| {
        manifest.entries[10].kind = Kind::HardLink(9);
    });
    assert_eq!(
        text,
        "entry 10 (\"sparse\") is a hard link to something that is not an earlier file"
    );
    // A later entry cannot be written.
    let mut forged = Forged::of(&small());
    forged.entries.link_back[0] = 10;
    assert_eq!(
        forged.decode_error(),
        "the manifest is cut short or damaged in its entries section"
    );
}

#[test]
fn fields_are_bounded() {
    let text = |index: usize, change: &dyn Fn(&mut Entry)| {
        refused_with(|manifest| change(&mut manifest.entries[index]))
    };
    let wanted = |index: u32, name: &str, what: &str| {
        format!("entry {index} (\"{name}\") has {what} that no Linux file system can hold")
    };
    assert_eq!(
        text(1, &|entry| entry.meta.mode = 0o10000),
        wanted(1, "dev", "a mode")
    );
    assert_eq!(
        text(1, &|entry| entry.meta.mtime.nanos = 1_000_000_000),
        wanted(1, "dev", "a time")
    );
    let xattr = |name: &[u8], len: usize| Xattr {
        name: name.into(),
        value: vec![0; len].into(),
    };
    for xattrs in [
        vec![xattr(b"", 1)],
        vec![xattr(b"a\0", 1)],
        vec![xattr(b"user.a", (64 << 10) + 1)],
        vec![xattr(b"b", 1), xattr(b"a", 1)],
        vec![xattr(b"a", 1), xattr(b"a", 1)],
        vec![xattr(&[b'x'; 256], 1)],
        (0..1025)
            .map(|number| xattr(format!("user.{number:04}").as_bytes(), 0))
            .collect(),
    ] {
        let text = text(11, &|entry| entry.meta.xattrs.clone_from(&xattrs));
        assert_eq!(text, wanted(11, "fifo", "extended attributes"));
    }
    for target in [&b""[..], b"a\0b", &[b'x'; 4096]] {
        let text = text(12, &|entry| entry.kind = Kind::Symlink(target.into()));
        assert_eq!(text, wanted(12, "lib", "a symlink target"));
    }
    let hole = |start, len| Hole { start, len };
    for holes in [
        vec![hole(1, 9)],
        vec![hole(u64::MAX, 2)],
        vec![hole(3, 0)],
        vec![hole(4, 1), hole(1, 1)],
        vec![hole(1, 1), hole(2, 1)],
    ] {
        let text = text(10, &|entry| {
            entry.kind = Kind::File(FileContent::new(9, &[Some(3)], holes.clone()))
        });
        assert_eq!(text, wanted(10, "sparse", "holes"));
    }
    // A size over the bound cannot be told from damage: its parts would not fit.
    let mut forged = Forged::of(&small());
    *forged.entries.size.last_mut().unwrap() = u64::MAX;
    assert_eq!(
        forged.decode_error(),
        "the manifest is cut short or damaged in its entries section"
    );
}

#[test]
fn files_need_parts_that_exist_with_the_right_length() {
    let wanted = |index, name, part| {
        format!("entry {index} (\"{name}\") needs part {part}, which does not exist or has another length")
    };
    let text = refused_with(|manifest| manifest.entries[5].kind = file(3, &[Some(4)]));
    assert_eq!(text, wanted(5, "a", 4));
    let text = refused_with(|manifest| manifest.entries[5].kind = file(3, &[Some(u32::MAX - 2)]));
    assert_eq!(text, wanted(5, "a", u32::MAX - 2));
    let text = refused_with(|manifest| manifest.entries[5].kind = file(4, &[Some(0)]));
    assert_eq!(text, wanted(5, "a", 0));
}

#[test]
fn every_part_is_held_once_and_fills_its_chunk() {
    let text = refused_with(|manifest| manifest.chunks[0].segments[2] = Segment::Dead(5));
    assert_eq!(text, "part 2 is held by 0 chunks instead of one");
    let text = refused_with(|manifest| {
        manifest.chunks[0].segments.push(Segment::Part(0));
        manifest.chunks[0].handle.raw_len += 3;
    });
    assert_eq!(text, "part 0 is held by 2 chunks instead of one");
    let unfilled = "chunk 0 has segments that do not fill it";
    for (raw_len, stored_len) in [(56, 20), (58, 20), (57, 58), (57, 0), (0, 0), (u32::MAX, 1)] {
        let text = refused_with(|manifest| {
            manifest.chunks[0].handle.raw_len = raw_len;
            manifest.chunks[0].handle.stored_len = stored_len;
        });
        assert_eq!(text, unfilled, "{raw_len} {stored_len}");
    }
    assert_eq!(
        refused_with(|manifest| manifest.chunks[0].segments[0] = Segment::Part(9)),
        unfilled
    );
    // Lengths that would overflow 32 bits and come out right.
    let text = refused_with(|manifest| {
        manifest.chunks[0]
            .segments
            .extend([Segment::Dead(u32::MAX), Segment::Dead(1)]);
    });
    assert_eq!(text, unfilled);
    let text = refused_with(|manifest| {
        manifest.chunks[1].segments.push(Segment::Dead(1));
        manifest.chunks[1].handle.raw_len += 1;
    });
    assert_eq!(text, "chunk 1 has segments that do not fill it");
}

#[test]
fn what_is_no_manifest_is_said_to_be_none() {
    let decode = |bytes: &[u8]| Manifest::decode(bytes).unwrap_err().to_string();
    assert_eq!(decode(b""), "the manifest does not begin like one");
    assert_eq!(
        decode(b"#!/bin/sh\nexit 1\n"),
        "the manifest does not begin like one"
    );
    let mut bytes = small().encode();
    bytes[8] = 2;
    assert_eq!(
        decode(&bytes),
        "the manifest has format 2, this program reads format 1: a newer Simulcast wrote it"
    );
    let mut bytes = small().encode();
    bytes.push(0);
    assert_eq!(
        decode(&bytes),
        "the manifest is cut short or damaged in its last section"
    );
}

#[test]
fn every_cut_and_every_flipped_bit_is_survived_and_noticed() {
    let key = SigningKey::from_bytes(&[1; 32]);
    let signed = key.sign(small());
    let open = |bytes: Vec<u8>| SignedManifest::open(bytes, &key.verifying_key());
    assert_eq!(open(signed.bytes().to_vec()).unwrap().manifest, small());
    let encoded = &signed.bytes()[64..];
    for cut in 0..encoded.len() {
        assert!(Manifest::decode(&encoded[..cut]).is_err(), "cut at {cut}");
        assert!(open(signed.bytes()[..cut].to_vec()).is_err());
    }
    for at in 0..signed.bytes().len() {
        for bit in 0..8 {
            let mut bytes = signed.bytes().to_vec();
            bytes[at] ^= 1 << bit;
            // Without the signature some flips give another sound manifest; none may do worse.
            if let Some(encoded) = bytes.get(64..)
                && let Ok(manifest) = Manifest::decode(encoded)
            {
                assert_eq!(manifest.check(), Ok(()));
            }
            assert!(
                matches!(open(bytes), Err(SignatureError::Wrong(_))),
                "bit {bit} of byte {at}"
            );
        }
    }
}

#[test]
fn flipped_bits_behind_the_compression_are_survived() {
    // zstd hides most of the decoder from flips of the bytes as stored: these reach it.
    for section in 0..4 {
        let raw = forge::raw_sections(&small());
        for at in 0..raw[section].len() {
            for bit in 0..8 {
                let mut sections = raw.clone();
                sections[section][at] ^= 1 << bit;
                if let Ok(manifest) = Manifest::decode(&forge::assemble(&sections)) {
                    assert_eq!(
                        manifest.check(),
                        Ok(()),
                        "section {section}, byte {at}, bit {bit}"
                    );
                }
            }
            let mut sections = raw.clone();
            sections[section].truncate(at);
            assert!(
                Manifest::decode(&forge::assemble(&sections)).is_err(),
                "section {section} cut at {at}"
            );
        }
    }
}

#[test]
fn counts_that_lie_allocate_nothing() {
    let damaged = |name: &str| format!("the manifest is cut short or damaged in its {name} section");
    let decode = |bytes: &[u8]| Manifest::decode(bytes).unwrap_err().to_string();
    // A vector of 2^63 elements in a section of a few bytes.
    let mut sections = forge::raw_sections(&small());
    sections[2] = [&[0xff; 9][..], &[0x7f]].concat();
    assert_eq!(decode(&forge::assemble(&sections)), damaged("parts"));
    // A length that its frame does not confirm.
    let sections = forge::raw_sections(&small());
    let mut bytes = forge::assemble(&sections);
    bytes[12..16].copy_from_slice(&(1u32 << 30).to_le_bytes());
    assert_eq!(decode(&bytes), damaged("info"));
    // More bytes than all sections may have together.
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(
        decode(&bytes),
        "the manifest has more bytes than the 2147483648 that are allowed"
    );
    // A frame that claims 1 GiB and has 20 bytes: more than zstd can make of them.
    let frame = forge::lying_frame(1 << 30);
    let lie = [
        &b"SIMCAST\0"[..],
        &1u32.to_le_bytes(),
        &(1u32 << 30).to_le_bytes(),
        &forge::len32(&frame),
        &frame,
    ];
    assert_eq!(decode(&lie.concat()), damaged("info"));
}

#[test]
fn columns_of_different_length_are_refused() {
    let check = |change: &dyn Fn(&mut Forged)| {
        let mut forged = Forged::of(&small());
        change(&mut forged);
        forged.decode_error()
    };
    let damaged = |name: &str| format!("the manifest is cut short or damaged in its {name} section");
    let changes: [&dyn Fn(&mut Forged); 9] = [
        &|forged| forged.entries.mode.push(0),
        &|forged| forged.entries.names.push(b'x'),
        &|forged| forged.entries.targets.push(b'x'),
        &|forged| forged.entries.devices.truncate(1),
        &|forged| forged.entries.part_refs.push(0),
        &|forged| forged.entries.xattrs[0].0 = 99,
        &|forged| forged.entries.holes[0].0 = 99,
        &|forged| forged.entries.kind[0] = 8,
        &|forged| forged.entries.size.push(0),
    ];
    for change in changes {
        assert_eq!(check(change), damaged("entries"));
    }
    assert_eq!(check(&|forged| forged.parts.len.push(1)), damaged("parts"));
    assert_eq!(check(&|forged| forged.parts.len[0] = 0), damaged("parts"));
    assert_eq!(check(&|forged| forged.parts.len[0] = u32::MAX), damaged("parts"));
    assert_eq!(check(&|forged| forged.chunks.segments.push(1)), damaged("chunks"));
    assert_eq!(check(&|forged| forged.chunks.dead_len.push(1)), damaged("chunks"));
    assert_eq!(
        check(&|forged| forged.chunks.segment_count[0] = u32::MAX),
        damaged("chunks")
    );
    assert_eq!(
        check(&|forged| forged.chunks.raw_len.truncate(1)),
        damaged("chunks")
    );
}

#[test]
fn only_the_right_key_opens() {
    let (ours, theirs) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
    let signed = ours.sign(small());
    assert_eq!(signed.id, ManifestId::of(&small().encode()));
    let error = SignedManifest::open(signed.bytes().to_vec(), &theirs.verifying_key()).unwrap_err();
    let wanted = format!(
        "the manifest's signature does not fit the server's key {}: it was altered, or another server made it",
        theirs.verifying_key()
    );
    assert_eq!(error.to_string(), wanted);
    assert!(matches!(
        SignedManifest::open(vec![0; 63], &ours.verifying_key()),
        Err(SignatureError::Short)
    ));
    // A right signature of something that is no manifest.
    let text = ours.verifying_key().to_string();
    assert_eq!(text.parse::<VerifyingKey>(), Ok(ours.verifying_key()));
    assert_eq!("00".parse::<VerifyingKey>(), Err(KeyError));
}
