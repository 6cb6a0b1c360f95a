//! `si-installer unpack`: a tar archive into a tree, in a process that sees nothing but that tree.

use std::io;
use std::path::PathBuf;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Exit};

/// Unpack a tar archive from standard input over a tree
///
/// The process changes its root to the tree before it reads anything, so that nothing in the archive or in the tree leads
/// out of it. Owners, permissions, times and extended attributes are those of the archive.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tree
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
}

pub(crate) fn run(args: &Args, _: &Console) -> Result<Exit> {
    rustix::process::chroot(&args.root)
        .with_context(|| format!("cannot change the root to {}", args.root.display()))?;
    std::env::set_current_dir("/").context("cannot enter the new root")?;
    // Permissions are those of the archive, not what is left of them.
    rustix::process::umask(rustix::fs::Mode::empty());
    let mut archive = tar::Archive::new(io::stdin().lock());
    archive.set_preserve_permissions(true);
    archive.set_preserve_ownerships(true);
    archive.set_preserve_mtime(true);
    archive.set_unpack_xattrs(true);
    archive.set_overwrite(true);
    archive.unpack("/").context("cannot unpack the archive")?;
    Ok(Exit::Done)
}
