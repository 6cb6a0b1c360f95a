//! Archives of GNU tar and of our own, and hostile ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use ::tar::{EntryType, Header};
use simulcast_protocol::limits::PART_BYTES;
use tempfile::TempDir;

use super::pax::push_record;
use super::*;
use crate::apply::Install;
use crate::capture::{Import, ScanScope, import_tree};
use crate::fs::{open_root, testing::privileged};
use crate::manifest::{Kind, Manifest};
use crate::store::{ChunkStore, Store, StoredVersion};

fn import(name: &str) -> Import {
    Import {
        image: name.parse().unwrap(),
        source: BTreeMap::new(),
        created: 77,
        level: 1,
        threads: 2,
    }
}

pub(super) fn store() -> (TempDir, Store) {
    let state = TempDir::new().unwrap();
    let store = Store::open(state.path()).unwrap();
    (state, store)
}

fn take(store: &Store, archive: &[u8]) -> Result<(StoredVersion, TarReport), TarError> {
    take_as("golden", store, archive)
}

pub(super) fn take_as(
    name: &str,
    store: &Store,
    archive: &[u8],
) -> Result<(StoredVersion, TarReport), TarError> {
    import_tar(store, Cursor::new(archive), import(name), &|_, _| false, &|_| {})
}

fn manifest(archive: &[u8]) -> Manifest {
    let (_state, store) = store();
    take(&store, archive).unwrap().0.signed.manifest
}

/// What is said of an archive that is refused; and that it left no version.
pub(super) fn refused(archive: &[u8]) -> String {
    let (_state, store) = store();
    let error = take(&store, archive).unwrap_err();
    assert!(store.images().unwrap().is_empty());
    error.to_string()
}

fn install(store: &Store, manifest: &Manifest, target: &Path) {
    let install = Install::begin(manifest, open_root(target).unwrap()).unwrap();
    let mut worker = install.writer().worker().unwrap();
    for (index, chunk) in (0u32..).zip(&manifest.chunks) {
        let mut stored = store.chunks().read(&chunk.handle.id).unwrap();
        install.writer().chunk(&mut worker, index, &mut stored).unwrap();
    }
    install.finish().unwrap();
}

#[expect(clippy::disallowed_methods, reason = "a test compares with the real programs")]
fn run(program: &str, arguments: &[&str], directory: &Path, input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output.stdout
}

fn same(left: &Path, right: &Path) {
    let left = format!("{}/", left.display());
    let right = format!("{}/", right.display());
    let arguments = [
        "-aHAXSn",
        "--checksum",
        "--delete",
        "--itemize-changes",
        &left,
        &right,
    ];
    let differences = run("rsync", &arguments, Path::new("/"), b"");
    assert_eq!(String::from_utf8(differences).unwrap(), "");
}

/// One of everything that an archive can hold.
fn tree() -> TempDir {
    let tree = TempDir::new().unwrap();
    let at = |name: &str| tree.path().join(name);
    fs::create_dir_all(at("a/b")).unwrap();
    fs::write(at("a/empty"), b"").unwrap();
    fs::write(at("a/one"), b"1").unwrap();
    fs::hard_link(at("a/one"), at("a/b/again")).unwrap();
    symlink("../nowhere", at("a/dangling")).unwrap();
    symlink("x".repeat(200), at("a/long")).unwrap();
    fs::hard_link(at("a/dangling"), at("a/dangling2")).unwrap();
    fs::write(at(&"n".repeat(255)), b"long name").unwrap();
    let deep = at(&["d".repeat(100), "e".repeat(100), "f".repeat(100)].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("new\nline"), b"odd").unwrap();
    let big: Vec<u8> = (0..=250u8).cycle().take(2 * PART_BYTES + 1234).collect();
    fs::write(at("big"), big).unwrap();
    fs::write(at("zeros"), vec![0; PART_BYTES + 1]).unwrap();
    let sparse = fs::File::create(at("sparse")).unwrap();
    sparse.set_len(300 << 20).unwrap();
    sparse.write_all_at(&[7; 70_000], 200 << 20).unwrap();
    sparse.write_all_at(&[8; 10_000], 1 << 20).unwrap();
    let many = fs::File::create(at("many-extents")).unwrap();
    for number in 0..100 {
        many.write_all_at(&[9; 4096], number * 65_536).unwrap();
    }
    run("mkfifo", &["a/fifo"], tree.path(), b"");
    run("mknod", &["a/null", "c", "1", "3"], tree.path(), b"");
    run("mknod", &["a/disk", "b", "259", "300000"], tree.path(), b"");
    run("chown", &["4000000000:3000000000", "a/one"], tree.path(), b"");
    run("chmod", &["6755", "a/one"], tree.path(), b"");
    run("chmod", &["0", "a/empty"], tree.path(), b"");
    run("setfacl", &["-m", "u:1234:rw,g:4321:r", "big"], tree.path(), b"");
    run("setfacl", &["-d", "-m", "u:1234:rwx", "a"], tree.path(), b"");
    run(
        "setfattr",
        &["-n", "user.note", "-v", "a\nb=c", "big"],
        tree.path(),
        b"",
    );
    run(
        "setfattr",
        &["-n", "trusted.t", "-v", "0x00ff", "a/b"],
        tree.path(),
        b"",
    );
    run(
        "setfattr",
        &["-h", "-n", "trusted.l", "-v", "x", "a/long"],
        tree.path(),
        b"",
    );
    run("setcap", &["cap_net_raw+ep", "zeros"], tree.path(), b"");
    run(
        "touch",
        &["-h", "-d", "1950-01-01 00:00:00.123456789Z", "a/dangling"],
        tree.path(),
        b"",
    );
    run(
        "touch",
        &["-d", "1969-12-31 23:59:59.5Z", "a/b"],
        tree.path(),
        b"",
    );
    tree
}

