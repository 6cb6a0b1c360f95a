//! `si-verify NODES`: the state of many nodes, asked of each by ssh.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::store::Store;
use simulcast_image::verify::{Drifted, VerifyReport};
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::nodeset::NodeSet;

use super::nodes::{inventory, names};
use crate::golden::Golden;
use crate::inventory::Inventory;

/// Nodes that are asked at the same time: ssh is started for each.
const AT_ONCE: usize = 32;

/// Bytes of one answer: a thousand paths of the longest names.
const ANSWER_BYTES: u64 = 16 << 20;

/// Exit code of the shell on a node that has no si-verify.
const NO_CLIENT: i32 = 127;

/// Ask nodes whether they are as their version has them
///
/// Each is reached by ssh as root, with the site's own keys (SI_SSH replaces the command ssh), and compares itself with the
/// version that its last install or update wrote down. Which version that must be follows from --image, else from what
/// is said of the node; an answer about another one counts as drift. Exit code 0 when all nodes are as they should be,
/// 1 when some are not, 3 when some could not be asked and the others are.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The nodes, as in node[01-16] or @gpu
    #[arg(value_name = "NODES")]
    nodes: String,

    /// The version that they must have
    #[arg(long, value_name = "NAME[@V]")]
    image: Option<ImageRef>,

    /// Have every file read, instead of trusting length and time
    #[arg(long)]
    checksum: bool,

    /// Name the paths that are not as they should be, each with its nodes
    #[arg(long)]
    paths: bool,
}

/// What a node answers.
#[derive(Debug, Deserialize)]
struct Answer {
    image: String,
    manifest: ManifestId,
    #[serde(flatten)]
    report: VerifyReport,
}

/// What became of one node.
#[derive(Debug, Serialize)]
struct Found {
    node: NodeName,
    /// In short: the same for nodes that are alike.
    state: String,
    /// Whether it is as it should be; `None` when it could not be asked.
    right: Option<bool>,
    image: Option<String>,
    manifest: Option<ManifestId>,
    differ: u64,
    paths: Vec<Drifted>,
}

/// Asks the nodes.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let inventory = inventory(console)?;
    let nodes = names(&inventory, &args.nodes)?;
    if nodes.is_empty() {
        return Err(anyhow!("{:?} means no node", args.nodes)).exit(Exit::Usage);
    }
    let store = crate::store::open(console)?;
    let mut wanted = BTreeMap::new();
    for node in &nodes {
        wanted.insert(node.clone(), expected(&args, &inventory, &store, node)?);
    }
    let found = ask_all(&nodes, &wanted, args.checksum);
    if console.json() {
        console.print_json(&found)?;
    } else {
        print(&found, args.paths, console)?;
    }
    let count = |right| found.iter().filter(|found| found.right == right).count();
    Ok(match (count(Some(false)), count(None)) {
        (0, 0) => Exit::Done,
        (0, missing) if missing < found.len() => Exit::SomeNodes,
        _ => Exit::Failed,
    })
}

/// The version that a node must have; `None` when nobody says.
fn expected(
    args: &Args,
    inventory: &Inventory,
    store: &Store,
    node: &NodeName,
) -> Result<Option<(String, ManifestId)>> {
    let said = inventory.effective(node).and_then(|said| said.entry.image);
    let Some(image) = args.image.clone().or(said.map(|image| image.0)) else {
        return Ok(None);
    };
    let stored = store.load(&image)?;
    Ok(Some((stored.reference().to_string(), stored.signed.id)))
}

type Wanted = BTreeMap<NodeName, Option<(String, ManifestId)>>;

fn ask_all(nodes: &[NodeName], wanted: &Wanted, checksum: bool) -> Vec<Found> {
    let (next, found) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..nodes.len().min(AT_ONCE) {
            scope.spawn(|| {
                while let Some(node) = nodes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let wanted = wanted.get(node).and_then(Option::as_ref);
                    let answer = ask(node, checksum).map(|answer| judge(node, wanted, answer));
                    let one = answer.unwrap_or_else(|error| Found {
                        node: node.clone(),
                        state: format!("{error:#}"),
                        right: None,
                        image: None,
                        manifest: None,
                        differ: 0,
                        paths: Vec::new(),
                    });
                    found.lock().expect("no holder panics").push(one);
                }
            });
        }
    });
    let mut found = found.into_inner().expect("no holder panics");
    found.sort_by(|one, other| one.node.cmp(&other.node));
    found
}

