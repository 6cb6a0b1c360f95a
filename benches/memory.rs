//! Peak memory of every process of the product, with an image whose largest file is 20 GiB long.
//!
//! A watcher looks at all processes of the machines' network namespaces, wherever ssh or a daemon started them, and
//! keeps the largest `VmHWM` that it has seen of each program: the kernel's own high-water mark, so a peak between two
//! looks is seen as well, and only what a process grows in its last hundredth of a second is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, copy};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use simulcast_testkit::golden::noise;
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::run::Run;
use simulcast_testkit::sshd::{self, Operator};

use crate::figure::{Row, Unit, bounded};
use crate::fleet::Fleet;
use crate::measure::{self, end_all};
use crate::recapture::not_captured;
use crate::sample::{Sample, Values, float, load_average};
use crate::stage::{Stage, mirror, require_identical};

/// Bytes that any process but the server may keep resident at most.
pub(crate) const CLIENT_LIMIT: u64 = 256 << 20;

/// Bytes that the server may keep resident at most.
pub(crate) const SERVER_LIMIT: u64 = 512 << 20;

/// What it says of itself in the table.
pub(crate) const TITLE: &str =
    "memory: peak of each program, with a file of 20 GiB of which 1.5 GiB in 24 places are random";

/// Length of the large file.
const LENGTH: u64 = 20 << 30;

/// How many stretches of data it has, and how long each is.
const STRETCHES: u64 = 24;
const STRETCH: u64 = 64 << 20;

/// Where it is.
const FILE: &str = "srv/large.img";

/// Bytes that are changed in the middle of the file for the second version.
const PATCH: usize = 1 << 20;

/// How often the watcher looks.
const PERIOD: Duration = Duration::from_millis(10);

/// Measures: everything that a version goes through, once. The trees must be identical at the end.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let lab = Run::start("bench-memory")?;
    let fleet = Fleet::new(stage, &lab)?;
    let watched = [&fleet.server, &fleet.golden].into_iter().chain(&fleet.nodes);
    let spaces = watched.map(network_of).collect::<Result<BTreeSet<u64>>>()?;
    let peaks = Mutex::new(BTreeMap::new());
    let over = AtomicBool::new(false);
    let load = load_average()?;
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look(&spaces, &mut peaks.lock().expect("no holder panics"));
                thread::sleep(PERIOD);
            }
        });
        let done = everything(stage, &lab, &fleet);
        over.store(true, Ordering::Relaxed);
        done
    })?;
    let peaks = peaks.into_inner().expect("no holder panics");
    let mut rows = Vec::new();
    for (program, &bytes) in &peaks {
        let limit = if program == "si-server" {
            SERVER_LIMIT
        } else {
            CLIENT_LIMIT
        };
        rows.push(bounded(program, float(bytes), Unit::Bytes, Some(float(limit))));
        samples.push(Sample {
            bench: "memory",
            side: "simulcast",
            pair: 0,
            load,
            values: Values::from([("peak_bytes", float(bytes))]),
            case: None,
            program: Some(program.clone()),
        });
    }
    Ok(rows)
}

/// Import, checkout, two captures, multicast, HTTP, update.
fn everything(stage: &Stage, lab: &Run, fleet: &Fleet<'_>) -> Result<()> {
    let live = stage.fresh("memory.live")?;
    mirror(stage.debian_tree()?, &live, &[])?;
    make_large(&live.join(FILE))?;
    let store = stage.fresh_dir("memory.state")?;
    let server = |program: &str, arguments: &[&str]| -> Result<()> {
        let mut command = fleet.on(&fleet.server, program, &store)?;
        let used = measure::run(program, command.args(arguments), &stage.logs()?)?;
        eprintln!("    memory: {program} {:.1} s", used.wall.as_secs_f64());
        Ok(())
    };
    let copy = stage.fresh("memory.copy")?;
    server("si-import", &["imported", "--tree", text(&live)?])?;
    server("si-checkout", &["imported", text(&copy)?])?;
    require_identical(&live, &copy, &[])?;
    stage.fresh("memory.copy")?;
    server("si-rmimage", &["imported", "--yes"])?;
    let operator = Operator::new(lab)?;
    let machine = sshd::start(&fleet.golden, &live, &operator)?;
    let capture = || -> Result<()> {
        let mut command = fleet.on(&fleet.server, "si-getimage", &store)?;
        command.env("SI_SSH", operator.ssh()).arg("golden01");
        let used = measure::run("si-getimage", &mut command, &stage.logs()?)?;
        eprintln!("    memory: si-getimage {:.1} s", used.wall.as_secs_f64());
        Ok(())
    };
    capture().context("first capture")?;
    install(stage, fleet, &store)?;
    patch(&live.join(FILE), "patch")?;
    capture().context("second capture")?;
    drop(machine);
    update(stage, fleet, &store)?;
    for node in fleet.nodes.iter().take(2) {
        require_identical(&live, &fleet.root(node), &not_captured())?;
    }
    Ok(())
}

