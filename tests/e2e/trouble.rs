//! What can go wrong: one clear error, the right exit code, and nothing that was good is changed.

use std::fs;
use std::path::Path;

use simulcast_testkit::command::{self, command};
use simulcast_testkit::process;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{LIMIT, Outcome, Server, Site};

const MIB: u64 = 1 << 20;

fn failing(site: &Site, server: &Server, image: &str, target: &Path) -> Outcome {
    Outcome::of(site, "failing", &mut site.receive(server, image, target, "http"))
}

#[test]
fn what_does_not_exist_is_named() {
    let site = Site::new("unknown", MIB);
    let mut server = site.server(&[]);
    let target = site.run.dir().join("target");
    failing(&site, &server, "silver", &target).assert_failed(1, &["there is no image silver", "hint: "]);
    failing(&site, &server, "gold@7", &target).assert_failed(1, &["image gold has no version 7; it has 1"]);
    failing(&site, &server, "../x", &target).assert_failed_usage("is not an image name");
    assert!(!target.exists(), "no target is made for what does not exist");
    server.process.kill();
    failing(&site, &server, "gold", &target).assert_failed(
        1,
        &[
            "cannot reach the image server http://127.0.0.1:",
            "Connection refused",
            "hint: check that si-server runs",
        ],
    );
    assert!(!target.exists());
}

#[test]
fn tokens_and_keys_are_checked() {
    let site = Site::new("token", MIB);
    let server = site.server(&[]);
    let target = site.run.dir().join("target");
    let token = site.token();
    let elsewhere = site.run.make_dir("elsewhere").unwrap();
    let receive = |token: Option<&str>, key: Option<&str>| {
        let mut command = command(site.program("si-installer"));
        command.env_remove("SI_TOKEN").env_remove("SI_SERVER_KEY");
        command.arg("--state").arg(&elsewhere);
        crate::site::aim(&mut command, &server.address, "gold", &target, "http");
        token.map(|token| command.env("SI_TOKEN", token));
        key.map(|key| command.env("SI_SERVER_KEY", key));
        Outcome::of(&site, "receiver", &mut command)
    };
    receive(None, None).assert_failed(
        2,
        &["a token is needed, and none is given", "hint: copy keys/token"],
    );
    let wrong = "0".repeat(64);
    receive(Some(&wrong), None).assert_failed(1, &["does not accept the token", "hint: take the token"]);
    // Any key has this form, but it signed nothing here.
    let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    receive(Some(&token), Some(other))
        .assert_failed(1, &["does not fit the server's key d75a", "--server-key"]);
    assert!(!target.exists());
    let trusting = receive(Some(&token), None);
    trusting.done();
    let key = fs::read_to_string(site.state.join("keys/signing.pub")).unwrap();
    assert!(
        trusting.stderr.contains("no key is pinned"),
        "{}",
        trusting.stderr
    );
    assert!(trusting.stderr.contains(key.trim()), "{}", trusting.stderr);
}

#[test]
fn a_target_with_other_things_is_left_alone() {
    let site = Site::new("occupied", MIB);
    let server = site.server(&[]);
    let target = site.run.make_dir("target").unwrap();
    fs::write(target.join("precious"), "keep").unwrap();
    failing(&site, &server, "gold", &target).assert_failed(1, &["the target directory is not empty"]);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 1);
    let file = target.join("precious");
    failing(&site, &server, "gold", &file).assert_failed(1, &["cannot open the target", "Not a directory"]);
    assert_eq!(fs::read_to_string(file).unwrap(), "keep");
}

/// A small file system that disappears with the value.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn new(path: &'a Path, options: &str) -> Self {
        fs::create_dir(path).unwrap();
        command::run(
            command("mount")
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(path),
        )
        .unwrap();
        Self(path)
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        command::run(command("umount").arg("-l").arg(self.0)).unwrap();
    }
}

#[test]
fn a_full_disk_is_an_error_and_more_room_goes_on() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("full", 20 * MIB);
    let server = site.server(&[]);
    let small = site.run.dir().join("small");
    let mounted = Mounted::new(&small, "size=8m");
    failing(&site, &server, "gold", &small).assert_failed(
        1,
        &[
            "the target has 8.",
            "free, the version needs",
            "nothing was written",
        ],
    );
    assert_eq!(fs::read_dir(&small).unwrap().count(), 0);
    drop(mounted);

    // Room enough by the count of bytes, but the file system itself needs some: it fills up in the middle.
    let tight = site.run.dir().join("tight");
    let _mounted = Mounted::new(&tight, "size=64m,nr_inodes=150");
    failing(&site, &server, "gold", &tight).assert_failed(
        1,
        &[
            "No space left on device",
            "hint: when the target is in order, start again",
        ],
    );
    command::run(
        command("mount")
            .args(["-o", "remount,nr_inodes=5000"])
            .arg(&tight),
    )
    .unwrap();
    failing(&site, &server, "gold", &tight).done();
    site.assert_same(&tight);
}