/// Everything that GNU tar can be asked for in the one format that has room for it.
const ALL: [&str; 5] = [
    "--xattrs",
    "--xattrs-include=*",
    "--acls",
    "--numeric-owner",
    "--sparse",
];

fn pack(tree: &Path, format: &str) -> Vec<u8> {
    let options = match format {
        "posix" => &ALL[..],
        "gnu" => &ALL[3..],
        _ => &ALL[3..4],
    };
    let format = format!("--format={format}");
    let arguments = [&["-c"][..], options, &[&format, "."]].concat();
    run("tar", &arguments, tree, b"")
}

#[test]
fn what_gnu_tar_packs_comes_back() {
    if !privileged("what_gnu_tar_packs_comes_back") {
        return;
    }
    let (tree, (_state, store)) = (tree(), store());
    let (version, report) = take(&store, &pack(tree.path(), "posix")).unwrap();
    assert_eq!(report.notes, Vec::<String>::new());
    let target = TempDir::new().unwrap();
    install(&store, &version.signed.manifest, target.path());
    same(tree.path(), target.path());
    let blocks = |name: &str| fs::metadata(target.path().join(name)).unwrap().blocks() * 512;
    assert!(blocks("sparse") < 1 << 20, "{}", blocks("sparse"));
    assert!(blocks("zeros") > PART_BYTES as u64);
    // The same tree, taken directly, has the same entries: contents, holes, attributes, links and all.
    let scope = ScanScope {
        excluded: &|_, _| false,
        closed: &std::collections::HashSet::new(),
    };
    let (direct, _) = import_tree(&store, open_root(tree.path()).unwrap(), &scope, import("direct")).unwrap();
    assert_eq!(
        crate::diff::diff(&direct.signed.manifest, &version.signed.manifest),
        []
    );
}

#[test]
fn what_we_pack_gnu_tar_unpacks_and_we_read_back() {
    if !privileged("what_we_pack_gnu_tar_unpacks_and_we_read_back") {
        return;
    }
    let (tree, (_state, store)) = (tree(), store());
    let socket = std::os::unix::net::UnixListener::bind(tree.path().join("socket")).unwrap();
    let scope = ScanScope {
        excluded: &|_, _| false,
        closed: &std::collections::HashSet::new(),
    };
    let (version, _) =
        import_tree(&store, open_root(tree.path()).unwrap(), &scope, import("golden")).unwrap();
    let mut archive = Vec::new();
    let report = export_tar(&store, &version.signed.manifest, &mut archive, &|_| {}).unwrap();
    assert_eq!(report.sockets, ["/socket"]);
    assert_eq!(report.members, version.signed.manifest.entries.len() as u64 - 1);
    assert!(archive.len() < 20 << 20, "{}", archive.len());
    drop(socket);
    fs::remove_file(tree.path().join("socket")).unwrap();
    run("touch", &["-d", "@5", "."], tree.path(), b"");

    let target = TempDir::new().unwrap();
    let arguments = [&["-xp"][..], &ALL[..4]].concat();
    run("tar", &arguments, target.path(), &archive);
    run("touch", &["-d", "@5", "."], target.path(), b"");
    same(tree.path(), target.path());

    let (again, report) = take(&store, &archive).unwrap();
    assert_eq!(report.notes, Vec::<String>::new());
    let changes = crate::diff::diff(&version.signed.manifest, &again.signed.manifest);
    let socket = version.signed.manifest.find(b"socket").unwrap();
    assert_eq!(changes, [crate::diff::Change::Removed(socket)]);
}

