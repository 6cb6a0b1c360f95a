//! A tree that `debootstrap` makes, for `si-import --debootstrap`.

#![expect(
    clippy::disallowed_methods,
    reason = "the runner of external programs is in the crate that touches disks, which the server does not link; debootstrap is the one program that is run here"
)]

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context, Result, anyhow, bail};
use simulcast_cli::{Console, Remark};

/// The name of a release.
#[derive(Debug, Clone)]
pub(super) struct Suite(String);

/// How a release is made.
#[derive(Debug, clap::Args)]
pub(super) struct Bootstrap {
    /// Where packages come from [default: as debootstrap has it]
    #[arg(long, value_name = "URL", requires = "debootstrap")]
    mirror: Option<String>,

    /// Further packages, separated by commas
    #[arg(long, value_name = "PACKAGES", requires = "debootstrap")]
    include: Option<String>,

    /// Which packages there are besides: minbase for the fewest
    #[arg(long, value_name = "VARIANT", requires = "debootstrap")]
    variant: Option<String>,
}

/// A tree that was made; removed when dropped.
#[derive(Debug)]
pub(super) struct Made {
    tree: PathBuf,
}

impl FromStr for Suite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let good = !text.is_empty()
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if good && !text.starts_with(['-', '.']) {
            Ok(Self(text.to_owned()))
        } else {
            Err("use the name of a release, as in trixie".to_owned())
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Bootstrap {
    /// Makes the tree below the directory `state`. What debootstrap mounts and starts meanwhile is gone with it.
    pub(super) fn make(&self, suite: &Suite, state: &Path, console: &Console) -> Result<Made> {
        if !rustix::process::geteuid().is_root() {
            bail!("debootstrap needs root");
        }
        let made = Made {
            tree: state.join(format!("debootstrap.{}", std::process::id())),
        };
        console.say(format_args!("debootstrap makes {suite}"));
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "debootstrap"]);
        for (option, value) in [("--include", &self.include), ("--variant", &self.variant)] {
            if let Some(value) = value {
                command.arg(format!("{option}={value}"));
            }
        }
        command.arg(&suite.0).arg(&made.tree).args(&self.mirror);
        let output = command
            .stdin(Stdio::null())
            .output()
            .context("cannot start unshare (util-linux)")?;
        if output.status.success() {
            return Ok(made);
        }
        // It says what it does on stdout, and errors there too.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(anyhow!(
            "debootstrap of {suite} failed ({}): {}",
            output.status,
            last.join("; ")
        ))
        .hint("is debootstrap installed, and does --mirror have the release?")
    }
}

impl Made {
    /// Where it is.
    pub(super) fn tree(&self) -> &Path {
        &self.tree
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.tree)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(tree = %self.tree.display(), %error, "cannot remove what debootstrap made");
        }
    }
}
