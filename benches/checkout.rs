//! Checkout of a version to ext4, against `tar -x --zstd` of the same content; both with a final sync.

use std::path::Path;

use anyhow::{Context as _, Result};
use simulcast_testkit::command::run;

use crate::figure::{Figure, Row, Unit, bounded};
use crate::measure::{self, Usage, sync};
use crate::memory::CLIENT_LIMIT;
use crate::order::Order;
use crate::sample::{Sample, Side, Values, column, float, interleave, values};
use crate::stage::{Stage, require_identical, tar, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "checkout: si-checkout, against tar -x --zstd of the same content; both end with a sync of the file system";

const PEER: &str = "tar -x --zstd";
const PATH: &str = "path order";
const RANDOM: &str = "random order";

/// Measures; every copy must be the original.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let tree = stage.debian_tree()?;
    let state = stage.store("checkout.state", "golden", &[tree])?;
    let archive = stage.path("checkout.tar.zst");
    run(tar()
        .args(["-c", "-I", "zstd -3 -T2", "-f"])
        .arg(&archive)
        .arg("-C")
        .arg(tree)
        .arg("."))?;
    let checkout = |copy: &Path| -> Result<Usage> {
        warm(&state)?;
        let mut checkout = stage.ours("si-checkout", &state)?;
        timed(stage, "si-checkout", checkout.arg("golden").arg(copy))
    };
    let unpack = |copy: &Path| -> Result<Usage> {
        warm(&archive)?;
        std::fs::create_dir(copy).with_context(|| format!("create {}", copy.display()))?;
        let mut tar = tar();
        timed(
            stage,
            "tar",
            tar.args(["-x", "-p", "--zstd", "-f"])
                .arg(&archive)
                .arg("-C")
                .arg(copy),
        )
    };
    let ordered = |copy: &Path, order: Order| -> Result<Usage> {
        warm(&state)?;
        timed(stage, "order", &mut order.command(&state, copy)?)
    };
    let sides: Vec<Side<'_>> = vec![
        ("simulcast", Box::new(|| once(stage, tree, &checkout))),
        (PEER, Box::new(|| once(stage, tree, &unpack))),
        (
            PATH,
            Box::new(|| once(stage, tree, &|copy| ordered(copy, Order::Path))),
        ),
        (
            RANDOM,
            Box::new(|| once(stage, tree, &|copy| ordered(copy, Order::Random))),
        ),
    ];
    interleave("checkout", stage.pairs, sides, samples)?;
    let figure = |name, ours, peer, value, target| Figure {
        name,
        ours,
        peer,
        value,
        unit: Unit::Seconds,
        target,
    };
    let mut rows: Vec<Row> = [
        figure("time", "simulcast", PEER, "wall_s", Some(0.8)),
        figure("CPU time", "simulcast", PEER, "cpu_s", Some(0.65)),
        figure("time, without the sync", "simulcast", PEER, "unsynced_s", None),
        figure("chunks in random order, time", RANDOM, PATH, "wall_s", Some(1.05)),
        figure("chunks in random order, CPU time", RANDOM, PATH, "cpu_s", None),
    ]
    .iter()
    .map(|f| f.row(samples))
    .collect();
    let peak = column(samples, "simulcast", "peak_bytes")
        .into_iter()
        .fold(0.0, f64::max);
    rows.push(bounded(
        "peak memory",
        peak,
        Unit::Bytes,
        Some(float(CLIENT_LIMIT)),
    ));
    Ok(rows)
}

/// Writes one copy, takes its time with and without the sync, and compares it with the original.
fn once(stage: &Stage, tree: &Path, write: &dyn Fn(&Path) -> Result<Usage>) -> Result<Values> {
    let copy = stage.disk().renew()?.join("copy");
    let used = write(&copy)?;
    let start = std::time::Instant::now();
    sync(&copy)?;
    let mut values = values(used);
    values.insert("unsynced_s", used.wall.as_secs_f64());
    values.insert("wall_s", (used.wall + start.elapsed()).as_secs_f64());
    require_identical(tree, &copy, &[])?;
    Ok(values)
}

fn timed(stage: &Stage, name: &str, command: &mut std::process::Command) -> Result<Usage> {
    measure::run(name, command, &stage.logs()?)
}
