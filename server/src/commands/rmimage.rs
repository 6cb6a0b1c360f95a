//! `si-rmimage`.

use anyhow::Context;
use serde_json::json;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::name::ImageRef;

/// Remove one version, or an image with all its versions
///
/// Chunks that nothing else needs stay until si-gc collects them. A version that is being sent to nodes is not removed.
/// The number of a removed version is not given again while the image exists.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image, with all its versions unless @V names one
    #[arg(value_name = "IMAGE[@V]")]
    image: ImageRef,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Say what would be removed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let failed = || format!("cannot remove {}", args.image);
    // Asking what would go finds out at the same time that it may.
    let planned = store.remove(&args.image, true).with_context(failed)?;
    let name = &args.image.name;
    let versions: Vec<_> = planned
        .iter()
        .map(|version| format!("{name}@{version}"))
        .collect();
    if !args.dry_run {
        let question = format!("remove {}?", versions.join(", "));
        if !console.confirm(&question, args.yes)? {
            console.say("nothing was removed");
            return Ok(Exit::Failed);
        }
        store.remove(&args.image, false).with_context(failed)?;
    }
    if console.json() {
        console.print_json(&json!({ "removed": versions, "dry_run": args.dry_run }))?;
    } else {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        for version in versions {
            console.line(format_args!("{verb} {version}"))?;
        }
    }
    Ok(Exit::Done)
}
