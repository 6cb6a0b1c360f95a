//! `si-installer run`: everything from a started mini-kernel to an installed node.
//!
//! What is done is a list of [`step`](mod@step)s; this module walks it, times each step, tries again what may be tried
//! again, and tells the image server. Each step's work stands in a module of its own.

mod boot_loader;
mod chroot;
mod demands;
mod describe;
mod efi;
mod extras;
mod facts;
mod finish;
mod job;
mod kernels;
#[cfg(test)]
mod loop_tests;
mod network;
mod receive;
mod reporter;
mod rescue;
pub(crate) mod step;
mod storage;
mod systemd_boot;
mod up;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use simulcast_cli::{Console, Exit};
use simulcast_image::layout::{DiskFacts, Plan};
use simulcast_image::manifest::SignedManifest;
use simulcast_image::order::{Finish, Order};
use simulcast_protocol::install::cmdline::CommandLine;
use simulcast_protocol::install::{Action, Hello, What};
use simulcast_protocol::units::Bytes;
use simulcast_transport::http::Client;

pub(crate) use describe::describe;
pub(crate) use facts::{disks, firmware};
pub(crate) use job::{plan, resumes};

use reporter::Reporter;
use step::Step;
use watch::Watch;

use crate::wish::{RUN, Wish};

/// Where the new system is mounted while it is made.
const TARGET: &str = "/mnt";

/// Install this machine as the image server says
///
/// Runs in the mini-kernel, started by PID 1; what it needs to know stands on the kernel command line.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Read this instead of the kernel's command line
    #[arg(long, value_name = "FILE", default_value = "/proc/cmdline")]
    cmdline: PathBuf,
}

/// What is known so far.
#[derive(Debug)]
struct Job {
    line: CommandLine,
    reporter: Arc<Reporter>,
    target: PathBuf,
    firmware: simulcast_image::layout::Firmware,
    hello: Option<Hello>,
    action: Option<Action>,
    client: Option<Client>,
    token: Option<simulcast_protocol::api::Token>,
    order: Option<Order>,
    signed: Option<SignedManifest>,
    disks: Vec<DiskFacts>,
    plan: Option<Plan>,
    resumes: bool,
    /// Giving to peers what has come.
    helping: simulcast_node::Helping,
    /// The image's own fstab, before the node's replaced it.
    image_fstab: Option<String>,
    /// The initramfs would wait for a swap that is not there.
    no_resume: bool,
}

/// Why a step did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It may succeed if it is tried again.
    Passing(anyhow::Error),
    /// It will not: somebody has to decide or repair something.
    Final(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Passing(error.into())
    }
}

pub(crate) type Done = Result<(), Failure>;

/// Installs the machine, and leaves word for PID 1 what is to follow.
///
/// # Errors
/// None that is not told to the server too: the machine then waits in rescue.
pub(crate) fn run(args: &Args, console: &Console) -> Result<Exit> {
    std::fs::create_dir_all(RUN).with_context(|| format!("cannot make {RUN}"))?;
    let reporter = Arc::new(Reporter::default());
    let text = std::fs::read_to_string(&args.cmdline)
        .with_context(|| format!("cannot read {}", args.cmdline.display()))?;
    let line = match command_line(&text) {
        Ok(line) => line,
        Err(error) => {
            reporter.say(&format!("error: {error}"));
            Wish::Rescue.leave()?;
            return Ok(Exit::Failed);
        }
    };
    let mut job = Job::new(line, Arc::clone(&reporter), PathBuf::from(TARGET));
    match job.all(console) {
        Ok(wish) => {
            wish.leave()?;
            Ok(Exit::Done)
        }
        Err((step, error)) => {
            rescue::failed(&reporter, step.name(), &format!("{error:#}"));
            Ok(Exit::Failed)
        }
    }
}

/// What the kernel command line says; a slip of the pen in it is an error, because it may be one in what forbids something.
fn command_line(text: &str) -> Result<CommandLine, String> {
    let line = CommandLine::parse(text).map_err(|error| error.to_string())?;
    match &line.break_at {
        Some(name) if !Step::is_name(name.as_str()) => Err(format!(
            "si.break={name}: there is no step of this name; the steps are {}",
            Step::names().join(", ")
        )),
        _ => Ok(line),
    }
}

impl Job {
    fn new(line: CommandLine, reporter: Arc<Reporter>, target: PathBuf) -> Self {
        Self {
            line,
            reporter,
            target,
            firmware: facts::firmware(),
            hello: None,
            action: None,
            client: None,
            token: None,
            order: None,
            signed: None,
            disks: Vec::new(),
            plan: None,
            resumes: false,
            helping: simulcast_node::Helping::default(),
            image_fstab: None,
            no_resume: false,
        }
    }