#[test]
fn older_formats_and_sparse_files_of_every_way_are_read() {
    if !privileged("older_formats_and_sparse_files_of_every_way_are_read") {
        return;
    }
    let tree = tree();
    let entries = |archive: &[u8]| manifest(archive).entries;
    let posix = entries(&pack(tree.path(), "posix"));
    let gnu = entries(&pack(tree.path(), "gnu"));
    assert_eq!(gnu.len(), posix.len());
    for (gnu, posix) in gnu.iter().zip(&posix) {
        assert_eq!((&gnu.name, &gnu.kind), (&posix.name, &posix.kind));
        // The old format has whole seconds, and no attributes.
        assert_eq!(
            (gnu.meta.mode, gnu.meta.uid, gnu.meta.gid),
            (posix.meta.mode, posix.meta.uid, posix.meta.gid)
        );
        assert_eq!(gnu.meta.mtime.secs, posix.meta.mtime.secs);
    }
    for version in ["0.0", "0.1", "1.0"] {
        let option = format!("--sparse-version={version}");
        let arguments = [&["-c", "--format=posix", &option][..], &ALL, &["."]].concat();
        assert_eq!(
            entries(&run("tar", &arguments, tree.path(), b"")),
            posix,
            "{version}"
        );
    }
    let small = TempDir::new().unwrap();
    fs::create_dir(small.path().join("d")).unwrap();
    fs::write(small.path().join("d/f"), b"x").unwrap();
    for format in ["v7", "ustar"] {
        let entries = entries(&pack(small.path(), format));
        let names: Vec<_> = entries
            .iter()
            .map(|entry| (&*entry.name, entry.kind.letter()))
            .collect();
        assert_eq!(names, [(&b""[..], 'd'), (b"d", 'd'), (b"f", '-')], "{format}");
    }
}

/// Archives written by hand.
#[derive(Default)]
pub(super) struct Archive(Vec<u8>);

impl Archive {
    pub(super) fn member(mut self, kind: u8, path: &[u8], link: &[u8], data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path);
        old.linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(EntryType::new(kind));
        header.set_mode(0o600);
        header.set_uid(1);
        header.set_gid(2);
        header.set_mtime(3);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.extend(header.as_bytes());
        self.0.extend(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(super) fn file(self, path: &str, data: &[u8]) -> Self {
        self.member(b'0', path.as_bytes(), b"", data)
    }

    pub(super) fn records(self, records: &[(&[u8], &[u8])]) -> Self {
        let mut bytes = Vec::new();
        records
            .iter()
            .for_each(|(key, value)| push_record(&mut bytes, key, value));
        self.member(b'x', b"PaxHeaders/x", b"", &bytes)
    }

    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }
}

fn paths(manifest: &Manifest) -> Vec<String> {
    (0u32..)
        .zip(&manifest.entries)
        .skip(1)
        .map(|(index, entry)| {
            format!(
                "{}{}",
                entry.kind.letter(),
                String::from_utf8_lossy(&manifest.path(index))
            )
        })
        .collect()
}

