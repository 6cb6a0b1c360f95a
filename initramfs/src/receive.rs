//! `si-installer receive`: a version from the image server into a directory.

mod report;

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::apply::{ApplyError, Install};
use simulcast_node::{Delivery, Helping, Record, ServerArgs, transfer};
use simulcast_protocol::name::ImageRef;

/// Receive a version of an image into an empty directory
///
/// Chunks come in any order and go straight to their places. When it is interrupted, even by SIGKILL or a power cut,
/// start it again in the same way: it fetches only what it lacks.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// The image, and the version unless the newest is meant
    #[arg(long, value_name = "NAME[@V]")]
    image: ImageRef,

    /// Where to: an empty directory, or one in which this was interrupted; made where there is none
    #[arg(long, value_name = "DIR")]
    target: PathBuf,

    /// Seconds for which this goes on at most, giving to peers that lack something, when it has everything itself
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    help_others: u64,
}

/// Receives a version.
///
/// # Errors
/// When the server, the version or the target cannot be used; nothing that was right in the target is changed then.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    let begun = Instant::now();
    let client = args.server.client(console)?;
    let (version, signed) = args.server.manifest(&client, &args.image, console)?;
    let manifest = &signed.manifest;
    let shown = args.target.display();
    let root = open_target(&args.target).with_context(|| format!("cannot open the target {shown}"))?;
    let install = Install::begin(manifest, root)
        .map_err(advise)
        .with_context(|| format!("cannot install into {shown}"))?;
    let missing = install.writer().missing_chunks();
    let reused = missing.iter().filter(|missing| !**missing).count();
    let helping = Helping::default();
    let delivery = Delivery {
        client: &client,
        server: &args.server,
        image: &args.image,
        signed: &signed,
        invitation: None,
        scratch: Some(&args.target),
        helping: Some(&helping),
    };
    let transferred = transfer(&delivery, install.writer(), &missing, console)
        .with_context(|| format!("cannot install into {shown}"))?;
    let installed = install
        .finish()
        .map_err(advise)
        .with_context(|| format!("cannot complete {shown}"))?;
    let recorded = fs::canonicalize(&args.target).map_err(anyhow::Error::from);
    let recorded = recorded.and_then(|target| Record::of(&console.options().state, &target).save(&signed));
    if let Err(error) = recorded {
        // It would only have spared the first update some hashing.
        tracing::info!(%error, "what was installed is not recorded");
    }
    let summary = report::Summary::new(
        &args.image,
        &signed,
        version,
        reused,
        &transferred,
        &installed,
        begun.elapsed(),
    );
    report::print(&summary, &installed, console)?;
    helping.linger(Duration::from_secs(args.help_others), console);
    Ok(Exit::Done)
}

/// The target directory, made where there is none.
fn open_target(path: &Path) -> std::io::Result<OwnedFd> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::DIRECTORY.bits();
    let flags = i32::try_from(flags).expect("the flag is a small number");
    File::options()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .map(OwnedFd::from)
}

/// Adds to an error what the operator can do about it.
fn advise(error: ApplyError) -> anyhow::Error {
    let hint = match &error {
        ApplyError::NotEmpty | ApplyError::Incomplete(_) => None,
        ApplyError::NoSpace { .. } => Some("choose a larger target"),
        ApplyError::Fs(_) | ApplyError::Io(..) => {
            Some("when the target is in order, start again: only what is missing is fetched")
        }
        ApplyError::Chunk(_) => {
            Some("the version itself is damaged: run si-fsck on the image server, and capture it again")
        }
    };
    match hint {
        Some(hint) => Err::<(), _>(error).hint(hint).expect_err("it is an error"),
        None => error.into(),
    }
}