    /// Does everything; what is to follow.
    fn all(&mut self, console: &Console) -> Result<Wish, (Step, anyhow::Error)> {
        let watch = Watch::start(Arc::clone(&self.reporter));
        if self.line.rescue {
            self.each(&[Step::Modules, Step::Network], &watch, console)?;
            self.wait_for_operator();
            return Ok(Wish::Rescue);
        }
        self.each(&step::FIRST, &watch, console)?;
        match self.action {
            Some(Action::Install) => {}
            Some(Action::Local) => return Ok(Wish::Reboot),
            Some(Action::Rescue) | None => {
                self.wait_for_operator();
                return Ok(Wish::Rescue);
            }
        }
        self.each(&step::BEFORE_DISKS, &watch, console)?;
        let steps = match (&self.order, &self.plan) {
            (Some(order), Some(plan)) => step::install(order, plan, self.resumes),
            _ => return Err((Step::Disks, anyhow!("there is neither order nor plan"))),
        };
        self.each(&steps, &watch, console)?;
        let wish = match self.order.as_ref().map(|order| order.finish).unwrap_or_default() {
            Finish::Reboot => Wish::Reboot,
            Finish::Kexec => Wish::Kexec,
            Finish::Poweroff => Wish::Poweroff,
            Finish::Shell => Wish::Rescue,
        };
        let memory = facts::peak_memory().map(|bytes| format!(", with at most {} of memory", Bytes(bytes)));
        self.reporter
            .say(&format!("installed{}", memory.unwrap_or_default()));
        self.reporter.tell(Step::Unmount.name(), What::Finished, "");
        if !self.reporter.finish() {
            self.reporter.say(
                "warning: the server does not know yet that this node is installed; it cannot be reached",
            );
        }
        Ok(wish)
    }

    /// The machine is to let the operator in; whose keys open it, the order says.
    fn wait_for_operator(&mut self) {
        let opened = self.rescue_keys().and_then(|keys| rescue::open_ssh(&keys));
        let ways = opened.unwrap_or_else(|error| {
            self.reporter.say(&format!("no rescue by ssh: {error:#}"));
            Vec::new()
        });
        self.reporter
            .say(&rescue::way_in("This machine waits in rescue.", &ways));
    }

    fn each(
        &mut self,
        steps: &[Step],
        watch: &Watch,
        console: &Console,
    ) -> Result<(), (Step, anyhow::Error)> {
        for &step in steps {
            if self
                .line
                .break_at
                .as_ref()
                .is_some_and(|name| name.as_str() == step.name())
            {
                rescue::shell(
                    &self.reporter,
                    &format!("stopped before {step}: leave the shell to go on"),
                );
            }
            self.one(step, watch, console).map_err(|error| (step, error))?;
        }
        Ok(())
    }

    fn one(&mut self, step: Step, watch: &Watch, console: &Console) -> Result<()> {
        let begun = Instant::now();
        self.reporter.say(&format!("{step}: {}", step.text()));
        self.reporter.tell(step.name(), What::Began, "");
        let mut tried = 1;
        loop {
            watch.expect(step, step.timeout());
            let done = self.work(step, console);
            watch.relax();
            let error = match done {
                Ok(()) => break,
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) if tried >= step.tries() => return Err(error),
                Err(Failure::Passing(error)) => error,
            };
            let pause = Step::pause(tried);
            let text = format!("{error:#}");
            self.reporter
                .say(&format!("{step}: {text}; trying again in {} s", pause.as_secs()));
            self.reporter.tell(step.name(), What::Retrying, &text);
            std::thread::sleep(pause);
            tried += 1;
        }
        let seconds = begun.elapsed().as_secs_f32();
        self.reporter.say(&format!("{step}: done in {seconds:.1} s"));
        self.reporter
            .tell(step.name(), What::Done, &format!("{seconds:.1} s"));
        Ok(())
    }

    fn work(&mut self, step: Step, console: &Console) -> Done {
        match step {
            Step::Modules => facts::load_modules(&self.reporter),
            Step::Network => network::set_up(&self.line, &self.reporter),
            Step::Hello => self.greet(),
            Step::Order => self.fetch_order(),
            Step::Disks => self.choose_disks(),
            Step::PreInstall => extras::pre_install(self),
            Step::Erase => {
                simulcast_system::storage::stop_all()?;
                storage::erase(self.plan()?)
            }
            Step::Partition => storage::partition(self.plan()?, self.known_order()?),
            Step::Raid => {
                storage::raid(self.plan()?, self.known_order()?)?;
                storage::postpone_copying(self.plan()?, &self.reporter);
                Ok(())
            }
            Step::Lvm => storage::volumes(self.plan()?),
            Step::Format => storage::format(self.plan()?, self.known_order()?),
            Step::Assemble => {
                storage::assemble(self.plan()?)?;
                storage::postpone_copying(self.plan()?, &self.reporter);
                Ok(())
            }
            Step::Mount => storage::mount(self.plan()?, self.manifest()?, &self.target),
            Step::Receive => receive::receive(self, console),
            Step::Verify => receive::verify(self),
            Step::Fstab => finish::fstab(self),
            Step::Identity => finish::identity(self),
            Step::NetworkFiles => finish::network(self),
            Step::Overrides => extras::overrides(self),
            Step::PostInstall => extras::post_install(self),
            Step::Initramfs => finish::initramfs(self),
            Step::BootLoader => boot_loader::install(self),
            Step::Unmount => {
                // What is kept for peers may lie on the disk.
                self.helping.end();
                boot_loader::load_kexec(self)?;
                storage::unmount(self.plan()?, self.known_order()?, &self.target)?;
                storage::tell_copying(self.plan()?, &self.reporter);
                // So that they start clean; an array that is still copying goes on where it was.
                Ok(simulcast_system::storage::stop_all()?)
            }
        }
    }
}