#[test]
fn members_may_come_in_any_order_and_twice() {
    let archive = Archive::default()
        .file("z/deep/file", b"1")
        .file("a", b"old")
        .member(b'5', b"z/", b"", b"")
        .member(b'5', b"b", b"", b"")
        .file("b/below", b"gone")
        .member(b'1', b"kept", b"./a", b"")
        .file("./a", b"new")
        .member(b'2', b"b", b"target", b"")
        .end();
    let (_state, store) = store();
    let (version, report) = take(&store, &archive).unwrap();
    let manifest = &version.signed.manifest;
    assert_eq!(
        paths(manifest),
        ["-a", "lb", "-kept", "dz", "dz/deep", "-z/deep/file"]
    );
    assert_eq!((report.members, report.files), (8, 4));
    // "a" was replaced after "kept" had become a name of its inode: they are two files now.
    let id = |path: &[u8]| match &manifest.entries[manifest.find(path).unwrap() as usize].kind {
        Kind::File(content) => content.id(&manifest.parts),
        other => panic!("{other:?}"),
    };
    assert_eq!(id(b"a"), simulcast_protocol::id::ContentId::of(b"new"));
    assert_eq!(id(b"kept"), simulcast_protocol::id::ContentId::of(b"old"));
    // A directory that the archive does not have is root's, mode 0755, of now.
    let made = &manifest.entries[manifest.find(b"z/deep").unwrap() as usize].meta;
    assert_eq!((made.mode, made.uid, made.mtime.secs), (0o755, 0, 77));
    let given = &manifest.entries[manifest.find(b"z").unwrap() as usize].meta;
    assert_eq!((given.mode, given.uid, given.mtime.secs), (0o600, 1, 3));
}

#[test]
fn a_leading_slash_is_left_out_with_a_note() {
    let (_state, store) = store();
    let (version, report) = take(&store, &Archive::default().file("/etc/x", b"x").end()).unwrap();
    assert_eq!(paths(&version.signed.manifest), ["detc", "-etc/x"]);
    assert_eq!(report.notes, ["/etc/x begins with a slash, which is left out"]);
}

#[test]
fn excluded_members_and_all_below_them_are_left_out() {
    let (_state, store) = store();
    let archive = Archive::default()
        .member(b'5', b"proc", b"", b"")
        .file("proc/1/maps", b"x")
        .file("etc/x", b"y");
    let excluded = |path: &[u8], _: bool| path.starts_with(b"proc");
    let (version, report) = import_tar(
        &store,
        Cursor::new(archive.end()),
        import("golden"),
        &excluded,
        &|_| {},
    )
    .unwrap();
    assert_eq!(paths(&version.signed.manifest), ["detc", "-etc/x"]);
    assert_eq!(report.excluded, 2);
}

#[test]
fn attributes_owners_and_times_come_from_pax_records() {
    let big = vec![7u8; 60_000];
    let archive = Archive::default()
        .records(&[
            (b"uid", b"4000000000"),
            (b"gid", b"4294967294"),
            (b"mtime", b"-1.25"),
            (b"SCHILY.xattr.user.b", &big),
            (b"SCHILY.xattr.user.a", b"old"),
            (b"SCHILY.xattr.user.a", b"\0new\n"),
            (
                b"SCHILY.acl.access",
                b"user::rw-,user:joe:r--:1000,group::r--,mask::r--,other::---",
            ),
            (
                b"SCHILY.acl.default",
                b"user::rwx,user:joe:r--,group::r--,mask::r--,other::---",
            ),
        ])
        .file("f", b"")
        .file("plain", b"")
        .end();
    let (_state, store) = store();
    let (version, report) = take(&store, &archive).unwrap();
    let [_, f, plain] = &version.signed.manifest.entries[..] else {
        panic!("three entries")
    };
    assert_eq!((f.meta.uid, f.meta.gid), (4_000_000_000, 4_294_967_294));
    assert_eq!((f.meta.mtime.secs, f.meta.mtime.nanos), (-2, 750_000_000));
    let names: Vec<_> = f
        .meta
        .xattrs
        .iter()
        .map(|xattr| (&*xattr.name, xattr.value.len()))
        .collect();
    assert_eq!(
        names,
        [
            (&b"system.posix_acl_access"[..], 44),
            (b"user.a", 5),
            (b"user.b", 60_000)
        ]
    );
    assert_eq!(
        report.notes,
        ["f has an ACL that names users instead of numbers; pack with --numeric-owner to keep it"]
    );
    assert_eq!((plain.meta.uid, plain.meta.xattrs.len()), (1, 0));
}

#[test]
fn a_second_import_reuses_what_the_store_has() {
    let (_state, store) = store();
    let content: Vec<u8> = (0..=250u8).cycle().take(100_000).collect();
    let archive = |last: &[u8]| Archive::default().file("a", &content).file("b", last).end();
    let (_, report) = take(&store, &archive(b"1")).unwrap();
    assert_eq!(report.pack.chunks_new, 1);
    let (version, report) = take(&store, &archive(b"1")).unwrap();
    assert_eq!((report.pack.chunks_new, report.pack.chunks_kept), (0, 1));
    assert_eq!(version.reference().to_string(), "golden@2");
}
