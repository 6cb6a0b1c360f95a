//! The golden client as the image server reaches it: over ssh, with the agent at the other end.
//!
//! Nothing listens on the golden client but its sshd, and the keys are the site's own. When the client has no agent, or
//! one that speaks another protocol, ours is copied over once.

#![expect(
    clippy::disallowed_methods,
    reason = "the runner of external programs is in the crate that touches disks, which the server does not link; ssh is the one program that it runs"
)]

mod script;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::JoinHandle;

use anyhow::{Context, anyhow, bail};

use script::{AgentPlace, HOOK_FAILED, NO_SNAPSHOT};

pub(crate) use script::{SNAPSHOT, Surroundings};

/// Where our agent is kept on a golden client that has none installed. The default exclusion list leaves it out.
pub(crate) const PLACE: &str = "/var/lib/simulcast/agent";

/// What the remote shell says when there is no agent.
pub(crate) const NO_AGENT: i32 = 127;

/// What ssh says when it could not connect.
const NO_CONNECTION: i32 = 255;

/// Bytes that are collected between us and ssh.
const BUFFER: usize = 256 << 10;

/// Last bytes of what ssh and the agent say on stderr that are kept for an error.
const TALK_BYTES: usize = 4 << 10;

/// How a golden client is reached.
#[derive(Debug)]
pub(crate) struct Golden {
    host: String,
    ssh: Vec<OsString>,
}

/// An agent that runs on the golden client.
#[derive(Debug)]
pub(crate) struct Agent {
    child: Child,
    talk: JoinHandle<Vec<u8>>,
}

/// The streams to and from an agent.
pub(crate) type Streams = (BufReader<ChildStdout>, BufWriter<ChildStdin>);

/// How an agent ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code, or ssh's.
    pub(crate) code: Option<i32>,
    /// The end of what it said on stderr.
    pub(crate) talk: String,
}

impl Golden {
    /// The golden client `host`, as ssh knows it. `SI_SSH` replaces the command `ssh`, arguments included.
    pub(crate) fn new(host: &str) -> anyhow::Result<Self> {
        if host.is_empty()
            || host.starts_with('-')
            || host.chars().any(|c| c.is_whitespace() || c.is_control())
        {
            bail!("{host:?} is no host name");
        }
        let ssh = std::env::var("SI_SSH").unwrap_or_else(|_| "ssh".to_owned());
        let mut ssh: Vec<OsString> = ssh.split_whitespace().map(OsString::from).collect();
        // Nobody is there to answer a question; a golden client that is down is noticed.
        for option in ["BatchMode=yes", "ConnectTimeout=15", "ServerAliveInterval=15"] {
            ssh.extend(["-o".into(), option.into()]);
        }
        Ok(Self {
            host: host.to_owned(),
            ssh,
        })
    }

    /// Starts the installed agent, or the one that we copied earlier.
    pub(crate) fn start(&self, surroundings: &Surroundings) -> anyhow::Result<(Agent, Streams)> {
        self.run(&surroundings.script(AgentPlace::Installed))
    }

    /// Starts the agent that we copied.
    pub(crate) fn start_copied(&self, surroundings: &Surroundings) -> anyhow::Result<(Agent, Streams)> {
        self.run(&surroundings.script(AgentPlace::Copied))
    }

    /// Copies our agent over. It replaces an older one of ours.
    pub(crate) fn copy_agent(&self, program: &Path) -> anyhow::Result<()> {
        let attempt = || format!("cannot copy the agent {} to {}", program.display(), self.host);
        let mut file = File::open(program).with_context(attempt)?;
        let (agent, (_, mut to)) = self.run(&format!(
            "umask 077; mkdir -p {PLACE} && cat >{PLACE}/.new && chmod 755 {PLACE}/.new && mv {PLACE}/.new {PLACE}/si-client"
        ))?;
        let copied = io::copy(&mut file, &mut to).and_then(|_| io::Write::flush(&mut to));
        drop(to);
        let ended = agent.end()?;
        ended.check(&self.host).with_context(attempt)?;
        copied.map(drop).with_context(attempt)
    }

    /// The host's name.
    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Runs a script in the shell of the machine.
    pub(crate) fn run(&self, script: &str) -> anyhow::Result<(Agent, Streams)> {
        let mut command = Command::new(&self.ssh[0]);
        command.args(&self.ssh[1..]).arg("--").arg(&self.host).arg(script);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.ssh[0].display()))?;
        let (to, from) = child
            .stdin
            .take()
            .zip(child.stdout.take())
            .context("ssh has no pipes")?;
        let stderr = child.stderr.take().context("ssh has no pipes")?;
        let talk = std::thread::spawn(move || keep_end(stderr));
        let streams = (
            BufReader::with_capacity(BUFFER, from),
            BufWriter::with_capacity(BUFFER, to),
        );
        Ok((Agent { child, talk }, streams))
    }
}

impl Agent {
    /// Waits for the end. The streams must be closed, else the agent may wait for us.
    pub(crate) fn end(mut self) -> anyhow::Result<Ended> {
        let status = self.child.wait().context("cannot wait for ssh")?;
        let talk = self
            .talk
            .join()
            .map_err(|_| anyhow!("the thread that reads what ssh says failed"))?;
        Ok(Ended {
            code: status.code(),
            talk: String::from_utf8_lossy(&talk).trim().to_owned(),
        })
    }

    /// Ends it now.
    pub(crate) fn stop(mut self) -> anyhow::Result<Ended> {
        // It may have ended by itself meanwhile.
        drop(self.child.kill());
        self.end()
    }
}

impl Ended {
    /// Whether there was no agent to start.
    pub(crate) fn no_agent(&self) -> bool {
        self.code == Some(NO_AGENT)
    }

    /// Whether ssh could not connect, or lost the connection.
    pub(crate) fn unreachable(&self) -> bool {
        self.code == Some(NO_CONNECTION)
    }

    /// An error that says what went wrong, unless all went well.
    pub(crate) fn check(&self, host: &str) -> anyhow::Result<()> {
        match self.code {
            Some(0) => Ok(()),
            Some(NO_CONNECTION) => Err(anyhow!("cannot reach {host} by ssh: {}", self.talk)),
            Some(HOOK_FAILED) => Err(anyhow!(
                "a script before the capture failed on {host}: {}",
                self.talk
            )),
            Some(NO_SNAPSHOT) => Err(anyhow!("there is no snapshot on {host}: {}", self.talk)),
            Some(code) => Err(anyhow!(
                "the agent on {host} ended with exit code {code}: {}",
                self.talk
            )),
            None => Err(anyhow!("ssh to {host} was ended by a signal: {}", self.talk)),
        }
    }
}

/// Our own agent: beside this program, or where `SI_AGENT` says.
pub(crate) fn agent_program() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os("SI_AGENT") {
        return Ok(path.into());
    }
    let program = std::env::current_exe().context("cannot find out where this program lies")?;
    let beside = program.with_file_name("si-client");
    if beside.exists() {
        return Ok(beside);
    }
    Err(anyhow!(
        "there is no si-client beside {} to copy to the golden client",
        program.display()
    ))
}

/// Reads everything and keeps the end.
fn keep_end(mut from: impl Read) -> Vec<u8> {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        kept.drain(..kept.len().saturating_sub(TALK_BYTES));
    }
    kept
}
