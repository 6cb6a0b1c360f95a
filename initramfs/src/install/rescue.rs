//! When something failed: word to server and console, a way in for the operator.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};
use simulcast_protocol::install::What;
use simulcast_system::command::{Run, Tool};

use super::RUN;
use super::reporter::Reporter;

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
    let keys = reporter.keys();
    reporter.say(&format!("\nerror: {step} failed: {text}"));
    if let Err(error) = open_ssh(&keys) {
        reporter.say(&format!("no rescue by ssh: {error:#}"));
    }
    reporter.say(&format!(
        "\nThis machine is not installed, and waits. What happened is in the log on the image server (si-node log NODE).\n\
         Look around in the shell here{}; then restart with: reboot -f\n",
        if keys.is_empty() { "" } else { " or by ssh as root" }
    ));
    reporter.tell(step, What::Failed, text);
    if !reporter.finish() {
        reporter.say("the server does not know it yet: it cannot be reached");
    }
    if let Err(error) = leave_word(Wish::Rescue) {
        reporter.say(&format!("{error:#}"));
    }
}

/// Starts the ssh server of the mini-kernel for whoever has one of these keys.
pub(super) fn open_ssh(keys: &[String]) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
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
    Ok(())
}

/// A shell on the console in the middle of an install, until it is left.
pub(super) fn shell(reporter: &Reporter, text: &str) {
    reporter.say(text);
    if let Err(error) = crate::pid1::console_shell() {
        reporter.say(&format!("there is no shell: {error:#}"));
    }
}
