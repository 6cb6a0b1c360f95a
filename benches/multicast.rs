//! One version to four nodes by multicast, against `udp-sender` and `udp-receiver` piping into tar.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};
use simulcast_testkit::command::{command, run};
use simulcast_testkit::netns::{INTERFACE, Namespace};
use simulcast_testkit::run::Run;

use crate::figure::{Figure, Row, Unit, bounded};
use crate::fleet::Fleet;
use crate::measure::{Running, Usage, end_all, start_pipeline, sync};
use crate::memory::{CLIENT_LIMIT, SERVER_LIMIT};
use crate::sample::{Sample, Side, Values, column, float, interleave, median, values};
use crate::stage::{Stage, require_identical, size, tar, warm};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "multicast: si-server and si-installer receive on 4 nodes of an unshaped bridge, against \
     udp-sender, and udp-receiver | tar -x; until the last is done and synced";

const PLAIN: &str = "udpcast, tar";
const COMPRESSED: &str = "udpcast, tar.zst";
const SEGMENTED: &str = "simulcast, packets one by one";

/// How often a transmission of the peer is tried: it drops receivers that fall behind, and then says that all is well.
const TRIES: u32 = 4;

/// What both sides send.
struct Sources {
    tree: PathBuf,
    store: PathBuf,
    plain: PathBuf,
    compressed: PathBuf,
}

/// Measures; every node's tree must be the original, once for each side.
pub(crate) fn run_bench(stage: &Stage, samples: &mut Vec<Sample>) -> Result<Vec<Row>> {
    let lab = Run::start("bench-multicast")?;
    let fleet = Fleet::new(stage, &lab)?;
    let sources = sources(stage)?;
    let sides: Vec<Side<'_>> = vec![
        ("simulcast", Box::new(|| ours(stage, &fleet, &sources))),
        (PLAIN, Box::new(|| peer(stage, &fleet, &sources, false))),
        (COMPRESSED, Box::new(|| peer(stage, &fleet, &sources, true))),
    ];
    interleave("multicast", stage.pairs, sides, samples)?;
    // Once more with packets that the counters see one by one: the bytes that a wire would carry.
    fleet.segment()?;
    let sides: Vec<Side<'_>> = vec![(SEGMENTED, Box::new(|| ours(stage, &fleet, &sources)))];
    interleave("multicast", 1, sides, samples)?;
    let wall = |side| median(&column(samples, side, "wall_s")).unwrap_or(f64::INFINITY);
    let better = if wall(PLAIN) < wall(COMPRESSED) {
        PLAIN
    } else {
        COMPRESSED
    };
    let figure = |name, peer, value, target| Figure {
        name,
        ours: "simulcast",
        peer,
        value,
        unit: Unit::Seconds,
        target,
    };
    let mut rows: Vec<Row> = [
        figure("time, peer's better way", better, "wall_s", Some(0.7)),
        figure("time", PLAIN, "wall_s", None),
        figure("time", COMPRESSED, "wall_s", None),
        figure("CPU time of all", better, "cpu_s", None),
        Figure {
            name: "sent per image byte",
            ours: SEGMENTED,
            peer: COMPRESSED,
            value: "sent_per_byte",
            unit: Unit::Number,
            target: None,
        },
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
        "peak memory, si-installer",
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
    let failed = column(samples, better, "failed_tries").iter().sum::<f64>();
    rows.push(bounded(
        "peer's runs that dropped a receiver",
        failed,
        Unit::Number,
        None,
    ));
    Ok(rows)
}

fn sources(stage: &Stage) -> Result<Sources> {
    let tree = stage.debian_tree()?.to_owned();
    let store = stage.store("multicast.state", "golden", &[&tree])?;
    let (plain, compressed) = (stage.path("multicast.tar"), stage.path("multicast.tar.zst"));
    run(tar().args(["-c", "-f"]).arg(&plain).arg("-C").arg(&tree).arg("."))?;
    run(command("zstd")
        .args(["-3", "-T2", "-q", "-f", "-o"])
        .arg(&compressed)
        .arg(&plain))?;
    Ok(Sources {
        tree,
        store,
        plain,
        compressed,
    })
}

fn ours(stage: &Stage, fleet: &Fleet<'_>, sources: &Sources) -> Result<Values> {
    prepare(fleet, &sources.store)?;
    let mut server = fleet.start_server(&sources.store)?;
    let before = fleet.server.counters()?;
    let start = Instant::now();
    let mut nodes = fleet.start_on_nodes("receive", |node| receive(fleet, node, &sources.store))?;
    let used = end_all(&mut nodes)?;
    sync(stage.disk().path())?;
    let wall = start.elapsed();
    let sent = fleet.since(&fleet.server, before)?.sent_bytes;
    let server = server.stop()?;
    let mut values = values(Usage {
        wall,
        cpu: used.cpu + server.cpu,
        ..used
    });
    values.insert("server_peak_bytes", float(server.peak_bytes));
    values.insert("server_cpu_s", server.cpu.as_secs_f64());
    insert_sent(&mut values, sent, size(&sources.store.join("chunks"))?);
    check(fleet, &sources.tree)?;
    Ok(values)
}

