//! `si-getimage`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::capture::{CaptureError, CaptureReport, CaptureRequest, Moved, receive_capture};
use simulcast_image::chunk::DEFAULT_LEVEL;
use simulcast_image::filter::{ExclusionList, Exclusions};
use simulcast_image::layout::Layout;
use simulcast_image::pack;
use simulcast_image::store::{Store, StoredVersion};
use simulcast_protocol::name::{ImageName, ImageRef};
use simulcast_protocol::units::{Bytes, Rate};

use crate::exclusions;
use crate::golden::{Agent, Golden, SNAPSHOT, Streams, Surroundings, agent_program};
use crate::order::MACHINE;
use crate::remote::each;
use crate::store;
use crate::text::now;
use crate::throttle::Throttled;

/// Files that are named one by one when a capture reports them.
const NAMED: usize = 5;

/// Captures at a time: each keeps what its last version has in memory.
const AT_ONCE: usize = 4;

/// Capture golden clients: the whole file system of each becomes the next version of an image
///
/// A golden client is reached over ssh as root, with the site's own keys (SI_SSH replaces the command ssh). Only what
/// the newest version lacks is moved. Its own scripts below /etc/simulcast/scripts run before and after: pre-capture.d and
/// post-capture.d. With several golden clients the exit code is 3 when some could not be captured.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The golden client, as ssh knows it: host, user@host, or a name from ssh's configuration; several at once
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,

    /// The image that gets a new version [default: the host's name]
    #[arg(long, value_name = "NAME")]
    image: Option<ImageName>,

    /// Back up one machine with its identity: host name, keys, addresses, disks. The image is replicant-HOST unless named
    #[arg(long)]
    replicant: bool,

    /// Make the update pack from the version before at once
    #[arg(long)]
    pack: bool,

    /// Take no more from a golden client than this, as in 100Mbit
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,

    /// How much other processes of the golden client come first, 0 to 19
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=19))]
    nice: u8,

    /// Capture a snapshot of the directory, so that all files are of one instant: btrfs. The scripts in freeze.d and thaw.d run
    /// around it
    #[arg(long, value_name = "KIND")]
    snapshot: Option<Snapshot>,

    /// The directory to capture
    #[arg(long, value_name = "DIR", default_value = "/")]
    directory: PathBuf,

    /// An exclusion list in rsync's filter language, asked before the default list; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Do without the default exclusion list
    #[arg(long)]
    no_default_excludes: bool,

    /// Say which line of which exclusion list decides about this path of the golden client, and capture nothing. A slash
    /// at the end says that it is a directory
    #[arg(long, value_name = "PATH")]
    explain: Option<OsString>,

    /// Read every file, also those that seem unchanged since the last capture
    #[arg(long)]
    checksum: bool,

    /// zstd level of new chunks, 1 (quick) to 19 (small)
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,
}

#[derive(Serialize)]
struct Shown<'a> {
    version: String,
    id: String,
    seconds: f64,
    moved: Moved,
    #[serde(flatten)]
    report: &'a CaptureReport,
}

/// What can make a snapshot.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Snapshot {
    Btrfs,
}

/// One golden client and how it is captured.
struct Task<'a> {
    args: &'a Args,
    console: &'a Console,
    golden: Golden,
    surroundings: Surroundings,
    request: CaptureRequest,
}

