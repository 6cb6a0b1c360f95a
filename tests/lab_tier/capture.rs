//! `si-getimage` of a real Debian golden client over real ssh, also when it dies in the middle.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use simulcast_testkit::compare;
use simulcast_testkit::golden::debian::Debian;
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;
use simulcast_testkit::sshd::{self, Operator};
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::wait;

const NEEDS: &[Feature] = &[
    Feature::Root,
    Feature::Network,
    Feature::Debian,
    Feature::Ssh,
    Feature::Rsync,
];

const LIMIT: Duration = Duration::from_secs(240);

/// The image server, and the golden client that it captures.
struct Lab<'r> {
    run: &'r Run,
    server: Namespace,
    operator: Operator,
    programs: Programs,
}

impl Lab<'_> {
    fn command(&self, program: &str) -> Command {
        let mut command = self.server.command(self.programs.path(program).unwrap());
        command.env("SI_STATE", self.run.dir().join("state"));
        command.env("SI_CONFIG", self.run.dir().join("config"));
        command.env("SI_SSH", self.operator.ssh());
        command
    }

    fn start(&self, name: &str, program: &str, arguments: &[&str]) -> Process {
        self.server
            .spawn(name, self.command(program).args(arguments))
            .unwrap()
    }

    /// Runs a command and gives its exit code and what it said.
    fn ended(&self, name: &str, program: &str, arguments: &[&str]) -> (Option<i32>, Process) {
        let mut process = self.start(name, program, arguments);
        let status = process.wait(LIMIT).unwrap();
        (status.code(), process)
    }

    fn capture(&self, name: &str, image: &str) -> Value {
        let (code, process) = self.ended(name, "si-getimage", &["golden01", "--image", image, "--json"]);
        assert_eq!(code, Some(0), "{}", process.stderr());
        serde_json::from_str(&process.stdout()).unwrap()
    }

    /// How many chunks are being written.
    fn incoming(&self) -> usize {
        fs::read_dir(self.run.dir().join("state/chunks/incoming")).map_or(0, Iterator::count)
    }

    fn wait_for_chunks(&self, count: usize) {
        wait::until("chunks to arrive", LIMIT, || {
            Ok((self.incoming() >= count).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_golden_client_is_captured_and_one_that_dies_leaves_nothing_half_made() {
    if !ready("debian", NEEDS) {
        return;
    }
    let debian = Debian::prepare().unwrap();
    let run = Run::start("capture").unwrap();
    let tree = run.dir().join("golden01");
    debian.unpack(&tree).unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let server = network.join("server", 1).unwrap();
    let golden = network.join("golden01", 10).unwrap();
    let operator = Operator::new(&run).unwrap();
    let mut sshd = sshd::start(&golden, &tree, &operator).unwrap();
    let lab = Lab {
        run: &run,
        server,
        operator,
        programs: Programs::new(None),
    };

    // It dies when some chunks have come: no version, and the next attempt needs less.
    let mut dying = lab.start("dying", "si-getimage", &["golden01"]);
    lab.wait_for_chunks(20);
    sshd.kill();
    assert_eq!(dying.wait(LIMIT).unwrap().code(), Some(1));
    let said = dying.stderr();
    assert!(
        said.contains("cannot capture golden01 as image golden01"),
        "{said}"
    );
    let (code, listed) = lab.ended("listed", "si-lsimage", &["--json"]);
    assert_eq!(code, Some(0));
    assert!(!listed.stdout().contains("golden01"), "{}", listed.stdout());
    let (code, unreachable) = lab.ended("unreachable", "si-getimage", &["golden01"]);
    assert_eq!(code, Some(1));
    assert!(
        unreachable.stderr().contains("cannot reach golden01 by ssh"),
        "{}",
        unreachable.stderr()
    );
    let mut sshd = sshd::start(&golden, &tree, &lab.operator).unwrap();

    // While it is captured, neither a second capture of the image nor a collection begins.
    let mut first = lab.start("first", "si-getimage", &["golden01", "--json"]);
    lab.wait_for_chunks(2);
    for (name, program, arguments, said) in [
        (
            "second",
            "si-getimage",
            &["golden01"][..],
            "another capture of image golden01 is running",
        ),
        ("gc", "si-gc", &[], "a capture or import is writing"),
    ] {
        let (code, refused) = lab.ended(name, program, arguments);
        assert_eq!(code, Some(1));
        assert!(refused.stderr().contains(said), "{}", refused.stderr());
    }
    first.wait_success(LIMIT).unwrap();
    let first: Value = serde_json::from_str(&first.stdout()).unwrap();
    assert_eq!(first["version"], "golden01@1");
    let whole = lab.capture("whole", "other");
    let moved = |capture: &Value| capture["moved"]["received"].as_u64().unwrap();
    assert!(
        moved(&first) < moved(&whole),
        "what had arrived was moved again: {first}"
    );

    // Nothing changed: nothing is moved but the list of entries. Then one file changes.
    let again = lab.capture("again", "golden01");
    assert_eq!(again["pack"]["chunks_new"], 0);
    assert!(moved(&again) < 2_000_000, "{again}");
    fs::write(tree.join("etc/motd"), "changed\n").unwrap();
    let changed = lab.capture("changed", "golden01");
    assert_eq!(
        (&changed["version"], &changed["pack"]["chunks_new"]),
        (&"golden01@3".into(), &1.into())
    );
    assert_captured(&lab, &tree);
    assert_eq!(lab.ended("fsck", "si-fsck", &[]).0, Some(0));
    sshd.kill();
}

fn assert_captured(lab: &Lab<'_>, tree: &Path) {
    let checkout = lab.run.dir().join("checkout");
    let (code, process) = lab.ended(
        "checkout",
        "si-checkout",
        &["golden01", checkout.to_str().unwrap()],
    );
    assert_eq!(code, Some(0), "{}", process.stderr());
    let differences = compare::differences(tree, &checkout, compare::NOT_CAPTURED).unwrap();
    assert!(differences.is_empty(), "{differences:#?}");
    assert!(!checkout.join("etc/ssh/ssh_host_ed25519_key").exists());
}
