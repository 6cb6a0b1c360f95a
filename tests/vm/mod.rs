//! Machines as QEMU runs them: with real firmware, disks and a network card on a bridge of the laboratory, without
//! hardware virtualisation, which few test machines have.
//!
//! A [`Machine`] is what stands in the rack: firmware with its settings, disks, a card. Switched on it is a [`Vm`]: a QEMU with
//! a serial console that is logged and can be typed on, and a monitor. Dropping a `Vm` cuts its power; what was written to
//! its disks stays. As emulation is slow, tests take turns ([`Turn`]).

mod console;
mod disk;
mod kernel;
mod qmp;
pub mod site;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use rustix::fs::{FlockOperation, flock};

pub use self::disk::{Bus, Disk};
pub use self::kernel::{Flavour, package};
pub use self::qmp::Monitor;
use crate::command::{command, run};
use crate::netns::Network;
use crate::process::{self, Process};
use crate::run::{Run, lab_dir};
use console::Console;

/// The emulator.
const QEMU: &str = "qemu-system-x86_64";

/// Longest name of a machine: its port on the bridge is an interface, whose name has at most 15 bytes.
const NAME_BYTES: usize = 11;

/// Where Debian has UEFI: the code, and its settings as they are in a new machine.
const OVMF: (&str, &str) = (
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.fd",
);

/// Time for QEMU to open its monitor.
const START: Duration = Duration::from_secs(20);

/// Lines of the console that an error shows.
const CONSOLE_LINES: usize = 40;

/// What a kernel says when it gives up.
const PANIC: &str = "Kernel panic";

/// The firmware of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF, without Secure Boot.
    Uefi,
}

/// A network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// virtio, with QEMU's boot ROM, which is iPXE.
    Virtio,
    /// virtio, without a boot ROM: only UEFI boots from it, by its own driver.
    VirtioBare,
    /// The same, and the firmware boots from it by HTTP alone, not by PXE.
    VirtioHttp,
    /// Intel e1000, with the boot ROM.
    E1000,
}

/// A machine that can be switched on.
#[derive(Debug)]
pub struct Machine {
    name: String,
    dir: PathBuf,
    switch: String,
    port: String,
    mac: String,
    memory: u32,
    firmware: Firmware,
    card: Card,
    disks: Vec<Disk>,
    direct: Option<Direct>,
}

/// A kernel that QEMU itself loads.
#[derive(Debug)]
struct Direct {
    kernel: PathBuf,
    initrd: PathBuf,
    line: String,
}

impl Machine {
    /// A machine with a BIOS, a virtio card and 768 MiB of memory, plugged into the bridge of `network`. Its card's address
    /// ends in `number`.
    ///
    /// # Errors
    /// When the name is taken or too long, or the kernel refuses a tap device.
    pub fn new(run: &Run, network: &Network<'_>, name: &str, number: u8) -> Result<Self> {
        if name.len() > NAME_BYTES {
            bail!("{name} is too long for the name of a machine");
        }
        let dir = run.make_dir(&format!("vm/{name}"))?;
        let (switch, port) = (network.switch().to_owned(), format!("vm-{name}"));
        plug(&switch, &port).with_context(|| format!("plug {name} in"))?;
        Ok(Self {
            name: name.to_owned(),
            dir,
            switch,
            port,
            mac: format!("52:54:00:77:00:{number:02x}"),
            memory: 768,
            firmware: Firmware::Bios,
            card: Card::Virtio,
            disks: Vec::new(),
            direct: None,
        })
    }

    /// Its memory in MiB.
    #[must_use]
    pub fn memory(mut self, mib: u32) -> Self {
        self.memory = mib;
        self
    }

    /// Its firmware.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// Its network card.
    #[must_use]
    pub fn card(mut self, card: Card) -> Self {
        self.card = card;
        self
    }

    /// A further disk, empty.
    ///
    /// # Errors
    /// When its file cannot be made.
    pub fn disk(mut self, bus: Bus, mib: u64) -> Result<Self> {
        let path = self.dir.join(format!("disk{}", self.disks.len()));
        self.disks.push(Disk::new(path, bus, mib)?);
        Ok(self)
    }

