//! `si-gc`.

use anyhow::Context;
use serde_json::json;
use simulcast_cli::{Console, Exit};
use simulcast_image::store::collect;
use simulcast_protocol::units::Bytes;

use crate::text::count;

/// Remove chunks that no version and no update pack needs, and update packs whose versions are gone
///
/// What is to go is worked out first, then removed. Nobody may write to the store meanwhile. A version whose manifest
/// cannot be read stops it, because nobody knows what that needs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let done = collect(&store, args.dry_run)
        .with_context(|| format!("cannot collect the store {}", store.root().display()))?;
    if console.json() {
        let chunks: Vec<_> = done
            .unneeded
            .iter()
            .map(|(id, bytes)| json!({ "chunk": id, "bytes": bytes }))
            .collect();
        console.print_json(&json!({
            "dry_run": args.dry_run,
            "removed_bytes": done.bytes(),
            "removed_chunks": chunks,
            "removed_leftovers": done.leftovers,
            "removed_packs": done.packs,
            "kept_chunks": done.kept,
        }))?;
        return Ok(Exit::Done);
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    console.line(format_args!(
        "{verb} {} ({}) and {} of interrupted writers, {}; {} stay",
        count(done.unneeded.len() as u64, "chunk"),
        Bytes(done.bytes()),
        count(done.leftovers.len() as u64, "leftover"),
        count(done.packs.len() as u64, "update pack"),
        done.kept
    ))?;
    Ok(Exit::Done)
}
