//! Four nodes from one version to the next, against `rsync -aHAX -z --delete` to each.

use std::path::Path;
use std::time::Instant;

use anyhow::Result;
use simulcast_testkit::run::Run;

use crate::figure::{Figure, Row, Unit, bounded};
use crate::fleet::Fleet;
use crate::measure::{Running, Usage, end_all, sync};
use crate::memory::{CLIENT_LIMIT, SERVER_LIMIT};
use crate::sample::{Sample, Side, Values, column, float, interleave, values};
use crate::stage::{Stage, require_identical, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "update: @1 to @2 on 4 nodes at the same time by si-updateclient, against rsync -aHAX -z --delete \
     from a daemon; until the last is done and synced";

const PEER: &str = "rsync -aHAX -z --delete";

/// Ours on nodes that do not know what was installed on them, and so read and hash every file.
const FORGETFUL: &str = "simulcast, no record";

/// Measures; all nodes must be the new tree.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let lab = Run::start("bench-update")?;
    let fleet = Fleet::new(stage, &lab)?;
    fleet.segment()?;
    let [old, new] = stage.versions()?;
    let store = stage.store("update.state", "golden", &[old, new])?;
    let sides: Vec<Side<'_>> = vec![
        (
            "simulcast",
            Box::new(|| ours(stage, &fleet, &store, Memory::Kept)),
        ),
        (FORGETFUL, Box::new(|| ours(stage, &fleet, &store, Memory::Lost))),
        (PEER, Box::new(|| peer(stage, &fleet))),
    ];
    interleave("update", stage.pairs, sides, samples)?;
    let figure = |name, ours, value, unit, target| Figure {
        name,
        ours,
        peer: PEER,
        value,
        unit,
        target,
    };
    let mut rows: Vec<Row> = [
        figure(
            "bytes that the server sent",
            "simulcast",
            "sent_bytes",
            Unit::Bytes,
            Some(0.5),
        ),
        figure("time", "simulcast", "wall_s", Unit::Seconds, Some(1.0)),
        figure("CPU time of all", "simulcast", "cpu_s", Unit::Seconds, None),
        figure(
            "no record of the install: bytes",
            FORGETFUL,
            "sent_bytes",
            Unit::Bytes,
            None,
        ),
        figure(
            "no record of the install: time",
            FORGETFUL,
            "wall_s",
            Unit::Seconds,
            None,
        ),
        figure(
            "no record of the install: CPU time",
            FORGETFUL,
            "cpu_s",
            Unit::Seconds,
            None,
        ),
    ]
    .iter()
    .map(|f| f.row(samples))
    .collect();
    let peak = |value| {
        column(samples, "simulcast", value)
            .into_iter()
            .fold(0.0, f64::max)
    };
    rows.push(bounded(
        "peak memory, si-updateclient",
        peak("peak_bytes"),
        Unit::Bytes,
        Some(float(CLIENT_LIMIT)),
    ));
    rows.push(bounded(
        "peak memory, si-server",
        peak("server_peak_bytes"),
        Unit::Bytes,
        Some(float(SERVER_LIMIT)),
    ));
    Ok(rows)
}

/// Whether a node knows what was installed on it, as every node does after our installer or an update.
#[derive(Debug, Clone, Copy)]
enum Memory {
    Kept,
    Lost,
}

fn ours(stage: &Stage, fleet: &Fleet<'_>, store: &Path, memory: Memory) -> Result<Values> {
    let [_, new] = stage.versions()?;
    fleet.empty_nodes()?;
    let mut server = fleet.start_server(store)?;
    let mut install = fleet.start_on_nodes("si-installer", |node| {
        let mut install = fleet.on_node(node, "si-installer", store)?;
        install.args([
            "receive",
            "--server",
            &fleet.url(),
            "--image",
            "golden@1",
            "--transport",
            "http",
        ]);
        install.arg("--target").arg(fleet.root(node));
        Ok(install)
    })?;
    end_all(&mut install)?;
    if let Memory::Lost = memory {
        fleet.forget()?;
    }
    server.stop()?;
    prepare(stage, fleet, store)?;
    let mut server = fleet.start_server(store)?;
    let values = measured(stage, fleet, &mut server, || start_updates(fleet, store))?;
    check(fleet, new)?;
    Ok(values)
}

fn start_updates(fleet: &Fleet<'_>, store: &Path) -> Result<Vec<Running>> {
    fleet.start_on_nodes("si-updateclient", |node| {
        let mut update = fleet.on_node(node, "si-updateclient", store)?;
        update.args([
            "--server",
            &fleet.url(),
            "--image",
            "golden@2",
            "--json",
            "--no-default-excludes",
        ]);
        update.arg("--root").arg(fleet.root(node));
        Ok(update)
    })
}

fn peer(stage: &Stage, fleet: &Fleet<'_>) -> Result<Values> {
    let [old, new] = stage.versions()?;
    fleet.fill_nodes(old)?;
    prepare(stage, fleet, new)?;
    let mut daemon = fleet.start_rsync(&fleet.server, new)?;
    let values = measured(stage, fleet, &mut daemon, || {
        fleet.start_on_nodes("rsync", |node| {
            let mut rsync = node.command("rsync");
            rsync.args([
                "-aHAX",
                "-z",
                "--delete",
                &format!("rsync://{}/tree/", fleet.server.address()),
            ]);
            rsync.arg(fleet.root(node).join(""));
            Ok(rsync)
        })
    })?;
    check(fleet, new)?;
    Ok(values)
}

/// What either side reads is in the page cache, and nothing waits to be written.
fn prepare(stage: &Stage, fleet: &Fleet<'_>, source: &Path) -> Result<()> {
    for node in &fleet.nodes {
        warm(&fleet.root(node))?;
    }
    warm(source)?;
    sync(stage.disk().path())
}

fn measured(
    stage: &Stage,
    fleet: &Fleet<'_>,
    daemon: &mut Running,
    start_nodes: impl FnOnce() -> Result<Vec<Running>>,
) -> Result<Values> {
    let before = fleet.server.counters()?;
    let start = Instant::now();
    let used = end_all(&mut start_nodes()?)?;
    sync(stage.disk().path())?;
    let wall = start.elapsed();
    let sent = fleet.since(&fleet.server, before)?.sent_bytes;
    let daemon = daemon.stop()?;
    let mut values = values(Usage {
        wall,
        cpu: used.cpu + daemon.cpu,
        ..used
    });
    values.insert("sent_bytes", float(sent));
    values.insert("server_peak_bytes", float(daemon.peak_bytes));
    values.insert("server_cpu_s", daemon.cpu.as_secs_f64());
    Ok(values)
}

fn check(fleet: &Fleet<'_>, tree: &Path) -> Result<()> {
    fleet
        .nodes
        .iter()
        .try_for_each(|node| require_identical(tree, &fleet.root(node), &[]))
}
