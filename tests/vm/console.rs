//! The serial console of a machine: QEMU logs it, and takes what is typed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context as _, Result};

use super::qmp::connect;
use crate::command;

/// The names of its log and its socket in the machine's directory.
pub(super) const LOG: &str = "console";
pub(super) const SOCKET: &str = "serial.socket";

/// A serial console.
#[derive(Debug)]
pub(super) struct Console {
    dir: PathBuf,
    /// Bytes of the text that were passed by.
    passed: usize,
    /// Where is typed, once something was. QEMU takes a few characters at a time, and forgets the rest when it is closed.
    keys: Option<UnixStream>,
}

impl Console {
    /// The console of the machine in `dir`, from now on: what it showed before it was switched on is passed by.
    pub(super) fn new(dir: &Path) -> Self {
        let mut console = Self {
            dir: dir.to_owned(),
            passed: 0,
            keys: None,
        };
        console.passed = console.text().len();
        console
    }

    /// All text.
    pub(super) fn text(&self) -> String {
        // Before the first byte there is no log.
        let bytes = fs::read(self.dir.join(LOG)).unwrap_or_default();
        plain(&String::from_utf8_lossy(&bytes))
    }

    /// Whether `text` was shown beyond what was passed; then everything up to its end is passed too.
    pub(super) fn pass(&mut self, text: &str) -> bool {
        let all = self.text();
        let Some(at) = all.get(self.passed..).and_then(|ahead| ahead.find(text)) else {
            return false;
        };
        self.passed += at + text.len();
        true
    }

    /// Whether `text` was shown beyond what was passed.
    pub(super) fn ahead(&self, text: &str) -> bool {
        self.all_ahead().contains(text)
    }

    /// What was shown beyond what was passed.
    pub(super) fn all_ahead(&self) -> String {
        self.text().get(self.passed..).unwrap_or_default().to_owned()
    }

    /// The last lines, for messages.
    pub(super) fn tail(&self, lines: usize) -> String {
        let text = self.text();
        format!(
            "\n--- console, last lines ---\n{}",
            command::tail(text.trim_end(), lines)
        )
    }

    /// Types.
    pub(super) fn type_text(&mut self, text: &str) -> Result<()> {
        let keys = match &mut self.keys {
            Some(keys) => keys,
            none => none.insert(keyboard(&self.dir)?),
        };
        keys.write_all(text.replace('\n', "\r").as_bytes())
            .context("type on the console")
    }
}

/// Connects to the socket. What the console shows comes out of it too, and is taken until QEMU ends, so that QEMU does not wait.
fn keyboard(dir: &Path) -> Result<UnixStream> {
    let socket = connect(dir, SOCKET)?;
    let mut shown = socket.try_clone().context("share the console's socket")?;
    thread::spawn(move || io::copy(&mut shown, &mut io::sink()));
    Ok(socket)
}

/// Text without escape sequences (ECMA-48, 5.4) and control characters other than line ends; boot loaders colour and move
/// about. A sequence that is cut short at the end is left out, so that a longer text begins with a shorter one.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\x1b' => match chars.next() {
                Some('[') => drop(chars.by_ref().find(|c| ('@'..='~').contains(c))),
                // Other sequences have one more character, or one and a final one.
                Some(' '..='/') => drop(chars.next()),
                _ => {}
            },
            '\n' => out.push('\n'),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Run;

    #[test]
    fn escape_sequences_are_no_text() {
        assert_eq!(
            plain("\x1b[2J\x1b[0;36mhttp\x1b[?7l://x\r\n\x1b(By\x07"),
            "http://x\ny"
        );
        assert_eq!(plain("a\x1b[0;3"), "a");
    }

    #[test]
    fn what_was_passed_is_not_seen_again() {
        let run = Run::start("console").unwrap();
        let log = run.dir().join(LOG);
        fs::write(&log, "login: ").unwrap();
        let mut console = Console::new(run.dir());
        assert!(!console.pass("login: "));
        fs::write(&log, "login: x\nlogin: y\nlogin: ").unwrap();
        assert!(
            console.ahead("y\n")
                && console.pass("login: ")
                && console.pass("login: ")
                && !console.pass("login: ")
        );
        assert!(console.tail(2).ends_with("login: y\nlogin:"));
    }
}