#[test]
fn a_damaged_chunk_is_named_and_the_others_come() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("damaged", 20 * MIB);
    let chunks = site.chunks();
    let (flipped, cut, gone) = (&chunks[0], &chunks[1], &chunks[2]);
    let good = [flipped, cut, gone].map(|chunk| fs::read(chunk).unwrap());
    let mut bad = good[0].clone();
    bad[7] ^= 1;
    fs::write(flipped, bad).unwrap();
    fs::write(cut, &good[1][..good[1].len() / 2]).unwrap();
    fs::remove_file(gone).unwrap();
    let server = site.server(&[]);
    let name = |chunk: &Path| chunk.file_name().unwrap().to_str().unwrap().to_owned();
    for (transport, part) in [
        ("http", "of the chunks that are needed cannot be fetched"),
        ("multicast", "multicast could not bring"),
    ] {
        let target = site.run.dir().join(transport);
        let outcome = Outcome::of(
            &site,
            "failing",
            &mut site.receive(&server, "gold", &target, transport),
        );
        outcome.assert_failed(1, &[part, "si-fsck"]);
        if transport == "http" {
            let named = [flipped, cut, gone]
                .iter()
                .any(|chunk| outcome.stderr.contains(&name(chunk)));
            assert!(named, "{}", outcome.stderr);
        }
    }
    // Multicast brings what it can, HTTP finds that it cannot do better.
    let target = site.run.dir().join("target");
    let outcome = Outcome::of(
        &site,
        "failing",
        &mut site.receive(&server, "gold", &target, "auto"),
    );
    outcome.assert_failed(
        1,
        &["3 of the chunks that are needed cannot be fetched", "si-fsck"],
    );
    for (chunk, bytes) in [flipped, cut, gone].iter().zip(&good) {
        fs::write(chunk, bytes).unwrap();
    }
    let repaired = Outcome::of(
        &site,
        "repaired",
        &mut site.receive(&server, "gold", &target, "auto"),
    );
    let done = repaired.done();
    assert_eq!(
        done["chunks_reused"].as_u64().unwrap(),
        done["chunks_total"].as_u64().unwrap() - 3
    );
    site.assert_same(&target);
}

#[test]
fn a_version_that_is_being_sent_cannot_be_removed() {
    let site = Site::new("lease", MIB);
    let server = site.server(&[]);
    let target = site.run.dir().join("target");
    failing(&site, &server, "gold", &target).done();
    let remove = |site: &Site| {
        Outcome::of(
            site,
            "remove",
            site.command("si-rmimage").args(["gold@1", "--yes"]),
        )
    };
    remove(&site).assert_failed(1, &["gold@1 is being sent to nodes", "nothing was changed"]);
    assert_eq!(server.ask(&site.token(), "GET /v1/images/gold").0, 200);
    drop(server);
    assert_eq!(remove(&site).code, Some(0));
}

#[test]
fn wrong_settings_are_refused_with_file_and_line() {
    let site = Site::new("settings", MIB);
    let refused = |text: &str, parts: &[&str]| {
        site.configure(text);
        let mut command = site.command("si-server");
        command.args(["--listen", "127.0.0.1:0"]);
        let mut process = process::spawn("server", &mut command, site.run.dir()).unwrap();
        assert_eq!(process.wait(LIMIT).unwrap().code(), Some(2));
        let said = process.stderr();
        parts
            .iter()
            .for_each(|part| assert!(said.contains(part), "{part:?} is not in {said}"));
    };
    refused(
        "[multicast]\nspeed = 3\n",
        &["server.toml:2: unknown field `speed`"],
    );
    refused(
        "[multicast]\nrate = \"fast\"\n",
        &["server.toml:2: \"fast\" is not a rate"],
    );
    refused("listen = \"here\"\n", &["server.toml:1: "]);
    site.configure("[multicast]\nrate = \"40Mbit\"\n");
    let server = site.server(&[]);
    // A port that is in use is named.
    let mut second = site.command("si-server");
    second.args(["--listen", &server.address]);
    let outcome = Outcome::of(&site, "second", &mut second);
    outcome.assert_failed(1, &["cannot listen on 127.0.0.1:", "Address already in use"]);
}

impl Outcome {
    /// Checks that the command line was refused.
    fn assert_failed_usage(&self, part: &str) {
        assert_eq!(self.code, Some(2), "{}", self.stderr);
        assert!(self.stderr.contains(part), "{}", self.stderr);
    }
}
