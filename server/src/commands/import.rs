//! `si-import`.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufReader, IsTerminal, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use serde::Serialize;
use serde_json::json;
use simulcast_cli::{Amount, Console, Exit, Remark};
use simulcast_image::capture::{Import, PackReport, ScanScope, import_tree};
use simulcast_image::chunk::DEFAULT_LEVEL;
use simulcast_image::filter::{ExclusionList, Exclusions, Side};
use simulcast_image::fs::{Shown, open_root};
use simulcast_image::store::{Store, StoredVersion};
use simulcast_image::tar::{TarError, TarReport, import_oci, import_tar};
use simulcast_protocol::name::ImageName;
use simulcast_protocol::units::Bytes;

use super::debootstrap::{Bootstrap, Suite};
use crate::store::{parse_threads, threads};
use crate::text::{count, now};

/// Bytes of an exclusion list that we read: far more than anybody writes.
const LIST_BYTES: u64 = 16 << 20;

/// Bytes that are read from an archive at once.
const BUFFER: usize = 1 << 18;

/// Things that a warning names.
const SHOWN: usize = 5;

/// Make a tree, a tar archive, a container image or a release of Debian the next version of an image
///
/// A tree is taken with everything that is mounted below it. An archive may be of any tar format; of several members
/// with one path the last counts, a leading slash is left out, and a member with ".." in its path is refused. The image
/// is made where it does not exist. Prints the new version, NAME@V.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image that gets a new version
    #[arg(value_name = "NAME")]
    image: ImageName,

    #[command(flatten)]
    from: From,

    /// Which image of a container archive is taken, if it has several, as in debian:13
    #[arg(long, value_name = "NAME", requires = "oci")]
    tag: Option<String>,

    #[command(flatten)]
    bootstrap: Bootstrap,

    /// Leave out what this exclusion list says; may be given several times, the first list with a matching rule decides
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// zstd level, 1 to 19: higher is smaller and slower
    #[arg(long, value_name = "N", default_value_t = DEFAULT_LEVEL, value_parser = clap::value_parser!(i32).range(1..=19))]
    level: i32,

    /// Threads that compress [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
}

/// Where the content comes from.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct From {
    /// The directory whose content is taken
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,

    /// The tar archive that is taken; - for standard input
    #[arg(long, value_name = "FILE")]
    tar: Option<PathBuf>,

    /// The container image that is taken: an OCI archive, or what docker save writes
    #[arg(long, value_name = "FILE")]
    oci: Option<PathBuf>,

    /// The Debian or Ubuntu release that is made by debootstrap and taken, as in trixie
    #[arg(long, value_name = "SUITE")]
    debootstrap: Option<Suite>,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let exclusions = exclusions(&args.exclude_from)?;
    let import = Import {
        image: args.image.clone(),
        source: BTreeMap::from([(
            "tool".to_owned(),
            concat!("si-import ", env!("CARGO_PKG_VERSION")).to_owned(),
        )]),
        created: now(),
        level: args.level,
        threads: threads(args.threads),
    };
    let imported = match (&args.from.tree, &args.from.tar) {
        (Some(tree), _) => from_tree(tree, &exclusions, import, console),
        (_, Some(tar)) => from_tar(tar, &exclusions, import, console),
        (None, None) => match (&args.from.oci, &args.from.debootstrap) {
            (Some(oci), _) => from_oci(oci, args.tag.as_deref(), &exclusions, import, console),
            (_, Some(suite)) => from_debootstrap(suite, &args.bootstrap, &exclusions, import, console),
            (None, None) => unreachable!("the command line asks for one of them"),
        },
    };
    let full = imported.as_ref().is_err_and(is_disk_full);
    let imported = imported.with_context(|| format!("cannot import {}", args.image));
    if full {
        imported.hint("si-gc removes what no version needs; the versions that there are were not changed")?;
    } else {
        imported?;
    }
    Ok(Exit::Done)
}

fn from_tree(
    tree: &Path,
    exclusions: &Exclusions,
    mut import: Import,
    console: &Console,
) -> anyhow::Result<()> {
    // The tree first: a typing error in its name shall not make a store.
    let root = open_root(tree)?;
    import
        .source
        .insert("tree".to_owned(), Shown(tree.as_os_str().as_bytes()).to_string());
    let store = crate::store::open_or_make(console)?;
    let scope = ScanScope {
        excluded: &|path, directory| exclusions.decide(Side::Sender, path, directory).excluded,
        closed: &HashSet::new(),
    };
    let (version, report) = import_tree(&store, root, &scope, import)?;
    let scan = &report.scan;
    let changed = [
        (
            "changed while being read; what was read last is in the version",
            &scan.unsettled,
        ),
        ("vanished before being read", &scan.vanished),
    ];
    for (what, paths) in changed {
        warn_of(&count(paths.len() as u64, "path"), what, paths, console);
    }
    let facts = Facts {
        entries: scan.entries,
        files: scan.files,
        excluded: scan.excluded,
        bytes_read: scan.bytes_read,
        pack: &report.pack,
    };
    tell(&store, &version, &report, &facts, console)
}

