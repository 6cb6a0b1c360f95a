//! `si-chroot`.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::capture::{Import, ScanScope, import_tree};
use simulcast_image::chunk::DEFAULT_LEVEL;
use simulcast_image::fs::open_root;
use simulcast_image::store::{Store, StoredVersion};
use simulcast_protocol::name::ImageRef;

use super::checkout;
use crate::inside::{self, POLICY, POLICY_PATH};
use crate::store::threads;
use crate::text::now;

/// Change an image from inside: a shell, or a command, in its tree
///
/// The version is checked out, and entered with /proc, /sys and a /dev without disks; services do not start. When the shell has
/// ended, what was changed becomes the next version of the image, is discarded, or is kept for the next time.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image; its newest version unless @V names one
    #[arg(value_name = "IMAGE[@V]")]
    image: ImageRef,

    /// A command and its arguments instead of a shell
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,

    /// Make a new version without asking, if the shell or command ends with 0
    #[arg(long, conflicts_with = "discard")]
    commit: bool,

    /// Discard the changes without asking, also those that were kept earlier
    #[arg(long)]
    discard: bool,
}

/// The tree of an image, in use by us alone.
struct WorkTree {
    path: PathBuf,
    /// Which version it is of, once it is whole; the second line says that `policy-rc.d` is ours.
    of: PathBuf,
    #[expect(dead_code, reason = "the lock lives as long as the open file")]
    lock: File,
}

/// Changes an image from inside.
///
/// # Errors
/// When the tree cannot be made or entered, or the command fails; then no version is made.
pub(crate) fn run(args: Args, console: &Console) -> Result<Exit> {
    if !rustix::process::geteuid().is_root() {
        bail!("entering a tree needs root");
    }
    let store = crate::store::open(console)?;
    let version = store.load(&args.image)?;
    let tree = WorkTree::take(&store, &version)?;
    if !tree.is_of(&version)? {
        tree.clear()?;
        checkout::check_out(&store, &version, &tree.path, threads(None), console)
            .with_context(|| format!("cannot check out {}", version.reference()))?;
        tree.note(&version, false)?;
    }
    tree.forbid_services(&version)?;
    let ended = inside::run(&tree.path, version.image.as_str(), &args.command)?;
    let well = ended.success() || args.command.is_empty() && ended.code() != Some(125);
    let (commit, discard) = match (args.commit && well, args.discard) {
        (true, _) => (true, false),
        (_, true) => (false, true),
        _ if well && !args.commit => ask(&version, console)?,
        _ => (false, false),
    };
    if commit {
        tree.allow_services()?;
        let made = tree.commit(&store, &version)?;
        tree.remove()?;
        if console.json() {
            console.print_json(&json!({ "version": made.reference().to_string(), "id": made.signed.id }))?;
        } else {
            console.line(made.reference())?;
        }
    } else if discard {
        tree.remove()?;
    } else {
        let image = version.reference();
        console.say(format_args!(
            "the changes to {image} are kept: si-chroot {image} goes on with them, --discard throws them away"
        ));
    }
    if well {
        return Ok(Exit::Done);
    }
    Err(anyhow!(
        "the command in {} failed ({ended}); no version was made",
        version.reference()
    ))
}

/// Whether to commit, and whether to discard. Where nobody can be asked, neither.
fn ask(version: &StoredVersion, console: &Console) -> Result<(bool, bool)> {
    use std::io::IsTerminal;
    if !std::io::stdin().is_terminal() {
        return Ok((false, false));
    }
    if console.confirm(&format!("make the next version of {}?", version.image), false)? {
        return Ok((true, false));
    }
    Ok((false, console.confirm("discard the changes?", false)?))
}

