//! An image server, a golden client and some nodes on an unshaped bridge, and the daemons that run on them.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use simulcast_testkit::netns::{Counters, Namespace, Network, Offload, Snooping};
use simulcast_testkit::run::Run;
use simulcast_testkit::wait;

use crate::measure::{self, Running};
use crate::stage::{Stage, mirror};

/// Nodes that receive.
pub(crate) const NODES: u8 = 4;

/// Where si-server listens.
const PORT: u16 = 9440;

/// Where rsync's daemon listens.
const RSYNC_PORT: u16 = 873;

/// How long a daemon may take to listen.
const START_LIMIT: Duration = Duration::from_secs(60);

/// The machines.
#[derive(Debug)]
pub(crate) struct Fleet<'a> {
    stage: &'a Stage,
    pub(crate) server: Namespace,
    pub(crate) golden: Namespace,
    pub(crate) nodes: Vec<Namespace>,
}

impl<'a> Fleet<'a> {
    /// Makes the machines, whose namespaces last as long as `lab`.
    pub(crate) fn new(stage: &'a Stage, lab: &Run) -> Result<Self> {
        Self::with_nodes(stage, lab, NODES)
    }

    /// The same with so many nodes.
    pub(crate) fn with_nodes(stage: &'a Stage, lab: &Run, count: u8) -> Result<Self> {
        let network = Network::new(lab, Snooping::Off)?;
        let server = network.join("server", 1)?;
        let golden = network.join("golden01", 10)?;
        let nodes = (1..=count)
            .map(|n| network.join(&format!("node{n:02}"), 10 + n))
            .collect::<Result<_>>()?;
        Ok(Self {
            stage,
            server,
            golden,
            nodes,
        })
    }

    /// From now on packets leave the machines one by one, as from a network card without offload, so that counters
    /// show what a wire would carry.
    pub(crate) fn segment(&self) -> Result<()> {
        for machine in [&self.server, &self.golden].into_iter().chain(&self.nodes) {
            machine.set_offload(Offload::Segmented)?;
        }
        Ok(())
    }

    /// A node's root directory.
    pub(crate) fn root(&self, node: &Namespace) -> PathBuf {
        self.stage.disk().path().join(node.name())
    }

    /// No node has anything.
    pub(crate) fn empty_nodes(&self) -> Result<()> {
        self.stage.disk().renew()?;
        self.forget()
    }

    /// No node remembers anything.
    pub(crate) fn forget(&self) -> Result<()> {
        self.stage.fresh_dir("nodes.own").map(drop)
    }

    /// Every node has the tree, and remembers nothing.
    pub(crate) fn fill_nodes(&self, tree: &Path) -> Result<()> {
        self.empty_nodes()?;
        self.nodes
            .iter()
            .try_for_each(|node| mirror(tree, &self.root(node), &[]))
    }

    /// The image server's address for nodes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{PORT}", self.server.address())
    }

    /// Starts si-server over a store, with the settings that it has unless told otherwise, and waits until it answers.
    pub(crate) fn start_server(&self, state: &Path) -> Result<Running> {
        let mut command = self.on(&self.server, "si-server", state)?;
        let listen = format!("{}:{PORT}", self.server.address());
        command.args(["--listen", &listen]);
        let running = measure::start("si-server", &mut command, &self.stage.logs()?)?;
        self.wait_for_port(&self.server, PORT, &running)?;
        Ok(running)
    }

    /// One of the product's programs on a machine, with a state directory.
    pub(crate) fn on(&self, machine: &Namespace, name: &str, state: &Path) -> Result<Command> {
        let mut command = machine.command(self.stage.program(name)?);
        command.env("SI_STATE", state);
        command.env("SI_CONFIG", self.stage.path("config"));
        fs::create_dir_all(self.stage.path("config")).context("create an empty configuration")?;
        Ok(command)
    }

    /// One of the product's programs on a node, with what a node knows of the server whose store is `store`.
    pub(crate) fn on_node(&self, node: &Namespace, name: &str, store: &Path) -> Result<Command> {
        let own = self.stage.path("nodes.own").join(node.name());
        fs::create_dir_all(&own).with_context(|| format!("create {}", own.display()))?;
        let mut command = self.on(node, name, &own)?;
        let token = store.join("keys/token");
        let token = fs::read_to_string(&token).with_context(|| format!("read {}", token.display()))?;
        command.env("SI_TOKEN", token.trim());
        Ok(command)
    }

    /// Starts a program that [`Fleet::on_node`] made, on every node at the same time.
    pub(crate) fn start_on_nodes(
        &self,
        name: &str,
        command: impl Fn(&Namespace) -> Result<Command>,
    ) -> Result<Vec<Running>> {
        self.start_on(name, &self.nodes, command)
    }

    /// The same on some of them.
    pub(crate) fn start_on(
        &self,
        name: &str,
        nodes: &[Namespace],
        command: impl Fn(&Namespace) -> Result<Command>,
    ) -> Result<Vec<Running>> {
        let logs = self.stage.logs()?;
        let start =
            |node: &Namespace| measure::start(&format!("{}-{name}", node.name()), &mut command(node)?, &logs);
        nodes.iter().map(start).collect()
    }

    /// Starts rsync's daemon on a machine, giving `tree` as module `tree`, and waits until it answers.
    pub(crate) fn start_rsync(&self, machine: &Namespace, tree: &Path) -> Result<Running> {
        let config = self.stage.path(&format!("rsyncd.{}.conf", machine.name()));
        let text = format!(
            "use chroot = no\nuid = 0\ngid = 0\nreverse lookup = no\nlog file = {}\n[tree]\npath = {}\nread only = yes\n",
            self.stage.logs()?.join("rsyncd.log").display(),
            tree.display()
        );
        fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
        let mut command = machine.command("rsync");
        command
            .args(["--daemon", "--no-detach"])
            .arg("--config")
            .arg(&config);
        let running = measure::start("rsyncd", &mut command, &self.stage.logs()?)?;
        self.wait_for_port(machine, RSYNC_PORT, &running)?;
        Ok(running)
    }

    /// Starts a web server of the files below `directory`, and waits until it answers.
    pub(crate) fn start_web(&self, directory: &Path, port: u16) -> Result<Running> {
        let mut command = self.server.command("python3");
        command.args(["-m", "http.server", &port.to_string(), "--directory"]);
        let running = measure::start("web", command.arg(directory), &self.stage.logs()?)?;
        self.wait_for_port(&self.server, port, &running)?;
        Ok(running)
    }

    /// What `machine` has sent and received since `before`.
    pub(crate) fn since(&self, machine: &Namespace, before: Counters) -> Result<Counters> {
        Ok(machine.counters()?.since(before))
    }

    fn wait_for_port(&self, machine: &Namespace, port: u16, daemon: &Running) -> Result<()> {
        let address = format!("{}:{port}", machine.address());
        wait::until(&format!("a daemon to listen on {address}"), START_LIMIT, || {
            Ok(machine.enter(|| TcpStream::connect(&address))?.ok().map(|_| ()))
        })
        .with_context(|| daemon.log_tail())
    }
}
