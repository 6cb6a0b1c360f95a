//! `si-doctor`.

use std::io::{BufRead, Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use simulcast_cli::{Console, Counting, Exit, Remark};
use simulcast_protocol::api::{PORT, Token};
use simulcast_protocol::multicast::probe::Report;
use simulcast_protocol::multicast::probe::verdict::{Finding, Severity, judge};
use simulcast_protocol::nodeset;

use crate::daemon::{Overrides, Settings};
use crate::golden::{Golden, NO_AGENT, PLACE, agent_program};
use crate::inventory::Inventory;

/// Nodes that are reached at a time: each is a process of ssh.
const AT_ONCE: usize = 64;

/// Bytes that a node may answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// What the node's end says when it does not know the command: it is an older one.
const USAGE: i32 = 2;

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

/// Find out why multicast does not reach nodes, or not as fast as it should
///
/// si-server sends numbered packets to a group and to each node; each node, reached over ssh as root, counts what comes.
/// Exits with 0 when nothing is wrong, and 3 when something is with some nodes.
#[derive(Debug, clap::Args)]
struct Multicast {
    /// Nodes as ssh knows them, as in node[01-16], @group or login1,node3
    #[arg(required = true, value_name = "NODES")]
    nodes: Vec<String>,

    #[command(flatten)]
    counting: Counting,

    /// The image server as the nodes reach it, as in http://server:9440 [default: where ssh comes from]
    #[arg(long, value_name = "URL")]
    server: Option<String>,
}

/// What a node's end prints.
#[derive(Deserialize)]
struct Answer {
    report: Report,
}

/// A node of which nothing is known.
#[derive(Serialize)]
struct Failed {
    node: String,
    error: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    findings: &'a [Finding],
    reports: &'a [Report],
    failed: &'a [Failed],
}

/// Does what `si-doctor` is asked for.
///
/// # Errors
/// When it cannot be done at all.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let What::Multicast(multicast) = args.what;
    multicast.run(console)
}

impl Multicast {
    fn run(&self, console: &Console) -> Result<Exit> {
        // Whoever names no group can ask while the inventory is broken.
        let grouped = self
            .nodes
            .iter()
            .any(|text| text.split(',').any(|term| term.trim().starts_with('@')));
        let inventory = match grouped {
            true => super::nodes::inventory(console)?,
            false => Inventory::default(),
        };
        let mut names = Vec::new();
        for text in &self.nodes {
            names.extend(nodeset::hosts(text, &|group| inventory.members(group)).exit(Exit::Usage)?);
        }
        let token = token(console)?;
        let script = self.script(console)?;
        let (reports, failed) = self.ask_all(&names, &token, &script, console);
        let findings = judge(&reports);
        if console.json() {
            let (findings, reports, failed) = (&findings, &reports, &failed);
            console.print_json(&Shown {
                findings,
                reports,
                failed,
            })?;
        } else {
            show(&findings, &reports, console)?;
        }
        for failure in &failed {
            console.warn(format_args!("{}: {}", failure.node, failure.error));
        }
        if reports.is_empty() {
            bail!("multicast could not be probed with any of the nodes");
        }
        Ok(if findings.is_empty() && failed.is_empty() {
            Exit::Done
        } else {
            Exit::SomeNodes
        })
    }

    /// What the node's shell does. The token comes on stdin, where nobody sees it.
    fn script(&self, console: &Console) -> Result<String> {
        let seconds = self.counting.seconds();
        let server = match &self.server {
            Some(url) => {
                let safe = |c: char| c.is_ascii_alphanumeric() || ":/.[]-_%".contains(c);
                if url.starts_with('-') || !url.chars().all(safe) {
                    return Err(anyhow!("{url:?} is no address of an image server")).exit(Exit::Usage);
                }
                format!("s='{url}'")
            }
            None => {
                let settings = Settings::load(&console.options().config, Overrides::default())?;
                let port = settings.listen.map_or(PORT, |listen| listen.port());
                format!(
                    "h=${{SSH_CONNECTION%% *}}; case $h in *:*) h=\"[$h]\";; esac; s=\"http://$h:{port}\""
                )
            }
        };
        Ok(format!(
            "IFS= read -r SI_TOKEN; export SI_TOKEN; {server}; \
             if [ -z \"$si\" ]; then if [ -x {PLACE}/si-client ]; then si={PLACE}/si-client; \
             elif command -v si-client >/dev/null 2>&1; then si=si-client; else exit {NO_AGENT}; fi; fi; \
             exec \"$si\" doctor multicast --json --server \"$s\" --seconds {seconds}"
        ))
    }

