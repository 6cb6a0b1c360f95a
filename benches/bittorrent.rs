//! One version to many nodes by BitTorrent, against aria2, transmission and libtorrent with unpacking after it, and
//! against our own multicast and HTTP.
//!
//! Three cases: 8 nodes at 100 Mbit/s and 24 at 20 Mbit/s, rates at which the processors are not the limit, and 8 nodes
//! on links of no given rate. Every machine's link is shaped in both directions.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use simulcast_protocol::units::Rate;
use simulcast_testkit::command::{command, run};
use simulcast_testkit::golden::small;
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::run::Run;
use simulcast_testkit::wait;

use crate::figure::{Figure, Row, Unit};
use crate::measure::{Running, Usage, start, sync};
use crate::sample::{Sample, Side, Values, float, interleave, values};
use crate::stage::{Stage, require_identical, size, tar};

/// What it says of itself in the table.
pub(crate) const TITLE: &str = "bittorrent: si-installer receive --transport bittorrent, against other clients with tar -x after it; \
     until the last is done and synced";

/// Bytes of a file that does not compress, beside some small ones: most of what is sent.
const BIG_BYTES: u64 = 96 << 20;

/// The same when it is only to be seen that everything runs.
const SMALL_BYTES: u64 = 8 << 20;

/// How long one run may take.
const LIMIT: Duration = Duration::from_secs(900);

/// What is measured: at the given rates two processors are not the limit.
const CASES: &[Case] = &[
    Case {
        name: "8 nodes, 100 Mbit/s",
        nodes: 8,
        rate: Some(100_000_000),
    },
    Case {
        name: "24 nodes, 20 Mbit/s",
        nodes: 24,
        rate: Some(20_000_000),
    },
    Case {
        name: "8 nodes, unshaped",
        nodes: 8,
        rate: None,
    },
];

/// To see that everything runs.
const SMALL: &[Case] = &[Case {
    name: "2 nodes, unshaped",
    nodes: 2,
    rate: None,
}];

/// What is measured of it.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SwarmArguments {
    /// Benchmark bittorrent: the cases whose names begin so, as in `24 nodes`; all when none is named
    #[arg(long, value_name = "NAME")]
    swarm_case: Vec<String>,
    /// Benchmark bittorrent: the sides to compare, as the table names them; all when none is named
    #[arg(long, value_name = "NAME")]
    swarm_side: Vec<String>,
}

impl SwarmArguments {
    fn has_case(&self, case: &Case) -> bool {
        let named = |name: &String| case.name.starts_with(name.as_str());
        self.swarm_case.is_empty() || self.swarm_case.iter().any(named)
    }

    fn has_side(&self, side: &str) -> bool {
        self.swarm_side.is_empty() || self.swarm_side.iter().any(|name| name == side)
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    nodes: u8,
    rate: Option<u64>,
}

/// The machines of one case.
struct Yard<'a> {
    stage: &'a Stage,
    server: Namespace,
    nodes: Vec<Namespace>,
}

/// What is sent.
struct Sources {
    tree: PathBuf,
    store: PathBuf,
    archive: PathBuf,
    torrent: PathBuf,
    tracker: PathBuf,
}

