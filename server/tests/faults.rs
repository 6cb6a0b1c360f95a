//! Bad input and bad moments: one clear error, the right exit code, nothing changed that was good.

use std::fs;
use std::io::Write;
use std::process::Child;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use simulcast_image::manifest::{Kind, Manifest, SigningKey};

use crate::harness::{Run, Site, SmallDisk, noise, root};

/// An import that has begun and waits for the rest of its archive.
fn waiting_import(site: &Site, image: &str) -> Child {
    let mut child = site.with_stdin(&["import", image, "--tar", "-"]);
    // The header of a file of 512 bytes that do not come yet.
    let mut block = [0; 512];
    block[0] = b'f';
    for (at, field) in [
        (100, &b"0000644\0"[..]),
        (108, b"0000000\0"),
        (116, b"0000000\0"),
        (124, b"00000001000\0"),
        (136, b"00000000000\0"),
    ] {
        block[at..at + field.len()].copy_from_slice(field);
    }
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    child.stdin.as_mut().unwrap().write_all(&block).unwrap();
    let lock = site.state().join("images").join(image).join("lock");
    wait_for(|| {
        fs::File::open(&lock).is_ok_and(|file| flock(&file, FlockOperation::NonBlockingLockShared).is_err())
    });
    child
}

fn finish(mut child: Child) -> Run {
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&[b'x'; 512]).unwrap();
    stdin.write_all(&[0; 1024]).unwrap();
    drop(stdin);
    Run::from(child.wait_with_output().unwrap())
}

fn wait_for(mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not happen");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn two_imports_of_one_image_exclude_each_other() {
    let site = Site::with_golden();
    let first = waiting_import(&site, "golden");
    site.fails(
        &["import", "golden", "--tree", "{}/tree"],
        1,
        "error: cannot import golden: another capture of image golden is running; wait until it has ended, nothing \
         was changed",
    );
    // Another image is no trouble, and neither is reading.
    assert_eq!(site.import("other").stdout, "other@1\n");
    site.ok(&["checkout", "golden", "{}/out"]);
    let run = finish(first);
    assert_eq!((run.code(), &*run.stdout), (Some(0), "golden@2\n"), "{run:#?}");
    site.ok(&["fsck"]);
}

#[test]
fn nothing_is_collected_while_somebody_writes() {
    let site = Site::with_golden();
    let import = waiting_import(&site, "other");
    site.fails(
        &["gc"],
        1,
        "error: cannot collect the store {}/state: a capture or import is writing to the store {}/state; run si-gc \
         when it has ended, nothing was changed",
    );
    assert_eq!(finish(import).stdout, "other@1\n");
    site.ok(&["gc"]);
    site.ok(&["fsck"]);
}

#[test]
fn nobody_writes_while_the_store_is_collected() {
    let site = Site::with_golden();
    let lock = fs::File::open(site.state().join("lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    site.fails(
        &["import", "golden", "--tree", "{}/tree"],
        1,
        "error: cannot import golden: the store {}/state is being collected by si-gc; try again when it has ended, \
         nothing was changed",
    );
    flock(&lock, FlockOperation::Unlock).unwrap();
    assert_eq!(site.import("golden").stdout, "golden@2\n");
}

#[test]
fn an_interrupted_import_leaves_no_version() {
    let site = Site::with_golden();
    let mut import = waiting_import(&site, "other");
    // Held open, so that it is the signal that ends the import.
    let stdin = import.stdin.take();
    signal(&import, Signal::INT);
    let run = Run::from(import.wait_with_output().unwrap());
    drop(stdin);
    assert_eq!(
        (run.code(), &*run.stderr, &*run.stdout),
        (Some(130), "interrupted\n", "")
    );
    let mut import = waiting_import(&site, "other");
    signal(&import, Signal::KILL);
    import.wait().unwrap();
    site.fails(
        &["lsimage", "other"],
        1,
        "error: there is no image other; si-lsimage lists those that there are",
    );
    site.ok(&["gc"]);
    assert_eq!(site.import("other").stdout, "other@1\n");
    site.ok(&["fsck"]);
}

#[test]
fn damage_is_found_and_named() {
    let site = Site::with_golden();
    assert!(site.ok(&["fsck"]).stdout.ends_with("all can be rebuilt\n"));
    let length = |path: &std::path::PathBuf| fs::metadata(path).unwrap().len();
    let chunk = site.chunks().into_iter().min_by_key(length).unwrap();
    let name = chunk.file_name().unwrap().to_str().unwrap().to_owned();
    let mut bytes = fs::read(&chunk).unwrap();
    bytes[0] ^= 0x80;
    fs::write(&chunk, &bytes).unwrap();
    let run = site.run(&["fsck"]);
    assert_eq!(run.code(), Some(1));
    let wanted = format!("golden@1: chunk {name} is damaged: its bytes do not match its name; ");
    assert!(run.stdout.starts_with(&wanted), "{}", run.stdout);
    assert!(run.stdout.ends_with("1 problem\n"));
    let run = site.run(&["fsck", "--json"]);
    assert_eq!(run.code(), Some(1));
    let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["sound"], false);
    assert_eq!(report["findings"][0]["chunk"], *name);
    assert!(!report["findings"][0]["files"].as_array().unwrap().is_empty());
}

