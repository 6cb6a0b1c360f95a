//! Second capture, after the golden client changed, against `rsync -aHAX --delete` from a daemon on it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use simulcast_image::filter::DEFAULT_LIST;
use simulcast_testkit::process::Process;
use simulcast_testkit::run::Run;
use simulcast_testkit::sshd::{self, Operator};

use crate::figure::{Figure, Row, Unit, bounded};
use crate::fleet::Fleet;
use crate::measure::{self, Usage};
use crate::memory::CLIENT_LIMIT;
use crate::sample::{Sample, Side, Values, column, float, interleave, values};
use crate::stage::{Stage, mirror, require_identical, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "recapture: si-getimage over ssh after the golden client changed, against rsync -aHAX --delete from \
     a daemon on it; both over the same link";

const PEER: &str = "rsync -aHAX --delete";
const COMPRESSED: &str = "the same with -z";

/// What makes the tree reachable by ssh, and the agent that the first capture left: they survive the change.
const IDENTITY: &[&str] = &["/etc/ssh/ssh_host_*", "/root/.ssh", "/var/lib/simulcast"];

/// What a capture of a running machine does not have, as rsync's patterns: the default list, which is in rsync's
/// language, and the directories on which the machine has mounted something, whose metadata is that of the mount.
pub(crate) fn not_captured() -> Vec<&'static str> {
    let mounts = ["/dev", "/proc", "/run", "/sys"];
    let list = DEFAULT_LIST
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    list.chain(mounts).collect()
}

/// A golden client that was captured once, and has changed since.
struct Golden<'a> {
    fleet: &'a Fleet<'a>,
    operator: &'a Operator,
    live: PathBuf,
    /// The store after the first capture.
    store: PathBuf,
    /// rsync's copy of the golden client before it changed.
    copy: PathBuf,
}

/// Measures; the new version and rsync's copy must be the golden client's tree.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let lab = Run::start("bench-recapture")?;
    let fleet = Fleet::new(stage, &lab)?;
    fleet.segment()?;
    let operator = Operator::new(&lab)?;
    let (golden, mut machine) = prepare(stage, &fleet, &operator)?;
    let sides: Vec<Side<'_>> = vec![
        ("simulcast", Box::new(|| golden.ours(stage))),
        (PEER, Box::new(|| golden.peer(stage, &[]))),
        (COMPRESSED, Box::new(|| golden.peer(stage, &["-z"]))),
    ];
    interleave("recapture", stage.pairs, sides, samples)?;
    machine.kill();
    let figure = |name, peer, value, unit, target| Figure {
        name,
        ours: "simulcast",
        peer,
        value,
        unit,
        target,
    };
    let mut rows: Vec<Row> = [
        figure("time", PEER, "wall_s", Unit::Seconds, Some(1.0)),
        figure(
            "bytes on the wire, both ways",
            PEER,
            "wire_bytes",
            Unit::Bytes,
            Some(1.0),
        ),
        figure(
            "of it, sent by the golden client",
            PEER,
            "up_bytes",
            Unit::Bytes,
            None,
        ),
        figure("time", COMPRESSED, "wall_s", Unit::Seconds, None),
        figure(
            "bytes on the wire, both ways",
            COMPRESSED,
            "wire_bytes",
            Unit::Bytes,
            None,
        ),
    ]
    .iter()
    .map(|f| f.row(samples))
    .collect();
    let peak = column(samples, "simulcast", "peak_bytes")
        .into_iter()
        .fold(0.0, f64::max);
    rows.push(bounded(
        "peak memory, si-getimage",
        peak,
        Unit::Bytes,
        Some(float(CLIENT_LIMIT)),
    ));
    Ok(rows)
}

/// Runs the first capture, keeps what it left, and changes the golden client.
fn prepare<'a>(
    stage: &'a Stage,
    fleet: &'a Fleet<'a>,
    operator: &'a Operator,
) -> Result<(Golden<'a>, Process)> {
    let [old, new] = stage.versions()?;
    let golden = Golden {
        fleet,
        operator,
        live: stage.fresh("recapture.live")?,
        store: stage.fresh("recapture.state")?,
        copy: stage.fresh("recapture.copy")?,
    };
    mirror(old, &golden.live, &[])?;
    let machine = sshd::start(&fleet.golden, &golden.live, operator)?;
    golden.capture(stage, &golden.store).context("first capture")?;
    mirror(&golden.live, &golden.copy, &[])?;
    mirror(new, &golden.live, IDENTITY)?;
    Ok((golden, machine))
}

impl Golden<'_> {
    fn capture(&self, stage: &Stage, store: &Path) -> Result<Usage> {
        let mut command = self.fleet.on(&self.fleet.server, "si-getimage", store)?;
        command
            .env("SI_SSH", self.operator.ssh())
            .args(["golden01", "--json"]);
        measure::run("si-getimage", &mut command, &stage.logs()?)
    }

    fn ours(&self, stage: &Stage) -> Result<Values> {
        let store = stage.disk().renew()?.join("state");
        mirror(&self.store, &store, &[])?;
        let values = self.measured(stage, || self.capture(stage, &store))?;
        let checked = stage.disk().path().join("checkout");
        let mut checkout = stage.ours("si-checkout", &store)?;
        measure::run(
            "si-checkout",
            checkout.arg("golden01@2").arg(&checked),
            &stage.logs()?,
        )?;
        require_identical(&self.live, &checked, &not_captured())?;
        Ok(values)
    }

    fn peer(&self, stage: &Stage, more: &[&str]) -> Result<Values> {
        let copy = stage.disk().renew()?.join("copy");
        mirror(&self.copy, &copy, &[])?;
        let mut daemon = self.fleet.start_rsync(&self.fleet.golden, &self.live)?;
        let values = self.measured(stage, || {
            let mut rsync = self.fleet.server.command("rsync");
            rsync.args([
                "-aHAX",
                "--delete",
                &format!("rsync://{}/tree/", self.fleet.golden.address()),
            ]);
            rsync.args(more);
            measure::run("rsync", rsync.arg(copy.join("")), &stage.logs()?)
        })?;
        daemon.stop()?;
        require_identical(&self.live, &copy, &[])?;
        Ok(values)
    }

    fn measured(&self, stage: &Stage, work: impl FnOnce() -> Result<Usage>) -> Result<Values> {
        warm(&self.live)?;
        measure::sync(stage.disk().path())?;
        let before = self.fleet.golden.counters()?;
        let start = Instant::now();
        let used = work()?;
        let wall = start.elapsed();
        let moved = self.fleet.since(&self.fleet.golden, before)?;
        let mut values = values(Usage { wall, ..used });
        values.insert("up_bytes", float(moved.sent_bytes));
        values.insert("wire_bytes", float(moved.sent_bytes + moved.received_bytes));
        Ok(values)
    }
}
