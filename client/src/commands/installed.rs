//! `si-installed`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_node::Record;
use simulcast_protocol::id::ManifestId;

/// Say which version was put on this machine last
///
/// It is what the last install or update noted, which is not to say that nobody changed anything since.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The tree
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Serialize)]
struct Installed {
    image: Option<String>,
    manifest: Option<ManifestId>,
}

impl Args {
    /// Says it.
    pub(crate) fn run(self, console: &Console) -> Result<Exit> {
        let root = std::fs::canonicalize(&self.root)
            .with_context(|| format!("cannot find the tree {}", self.root.display()))
            .exit(Exit::Usage)?;
        let record = Record::of(&console.options().state, &root).identified();
        let image = record
            .as_ref()
            .map(|(_, manifest)| format!("{}@{}", manifest.info.image, manifest.info.version));
        if console.json() {
            let manifest = record.map(|(id, _)| id);
            console.print_json(&Installed { image, manifest })?;
        } else {
            console.line(image.as_deref().unwrap_or("unknown"))?;
        }
        Ok(Exit::Done)
    }
}
