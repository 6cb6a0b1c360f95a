//! The monitor of QEMU: one JSON object a line (QEMU Machine Protocol).

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

/// The name of its socket in the machine's directory.
pub(super) const SOCKET: &str = "monitor.socket";

/// How long QEMU may take to answer: its loop waits for the emulation now and then.
const ANSWER: Duration = Duration::from_secs(20);

/// A connection to the monitor; QEMU takes one at a time.
#[derive(Debug)]
pub struct Monitor {
    to: UnixStream,
    from: BufReader<UnixStream>,
}

/// Connects to a socket in a directory. The path of a socket has at most 108 bytes, and directories of runs may have more,
/// so it is named through a descriptor of the directory.
pub(super) fn connect(dir: &Path, name: &str) -> Result<UnixStream> {
    let open = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
    let path = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    UnixStream::connect(path).with_context(|| format!("connect to {name} of {}", dir.display()))
}

impl Monitor {
    /// Connects to the monitor of the machine in `dir`.
    pub(super) fn connect(dir: &Path) -> Result<Self> {
        let to = connect(dir, SOCKET)?;
        to.set_read_timeout(Some(ANSWER))
            .context("bound the monitor's answers")?;
        let from = BufReader::new(to.try_clone().context("share the monitor's socket")?);
        let mut monitor = Self { to, from };
        let greeting = monitor.read()?;
        if greeting.get("QMP").is_none() {
            bail!("the monitor greets with {greeting}");
        }
        monitor.execute("qmp_capabilities")?;
        Ok(monitor)
    }

    /// Has a command executed, and returns what it returns.
    ///
    /// # Errors
    /// When QEMU has ended, does not answer, or refuses the command.
    pub fn execute(&mut self, name: &str) -> Result<Value> {
        self.execute_with(name, &json!({}))
    }

    /// Has a command executed with arguments, and returns what it returns.
    ///
    /// # Errors
    /// As [`Monitor::execute`].
    pub fn execute_with(&mut self, name: &str, arguments: &Value) -> Result<Value> {
        let line = format!("{}\n", json!({ "execute": name, "arguments": arguments }));
        self.to
            .write_all(line.as_bytes())
            .with_context(|| format!("tell the monitor to {name}"))?;
        loop {
            let mut answer = self.read()?;
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
            if let Some(error) = answer.get("error") {
                bail!("the monitor refuses {name}: {error}");
            }
            // Everything else is an event.
        }
    }

    fn read(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.from.read_line(&mut line).context("read from the monitor")?;
        if read == 0 {
            bail!("the monitor has closed");
        }
        serde_json::from_str(&line).with_context(|| format!("understand the monitor: {line}"))
    }
}
