//! `si-getimage`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use anyhow::{Context, anyhow};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::capture::{CaptureError, CaptureReport, CaptureRequest, Moved, receive_capture};
use simulcast_image::chunk::DEFAULT_LEVEL;
use simulcast_image::filter::{ExclusionList, Exclusions};
use simulcast_image::store::{Store, StoredVersion};
use simulcast_protocol::name::ImageName;
use simulcast_protocol::units::Bytes;

use crate::exclusions;
use crate::golden::{Agent, Golden, Streams, agent_program};
use crate::store;

/// Files that are named one by one when a capture reports them.
const NAMED: usize = 5;

/// Capture the golden client HOST: its whole file system becomes the next version of an image
///
/// The golden client is reached over ssh as root, with the site's own keys (SI_SSH replaces the command ssh). Only what
/// the newest version lacks is moved.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The golden client, as ssh knows it: host, user@host, or a name from ssh's configuration
    host: String,

    /// The image that gets a new version [default: the host's name]
    #[arg(long, value_name = "NAME")]
    image: Option<ImageName>,

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

impl Args {
    /// Captures.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        let image = self.image()?;
        let exclusions = self.exclusions(&image, console)?;
        if let Some(path) = &self.explain {
            return explain_path(path.as_encoded_bytes(), &exclusions, console);
        }
        let store = store::open_or_make(console)?;
        let golden = Golden::new(&self.host).exit(Exit::Usage)?;
        let created = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let request = CaptureRequest {
            image,
            root: self.directory.as_os_str().as_encoded_bytes().to_vec(),
            exclusions,
            level: self.level,
            reread: self.checksum,
            created: i64::try_from(created).unwrap_or(i64::MAX),
        };
        let begun = Instant::now();
        let captured = capture(console, &store, &golden, &request);
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
        Ok(Exit::Done)
    }

    fn image(&self) -> anyhow::Result<ImageName> {
        if let Some(image) = &self.image {
            return Ok(image.clone());
        }
        let host = self.host.rsplit('@').next().unwrap_or(&self.host);
        host.parse()
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
        let shipped = (!self.no_default_excludes).then(exclusions::shipped);
        let of_image = exclusions::of_image(&console.options().config, image).exit(Exit::Usage)?;
        let layered = of_image.into_iter().chain(shipped);
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

/// Captures with the agent that is there; where there is none that we understand, with ours.
fn capture(
    console: &Console,
    store: &Store,
    golden: &Golden,
    request: &CaptureRequest,
) -> anyhow::Result<Captured> {
    let (agent, streams) = golden.start()?;
    let (error, ended) = match attempt(store, agent, streams, request)? {
        Ok(captured) => return Ok(captured),
        Err(failed) => failed,
    };
    if !ended.no_agent() && !matches!(error, CaptureError::Protocol(_)) {
        return Err(explain(error, &ended, golden.host()));
    }
    let program = agent_program()?;
    console.say(format_args!("copying the agent to {}", golden.host()));
    golden.copy_agent(&program)?;
    let (agent, streams) = golden.start_copied()?;
    attempt(store, agent, streams, request)?.map_err(|(error, ended)| explain(error, &ended, golden.host()))
}

type Attempt = Result<Captured, (CaptureError, crate::golden::Ended)>;

/// Captures with one agent. The outer error is about ssh itself.
fn attempt(
    store: &Store,
    agent: Agent,
    (from, to): Streams,
    request: &CaptureRequest,
) -> anyhow::Result<Attempt> {
    match receive_capture(store, from, to, request.clone()) {
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
