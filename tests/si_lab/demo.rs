//! `si-lab demo`: the main job in six steps, each judged from outside by rsync and by interface counters.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use simulcast_protocol::units::{Bytes, Rate};
use simulcast_testkit::compare::{NOT_CAPTURED, differences};
use simulcast_testkit::golden::{change, small};
use simulcast_testkit::process::Process;

use crate::report::Report;
use crate::stage::{FILES, LIMIT, Stage, last_numbers, wait_all, wait_half};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where the built programs are [default: where scripts/build puts them].
    #[arg(long, value_name = "DIR")]
    pub(crate) programs: Option<PathBuf>,
    /// The multicast session's rate. Below what this machine could do, so that half done is a moment.
    #[arg(long, default_value = "400Mbit")]
    rate: Rate,
    /// Per cent of the packets that node03 loses.
    #[arg(long, default_value_t = 1.0)]
    pub(crate) loss: f64,
}

/// What the nodes' own exclusion list protects from an update, in the list's and in rsync's syntax alike.
const PROTECTED: &[&str] = &["/etc/hostname", "/var/lib/local/"];

/// Runs all six steps.
///
/// # Errors
/// When a program fails or takes too long, and at the end when any two trees differ that must not.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let mut report = Report::default();
    let stage = build(arguments, &mut report)?;
    capture(&stage, &mut report, 1)?;
    let mut server = distribute(&stage, &mut report, arguments.rate)?;
    compare_nodes(&stage, &mut report, "golden01@1", &[])?;
    change_golden(&stage, &mut report)?;
    capture(&stage, &mut report, 2)?;
    update(&stage, &mut report)?;
    stage.operate("si-fsck", &[])?;
    report.add("6 store", None, "si-fsck found nothing wrong".to_owned());
    report.add(
        "memory of si-server",
        None,
        format!("{} at most", Bytes(server.peak_memory())),
    );
    server.stop(LIMIT)?;
    stage.end();
    println!("{}", report.table());
    if !report.faults().is_empty() {
        bail!(
            "{} comparison(s) failed:\n{}",
            report.faults().len(),
            report.faults().join("\n")
        );
    }
    println!("every node was identical to golden01@1, to golden01@2 and to golden01@1 again");
    Ok(())
}

fn build(arguments: &Arguments, report: &mut Report) -> Result<Stage> {
    let step = report.begin("1 machines: server, golden01, node01 to node04");
    let stage = Stage::build(arguments)?;
    report.end(
        step,
        None,
        format!(
            "golden01 answers over ssh, node03 loses {} % of its packets",
            arguments.loss
        ),
    );
    Ok(stage)
}

/// Steps 2 and 5: the version must be the golden client, apart from what is not captured.
fn capture(stage: &Stage, report: &mut Report, version: u32) -> Result<()> {
    let name = format!("golden01@{version}");
    let step = report.begin(&format!(
        "{} si-getimage golden01 -> {name}",
        if version == 1 { 2 } else { 5 }
    ));
    let before = (stage.golden.counters()?, stored_bytes_or_none(stage)?);
    let process = stage.operate("si-getimage", &["golden01"])?;
    let moved = stage.golden.counters()?.since(before.0).sent_bytes;
    let stored = stage.stored_bytes()?.saturating_sub(before.1);
    let memory = Bytes(process.peak_memory());
    report.end(
        step,
        Some(moved),
        format!("{} of new chunks, {memory} of memory", Bytes(stored)),
    );
    let tree = stage.path(&name);
    stage.operate("si-checkout", &[&name, path_text(&tree)?])?;
    report.judge(
        &format!("golden01 and {name}"),
        &differences(&stage.golden_tree(), &tree, NOT_CAPTURED)?,
    );
    let host_key = tree.join("etc/ssh/ssh_host_ed25519_key");
    if host_key.exists() {
        report.judge(
            &format!("identity in {name}"),
            &["etc/ssh/ssh_host_ed25519_key".to_owned()],
        );
    }
    Ok(())
}

/// Step 3: one session for all; node03 loses packets, node04 comes when the others have half.
fn distribute(stage: &Stage, report: &mut Report, rate: Rate) -> Result<Process> {
    let server = stage.start_server(&rate.to_string())?;
    let step = report.begin(&format!("3 multicast of golden01@1 to 4 nodes at {rate}/s"));
    let before = stage.server.counters()?;
    let image = stage.stored_bytes()?;
    let mut receivers = Vec::new();
    for node in &stage.nodes[..3] {
        receivers.push(stage.receive(node, "golden01@1")?);
    }
    wait_half(&mut receivers)?;
    eprintln!("    node01 to node03 have half; node04 starts");
    receivers.push(stage.receive(&stage.nodes[3], "golden01@1")?);
    wait_all(&mut receivers)?;
    let sent = stage.server.counters()?.since(before).sent_bytes;
    let memory = receivers.iter().map(Process::peak_memory).max().unwrap_or(0);
    let (whole, hundredths) = ratio(sent, image);
    let note = format!(
        "{whole}.{hundredths:02} bytes per image byte ({}), receivers {}",
        Bytes(image),
        Bytes(memory)
    );
    report.end(step, Some(sent), note);
    Ok(server)
}