/// Measures; every node's tree must be the original, once for each side.
pub(crate) fn run_bench(
    stage: &Stage,
    small: bool,
    arguments: &SwarmArguments,
    samples: &mut Vec<Sample>,
) -> Result<Vec<Row>> {
    let (cases, bytes) = if small {
        (SMALL, SMALL_BYTES)
    } else {
        (CASES, BIG_BYTES)
    };
    let sources = sources(stage, bytes)?;
    let mut rows = Vec::new();
    for case in cases.iter().filter(|case| arguments.has_case(case)) {
        let lab = Run::start("bench-bittorrent")?;
        let yard = Yard::new(stage, &lab, *case)?;
        let mut of_case = Vec::new();
        let mut sides: Vec<Side<'_>> = vec![
            ("simulcast", Box::new(|| yard.ours(&sources, "bittorrent"))),
            (
                "simulcast, multicast",
                Box::new(|| yard.ours(&sources, "multicast")),
            ),
            ("simulcast, http", Box::new(|| yard.ours(&sources, "http"))),
            ("aria2", Box::new(|| yard.others(&sources, aria2))),
            ("transmission", Box::new(|| yard.others(&sources, transmission))),
            ("libtorrent", Box::new(|| yard.others(&sources, libtorrent))),
        ];
        sides.retain(|(name, _)| arguments.has_side(name));
        if case.nodes > 8 {
            // Twenty-four copies over a link of 20 Mbit/s take a quarter of an hour, which need not be measured.
            sides.retain(|(name, _)| *name != "simulcast, http");
        }
        interleave("bittorrent", stage.pairs, sides, &mut of_case)?;
        let figure = |name, peer, value, unit, target| Figure {
            name,
            ours: "simulcast",
            peer,
            value,
            unit,
            target,
        };
        let (aria2, libtorrent) = match case.nodes {
            24 => (Some(0.75), Some(0.9)),
            _ => (Some(0.85), Some(0.9)),
        };
        let shaped = case.rate.is_some();
        for figure in [
            figure("time", "aria2", "wall_s", Unit::Seconds, aria2.filter(|_| shaped)),
            figure(
                "time",
                "libtorrent",
                "wall_s",
                Unit::Seconds,
                libtorrent.filter(|_| shaped),
            ),
            figure("time", "transmission", "wall_s", Unit::Seconds, None),
            figure("time", "simulcast, multicast", "wall_s", Unit::Seconds, None),
            figure("time", "simulcast, http", "wall_s", Unit::Seconds, None),
            figure(
                "server's bytes per image byte",
                "aria2",
                "sent_per_byte",
                Unit::Number,
                None,
            ),
            figure(
                "server's bytes per image byte",
                "libtorrent",
                "sent_per_byte",
                Unit::Number,
                None,
            ),
            figure("CPU time of all", "aria2", "cpu_s", Unit::Seconds, None),
        ] {
            rows.push(figure.row(&of_case).of_case(case.name));
        }
        for sample in &mut of_case {
            sample.case = Some(case.name.to_owned());
        }
        samples.append(&mut of_case);
    }
    Ok(rows)
}

fn sources(stage: &Stage, bytes: u64) -> Result<Sources> {
    // Twenty-four copies of it, and of the archive that the others unpack, are to fit on the disk.
    let tree = stage.fresh("bittorrent.tree")?;
    small::make(&tree, bytes)?;
    let store = stage.store("bittorrent.state", "golden", &[&tree])?;
    let directory = stage.fresh_dir("bittorrent.archive")?;
    let (plain, archive) = (stage.path("bittorrent.tar"), directory.join("golden.tar.zst"));
    run(tar().args(["-c", "-f"]).arg(&plain).arg("-C").arg(&tree).arg("."))?;
    run(command("zstd")
        .args(["-3", "-T2", "-q", "-f", "-o"])
        .arg(&archive)
        .arg(&plain))?;
    let helper = |name: &str| {
        simulcast_testkit::run::workspace()
            .join("benches/bittorrent")
            .join(name)
    };
    let torrent = stage.path("golden.torrent");
    run(command("python3")
        .arg(helper("torrent.py"))
        .arg(&archive)
        .arg("http://10.77.0.1:6969/announce")
        .arg(&torrent))
    .context("make the others' torrent; scripts/setup --bench installs what it needs")?;
    Ok(Sources {
        tree,
        store,
        archive,
        torrent,
        tracker: helper("tracker.py"),
    })
}