impl Args {
    /// Captures.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        if self.hosts.len() > 1 && self.image.is_some() {
            return Err(anyhow!(
                "--image names one image, and there are several golden clients"
            ))
            .exit(Exit::Usage);
        }
        if let Some(path) = &self.explain {
            let [host] = &self.hosts[..] else {
                return Err(anyhow!("--explain is about one golden client")).exit(Exit::Usage);
            };
            let exclusions = self.exclusions(&self.image(host)?, console)?;
            return explain_path(path.as_encoded_bytes(), &exclusions, console);
        }
        let tasks = self
            .hosts
            .iter()
            .map(|host| self.task(host, console))
            .collect::<anyhow::Result<Vec<_>>>()?;
        store::open_or_make(console)?;
        let mut results = each(&tasks, AT_ONCE, Task::run);
        if let [_] = &tasks[..] {
            return results.remove(0).map(|()| Exit::Done);
        }
        let mut failed = 0;
        for error in results.into_iter().filter_map(Result::err) {
            console.say(format_args!("error: {error:#}"));
            failed += 1;
        }
        Ok(match failed {
            0 => Exit::Done,
            failed if failed == tasks.len() => Exit::Failed,
            _ => Exit::SomeNodes,
        })
    }

    fn task<'a>(&'a self, host: &str, console: &'a Console) -> anyhow::Result<Task<'a>> {
        let image = self.image(host)?;
        let exclusions = self.exclusions(&image, console)?;
        let directory = self.directory.display().to_string();
        let mut root = self.directory.clone();
        let mut surroundings = Surroundings {
            image: image.to_string(),
            nice: self.nice,
            snapshot_of: None,
        };
        if let Some(Snapshot::Btrfs) = self.snapshot {
            root.push(SNAPSHOT);
            surroundings.snapshot_of = Some(directory);
        }
        let request = CaptureRequest {
            image,
            root: root.as_os_str().as_encoded_bytes().to_vec(),
            exclusions,
            level: self.level,
            reread: self.checksum,
            created: now(),
        };
        Ok(Task {
            args: self,
            console,
            golden: Golden::new(host).exit(Exit::Usage)?,
            surroundings,
            request,
        })
    }

    fn image(&self, host: &str) -> anyhow::Result<ImageName> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let host = host.rsplit('@').next().unwrap_or(host);
        let prefix = if self.replicant { "replicant-" } else { "" };
        format!("{prefix}{host}")
            .parse()
            .exit(Exit::Usage)
            .hint("name the image with --image NAME")
    }

    /// The lists of the command line, of the image, and the shipped one.
    fn exclusions(&self, image: &ImageName, console: &Console) -> anyhow::Result<Vec<(Vec<u8>, String)>> {
        let mut lists = Vec::new();
        for path in &self.exclude_from {
            let text = std::fs::read(path)
                .with_context(|| format!("cannot read the exclusion list {}", path.display()))
                .exit(Exit::Usage)?;
            let origin = path.display().to_string();
            ExclusionList::parse(&text, &origin).exit(Exit::Usage)?;
            lists.push((text, origin));
        }
        let shipped = match self.replicant {
            true => exclusions::of_replicants(),
            false => exclusions::shipped(),
        };
        let of_image = exclusions::of_image(&console.options().config, image).exit(Exit::Usage)?;
        let layered = of_image
            .into_iter()
            .chain(Some(shipped).filter(|_| !self.no_default_excludes));
        lists.extend(layered.map(|list| (list.text.into_bytes(), list.origin)));
        Ok(lists)
    }
}

/// Says which line decides about a path.
fn explain_path(path: &[u8], lists: &[(Vec<u8>, String)], console: &Console) -> anyhow::Result<Exit> {
    let parsed = lists
        .iter()
        .map(|(text, origin)| ExclusionList::parse(text, origin).map(Arc::new));
    let exclusions = Exclusions::new(parsed.collect::<Result<Vec<_>, _>>()?);
    let explained = exclusions.explain(path, false);
    let explained = explained
        .context("a path to explain begins at the root of the captured tree, without . and ..")
        .exit(Exit::Usage)?;
    if console.json() {
        console.print_json(&explained)?;
    } else {
        console.line(&explained)?;
    }
    Ok(Exit::Done)
}

type Captured = (StoredVersion, CaptureReport, Moved);