    /// Lets QEMU load a kernel, without firmware asking the network: quicker, where booting is not what is tested.
    #[must_use]
    pub fn direct(mut self, kernel: &Path, initrd: &Path, line: &str) -> Self {
        self.direct = Some(Direct {
            kernel: kernel.to_owned(),
            initrd: initrd.to_owned(),
            line: line.to_owned(),
        });
        self
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address of its card, as in `52:54:00:77:00:0b`.
    pub fn mac(&self) -> &str {
        &self.mac
    }

    /// Its disks, in the order in which they were added.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Switches it on. It boots from the network first, then from its disks.
    ///
    /// # Errors
    /// When QEMU or the firmware is not installed, or does not start.
    pub fn power_on(&self) -> Result<Vm> {
        let mut qemu = command("ip");
        qemu.args(["netns", "exec", &self.switch, "nice", "-n", "10", QEMU])
            .current_dir(&self.dir);
        qemu.args(self.arguments()?);
        let begun = Instant::now();
        let process = process::spawn(&format!("vm-{}", self.name), &mut qemu, &self.dir)?;
        let mut vm = Vm {
            console: Console::new(&self.dir),
            dir: self.dir.clone(),
            process,
            begun,
        };
        let dir = self.dir.clone();
        let monitor =
            vm.process
                .wait_until("the monitor of QEMU", START, |_| Ok(Monitor::connect(&dir).ok()));
        drop(monitor?);
        Ok(vm)
    }

    fn arguments(&self) -> Result<Vec<String>> {
        let mut all: Vec<String> = Vec::new();
        let mut add = |words: &str| all.extend(words.split(' ').map(str::to_owned));
        add(
            "-accel tcg -machine q35,graphics=off -cpu max -smp 1 -display none -nodefaults -no-user-config -rtc base=utc",
        );
        add(&format!("-m {} -name {}", self.memory, self.name));
        // The seed of the installed system's keys: without it they wait for entropy.
        add("-device virtio-rng-pci");
        add(&format!("-qmp unix:{},server=on,wait=off", qmp::SOCKET));
        add(&format!(
            "-chardev socket,id=serial,path={},server=on,wait=off,logfile={},logappend=on -serial chardev:serial",
            console::SOCKET,
            console::LOG
        ));
        if self.firmware == Firmware::Uefi {
            let settings = self.dir.join("uefi-settings");
            if !settings.exists() {
                fs::copy(OVMF.1, &settings).with_context(|| format!("copy {}", OVMF.1))?;
            }
            add(&format!(
                "-drive if=pflash,unit=0,format=raw,readonly=on,file={}",
                OVMF.0
            ));
            add("-drive if=pflash,unit=1,format=raw,file=uefi-settings");
        }
        let (model, rom) = match self.card {
            Card::Virtio => ("virtio-net-pci", ""),
            Card::VirtioBare | Card::VirtioHttp => ("virtio-net-pci", ",romfile="),
            Card::E1000 => ("e1000", ""),
        };
        if self.card == Card::VirtioHttp {
            for protocol in ["IPv4", "IPv6"] {
                add(&format!(
                    "-fw_cfg name=opt/org.tianocore/{protocol}PXESupport,string=no"
                ));
            }
        }
        add(&format!(
            "-netdev tap,id=net,ifname={},script=no,downscript=no",
            self.port
        ));
        add(&format!(
            "-device {model},netdev=net,mac={},bootindex=0{rom}",
            self.mac
        ));
        for (number, disk) in (1..).zip(&self.disks) {
            add(&disk.arguments(number));
        }
        if let Some(direct) = &self.direct {
            for (option, value) in [
                ("-kernel", direct.kernel.display().to_string()),
                ("-initrd", direct.initrd.display().to_string()),
                ("-append", direct.line.clone()),
            ] {
                all.extend([option.to_owned(), value]);
            }
        }
        Ok(all)
    }
}

/// Makes a port on the bridge for a virtual card. Its queue is long: QEMU takes packets in bursts when it gets its turn.
fn plug(switch: &str, port: &str) -> Result<()> {
    for words in [
        format!("tuntap add dev {port} mode tap"),
        format!("link set dev {port} txqueuelen 10000 master br0 up"),
    ] {
        run(command("ip")
            .args(["netns", "exec", switch, "ip"])
            .args(words.split(' ')))?;
    }
    Ok(())
}

/// A machine that is switched on.
#[derive(Debug)]
pub struct Vm {
    process: Process,
    console: Console,
    dir: PathBuf,
    begun: Instant,
}

impl Vm {
    /// Everything that its serial console has shown since the machine was made, without what moves a cursor.
    pub fn console(&self) -> String {
        self.console.text()
    }