impl<'a> Yard<'a> {
    fn new(stage: &'a Stage, lab: &Run, case: Case) -> Result<Self> {
        let network = Network::new(lab, Snooping::Off)?;
        let server = network.join("server", 1)?;
        let joined = (1..=case.nodes).map(|n| network.join(&format!("node{n:02}"), 10 + n));
        let nodes: Vec<Namespace> = joined.collect::<Result<_>>()?;
        if let Some(rate) = case.rate {
            for machine in nodes.iter().chain([&server]) {
                machine.set_uplink_rate(Rate::from_bits_per_second(rate))?;
                machine.set_downlink_rate(Rate::from_bits_per_second(rate))?;
            }
        }
        Ok(Self { stage, server, nodes })
    }

    fn root(&self, node: &Namespace) -> PathBuf {
        self.stage.disk().path().join(node.name())
    }

    /// Our server and receivers.
    fn ours(&self, sources: &Sources, transport: &str) -> Result<Values> {
        self.empty()?;
        let logs = self.stage.logs()?;
        let mut server = self.server.command(self.stage.program("si-server")?);
        let config = self.stage.fresh_dir("config")?;
        server.env("SI_STATE", &sources.store).env("SI_CONFIG", &config);
        server.args(["--listen", "10.77.0.1:9440"]);
        let mut server = start("si-server", &mut server, &logs)?;
        self.wait_for_port(9440, &server)?;
        let token = fs::read_to_string(sources.store.join("keys/token")).context("read the token")?;
        let before = self.server.counters()?;
        let begun = Instant::now();
        let mut running = Vec::new();
        for node in &self.nodes {
            let own = self.stage.path("nodes.own").join(node.name());
            fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
            let mut command = node.command(self.stage.program("si-installer")?);
            command
                .env("SI_STATE", &own)
                .env("SI_CONFIG", &config)
                .env("SI_TOKEN", token.trim());
            command.args([
                "receive",
                "--server",
                "http://10.77.0.1:9440",
                "--image",
                "golden",
                "--json",
            ]);
            command
                .args(["--transport", transport, "--target"])
                .arg(self.root(node));
            running.push(start(node.name(), &mut command, &logs)?);
        }
        // They go on helping; what counts is when the last of them is done.
        wait::until("all to be done", LIMIT, || {
            Ok(running
                .iter()
                .all(|r| r.stdout().contains("\"event\":\"done\""))
                .then_some(()))
        })?;
        sync(self.stage.disk().path())?;
        let wall = begun.elapsed();
        let sent = self.server.counters()?.since(before).sent_bytes;
        let used = crate::measure::end_all(&mut running)?;
        let used = used.beside(server.stop()?);
        self.judge(
            sources,
            Usage { wall, ..used },
            sent,
            size(&sources.store.join("chunks"))?,
        )
    }

    /// Another client: one that seeds at the server, one on each node, and tar when it is done.
    fn others(&self, sources: &Sources, client: Client) -> Result<Values> {
        self.empty()?;
        let logs = self.stage.logs()?;
        let mut tracker = self.server.command("python3");
        tracker.arg(&sources.tracker).args(["6969"]);
        let mut tracker = start("tracker", &mut tracker, &logs)?;
        self.wait_for_port(6969, &tracker)?;
        let at_server = sources
            .archive
            .parent()
            .context("the archive lies in a directory")?;
        let mut seed = start(
            "seed",
            &mut client(&self.server, &sources.torrent, at_server),
            &logs,
        )?;
        self.wait_for_port(6881, &seed)?;
        let before = self.server.counters()?;
        let begun = Instant::now();
        let mut running: Vec<(Running, PathBuf, PathBuf)> = Vec::new();
        for node in &self.nodes {
            let (into, root) = (
                self.stage.disk().path().join(format!("{}.in", node.name())),
                self.root(node),
            );
            for directory in [&into, &root] {
                fs::create_dir_all(directory).with_context(|| format!("create {}", directory.display()))?;
            }
            let process = start(node.name(), &mut client(node, &sources.torrent, &into), &logs)?;
            running.push((process, into, root));
        }
        let mut unpacking = Vec::new();
        let mut waiting: Vec<usize> = (0..running.len()).collect();
        wait::until("all to have the archive", LIMIT, || {
            waiting.retain(|&at| {
                let (process, into, root) = &running[at];
                if !process.stdout().contains("COMPLETE") && !has_marker(into) {
                    return true;
                }
                unpacking.push((into.join("golden.tar.zst"), root.clone()));
                false
            });
            for (archive, root) in unpacking.drain(..) {
                let mut command = tar();
                command
                    .args(["--zstd", "-x", "-p", "-f"])
                    .arg(archive)
                    .arg("-C")
                    .arg(root);
                run(&mut command)?;
            }
            Ok(waiting.is_empty().then_some(()))
        })?;
        sync(self.stage.disk().path())?;
        let wall = begun.elapsed();
        let sent = self.server.counters()?.since(before).sent_bytes;
        let mut used = seed.stop()?;
        for (mut process, ..) in running {
            used = used.beside(process.stop()?);
        }
        tracker.stop()?;
        self.judge(sources, Usage { wall, ..used }, sent, size(&sources.archive)?)
    }

