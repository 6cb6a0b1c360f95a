//! Which exclusion lists hold on this machine, in which order: command line, this machine's own, node, groups, image,
//! shipped. `docs/exclusion.md` tells of them.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::filter::{ExclusionList, Exclusions};
use simulcast_image::fs;
use simulcast_protocol::exclusion::NodeLists;
use simulcast_protocol::install::NodeName;

/// This machine's own list, in the configuration directory.
const OWN: &str = "exclude.d/local.exclude";

/// Exclusion lists of the command line, and for which node the server is asked for its own.
#[derive(Debug, clap::Args)]
pub(crate) struct ExclusionArgs {
    /// A line of an exclusion list, in rsync's filter language, asked before all lists; may be repeated
    #[arg(long, value_name = "RULE")]
    exclude: Vec<OsString>,

    /// An exclusion list, asked before those of this machine and of the server; may be repeated
    #[arg(long, value_name = "FILE")]
    exclude_from: Vec<PathBuf>,

    /// Do without the shipped exclusion lists
    #[arg(long)]
    no_default_excludes: bool,

    /// The node whose lists the server gives [default: the host name when the tree is /, else none]
    #[arg(long, value_name = "NAME")]
    node: Option<NodeName>,
}

impl ExclusionArgs {
    /// The node that the server is asked about.
    pub(crate) fn node(&self, root: &Path) -> Option<NodeName> {
        if self.node.is_some() || root != Path::new("/") {
            return self.node.clone();
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        host.split('.').next()?.to_ascii_lowercase().parse().ok()
    }

    /// All lists; `machine` is what this machine makes itself. Patterns of the command line that can match nothing in
    /// `directory` (empty for the whole tree) are refused.
    ///
    /// # Errors
    /// A list that cannot be read or has a line that is no rule: a usage error.
    pub(crate) fn layered(
        &self,
        directory: &[u8],
        from_server: &NodeLists,
        machine: Option<ExclusionList>,
        console: &Console,
    ) -> Result<Exclusions> {
        let mut lists = Vec::new();
        if !self.exclude.is_empty() {
            let lines: Vec<_> = self.exclude.iter().map(|line| line.as_bytes()).collect();
            let list = ExclusionList::parse(&lines.join(&b'\n'), "--exclude").exit(Exit::Usage)?;
            lists.push(Arc::new(list.within(directory).exit(Exit::Usage)?));
        }
        for path in &self.exclude_from {
            let list = ExclusionList::read(path).exit(Exit::Usage)?;
            lists.push(Arc::new(list.within(directory).exit(Exit::Usage)?));
        }
        let own = console.options().config.join(OWN);
        if own.try_exists().unwrap_or(true) {
            lists.push(Arc::new(ExclusionList::read(&own).exit(Exit::Usage)?));
        }
        let site = Exclusions::of(&from_server.lists).context("cannot use the server's exclusion lists")?;
        let mut shipped = Vec::new();
        if !self.no_default_excludes {
            shipped.extend(machine.map(Arc::new));
            shipped.push(Arc::new(ExclusionList::update_list()));
            shipped.push(Arc::new(ExclusionList::default_list()));
        }
        Ok(Exclusions::new(lists)
            .before(site)
            .before(Exclusions::new(shipped)))
    }
}

/// Says which line of which list decides about `path` in the tree at `root`.
///
/// # Errors
/// What is no path of the tree: a usage error.
pub(crate) fn explain(
    path: &std::ffi::OsStr,
    root: &Path,
    exclusions: &Exclusions,
    console: &Console,
) -> Result<Exit> {
    let bytes = path.as_bytes();
    let names = bytes.iter().position(|&byte| byte != b'/').unwrap_or(bytes.len());
    let below = root.join(std::ffi::OsStr::from_bytes(&bytes[names..]));
    let directory = std::fs::symlink_metadata(below).is_ok_and(|found| found.is_dir());
    let explained = exclusions
        .explain(bytes, directory)
        .with_context(|| format!("{} is no path from the root of the tree", fs::Shown(bytes)))
        .exit(Exit::Usage)?;
    if console.json() {
        console.print_json(&explained)?;
    } else {
        console.line(&explained)?;
    }
    Ok(Exit::Done)
}
