//! `si-updateclient`.

pub(super) mod boot;
mod concerned;
mod deltas;
mod report;
mod rollback;
mod scripts;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::filter::{ExclusionList, Exclusions, Side};
use simulcast_image::fs;
use simulcast_image::manifest::{Manifest, SignedManifest};
use simulcast_image::update::{
    CommitOptions, KEPT_UPDATES, Plan, PlanOptions, Update, UpdateError, UpdateReport, settle_kept,
};
use simulcast_node::{Delivery, Invitation, OfferedPack, Record, ServerArgs, transfer};
use simulcast_protocol::exclusion::NodeLists;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::name::{ImageRef, Version};
use simulcast_transport::http::Client;

use crate::exclusions::{ExclusionArgs, explain};
use crate::mounted::closed;
use boot::Refresh;
use report::{Moved, Report};

/// Bring this machine to a version of an image, newer or older
///
/// Only what differs is moved; what the exclusion lists protect is neither written nor deleted. New files are built
/// beside the old ones and put in place when all have come, so an interruption leaves a whole system, and the next run
/// finishes. What is replaced is kept: --rollback brings it back.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// The image, and the version unless the newest is meant
    #[arg(long, value_name = "NAME[@V]", required_unless_present_any = ["to", "rollback"])]
    image: Option<ImageRef>,

    /// The version to go to, also an older one; it wins over --image
    #[arg(long, value_name = "NAME[@V]")]
    to: Option<ImageRef>,

    /// The tree to update
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    /// Look at and change nothing outside this directory, which is named from the root of the tree
    #[arg(long, value_name = "DIR", default_value = "/")]
    directory: PathBuf,

    #[command(flatten)]
    exclusions: ExclusionArgs,

    /// Say which line of which exclusion list decides about this path, and change nothing. A slash at the end says that
    /// it is a directory
    #[arg(long, value_name = "PATH")]
    explain: Option<OsString>,

    /// Delete nothing
    #[arg(long)]
    no_delete: bool,

    /// Leave the initramfs and the boot loader's menu as they are, also when kernels change
    #[arg(long)]
    no_bootloader: bool,

    /// Restart the machine afterwards, if anything was changed
    #[arg(long)]
    reboot: bool,

    /// Read every file, instead of trusting length and time of those that the last update wrote
    #[arg(long)]
    checksum: bool,

    /// The versions that the update pack is made for, as si-pushupdate names them
    #[arg(long, value_name = "ID", hide = true)]
    pack_from: Option<ManifestId>,

    /// Go on even if a large part of the tree would be deleted
    #[arg(long)]
    force: bool,

    /// How many updates shall be possible to undo afterwards, this one included; 0 keeps nothing
    #[arg(long, value_name = "N", default_value_t = KEPT_UPDATES, value_parser = parse_keep)]
    keep: usize,

    /// Bring back what the last update replaced and deleted, without a server
    #[arg(long, conflicts_with_all = ["image", "to", "directory", "explain", "checksum", "no_delete"])]
    rollback: bool,

    /// Say what would be done, and change nothing; with --json every path, and from where the bytes come
    #[arg(long)]
    dry_run: bool,
}

/// What an update is about.
struct Aim<'a> {
    image: &'a ImageRef,
    version: Version,
    signed: &'a SignedManifest,
    client: &'a Client,
    root: &'a Path,
}

/// What the server offers for an update.
#[derive(Debug, Default)]
struct Offer<'i> {
    pack: Option<OfferedPack<'i>>,
    /// To the session of the pack, or of the version when there is no pack.
    invitation: Option<Invitation>,
}