#[test]
fn a_hostile_manifest_is_refused_whole() {
    let site = Site::with_golden();
    let versions = site.state().join("images/golden/versions");
    let secret: [u8; 32] = fs::read(site.state().join("keys/signing.key"))
        .unwrap()
        .try_into()
        .unwrap();
    let good = fs::read(versions.join("1")).unwrap();
    let manifest = Manifest::decode(&good[64..]).unwrap();
    let plant = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = manifest.clone();
        change(&mut manifest);
        let signed = SigningKey::from_bytes(&secret).sign(manifest);
        fs::write(versions.join("2"), signed.bytes()).unwrap();
    };
    let refused = |why: &str| {
        for (arguments, what) in [
            (
                &["checkout", "golden", "{}/out"][..],
                "cannot check out golden to {}/out: ",
            ),
            (
                &["export", "golden", "{}/out.tar"],
                "cannot export golden to {}/out.tar: ",
            ),
            (&["lsimage", "golden@2"], ""),
            (
                &["import", "golden", "--tree", "{}/tree"],
                "cannot import golden: ",
            ),
        ] {
            let path = "the manifest of golden@2 ({}/state/images/golden/versions/2) cannot be used";
            site.fails(arguments, 1, &format!("error: {what}{path}: {why}"));
        }
        assert!(!site.path("out").exists() && !site.path("out.tar").exists());
        // The list names the bad one beside the good one, and so does the check.
        let list = site.run(&["lsimage"]);
        assert_eq!(list.code(), Some(1));
        assert!(
            list.stdout.contains("\ngolden@1 ") && list.stderr.contains("golden@2"),
            "{list:#?}"
        );
        let check = site.run(&["fsck"]);
        assert_eq!(check.code(), Some(1));
        assert!(
            check.stdout.starts_with("golden@2: the manifest of golden@2 "),
            "{}",
            check.stdout
        );
        assert_eq!(
            site.run(&["gc"]).code(),
            Some(1),
            "nobody knows what the bad version needs"
        );
    };
    let file = manifest.find(b"etc/empty").unwrap();
    plant(&|manifest| manifest.entries[file as usize].name = (*b"../../etc/passwd").into());
    refused(&format!(
        "the manifest is unsound: entry {file} has the name \"../../etc/passwd\", which is not one path component; \
         such a name could leave the target"
    ));
    plant(&|manifest| {
        let directory = manifest.find(b"etc/deep").unwrap() as usize;
        manifest.entries[directory].kind = Kind::Symlink((*b"/etc").into());
    });
    let below = manifest.find(b"etc/deep/er").unwrap();
    refused(&format!(
        "the manifest is unsound: entry {below} (\"er\") is below something that is not a directory; such an entry \
         could leave the target"
    ));
    let foreign = SigningKey::from_bytes(&[9; 32]).sign(manifest.clone());
    let key = fs::read_to_string(site.state().join("keys/signing.pub")).unwrap();
    let altered = good[..good.len() - 1].to_vec();
    for bytes in [foreign.bytes(), &altered] {
        fs::write(versions.join("2"), bytes).unwrap();
        refused(&format!(
            "the manifest's signature does not fit the server's key {}: it was altered, or another server made it",
            key.trim()
        ));
    }
    site.ok(&["checkout", "golden@1", "{}/fine"]);
    site.ok(&["rmimage", "golden@2", "--yes"]);
    site.ok(&["fsck"]);
}

#[test]
fn a_full_disk_makes_no_version_and_keeps_the_old_ones() {
    if !root("a_full_disk_makes_no_version_and_keeps_the_old_ones") {
        return;
    }
    let site = Site::new();
    let disk = SmallDisk::new(site.state(), 12 << 20);
    fs::create_dir(site.path("tree")).unwrap();
    fs::write(site.path("tree/small"), b"small").unwrap();
    assert_eq!(site.import("golden").stdout, "golden@1\n");
    fs::write(site.path("tree/noise"), noise(20_000_000)).unwrap();
    let run = site.run(&["import", "golden", "--tree", "{}/tree"]);
    assert_eq!((run.code(), &*run.stdout), (Some(1), ""), "{run:#?}");
    assert!(
        run.stderr
            .starts_with("error: cannot import golden: cannot write "),
        "{}",
        run.stderr
    );
    assert!(
        run.stderr
            .contains("No space left on device (os error 28)\nhint: si-gc removes what no version needs"),
        "{}",
        run.stderr
    );
    assert_eq!(site.json(&["lsimage"]).as_array().unwrap().len(), 1);
    site.ok(&["fsck"]);
    site.ok(&["checkout", "golden", "{}/out"]);
    fs::remove_file(site.path("tree/noise")).unwrap();
    site.ok(&["gc"]);
    assert_eq!(site.import("golden").stdout, "golden@2\n");
    drop(disk);
}

#[test]
fn a_version_that_is_read_is_not_removed() {
    let site = Site::with_golden();
    let version = fs::File::open(site.state().join("images/golden/versions/1")).unwrap();
    flock(&version, FlockOperation::LockShared).unwrap();
    site.fails(
        &["rmimage", "golden", "--yes"],
        1,
        "error: cannot remove golden: golden@1 is being sent to nodes; wait until they have it, nothing was changed",
    );
    flock(&version, FlockOperation::Unlock).unwrap();
    site.ok(&["rmimage", "golden", "--yes"]);
}
