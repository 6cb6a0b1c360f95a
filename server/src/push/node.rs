//! One node: what it runs, and how it is told to update itself.

use std::io::{BufRead, Read};

use anyhow::{Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use simulcast_cli::Console;
use simulcast_protocol::api::Token;
use simulcast_protocol::id::ManifestId;
use simulcast_protocol::install::NodeName;
use simulcast_protocol::name::ImageRef;

use super::Ways;
use crate::golden::{Golden, NO_AGENT};
use crate::remote::{self, USAGE};

/// Bytes of a line that a node may say: the report at the end names what its file systems could not hold.
const LINE_BYTES: u64 = 1 << 20;

/// Bytes that a node may say in all: a line for each step of its progress.
const TALK_BYTES: u64 = 64 << 20;

/// Characters of an error that are kept.
const ERROR_CHARS: usize = 2000;

/// How nodes are reached.
pub(crate) struct Remote<'a> {
    pub(crate) console: &'a Console,
    pub(crate) token: Token,
    pub(crate) preamble: String,
    /// The key that the nodes pin.
    pub(crate) key: String,
    pub(crate) ways: &'a Ways,
}

/// What a node runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    /// The version, as the node was told when it got it.
    pub(crate) image: Option<String>,
    /// Its identity; `None` when nobody knows what is installed.
    pub(crate) manifest: Option<ManifestId>,
}

/// What a node's update came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Updated {
    pub(crate) written: u64,
    pub(crate) deleted: u64,
    pub(crate) bytes_multicast: u64,
    pub(crate) bytes_http: u64,
    pub(crate) bytes_pack: u64,
    pub(crate) bytes_delta: u64,
    pub(crate) seconds: f64,
}

/// What became of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// It has not had its turn.
    Pending,
    /// It was told to, and nobody knows what came of it: this side was interrupted.
    Running,
    /// It has the version.
    Done(Updated),
    /// It had the version already.
    Already,
    /// It could not be reached.
    Down { error: String },
    /// It could not be updated.
    Failed { error: String },
}

impl Outcome {
    /// Whether the node has the version.
    pub(crate) fn is_well(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Already)
    }
}

impl Remote<'_> {
    /// Asks a node what it runs; an outcome instead when it cannot be asked.
    pub(crate) fn ask(&self, name: &NodeName) -> Result<Running, Outcome> {
        let failed = |error: anyhow::Error| Outcome::Failed {
            error: short(&format!("{error:#}")),
        };
        let node = Golden::new(name.as_str()).map_err(failed)?;
        let root = quoted(&self.ways.root);
        let command = format!("exec \"$si\" installed --json --root {root}");
        let script = format!("{}{command}", self.preamble);
        let mut said = self.run(&node, &script).map_err(failed)?;
        if matches!(said.code, Some(NO_AGENT | USAGE)) {
            let with = remote::equip(&node, self.console).map_err(failed)?;
            said = self.run(&node, &format!("{with}{script}")).map_err(failed)?;
        }
        match serde_json::from_str(&said.last) {
            Ok(running) => Ok(running),
            Err(_) if said.unreachable => Err(Outcome::Down {
                error: short(&said.error),
            }),
            Err(_) => Err(Outcome::Failed {
                error: short(&said.error),
            }),
        }
    }

    /// Has a node update itself to `image`, with the pack that is made for the versions `pack`.
    pub(crate) fn update(&self, name: &NodeName, image: &ImageRef, pack: Option<ManifestId>) -> Outcome {
        match self.try_update(name, image, pack) {
            Ok(updated) => Outcome::Done(updated),
            Err(error) => Outcome::Failed {
                error: short(&format!("{error:#}")),
            },
        }
    }

    fn try_update(&self, name: &NodeName, image: &ImageRef, pack: Option<ManifestId>) -> Result<Updated> {
        let node = Golden::new(name.as_str())?;
        let Ways {
            root,
            transport,
            timeout,
            ..
        } = self.ways;
        let mut command = format!(
            "\"$si\" updateclient --json --server \"$s\" --server-key {} --to {image} --transport {transport} --root {}",
            self.key,
            quoted(root),
        );
        match pack {
            _ if !self.ways.pack => command.push_str(" --no-pack"),
            Some(from) => command.push_str(&format!(" --pack-from {from}")),
            None => {}
        }
        if self.ways.force {
            command.push_str(" --force");
        }
        let script = format!(
            "{}t=; if command -v timeout >/dev/null 2>&1; then t='timeout -k 10 {timeout}'; fi; exec $t {command}",
            self.preamble
        );
        let said = self.run(&node, &script)?;
        let event: serde_json::Value = serde_json::from_str(&said.last).unwrap_or_default();
        if said.code == Some(0) && event["event"] == "done" {
            return Ok(serde_json::from_value(event)?);
        }
        if said.code == Some(124) {
            bail!("it did not end within {timeout} s");
        }
        Err(anyhow!(said.error))
    }

    /// Runs a script and keeps the last line that it prints.
    fn run(&self, node: &Golden, script: &str) -> Result<Said> {
        let (agent, (from, to)) = remote::start(node, &self.token, script)?;
        let mut from = from.take(TALK_BYTES);
        let (mut last, mut line) = (String::new(), Vec::new());
        loop {
            line.clear();
            match from.by_ref().take(LINE_BYTES).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => break,
                Ok(_) => last = String::from_utf8_lossy(&line).into_owned(),
            }
        }
        drop((from, to));
        let ended = agent.end()?;
        let error = match ended.check(node.host()) {
            Ok(()) => "it did not say what came of it".to_owned(),
            Err(error) => complaint(&ended.talk).unwrap_or_else(|| format!("{error:#}")),
        };
        Ok(Said {
            last,
            code: ended.code,
            unreachable: ended.unreachable(),
            error,
        })
    }
}

/// What a script on a node said.
struct Said {
    last: String,
    code: Option<i32>,
    unreachable: bool,
    error: String,
}

/// The error that our program printed, without its hint; `None` when it printed none.
fn complaint(talk: &str) -> Option<String> {
    let error = talk.lines().rev().find_map(|line| line.strip_prefix("error: "));
    error.map(str::to_owned)
}

/// An error that a terminal shows as it is.
fn short(error: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    error.trim().chars().take(ERROR_CHARS).map(shown).collect()
}

/// A word for a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_complains_of_is_its_last_error() {
        let talk = "warning: x\nerror: cannot update /: no space\nhint: make room";
        assert_eq!(complaint(talk).as_deref(), Some("cannot update /: no space"));
        assert_eq!(complaint("Connection closed"), None);
        assert_eq!(short(" a\u{1b}[31mb\n"), "a [31mb");
    }

    #[test]
    fn words_reach_the_shell_as_they_are() {
        assert_eq!(quoted("/srv/it's"), "'/srv/it'\\''s'");
    }
}
