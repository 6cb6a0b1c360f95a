//! `si-doctor` on a node.

use anyhow::{Context, Result};
use serde::Serialize;
use simulcast_cli::{Console, Counting, Exit, Remark, interrupt};
use simulcast_node::ServerArgs;
use simulcast_protocol::multicast::probe::verdict::{Finding, Severity, judge};
use simulcast_protocol::multicast::probe::{Flow, ProbeOffer, Report};
use simulcast_system::command::{Run, Tool};
use simulcast_transport::multicast::probe::{ProbeError, Prober};

/// Find out what is wrong, and what to do about it
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Multicast(Multicast),
}

/// Find out why multicast does not reach this machine, or not as fast as it should
///
/// The image server sends numbered packets to a group and to this machine; what comes of them is counted. Exits with 0
/// when nothing is wrong, and 3 when something is. As root it finds more.
#[derive(Debug, clap::Args)]
struct Multicast {
    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    counting: Counting,
}

#[derive(Serialize)]
struct Shown<'a> {
    findings: &'a [Finding],
    report: &'a Report,
}

impl Args {
    /// Does what is asked for.
    pub(crate) fn run(self, console: &Console) -> Result<Exit> {
        let What::Multicast(multicast) = self.what;
        multicast.run(console)
    }
}

impl Multicast {
    fn run(&self, console: &Console) -> Result<Exit> {
        let _guard = interrupt::Guard::new();
        let client = self.server.client(console)?;
        let seconds = self.counting.seconds();
        let begun = |offer: &ProbeOffer| {
            console.say(format_args!(
                "counting packets to {} for {seconds} s",
                offer.group
            ));
        };
        let prober = Prober {
            client: &client,
            interface: self.server.interface(),
            seconds,
            driver: &driver,
            begun: &begun,
            cancelled: &interrupt::requested,
        };
        let mut report = prober.run().map_err(advise)?;
        report.node = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let findings = judge(std::slice::from_ref(&report));
        if console.json() {
            // On one line: the image server's si-doctor reads it.
            let shown = Shown {
                findings: &findings,
                report: &report,
            };
            console.line(serde_json::to_string(&shown).context("cannot write what was found")?)?;
        } else {
            show(&findings, &report, console)?;
        }
        Ok(if findings.is_empty() {
            Exit::Done
        } else {
            Exit::SomeNodes
        })
    }
}

/// What the driver of a network card counts, where it and `ethtool` are there.
fn driver(interface: &str) -> Option<String> {
    let run = Run::new(Tool::Ethtool).args(["-S", interface]).run();
    let output = run.inspect_err(|error| tracing::debug!(%error, "no counters of the driver"));
    Some(String::from_utf8_lossy(&output.ok()?.stdout).into_owned())
}

fn advise(error: ProbeError) -> anyhow::Error {
    let hint = match &error {
        ProbeError::Server(error) => error.hint(),
        ProbeError::Interface(_) => "name the interface with --interface".to_owned(),
        ProbeError::Socket(_) | ProbeError::Port(_) | ProbeError::Receive(_) | ProbeError::Cancelled => {
            String::new()
        }
    };
    if hint.is_empty() {
        return error.into();
    }
    let remarked = Err::<(), _>(error).hint(hint);
    remarked.expect_err("it was made from an error")
}

fn show(findings: &[Finding], report: &Report, console: &Console) -> Result<()> {
    for (way, flow) in [
        ("multicast", &report.counts.multicast),
        ("unicast", &report.counts.unicast),
    ] {
        console.say(format_args!("{way}: {}", counted(flow)));
    }
    if findings.is_empty() {
        return console.line("multicast is well");
    }
    for finding in findings {
        let grade = match finding.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        console.line(format_args!(
            "{grade}: {}\n  remedy: {}",
            finding.seen, finding.remedy
        ))?;
    }
    Ok(())
}

/// What came, size by size.
fn counted(flow: &Flow) -> String {
    let tallies = flow.sizes.iter().chain([&flow.bursts]);
    let sizes = tallies.map(|tally| (tally.bytes.to_string(), tally));
    let mut words: Vec<String> = sizes
        .map(|(bytes, tally)| format!("{} of {} of {bytes} bytes", tally.came, tally.sent))
        .collect();
    if let Some(bursts) = words.last_mut() {
        bursts.push_str(" in bursts");
    }
    words.join(", ")
}
