//! Archives that are damaged, or lie, or try to leave the target.

use ::tar::{EntryType, Header};

use super::TarError;
use super::tests::{Archive, refused, store, take_as};

#[test]
fn names_that_could_leave_the_target_are_refused() {
    for path in ["../x", "a/../../x", "/..", "a/.."] {
        assert_eq!(
            refused(&Archive::default().file(path, b"x").end()),
            format!(
                "member {path} of the archive has \"..\" in its path; such a member could leave the target"
            )
        );
    }
    let archive = Archive::default()
        .member(b'2', b"lib", b"/etc", b"")
        .file("lib/passwd", b"x");
    assert_eq!(
        refused(&archive.end()),
        "member lib/passwd of the archive lies below /lib, which is not a directory; such a member could leave the target"
    );
    let archive = Archive::default().member(b'1', b"shadow", b"/etc/shadow", b"");
    assert_eq!(
        refused(&archive.end()),
        "member shadow of the archive is a hard link to /etc/shadow, which does not stand before it or was excluded"
    );
    let archive = Archive::default()
        .member(b'5', b"d", b"", b"")
        .member(b'1', b"l", b"d", b"");
    assert!(refused(&archive.end()).contains("is a hard link to d"));
    let with_path = |path: &[u8]| {
        Archive::default()
            .records(&[(b"path", path)])
            .file("short", b"")
            .end()
    };
    assert!(refused(&with_path(b"a\0b")).contains("has a name that no Linux file system can hold"));
    assert!(refused(&with_path(&[b'x'; 256])).contains("has a name that no Linux file system can hold"));
    assert!(refused(&with_path(&b"d/".repeat(4097))).contains("is more than 4,096 levels deep"));
    assert!(refused(&Archive::default().file(".", b"x").end()).contains("is the root and yet no directory"));
}

#[test]
fn what_is_no_archive_is_refused_by_name() {
    assert_eq!(
        refused(&[1; 512]),
        "this is no tar archive: its first header does not add up"
    );
    let zstd = [&[0x28, 0xb5, 0x2f, 0xfd][..], &[7; 600]].concat();
    assert_eq!(
        refused(&zstd),
        "the archive is compressed; unpack it on the way: zstd -dc FILE | si-import NAME --tar -"
    );
    assert_eq!(
        refused(b""),
        "the archive was cut short: it ends at byte 0, without the mark that ends an archive"
    );
}

#[test]
fn every_cut_is_noticed_and_no_flipped_byte_is_worse_than_an_error() {
    let archive = Archive::default()
        .records(&[(b"mtime", b"1.5"), (b"SCHILY.xattr.user.x", b"y")])
        .file("a", b"content")
        .member(b'L', b"././@LongLink", b"", b"long/name\0")
        .file("b", b"x")
        .end();
    let (_state, store) = store();
    // Each attempt has an image of its own: a program that another test starts keeps a lock until it has been executed.
    for cut in (0..archive.len() - 1024).step_by(61) {
        let error = take_as(&format!("cut{cut}"), &store, &archive[..cut]).unwrap_err();
        assert!(matches!(error, TarError::Short(..)), "{cut}: {error}");
    }
    for at in (0..archive.len() - 1024).step_by(7) {
        let mut flipped = archive.clone();
        flipped[at] ^= 0x11;
        match take_as(&format!("flip{at}"), &store, &flipped) {
            Ok((version, _)) => assert_eq!(version.signed.manifest.check(), Ok(())),
            Err(TarError::Store(error)) => panic!("byte {at}: {error}"),
            Err(_) => {}
        }
    }
}

#[test]
fn lies_about_sizes_are_noticed() {
    let huge = |kind: u8, size: u64| {
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::new(kind));
        header.as_old_mut().name[0] = b'x';
        header.set_mode(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(size);
        header.set_cksum();
        [header.as_bytes(), &[b'1'; 512][..]].concat()
    };
    assert!(refused(&huge(b'x', 1 << 40)).contains("announces more than 16 MiB"));
    assert!(refused(&huge(b'L', 1 << 33)).contains("announces more than 16 MiB"));
    assert!(refused(&huge(b'x', 1 << 20)).contains("in a pax header or a long name"));
    assert!(refused(&huge(b'0', 1 << 40)).contains("was cut short"));
    assert!(refused(&huge(b'0', 1 << 45)).contains("has more bytes than a version can hold"));
    let sparse = |records: &[(&[u8], &[u8])], data: &[u8]| {
        refused(&Archive::default().records(records).file("s", data).end())
    };
    let map = |text: &str| {
        let mut data = text.as_bytes().to_vec();
        data.resize(data.len().next_multiple_of(512), 0);
        data
    };
    let one: [(&[u8], &[u8]); 2] = [(b"GNU.sparse.major", b"1"), (b"GNU.sparse.realsize", b"100")];
    for text in [
        "1\n0\n600\n",
        "2\n50\n1\n0\n1\n",
        "1\n99\n5\n",
        "1\n18446744073709551615\n1\n",
    ] {
        let error = sparse(&one, &[map(text), vec![1; 2]].concat());
        assert!(error.contains("whose extents"), "{error}");
    }
    for text in ["x\n", "1048577\n", "5\n0\n"] {
        assert!(sparse(&one, &map(text)).contains("whose extents are damaged"));
    }
    let error = sparse(&[(b"GNU.sparse.map", b"0,1")], b"x");
    assert!(error.contains("is of a sparse file without a length"), "{error}");
    assert!(
        refused(
            &Archive::default()
                .records(&[(b"uid", b"4294967296")])
                .file("x", b"")
                .end()
        )
        .contains("damaged records")
    );
}
