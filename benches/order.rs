//! Writing a version with its chunks in one order or the other, by the code that checkout and install share.
//!
//! `si-checkout` reads chunks in path order and has no reason to offer another one, whereas multicast and peers deliver
//! them as they come. So that the two differ in nothing but the order, both run here, in a process of their own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use simulcast_image::apply::Install;
use simulcast_image::fs::open_root;
use simulcast_image::store::{ChunkStore as _, Store};
use simulcast_testkit::command::command;

/// In which order chunks are written.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub(crate) enum Order {
    /// As the manifest has them.
    Path,
    /// By their names, which are hashes: as good as random, and the same in every run.
    Random,
}

/// How `si-bench` is told to be that process.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OrderArguments {
    #[arg(long, hide = true, requires_all = ["store", "target"])]
    pub(crate) order: Option<Order>,
    #[arg(long, hide = true)]
    store: Option<PathBuf>,
    #[arg(long, hide = true)]
    target: Option<PathBuf>,
}

impl Order {
    /// The command that writes the image `golden` of the store `state` to `target`, which must not exist.
    pub(crate) fn command(self, state: &Path, target: &Path) -> Result<Command> {
        let mut own = command(std::env::current_exe().context("find this program")?);
        let name = match self {
            Self::Path => "path",
            Self::Random => "random",
        };
        own.args(["--order", name, "--store"])
            .arg(state)
            .arg("--target")
            .arg(target);
        Ok(own)
    }
}

/// Writes the version, with as many threads as there are processors.
pub(crate) fn run(arguments: &OrderArguments, order: Order) -> Result<()> {
    let missing = "--order comes with --store and --target";
    let (state, target) = (
        arguments.store.as_ref().context(missing)?,
        arguments.target.as_ref().context(missing)?,
    );
    let store = Store::open(state)?;
    let version = store.load(&"golden".parse()?)?;
    let manifest = &version.signed.manifest;
    std::fs::create_dir(target).with_context(|| format!("create {}", target.display()))?;
    let install = Install::begin(manifest, open_root(target)?)?;
    let mut indexes: Vec<u32> = (0u32..).zip(&manifest.chunks).map(|(index, _)| index).collect();
    if let Order::Random = order {
        indexes.sort_by_key(|&index| manifest.chunks[index as usize].handle.id);
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<()> {
        let mut worker = install.writer().worker()?;
        while let Some(&index) = indexes.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut stored = store.chunks().read(&manifest.chunks[index as usize].handle.id)?;
            install.writer().chunk(&mut worker, index, &mut stored)?;
        }
        Ok(())
    };
    let threads = std::thread::available_parallelism()
        .context("count the processors")?
        .get();
    std::thread::scope(|scope| -> Result<()> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })?;
    install.finish()?;
    Ok(())
}
