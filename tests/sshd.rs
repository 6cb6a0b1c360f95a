//! A golden client that is reached over real ssh: sshd of its own tree, keys made by the laboratory.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::{command, run};
use crate::machine::command_in;
use crate::netns::Namespace;
use crate::process::Process;
use crate::run::Run;

/// How long sshd may take to listen on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(30);

/// The operator's side: a key pair and the ssh configuration under which golden clients are known by name.
#[derive(Debug)]
pub struct Operator {
    dir: PathBuf,
}

impl Operator {
    /// Makes the key pair and an empty configuration in the run's directory.
    ///
    /// # Errors
    /// When `ssh-keygen` fails, or the directory's path has white space, which `SI_SSH` could not carry.
    pub fn new(run_of: &Run) -> Result<Self> {
        let dir = run_of.make_dir("ssh")?;
        let text = dir.to_string_lossy();
        ensure!(
            !text.contains(char::is_whitespace),
            "{text:?} has white space, which SI_SSH cannot carry"
        );
        make_key(&dir.join("key"), "operator")?;
        fs::write(dir.join("config"), "").context("create ssh configuration")?;
        Ok(Self { dir })
    }

    /// The ssh command line under which every golden client is reached by its name: the value for `SI_SSH`.
    pub fn ssh(&self) -> String {
        format!("ssh -F {}", self.config().display())
    }

    /// The configuration file, for `ssh -F`.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// An ssh command to a machine whose host key nobody can know, because it has just made it.
    pub fn to_stranger(&self, namespace: &Namespace, address: &str) -> Command {
        let mut ssh = namespace.command("ssh");
        ssh.args(["-F", "/dev/null", "-i"]).arg(self.dir.join("key"));
        for option in [
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "BatchMode=yes",
            "ConnectTimeout=20",
            "LogLevel=ERROR",
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg(format!("root@{address}"));
        ssh
    }

    /// The public key, as it stands in a list of those who may come in.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn public_key(&self) -> Result<String> {
        fs::read_to_string(self.dir.join("key.pub")).context("read the operator's public key")
    }

    fn know(&self, name: &str, address: &str, host_key: &str) -> Result<()> {
        let (key, known) = (self.dir.join("key"), self.dir.join("known_hosts"));
        append(&known, 0o600, &format!("{name},{address} {host_key}\n"))?;
        let entry = format!(
            "Host {name} {address}\n  HostName {address}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             UserKnownHostsFile {}\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n  BatchMode yes\n  \
             ConnectTimeout 10\n",
            key.display(),
            known.display()
        );
        append(&self.config(), 0o600, &entry)
    }
}

/// Makes the tree a machine that `operator` may log in to as root by the namespace's name, and runs its sshd in the
/// namespace. The host key and the authorised key are part of the tree, as on any machine. The returned process is
/// the machine: killed, all that was started through it is gone.
///
/// # Errors
/// When the tree has no sshd, or it does not listen in time; with its log.
pub fn start(namespace: &Namespace, tree: &Path, operator: &Operator) -> Result<Process> {
    let host_key = replace_host_keys(tree, namespace.name())?;
    authorise(tree, &operator.public_key()?)?;
    operator.know(namespace.name(), namespace.address(), &host_key)?;
    let mut sshd = command_in(tree, namespace.name(), Some(namespace), &[]);
    // /run is empty as after a restart; on a full system systemd makes this directory.
    sshd.args(["sh", "-c", "mkdir -m 755 /run/sshd && exec /usr/sbin/sshd -D -e"]);
    let mut process = namespace.spawn("sshd", &mut sshd)?;
    process.wait_until("sshd to listen", START_LIMIT, |p| {
        Ok(p.stderr()
            .contains("Server listening on 0.0.0.0 port 22")
            .then_some(()))
    })?;
    Ok(process)
}

/// Gives the tree an Ed25519 host key of its own instead of those that came with it; returns the public one.
fn replace_host_keys(tree: &Path, name: &str) -> Result<String> {
    let dir = tree.join("etc/ssh");
    for entry in fs::read_dir(&dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry.with_context(|| format!("list {}", dir.display()))?.path();
        if path
            .file_name()
            .is_some_and(|n| n.to_string_lossy().starts_with("ssh_host_"))
        {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
    }
    let key = dir.join("ssh_host_ed25519_key");
    make_key(&key, &format!("root@{name}"))?;
    let public = key.with_extension("pub");
    let text = fs::read_to_string(&public).with_context(|| format!("read {}", public.display()))?;
    Ok(text.trim_end().to_owned())
}

fn authorise(tree: &Path, public_key: &str) -> Result<()> {
    let dir = tree.join("root/.ssh");
    if !dir.is_dir() {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&dir)
            .with_context(|| format!("create {}", dir.display()))?;
    }
    append(&dir.join("authorized_keys"), 0o600, public_key)
}

fn make_key(path: &Path, comment: &str) -> Result<()> {
    run(command("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", comment, "-f"])
        .arg(path))?;
    Ok(())
}

fn append(path: &Path, mode: u32, text: &str) -> Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.append(true).create(true).mode(mode).open(path);
    file.and_then(|mut f| f.write_all(text.as_bytes()))
        .with_context(|| format!("write to {}", path.display()))
}
