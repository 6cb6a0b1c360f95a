//! The version comes, and is read back.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use simulcast_cli::Console;
use simulcast_image::apply::{Install, verify as verify_tree};
use simulcast_node::{Delivery, ServerArgs, transfer_seen};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use super::{Done, Failure, Job, storage};

/// Differences that are named.
const SHOWN: usize = 10;

/// Receives the version into the mounted target. After an interruption it goes on with what is there.
pub(super) fn receive(job: &mut Job, console: &Console) -> Done {
    let key = job.key()?;
    let server = job.server()?;
    let (order, signed) = (job.known_order()?, job.manifest()?);
    let token = job.token.clone().context("there is no token")?;
    let args = ServerArgs::of_order(server, token, key, order.transport);
    let image = ImageRef {
        name: order.image.clone(),
        version: Some(order.version),
    };
    storage::set_marker(&job.target)?;
    let install = Install::begin(&signed.manifest, open(&job.target)?)?;
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
    let seen = |amount: &simulcast_cli::Amount| job.reporter.progress(amount.bytes_done, total);
    let transferred = transfer_seen(&delivery, install.writer(), &missing, console, &seen)?;
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

/// Reads everything back from the disks and compares it with the manifest.
pub(super) fn verify(job: &mut Job) -> Done {
    let signed = job.manifest()?;
    rustix::fs::sync();
    // Else the memory would be compared, not the disks. A kernel that does not offer it compares what it has.
    if let Err(error) = fs::write("/proc/sys/vm/drop_caches", "1") {
        tracing::debug!(%error, "read from memory where it is there");
    }
    let differences = verify_tree(&signed.manifest, open(&job.target)?)?;
    if differences.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = differences.iter().take(SHOWN).cloned().collect();
    let more = differences.len().saturating_sub(SHOWN);
    let text = format!(
        "what was written is not what the manifest says: {} (and {more} more); is the disk in order?",
        shown.join(", ")
    );
    Err(Failure::Final(anyhow!(text)))
}

fn open(target: &Path) -> Result<OwnedFd> {
    let opened = File::open(target).with_context(|| format!("cannot open {}", target.display()))?;
    Ok(opened.into())
}