/// One node by multicast, another by HTTP.
fn install(stage: &Stage, fleet: &Fleet<'_>, store: &Path) -> Result<()> {
    fleet.empty_nodes()?;
    let mut server = fleet.start_server(store)?;
    let mut receivers = Vec::new();
    for (node, transport) in fleet.nodes.iter().zip(["multicast", "http"]) {
        let mut command = fleet.on_node(node, "si-installer", store)?;
        let url = fleet.url();
        command.args([
            "receive",
            "--server",
            &url,
            "--image",
            "golden01@1",
            "--transport",
            transport,
        ]);
        command.arg("--target").arg(fleet.root(node));
        receivers.push(measure::start(
            &format!("si-installer-{transport}"),
            &mut command,
            &stage.logs()?,
        )?);
    }
    let used = end_all(&mut receivers)?;
    eprintln!("    memory: si-installer {:.1} s", used.wall.as_secs_f64());
    server.stop()?;
    Ok(())
}

/// Both nodes to the second version; somebody has changed the large file on the second one.
fn update(stage: &Stage, fleet: &Fleet<'_>, store: &Path) -> Result<()> {
    if let Some(node) = fleet.nodes.get(1) {
        patch(&fleet.root(node).join(FILE), "somebody's own change")?;
    }
    let mut server = fleet.start_server(store)?;
    let command = |node: &Namespace| -> Result<Command> {
        let mut command = fleet.on_node(node, "si-updateclient", store)?;
        let url = fleet.url();
        command
            .args(["--server", &url, "--image", "golden01@2"])
            .arg("--root")
            .arg(fleet.root(node));
        Ok(command)
    };
    let mut updates = Vec::new();
    for node in fleet.nodes.iter().take(2) {
        updates.push(measure::start(
            &format!("{}-update", node.name()),
            &mut command(node)?,
            &stage.logs()?,
        )?);
    }
    let used = end_all(&mut updates)?;
    eprintln!("    memory: si-updateclient {:.1} s", used.wall.as_secs_f64());
    server.stop()?;
    Ok(())
}

/// Makes the large file, sparse, of 24 stretches of random data at even distances.
fn make_large(path: &Path) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
    }
    let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    file.set_len(LENGTH).context("lengthen the large file")?;
    for stretch in 0..STRETCHES {
        let mut at = &file;
        std::io::Seek::seek(&mut at, std::io::SeekFrom::Start(stretch * (LENGTH / STRETCHES)))
            .context("seek in the large file")?;
        let mut data = noise::reader(&format!("stretch {stretch}"), STRETCH);
        copy(
            &mut std::io::BufReader::with_capacity(1 << 20, &mut data),
            &mut at,
        )
        .context("write the large file")?;
    }
    Ok(())
}

/// Changes bytes within a stretch of data in the middle of the large file.
fn patch(path: &Path, seed: &str) -> Result<()> {
    let file = OpenOptions::new()
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))?;
    let at = STRETCHES / 2 * (LENGTH / STRETCHES) + STRETCH / 3;
    file.write_all_at(&noise::bytes(seed, PATCH), at)
        .with_context(|| format!("patch {}", path.display()))
}

/// Takes down how much each of our programs in the namespaces has used at most.
fn look(spaces: &BTreeSet<u64>, peaks: &mut BTreeMap<String, u64>) {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in processes.map(|entry| entry.path()) {
        // A process may end at any moment between these looks: then there is nothing to see.
        let Some(name) = read(&process.join("comm")).filter(|name| name.starts_with("si-")) else {
            continue;
        };
        let space = fs::metadata(process.join("ns/net")).map(|m| m.ino());
        if !space.is_ok_and(|space| spaces.contains(&space)) {
            continue;
        }
        let status = read(&process.join("status")).unwrap_or_default();
        let peak = peaks.entry(name.trim().to_owned()).or_default();
        *peak = (*peak).max(resident_peak(&status));
    }
}

/// `VmHWM` of a process's status, in bytes; 0 when there is none.
fn resident_peak(status: &str) -> u64 {
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line
        .and_then(|l| l.trim().strip_suffix(" kB"))
        .and_then(|n| n.trim().parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

fn network_of(machine: &Namespace) -> Result<u64> {
    let inside = machine.enter(|| fs::metadata("/proc/thread-self/ns/net").map(|m| m.ino()))?;
    inside.with_context(|| format!("look at the network of {}", machine.name()))
}

fn read(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.read_to_string(&mut text).ok()?;
    Some(text)
}

fn text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_of_a_real_status() {
        let status = "Name:\tsi-server\nVmPeak:\t  20000 kB\nVmHWM:\t    5120 kB\nVmRSS:\t    4000 kB\n";
        assert_eq!(resident_peak(status), 5120 << 10);
        assert_eq!(resident_peak("Name:\tkthreadd\n"), 0);
    }
}
