//! `si-cpimage`.

use anyhow::Context;
use serde::Serialize;
use simulcast_cli::{Console, Exit};
use simulcast_protocol::name::{ImageName, ImageRef};

/// Copy an image's newest version, or the one named, to a new image
///
/// The copy is the first version of the new image, with the same content and the same identity. It takes no further
/// space: both share their chunks. Earlier versions stay with the old image alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The image to copy; its newest version unless @V names one
    #[arg(value_name = "IMAGE[@V]")]
    from: ImageRef,

    /// Name of the new image
    #[arg(value_name = "NEW")]
    to: ImageName,
}

#[derive(Serialize)]
struct Copied {
    image: ImageName,
    version: simulcast_protocol::name::Version,
    id: simulcast_protocol::id::ManifestId,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let copy = store
        .copy(&args.from, &args.to)
        .with_context(|| format!("cannot copy {} to {}", args.from, args.to))?;
    if console.json() {
        console.print_json(&Copied {
            image: copy.image,
            version: copy.version,
            id: copy.signed.id,
        })?;
    } else {
        console.line(copy.reference())?;
    }
    Ok(Exit::Done)
}
