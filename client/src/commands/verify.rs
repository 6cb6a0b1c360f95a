//! `si-verify` on a machine.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use serde::Serialize;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::filter::Side;
use simulcast_image::fs;
use simulcast_image::manifest::Manifest;
use simulcast_image::verify::{VerifyOptions, VerifyReport, verify};
use simulcast_node::{Record, ServerArgs};
use simulcast_protocol::exclusion::NodeLists;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::name::ImageRef;

use super::updateclient::boot::made_here;
use crate::exclusions::ExclusionArgs;
use crate::mounted::closed;

/// Compare this machine with its version, outside what the exclusion lists protect
///
/// Which version that is, and what the server protects here, is known since the last install or update; no server is
/// needed. Exit code 0 when all is as it should be, 1 when it is not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,

    /// Compare with this version, which the server is asked for
    #[arg(long, value_name = "NAME[@V]")]
    image: Option<ImageRef>,

    /// The tree to look at
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,

    #[command(flatten)]
    exclusions: ExclusionArgs,

    /// Read every file, instead of trusting length and time
    #[arg(long)]
    checksum: bool,

    /// Answer only if this is the version that the machine has: the identity of its manifest
    #[arg(long, value_name = "ID")]
    manifest: Option<ManifestId>,
}

/// The answer with `--json`. `si-verify NODES` on the server reads it.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    event: &'static str,
    image: String,
    manifest: ManifestId,
    checksum: bool,
    #[serde(flatten)]
    report: &'a VerifyReport,
}

impl Args {
    /// Compares.
    pub(crate) fn run(self, console: &Console) -> Result<Exit> {
        let root = std::fs::canonicalize(&self.root)
            .with_context(|| format!("cannot find the tree {}", self.root.display()))
            .exit(Exit::Usage)?;
        let attempt = || format!("cannot verify {}", root.display());
        let (id, manifest, lists) = self.version(&root, console).with_context(attempt)?;
        if let Some(expected) = self.manifest.filter(|expected| *expected != id) {
            return Err(anyhow!(
                "this machine has the version with the manifest {id}, not {expected}"
            ))
            .with_context(attempt)
            .hint("si-updateclient brings it to another version");
        }
        let exclusions = self
            .exclusions
            .layered(b"", &lists, made_here(&manifest, &root), console)?;
        let protects =
            |side: Side, path: &[u8], directory: bool| exclusions.decide(side, path, directory).excluded;
        let options = VerifyOptions {
            protects: &protects,
            closed: &closed(&root),
            checksum: self.checksum,
            strict: true,
        };
        let tree = fs::open_root(&root).with_context(attempt)?;
        let report = verify(&manifest, tree, &options).with_context(attempt)?;
        let info = &manifest.info;
        let image = format!("{}@{}", info.image, info.version);
        let exit = if report.drifted == 0 {
            Exit::Done
        } else {
            Exit::Failed
        };
        if console.json() {
            console.print_json(&Answer {
                event: "verified",
                image,
                manifest: id,
                checksum: self.checksum,
                report: &report,
            })?;
            return Ok(exit);
        }
        console.data(|out| {
            report
                .paths
                .iter()
                .try_for_each(|drifted| writeln!(out, "{:8} {}", drifted.drift.word(), drifted.path))
        })?;
        let more = report.drifted - report.paths.len() as u64;
        if more > 0 {
            console.say(format_args!("and {more} more"));
        }
        console.say(format_args!(
            "{} of {} paths are not as {image} has them",
            report.drifted, report.checked
        ));
        Ok(exit)
    }

    /// The version that is compared with, its identity, and the server's lists.
    fn version(
        &self,
        root: &std::path::Path,
        console: &Console,
    ) -> Result<(ManifestId, Manifest, NodeLists)> {
        let Some(image) = &self.image else {
            let record = Record::of(&console.options().state, root);
            let known = record.identified();
            let (id, manifest) = known
                .context("nobody knows which version this machine has")
                .hint("an install or update writes it down; or say --server URL --image NAME@V")?;
            return Ok((id, manifest, record.lists()));
        };
        let client = self.server.client(console)?;
        let node = self.exclusions.node(root);
        let lists = self.server.exclusions(&client, image, node.as_ref(), console)?;
        let (_, signed) = self.server.manifest(&client, image, console)?;
        Ok((signed.id, signed.manifest, lists))
    }
}
