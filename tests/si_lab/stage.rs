//! The machines of the demonstration and how the product's programs are called on them.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde::Deserialize;
use simulcast_testkit::golden::debian::Debian;
use simulcast_testkit::golden::small;
use simulcast_testkit::netns::{Namespace, Network, Offload, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;
use simulcast_testkit::sshd::{self, Operator};
use simulcast_testkit::wait;

use crate::demo::Arguments;
use crate::up::FIRST_NODE;

/// Bytes of the golden client's large file.
const BIG_BYTES: u64 = 64 << 20;

/// Where, in the golden client, the files are that a change changes.
pub(crate) const FILES: &str = "srv/golden";

/// The port of the image server.
const PORT: u16 = 7373;

/// How long any one program may take: far more than it does, on a machine that does other things as well.
pub(crate) const LIMIT: Duration = Duration::from_secs(600);

/// All machines. Fields are dropped in this order: programs before the namespaces that they run in.
#[derive(Debug)]
pub(crate) struct Stage {
    golden_machine: Process,
    pub(crate) server: Namespace,
    pub(crate) golden: Namespace,
    pub(crate) nodes: Vec<Node>,
    pub(crate) debian: Debian,
    operator: Operator,
    programs: Programs,
    run: Run,
}

/// A node: its namespace and the directory that stands for its root file system.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) namespace: Namespace,
    pub(crate) root: PathBuf,
}

/// A line that `si-installer receive --json` writes to stdout.
#[derive(Debug, Deserialize)]
struct Progress {
    event: String,
    #[serde(default)]
    chunks_done: u64,
    #[serde(default)]
    chunks_total: u64,
}

impl Stage {
    /// Makes the machines; golden01 runs its sshd, node03 loses packets.
    pub(crate) fn build(arguments: &Arguments) -> Result<Self> {
        let programs = Programs::new(arguments.programs.as_deref());
        programs.require(&[
            "si-server",
            "si-getimage",
            "si-checkout",
            "si-fsck",
            "si-installer",
            "si-updateclient",
        ])?;
        let debian = Debian::prepare()?;
        let run = Run::start("demo")?;
        let network = Network::new(&run, Snooping::WithQuerier)?;
        let server = network.join("server", 1)?;
        // So that the counters show what a wire would carry, and node03 loses packets one by one.
        server.set_offload(Offload::Segmented)?;
        let golden = network.join("golden01", 10)?;
        golden.set_offload(Offload::Segmented)?;
        let tree = run.dir().join("golden01");
        debian.unpack(&tree)?;
        small::make(&tree.join(FILES), BIG_BYTES)?;
        let operator = Operator::new(&run)?;
        let golden_machine = sshd::start(&golden, &tree, &operator)?;
        let roots = run.make_dir("nodes")?;
        let node = |number: u8| -> Result<Node> {
            let name = format!("node{number:02}");
            let namespace = network.join(&name, FIRST_NODE - 1 + number)?;
            Ok(Node {
                root: roots.join(&name),
                namespace,
            })
        };
        let nodes = (1..=4).map(node).collect::<Result<Vec<_>>>()?;
        nodes[2].namespace.set_loss(arguments.loss)?;
        Ok(Self {
            golden_machine,
            server,
            golden,
            nodes,
            debian,
            operator,
            programs,
            run,
        })
    }

    /// The golden client's tree, seen from outside.
    pub(crate) fn golden_tree(&self) -> PathBuf {
        self.run.dir().join("golden01")
    }

