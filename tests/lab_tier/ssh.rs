//! A real Debian golden client, reached over real ssh.

use std::fs;
use std::time::{Duration, Instant};

use simulcast_testkit::command::{command, read};
use simulcast_testkit::golden::change;
use simulcast_testkit::golden::debian::{ADDED, Debian, REMOVED};
use simulcast_testkit::netns::{Network, Snooping};
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

#[test]
fn a_debian_golden_client_answers_over_ssh_and_is_upgraded() {
    if !ready("debian", NEEDS) {
        return;
    }
    let debian = Debian::prepare().unwrap();
    let run = Run::start("debian").unwrap();
    let tree = run.dir().join("golden01");
    let start = Instant::now();
    debian.unpack(&tree).unwrap();
    let files: usize = read(command("find").arg(&tree)).unwrap().lines().count();
    println!("{files} files unpacked in {:.1} s", start.elapsed().as_secs_f64());
    assert!(files > 15_000, "{files}");
    let network = Network::new(&run, Snooping::WithQuerier).unwrap();
    let (server, golden) = (
        network.join("server", 1).unwrap(),
        network.join("golden01", 10).unwrap(),
    );
    let operator = Operator::new(&run).unwrap();
    let mut sshd = sshd::start(&golden, &tree, &operator).unwrap();
    let ssh = |script: &str| {
        read(
            server
                .command("ssh")
                .arg("-F")
                .arg(operator.config())
                .args(["golden01", script]),
        )
    };
    let uname = ssh("uname -a").unwrap();
    assert!(uname.starts_with("Linux golden01 "), "{uname}");
    // Its own processes: sshd is the first one.
    assert_eq!(ssh("id -u; cat /proc/1/comm").unwrap(), "0\nsshd\n");
    // A capability of the tree works: this ping has no set-id bit.
    ssh("getcap /usr/bin/ping | grep -q cap_net_raw && ping -c1 -W5 10.77.0.1 >/dev/null").unwrap();

    let start = Instant::now();
    let changed = change::packages(&tree, &debian).unwrap();
    println!("{changed:?} in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(changed.added, ADDED);
    assert!(
        REMOVED.iter().all(|&r| changed.removed.iter().any(|c| c == r)),
        "{changed:?}"
    );
    assert_eq!(
        ssh("test -x /usr/bin/nano && test ! -e /usr/bin/vim.basic && python3 -c 'print(6*7)'").unwrap(),
        "42\n"
    );

    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(
        !mounts.contains(tree.to_str().unwrap()),
        "a mount of the machine is seen outside: {mounts}"
    );
    for place in ["proc", "sys", "dev/pts", "mnt"] {
        let left: Vec<_> = fs::read_dir(tree.join(place))
            .map(|d| d.collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{place}: {left:?}");
    }
    ssh("setsid sleep 600 >/dev/null 2>&1 </dev/null &").unwrap();
    let pids = || read(command("ip").args(["netns", "pids", &run.namespace("golden01")]));
    assert!(pids().unwrap().lines().count() >= 2);
    sshd.kill();
    wait::until("the machine's processes to end", Duration::from_secs(10), || {
        Ok(pids()?.is_empty().then_some(()))
    })
    .unwrap();
}