/// Steps 4 and 6: each node's tree is the version's.
fn compare_nodes(stage: &Stage, report: &mut Report, version: &str, except: &[&str]) -> Result<()> {
    let step = report.begin(&format!(
        "  rsync finds no difference between {version} and the nodes"
    ));
    let faults = report.faults().len();
    for node in &stage.nodes {
        let found = differences(&stage.path(version), &node.root, except)?;
        report.judge(&format!("{version} and {}", node.namespace.name()), &found);
    }
    let found = report.faults().len() - faults;
    report.end(
        step,
        None,
        if found == 0 {
            "true for all 4".to_owned()
        } else {
            format!("WRONG for {found}")
        },
    );
    Ok(())
}

/// Step 5: what an administrator does to the golden client.
fn change_golden(stage: &Stage, report: &mut Report) -> Result<()> {
    let step = report.begin("5 golden01 changes");
    let tree = stage.golden_tree();
    change::files(&tree.join(FILES))?;
    let packages = change::packages(&tree, &stage.debian)?;
    let note = format!(
        "{} packages upgraded, {} added, {} removed; files edited, log appended, {} patched",
        packages.upgraded.len(),
        packages.added.len(),
        packages.removed.len(),
        small::BIG
    );
    report.end(step, None, note);
    Ok(())
}

/// Step 6: every node to version 2 and back, with what is its own protected and what somebody broke mended.
fn update(stage: &Stage, report: &mut Report) -> Result<()> {
    let list = stage.path("local.exclude");
    fs::write(&list, PROTECTED.join("\n") + "\n").context("write the nodes' exclusion list")?;
    for node in &stage.nodes {
        plant(&node.root, node.namespace.name())?;
    }
    let to_new: &[&str] = &["--image", "golden01@2"];
    let back: &[&str] = &["--image", "golden01", "--to", "golden01@1"];
    for (version, target) in [("golden01@2", to_new), ("golden01@1", back)] {
        let step = report.begin(&format!("6 si-updateclient {} on 4 nodes", target.join(" ")));
        let before = stage.server.counters()?;
        let mut updates = Vec::new();
        for node in &stage.nodes {
            let mut command = stage.on_node(node, "si-updateclient")?;
            command.args(["--server", &stage.url(), "--json"]).args(target);
            command
                .arg("--root")
                .arg(&node.root)
                .arg("--exclude-from")
                .arg(&list);
            updates.push(node.namespace.spawn(&format!("update-{version}"), &mut command)?);
        }
        wait_all(&mut updates)?;
        let sent = stage.server.counters()?.since(before).sent_bytes;
        report.end(
            step,
            Some(sent),
            format!("node01: {}", last_numbers(&updates[0].stdout())),
        );
        compare_nodes(stage, report, version, PROTECTED)?;
        for node in &stage.nodes {
            let lost = lost_local(&node.root, node.namespace.name());
            report.judge(&format!("protected files of {}", node.namespace.name()), &lost);
        }
    }
    Ok(())
}

/// What a node has that its version has not: two protected things, and a file that somebody broke.
fn plant(root: &Path, name: &str) -> Result<()> {
    let local = root.join("var/lib/local");
    fs::create_dir_all(&local).with_context(|| format!("create {}", local.display()))?;
    let broken = Path::new(FILES).join("etc/service-050.conf");
    for (path, text) in [
        (Path::new("var/lib/local/data"), name),
        (Path::new("etc/hostname"), name),
        (&broken, "broken"),
    ] {
        fs::write(root.join(path), text).with_context(|| format!("write {} on {name}", path.display()))?;
    }
    Ok(())
}

/// Which protected files of a node are not as [`plant`] left them.
fn lost_local(root: &Path, name: &str) -> Vec<String> {
    let kept = |path: &str| fs::read(root.join(path)).is_ok_and(|text| text == name.as_bytes());
    let paths = ["var/lib/local/data", "etc/hostname"];
    paths
        .into_iter()
        .filter(|path| !kept(path))
        .map(str::to_owned)
        .collect()
}

/// The store's size, 0 before the first capture has made it.
fn stored_bytes_or_none(stage: &Stage) -> Result<u64> {
    if stage.path("server/state/chunks").is_dir() {
        stage.stored_bytes()
    } else {
        Ok(0)
    }
}

/// `a`/`b` as a whole number and hundredths.
fn ratio(a: u64, b: u64) -> (u64, u64) {
    let hundredths = (u128::from(a) * 100).checked_div(u128::from(b)).unwrap_or(0);
    let hundredths = u64::try_from(hundredths).unwrap_or(u64::MAX);
    (hundredths / 100, hundredths % 100)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