impl Task<'_> {
    /// Captures, and says what came of it.
    fn run(&self) -> anyhow::Result<()> {
        let Self {
            args,
            console,
            golden,
            request,
            ..
        } = self;
        // Each capture has the store for itself: what one has not yet made durable, another must not count on.
        let store = store::open_or_make(console)?;
        let before = store
            .resolve(&ImageRef {
                name: request.image.clone(),
                version: None,
            })
            .ok();
        let begun = Instant::now();
        let captured = self.capture(&store);
        let (version, report, moved) = captured
            .with_context(|| format!("cannot capture {} as image {}", golden.host(), request.image))?;
        let seconds = begun.elapsed().as_secs_f64();
        let shown = Shown {
            version: version.reference().to_string(),
            id: version.signed.id.to_string(),
            seconds,
            moved,
            report: &report,
        };
        let json = serde_json::to_string(&shown).context("cannot write the capture's report")?;
        store.write_report(&version, &json)?;
        if console.json() {
            console.print_json(&shown)?;
        } else {
            console.line(&shown.version)?;
            describe(console, &version, &shown);
        }
        let Some(before) = before else { return Ok(()) };
        let before = store.load(&ImageRef {
            name: request.image.clone(),
            version: Some(before),
        })?;
        if disks_changed(&before, &version) {
            console.warn(format_args!(
                "the disks of {} are not those of {}: nodes that are installed get the new layout; si-layout show tells both",
                golden.host(),
                before.reference()
            ));
        }
        if args.pack {
            let made = pack::make(&store, &[&before.signed], &version.signed, store::threads(None))
                .context("cannot make the update pack")?;
            console.say(format_args!(
                "update pack from {}: {}",
                before.reference(),
                Bytes(made.pack.stored_bytes(&version.signed.manifest))
            ));
        }
        Ok(())
    }

    /// Captures with the agent that is there; where there is none that we understand, with ours.
    fn capture(&self, store: &Store) -> anyhow::Result<Captured> {
        let (golden, surroundings) = (&self.golden, &self.surroundings);
        let (agent, streams) = golden.start(surroundings)?;
        let (error, ended) = match self.attempt(store, agent, streams)? {
            Ok(captured) => return Ok(captured),
            Err(failed) => failed,
        };
        if !ended.no_agent() && !matches!(error, CaptureError::Protocol(_)) {
            return Err(explain(error, &ended, golden.host()));
        }
        let program = agent_program()?;
        self.console
            .say(format_args!("copying the agent to {}", golden.host()));
        golden.copy_agent(&program)?;
        let (agent, streams) = golden.start_copied(surroundings)?;
        self.attempt(store, agent, streams)?
            .map_err(|(error, ended)| explain(error, &ended, golden.host()))
    }

    /// Captures with one agent. The outer error is about ssh itself.
    fn attempt(&self, store: &Store, agent: Agent, (from, to): Streams) -> anyhow::Result<Attempt> {
        let from = Throttled::new(from, self.args.rate);
        match receive_capture(store, from, to, self.request.clone()) {
            Ok(captured) => {
                // The version is made; how the connection ends is of no importance any more.
                drop(agent.end()?);
                Ok(Ok(captured))
            }
            Err(error) => {
                // A broken connection ends the agent; otherwise it is still waiting for us.
                let broken = matches!(error, CaptureError::Connection(_));
                let ended = if broken { agent.end()? } else { agent.stop()? };
                Ok(Err((error, ended)))
            }
        }
    }
}

/// Whether the machine's disks are other ones than those that the version before was captured from.
fn disks_changed(before: &StoredVersion, after: &StoredVersion) -> bool {
    let layout = |version: &StoredVersion| {
        let record = version.signed.manifest.info.source.get(MACHINE)?;
        Layout::from_machine(record).ok().map(|derived| derived.layout)
    };
    matches!((layout(before), layout(after)), (Some(before), Some(after)) if before != after)
}

type Attempt = Result<Captured, (CaptureError, crate::golden::Ended)>;

/// The more telling of what the capture and what ssh say.
fn explain(error: CaptureError, ended: &crate::golden::Ended, host: &str) -> anyhow::Error {
    let by_ssh = ended
        .check(host)
        .err()
        .filter(|_| matches!(error, CaptureError::Connection(_)));
    by_ssh.unwrap_or_else(|| anyhow!(error))
}

fn describe(console: &Console, version: &StoredVersion, shown: &Shown<'_>) {
    let (scan, pack, moved) = (&shown.report.scan, &shown.report.pack, &shown.moved);
    console.say(format_args!(
        "{}: {} entries, {} of content, {} stored; {} chunks kept, {} new ({})",
        shown.version,
        scan.entries,
        Bytes(version.signed.manifest.content_bytes()),
        Bytes(version.signed.manifest.stored_bytes()),
        pack.chunks_kept,
        pack.chunks_new,
        Bytes(pack.bytes_new),
    ));
    console.say(format_args!(
        "moved {} from the golden client ({} of it deltas) and {} to it in {:.1} s; {} paths excluded",
        Bytes(moved.received),
        Bytes(moved.deltas),
        Bytes(moved.sent),
        shown.seconds,
        scan.excluded,
    ));
    for (paths, what) in [
        (
            &scan.unsettled,
            "changed each time it was read, and is as it was last read",
        ),
        (&scan.vanished, "vanished while it was captured"),
    ] {
        for path in paths.iter().take(NAMED) {
            console.warn(format_args!("{path} {what}"));
        }
        if paths.len() > NAMED {
            console.warn(format_args!(
                "and {} more {what}; the capture's report names all",
                paths.len() - NAMED
            ));
        }
    }
}
