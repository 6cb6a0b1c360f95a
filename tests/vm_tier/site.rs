//! An image server in a namespace on a bridge, with boot files and a mini-kernel in place.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use simulcast_testkit::command::{command, run};
use simulcast_testkit::netns::{Namespace, Network, Snooping};
use simulcast_testkit::process::Process;
use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::{Run, lab_dir};
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::vm::{Flavour, package};

/// Longest that a program may take that does not emulate a machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Where machines reach the server.
pub(crate) const SERVER: &str = "10.77.0.1";

/// Whether this tier can run here.
pub(crate) fn can_run() -> bool {
    ready("vm", &[Feature::Root, Feature::Network, Feature::Vm])
}

/// The section of `server.toml` for a network in which we give the addresses.
pub(crate) fn dhcp(more: &str) -> String {
    section(&format!(
        "mode = \"dhcp\"\nrange = \"10.77.0.100-10.77.0.200\"\n{more}"
    ))
}

/// The section for a network in which somebody else does.
pub(crate) fn proxy(more: &str) -> String {
    section(&format!("mode = \"proxy\"\n{more}"))
}

fn section(more: &str) -> String {
    format!(
        "[boot]\ninterface = \"eth0\"\nnetwork = \"10.77.0.0/24\"\nkernel_args = \"console=ttyS0 no_timer_check\"\n{more}"
    )
}

/// The server's machine and its directories.
pub(crate) struct Site<'run> {
    pub(crate) network: Network<'run>,
    pub(crate) server: Namespace,
    pub(crate) state: PathBuf,
    config: PathBuf,
    programs: Programs,
}

impl<'run> Site<'run> {
    /// A bridge with a server on it that has this `server.toml` and boot files in place.
    pub(crate) fn new(run: &'run Run, settings: &str) -> Self {
        let network = Network::new(run, Snooping::Off).unwrap();
        let server = network.join("server", 1).unwrap();
        let (state, config) = (run.make_dir("state").unwrap(), run.make_dir("config").unwrap());
        let programs = Programs::new(None);
        programs
            .require(&["si-server", "si-mkbootserver", "si-mkbootpackage", "si-installer"])
            .unwrap();
        let site = Self {
            network,
            server,
            state,
            config,
            programs,
        };
        site.configure(settings);
        simulcast_testkit::command::run(&mut site.command("si-mkbootserver")).unwrap();
        site
    }

    /// Writes `server.toml`.
    pub(crate) fn configure(&self, settings: &str) {
        fs::write(self.config.join("server.toml"), settings).unwrap();
    }

    /// Gives it the mini-kernel of the small kernel, which is built once for these programs.
    pub(crate) fn with_package(self) -> Self {
        let built = mini_kernel(&self.programs);
        let place = self.state.join("boot/default");
        run(command("cp").arg("-r").arg(built).arg(place)).unwrap();
        self
    }

    /// A program on the server's machine, with the server's directories.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = self.server.command(self.programs.path(program).unwrap());
        command
            .arg("--state")
            .arg(&self.state)
            .arg("--config")
            .arg(&self.config);
        command
    }

    /// Starts the server, and waits until it is ready.
    pub(crate) fn start(&self, name: &str) -> Process {
        let mut command = self.command("si-server");
        command.env("SI_LOG", "info,si::boot=debug");
        let mut process = self.server.spawn(name, &mut command).unwrap();
        process
            .wait_until("the ready line", LIMIT, |process| {
                Ok(process.stdout().contains("ready on ").then_some(()))
            })
            .unwrap();
        process
    }

    /// What the server answers to a request of the path: status and body.
    pub(crate) fn get(&self, path: &str, options: &[&str]) -> (u16, String) {
        let mut curl = self.server.command("curl");
        curl.args(["-s", "-S", "--max-time", "20", "-w", "\n%{http_code}"])
            .args(options);
        curl.arg(format!("http://{SERVER}:9440{path}"));
        let text = simulcast_testkit::command::read(&mut curl).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

/// The directory of a mini-kernel that has these programs' installer, built where there is none yet.
fn mini_kernel(programs: &Programs) -> PathBuf {
    let (program, installer) = (
        programs.path("si-mkbootpackage").unwrap(),
        programs.path("si-installer").unwrap(),
    );
    let kernel = package(Flavour::Cloud).unwrap();
    let mut hasher = blake3::Hasher::new();
    for path in [&program, &installer] {
        hasher.update(&fs::read(path).unwrap());
    }
    hasher.update(kernel.file_name().unwrap().as_encoded_bytes());
    let name = format!("mini-kernel-{}", &hasher.finalize().to_hex()[..16]);
    let place = lab_dir().unwrap().join(name);
    if !place.exists() {
        // It appears as a whole, so that two processes that build it at once do not disturb each other.
        let mut build = command(program);
        build
            .arg("--output")
            .arg(&place)
            .arg("--from")
            .arg(&kernel)
            .args(["--level", "3"]);
        run(&mut build).unwrap();
    }
    place
}