/// The command that receives by multicast on a node.
pub(crate) fn receive(fleet: &Fleet<'_>, node: &Namespace, store: &Path) -> Result<Command> {
    let mut command = fleet.on_node(node, "si-installer", store)?;
    let url = fleet.url();
    command.args([
        "receive",
        "--server",
        &url,
        "--image",
        "golden",
        "--transport",
        "multicast",
        "--json",
    ]);
    command.arg("--target").arg(fleet.root(node));
    Ok(command)
}

fn peer(stage: &Stage, fleet: &Fleet<'_>, sources: &Sources, compressed: bool) -> Result<Values> {
    let archive = if compressed {
        &sources.compressed
    } else {
        &sources.plain
    };
    for failed in 0..TRIES {
        prepare(fleet, archive)?;
        match transmit(stage, fleet, archive, compressed) {
            Ok(mut values) => {
                values.insert("failed_tries", f64::from(failed));
                check(fleet, &sources.tree)?;
                return Ok(values);
            }
            Err(error) if failed + 1 == TRIES => return Err(error),
            Err(error) => eprintln!("    udpcast failed, and is tried again: {error:#}"),
        }
    }
    anyhow::bail!("no try was made")
}

fn transmit(stage: &Stage, fleet: &Fleet<'_>, archive: &Path, compressed: bool) -> Result<Values> {
    let logs = stage.logs()?;
    let before = fleet.server.counters()?;
    let start = Instant::now();
    let (mut receivers, mut writers): (Vec<Running>, Vec<Running>) = (Vec::new(), Vec::new());
    for node in &fleet.nodes {
        let mut parts = start_pipeline(receiver(fleet, node, compressed)?, None, &logs)?;
        writers.extend(parts.pop());
        receivers.append(&mut parts);
    }
    let mut sender = fleet.server.command("udp-sender");
    sender.args([
        "--nokbd",
        "--no-progress",
        "--full-duplex",
        "--min-receivers",
        "4",
        "--interface",
        INTERFACE,
    ]);
    sender.args(SENDER);
    let mut sender = crate::measure::start("udp-sender", sender.arg("--file").arg(archive), &logs)?;
    let writers = end_all(&mut writers)?;
    sync(stage.disk().path())?;
    let wall = start.elapsed();
    let receivers = end_all(&mut receivers)?;
    let sender = sender.end_well()?;
    let sent = fleet.since(&fleet.server, before)?.sent_bytes;
    let mut values = values(Usage {
        wall,
        ..writers.beside(receivers).beside(sender)
    });
    insert_sent(&mut values, sent, size(archive)?);
    Ok(values)
}

/// See `docs/benchmarks.md`: the best of what was tried.
const SENDER: &[&str] = &["--max-slice-size", "1024"];

/// As much as this kernel gives without a change of its settings.
const RECEIVE_BUFFER: &str = "4m";

fn receiver(fleet: &Fleet<'_>, node: &Namespace, compressed: bool) -> Result<Vec<(String, Command)>> {
    let root = fleet.root(node);
    std::fs::create_dir(&root).with_context(|| format!("create {}", root.display()))?;
    let mut receiver = node.command("udp-receiver");
    receiver.args([
        "--nokbd",
        "--no-progress",
        "--interface",
        INTERFACE,
        "--rcvbuf",
        RECEIVE_BUFFER,
    ]);
    let mut unpack = tar();
    unpack.args(["-x", "-p", "-f", "-", "-C"]).arg(root);
    let name = |program: &str| format!("{}-{program}", node.name());
    let mut parts = vec![(name("udp-receiver"), receiver)];
    if compressed {
        let mut zstd = command("zstd");
        zstd.args(["-d", "-q", "-c"]);
        parts.push((name("zstd"), zstd));
    }
    parts.push((name("tar"), unpack));
    Ok(parts)
}

fn prepare(fleet: &Fleet<'_>, source: &Path) -> Result<()> {
    fleet.empty_nodes()?;
    warm(source)
}

fn insert_sent(values: &mut Values, sent: u64, image: u64) {
    values.insert("sent_bytes", float(sent));
    values.insert("sent_per_byte", float(sent) / float(image.max(1)));
}

fn check(fleet: &Fleet<'_>, tree: &Path) -> Result<()> {
    // One node each time is enough to notice that something is wrong, and four would take longer than the run.
    fleet
        .nodes
        .first()
        .map_or(Ok(()), |node| require_identical(tree, &fleet.root(node), &[]))
}
