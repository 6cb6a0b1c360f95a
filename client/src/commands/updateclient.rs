//! `si-updateclient`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::filter::{ExclusionList, Exclusions, Side};
use simulcast_image::fs;
use simulcast_image::manifest::SignedManifest;
use simulcast_image::update::{Action, Plan, PlanOptions, Update, UpdateError};
use simulcast_node::{Delivery, Invitation, Record, ServerArgs, transfer};
use simulcast_protocol::name::{ImageRef, Version};
use simulcast_protocol::units::Bytes;
use simulcast_transport::http::Client;

mod report;

use report::{Moved, Report};

/// Bring this machine to a version of an image, newer or older
///
/// Only what differs is moved; what the exclusion lists protect is neither written nor deleted. New files are built
/// beside the old ones and put in place when all have come, so an interruption leaves a whole system, and the next run
/// finishes.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// The image, and the version unless the newest is meant
    #[arg(long, value_name = "NAME[@V]", required_unless_present = "to")]
    image: Option<ImageRef>,

    /// The version to go to, also an older one; it wins over --image
    #[arg(long, value_name = "NAME[@V]")]
    to: Option<ImageRef>,

    /// The tree to update
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// An exclusion list in rsync's filter language, asked before the default list; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Do without the default exclusion list
    #[arg(long)]
    no_default_excludes: bool,

    /// Delete nothing
    #[arg(long)]
    no_delete: bool,

    /// Read every file, instead of trusting length and time of those that the last update wrote
    #[arg(long)]
    checksum: bool,

    /// Go on even if a large part of the tree would be deleted
    #[arg(long)]
    force: bool,

    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Updates the tree.
    pub(crate) fn run(self, console: &Console) -> Result<Exit> {
        let begun = Instant::now();
        let exclusions = self.exclusions()?;
        let image = self
            .to
            .as_ref()
            .or(self.image.as_ref())
            .context("no image was named")?;
        let client = self.server.client(console)?;
        let (version, signed) = self.server.manifest(&client, image, console)?;
        let invitation = if self.dry_run {
            None
        } else {
            Invitation::ask(&client, &self.server, &signed)
        };
        let root_path = std::fs::canonicalize(&self.root)
            .with_context(|| format!("cannot find the tree {}", self.root.display()))
            .exit(Exit::Usage)?;
        let attempt = || format!("cannot update {}", root_path.display());
        let root = fs::open_root(&root_path).with_context(attempt)?;
        let record = Record::of(&console.options().state, &root_path);
        let installed = record.load();
        let protects =
            |side: Side, path: &[u8], directory: bool| exclusions.decide(side, path, directory).excluded;
        let options = PlanOptions {
            protects: &protects,
            delete: !self.no_delete,
            checksum: self.checksum,
            installed: installed.as_ref(),
        };
        let plan = Plan::make(&signed.manifest, &root, &options).with_context(attempt)?;
        let mut report = Report::new(image, version, &signed, &plan);
        if self.dry_run {
            print_plan(&plan, &signed, console)?;
            report.dry_run();
            return report.print(console, begun.elapsed());
        }
        self.check(&plan)?;
        let update = Update::begin(plan, root).map_err(advise).with_context(attempt)?;
        let delivery = Delivery {
            client: &client,
            server: &self.server,
            image,
            signed: &signed,
            invitation: invitation.as_ref(),
            scratch: None,
            helping: None,
        };
        match self.fill(&update, &delivery, console) {
            Ok(moved) => report.moved(&moved),
            Err(error) => {
                update.abandon().context("cannot remove what was staged")?;
                return Err(error.context(attempt()));
            }
        }
        let done = update.commit().map_err(advise).with_context(attempt)?;
        record.save(&signed)?;
        report.done(&done);
        report.print(console, begun.elapsed())
    }

    /// Brings what the tree does not have itself: deltas where they are cheaper, chunks for the rest.
    fn fill(&self, update: &Update<'_>, delivery: &Delivery<'_>, console: &Console) -> Result<Moved> {
        let mut moved = Moved::default();
        if self.server.may_use_http() {
            moved.delta_bytes = fetch_deltas(update, delivery.client, delivery.signed)?;
        }
        let missing = update.writer().missing_chunks();
        moved.chunks = transfer(delivery, update.writer(), &missing, console)?;
        Ok(moved)
    }

    fn exclusions(&self) -> Result<Exclusions> {
        let mut lists = Vec::new();
        for path in &self.exclude_from {
            let text = std::fs::read(path)
                .with_context(|| format!("cannot read the exclusion list {}", path.display()))
                .exit(Exit::Usage)?;
            lists.push(Arc::new(
                ExclusionList::parse(&text, &path.display().to_string()).exit(Exit::Usage)?,
            ));
        }
        if !self.no_default_excludes {
            lists.push(Arc::new(ExclusionList::default_list()));
        }
        Ok(Exclusions::new(lists))
    }

    fn check(&self, plan: &Plan<'_>) -> Result<()> {
        if !rustix::process::geteuid().is_root() && self.root == Path::new("/") {
            bail!("updating this machine needs root");
        }
        if plan.deletes_suspiciously_much() && !self.force {
            let deleted = plan.summary().deleted;
            return Err(anyhow::anyhow!(
                "{deleted} paths would be deleted, a large part of {}; nothing was changed",
                self.root.display()
            ))
            .hint("look at it with --dry-run; go on with --force, or keep them with --no-delete or an exclusion list");
        }
        Ok(())
    }
}

