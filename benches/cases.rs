//! Three updates that administrators know, to one node and to several: packages of a Debian tree, a megabyte in the middle of
//! one large file, one in a hundred of many small files. Against rsync with and without compression to each node, and
//! against casync, which seeds itself from the old tree. Then once more with nothing to do.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use simulcast_testkit::command::{command, run};
use simulcast_testkit::golden::change;
use simulcast_testkit::golden::noise;
use simulcast_testkit::netns::Namespace;
use simulcast_testkit::run::Run;

use crate::figure::{Figure, Row, Unit};
use crate::fleet::Fleet;
use crate::measure::{Running, end_all, sync};
use crate::sample::{Sample, Side, Values, float, interleave, values};
use crate::stage::{Stage, mirror, require_identical, warm};

/// What it says of itself in the tables.
pub(crate) const TITLE: &str = "update cases: @1 to @2 by si-updateclient, against rsync -aHAX --delete to each node and casync with a seed";

const OURS: &str = "simulcast";
const PEER_Z: &str = "rsync -aHAX -z --delete";
const PEER: &str = "rsync -aHAX --delete";
const CASYNC: &str = "casync extract --seed";

/// Where casync's store is served.
const STORE_PORT: u16 = 8080;

/// How large the cases are.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct CaseArguments {
    /// Benchmark cases: MiB of the large file.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u64).range(4..=65536))]
    big_mib: u64,
    /// Benchmark cases: how many small files.
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(100..=10_000_000))]
    small_files: u32,
    /// Benchmark cases: how many nodes, besides one alone.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=16))]
    case_nodes: u8,
}

/// One of the three.
#[derive(Debug, Clone, Copy)]
enum Case {
    Packages,
    Big,
    Small,
}

impl Case {
    const ALL: [Self; 3] = [Self::Packages, Self::Big, Self::Small];

    fn name(self) -> &'static str {
        match self {
            Self::Packages => "packages",
            Self::Big => "one large file",
            Self::Small => "many small files",
        }
    }

    /// Makes both trees.
    fn make(self, stage: &Stage, arguments: &CaseArguments) -> Result<[PathBuf; 2]> {
        let old = stage.fresh("case.1")?;
        let new = stage.fresh("case.2")?;
        match self {
            Self::Packages => mirror(stage.debian_tree()?, &old, &[])?,
            Self::Big => {
                fs::create_dir(&old).context("create a tree")?;
                noise::file(&old.join("big"), "case", arguments.big_mib << 20)?;
            }
            Self::Small => small_files(&old, arguments.small_files)?,
        }
        mirror(&old, &new, &[])?;
        match self {
            Self::Packages => {
                change::packages(&new, stage.debian())?;
            }
            Self::Big => {
                let big = fs::OpenOptions::new().write(true).open(new.join("big"));
                let middle = arguments.big_mib << 19;
                big.and_then(|file| file.write_all_at(&noise::bytes("patch", 1 << 20), middle))
                    .context("change the large file")?;
            }
            Self::Small => {
                for number in (0..arguments.small_files).step_by(100) {
                    fs::write(
                        small_file(&new, number),
                        noise::bytes(&format!("new {number}"), 3000),
                    )
                    .context("change a small file")?;
                }
            }
        }
        Ok([old, new])
    }
}

/// A thousand to a directory.
fn small_file(tree: &Path, number: u32) -> PathBuf {
    tree.join(format!("{:04}/{:03}", number / 1000, number % 1000))
}

fn small_files(tree: &Path, count: u32) -> Result<()> {
    for number in 0..count {
        let path = small_file(tree, number);
        if number % 1000 == 0 {
            fs::create_dir_all(path.parent().context("it lies in a directory")?)?;
        }
        fs::write(&path, noise::bytes(&format!("old {number}"), 3000)).context("write a small file")?;
    }
    Ok(())
}

