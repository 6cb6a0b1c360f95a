//! One node and eight from one version to the next by an update pack, against `rsync -aHAX --delete` to each, in three cases.
//!
//! The pack is made once, before anything is measured, as it is for a fleet; `si-server` says in its log how long that took.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use clap::ValueEnum as _;
use simulcast_testkit::golden::noise;
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::run::Run;

use crate::figure::{Figure, Row, Unit};
use crate::fleet::Fleet;
use crate::measure::{Running, Usage, end_all, sync};
use crate::sample::{Sample, Side, Values, float, interleave, values};
use crate::stage::{Stage, mirror, require_identical, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "packs: @1 to @2 on 1 node and on 8 at the same time by an update pack, against rsync -aHAX --delete \
     (and -z) from a daemon; until the last is done and synced";

/// Nodes of the fleet.
const NODES: u8 = 8;

const ONE: &str = "simulcast, 1 node";
const EIGHT: &str = "simulcast, 8 nodes";
const RSYNC_ONE: &str = "rsync, 1 node";
const RSYNC_Z_ONE: &str = "rsync -z, 1 node";
const RSYNC_EIGHT: &str = "rsync, 8 nodes";

/// How large the made cases are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PackArguments {
    /// `packs`: which changes [default: all].
    #[arg(long, value_name = "CASE", value_delimiter = ',')]
    pack_cases: Vec<PackCase>,
    /// `packs`: MiB of the one large file.
    #[arg(long, default_value_t = 2048, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    large_mib: u32,
    /// `packs`: how many small files.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    small_files: u32,
}

/// A change that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PackCase {
    /// The golden client's Debian tree and its upgrade.
    Upgrade,
    /// One large file, changed in the middle.
    Large,
    /// Many small files, every hundredth changed.
    Small,
}

/// A change, and what its figures are called.
struct Case {
    name: &'static str,
    trees: [PathBuf; 2],
    figures: [&'static str; 5],
}

/// Measures; all nodes must be the new tree.
pub(crate) fn run_bench(
    stage: &Stage,
    arguments: &PackArguments,
    samples: &mut Vec<Sample>,
) -> Result<Vec<Row>> {
    let lab = Run::start("bench-packs")?;
    let fleet = Fleet::of(stage, &lab, NODES)?;
    fleet.segment()?;
    let mut rows = Vec::new();
    for case in cases(stage, arguments)? {
        let mut own = Vec::new();
        measure_case(stage, &fleet, &case, &mut own)?;
        rows.extend(figures(&case).iter().map(|figure| figure.row(&own)));
        samples.extend(own.into_iter().map(|sample| Sample {
            case: Some(case.name.to_owned()),
            ..sample
        }));
    }
    Ok(rows)
}

fn figures(case: &Case) -> [Figure; 5] {
    let figure = |at: usize, ours, peer, value, unit, target| Figure {
        name: case.figures[at],
        ours,
        peer,
        value,
        unit,
        target: Some(target),
    };
    [
        figure(0, ONE, RSYNC_Z_ONE, "sent_bytes", Unit::Bytes, 0.7),
        figure(1, EIGHT, ONE, "sent_bytes", Unit::Bytes, 1.15),
        figure(2, ONE, RSYNC_ONE, "wall_s", Unit::Seconds, 0.7),
        figure(3, EIGHT, RSYNC_EIGHT, "wall_s", Unit::Seconds, 0.7),
        figure(4, EIGHT, RSYNC_EIGHT, "cpu_s", Unit::Seconds, 1.0),
    ]
}

fn cases(stage: &Stage, arguments: &PackArguments) -> Result<Vec<Case>> {
    let wanted = match &arguments.pack_cases[..] {
        [] => PackCase::value_variants(),
        some => some,
    };
    wanted.iter().map(|&case| made(stage, arguments, case)).collect()
}

fn made(stage: &Stage, arguments: &PackArguments, case: PackCase) -> Result<Case> {
    Ok(match case {
        PackCase::Upgrade => Case {
            name: "upgrade",
            trees: stage.versions()?.clone(),
            figures: [
                "upgrade: bytes sent, 1 node",
                "upgrade: bytes sent, 8 nodes to 1",
                "upgrade: time, 1 node",
                "upgrade: time, 8 nodes",
                "upgrade: CPU time, 8 nodes",
            ],
        },
        PackCase::Large => Case {
            name: "large",
            trees: large(stage, u64::from(arguments.large_mib) << 20)?,
            figures: [
                "large file: bytes sent, 1 node",
                "large file: bytes sent, 8 nodes to 1",
                "large file: time, 1 node",
                "large file: time, 8 nodes",
                "large file: CPU time, 8 nodes",
            ],
        },
        PackCase::Small => Case {
            name: "small",
            trees: small(stage, arguments.small_files)?,
            figures: [
                "small files: bytes sent, 1 node",
                "small files: bytes sent, 8 nodes to 1",
                "small files: time, 1 node",
                "small files: time, 8 nodes",
                "small files: CPU time, 8 nodes",
            ],
        },
    })
}

/// A file of noise, and the same with 1 MiB changed in the middle.
fn large(stage: &Stage, bytes: u64) -> Result<[PathBuf; 2]> {
    let trees = [stage.fresh_dir("large.old")?, stage.fresh_dir("large.new")?];
    noise::file(&trees[0].join("disk"), "large", bytes)?;
    mirror(&trees[0], &trees[1], &[])?;
    let patch = stage.path("large.patch");
    noise::file(&patch, "patch", 1 << 20)?;
    let file = fs::OpenOptions::new().write(true).open(trees[1].join("disk"));
    let file = file.context("open the large file")?;
    let patch = fs::read(&patch).context("read the patch")?;
    file.write_all_at(&patch, bytes / 2 - (1 << 19))
        .context("patch the large file")?;
    Ok(trees)
}

/// Many files of up to 8 KiB, and the same with every hundredth changed at its end.
fn small(stage: &Stage, files: u32) -> Result<[PathBuf; 2]> {
    let trees = [stage.fresh_dir("small.old")?, stage.fresh_dir("small.new")?];
    for number in 0..files {
        let directory = trees[0].join(format!("{:03}", number / 500));
        if number % 500 == 0 {
            fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        }
        let text = format!("{number}: a line that is like the others\n").repeat(1 + (number % 200) as usize);
        fs::write(directory.join(format!("file{number}")), text).context("write a small file")?;
    }
    mirror(&trees[0], &trees[1], &[])?;
    for number in (0..files).step_by(100) {
        let path = trees[1].join(format!("{:03}/file{number}", number / 500));
        let mut text = fs::read(&path).context("read a small file")?;
        text.extend_from_slice(b"changed\n");
        fs::write(&path, text).context("change a small file")?;
    }
    Ok(trees)
}

fn measure_case(stage: &Stage, fleet: &Fleet<'_>, case: &Case, samples: &mut Vec<Sample>) -> Result<()> {
    let [old, new] = &case.trees;
    let store = stage.store("packs.state", "golden", &[old, new])?;
    // The pack is made.
    ours(stage, fleet, &store, case, 1)?;
    let sides: Vec<Side<'_>> = vec![
        (ONE, Box::new(|| ours(stage, fleet, &store, case, 1))),
        (EIGHT, Box::new(|| ours(stage, fleet, &store, case, 8))),
        (RSYNC_ONE, Box::new(|| peer(stage, fleet, case, 1, &[]))),
        (RSYNC_Z_ONE, Box::new(|| peer(stage, fleet, case, 1, &["-z"]))),
        (RSYNC_EIGHT, Box::new(|| peer(stage, fleet, case, 8, &[]))),
    ];
    interleave("packs", stage.pairs, sides, samples)
}

