//! `si-export`.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use serde_json::json;
use simulcast_cli::{Amount, Console, Exit, Remark};
use simulcast_image::store::{Store, StoredVersion};
use simulcast_image::tar::{ExportReport, TarError, export_tar};
use simulcast_protocol::name::ImageRef;
use simulcast_protocol::units::Bytes;

use crate::text::count;

/// Bytes that are collected before they are written.
const BUFFER: usize = 1 << 18;

/// Paths of sockets that a warning names.
const PATHS_SHOWN: usize = 3;

/// Write a version as a tar archive
///
/// The archive is in pax format with all metadata: `tar --xattrs --xattrs-include='*' --acls -xpf` restores it. Holes stay
/// holes. Sockets, which an archive cannot hold, are left out with a warning. A file appears under its name when it is
/// complete.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image; its newest version unless @V names one
    #[arg(value_name = "IMAGE[@V]")]
    image: ImageRef,

    /// The archive to write; - for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let failed = || format!("cannot export {} to {}", args.image, args.file.display());
    let version = store.load(&args.image).with_context(failed)?;
    let _lease = store
        .lease(&version.image, version.version)
        .with_context(failed)?;
    let to_stdout = args.file == Path::new("-");
    let report = if to_stdout {
        if io::stdout().is_terminal() {
            return Err(anyhow!("an archive is nothing for a terminal"))
                .exit(Exit::Usage)
                .hint("name a file, or send the output into a pipe");
        }
        to_pipe(&store, &version, console).with_context(failed)?
    } else {
        to_file(&store, &version, &args.file, console).with_context(failed)?
    };
    if !report.sockets.is_empty() {
        let shown: Vec<_> = report
            .sockets
            .iter()
            .take(PATHS_SHOWN)
            .map(String::as_str)
            .collect();
        let more = if report.sockets.len() > PATHS_SHOWN {
            ", …"
        } else {
            ""
        };
        console.warn(format_args!(
            "{} left out, an archive cannot hold any: {}{more}",
            count(report.sockets.len() as u64, "socket"),
            shown.join(", ")
        ));
    }
    if !to_stdout {
        if console.json() {
            console.print_json(&json!({
                "version": version.reference().to_string(),
                "file": args.file,
                "members": report.members,
                "sockets": report.sockets,
            }))?;
        } else {
            console.line(format_args!(
                "{} is in {}: {}, {} of content",
                version.reference(),
                args.file.display(),
                count(report.members, "member"),
                Bytes(version.signed.manifest.content_bytes())
            ))?;
        }
    }
    Ok(Exit::Done)
}

fn to_pipe(store: &Store, version: &StoredVersion, console: &Console) -> anyhow::Result<ExportReport> {
    let failure = Cell::new(None);
    let report = console.data(|out| {
        write(store, version, out, None).map_err(|error| match error {
            TarError::Write(error) => error,
            other => {
                failure.set(Some(other));
                io::ErrorKind::Other.into()
            }
        })
    });
    match failure.into_inner() {
        Some(error) => Err(error.into()),
        None => report,
    }
}

/// Writes beside the file and renames, so that no half of an archive is ever taken for a whole one. What is no regular
/// file, a pipe or a tape, is written to as it is.
fn to_file(
    store: &Store,
    version: &StoredVersion,
    path: &Path,
    console: &Console,
) -> anyhow::Result<ExportReport> {
    let regular = fs::metadata(path).map_or(true, |found| found.is_file());
    let aside = if regular { beside(path) } else { path.to_owned() };
    let made = || -> anyhow::Result<ExportReport> {
        let cannot = || format!("cannot write {}", aside.display());
        let file = File::options()
            .write(true)
            .create(regular)
            .truncate(regular)
            .open(&aside)
            .with_context(cannot)?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let report = write(store, version, &mut out, Some(console))?;
        let file = out
            .into_inner()
            .map_err(io::IntoInnerError::into_error)
            .with_context(cannot)?;
        if regular {
            file.sync_all().with_context(cannot)?;
            fs::rename(&aside, path)
                .with_context(|| format!("cannot rename {} to its name", aside.display()))?;
        }
        Ok(report)
    };
    let made = made();
    if made.is_err() && regular {
        // It may not have been made at all; and the first error is the one to tell.
        fs::remove_file(&aside).unwrap_or_default();
    }
    made
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}

fn write(
    store: &Store,
    version: &StoredVersion,
    out: &mut impl Write,
    console: Option<&Console>,
) -> Result<ExportReport, TarError> {
    let manifest = &version.signed.manifest;
    let total: u64 = manifest
        .files()
        .map(|(_, content)| content.size() - content.holes().iter().map(|hole| hole.len).sum::<u64>())
        .sum();
    let progress = console.map(|console| console.progress(&version.reference().to_string()));
    let report = export_tar(store, manifest, out, &|bytes_done| {
        if let Some(progress) = &progress {
            progress.set(Amount {
                bytes_done,
                bytes_total: Some(total),
                ..Amount::default()
            });
        }
    })?;
    if let Some(progress) = progress {
        progress.finish();
    }
    Ok(report)
}