/// Measures each case with one node and with several; every node must be the new tree.
pub(crate) fn run_bench(
    stage: &Stage,
    arguments: &CaseArguments,
    samples: &mut Vec<Sample>,
) -> Result<Vec<(String, Vec<Row>)>> {
    let mut tables = Vec::new();
    for case in Case::ALL {
        let trees = case.make(stage, arguments)?;
        let [old, new] = [&trees[0], &trees[1]].map(PathBuf::as_path);
        let store = stage.store("cases.state", "golden", &[old, new])?;
        for nodes in [1, arguments.case_nodes] {
            let lab = Run::start("bench-cases")?;
            let fleet = Fleet::with_nodes(stage, &lab, nodes)?;
            fleet.segment()?;
            let bed = Bed {
                stage,
                fleet: &fleet,
                old,
                new,
            };
            let mut found = Vec::new();
            let mut sides: Vec<Side<'_>> = vec![
                (OURS, Box::new(|| bed.ours(&store))),
                (PEER_Z, Box::new(|| bed.rsync(&["-z"]))),
                (PEER, Box::new(|| bed.rsync(&[]))),
            ];
            if nodes == 1 {
                sides.push((CASYNC, Box::new(|| bed.casync())));
            }
            interleave("cases", stage.pairs, sides, &mut found)?;
            let title = format!("{TITLE}: {}, {nodes} nodes", case.name());
            tables.push((title, rows(&found, nodes)));
            for sample in &mut found {
                sample.case = Some(format!("{}, {nodes} nodes", case.name()));
            }
            samples.append(&mut found);
        }
    }
    Ok(tables)
}

fn rows(samples: &[Sample], nodes: u8) -> Vec<Row> {
    let figure = |name, peer, value, unit, target| Figure {
        name,
        ours: OURS,
        peer,
        value,
        unit,
        target,
    };
    let mut figures = vec![
        figure(
            "bytes that the server sent",
            PEER_Z,
            "sent_bytes",
            Unit::Bytes,
            Some(0.7),
        ),
        figure("time", PEER, "wall_s", Unit::Seconds, Some(0.7)),
        figure("time", PEER_Z, "wall_s", Unit::Seconds, None),
        figure(
            "CPU time of the server",
            PEER,
            "server_cpu_s",
            Unit::Seconds,
            None,
        ),
        figure("CPU time of all", PEER, "cpu_s", Unit::Seconds, None),
        figure(
            "nothing to do: time",
            PEER,
            "again_wall_s",
            Unit::Seconds,
            Some(0.5),
        ),
        figure(
            "nothing to do: CPU time",
            PEER,
            "again_cpu_s",
            Unit::Seconds,
            None,
        ),
    ];
    if nodes == 1 {
        figures.push(figure(
            "bytes that the server sent",
            CASYNC,
            "sent_bytes",
            Unit::Bytes,
            None,
        ));
        figures.push(figure("time", CASYNC, "wall_s", Unit::Seconds, None));
    }
    figures.iter().map(|figure| figure.row(samples)).collect()
}

/// The machines and the trees of one case.
struct Bed<'a> {
    stage: &'a Stage,
    fleet: &'a Fleet<'a>,
    old: &'a Path,
    new: &'a Path,
}

