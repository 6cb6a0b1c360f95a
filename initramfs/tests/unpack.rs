//! Overrides cannot leave the tree that they are laid over.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use simulcast_system::command::{CommandError, Output, Run, Tool};

fn unpack(archive: Vec<u8>, root: &Path) -> Result<Output, CommandError> {
    Run::new(Tool::Own(env!("CARGO_BIN_EXE_si-installer").into()))
        .args(["unpack", "--root"])
        .arg(root)
        .input(archive)
        .run()
}

fn archive(members: &[(&str, u32, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, mode, text) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(*mode);
        header.set_uid(1234);
        header.set_gid(5678);
        header.set_mtime(1_000_000);
        // Written as it stands, because the builder refuses what an attacker would write.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        archive.append(&header, text.as_bytes()).expect("memory takes it");
    }
    archive.into_inner().expect("memory takes it")
}

#[test]
fn files_are_laid_over_the_tree_with_owner_mode_and_time() {
    if !rustix::process::geteuid().is_root() {
        assert!(
            std::env::var_os("REQUIRE_TIERS").is_none(),
            "only root changes its root"
        );
        eprintln!("SKIPPED: only root changes its root");
        return;
    }
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/motd"), "golden").unwrap();
    unpack(
        archive(&[("etc/motd", 0o640, "node"), ("srv/new/file", 0o4755, "x")]),
        root.path(),
    )
    .unwrap();
    let motd = fs::metadata(root.path().join("etc/motd")).unwrap();
    assert_eq!(fs::read_to_string(root.path().join("etc/motd")).unwrap(), "node");
    assert_eq!(
        (
            motd.uid(),
            motd.gid(),
            motd.permissions().mode() & 0o7777,
            motd.mtime()
        ),
        (1234, 5678, 0o640, 1_000_000)
    );
    let new = fs::metadata(root.path().join("srv/new/file")).unwrap();
    assert_eq!(new.permissions().mode() & 0o7777, 0o4755);
}

#[test]
fn neither_paths_nor_symlinks_lead_out_of_the_tree() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let root = outside.path().join("root");
    fs::create_dir(&root).unwrap();
    symlink(outside.path(), root.join("trap")).unwrap();
    let members = [
        ("../escaped", 0o644, "x"),
        ("/absolute", 0o644, "x"),
        ("trap/through", 0o644, "x"),
    ];
    for member in members {
        // Whether it is refused or lands inside does not matter.
        let _refused_or_inside = unpack(archive(&[member]), &root);
    }
    let found: Vec<_> = fs::read_dir(outside.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(found, ["root"]);
    assert!(!Path::new("/absolute").exists());
}