/// Nodes that have the old tree and know it; updated by the pack.
fn ours(stage: &Stage, fleet: &Fleet<'_>, store: &Path, case: &Case, count: usize) -> Result<Values> {
    let [old, new] = &case.trees;
    let nodes = &fleet.nodes[..count];
    fleet.fill_nodes(old)?;
    let mut server = fleet.start_server(store)?;
    end_all(&mut start_updates(fleet, nodes, store, "golden@1")?)?;
    prepare(stage, fleet, nodes, store)?;
    let values = measured(stage, fleet, &mut server, || {
        start_updates(fleet, nodes, store, "golden@2")
    })?;
    check(fleet, nodes, new)?;
    Ok(values)
}

fn start_updates(fleet: &Fleet<'_>, nodes: &[Namespace], store: &Path, image: &str) -> Result<Vec<Running>> {
    fleet.start_on("si-updateclient", nodes, |node| {
        let mut update = fleet.on_node(node, "si-updateclient", store)?;
        update.args([
            "--server",
            &fleet.url(),
            "--image",
            image,
            "--json",
            "--no-default-excludes",
        ]);
        update.arg("--root").arg(fleet.root(node));
        Ok(update)
    })
}

fn peer(stage: &Stage, fleet: &Fleet<'_>, case: &Case, count: usize, options: &[&str]) -> Result<Values> {
    let [old, new] = &case.trees;
    let nodes = &fleet.nodes[..count];
    fleet.fill_nodes(old)?;
    prepare(stage, fleet, nodes, new)?;
    let mut daemon = fleet.start_rsync(&fleet.server, new)?;
    let values = measured(stage, fleet, &mut daemon, || {
        fleet.start_on("rsync", nodes, |node| {
            let mut rsync = node.command("rsync");
            rsync.args(["-aHAX", "--delete"]).args(options);
            rsync.arg(format!("rsync://{}/tree/", fleet.server.address()));
            rsync.arg(fleet.root(node).join(""));
            Ok(rsync)
        })
    })?;
    check(fleet, nodes, new)?;
    Ok(values)
}

/// What either side reads is in the page cache, and nothing waits to be written.
fn prepare(stage: &Stage, fleet: &Fleet<'_>, nodes: &[Namespace], source: &Path) -> Result<()> {
    for node in nodes {
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
    values.insert("server_cpu_s", daemon.cpu.as_secs_f64());
    Ok(values)
}

fn check(fleet: &Fleet<'_>, nodes: &[Namespace], tree: &Path) -> Result<()> {
    nodes
        .iter()
        .try_for_each(|node| require_identical(tree, &fleet.root(node), &[]))
}