impl WorkTree {
    /// Takes the tree for us; it may be empty, whole, or with changes that were kept.
    fn take(store: &Store, version: &StoredVersion) -> Result<Self> {
        let path = store.tree_path(&version.image);
        let beside = |end: &str| path.with_extension(end);
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(beside("lock"))
            .with_context(|| format!("cannot open {}", beside("lock").display()))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(anyhow!("somebody else is in the tree of {}", version.image))
                    .hint("wait until that shell has ended");
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the tree"),
        }
        let of = beside("of");
        Ok(Self { path, of, lock })
    }

    /// Whether it is whole and of this version; a tree of another version is refused.
    fn is_of(&self, version: &StoredVersion) -> Result<bool> {
        let text = match fs::read_to_string(&self.of) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            other => other.with_context(|| format!("cannot read {}", self.of.display()))?,
        };
        let of = text.lines().next().unwrap_or_default();
        if of == version.reference().to_string() {
            return Ok(true);
        }
        Err(anyhow!(
            "changes to {of} are kept in the tree of {}",
            version.image
        ))
        .hint(format!(
            "si-chroot {of} goes on with them; si-chroot {of} --discard -- true throws them away"
        ))
    }

    fn note(&self, version: &StoredVersion, ours: bool) -> Result<()> {
        let text = format!("{}\n{}", version.reference(), if ours { "policy\n" } else { "" });
        let new = self.of.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &self.of))
            .with_context(|| format!("cannot write {}", self.of.display()))
    }

    /// Keeps packages from starting services, unless the image has its own word on that.
    fn forbid_services(&self, version: &StoredVersion) -> Result<()> {
        let path = self.path.join(POLICY_PATH);
        let (Some(directory), false) = (path.parent(), path.symlink_metadata().is_ok()) else {
            return Ok(());
        };
        // A link could lead out of the tree; such a tree has no services either.
        if !plain(&self.path, directory) {
            return Ok(());
        }
        // Noted first: what is noted and not there is removed in vain.
        self.note(version, true)?;
        keeping_time(directory, || {
            fs::write(&path, POLICY)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        })
        .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Takes back what [`WorkTree::forbid_services`] did.
    fn allow_services(&self) -> Result<()> {
        let noted = fs::read_to_string(&self.of).unwrap_or_default();
        let path = self.path.join(POLICY_PATH);
        let ours = noted.lines().nth(1) == Some("policy")
            && path
                .parent()
                .is_some_and(|directory| plain(&self.path, directory))
            && fs::read_to_string(&path).is_ok_and(|text| text == POLICY);
        let Some(directory) = path.parent().filter(|_| ours) else {
            return Ok(());
        };
        keeping_time(directory, || fs::remove_file(&path))
            .with_context(|| format!("cannot remove {}", path.display()))
    }

    /// Makes the tree the next version of its image, with what was known of the one that it is of.
    fn commit(&self, store: &Store, version: &StoredVersion) -> Result<StoredVersion> {
        let mut source = version.signed.manifest.info.source.clone();
        source.insert(
            "tool".to_owned(),
            concat!("si-chroot ", env!("CARGO_PKG_VERSION")).to_owned(),
        );
        source.insert("changed".to_owned(), version.reference().to_string());
        let import = Import {
            image: version.image.clone(),
            source,
            created: now(),
            level: DEFAULT_LEVEL,
            threads: threads(None),
        };
        let scope = ScanScope {
            excluded: &|_, _| false,
            closed: &std::collections::HashSet::new(),
        };
        let (made, report) =
            import_tree(store, open_root(&self.path)?, &scope, import).with_context(|| {
                format!(
                    "cannot make the next version of {}; the changes are kept",
                    version.image
                )
            })?;
        store.write_report(&made, &serde_json::to_string(&report)?)?;
        Ok(made)
    }

    /// Removes what an interrupted checkout or removal left: no changes are in it, else they would be noted.
    fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    fn remove(&self) -> Result<()> {
        fs::remove_file(&self.of)
            .and_then(|()| fs::remove_dir_all(&self.path))
            .with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

/// Whether `directory` lies in `root`, and no part of the way is a link.
fn plain(root: &Path, directory: &Path) -> bool {
    directory
        .ancestors()
        .take_while(|at| *at != root)
        .all(|at| at.symlink_metadata().is_ok_and(|found| found.is_dir()))
}

/// Changes something in a directory, whose time stays as it was: nobody but us changed it.
fn keeping_time(directory: &Path, change: impl FnOnce() -> std::io::Result<()>) -> std::io::Result<()> {
    let open = File::open(directory)?;
    let before: SystemTime = open.metadata()?.modified()?;
    change()?;
    open.set_modified(before)
}