impl Args {
    /// Updates the tree.
    pub(crate) fn run(self, console: &Console) -> Result<Exit> {
        let root = std::fs::canonicalize(&self.root)
            .with_context(|| format!("cannot find the tree {}", self.root.display()))
            .exit(Exit::Usage)?;
        if !rustix::process::geteuid().is_root() && root == Path::new("/") && self.explain.is_none() {
            bail!("updating this machine needs root");
        }
        if self.rollback {
            return rollback::run(&self, &root, console);
        }
        let wanted = self.to.as_ref().or(self.image.as_ref());
        let image = wanted.context("no image was named")?;
        let client = self.server.client(console)?;
        let node = self.exclusions.node(&root);
        let lists = self.server.exclusions(&client, image, node.as_ref(), console)?;
        // What is wrong with the lists is said before anything is fetched.
        self.layered(&lists, None, console)?;
        let (version, signed) = self.server.manifest(&client, image, console)?;
        let own = (!self.no_bootloader).then(|| boot::made_here(&signed.manifest, &root));
        let exclusions = self.layered(&lists, own.flatten(), console)?;
        if let Some(path) = &self.explain {
            return explain(path, &root, &exclusions, console);
        }
        let aim = Aim {
            image,
            version,
            signed: &signed,
            client: &client,
            root: &root,
        };
        self.update(&aim, &lists, &exclusions, console)
            .with_context(|| format!("cannot update {}", root.display()))
    }

    fn update(
        &self,
        aim: &Aim<'_>,
        lists: &NodeLists,
        exclusions: &Exclusions,
        console: &Console,
    ) -> Result<Exit> {
        let begun = Instant::now();
        let root = fs::open_root(aim.root)?;
        let record = Record::of(&console.options().state, aim.root);
        let installed = record.identified();
        let offer = self.ask(aim, installed.as_ref(), console);
        let protects =
            |side: Side, path: &[u8], directory: bool| exclusions.decide(side, path, directory).excluded;
        let options = PlanOptions {
            protects: &protects,
            delete: !self.no_delete,
            checksum: self.checksum,
            installed: installed.as_ref().map(|(_, manifest)| manifest),
            directory: &self.directory(),
            closed: &closed(aim.root),
        };
        let plan = Plan::make(&aim.signed.manifest, &root, &options)?;
        warn_of_blocked(&plan, console);
        let services = concerned::services(&plan, aim.root);
        let mut report = Report::new(aim, &plan, services);
        if self.dry_run {
            return report.print_plan(&plan, console, begun.elapsed());
        }
        self.check(&plan)?;
        let changes = !plan.is_empty();
        let refresh = (!self.no_bootloader).then(|| Refresh::of(plan.boot_files(), aim.root, console));
        if changes {
            let scripts = scripts::Scripts::fetch(&self.server, aim, lists.node.as_ref(), console)?;
            scripts.before()?;
            let update = Update::begin(plan, root).map_err(advise)?;
            let moved = self.build(&update, aim, &offer, console);
            let Ok(moved) = moved else {
                update.abandon().context("cannot remove what was staged")?;
                return moved.map(|_| Exit::Failed);
            };
            report.moved(&moved);
            report.done(&self.put_in_place(update, &record, refresh.as_ref())?);
            if self.directory().is_empty() {
                record.save(aim.signed)?;
            }
            record.save_lists(lists)?;
            scripts.after().context("all files are in place, but")?;
        } else {
            settle_kept(&root, self.keep)?;
            refresh.as_ref().map_or(Ok(()), Refresh::make_up)?;
            if self.directory().is_empty() {
                record.save(aim.signed)?;
                record.save_lists(lists)?;
            }
        }
        let exit = report.print(console, begun.elapsed())?;
        if self.reboot && changes {
            boot::restart(console)?;
        }
        Ok(exit)
    }