    /// A path of the run for whatever a step needs.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.run.dir().join(name)
    }

    /// The image server's address for nodes.
    pub(crate) fn url(&self) -> String {
        format!("http://{}:{PORT}", self.server.address())
    }

    /// Starts the image server and waits until it answers.
    pub(crate) fn start_server(&self, rate: &str) -> Result<Process> {
        let mut command = self.on_server("si-server")?;
        command.args([
            "--listen",
            &format!("{}:{PORT}", self.server.address()),
            "--rate",
            rate,
        ]);
        let mut process = self.server.spawn("si-server", &mut command)?;
        let address = format!("{}:{PORT}", self.server.address());
        process.wait_until("si-server to listen", LIMIT, |_| {
            let connected = self.server.enter(|| TcpStream::connect(&address))?;
            Ok(connected.ok().map(|_| ()))
        })?;
        Ok(process)
    }

    /// A command of the image server's operator.
    pub(crate) fn on_server(&self, name: &str) -> Result<Command> {
        let mut command = self.server.command(self.programs.path(name)?);
        command.env("SI_STATE", self.run.make_dir("server/state")?);
        command.env("SI_CONFIG", self.run.make_dir("server/config")?);
        command.env("SI_SSH", self.operator.ssh());
        Ok(command)
    }

    /// A command on a node. Every node has a state and a configuration of its own, and the token that the image
    /// server wrote to its state directory when it started.
    pub(crate) fn on_node(&self, node: &Node, name: &str) -> Result<Command> {
        let mut command = node.namespace.command(self.programs.path(name)?);
        let own = format!("nodes/{}.own", node.namespace.name());
        command.env("SI_STATE", self.run.make_dir(&format!("{own}/state"))?);
        command.env("SI_CONFIG", self.run.make_dir(&format!("{own}/config"))?);
        let token = self.path("server/state/keys/token");
        if token.is_file() {
            let text = fs::read_to_string(&token).with_context(|| format!("read {}", token.display()))?;
            command.env("SI_TOKEN", text.trim());
        }
        Ok(command)
    }

    /// Runs an operator's command to its end.
    pub(crate) fn operate(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let mut process = self.server.spawn(name, self.on_server(name)?.args(arguments))?;
        process.wait_success(LIMIT)?;
        Ok(process)
    }

    /// Starts receiving a version on a node.
    pub(crate) fn receive(&self, node: &Node, version: &str) -> Result<Process> {
        let mut command = self.on_node(node, "si-installer")?;
        command.args([
            "receive",
            "--server",
            &self.url(),
            "--image",
            version,
            "--transport",
            "multicast",
            "--json",
        ]);
        node.namespace
            .spawn("receive", command.arg("--target").arg(&node.root))
    }

    /// Bytes of all chunks in the image server's store.
    pub(crate) fn stored_bytes(&self) -> Result<u64> {
        sum_of_files(&self.path("server/state/chunks"))
    }

    /// Ends golden01 in good order.
    pub(crate) fn end(mut self) {
        self.golden_machine.kill();
    }
}

/// Waits until each of the receivers has half of the chunks.
pub(crate) fn wait_half(receivers: &mut [Process]) -> Result<()> {
    for receiver in receivers {
        let what = format!("{} to have half of the chunks", receiver.name());
        receiver.wait_until(&what, LIMIT, |process| {
            Ok(half_done(&process.stdout()).then_some(()))
        })?;
    }
    Ok(())
}

/// Whether the last progress line of `si-installer receive --json` says half or more.
fn half_done(stdout: &str) -> bool {
    // The last line may be half written, or be another event.
    let lines = stdout
        .lines()
        .rev()
        .filter_map(|line| serde_json::from_str::<Progress>(line).ok());
    let last = lines
        .filter(|p| p.event == "progress")
        .find(|p| p.chunks_total > 0);
    last.is_some_and(|p| p.chunks_done * 2 >= p.chunks_total)
}

/// The numbers in the last JSON line that a program wrote to stdout, as text; for showing, not for judging.
pub(crate) fn last_numbers(stdout: &str) -> String {
    let object = stdout
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let fields = object
        .as_ref()
        .and_then(serde_json::Value::as_object)
        .into_iter()
        .flatten();
    let numbers = fields
        .filter(|(_, value)| value.is_u64())
        .map(|(name, value)| format!("{name} {value}"));
    numbers.collect::<Vec<_>>().join(", ").replace('_', " ")
}

/// Waits for several processes that run at the same time.
pub(crate) fn wait_all(processes: &mut [Process]) -> Result<()> {
    let all_ended = wait::until("all of them to end", LIMIT, || {
        let mut running = false;
        for process in processes.iter_mut() {
            match process.poll()? {
                Some(status) if !status.success() => {
                    bail!("{} failed ({status})", process.name());
                }
                Some(_) => {}
                None => running = true,
            }
        }
        Ok((!running).then_some(()))
    });
    all_ended.map_err(|error| {
        let logs = processes.iter().map(Process::log_tail).collect::<String>();
        anyhow!("{error:#}{logs}")
    })
}

fn sum_of_files(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
            let entry = entry.with_context(|| format!("list {}", dir.display()))?;
            let metadata = entry
                .metadata()
                .with_context(|| format!("look at {}", entry.path().display()))?;
            if metadata.is_dir() {
                open.push(entry.path());
            } else {
                sum += metadata.len();
            }
        }
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_is_read_from_the_last_whole_progress_line() {
        let line =
            |done: u64| format!("{{\"event\":\"progress\",\"chunks_done\":{done},\"chunks_total\":81}}\n");
        assert!(!half_done(""));
        assert!(!half_done(
            "{\"event\":\"progress\",\"chunks_done\":0,\"chunks_total\":0}\n"
        ));
        assert!(!half_done(&line(40)));
        assert!(half_done(
            &(line(40) + &line(41) + "{\"event\":\"joined\"}\n{\"event\":\"prog")
        ));
    }

    #[test]
    fn the_summary_is_shown_as_it_comes() {
        let text = "{\"event\":\"progress\",\"x\":1}\n{\"event\":\"done\",\"files_written\":3,\"bytes_fetched\":20}\n";
        assert_eq!(last_numbers(text), "bytes fetched 20, files written 3");
        assert_eq!(last_numbers("plain talk\n"), "");
    }
}
