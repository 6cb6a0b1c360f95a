//! `si-agent`.

use std::collections::BTreeMap;
use std::io::{self, BufReader, BufWriter};
use std::path::Path;
use std::thread::available_parallelism;

use anyhow::{Context, bail};
use simulcast_cli::{Console, Exit};
use simulcast_image::capture::{AgentOptions, CAPTURE_PROTOCOL, serve_capture};
use simulcast_system::facts::MachineFacts;
use simulcast_system::machine;

use crate::mounted::closed;

/// Bytes that are collected before they go to the connection.
const BUFFER: usize = 256 << 10;

/// Serve one capture of this machine on standard input and output
///
/// si-getimage starts it over ssh; it is of no use by hand.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print the number of the capture protocol, and end
    #[arg(long)]
    protocol: bool,

    /// Threads that compress
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
}

impl Args {
    /// Serves the capture.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        if self.protocol {
            use std::io::Write;
            writeln!(io::stdout(), "{CAPTURE_PROTOCOL}").context("cannot write to standard output")?;
            return Ok(Exit::Done);
        }
        if !rustix::process::geteuid().is_root() {
            bail!("the agent must run as root: it reads files of all users");
        }
        let threads = self
            .threads
            .unwrap_or_else(|| available_parallelism().map_or(1, usize::from))
            .max(1);
        let from = BufReader::with_capacity(BUFFER, io::stdin());
        let to = BufWriter::with_capacity(BUFFER, io::stdout());
        let mut facts =
            machine::describe(&console.options().config).context("cannot find out about this machine")?;
        refresh(&mut facts);
        facts.insert("agent".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        let options = AgentOptions {
            threads,
            memory: Some(console.options().state.join("agent").join("memory")),
        };
        serve_capture(from, to, facts, closed, &options).context("cannot serve the capture")?;
        Ok(Exit::Done)
    }
}

/// Where the machine was recorded, its disks as they are now count: they may have changed since. Tools that are missing leave
/// the record as it is.
fn refresh(facts: &mut BTreeMap<String, String>) {
    let Some(record) = facts.get_mut("machine") else {
        return;
    };
    let now = MachineFacts::read(Path::new("/")).ok();
    if let Some(now) = now.and_then(|now| serde_json::to_string_pretty(&now).ok()) {
        *record = now + "\n";
    }
}
