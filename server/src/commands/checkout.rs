//! `si-checkout`.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use serde_json::json;
use simulcast_cli::{Amount, Console, Exit, Progress, Remark};
use simulcast_image::apply::{ApplyError, Install, InstallReport};
use simulcast_image::chunk::OpenChunkError;
use simulcast_image::fs::{LimitedPart, Shown};
use simulcast_image::store::{ChunkStore, Store, StoreError, StoredVersion};
use simulcast_protocol::id::ChunkId;
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use crate::store::{parse_threads, threads};
use crate::text::count;

/// Paths that are named for each kind of metadata that could not be set.
const PATHS_SHOWN: usize = 3;

/// Write a version into a directory as a plain tree
///
/// The directory is made where it does not exist; otherwise it must be empty, or hold what an interrupted checkout left:
/// then only what is missing or wrong is written. At the end everything is synced to disk. What the file system cannot
/// hold is listed as a warning.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image; its newest version unless @V names one
    #[arg(value_name = "IMAGE[@V]")]
    image: ImageRef,

    /// The directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,

    /// Threads that write [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let failed = || format!("cannot check out {} to {}", args.image, args.directory.display());
    let version = store.load(&args.image).with_context(failed)?;
    let _lease = store
        .lease(&version.image, version.version)
        .with_context(failed)?;
    if !rustix::process::geteuid().is_root() {
        console.warn("not running as root: owners, devices and most extended attributes cannot be set");
    }
    let (found, report) =
        check_out(&store, &version, &args.directory, threads(args.threads), console).with_context(failed)?;
    warn_of_limits(&report, console);
    let manifest = &version.signed.manifest;
    if console.json() {
        console.print_json(&json!({
            "version": version.reference().to_string(),
            "id": version.signed.id,
            "directory": args.directory,
            "entries": manifest.entries.len(),
            "content_bytes": manifest.content_bytes(),
            "found_bytes": found,
            "limited": report.limited.len(),
        }))?;
    } else {
        console.line(format_args!(
            "{} is in {}: {}, {} of content",
            version.reference(),
            args.directory.display(),
            count(manifest.entries.len() as u64, "entry"),
            Bytes(manifest.content_bytes())
        ))?;
    }
    Ok(Exit::Done)
}

/// Writes a version into a directory, or what lacks of it; says what was there already.
pub(super) fn check_out(
    store: &Store,
    version: &StoredVersion,
    directory: &Path,
    threads: usize,
    console: &Console,
) -> anyhow::Result<(u64, InstallReport)> {
    let manifest = &version.signed.manifest;
    // Before anything is written: a chunk that is missing will not come back while we write.
    for chunk in &manifest.chunks {
        if store.chunks().len(&chunk.handle.id)? != Some(u64::from(chunk.handle.stored_len)) {
            return Err(lost(store, chunk.handle.id));
        }
    }
    let made = make(directory)?;
    let root = simulcast_image::fs::open_root(directory)?;
    let install = match Install::begin(manifest, root) {
        Ok(install) => install,
        Err(error) => {
            if made && matches!(error, ApplyError::NoSpace { .. }) {
                fs::remove_dir(directory)
                    .with_context(|| format!("cannot remove {} again after: {error}", directory.display()))?;
            }
            return Err(error.into());
        }
    };
    let found = install.bytes_found();
    let progress = console.progress(&version.reference().to_string());
    write_chunks(store, version, &install, threads, &progress)
        .and_then(|()| Ok(install.finish()?))
        .map(|report| {
            progress.finish();
            (found, report)
        })
        .hint("the directory holds an unfinished tree now: the same command goes on with it, once the cause is gone")
}

/// Makes the directory and those above it; says whether that was needed.
fn make(directory: &Path) -> anyhow::Result<bool> {
    match fs::create_dir(directory) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(_) => fs::create_dir_all(directory)
            .map(|()| true)
            .with_context(|| format!("cannot make {}", directory.display())),
    }
}

/// Every thread reads, checks and writes chunks of its own, in path order as far as that goes.
fn write_chunks(
    store: &Store,
    version: &StoredVersion,
    install: &Install<'_>,
    threads: usize,
    progress: &Progress,
) -> anyhow::Result<()> {
    let chunks = &version.signed.manifest.chunks;
    let missing = install.writer().missing_chunks();
    let wanted: Vec<u32> = (0u32..)
        .zip(&missing)
        .filter(|&(_, &missing)| missing)
        .map(|(index, _)| index)
        .collect();
    let bytes = |indexes: &[u32]| -> u64 {
        indexes
            .iter()
            .map(|&index| u64::from(chunks[index as usize].handle.raw_len))
            .sum()
    };
    progress.set(Amount {
        chunks_total: Some(wanted.len() as u64),
        bytes_total: Some(bytes(&wanted)),
        ..Amount::default()
    });
    let (next, failure) = (AtomicUsize::new(0), Mutex::new(None));
    let work = || -> anyhow::Result<()> {
        let mut worker = install.writer().worker()?;
        while let Some(&index) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
            let handle = &chunks[index as usize].handle;
            let mut stored = store.chunks().read(&handle.id)?;
            if stored.len() != handle.stored_len as usize || ChunkId::of(&stored) != handle.id {
                return Err(lost(store, handle.id));
            }
            install.writer().chunk(&mut worker, index, &mut stored)?;
            progress.update(|amount| {
                amount.chunks_done += 1;
                amount.bytes_done += u64::from(handle.raw_len);
            });
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = work() {
                    // The others stop at their next chunk.
                    next.store(wanted.len(), Ordering::Relaxed);
                    failure.lock().expect("no holder panics").get_or_insert(error);
                }
            });
        }
    });
    failure
        .into_inner()
        .expect("no holder panics")
        .map_or(Ok(()), Err)
}

/// What to say about a chunk that the store has lost or damaged.
fn lost(store: &Store, id: ChunkId) -> anyhow::Error {
    let error = match store.chunks().len(&id) {
        Ok(None) => StoreError::ChunkMissing(id),
        Err(error) => error,
        Ok(Some(_)) => StoreError::Chunk(OpenChunkError::Damaged(id)),
    };
    let result: anyhow::Result<()> =
        Err(error).hint("another version may be whole, and a new capture stores what is lost again");
    result.expect_err("it is one")
}

/// One warning for each kind of metadata, not one for each of ten thousand files.
fn warn_of_limits(report: &InstallReport, console: &Console) {
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for limited in &report.limited {
        let what = match &limited.limitation.part {
            LimitedPart::Owner => "owner".to_owned(),
            LimitedPart::Mode => "mode".to_owned(),
            LimitedPart::Xattr(name) => format!("extended attribute {}", Shown(name)),
            LimitedPart::Mtime(_) => "modification time".to_owned(),
        };
        let why = match limited.limitation.errno {
            Some(errno) => std::io::Error::from(errno).to_string(),
            None => "the file system stored something else".to_owned(),
        };
        groups
            .entry(format!("the {what} of {{}} could not be set ({why})"))
            .or_default()
            .push(&limited.path);
    }
    for (text, paths) in groups {
        let shown: Vec<_> = paths
            .iter()
            .take(PATHS_SHOWN)
            .map(|path| format!("/{path}"))
            .collect();
        let more = if paths.len() > PATHS_SHOWN { ", …" } else { "" };
        let text = text.replacen("{}", &count(paths.len() as u64, "entry"), 1);
        console.warn(format_args!("{text}: {}{more}", shown.join(", ")));
    }
}