    /// Waits until the console shows `text`, beyond what earlier waits have seen. Returns the time since it was switched on.
    ///
    /// # Errors
    /// When the time is over, QEMU ends, or the kernel panics and that is not waited for; with the end of the console.
    pub fn wait_for(&mut self, text: &str, limit: Duration) -> Result<Duration> {
        let Self { process, console, .. } = self;
        let waited = process.wait_until(&format!("{text:?} on the console"), limit, |_| {
            if console.pass(text) {
                return Ok(Some(()));
            }
            if console.ahead(PANIC) {
                bail!("the kernel panics instead of saying {text:?}");
            }
            Ok(None)
        });
        match waited {
            Ok(()) => Ok(self.begun.elapsed()),
            Err(error) => Err(anyhow!("{error:#}{}", self.console.tail(CONSOLE_LINES))),
        }
    }

    /// Whether the console has shown `text` by now, beyond what earlier calls have seen.
    ///
    /// # Errors
    /// When QEMU has ended, or the kernel panics; with the end of the console.
    pub fn has_shown(&mut self, text: &str) -> Result<bool> {
        // The look at the process comes first: what the machine said before its end must still be seen.
        let ended = self.process.poll()?;
        if self.console.pass(text) {
            return Ok(true);
        }
        let tail = || self.console.tail(CONSOLE_LINES);
        if let Some(status) = ended {
            bail!("QEMU ended ({status}) before {text:?}{}", tail());
        }
        if self.console.ahead(PANIC) {
            bail!("the kernel panics instead of saying {text:?}{}", tail());
        }
        Ok(false)
    }

    /// What the console has shown beyond what waits have seen.
    pub fn ahead(&self) -> String {
        self.console.all_ahead()
    }

    /// Types on the serial console; `\n` is the return key.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn type_text(&mut self, text: &str) -> Result<()> {
        self.console.type_text(text)
    }

    /// Its monitor.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn monitor(&self) -> Result<Monitor> {
        Monitor::connect(&self.dir)
    }

    /// Presses the power button for a moment: an operating system shuts down.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn press_power_button(&self) -> Result<()> {
        self.monitor()?.execute("system_powerdown").map(drop)
    }

    /// Pulls the plug of its network card.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn unplug(&self) -> Result<()> {
        let arguments = serde_json::json!({ "name": "net", "up": false });
        self.monitor()?.execute_with("set_link", &arguments).map(drop)
    }

    /// Presses the reset button.
    ///
    /// # Errors
    /// When QEMU has ended.
    pub fn reset(&self) -> Result<()> {
        self.monitor()?.execute("system_reset").map(drop)
    }

    /// Waits until it has switched itself off.
    ///
    /// # Errors
    /// When it is still on after `limit`, with the end of the console.
    pub fn wait_off(&mut self, limit: Duration) -> Result<Duration> {
        self.process
            .wait_success(limit)
            .map_err(|error| anyhow!("{error:#}{}", self.console.tail(CONSOLE_LINES)))?;
        Ok(self.begun.elapsed())
    }

    /// Pulls the plug: whatever it has not written to its disks is lost.
    pub fn cut_power(mut self) {
        self.process.kill();
    }

    /// Time since it was switched on.
    pub fn uptime(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// The right to run machines: one test at a time has it, in all processes of this laboratory, as emulation takes all that a
/// processor has.
#[derive(Debug)]
pub struct Turn {
    // Closed, it is given to the next.
    _lock: File,
}

impl Turn {
    /// Waits for the turn.
    ///
    /// # Errors
    /// When the lock cannot be made.
    pub fn take() -> Result<Self> {
        let path = lab_dir()?.join("vm.lock");
        let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
        flock(&file, FlockOperation::LockExclusive).context("wait for the turn to run machines")?;
        Ok(Self { _lock: file })
    }
}
