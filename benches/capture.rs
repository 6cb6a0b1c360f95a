//! First capture of a local tree into the store, against `tar -c | zstd -3 -T2`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use simulcast_testkit::command::{command, run};

use crate::figure::{Figure, Row, Unit, bounded};
use crate::measure::{self, end_all, start_pipeline, sync};
use crate::memory::CLIENT_LIMIT;
use crate::sample::{Sample, Side, Values, column, float, interleave, values};
use crate::stage::{Stage, require_identical, size, tar, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str =
    "capture: si-import --tree into an empty store, against tar -c | zstd -3 -T2 to a file; page cache warm";

const PEER: &str = "tar | zstd -3 -T2";

/// Measures; both results must hold the whole tree.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let tree = stage.debian_tree()?;
    let sides: Vec<Side<'_>> = vec![
        ("simulcast", Box::new(|| ours(stage, tree))),
        (PEER, Box::new(|| peer(stage, tree))),
    ];
    interleave("capture", stage.pairs, sides, samples)?;
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
    let state = prepare(stage, tree)?.join("state");
    let mut import = stage.ours("si-import", &state)?;
    import.arg("golden").arg("--tree").arg(tree);
    let mut import = measure::start("si-import", &mut import, &stage.logs()?)?;
    let used = import.end_well()?;
    let mut values = values(used);
    values.insert("synced_s", (used.wall + timed_sync(stage)?).as_secs_f64());
    values.insert("result_bytes", float(size(&state)?));
    check_store(stage, tree, &state)?;
    Ok(values)
}

fn peer(stage: &Stage, tree: &Path) -> Result<Values> {
    let archive = prepare(stage, tree)?.join("golden.tar.zst");
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
    check_archive(tree, &archive)?;
    Ok(values)
}

/// The tree is in the page cache; returns an empty file system.
fn prepare<'a>(stage: &'a Stage, tree: &Path) -> Result<&'a Path> {
    warm(tree)?;
    stage.disk().renew()
}

fn timed_sync(stage: &Stage) -> Result<Duration> {
    let start = Instant::now();
    sync(stage.disk().path())?;
    Ok(start.elapsed())
}

/// Whether the store holds the whole tree.
fn check_store(stage: &Stage, tree: &Path, state: &Path) -> Result<()> {
    let copy = stage.disk().path().join("copy");
    let mut checkout = stage.ours("si-checkout", state)?;
    measure::run("si-checkout", checkout.arg("golden").arg(&copy), &stage.logs()?)?;
    require_identical(tree, &copy, &[])
}

/// Whether the archive lists as many entries as the tree has.
fn check_archive(tree: &Path, archive: &Path) -> Result<()> {
    let listed = run(tar().args(["-t", "--zstd", "-f"]).arg(archive))?;
    let found = run(command("find").arg(tree).args(["-printf", "\\n"]))?;
    let lines = |output: &[u8]| output.iter().filter(|&&b| b == b'\n').count();
    let (has, listed) = (lines(&found.stdout), lines(&listed.stdout));
    ensure!(
        has == listed,
        "the tree has {has} entries, and the peer's archive {listed}"
    );
    Ok(())
}
