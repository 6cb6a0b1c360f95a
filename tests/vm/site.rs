//! An image server in a namespace on a bridge, with boot files and a mini-kernel in place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::{Flavour, package};
use crate::command::{command, read, run};
use crate::netns::{Namespace, Network, Snooping};
use crate::process::Process;
use crate::programs::Programs;
use crate::run::{Run, lab_dir};

/// Longest that a program may take that does not emulate a machine.
pub const LIMIT: Duration = Duration::from_secs(120);

/// Where machines reach the server.
pub const SERVER: &str = "10.77.0.1";

/// The port that it listens on.
pub const PORT: u16 = 9440;

/// The section of `server.toml` for a network in which we give the addresses.
pub fn dhcp(more: &str) -> String {
    section(&format!(
        "mode = \"dhcp\"\nrange = \"10.77.0.100-10.77.0.200\"\n{more}"
    ))
}

/// The section for a network in which somebody else does.
pub fn proxy(more: &str) -> String {
    section(&format!("mode = \"proxy\"\n{more}"))
}

fn section(more: &str) -> String {
    format!(
        "[boot]\ninterface = \"eth0\"\nnetwork = \"10.77.0.0/24\"\nkernel_args = \"console=ttyS0 no_timer_check\"\n{more}"
    )
}

/// A DHCP server that is not ours, on a machine of its own, and knows nothing of booting.
///
/// # Errors
/// When dnsmasq cannot be started.
pub fn foreign_dhcp(run: &Run, network: &Network<'_>) -> Result<Process> {
    let foreign = network.join("foreign", 2)?;
    let mut dnsmasq = foreign.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--port=0",
        "--bind-interfaces",
        "--interface=eth0",
        "--no-ping",
        "--conf-file=/dev/null",
        "--dhcp-range=10.77.0.50,10.77.0.60,1h",
        "--log-facility=-",
    ]);
    let leases = run.dir().join("foreign-leases");
    dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
    foreign.spawn("dnsmasq", &mut dnsmasq)
}

/// A router that says it is there, as in a site with IPv6. Without one iPXE waits for it, 13 seconds each time.
///
/// # Errors
/// When dnsmasq cannot be started.
fn router(run: &Run, network: &Network<'_>) -> Result<Process> {
    let router = network.join("router", 3)?;
    let mut dnsmasq = router.command("dnsmasq");
    dnsmasq.args([
        "--keep-in-foreground",
        "--port=0",
        "--interface=eth0",
        "--conf-file=/dev/null",
        "--enable-ra",
        "--dhcp-range=fd77::,ra-only,64",
        "--log-facility=-",
    ]);
    let leases = run.dir().join("router-leases");
    dnsmasq.arg(format!("--dhcp-leasefile={}", leases.display()));
    router.spawn("dnsmasq", &mut dnsmasq)
}

/// The server's machine and its directories.
#[derive(Debug)]
pub struct Site<'run> {
    // Ends with the site.
    _router: Process,
    /// The bridge.
    pub network: Network<'run>,
    /// The server's machine.
    pub server: Namespace,
    /// The server's state directory.
    pub state: PathBuf,
    /// The server's configuration directory.
    pub config: PathBuf,
    programs: Programs,
}

impl<'run> Site<'run> {
    /// A bridge with a server on it that has this `server.toml` and boot files in place.
    ///
    /// # Errors
    /// When the programs were not built, or the boot files cannot be put in place.
    pub fn new(run: &'run Run, programs: Programs, settings: &str) -> Result<Self> {
        programs.require(&["si-server", "si-mkbootserver", "si-mkbootpackage", "si-installer"])?;
        let network = Network::new(run, Snooping::Off)?;
        let server = network.join("server", 1)?;
        let (state, config) = (run.make_dir("state")?, run.make_dir("config")?);
        let site = Self {
            _router: router(run, &network)?,
            network,
            server,
            state,
            config,
            programs,
        };
        site.configure(settings)?;
        site.operate("si-mkbootserver", &[])?;
        Ok(site)
    }

    /// Writes `server.toml`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&self, settings: &str) -> Result<()> {
        fs::write(self.config.join("server.toml"), settings).context("write server.toml")
    }

    /// Gives it the mini-kernel of the small kernel, which is built once for these programs.
    ///
    /// # Errors
    /// When it cannot be built or copied.
    pub fn with_package(self) -> Result<Self> {
        let built = mini_kernel(&self.programs)?;
        let place = self.state.join("boot/default");
        run(command("cp").arg("-r").arg(built).arg(place))?;
        Ok(self)
    }

    /// The programs that it runs.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// A program on the server's machine, with the server's directories.
    ///
    /// # Errors
    /// When it was not built.
    pub fn command(&self, program: &str) -> Result<Command> {
        let mut command = self.server.command(self.programs.path(program)?);
        command
            .arg("--state")
            .arg(&self.state)
            .arg("--config")
            .arg(&self.config);
        Ok(command)
    }

    /// Runs an operator's command to its end; what it wrote to stdout.
    ///
    /// # Errors
    /// When it fails.
    pub fn operate(&self, program: &str, args: &[&str]) -> Result<String> {
        read(self.command(program)?.args(args))
    }

    /// Starts the server, and waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready in time.
    pub fn start(&self, name: &str) -> Result<Process> {
        let mut command = self.command("si-server")?;
        command.env("SI_LOG", "info,si::boot=debug");
        let mut process = self.server.spawn(name, &mut command)?;
        process.wait_until("the ready line", LIMIT, |process| {
            Ok(process.stdout().contains("ready on ").then_some(()))
        })?;
        Ok(process)
    }

    /// What the server answers to a request of the path: status and body.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, path: &str, options: &[&str]) -> Result<(u16, String)> {
        let mut curl = self.server.command("curl");
        curl.args(["-s", "-S", "--max-time", "20", "-w", "\n%{http_code}"])
            .args(options);
        curl.arg(format!("http://{SERVER}:{PORT}{path}"));
        let text = read(&mut curl)?;
        let (body, status) = text.rsplit_once('\n').context("curl says no status")?;
        Ok((status.parse().context("read the status")?, body.to_owned()))
    }
}

/// Where something is kept that was made by these programs from this: made anew when one of them changes.
///
/// # Errors
/// When a program cannot be read.
pub fn cached(what: &str, programs: &[&Path], from: &str) -> Result<PathBuf> {
    let mut hasher = blake3::Hasher::new();
    for path in programs {
        hasher.update(&fs::read(path).with_context(|| format!("read {}", path.display()))?);
    }
    hasher.update(from.as_bytes());
    Ok(lab_dir()?.join(format!("{what}-{}", &hasher.finalize().to_hex()[..16])))
}

/// The directory of a mini-kernel that has these programs' installer, built where there is none yet.
fn mini_kernel(programs: &Programs) -> Result<PathBuf> {
    let (program, installer) = (programs.path("si-mkbootpackage")?, programs.path("si-installer")?);
    let kernel = package(Flavour::Cloud)?;
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let place = cached("mini-kernel", &[&program, &installer], &name)?;
    if !place.exists() {
        // It appears as a whole, so that two processes that build it at once do not disturb each other.
        let mut build = command(program);
        build
            .arg("--output")
            .arg(&place)
            .arg("--from")
            .arg(&kernel)
            .args(["--level", "3"]);
        run(&mut build)?;
    }
    Ok(place)
}
