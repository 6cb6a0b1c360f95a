//! dnsmasq as a child of the daemon: its configuration is written and checked, it is started again when it dies, it reads the
//! list of nodes again when that changes, and it ends with us.
//!
//! It is started through tokio, which reaps it. When the daemon itself was killed, the next one finds the dnsmasq that is
//! left by its process id and ends it, because two cannot listen on one port.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};
use simulcast_cli::{Exit, Remark};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::dhcp::{Places, Service, child};
use super::publish::{HOSTS, publish};
use super::service::{Booting, own_address};
use super::settings::Dhcp;
use super::{files, package, passable};

/// The program.
const DNSMASQ: &str = "dnsmasq";

/// Time before a dnsmasq that has died is started again, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Time that it gets to end by itself.
const GRACE: Duration = Duration::from_secs(3);

/// How often it is looked whether a mini-kernel was built anew.
const LOOK: Duration = Duration::from_secs(5);

/// Bytes of the longest line that it writes.
const LINE: u64 = 4 << 10;

/// Keeps what machines get by TFTP as it is decided, and dnsmasq running if it is wanted, until `closing` says so.
///
/// # Errors
/// When something is not as it must be to begin with: the address, the boot files, dnsmasq's own opinion.
pub(crate) async fn start(
    booting: Arc<Booting>,
    configuration: &Path,
    closing: watch::Receiver<bool>,
) -> Result<Option<tokio::task::JoinHandle<()>>> {
    let Some(address) = own_address(booting.settings())? else {
        return Ok(None);
    };
    let server = SocketAddr::new(address.into(), booting.port());
    let boot = package::directory(booting.state());
    fs::create_dir_all(&boot).with_context(|| format!("cannot make {}", boot.display()))?;
    publish(&booting, server)?;
    let supervised = match booting.settings().dhcp.clone() {
        Some(dhcp) => {
            let supervised = Supervised::new(&booting, &dhcp, address, configuration)?;
            supervised.check().await?;
            Some(supervised)
        }
        None => None,
    };
    Ok(Some(tokio::spawn(run(booting, server, supervised, closing))))
}

