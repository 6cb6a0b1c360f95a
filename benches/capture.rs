//! First capture of a local tree into the store, against `tar -c | zstd -3 -T2`.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use simulcast_testkit::command::{command, run};

use crate::figure::{Figure, Row, Unit, bounded};
use crate::measure::{self, end_all, start_pipeline, sync};
use crate::memory::CLIENT_LIMIT;
use crate::sample::{Sample, Side, Values, column, float, interleave, values};
use crate::stage::{Stage, remove, require_identical, size, tar, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str =
    "capture: si-import --tree into an empty store, against tar -c | zstd -3 -T2 to a file; page cache warm";

const PEER: &str = "tar | zstd -3 -T2";

/// Measures, and checks once that both results hold the whole tree.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let tree = stage.debian_tree()?;
    let sides: Vec<Side<'_>> = vec![
        ("simulcast", Box::new(|| ours(stage, tree))),
        (PEER, Box::new(|| peer(stage, tree))),
    ];
    interleave("capture", stage.pairs, sides, samples)?;
    check(stage, tree).context("capture")?;
    let figure = |name, value, unit, target| Figure {
        name,
        ours: "simulcast",
        peer: PEER,
        value,
        unit,
        target,
    };
    let mut rows: Vec<Row> = [
        figure("time", "wall_s", Unit::Seconds, Some(0.95)),
        figure("CPU time", "cpu_s", Unit::Seconds, Some(0.85)),
        figure("result", "result_bytes", Unit::Bytes, Some(1.0)),
        figure("time, both synced to disk", "synced_s", Unit::Seconds, None),
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

fn ours(stage: &Stage, tree: &Path) -> Result<Values> {
    let state = stage.fresh_dir("capture.state")?;
    prepare(stage, tree)?;
    let mut import = stage.ours("si-import", &state)?;
    import.arg("golden").arg("--tree").arg(tree);
    let mut import = measure::start("si-import", &mut import, &stage.logs()?)?;
    let used = import.end_well()?;
    let mut values = values(used);
    values.insert("synced_s", (used.wall + timed_sync(stage)?).as_secs_f64());
    values.insert("result_bytes", float(size(&state)?));
    Ok(values)
}

fn peer(stage: &Stage, tree: &Path) -> Result<Values> {
    let archive = stage.fresh("capture.tar.zst")?;
    prepare(stage, tree)?;
    let mut tar = tar();
    tar.args(["-c", "-C"]).arg(tree).arg(".");
    let mut zstd = command("zstd");
    zstd.args(["-3", "-T2", "-q", "-c"]);
    let mut parts = start_pipeline(
        vec![("tar".to_owned(), tar), ("zstd".to_owned(), zstd)],
        Some(&archive),
        &stage.logs()?,
    )?;
    let used = end_all(&mut parts)?;
    let mut values = values(used);
    values.insert("synced_s", (used.wall + timed_sync(stage)?).as_secs_f64());
    values.insert("result_bytes", float(size(&archive)?));
    Ok(values)
}

/// What an earlier run wrote must not be written back during this one.
fn prepare(stage: &Stage, tree: &Path) -> Result<()> {
    warm(tree)?;
    sync(stage.lab().dir())
}

fn timed_sync(stage: &Stage) -> Result<std::time::Duration> {
    let start = std::time::Instant::now();
    sync(stage.lab().dir())?;
    Ok(start.elapsed())
}

fn check(stage: &Stage, tree: &Path) -> Result<()> {
    let copy = stage.fresh("capture.copy")?;
    let mut checkout = stage.ours("si-checkout", &stage.path("capture.state"))?;
    measure::run("si-checkout", checkout.arg("golden").arg(&copy), &stage.logs()?)?;
    require_identical(tree, &copy, &[])?;
    remove(&copy)?;
    let listed = run(tar()
        .args(["-t", "--zstd", "-f"])
        .arg(stage.path("capture.tar.zst")))?;
    let entries = listed.stdout.iter().filter(|&&b| b == b'\n').count();
    if entries < 15_000 {
        bail!("the peer's archive lists {entries} entries only: it is not the whole tree");
    }
    Ok(())
}
