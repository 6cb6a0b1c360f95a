//! `si-prepareclient`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use simulcast_cli::{Console, Exit, Remark};
use simulcast_image::layout::Layout;
use simulcast_system::facts::MachineFacts;
use simulcast_system::machine::MACHINE_RECORD;

/// Make this machine ready to be captured as a golden client
///
/// Records its disks and firmware for the machines that will be built after it, and lets the image server in by ssh.
/// Nothing is started and nothing listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Let this ssh public key of the image server log in as root
    #[arg(long, value_name = "FILE")]
    authorize_key: Option<PathBuf>,

    /// Say what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Prepares the machine.
    pub(crate) fn run(self, console: &Console) -> anyhow::Result<Exit> {
        if !rustix::process::geteuid().is_root() {
            bail!("si-prepareclient must run as root: it records what is on the disks");
        }
        let key = self.authorize_key.as_deref().map(read_key).transpose()?;
        let record = console.options().config.join(MACHINE_RECORD);
        let facts = MachineFacts::read(Path::new("/")).context("cannot find out about this machine")?;
        let text = serde_json::to_string_pretty(&facts).context("cannot write down this machine's facts")?;
        if console.json() {
            console.print_json(&facts)?;
        }
        if self.dry_run {
            console.say(format_args!("would write {}", record.display()));
        } else {
            fs::create_dir_all(&console.options().config)
                .and_then(|()| fs::write(&record, text + "\n"))
                .with_context(|| format!("cannot write {}", record.display()))?;
            console.say(format_args!(
                "wrote {}: {} disks",
                record.display(),
                facts.disks.len()
            ));
        }
        say_layout(
            &serde_json::to_string(&facts).context("cannot write down this machine's facts")?,
            console,
        );
        if let Some(key) = key {
            authorize(console, &key, self.dry_run)?;
        }
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        if !Path::new("/usr/sbin/sshd").exists() {
            console.warn("no sshd is installed: the image server reaches a golden client by ssh");
        }
        console.say(format_args!("next, on the image server: si-getimage {host}"));
        Ok(Exit::Done)
    }
}

/// Says now what of these disks a node will not get, rather than when the first node is installed.
fn say_layout(record: &str, console: &Console) {
    match Layout::from_machine(record) {
        Ok(derived) => derived
            .notes
            .iter()
            .for_each(|note| console.say(format_args!("note: {note}"))),
        Err(error) => console.warn(format_args!("{:#}", anyhow::Error::new(error))),
    }
}

fn read_key(path: &Path) -> anyhow::Result<String> {
    let attempt = || format!("cannot use the public key {}", path.display());
    let text = fs::read_to_string(path).with_context(attempt)?;
    let key = text.trim().to_owned();
    let looks_right = key.lines().count() == 1
        && (key.starts_with("ssh-") || key.starts_with("ecdsa-") || key.starts_with("sk-"));
    if looks_right {
        return Ok(key);
    }
    Err(anyhow!("it is not one line that begins with ssh-, ecdsa- or sk-").context(attempt()))
        .exit(Exit::Usage)
        .hint("give the file that ends in .pub")
}

fn authorize(console: &Console, key: &str, dry_run: bool) -> anyhow::Result<()> {
    let path = Path::new("/root/.ssh/authorized_keys");
    let attempt = || format!("cannot let the key in by {}", path.display());
    let present = fs::read_to_string(path).unwrap_or_default();
    if present.lines().any(|line| line.trim() == key) {
        console.say(format_args!("{} has the key already", path.display()));
        return Ok(());
    }
    if dry_run {
        console.say(format_args!("would add the key to {}", path.display()));
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create("/root/.ssh")
        .with_context(attempt)?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .with_context(attempt)?;
    let gap = if present.is_empty() || present.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    file.write_all(format!("{gap}{key}\n").as_bytes())
        .with_context(attempt)?;
    console.say(format_args!("added the key to {}", path.display()));
    Ok(())
}
