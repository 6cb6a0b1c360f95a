//! When something failed: word to server and console, a way in for the operator.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use simulcast_protocol::install::What;
use simulcast_system::command::{Run, Tool};

use super::network;
use super::reporter::Reporter;
use crate::wish::Wish;

/// Tells everybody that a step failed for good, and opens the ways in. It does not fail itself: what it cannot do, it says.
pub(super) fn failed(reporter: &Reporter, step: &str, text: &str) {
    reporter.say(&format!("\nerror: {step} failed: {text}"));
    let ways = match open_ssh(&reporter.keys()) {
        Ok(ways) => ways,
        Err(error) => {
            reporter.say(&format!("no rescue by ssh: {error:#}"));
            Vec::new()
        }
    };
    reporter.say(&way_in(
        "This machine is not installed, and waits. What happened is in the log on the image server (si-node log NODE).",
        &ways,
    ));
    reporter.tell(step, What::Failed, text);
    if !reporter.finish() {
        reporter.say("the server does not know it yet: it cannot be reached");
    }
    if let Err(error) = Wish::Rescue.leave() {
        reporter.say(&format!("{error:#}"));
    }
}

/// What an operator is told who may want to look at the machine, and to go on.
pub(super) fn way_in(what: &str, ways: &[String]) -> String {
    let ways: String = ways.iter().map(|way| format!(", or by {way}")).collect();
    format!(
        "\n{what}\nLook around in the shell here{ways}; to have it installed, say si-install NODE on the image server, and reboot -f \
         here.\n"
    )
}

/// Starts the ssh server of the mini-kernel for whoever has one of these keys; the commands with which they come in.
pub(super) fn open_ssh(keys: &[String]) -> Result<Vec<String>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create("/root/.ssh")?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create("/etc/dropbear")?;
    let path = Path::new("/root/.ssh/authorized_keys");
    fs::write(path, keys.join("\n") + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    // -R makes host keys, -s and -g forbid passwords; it goes on in the background.
    Run::new(Tool::Dropbear)
        .args(["-R", "-s", "-g"])
        .run()
        .context("cannot start dropbear")?;
    let addresses = network::addresses()?;
    Ok(addresses
        .iter()
        .map(|address| format!("ssh root@{address}"))
        .collect())
}

/// A shell on the console in the middle of an install, until it is left.
pub(super) fn shell(reporter: &Reporter, text: &str) {
    reporter.say(text);
    if let Err(error) = crate::shell::console_shell() {
        reporter.say(&format!("there is no shell: {error:#}"));
    }
}
