//! `si-fsck`.

use anyhow::Context;
use serde_json::json;
use simulcast_cli::{Console, Exit};
use simulcast_image::store::{Finding, fsck};
use simulcast_protocol::units::Bytes;

use crate::store::{parse_threads, threads};
use crate::text::count;

/// Prove that every version can be rebuilt
///
/// Every manifest's signature is checked, every chunk is read, opened and held against the hashes of the parts in it;
/// every record of every update pack is carried out.
/// Ends with 1 when something is wrong, and says which files of which version are lost by it. A new capture of the
/// image, whose machine still has those files, stores them again.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Threads that read [default: one for each processor]
    #[arg(long, value_name = "N", value_parser = parse_threads)]
    threads: Option<usize>,
}

pub(crate) fn run(args: Args, console: &Console) -> anyhow::Result<Exit> {
    let store = crate::store::open(console)?;
    let failed = || format!("cannot check the store {}", store.root().display());
    // What is removed meanwhile would be reported as lost.
    let _lock = store.lock_for_writing().with_context(failed)?;
    let report = fsck(&store, threads(args.threads)).with_context(failed)?;
    let sound = report.findings.is_empty();
    if console.json() {
        console.print_json(&json!({
            "sound": sound,
            "versions": report.versions,
            "packs": report.packs,
            "chunks": report.chunks,
            "bytes": report.bytes,
            "findings": report.findings,
        }))?;
    } else {
        for finding in &report.findings {
            console.line(line(finding))?;
        }
        console.line(format_args!(
            "{}, {}, {} ({}): {}",
            count(report.versions as u64, "version"),
            count(report.packs as u64, "update pack"),
            count(report.chunks as u64, "chunk"),
            Bytes(report.bytes),
            if sound {
                "all can be rebuilt".to_owned()
            } else {
                count(report.findings.len() as u64, "problem")
            }
        ))?;
    }
    Ok(if sound { Exit::Done } else { Exit::Failed })
}

fn line(finding: &Finding) -> String {
    let mut text = format!("{}: {}", finding.version, finding.problem);
    if finding.file_count > 0 {
        text.push_str(&format!(
            "; {} lost by it: {}",
            count(finding.file_count as u64, "file"),
            finding.files.join(", ")
        ));
    }
    if finding.file_count > finding.files.len() {
        text.push_str(", …");
    }
    text
}