fn from_tar(
    file: &Path,
    exclusions: &Exclusions,
    mut import: Import,
    console: &Console,
) -> anyhow::Result<()> {
    let input: Box<dyn Read> = if file == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(anyhow!("no archive comes from a terminal"))
                .exit(Exit::Usage)
                .hint("name a file, or send the archive through a pipe");
        }
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(file).with_context(|| format!("cannot open {}", file.display()))?)
    };
    import
        .source
        .insert("tar".to_owned(), Shown(file.as_os_str().as_bytes()).to_string());
    let store = crate::store::open_or_make(console)?;
    let input = BufReader::with_capacity(BUFFER, input);
    archived(
        &store,
        exclusions,
        import,
        console,
        |import, excluded, progress| import_tar(&store, input, import, excluded, progress),
    )
}

fn from_oci(
    path: &Path,
    tag: Option<&str>,
    exclusions: &Exclusions,
    mut import: Import,
    console: &Console,
) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let named = tag.map(|tag| format!(" {tag}")).unwrap_or_default();
    import.source.insert(
        "oci".to_owned(),
        Shown(path.as_os_str().as_bytes()).to_string() + &named,
    );
    let store = crate::store::open_or_make(console)?;
    archived(
        &store,
        exclusions,
        import,
        console,
        |import, excluded, progress| import_oci(&store, &file, tag, import, excluded, progress),
    )
}

fn from_debootstrap(
    suite: &Suite,
    bootstrap: &Bootstrap,
    exclusions: &Exclusions,
    mut import: Import,
    console: &Console,
) -> anyhow::Result<()> {
    let store = crate::store::open_or_make(console)?;
    let made = bootstrap.make(suite, store.root(), console)?;
    import.source.insert("debootstrap".to_owned(), suite.to_string());
    from_tree(made.tree(), exclusions, import, console)
}

/// What leaves out, and what is told how far it is.
type Excluded<'a> = &'a dyn Fn(&[u8], bool) -> bool;
type Told<'a> = &'a dyn Fn(u64);

/// Takes an archive in, and tells what came of it.
fn archived(
    store: &Store,
    exclusions: &Exclusions,
    import: Import,
    console: &Console,
    take: impl FnOnce(Import, Excluded<'_>, Told<'_>) -> Result<(StoredVersion, TarReport), TarError>,
) -> anyhow::Result<()> {
    let progress = console.progress(import.image.as_str());
    let (version, report) = take(
        import,
        &|path, directory| {
            exclusions
                .decide_from_root(Side::Sender, path, directory)
                .excluded
        },
        &|bytes_done| {
            progress.set(Amount {
                bytes_done,
                ..Amount::default()
            });
        },
    )?;
    progress.finish();
    warn_of(
        &count(report.notes.len() as u64, "note"),
        "on the archive",
        &report.notes,
        console,
    );
    let facts = Facts {
        entries: version.signed.manifest.entries.len() as u64,
        files: report.files,
        excluded: report.excluded,
        bytes_read: report.bytes_read,
        pack: &report.pack,
    };
    tell(store, &version, &report, &facts, console)
}

fn is_disk_full(error: &anyhow::Error) -> bool {
    let kinds = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    kinds
        .into_iter()
        .any(|kind| matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
}

/// What both kinds of import report.
struct Facts<'a> {
    entries: u64,
    files: u64,
    excluded: u64,
    bytes_read: u64,
    pack: &'a PackReport,
}

fn tell(
    store: &Store,
    version: &StoredVersion,
    report: &impl Serialize,
    facts: &Facts<'_>,
    console: &Console,
) -> anyhow::Result<()> {
    store.write_report(version, &serde_json::to_string(report)?)?;
    if console.json() {
        return console.print_json(&json!({
            "image": version.image,
            "version": version.version,
            "id": version.signed.id,
            "entries": facts.entries,
            "files": facts.files,
            "excluded": facts.excluded,
            "bytes_read": facts.bytes_read,
            "pack": facts.pack,
        }));
    }
    console.line(version.reference())?;
    console.say(format_args!(
        "{}: {} read, {} excluded; {} kept, {} new ({} stored)",
        count(facts.entries, "entry"),
        Bytes(facts.bytes_read),
        facts.excluded,
        count(facts.pack.chunks_kept as u64, "chunk"),
        facts.pack.chunks_new,
        Bytes(facts.pack.bytes_new)
    ));
    Ok(())
}

fn warn_of(number: &str, what: &str, list: &[String], console: &Console) {
    if !list.is_empty() {
        let more = if list.len() > SHOWN { "; …" } else { "" };
        console.warn(format_args!(
            "{number} {what}: {}{more}",
            list[..list.len().min(SHOWN)].join("; ")
        ));
    }
}

fn exclusions(files: &[PathBuf]) -> anyhow::Result<Exclusions> {
    let read = |file: &PathBuf| -> anyhow::Result<Arc<ExclusionList>> {
        let name = file.display().to_string();
        let length = fs::metadata(file)
            .with_context(|| format!("cannot read the exclusion list {name}"))?
            .len();
        if length > LIST_BYTES {
            return Err(anyhow!(
                "the exclusion list {name} has {}, more than the {} that are allowed",
                Bytes(length),
                Bytes(LIST_BYTES)
            ));
        }
        let text = fs::read(file).with_context(|| format!("cannot read the exclusion list {name}"))?;
        Ok(Arc::new(ExclusionList::parse(&text, &name)?))
    };
    let lists = files
        .iter()
        .map(read)
        .collect::<anyhow::Result<Vec<_>>>()
        .exit(Exit::Usage)?;
    Ok(Exclusions::new(lists))
}
