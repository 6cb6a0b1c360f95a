//! `si-mvimage`.

use anyhow::Context;
use serde_json::json;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::name::ImageName;

/// Give an image another name, with all its versions
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image
    #[arg(value_name = "IMAGE")]
    from: ImageName,

    /// Its new name
    #[arg(value_name = "NEW")]
    to: ImageName,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    store
        .rename(&args.from, &args.to)
        .with_context(|| format!("cannot rename {} to {}", args.from, args.to))?;
    if console.json() {
        console.print_json(&json!({ "image": args.to, "was": args.from }))?;
    } else {
        console.line(&args.to)?;
    }
    Ok(Exit::Done)
}
