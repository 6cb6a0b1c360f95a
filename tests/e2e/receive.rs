//! A version arrives whole, by each transport.

use simulcast_testkit::command;
use simulcast_testkit::tier::{Feature, ready};

use crate::site::{LIMIT, Outcome, Site};

const MIB: u64 = 1 << 20;

#[test]
fn each_transport_brings_the_tree_as_it_is() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("receive", 40 * MIB);
    let mut server = site.server(&[]);
    for transport in ["http", "multicast", "auto"] {
        let target = site.run.dir().join(transport);
        let outcome = Outcome::of(
            &site,
            transport,
            &mut site.receive(&server, "gold", &target, transport),
        );
        let done = outcome.done();
        site.assert_same(&target);
        assert_eq!(done["image"], "gold@1");
        assert_eq!(done["chunks_reused"], 0);
        let (total, http, multicast) = (
            done["chunks_total"].as_u64().unwrap(),
            done["chunks_http"].as_u64().unwrap(),
            done["chunks_multicast"].as_u64().unwrap(),
        );
        assert_eq!(http + multicast, total);
        match transport {
            "http" => assert_eq!(multicast, 0),
            _ => assert_eq!(http, 0, "multicast reaches this machine: {}", outcome.stderr),
        }
        let bytes = done["bytes_http"].as_u64().unwrap() + done["bytes_multicast"].as_u64().unwrap();
        assert_eq!(bytes, site.stored_bytes());
        assert!(
            outcome.peak_memory < 256 * MIB,
            "{} bytes of memory",
            outcome.peak_memory
        );
    }
    let token = site.token();
    assert_eq!(server.count(&token, "http_chunks"), site.chunks().len() as u64);
    let ended = server.process.stop(LIMIT).unwrap();
    assert_eq!(ended.code(), Some(0), "SIGTERM is a good end");
    assert!(server.process.peak_memory() < 512 * MIB);
}

#[test]
fn versions_are_chosen_and_people_are_told() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("versions", MIB);
    let server = site.server(&[]);
    let target = |name: &str| site.run.dir().join(name);
    let first = Outcome::of(
        &site,
        "first",
        &mut site.receive(&server, "gold@1", &target("one"), "http"),
    );
    assert_eq!(first.done()["image"], "gold@1");
    site.assert_same(&target("one"));
    site.second_version();
    let newest = Outcome::of(
        &site,
        "newest",
        &mut site.receive(&server, "gold", &target("two"), "http"),
    );
    assert_eq!(newest.done()["image"], "gold@2");
    site.assert_same(&target("two"));

    // For people: nothing on stdout, one sentence on stderr.
    let mut plain = site.command("si-installer");
    plain
        .arg("receive")
        .args(["--server", &server.address, "--image", "gold@2"]);
    plain.arg("--target").arg(target("three"));
    let output = command::run(&mut plain).unwrap();
    assert!(output.stdout.is_empty());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("gold@2 is complete: "), "{told}");
    site.assert_same(&target("three"));
}

#[test]
fn a_version_without_content_needs_no_chunk() {
    if !ready("end to end", &[Feature::Root, Feature::Rsync]) {
        return;
    }
    let site = Site::new("empty", MIB);
    let empty = site.run.make_dir("empty").unwrap();
    std::fs::write(empty.join("nothing"), "").unwrap();
    command::run(site.command("si-import").arg("void").arg("--tree").arg(&empty)).unwrap();
    let server = site.server(&[]);
    let target = site.run.dir().join("target");
    let outcome = Outcome::of(&site, "void", &mut site.receive(&server, "void", &target, "auto"));
    assert_eq!(outcome.done()["chunks_total"], 0);
    assert!(target.join("nothing").exists());
}
