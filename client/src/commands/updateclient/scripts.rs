//! The site's scripts around an update: `scripts/pre-update.d` and `scripts/post-update.d` of the server.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Remark};
use simulcast_node::ServerArgs;
use simulcast_protocol::exclusion::{Script, UpdateScripts};
use simulcast_protocol::install::NodeName;
use simulcast_system::command::{Run, Tool};

use super::Aim;

/// How long one script may take.
const SCRIPT: Duration = Duration::from_secs(1800);

/// The scripts of one update, and what they are told.
pub(super) struct Scripts<'a> {
    scripts: UpdateScripts,
    place: PathBuf,
    environment: Vec<(&'static str, String)>,
    console: &'a Console,
}

impl<'a> Scripts<'a> {
    /// Asks the server for them.
    pub(super) fn fetch(
        server: &ServerArgs,
        aim: &Aim<'_>,
        node: Option<&NodeName>,
        console: &'a Console,
    ) -> Result<Self> {
        Ok(Self {
            scripts: server.update_scripts(aim.client)?,
            place: console.options().state.join("update-script"),
            environment: vec![
                ("SI_IMAGE", aim.image.name.to_string()),
                ("SI_VERSION", aim.version.to_string()),
                ("SI_ROOT", aim.root.display().to_string()),
                ("SI_NODE", node.map(ToString::to_string).unwrap_or_default()),
            ],
            console,
        })
    }

    /// Runs those that come first. When one fails, the update does not begin.
    pub(super) fn before(&self) -> Result<()> {
        self.run(&self.scripts.pre)
            .hint("nothing was changed: a script of scripts/pre-update.d on the image server refused")
    }

    /// Runs those that come last.
    pub(super) fn after(&self) -> Result<()> {
        self.run(&self.scripts.post)
    }

    fn run(&self, scripts: &[Script]) -> Result<()> {
        for script in scripts {
            let attempt = || format!("the script {} failed", script.name);
            let written = self
                .place
                .parent()
                .map_or(Ok(()), fs::create_dir_all)
                .and_then(|()| fs::write(&self.place, &script.text))
                .and_then(|()| fs::set_permissions(&self.place, fs::Permissions::from_mode(0o700)));
            written.with_context(|| format!("cannot write {}", self.place.display()))?;
            let run = Run::new(Tool::Own(self.place.clone())).timeout(SCRIPT);
            let run = self
                .environment
                .iter()
                .fold(run, |run, (name, value)| run.env(name, value));
            let ran = run.run();
            // The next one has the same place; the error of the script is the one that counts.
            drop(fs::remove_file(&self.place));
            let output = ran.with_context(attempt)?;
            let said = [output.stdout, output.stderr].concat();
            for line in String::from_utf8_lossy(&said).lines() {
                self.console
                    .say(format_args!("{}: {}", script.name, line.escape_debug()));
            }
        }
        Ok(())
    }
}