async fn run(
    booting: Arc<Booting>,
    server: SocketAddr,
    supervised: Option<Supervised>,
    mut closing: watch::Receiver<bool>,
) {
    let (reread, rereading) = watch::channel(());
    let child = async {
        match &supervised {
            Some(supervised) => supervised.keep(rereading).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(child);
    tokio::select! {
        () = &mut child => {}
        () = follow(&booting, server, &reread) => {}
        // When the sender is gone, the daemon is gone.
        _ = closing.wait_for(|closing| *closing) => {}
    }
    // Before the child is dropped, which kills it.
    if let Some(supervised) = &supervised {
        supervised.end_old().await;
    }
}

/// Writes what is decided whenever it changes.
async fn follow(booting: &Arc<Booting>, server: SocketAddr, reread: &watch::Sender<()>) {
    let mut last = seen(booting);
    loop {
        tokio::select! {
            () = booting.changed() => {}
            () = tokio::time::sleep(LOOK) => {
                let now = seen(booting);
                if now == last {
                    continue;
                }
                last = now;
            }
        }
        let work = Arc::clone(booting);
        let published = tokio::task::spawn_blocking(move || publish(&work, server)).await;
        match published.map_err(|error| anyhow!(error)).flatten() {
            Ok(true) => drop(reread.send(())),
            Ok(false) => {}
            Err(error) => tracing::error!(
                error = format!("{error:#}"),
                "machines that boot by TFTP get what was decided before"
            ),
        }
    }
}

/// What tells that a mini-kernel was built anew: when the records were written.
fn seen(booting: &Booting) -> Vec<(PathBuf, Option<std::time::SystemTime>)> {
    let boot = package::directory(booting.state());
    let nodes = booting.nodes();
    let mut names: Vec<_> = nodes.iter().filter_map(|node| node.package.clone()).collect();
    names.push(booting.settings().package.clone());
    names.sort();
    names.dedup();
    let records = names
        .iter()
        .map(|name| boot.join(name.to_string()).join(simulcast_bootpackage::RECORD));
    records
        .map(|path| {
            let written = fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
            (path, written)
        })
        .collect()
}

/// dnsmasq with its configuration.
#[derive(Debug)]
struct Supervised {
    configuration: PathBuf,
    pid: PathBuf,
}

impl Supervised {
    fn new(booting: &Booting, dhcp: &Dhcp, address: Ipv4Addr, from: &Path) -> Result<Self> {
        let boot = package::directory(booting.state());
        let there = files::there(booting.state());
        let settings = booting.settings();
        for file in [files::for_bios(settings.bios), files::for_uefi(settings.uefi)] {
            if !there.contains(&file) {
                return Err(anyhow!("the boot file {} is not in place", file.name()))
                    .exit(Exit::Usage)
                    .hint("run si-mkbootserver once; it says what is missing");
            }
        }
        passable::check(&files::directory(booting.state()), &there)?;
        let service = Service {
            dhcp,
            server: SocketAddr::new(address.into(), booting.port()),
            tftp: address,
            bios: settings.bios,
            uefi: settings.uefi,
            there: &there,
        };
        let this = Self {
            configuration: boot.join("dnsmasq.conf"),
            pid: boot.join("dnsmasq.pid"),
        };
        let text = child(
            &service,
            &Places {
                from,
                tftp: &files::directory(booting.state()),
                hosts: &boot.join(HOSTS),
                leases: &boot.join("leases"),
                pid: &this.pid,
            },
        );
        files::write(&this.configuration, text.as_bytes())?;
        Ok(this)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(DNSMASQ);
        command
            .arg(format!("--conf-file={}", self.configuration.display()))
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Asks dnsmasq what it thinks of its configuration.
    async fn check(&self) -> Result<()> {
        let checked = self.command().arg("--test").output().await;
        let output = checked
            .context("cannot start dnsmasq")
            .exit(Exit::Usage)
            .hint("install the package dnsmasq-base, or set [boot] mode = \"off\"")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            bail!("dnsmasq refuses {}: {said}", self.configuration.display());
        }
        Ok(())
    }

    /// Keeps it running; ends only with the task.
    async fn keep(&self, mut rereading: watch::Receiver<()>) {
        let mut pause = PAUSE.0;
        loop {
            self.end_old().await;
            let begun = Instant::now();
            let ended = match self.spawn() {
                Ok(child) => self.attend(child, &mut rereading).await,
                Err(error) => format!("{error:#}"),
            };
            if begun.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            tracing::error!(
                "dnsmasq has ended ({ended}): machines that start now do not boot; starting it again in {} s",
                pause.as_secs()
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = self.command();
        command.args(["--keep-in-foreground", "--log-facility=-"]);
        command.spawn().context("cannot start dnsmasq")
    }

    /// Passes on what it says and what it should do; returns how it ended.
    async fn attend(&self, mut child: Child, rereading: &mut watch::Receiver<()>) -> String {
        tracing::info!(pid = child.id(), "dnsmasq runs");
        let talk = child.stderr.take();
        let listening = async {
            if let Some(talk) = talk {
                listen(talk).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::pin!(listening);
        let id = child.id();
        loop {
            tokio::select! {
                ended = child.wait() => {
                    return ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                }
                () = &mut listening => {}
                Ok(()) = rereading.changed() => {
                    let sent = process(id).map(|pid| kill_process(pid, Signal::HUP));
                    if !matches!(sent, Some(Ok(()))) {
                        tracing::warn!("cannot tell dnsmasq to read the list of nodes again");
                    }
                }
            }
        }
    }

    /// Ends the dnsmasq that runs with this configuration, whoever started it.
    async fn end_old(&self) {
        let Some(pid) = self.running() else { return };
        // It may end at this very moment.
        kill_process(pid, Signal::TERM).ok();
        let begun = Instant::now();
        while self.running() == Some(pid) {
            if begun.elapsed() > GRACE {
                kill_process(pid, Signal::KILL).ok();
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The process that wrote its id into our file, if it is a dnsmasq with our configuration.
    fn running(&self) -> Option<Pid> {
        let text = fs::read_to_string(&self.pid).ok()?;
        let pid: i32 = text.trim().parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let ours = format!("--conf-file={}", self.configuration.display());
        let mut words = line.split(|&byte| byte == 0);
        let is_dnsmasq = words.next()?.ends_with(std::ffi::OsStr::new(DNSMASQ).as_bytes());
        (is_dnsmasq && words.any(|word| word == ours.as_bytes()))
            .then(|| Pid::from_raw(pid))
            .flatten()
    }
}

fn process(id: Option<u32>) -> Option<Pid> {
    Pid::from_raw(i32::try_from(id?).ok()?)
}

/// Puts its lines into our log: leases and files at the level of details, the rest as it is.
async fn listen(talk: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(talk);
    loop {
        let mut line = Vec::new();
        // A line that is longer is shown in pieces.
        match (&mut lines).take(LINE).read_until(b'\n', &mut line).await {
            Ok(1..) => say(&String::from_utf8_lossy(&line)),
            _ => return,
        }
    }
}

fn say(line: &str) {
    let text = line.trim_end();
    let text = text.split_once("]: ").map_or(text, |(_, text)| text);
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    // What it tells of a request: each option of each answer.
    let option = text.contains(" option:") || text.contains("requested options");
    let bad = [
        "failed",
        "error",
        "cannot",
        "refused",
        "no address available",
        "not found",
    ];
    if option {
        tracing::debug!("dnsmasq: {text}");
    } else if bad.iter().any(|word| text.contains(word)) {
        tracing::warn!("dnsmasq: {text}");
    } else if ["DHCPACK", "sent ", "started", "DHCP, IP range", "proxy"]
        .iter()
        .any(|word| text.contains(word))
    {
        tracing::info!("dnsmasq: {text}");
    } else {
        tracing::debug!("dnsmasq: {text}");
    }
}
