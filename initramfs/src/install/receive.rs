//! The version comes, and is read back.

use std::collections::HashSet;
use std::fmt::Display;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use simulcast_cli::{Amount, Console};
use simulcast_image::apply::{Install, Selection};
use simulcast_image::filter::{Exclusions, Side};
use simulcast_image::verify::{VerifyOptions, verify as verify_tree};
use simulcast_node::{Delivery, Record, ServerArgs, Watch, transfer_watched};
use simulcast_protocol::exclusion::NodeLists;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use super::reporter::Reporter;
use super::{Done, Failure, Job, facts, storage};

/// The state directory of the installed system.
const STATE: &str = "var/lib/simulcast";

/// Differences that are named.
const SHOWN: usize = 10;

/// Receives the version into the mounted target. After an interruption it goes on with what is there.
pub(super) fn receive(job: &mut Job, console: &Console) -> Done {
    let key = job.key()?;
    let server = job.server()?;
    let (order, signed) = (job.known_order()?, job.manifest()?);
    let token = job.token.clone().context("there is no token")?;
    let args = ServerArgs::of_order(server, token, key, order);
    let image = ImageRef {
        name: order.image.clone(),
        version: Some(order.version),
    };
    storage::set_marker(&job.target)?;
    let install = Install::begin_with(&signed.manifest, open(&job.target)?, selection(job)?)?;
    let missing = install.writer().missing_chunks();
    let there = missing.iter().filter(|missing| !**missing).count();
    if there > 0 && install.bytes_found() > 0 {
        job.reporter.say(&format!(
            "receive: {there} of {} chunks are there already ({})",
            missing.len(),
            Bytes(install.bytes_found())
        ));
    }
    let delivery = Delivery {
        client: job.client()?,
        server: &args,
        image: &image,
        signed,
        invitation: None,
        scratch: Some(&job.target),
        helping: Some(&job.helping),
    };
    let total = signed.manifest.stored_bytes();
    let told = Told {
        reporter: &job.reporter,
        total,
    };
    let transferred = transfer_watched(&delivery, install.writer(), &missing, console, &told)?;
    let installed = install.finish()?;
    for limited in installed.limited.iter().take(SHOWN) {
        job.reporter
            .say(&format!("warning: {}: {}", limited.path, limited.limitation));
    }
    job.reporter.say(&format!(
        "receive: {} by multicast, {} from peers, {} by HTTP in {:.1} s",
        Bytes(transferred.multicast.bytes),
        Bytes(transferred.bittorrent.bytes),
        Bytes(transferred.http.bytes),
        transferred.elapsed.as_secs_f32()
    ));
    storage::mount_rest(job.plan()?, signed, &job.target)?;
    Ok(())
}

/// Tells the image server how the transfer goes.
struct Told<'a> {
    reporter: &'a Reporter,
    total: u64,
}

impl Watch for Told<'_> {
    fn amount(&self, amount: &Amount) {
        self.reporter.progress(amount.bytes_done, self.total);
    }

    fn notice(&self, notice: &dyn Display) {
        self.reporter.say(&format!("receive: {notice}"));
    }
}

/// Reads everything back from the disks and compares it with the manifest.
pub(super) fn verify(job: &mut Job) -> Done {
    let signed = job.manifest()?;
    rustix::fs::sync();
    // Else the memory would be compared, not the disks. A kernel that does not offer it compares what it has.
    if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "1") {
        tracing::debug!(%error, "read from memory where it is there");
    }
    let exclusions = exclusions(job)?;
    // What only the tree has is the installer's own.
    let protects = |side, path: &[u8], directory| exclusions.decide(side, path, directory).excluded;
    let options = VerifyOptions {
        protects: &protects,
        closed: &HashSet::new(),
        checksum: true,
        strict: false,
    };
    let report = verify_tree(&signed.manifest, open(&job.target)?, &options)?;
    if report.drifted == 0 {
        return record(job);
    }
    let shown: Vec<_> = report
        .paths
        .iter()
        .take(SHOWN)
        .map(|drifted| format!("{} {}", drifted.path, drifted.drift))
        .collect();
    let more = report.drifted - shown.len() as u64;
    let text = format!(
        "what was written is not what the manifest says: {} (and {more} more); is the disk in order?",
        shown.join(", ")
    );
    Err(Failure::Final(anyhow!(text)))
}

/// Tells the installed system which version it has, and what it is to leave alone: si-verify and updates ask.
fn record(job: &Job) -> Done {
    let state = facts::below(&job.target, STATE)?;
    let record = Record::of(&state, Path::new("/"));
    record.save(job.manifest()?)?;
    let order = job.known_order()?;
    record.save_lists(&NodeLists {
        node: Some(order.node.clone()),
        lists: order.exclusions.clone(),
    })?;
    Ok(())
}

/// The order's exclusion lists.
fn exclusions(job: &Job) -> Result<Exclusions, Failure> {
    let exclusions = job.known_order()?.exclusions();
    Ok(exclusions.context("cannot use the order's exclusion lists")?)
}

/// What they leave of the version.
fn selection(job: &Job) -> Result<Selection, Failure> {
    let exclusions = exclusions(job)?;
    let excluded = |path: &[u8], directory| exclusions.decide(Side::Sender, path, directory).excluded;
    Ok(Selection::without(&job.manifest()?.manifest, &excluded))
}

fn open(target: &Path) -> Result<OwnedFd> {
    let opened = File::open(target).with_context(|| format!("cannot open {}", target.display()))?;
    Ok(opened.into())
}
