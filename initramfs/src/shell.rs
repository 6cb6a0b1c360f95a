//! Programs that have the console to themselves: the installer, and shells.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

/// A program that nothing is collected of.
#[expect(
    clippy::disallowed_methods,
    reason = "the runner collects what a program says; these talk to whoever is at the console"
)]
pub(crate) fn with_console(program: &str) -> Command {
    Command::new(program)
}

/// A shell on the console, until it is left.
pub(crate) fn console_shell() -> Result<()> {
    let open = || OpenOptions::new().read(true).write(true).open("/dev/console");
    let console = open().context("cannot open /dev/console")?;
    let (out, talk) = (console.try_clone()?, console.try_clone()?);
    // With the terminal behind the console as its own, so that Ctrl-C ends what runs in it.
    let mut shell = with_console("/bin/busybox");
    shell
        .args(["setsid", "cttyhack", "/bin/sh", "-i"])
        .stdin(Stdio::from(console))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(talk));
    shell.status().context("cannot start /bin/sh")?;
    Ok(())
}
