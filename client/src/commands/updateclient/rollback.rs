//! `si-updateclient --rollback`.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::fs;
use simulcast_image::update::Rollback;
use simulcast_node::Record;

use super::{Args, advise, boot};

/// Goes back to what was there before the last update.
pub(super) fn run(args: &Args, root: &Path, console: &Console) -> Result<Exit> {
    let attempt = || format!("cannot undo the last update of {}", root.display());
    let found = Rollback::find(fs::open_root(root).with_context(attempt)?);
    let Some(rollback) = found.map_err(advise).with_context(attempt)? else {
        return Err(anyhow!("no update of {} has kept anything", root.display()))
            .hint("si-updateclient --to NAME@V goes to an older version");
    };
    let summary = rollback.summary();
    if args.dry_run {
        if !console.json() {
            console.data(|out| {
                rollback
                    .steps()
                    .try_for_each(|(what, path)| writeln!(out, "{what:8} /{}", fs::Shown(path)))
            })?;
        }
    } else {
        let record = Record::of(&console.options().state, root);
        // Until all is back, nobody shall believe either version.
        record.restore(None)?;
        let report = rollback.apply().map_err(advise).with_context(attempt)?;
        record.restore(report.record.as_deref())?;
        for path in &report.stayed {
            console.warn(format_args!("{path} stays: it holds what was put there since"));
        }
        for (path, limitation) in &report.limited {
            console.warn(format_args!("{path}: {limitation}"));
        }
        if !args.no_bootloader {
            boot::refresh_menu(root, console).context("all files are back, but")?;
        }
    }
    if console.json() {
        let event = if args.dry_run { "plan" } else { "rolled_back" };
        console.print_json(&json!({
            "event": event, "restored": summary.restored, "metadata": summary.metadata, "removed": summary.removed,
            "interrupted": summary.interrupted,
        }))?;
    } else {
        let verb = if args.dry_run {
            "would go back"
        } else {
            "went back"
        };
        let which = if summary.interrupted {
            ", which was interrupted"
        } else {
            ""
        };
        console.say(format_args!(
            "{verb} to before the last update{which}: {} paths restored, {} with their metadata, {} removed",
            summary.restored, summary.metadata, summary.removed
        ));
    }
    if args.reboot && !args.dry_run {
        boot::restart(console)?;
    }
    Ok(Exit::Done)
}
