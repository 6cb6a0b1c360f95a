//! When something failed: word to server and console, a way in for the operator.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use simulcast_protocol::install::What;
use simulcast_system::command::{Run, Tool};

use super::reporter::Reporter;
use super::{RUN, network};

/// What PID 1 is to do when the installer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    Poweroff,
    /// Start the kernel that was loaded.
    Kexec,
    /// Wait, with shells on the consoles.
    Rescue,
}

const WORD: &str = "next";

impl Wish {
    fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
            Self::Kexec => "kexec",
            Self::Rescue => "rescue",
        }
    }

    /// What the installer left word to do; rescue when it left none.
    pub(crate) fn read() -> Self {
        let word = fs::read_to_string(Path::new(RUN).join(WORD)).unwrap_or_default();
        [Self::Reboot, Self::Poweroff, Self::Kexec]
            .into_iter()
            .find(|wish| wish.word() == word.trim())
            .unwrap_or(Self::Rescue)
    }
}

/// Leaves word for PID 1.
pub(super) fn leave_word(wish: Wish) -> Result<()> {
    let path = Path::new(RUN).join(WORD);
    fs::write(&path, wish.word()).with_context(|| format!("cannot write {}", path.display()))
}

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
    if let Err(error) = leave_word(Wish::Rescue) {
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
    if let Err(error) = crate::pid1::console_shell() {
        reporter.say(&format!("there is no shell: {error:#}"));
    }
}
