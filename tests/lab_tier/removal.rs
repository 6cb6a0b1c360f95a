//! Nothing of a run outlives its process, however that ends.

use std::path::Path;
use std::time::Duration;

use simulcast_testkit::command::{command, read};
use simulcast_testkit::netns::{Network, Snooping};
use simulcast_testkit::run::Run;
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::{process, wait};

const LIMIT: Duration = Duration::from_secs(30);

fn namespaces_with(mark: &str) -> Vec<String> {
    let listed = read(command("ip").args(["netns", "list"])).unwrap();
    listed
        .lines()
        .filter(|l| l.contains(mark))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_end_of_a_scope_removes_namespaces_and_what_runs_in_them() {
    if !ready("removal", &[Feature::Root, Feature::Network]) {
        return;
    }
    let run = Run::start("scope").unwrap();
    let network = Network::new(&run, Snooping::Off).unwrap();
    let node = network.join("node01", 11).unwrap();
    // A daemon that has left its parent's process tree, as one that the product starts could.
    let script = "setsid sh -c 'echo $$ >pid; exec sleep 600' >/dev/null 2>&1 </dev/null &";
    let mut shell = node.command("sh");
    shell.args(["-c", script]).current_dir(run.dir());
    node.spawn("daemon", &mut shell)
        .unwrap()
        .wait_success(LIMIT)
        .unwrap();
    let file = run.dir().join("pid");
    let pid = wait::until("the daemon", LIMIT, || {
        Ok(std::fs::read_to_string(&file)
            .ok()
            .filter(|t| t.ends_with('\n'))
            .map(|t| t.trim().to_owned()))
    });
    let proc = Path::new("/proc").join(pid.unwrap());
    assert!(proc.exists());
    let id = run.namespace("");
    assert_eq!(namespaces_with(&id).len(), 2);
    drop(run);
    assert_eq!(namespaces_with(&id), Vec::<String>::new());
    wait::until("the daemon's end", LIMIT, || Ok((!proc.exists()).then_some(()))).unwrap();
}

#[test]
fn a_killed_laboratory_leaves_nothing() {
    if !ready("removal", &[Feature::Root, Feature::Network]) {
        return;
    }
    let logs = Run::start("killed").unwrap();
    let mut lab = process::spawn(
        "lab",
        command(env!("CARGO_BIN_EXE_si-lab")).args(["up", "--nodes", "2"]),
        logs.dir(),
    )
    .unwrap();
    lab.wait_until("the laboratory", LIMIT, |p| {
        Ok(p.stdout().contains("Ctrl-C ends it").then_some(()))
    })
    .unwrap();
    let mark = format!("si-lab.{}.", lab.id());
    assert_eq!(namespaces_with(&mark).len(), 4, "switch, server and two nodes");
    lab.kill();
    wait::until("the removal", LIMIT, || {
        Ok(namespaces_with(&mark).is_empty().then_some(()))
    })
    .unwrap();
}

#[test]
fn clean_removes_what_a_killed_remover_left_and_nothing_else() {
    if !ready("removal", &[Feature::Root, Feature::Network]) {
        return;
    }
    let alive = Run::start("alive").unwrap();
    let network = Network::new(&alive, Snooping::Off).unwrap();
    network.join("node01", 11).unwrap();
    // The name that a run of a process that started at tick 1 would have had.
    let stale = format!("si-lab.{}.1.0.node01", std::process::id());
    read(command("ip").args(["netns", "add", &stale])).unwrap();
    let cleaned = simulcast_testkit::run::clean().unwrap();
    assert!(
        cleaned.contains(&format!("si-lab.{}.1.0", std::process::id())),
        "{cleaned:?}"
    );
    assert_eq!(namespaces_with(&stale), Vec::<String>::new());
    assert_eq!(namespaces_with(&alive.namespace("")).len(), 2);
    assert!(alive.dir().is_dir());
}