    fn ask_all(
        &self,
        names: &[String],
        token: &Token,
        script: &str,
        console: &Console,
    ) -> (Vec<Report>, Vec<Failed>) {
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..names.len().min(AT_ONCE) {
                scope.spawn(|| {
                    while let Some((place, name)) =
                        names.iter().enumerate().nth(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let answer = ask(name, token, script, console);
                        answers
                            .lock()
                            .expect("no holder panics")
                            .push((place, name, answer));
                    }
                });
            }
        });
        let mut answers = answers.into_inner().expect("no holder panics");
        answers.sort_by_key(|(place, ..)| *place);
        let (mut reports, mut failed) = (Vec::new(), Vec::new());
        for (_, name, answer) in answers {
            match answer {
                Ok(report) => reports.push(report),
                Err(error) => failed.push(Failed {
                    node: name.clone(),
                    error: format!("{error:#}"),
                }),
            }
        }
        (reports, failed)
    }
}

/// Has one node count, with our program if it has none that can.
fn ask(name: &str, token: &Token, script: &str, console: &Console) -> Result<Report> {
    let node = Golden::new(name)?;
    match ask_once(&node, token, script)? {
        Ok(report) => Ok(report),
        Err(Some(NO_AGENT | USAGE)) => {
            console.say(format_args!("copying si-client to {name}"));
            node.copy_agent(&agent_program()?)?;
            let script = format!("si={PLACE}/si-client; {script}");
            ask_once(&node, token, &script)?
                .map_err(|_| anyhow!("si-client on {name} does not know the command doctor"))
        }
        Err(_) => bail!("si-client on {name} said nothing"),
    }
}

/// The node's report, or the exit code of an end that said nothing. Errors are what it or ssh complained of.
fn ask_once(node: &Golden, token: &Token, script: &str) -> Result<std::result::Result<Report, Option<i32>>> {
    let (agent, (from, mut to)) = node.run(script)?;
    // One that ended early is asked below why.
    let said = writeln!(to, "{}", token.reveal()).and_then(|()| to.flush());
    let mut answer = String::new();
    let read = from.take(ANSWER_BYTES).read_line(&mut answer);
    drop((said, to));
    let ended = agent.end()?;
    let told = read
        .is_ok()
        .then(|| serde_json::from_str::<Answer>(&answer).ok())
        .flatten();
    if let Some(Answer { mut report }) = told {
        node.host().clone_into(&mut report.node);
        return Ok(Ok(report));
    }
    if matches!(ended.code, Some(NO_AGENT | USAGE)) {
        return Ok(Err(ended.code));
    }
    ended.check(node.host())?;
    Ok(Err(ended.code))
}

/// The token of the server that runs here.
fn token(console: &Console) -> Result<Token> {
    let path = console.options().state.join("keys").join("token");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read the token {}", path.display()))
        .hint("run this on the image server, as root, with si-server running")?;
    text.parse()
        .with_context(|| format!("cannot use the token {}", path.display()))
}

/// Machines as a set.
fn fold(names: &[String]) -> String {
    nodeset::fold(names.iter().map(String::as_str))
}

fn show(findings: &[Finding], reports: &[Report], console: &Console) -> Result<()> {
    console.data(|out| {
        for finding in findings {
            let grade = match finding.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            };
            writeln!(out, "{}: {grade}: {}", fold(&finding.nodes), finding.seen)?;
            writeln!(out, "  remedy: {}", finding.remedy)?;
        }
        let troubled = |report: &&Report| {
            findings
                .iter()
                .any(|finding| finding.nodes.contains(&report.node))
        };
        let well: Vec<String> = reports
            .iter()
            .filter(|report| !troubled(report))
            .map(|report| report.node.clone())
            .collect();
        if !well.is_empty() {
            writeln!(out, "{}: multicast is well", fold(&well))?;
        }
        Ok(())
    })
}