/// Asks for deltas of files that were changed here. What cannot be had as a delta comes in chunks.
fn fetch_deltas(update: &Update<'_>, client: &Client, signed: &SignedManifest) -> Result<u64> {
    let mut worker = update.worker()?;
    let mut bytes = 0;
    for candidate in update.rolling_candidates()? {
        let mut failed = None;
        let asked = client.deltas(
            signed.id,
            candidate.entry,
            candidate.signature.basis_bytes(),
            candidate.signature.as_bytes(),
            &candidate.parts,
            candidate.spares,
            |number, delta| {
                bytes += delta.len() as u64;
                let taken = update.take_delta(&mut worker, &candidate, number, delta);
                failed = taken.err();
                failed.is_none()
            },
        );
        if let Some(error) = failed {
            return Err(error.into());
        }
        bytes += candidate.signature.as_bytes().len() as u64;
        if let Err(error) = asked {
            tracing::info!(%error, "no deltas from the server; its chunks do as well");
            break;
        }
    }
    Ok(bytes)
}

fn print_plan(plan: &Plan<'_>, signed: &SignedManifest, console: &Console) -> Result<()> {
    if console.json() {
        return Ok(());
    }
    let manifest = &signed.manifest;
    console.data(|out| {
        use std::io::Write;
        for (index, action) in plan.actions() {
            let what = match action {
                Action::Write => "write",
                Action::Meta => "metadata",
                Action::Keep | Action::Protect => continue,
            };
            writeln!(out, "{what:8} /{}", fs::Shown(&manifest.path(index)))?;
        }
        for path in plan.deleted() {
            writeln!(out, "delete   /{}", fs::Shown(path))?;
        }
        Ok(())
    })
}

/// Adds to an error what the operator can do about it.
fn advise(error: UpdateError) -> anyhow::Error {
    let hint = match &error {
        UpdateError::NoSpace { .. } => "make room, or exclude what is not needed here",
        _ => "when the tree is in order, start again: the update finishes",
    };
    Err::<(), _>(error).hint(hint).expect_err("it is an error")
}

/// For people: how many bytes came how.
fn came(moved: &Moved) -> String {
    format!(
        "{} by multicast, {} from peers, {} by HTTP, {} as deltas",
        Bytes(moved.chunks.multicast.bytes),
        Bytes(moved.chunks.bittorrent.bytes),
        Bytes(moved.chunks.http.bytes),
        Bytes(moved.delta_bytes)
    )
}

/// The version that was reached.
fn reached(image: &ImageRef, version: Version) -> ImageRef {
    ImageRef {
        name: image.name.clone(),
        version: Some(version),
    }
}