    fn judge(&self, sources: &Sources, used: Usage, sent: u64, image: u64) -> Result<Values> {
        let mut values = values(used);
        values.insert("sent_bytes", float(sent));
        values.insert("sent_per_byte", float(sent) / float(image.max(1)));
        let node = self.nodes.first().context("there is a node")?;
        require_identical(&sources.tree, &self.root(node), &[])?;
        Ok(values)
    }

    fn empty(&self) -> Result<()> {
        self.stage.disk().renew()?;
        self.stage.fresh_dir("nodes.own").map(drop)
    }

    fn wait_for_port(&self, port: u16, daemon: &Running) -> Result<()> {
        let address = format!("10.77.0.1:{port}");
        wait::until(
            &format!("a daemon to listen on {address}"),
            Duration::from_secs(60),
            || {
                Ok(self
                    .server
                    .enter(|| std::net::TcpStream::connect(&address))?
                    .ok()
                    .map(drop))
            },
        )
        .with_context(|| daemon.log_tail())
    }
}

/// How a client is started that takes a torrent into a directory, or finds it there, and seeds.
type Client = fn(&Namespace, &Path, &Path) -> Command;

fn aria2(machine: &Namespace, torrent: &Path, into: &Path) -> Command {
    let mut command = machine.command("aria2c");
    command.args([
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
    ]);
    command.args([
        "--file-allocation=none",
        "--check-integrity=true",
        "--seed-ratio=0.0",
        "--listen-port=6881",
    ]);
    command.args(["--bt-tracker-interval=2", "--on-bt-download-complete"]);
    command.arg(simulcast_testkit::run::workspace().join("benches/bittorrent/complete"));
    command.arg("--dir").arg(into).arg(torrent);
    command
}

fn transmission(machine: &Namespace, torrent: &Path, into: &Path) -> Command {
    let mut command = machine.command("transmission-cli");
    command
        .env("HOME", into.join(".home"))
        .args(["--no-portmap", "--port", "6881"]);
    command
        .arg("--finish")
        .arg(simulcast_testkit::run::workspace().join("benches/bittorrent/complete"));
    command.arg("--download-dir").arg(into).arg(torrent);
    command
}

fn libtorrent(machine: &Namespace, torrent: &Path, into: &Path) -> Command {
    // The distribution's own, which its packages are for.
    let mut command = machine.command("/usr/bin/python3");
    command.arg(simulcast_testkit::run::workspace().join("benches/bittorrent/libtorrent_client.py"));
    command.arg(torrent).arg(into);
    command
}

/// Whether a client has called `complete` for the archive in a directory.
fn has_marker(into: &Path) -> bool {
    into.join("golden.tar.zst.complete").exists()
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[test]
    fn helpers_are_there() -> Result<()> {
        for name in ["torrent.py", "tracker.py", "libtorrent_client.py", "complete"] {
            let path = simulcast_testkit::run::workspace()
                .join("benches/bittorrent")
                .join(name);
            ensure!(path.is_file(), "{} is missing", path.display());
        }
        Ok(())
    }
}