/// Asks one node.
fn ask(node: &NodeName, checksum: bool) -> Result<Answer> {
    let machine = Golden::new(node.as_str())?;
    let option = if checksum { " --checksum" } else { "" };
    let (agent, (from, to)) = machine.run(&format!(
        "if command -v si-client >/dev/null 2>&1; then exec si-client verify --json{option}; else exit {NO_CLIENT}; fi"
    ))?;
    drop(to);
    let mut answer = Vec::new();
    let read = from.take(ANSWER_BYTES).read_to_end(&mut answer);
    let ended = agent.end()?;
    read.with_context(|| format!("cannot read what {node} says"))?;
    // Drift is exit code 1, and an answer all the same.
    if let Ok(answer) = serde_json::from_slice(&answer) {
        return Ok(answer);
    }
    if ended.code == Some(NO_CLIENT) {
        return Err(anyhow!("it has no si-client"));
    }
    // Nodes with the same trouble are told of together: their names are not part of it.
    let why = ended
        .talk
        .lines()
        .last()
        .unwrap_or("it gave no answer")
        .to_owned();
    Err(anyhow!("cannot be asked: {why}"))
}

/// What an answer means.
fn judge(node: &NodeName, wanted: Option<&(String, ManifestId)>, answer: Answer) -> Found {
    let Answer {
        image,
        manifest,
        report,
    } = answer;
    let (state, right) = match wanted {
        Some((name, id)) if *id != manifest => {
            (format!("has {image} ({}), not {name}", manifest.short()), false)
        }
        _ if report.drifted == 0 => (format!("as {image}"), true),
        _ => {
            let files = if report.drifted == 1 {
                "path differs"
            } else {
                "paths differ"
            };
            (format!("{} {files} from {image}", report.drifted), false)
        }
    };
    Found {
        node: node.clone(),
        state,
        right: Some(right),
        image: Some(image),
        manifest: Some(manifest),
        differ: report.drifted,
        paths: report.paths,
    }
}

/// Nodes that are alike on one line; with `paths`, then each path with the nodes on which it differs.
fn print(found: &[Found], paths: bool, console: &Console) -> Result<()> {
    let mut states: BTreeMap<&str, Vec<NodeName>> = BTreeMap::new();
    let mut differing: BTreeMap<(&str, &str), Vec<NodeName>> = BTreeMap::new();
    for one in found {
        states.entry(&one.state).or_default().push(one.node.clone());
        for drifted in one.paths.iter().filter(|_| paths) {
            let what = drifted.drift.word();
            let nodes = differing.entry((&drifted.path, what)).or_default();
            nodes.push(one.node.clone());
        }
    }
    let set = |nodes: Vec<NodeName>| nodes.into_iter().collect::<NodeSet>();
    console.data(|out| {
        for (state, nodes) in states {
            writeln!(out, "{}: {}", set(nodes), state.escape_debug())?;
        }
        for ((path, what), nodes) in differing {
            writeln!(out, "{what:8} {path}  {}", set(nodes))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(drifted: u64) -> Answer {
        let json = serde_json::json!({
            "event": "verified", "image": "gold@3", "manifest": ManifestId::of(b"3"), "checksum": true, "checked": 9,
            "bytes_read": 0, "drifted": drifted, "paths": [],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn an_answer_counts_for_the_version_that_is_wanted_only() {
        let node = "n1".parse().unwrap();
        let right = ("gold@3".to_owned(), ManifestId::of(b"3"));
        let other = ("gold@4".to_owned(), ManifestId::of(b"4"));
        let found = |wanted, drifted| {
            let found = judge(&node, wanted, answer(drifted));
            (found.state, found.right.unwrap())
        };
        assert_eq!(found(Some(&right), 0), ("as gold@3".to_owned(), true));
        assert_eq!(found(None, 1), ("1 path differs from gold@3".to_owned(), false));
        assert_eq!(
            found(Some(&right), 3),
            ("3 paths differ from gold@3".to_owned(), false)
        );
        let (state, right) = found(Some(&other), 0);
        assert!(
            !right && state.starts_with("has gold@3 (") && state.ends_with("not gold@4"),
            "{state}"
        );
    }
}