impl Bed<'_> {
    fn ours(&self, store: &Path) -> Result<Values> {
        self.fleet.fill_nodes(self.old)?;
        // Each node writes down what it has, as an install or update before would have.
        let mut server = self.fleet.start_server(store)?;
        end_all(&mut self.updates(store, "golden@1")?)?;
        self.prepare(store)?;
        let mut values = self.measured(&mut server, || self.updates(store, "golden@2"))?;
        self.check()?;
        self.again(&mut values, || self.updates(store, "golden@2"))?;
        self.ended(&mut values, &mut server)?;
        Ok(values)
    }

    fn updates(&self, store: &Path, image: &str) -> Result<Vec<Running>> {
        self.fleet.start_on_nodes("si-updateclient", |node| {
            let mut update = self.fleet.on_node(node, "si-updateclient", store)?;
            update.args(["--server", &self.fleet.url(), "--image", image, "--json"]);
            // The peers keep nothing either.
            update.args(["--no-default-excludes", "--keep", "0", "--root"]);
            update.arg(self.fleet.root(node));
            Ok(update)
        })
    }

    fn rsync(&self, options: &[&str]) -> Result<Values> {
        self.fleet.fill_nodes(self.old)?;
        self.prepare(self.new)?;
        let mut daemon = self.fleet.start_rsync(&self.fleet.server, self.new)?;
        let start = || {
            self.fleet.start_on_nodes("rsync", |node| {
                let mut rsync = node.command("rsync");
                rsync.args(["-aHAX", "--delete"]).args(options);
                rsync.arg(format!("rsync://{}/tree/", self.fleet.server.address()));
                rsync.arg(self.fleet.root(node).join(""));
                Ok(rsync)
            })
        };
        let mut values = self.measured(&mut daemon, start)?;
        self.check()?;
        self.again(&mut values, start)?;
        self.ended(&mut values, &mut daemon)?;
        Ok(values)
    }

    /// casync writes a new tree beside the old one, of which it takes what it can; the store lies behind a web server.
    fn casync(&self) -> Result<Values> {
        self.fleet.fill_nodes(self.old)?;
        let served = self.stage.fresh_dir("casync")?;
        let mut make = command("casync");
        make.args(["make", "--store"]).arg(served.join("store.castr"));
        run(make.arg(served.join("new.caidx")).arg(self.new)).context("make casync's store")?;
        self.prepare(&served)?;
        let mut web = self.fleet.start_web(&served, STORE_PORT)?;
        let url = format!("http://{}:{STORE_PORT}", self.fleet.server.address());
        let target = |node: &Namespace| self.fleet.root(node).with_extension("casync");
        let mut values = self.measured(&mut web, || {
            self.fleet.start_on_nodes("casync", |node| {
                let mut casync = node.command("casync");
                casync.arg("extract").arg(format!("--store={url}/store.castr"));
                casync.arg("--seed").arg(self.fleet.root(node));
                casync.arg(format!("{url}/new.caidx")).arg(target(node));
                Ok(casync)
            })
        })?;
        for node in &self.fleet.nodes {
            require_identical(self.new, &target(node), &[])?;
        }
        self.ended(&mut values, &mut web)?;
        Ok(values)
    }

    /// What either side reads is in the page cache, and nothing waits to be written.
    fn prepare(&self, source: &Path) -> Result<()> {
        for node in &self.fleet.nodes {
            warm(&self.fleet.root(node))?;
        }
        warm(source)?;
        sync(self.stage.disk().path())
    }

    /// Until the last node is done, and all is on disk.
    fn measured(
        &self,
        daemon: &mut Running,
        start_nodes: impl FnOnce() -> Result<Vec<Running>>,
    ) -> Result<Values> {
        let before = self.fleet.server.counters()?;
        let cpu = daemon.cpu_so_far()?;
        let start = Instant::now();
        let mut used = end_all(&mut start_nodes()?)?;
        sync(self.stage.disk().path())?;
        used.wall = start.elapsed();
        let server = daemon.cpu_so_far()?.saturating_sub(cpu);
        used.cpu += server;
        let mut values = values(used);
        let sent = self.fleet.since(&self.fleet.server, before)?.sent_bytes;
        values.insert("sent_bytes", float(sent));
        values.insert("server_cpu_s", server.as_secs_f64());
        Ok(values)
    }

    /// The same once more, when there is nothing to do.
    fn again(&self, values: &mut Values, start_nodes: impl FnOnce() -> Result<Vec<Running>>) -> Result<()> {
        let start = Instant::now();
        let used = end_all(&mut start_nodes()?)?;
        values.insert("again_wall_s", start.elapsed().as_secs_f64());
        values.insert("again_cpu_s", used.cpu.as_secs_f64());
        Ok(())
    }

    fn ended(&self, values: &mut Values, daemon: &mut Running) -> Result<()> {
        values.insert("server_peak_bytes", float(daemon.stop()?.peak_bytes));
        Ok(())
    }

    fn check(&self) -> Result<()> {
        let nodes = self.fleet.nodes.iter();
        nodes
            .map(|node| self.fleet.root(node))
            .try_for_each(|root| require_identical(self.new, &root, &[]))
    }
}