    /// Asks the server for an update pack and for a session, before the tree is looked at: both take their time there.
    fn ask<'i>(
        &self,
        aim: &Aim<'_>,
        installed: Option<&'i (ManifestId, Manifest)>,
        console: &Console,
    ) -> Offer<'i> {
        if self.dry_run {
            return Offer::default();
        }
        let pack = installed.and_then(|installed| {
            OfferedPack::ask(
                aim.client,
                &self.server,
                installed,
                self.pack_from,
                aim.signed,
                console,
            )
        });
        let invitation = match &pack {
            Some(pack) => pack.invitation(aim.client, &self.server, aim.signed),
            None => Invitation::ask(aim.client, &self.server, aim.signed),
        };
        Offer { pack, invitation }
    }

    /// Brings what the tree does not have itself: what an update pack makes of its old files, deltas where they are cheaper,
    /// chunks for the rest.
    fn build(
        &self,
        update: &Update<'_>,
        aim: &Aim<'_>,
        offer: &Offer<'_>,
        console: &Console,
    ) -> Result<Moved> {
        let mut delivery = Delivery {
            client: aim.client,
            server: &self.server,
            image: aim.image,
            signed: aim.signed,
            invitation: offer.invitation.as_ref(),
            scratch: None,
            helping: None,
        };
        let mut moved = Moved::default();
        if let Some(pack) = &offer.pack {
            moved.pack_list = pack.list_bytes();
            moved.pack = pack.transfer(&delivery, aim.root, update.writer(), console)?;
            // The session that was asked for is the pack's.
            delivery.invitation = None;
        }
        if self.server.may_use_http() {
            moved.delta_bytes = deltas::fetch(update, aim.client, aim.signed)?;
        }
        let missing = update.writer().missing_chunks();
        moved.chunks = transfer(&delivery, update.writer(), &missing, console)?;
        Ok(moved)
    }

    /// Puts everything in place, has the machine's own boot files made anew while the old kernels are still there, then
    /// deletes what goes.
    fn put_in_place(
        &self,
        update: Update<'_>,
        record: &Record,
        refresh: Option<&Refresh<'_>>,
    ) -> Result<UpdateReport> {
        let before = record.bytes();
        let options = CommitOptions {
            keep: self.keep,
            record: before.as_deref(),
        };
        // From the first rename to the last, and after an update of one directory, no version is what stands here.
        record.restore(None)?;
        refresh.map_or(Ok(()), Refresh::announce)?;
        let placed = update.put_in_place(options).map_err(advise)?;
        refresh
            .map_or(Ok(()), Refresh::run)
            .context("new files are in place and nothing is deleted yet, but")?;
        let done = placed.finish().map_err(advise)?;
        refresh
            .map_or(Ok(()), Refresh::done)
            .context("all files are in place, but")?;
        Ok(done)
    }

    fn layered(
        &self,
        lists: &NodeLists,
        own: Option<ExclusionList>,
        console: &Console,
    ) -> Result<Exclusions> {
        self.exclusions.layered(&self.directory(), lists, own, console)
    }

    /// The chosen directory as names joined by `/`; empty for the whole tree.
    fn directory(&self) -> Vec<u8> {
        let names: Vec<&[u8]> = self
            .directory
            .as_os_str()
            .as_bytes()
            .split(|&byte| byte == b'/')
            .filter(|name| !matches!(*name, b"" | b"."))
            .collect();
        names.join(&b'/')
    }

    fn check(&self, plan: &Plan<'_>) -> Result<()> {
        if plan.deletes_suspiciously_much() && !self.force {
            let deleted = plan.summary().deleted;
            return Err(anyhow!(
                "{deleted} paths would be deleted, a large part of {}; nothing was changed",
                self.root.display()
            ))
            .hint("look at it with --dry-run; go on with --force, or keep them with --no-delete or an exclusion list");
        }
        Ok(())
    }
}

fn warn_of_blocked(plan: &Plan<'_>, console: &Console) {
    for path in plan.blocked() {
        console.warn(format_args!(
            "/{} stays as it is: what is protected is in its way, or is what it links to",
            fs::Shown(&path)
        ));
    }
}

fn parse_keep(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(keep @ 0..=16) => Ok(keep),
        _ => Err("use a number from 0 to 16".to_owned()),
    }
}

/// Adds to an error what the operator can do about it.
fn advise(error: UpdateError) -> anyhow::Error {
    let hint = match &error {
        UpdateError::NoSpace { .. } => "make room, or exclude what is not needed here",
        UpdateError::Occupied(_) | UpdateError::NoDirectory(_) => "then start again; nothing was changed",
        UpdateError::Undo(_) => "an update to the version before does as well: --to NAME@V",
        _ => "when the tree is in order, start again: the update finishes; or go back with --rollback",
    };
    Err::<(), _>(error).hint(hint).expect_err("it is an error")
}
